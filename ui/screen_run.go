package ui

import (
	"slices"

	tea "github.com/charmbracelet/bubbletea"

	"etcd-rewind/defect"
	"etcd-rewind/node"
	"etcd-rewind/restore"
	"etcd-rewind/steps"
	"etcd-rewind/ui/pane"
	"etcd-rewind/ui/text"
)

// startRun runs what was planned.
func (m *model) startRun() tea.Cmd {
	p := &m.plan
	m.screen, m.over, m.note = runScreen, nil, ""
	m.run = pane.NewRun(p.Plan, p.Names, p.All, m.run)
	if m.again != nil && m.again.verb == restore.Resume {
		m.run.Resumes(p.States)
	}
	plan, names, s := p.Plan, p.Names, m.nodes.session
	return func() tea.Msg { m.runner.start(plan, names, s); return nil }
}

// finished takes the result of a run.
func (m *model) finished(msg finishedMsg) tea.Cmd {
	m.over, m.note = nil, ""
	m.run.End(msg.Result)
	m.screen = summaryScreen
	if m.endAfter {
		return tea.Quit
	}
	if m.undoNext && m.run.CanUndo() {
		return m.planLast(restore.Undo)
	}
	m.undoNext = false
	return nil
}

func (m *model) runKey(name string) tea.Cmd {
	v := m.run
	f := v.Failure()
	if f != nil && v.Watched == nil {
		for _, c := range f.Choices {
			o := text.ChoiceOf(c, v.Several)
			switch {
			case o.Key != name:
				continue
			case o.Sure == "":
				return m.answer(c)
			}
			m.ask(askOnceMore(v, c, f))
			return nil
		}
	}
	if name != "l" && v.Move(name) {
		return nil
	}
	switch name {
	case "?":
		m.over = newOverlay(helpOverlay)
	case "l":
		if on, _ := v.Current(); v.Several && f == nil && on != m.localMember() {
			m.note = "Logs are read on this node only. Those of " + on + " are there, in " + node.Kubeadm.PodLogs + "."
			return nil
		}
		return m.openLogs()
	case "c":
		m.over = newOverlay(commandsOverlay)
	case "u":
		if v.Running() && v.Kind != steps.KindUndo && f == nil && v.Watched == nil {
			m.ask(askToUndo(v, m.now))
		}
	case "esc", "enter":
		if !v.Running() {
			m.screen = summaryScreen
		}
	case "q":
		if !v.Running() || v.Watched != nil {
			return m.leave()
		}
		m.note = "A run is under way; ctrl-c asks whether to stop it."
	}
	return nil
}

// askAbout shows a failure that waits for an answer.
func (m *model) askAbout(msg askMsg) tea.Cmd {
	m.over, m.note, m.screen = nil, "", runScreen
	f := msg.Failure
	f.Choices = slices.Clone(f.Choices)
	m.run.Ask(msg.Node, &f)
	if m.endAfter {
		return m.answer(restore.Unattended(msg.Trouble))
	}
	return nil
}

// answer answers the failure on the screen.
func (m *model) answer(c steps.Choice) tea.Cmd {
	m.run.Answered()
	m.over = nil
	return func() tea.Msg { m.runner.answer(c); return nil }
}

type (
	liveMsg struct{ steps.RunInfo }
	// followedMsg comes through the mailbox, behind the last event.
	followedMsg struct {
		ended bool
		err   error
	}
)

// follow shows another process's run.
func (m *model) follow(info steps.RunInfo) tea.Cmd {
	m.run = pane.NewRun(nil, nil, nil, nil)
	m.run.Watched = &info
	m.screen, m.again = runScreen, nil
	return func() tea.Msg {
		go defect.Do(func() {
			ended, err := m.backend.Follow(m.ctx, info, func(ev steps.Event) { m.box.put(restore.NodeEvent{Event: ev}) })
			m.box.put(followedMsg{ended, err})
		})()
		return nil
	}
}

// followed is the end: of the run, or of the process that ran it.
func (m *model) followed(msg followedMsg) tea.Cmd {
	v := m.run
	m.over = nil
	switch {
	case msg.err != nil:
		m.here.Refusal, m.screen = msg.err, nodeScreen
	case msg.ended && v.Told != nil:
		v.End(restore.Alone(v.Name(), "", v.Told))
		m.screen = summaryScreen
	default:
		cmd := m.discover()
		m.note = "The etcd-rewind that ran this is gone, and the run was interrupted."
		return cmd
	}
	return nil
}

// watches says whether the run on the screen is another process's.
func (m *model) watches() bool { return m.run.Watched != nil }
