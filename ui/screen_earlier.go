package ui

import (
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"etcd-rewind/restore"
	"etcd-rewind/steps"
	"etcd-rewind/ui/pane"
)

// ofEarlier is what to do about the run, with all its nodes unless the user
// wants this one alone.
func (m *model) ofEarlier(verb restore.Verb) again {
	u := m.here.Facts.Unfinished
	a := again{run: u.Run, verb: verb, from: earlierScreen}
	if m.earlier.Together() {
		a.dir = u.Dir
	}
	return a
}

type standingMsg struct {
	run   string
	facts []steps.Fact
	at    time.Time
}

// readStanding asks anew, so that the times in it go on.
func (m *model) readStanding() tea.Cmd {
	e := &m.earlier
	if e.Reading || m.here.Facts == nil || m.here.Facts.Unfinished == nil || m.now().Sub(e.Read) < time.Second {
		return nil
	}
	e.Reading = true
	run, now, standing := *m.here.Facts.Unfinished, m.now(), m.options.standing
	return func() tea.Msg { return standingMsg{run.Run, standing(run, now), now} }
}

func (m *model) stood(msg standingMsg) {
	m.earlier.Reading = false
	if u := m.here.Facts; u != nil && u.Unfinished != nil && u.Unfinished.Run == msg.run {
		m.earlier.Standing, m.earlier.Read = msg.facts, msg.at
	}
}

func (m *model) earlierKey(name string) tea.Cmd {
	if v := pane.VerbOf(name, m.earlier.Ways(m.here.Facts)); v != "" {
		return m.planAgain(m.ofEarlier(v))
	}
	switch name {
	case "a":
		m.earlier.Alone = m.earlier.All != nil && !m.earlier.Alone
	case "n":
		m.screen = nodeScreen
	case "r":
		return m.discover()
	case "?":
		m.over = newOverlay(helpOverlay)
	case "q", "esc":
		return m.quit()
	}
	return nil
}
