package ui

import (
	tea "github.com/charmbracelet/bubbletea"

	"etcd-rewind/ui/pane"
)

func (m *model) discovered(msg discoveredMsg) tea.Cmd {
	m.here.Facts, m.here.Refusal, m.screen = msg.facts, msg.err, nodeScreen
	if m.here.Facts != nil {
		m.here.Verdicts = pane.Explained(m.here.Facts, msg.verdicts)
		m.here.Judge(nil)
	}
	m.earlier.All = msg.record
	var stands tea.Cmd
	if m.here.Refusal == nil && m.here.Facts.Unfinished != nil {
		m.screen = earlierScreen
		stands = m.readStanding()
	}
	if m.here.Refused() {
		return stands
	}
	return tea.Batch(stands, m.findSnapshots())
}

func (m *model) nodeKey(name string) tea.Cmd {
	switch name {
	case "esc":
		if !m.here.Unfinished() {
			return m.quit()
		}
		m.screen = earlierScreen
	case "q":
		return m.quit()
	case "r":
		return m.discover()
	case "?":
		m.over = newOverlay(helpOverlay)
	case "a":
		if n := &m.here; n.Led && len(n.Names(nil)) > 1 && (n.Alone || n.CanBeAlone()) {
			n.Alone = !n.Alone
			n.Judge(nil)
		}
	case "u":
		return m.toRuns()
	case "p":
		if m.here.CanRepoint() {
			return m.repoint()
		}
	case "enter", "right":
		if !m.here.Refused() {
			m.screen = chooseScreen
			return m.lookInside()
		}
	default:
		m.here.Page.Key(name, m.bodyHeight())
	}
	return nil
}
