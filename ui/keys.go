package ui

import (
	"strings"

	tea "github.com/charmbracelet/bubbletea"

	"etcd-rewind/node"
	"etcd-rewind/restore"
	"etcd-rewind/steps"
	"etcd-rewind/ui/pane"
	"etcd-rewind/ui/text"
)

func (m *model) key(k tea.KeyMsg) tea.Cmd {
	m.note = ""
	name := k.String()
	switch {
	case name == "ctrl+z" && m.atWork():
		m.note = "A run is under way: ctrl-z works before and after it."
		return nil
	case name == "ctrl+z":
		return tea.Suspend
	case name == "ctrl+c" && m.atWork():
		m.interrupt()
		return nil
	case name == "ctrl+c" && m.asking() != nil && !m.tooSoon():
		return m.quit() // once more
	case name == "ctrl+c":
		return m.leave()
	case m.tooSoon():
		return nil // meant for what was there before
	case tooSmall(m.w, m.h) && m.over.small(m.w, m.h) != nil:
		return m.overlayKey(name)
	case tooSmall(m.w, m.h):
		return nil // nobody should press keys blindly
	case m.search.Asks():
		return m.searchKey(k)
	}
	switch name {
	case "/":
		if _, ok := m.searched(); ok {
			m.search.Open(m.look)
			return nil
		}
	case "e":
		if cmd := m.export(); cmd != nil {
			return cmd
		}
	}
	if m.over != nil {
		return m.overlayKey(name)
	}
	if m.screen == runScreen {
		return m.runKey(name)
	}
	if name == "t" && m.mayTryOut() {
		return m.tryOut()
	}
	return m.wish(m.press(k))
}

// press gives a key to the part on the screen.
func (m *model) press(k tea.KeyMsg) (w pane.Wish) {
	name, h, l := k.String(), m.h-chrome, m.look
	switch m.screen {
	case discovering:
		if name == "q" {
			return pane.Quit
		}
	case earlierScreen:
		return m.earlier.Press(name, m.here.Facts)
	case runsScreen:
		return m.runs.Press(name, h)
	case nodeScreen:
		return m.here.Press(name, h)
	case chooseScreen:
		return m.picker.Press(l, k)
	case diffScreen:
		return m.diff.Press(name, h)
	case membersScreen:
		w, m.note = m.members.Press(l, k, m.options.reachedBy(), m.here.CanBeAlone())
	case checkScreen, planScreen:
		if m.choices.Asks() || m.again == nil && !m.checks.Busy && !m.checks.Asks() && !m.plan.Busy {
			if w, note, ok := m.choices.Press(l, k, m.plan.Shown(m.screen == planScreen), m.here.InPlace != nil); ok {
				m.note = note
				return w
			}
		}
		if m.screen == checkScreen {
			w, m.note = m.checks.Press(l, k)
			return w
		}
		above := 2 // lines
		if m.again == nil {
			above += len(m.choices.Rows(l, nil, m.here.InPlace != nil, m.w))
		}
		return m.plan.Press(name, h-above)
	case confirmScreen:
		w, m.note = m.confirm.Press(k, m.plan.Plan.Node)
	case summaryScreen:
		w, m.note = m.summary.Press(name, m.run, h)
	case owedScreen:
		w, m.note = m.owed.Press(name, h)
	}
	return w
}

// wish does what a key asks for beyond the part that took it.
func (m *model) wish(w pane.Wish) tea.Cmd {
	switch w {
	case pane.Quit:
		return m.leave()
	case pane.Back:
		return m.back()
	case pane.On:
		return m.on()
	case pane.Refresh:
		return m.refresh()
	case pane.ShowHelp:
		m.over = &overlay{kind: helpOverlay}
	case pane.ShowCommands:
		m.over = &overlay{kind: commandsOverlay}
	case pane.ShowLogs:
		at := 0
		if _, step := m.run.Current(); strings.Contains(step, pane.Components[1]) {
			at = 1
		}
		m.over = &overlay{kind: logsOverlay, Log: pane.NewLog(pane.Components, at)}
		return m.readLogs()
	case pane.ShowOwed:
		return m.toOwed(false)
	case pane.AskNodes:
		return m.toOwed(true)
	case pane.SettleIt:
		m.ask(askToSettle(m.owed.Current()))
	case pane.ListRuns:
		m.screen = runsScreen
		return m.listRuns()
	case pane.Repoint:
		if err := m.repoint(); err != nil {
			m.note, _ = text.Explain(err)
			return nil
		}
		return m.toChecks()
	case pane.TakeAlone:
		m.here.Alone = true
		m.here.Judge(m.info)
		m.alone()
		return m.toChecks()
	case pane.Undo, pane.Redo, pane.Resume:
		return m.toAgain(w.Verb())
	case pane.BeginAnew:
		m.reset()
		m.run, m.summary = pane.NewRun(nil, nil, nil, nil), pane.Summary{Settles: m.summary.Settles}
		return m.discover()
	case pane.LookInside:
		return m.lookInside()
	case pane.TakePath:
		typed, _ := m.picker.Typed()
		if typed = strings.TrimSpace(typed); typed != "" {
			typed = absolute(typed)
		}
		m.picker.Add(typed)
		return m.lookInside()
	case pane.CompletePath:
		typed, _ := m.picker.Typed()
		return func() tea.Msg { return complete(typed) }
	case pane.OpenWith:
		return m.unlock()
	case pane.FindMembers:
		return m.findMembers()
	case pane.KeepMember:
		m.keptMembers()
	case pane.Exclude:
		m.ask(askToExclude(&m.members))
	case pane.Changed:
		if m.screen == checkScreen {
			return m.toChecks()
		}
		m.note = "" // the rows above the plan say it
		return m.toPlan(true)
	}
	return nil
}

// back returns to the screen before.
func (m *model) back() tea.Cmd {
	to := chooseScreen
	switch m.screen {
	case nodeScreen:
		if !m.here.Unfinished() {
			return m.quit()
		}
		to = earlierScreen
	case runsScreen, chooseScreen:
		to = nodeScreen
		m.picker.Wait()
	case diffScreen:
		m.diff.stop()
	case membersScreen:
		m.members.Asked++
		if m.members.Busy {
			m.members.Busy = false
			m.nodes.close()
		}
	case checkScreen:
		busy := m.checks.Busy
		m.checks.Asked++ // an answer on its way is for nobody
		m.checks.Busy = false
		switch {
		case m.several():
			if busy {
				m.nodes.close() // what is on its way there stops
			}
			return m.toMembers()
		case m.here.InPlace != nil:
			to, m.here.InPlace = nodeScreen, nil
		}
	case planScreen:
		m.plan.Asked++
		m.plan.Busy, to = false, checkScreen
		if m.again != nil {
			to, m.again = m.again.from, nil
		}
	case confirmScreen:
		to = planScreen
	case summaryScreen:
		to = runScreen
	case owedScreen:
		m.owed.stop()
		to = m.owed.from
	}
	if m.screen = to; to == chooseScreen {
		m.info = nil
	}
	return m.lookInside()
}

// on goes on to the next screen.
func (m *model) on() tea.Cmd {
	switch m.screen {
	case earlierScreen:
		m.screen = nodeScreen
	case nodeScreen:
		m.screen = chooseScreen
		return m.lookInside()
	case chooseScreen:
		return m.choose()
	case diffScreen:
		if m.several() {
			return m.toMembers()
		}
		m.alone()
		return m.toChecks()
	case membersScreen:
		return m.toChecks()
	case checkScreen:
		return m.toPlan(false)
	case planScreen:
		blocked := text.Blocked(m.checks.Plain())
		switch {
		case m.plan.Plan == nil:
			m.note = "There is no plan to confirm."
		case m.again == nil && blocked != "":
			m.note = blocked + ". esc returns to them."
		default:
			m.confirm, m.screen = pane.Confirm{Name: pane.NewField(m.look, "")}, confirmScreen
		}
	case confirmScreen:
		return m.startRun()
	}
	return nil
}

// refresh reads, checks or plans again what is on the screen.
func (m *model) refresh() tea.Cmd {
	switch m.screen {
	case runsScreen:
		return m.listRuns()
	case owedScreen:
		return m.toOwed(m.owed.others)
	case chooseScreen:
		m.picker.pause()
		m.picker.Forget()
		return tea.Batch(m.findSnapshots(), m.findElsewhere())
	case diffScreen:
		m.diff.stop()
		m.diff.name = ""
		return m.compare()
	case membersScreen:
		return m.findMembers()
	case checkScreen:
		return m.toChecks()
	case planScreen:
		if m.again != nil {
			return m.planAgain(*m.again)
		}
		return m.toPlan(true)
	}
	return m.discover()
}

// toAgain plans what is done with the run on the screen.
func (m *model) toAgain(v restore.Verb) tea.Cmd {
	a := again{verb: v, from: m.screen}
	switch m.screen {
	case earlierScreen:
		a.run = m.here.Facts.Unfinished.Run
		if m.earlier.Together() {
			a.dir = m.here.Facts.Unfinished.Dir
		}
	case runsScreen:
		run, with := m.runs.Current()
		if a.run = run.Run; len(with) > 0 {
			a.dir = run.Dir
		}
	default:
		a.run, a.dir = m.run.Name(), m.run.Dir()
	}
	m.screen = planScreen
	return m.planAgain(a)
}

// runKey takes a key while a run, or its end, is on the screen.
func (m *model) runKey(name string) tea.Cmd {
	v := m.run
	f := v.Failure()
	if f != nil && !v.Watches() {
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
		return m.wish(pane.ShowHelp)
	case "l":
		if on, _ := v.Current(); v.Several && f == nil && on != m.member() {
			m.note = "Logs are read on this node only. Those of " + on + " are there, in " + node.Kubeadm.PodLogs + "."
			return nil
		}
		return m.wish(pane.ShowLogs)
	case "c":
		return m.wish(pane.ShowCommands)
	case "u":
		if v.Running() && v.Kind != steps.KindUndo && f == nil && !v.Watches() {
			m.ask(askToUndo(v, m.now))
		}
	case "esc", "enter":
		if !v.Running() {
			m.screen = summaryScreen
		}
	case "q":
		if !v.Running() || v.Watches() {
			return m.leave()
		}
		m.note = "A run is under way; ctrl-c asks whether to stop it."
	}
	return nil
}

// interrupt is ctrl-c during a run: it asks first.
func (m *model) interrupt() {
	if m.run.Failure() != nil {
		m.note = "Paused for your answer: choose one of the keys above."
		return
	}
	m.ask(askToStop(m.run, m.now))
}
