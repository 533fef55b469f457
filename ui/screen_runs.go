package ui

import (
	tea "github.com/charmbracelet/bubbletea"

	"etcd-rewind/steps"
	"etcd-rewind/ui/pane"
)

// runsMsg brings the runs of this node, and with which nodes each was made.
type runsMsg struct {
	list []steps.RunInfo
	with [][]string
	err  error
}

// toRuns shows the runs of this node, read anew.
func (m *model) toRuns() tea.Cmd {
	m.screen, m.runs.Busy = runsScreen, true
	return func() tea.Msg {
		list, err := m.backend.Runs(m.ctx)
		msg := runsMsg{list, make([][]string, len(list)), err}
		for i, r := range list {
			if rec := m.readRecord(r.Dir); r.Fleet && rec != nil {
				msg.with[i] = rec.Names()
			}
		}
		return msg
	}
}

func (m *model) listed(msg runsMsg) {
	m.runs.Busy, m.runs.List, m.runs.With, m.runs.Err = false, msg.list, msg.with, msg.err
}

func (m *model) runsKey(name string) tea.Cmd {
	if v := pane.VerbOf(name, m.runs.Ways()); v != "" {
		run, with := m.runs.Current()
		a := again{run: run.Run, verb: v, from: runsScreen}
		if len(with) > 0 {
			a.dir = run.Dir
		}
		return m.planAgain(a)
	}
	switch name {
	case "q":
		return m.quit()
	case "esc", "left":
		m.screen = nodeScreen
	case "r":
		return m.toRuns()
	case "?":
		m.over = newOverlay(helpOverlay)
	default:
		m.runs.Key(name, m.bodyHeight())
	}
	return nil
}
