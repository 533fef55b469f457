package ui

import (
	"maps"
	"slices"

	tea "github.com/charmbracelet/bubbletea"

	"etcd-rewind/restore"
	"etcd-rewind/ui/pane"
	"etcd-rewind/ui/text"
)

func (m *model) summaryView(w, h int) ([]string, string, []pane.Hint) {
	lines := append([]string{""}, text.Indent(1, m.run.Ended(m.leftOut()).Summary(w-2))...)
	for i, l := range lines {
		if i > 0 && l == "" {
			break
		}
		lines[i] = m.look.Bold.Render(l)
	}
	if len(lines)+2 <= h {
		lines = append(lines, "", m.look.Faint.Render("   This summary stays in the terminal when you quit."))
	}
	seen, where := m.summaryPage.Show(lines, h)
	help := m.run.SummaryHelp()
	if where != "" {
		help = slices.Insert(help, len(help)-1, pane.Hint{"↑↓", "scroll"})
	}
	return seen, where, help
}

// leftOut are the members that the run on the screen has left out for good.
func (m *model) leftOut() []string {
	if m.again != nil && m.again.from != summaryScreen || !m.run.Several {
		return nil
	}
	return m.members.Without
}

func (m *model) summaryKey(name string) tea.Cmd {
	switch name {
	case "q", "enter":
		if name == "enter" {
			m.note = "q quits; the summary stays in the terminal."
			return nil
		}
		return m.leave()
	case "esc", "left", "s":
		m.screen = runScreen
	case "u":
		if m.run.CanUndo() {
			return m.planLast(restore.Undo)
		}
	case "g":
		if m.run.CanResume() {
			return m.planLast(restore.Resume)
		}
	case "d":
		if m.run.CanRedo() {
			return m.planLast(restore.Redo)
		}
	case "n":
		if m.run.CanBeginAnew() {
			return m.beginAgain()
		}
	case "c":
		m.over = newOverlay(commandsOverlay)
	case "l":
		return m.openLogs()
	case "?":
		m.over = newOverlay(helpOverlay)
	default:
		m.summaryPage.Key(name, m.bodyHeight())
	}
	return nil
}

// beginAgain goes to the first screen, with nothing chosen yet.
func (m *model) beginAgain() tea.Cmd {
	o := m.options
	m.info, m.here.InPlace, m.choices = nil, nil, pane.Choices{Choices: o.Choices}
	m.diff.stop()
	m.diff = diffPane{asked: m.diff.asked + 1}
	m.picker.pause()
	m.picker = newPicker("")
	asked := m.checks.Asked + 1
	m.checks = pane.NewChecks(o.Choices.Accept)
	m.checks.Asked = asked
	m.plan = pane.Plans{Asked: m.plan.Asked + 1}
	m.members = pane.Members{Asked: m.members.Asked + 1, Hosts: maps.Clone(o.Want.Hosts), Without: slices.Clone(o.Want.Without)}
	m.run, m.here.Alone = pane.NewRun(nil, nil, nil, nil), false
	m.summaryPage, m.here.Page = pane.Page{}, pane.Page{}
	return m.discover()
}
