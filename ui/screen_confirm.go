package ui

import (
	"fmt"
	"strings"

	tea "github.com/charmbracelet/bubbletea"

	"etcd-rewind/trust"
)

func (m *model) confirmKey(k tea.KeyMsg) tea.Cmd {
	switch k.String() {
	case "esc":
		m.screen = planScreen
	case "enter":
		typed := strings.TrimSpace(m.confirm.Name.Value())
		switch {
		case typed == m.plan.Plan.Node:
			return m.startRun()
		case typed == "":
			m.note = "Nothing was started. Type the node's name, or esc for the plan."
		default:
			m.note = fmt.Sprintf("%q is not this node's name. Nothing was started.", trust.Text(typed))
		}
	default:
		m.confirm.Name.Key(k)
	}
	return nil
}
