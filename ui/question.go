package ui

import (
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"etcd-rewind/steps"
	"etcd-rewind/trust"
	"etcd-rewind/ui/pane"
	"etcd-rewind/ui/print"
	"etcd-rewind/ui/text"
)

// question is one of the wizard's. All of them are made of it, but for the one
// that a failure asks, which has a screen of its own. An answer without a
// function only closes the question.
type (
	question = pane.Question[func(*model) tea.Cmd]
	answer   = pane.Answer[func(*model) tea.Cmd]
)

func reply(key, says string, do func(*model) tea.Cmd) answer {
	return answer{Key: key, Says: says, Do: do}
}

// ask shows a question.
func (m *model) ask(q question) { m.over = &overlay{kind: questionOverlay, question: &q} }

// asking is the question on the screen, as something to compare; nil for none.
// It is an overlay, or a failure that waits for an answer.
func (m *model) asking() any {
	switch f := m.run.Failure(); {
	case m.over != nil && m.over.kind == questionOverlay:
		return m.over.question
	case m.over == nil && m.screen == runScreen && f != nil && !m.run.Watches():
		return f
	}
	return nil
}

// tooSoon says whether a key can't be meant for the question on the screen: it
// is shown for less than questionPause.
func (m *model) tooSoon() bool {
	q := m.asking()
	return q != nil && (q != m.asked || m.now().Sub(m.askedAt) < print.QuestionPause)
}

// small is a question with its answers on a screen that is small, nil
// when there is none or it doesn't fit.
func (o *overlay) small(w, h int) []string {
	if o == nil || o.kind != questionOverlay {
		return nil
	}
	return o.question.Small(w, h)
}

// clock says what time it is.
type clock = func() time.Time

// nowDoing says what the run does at the moment.
func nowDoing(v *pane.Run, now clock) func() string {
	return func() string { return "Now: " + v.Doing(now()) }
}

// stopRun ends the run before its next action; undo reverts it then.
func stopRun(undo bool) func(m *model) tea.Cmd {
	return func(m *model) tea.Cmd {
		m.undoNext = undo
		m.run.Stopping = true
		return func() tea.Msg { m.runner.stop(); return nil }
	}
}

// askToLeave is ctrl-c during a run that was told to stop and hasn't: what it
// waits for may never end.
func askToLeave(v *pane.Run, now clock) question {
	return question{
		Title: "Leave at once?", Now: nowDoing(v, now),
		Text:    []string{"The run was asked to stop, and hasn't yet. Its journal is consistent at any moment: if you leave now, it can be resumed or undone, as after a power cut."},
		Answers: []answer{reply("l", "leave it in the middle", leaveRun), reply("n", "wait until it has stopped", nil)},
	}
}

// leaveRun ends the wizard in the middle of a run. Several nodes aren't waited
// for any longer.
func leaveRun(m *model) tea.Cmd {
	m.left = true
	if s := m.nodes.session; s != nil {
		s.leave()
	}
	return m.quit()
}

// askToStop is ctrl-c during a run.
func askToStop(v *pane.Run, now clock) question {
	if v.Stopping {
		return askToLeave(v, now)
	}
	q := question{Title: "Stop the run?", Now: nowDoing(v, now)}
	q.Text = []string{"The run continues while you read this. It stops before its next action: an action under way is finished, a wait ends at once. Then " + v.OnNodes() + " may be half restored, until the run is resumed or undone."}
	q.Answers = append(q.Answers, reply("s", "stop before the next action", stopRun(false)))
	if v.Kind != steps.KindUndo {
		q.Answers = append(q.Answers, reply("u", "stop, and undo the run on "+v.OnNodes(), stopRun(true)))
	}
	q.Answers = append(q.Answers, reply("n", "don't stop", nil))
	return q
}

// askToUndo is u during a run.
func askToUndo(v *pane.Run, now clock) question {
	return question{
		Title:   "Stop the run and undo it?",
		Now:     nowDoing(v, now),
		Text:    []string{"The run continues while you read this. It stops before its next action, and everything it did on " + v.OnNodes() + " is undone in reverse order."},
		Answers: []answer{reply("y", "stop and undo", stopRun(true)), reply("n", "don't stop", nil)},
	}
}

// askOnceMore is what an answer to a failure has to pass that changes a node or
// ends the run.
func askOnceMore(v *pane.Run, c steps.Choice, f *steps.Failure) question {
	o := text.ChoiceOf(c, v.Several)
	q := question{Title: o.Sure, Answers: []answer{
		reply("y", "yes, "+o.Word, func(m *model) tea.Cmd { return m.answer(c) }),
		reply("n", "back to the failure", nil),
	}}
	switch c {
	case steps.Retry:
		q.Facts = []steps.Fact{{Name: "Action", Value: f.Title}}
		q.Text = []string{"It is safe to do twice."}
	case steps.RestartStuck:
		q.Text = []string{"Containers keep running meanwhile. The restarted kubelet reads its manifests again and no longer has the pods whose manifests are gone."}
	case steps.Revert:
		q.Text = []string{"Everything the run did is undone in reverse order, and every file it changed is restored byte for byte."}
	case steps.Leave:
		q.Text = []string{"The run ends here. The API may stay down until the run is resumed or undone."}
		q.Facts = v.WaysOut()
	default:
		q.Text = []string{"The others continue. It needs to be resumed or undone there later."}
	}
	return q
}

// leave quits, unless that leaves the API down: then it asks first.
func (m *model) leave() tea.Cmd {
	down := m.run.DownSince()
	if down == nil || m.run.Watches() {
		return m.quit()
	}
	m.ask(question{
		Title:   "Quit while the API is down?",
		Now:     func() string { return pane.DownText(*down, m.now()) },
		Text:    []string{"It stays down until you resume the run or undo it. Both work later too, with these commands:"},
		Facts:   m.run.WaysOut(),
		Answers: []answer{reply("y", "quit", (*model).quit), reply("n", "stay here", nil)},
	})
	return nil
}

// askToExclude asks before the current member is left out.
func askToExclude(p *pane.Members) question {
	name := trust.Text(p.Current().Name)
	return question{
		Title: "Exclude " + name + " from the restored cluster?",
		Text:  []string{"The restored cluster then has only " + text.Listed(p.Survivors()) + ". " + name + " is no longer a member, and its etcd must never run again on the data it has: stop kubelet there, or keep the machine off. To rejoin it, once the others are restored:"},
		Facts: text.Rejoin(),
		Answers: []answer{reply("y", "exclude it", func(m *model) tea.Cmd {
			p.Without = append(p.Without, p.Current().Name)
			return m.findMembers()
		}), reply("n", "keep it", nil)},
	}
}
