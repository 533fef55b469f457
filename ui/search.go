package ui

import (
	"strings"

	tea "github.com/charmbracelet/bubbletea"

	"etcd-rewind/trust"
	"etcd-rewind/ui/pane"
	"etcd-rewind/ui/text"
)

// searched is what can be searched: lines or rows, the current one, and what makes
// another one current.
type searched struct {
	rows []string
	at   int
	to   func(i int) tea.Cmd
}

// typingSomething says whether keys go into a line of text.
func (m *model) typingSomething() bool {
	_, typesPath := m.picker.Typed()
	return typesPath || m.checks.Asks() || m.choices.Asks() || m.members.Asks() || m.screen == confirmScreen
}

// searched is what can be searched on this screen; false for nothing.
func (m *model) searched() (s searched, ok bool) {
	page := func(p *pane.Page) searched {
		return searched{p.Rows, p.Top, func(i int) tea.Cmd { p.Top = i; return nil }}
	}
	switch {
	case m.over != nil:
		return page(&m.over.Page), m.over.kind != questionOverlay
	case m.typingSomething():
		return s, false
	}
	switch m.screen {
	case runsScreen:
		s.rows = m.runs.Rows()
		s.at, s.to = m.runs.At(), func(i int) tea.Cmd { m.runs.Select(i); return nil }
	case chooseScreen:
		s.rows = m.picker.Rows()
		s.at, s.to = m.picker.At(), func(i int) tea.Cmd {
			m.picker.Select(i)
			return m.lookInside()
		}
	case diffScreen:
		s.rows = m.diff.Rows()
		s.at, s.to = m.diff.At(), func(i int) tea.Cmd { m.diff.Select(i); return nil }
	case checkScreen:
		for _, v := range m.checks.Verdicts {
			s.rows = append(s.rows, strings.Join([]string{v.On, v.Check, v.Title, v.Cause, v.Hint}, " "))
		}
		s.at, s.to = m.checks.Cur, func(i int) tea.Cmd { m.checks.Cur = i; return nil }
	case membersScreen:
		for _, o := range m.members.Members {
			s.rows = append(s.rows, o.Name+" "+o.Host)
		}
		s.at, s.to = m.members.Cur, func(i int) tea.Cmd { m.members.Cur = i; return nil }
	case planScreen:
		return page(&m.plan.Page), true
	case nodeScreen:
		return page(&m.here.Page), true
	case summaryScreen:
		return page(&m.summaryPage), true
	case runScreen:
		s.rows, s.at = m.run.Rows()
		s.to = func(i int) tea.Cmd { m.run.Select(i); return nil }
		return s, len(s.rows) > 0
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
	if i := pane.Find(s.rows, s.at, want); i >= 0 {
		return s.to(i)
	}
	m.note = "Not found: " + trust.Text(want)
	return nil
}

// exportKey writes what is on the screen to a file, whole.
func (m *model) exportKey() (cmd tea.Cmd, ok bool) {
	switch {
	case m.over != nil && m.over.kind == logsOverlay:
		return m.export(m.over.Name()+"-log", m.over.Lines), true
	case m.over != nil && m.over.kind == commandsOverlay:
		return m.export("commands", append([]string{m.commandsTitle(), ""}, m.run.CommandLog()...)), true
	case m.over != nil || m.typingSomething():
		return nil, false
	case m.screen == diffScreen && m.diff.Result != nil:
		return m.export("diff", text.Comparison(m.diff.Result, text.DiffOptions{Fields: true, List: true}, m.now(), exportWidth)), true
	case m.screen == planScreen && m.plan.Plan != nil:
		var lines []string
		for _, p := range m.plan.All {
			lines = append(lines, text.PlanWhole(p, exportWidth)...)
			lines = append(lines, "")
		}
		return m.export("plan", lines), true
	}
	return nil, false
}
