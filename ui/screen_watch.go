package ui

import (
	tea "github.com/charmbracelet/bubbletea"

	"etcd-rewind/defect"
	"etcd-rewind/restore"
	"etcd-rewind/steps"
	"etcd-rewind/trust"
	"etcd-rewind/ui/text"
)

// watch is a run of another process that is looked at and not touched.
type watch struct {
	info   steps.RunInfo
	result *steps.Result // the last one it told
}

type (
	liveMsg struct{ steps.RunInfo }
	// followedMsg comes through the mailbox, behind the last event.
	followedMsg struct {
		ended bool
		err   error
	}
)

// follow shows another process's run in the stepper.
func (m *model) follow(info steps.RunInfo) tea.Cmd {
	m.watched = &watch{info: info}
	m.stepper = stepper{run: info.Run, begun: map[string]*progress{}, watched: true}
	m.screen, m.result, m.again = runScreen, nil, nil
	return func() tea.Msg {
		go defect.Do(func() {
			ended, err := m.backend.Follow(m.ctx, info, func(ev steps.Event) { m.box.put(eventMsg{restore.NodeEvent{Event: ev}}) })
			m.box.put(followedMsg{ended, err})
		})()
		return nil
	}
}

// told takes in what an event of the other process means besides its place in
// the stepper. A run that was gone on with has told an end before.
func (m *model) told(ev steps.Event) {
	switch ev.Type {
	case steps.TypePlan:
		m.watched.result = nil
	case steps.TypeAsk:
		if ev.Failure != nil {
			m.over = nil
			m.stepper.asked(ev.Failure)
		}
	case steps.TypeResult:
		m.watched.result = ev.Result
	}
}

// followed is the end: of the run, or of the process that ran it.
func (m *model) followed(msg followedMsg) tea.Cmd {
	r := m.watched.result
	m.over = nil
	switch {
	case msg.err != nil:
		m.refusal, m.screen = msg.err, nodeScreen
	case msg.ended && r != nil:
		m.result = r
		m.stepper.end(r)
		m.screen = summaryScreen
	default:
		cmd := m.discover()
		m.note = "The etcd-rewind that ran this is gone, and the run was interrupted."
		return cmd
	}
	return nil
}

// watches says whether the run on the screen is another process's.
func (m *model) watches() bool { return m.watched != nil }

// watchedText is what the second line tells of it.
func (m *model) watchedText() string {
	sentence := " run by another etcd-rewind; this screen is read-only"
	if m.result != nil {
		sentence = " run by another etcd-rewind; finished"
	}
	if name := trust.Text(m.watched.info.Run); text.Width(sentence)+text.Width(name)+3 <= m.w {
		return text.Apart(sentence, name+" ", m.w)
	}
	return text.Cut(sentence, m.w)
}
