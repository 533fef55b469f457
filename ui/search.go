package ui

import (
	tea "github.com/charmbracelet/bubbletea"

	"etcd-rewind/trust"
	"etcd-rewind/ui/pane"
)

// searched is what can be searched: lines or rows, the current one, and what makes
// another one current.
type searched struct {
	rows []string
	at   int
	to   func(i int)
}

// searched is what can be searched on this screen; false for nothing.
func (m *model) searched() (s searched, ok bool) {
	page := func(p *pane.Page) searched { return searched{p.Rows, p.Top, func(i int) { p.Top = i }} }
	switch {
	case m.over != nil:
		return page(&m.over.Page), m.over.kind != questionOverlay
	case m.typing(), m.screen == confirmScreen:
		return s, false
	}
	switch m.screen {
	case runsScreen:
		s = searched{m.runs.Rows(), m.runs.At(), m.runs.Select}
	case owedScreen:
		s = searched{m.owed.Rows(), m.owed.At(), m.owed.Select}
	case chooseScreen:
		s = searched{m.picker.Rows(), m.picker.At(), m.picker.Select}
	case diffScreen:
		s = searched{m.diff.Rows(), m.diff.At(), m.diff.Select}
	case checkScreen:
		s = searched{m.checks.Rows(), m.checks.Cur, func(i int) { m.checks.Cur = i }}
	case membersScreen:
		s = searched{m.members.Rows(), m.members.Cur, func(i int) { m.members.Cur = i }}
	case planScreen:
		s = page(&m.plan.Page)
	case nodeScreen:
		s = page(&m.here.Page)
	case summaryScreen:
		s = page(&m.summary.Page)
	case runScreen:
		rows, at := m.run.Rows()
		return searched{rows, at, m.run.Select}, len(rows) > 0
	default:
		return s, false
	}
	return s, true
}

// searchKey types what is looked for.
func (m *model) searchKey(k tea.KeyMsg) tea.Cmd {
	want := m.search.Key(k)
	if want == "" {
		return nil
	}
	s, _ := m.searched()
	i := pane.Find(s.rows, s.at, want)
	if i < 0 {
		m.note = "Not found: " + trust.Text(want)
		return nil
	}
	s.to(i)
	return m.lookInside()
}
