package ui

import (
	"context"
	"errors"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"etcd-rewind/drill"
	"etcd-rewind/snapshot"
	"etcd-rewind/steps"
	"etcd-rewind/ui/pane"
	"etcd-rewind/ui/text"
)

// Drill tries a snapshot beside the cluster. tell hears what begins; when ctx
// ends it removes all that it has made, and returns.
type Drill func(ctx context.Context, f *steps.Facts, info *snapshot.Info, tell func(begun string)) (*drill.Report, error)

// tryout is a drill on the screen. It ends when it isn't shown any more.
type tryout struct {
	cancel context.CancelFunc
	begun  time.Time
	doing  string
	busy   bool
	report *drill.Report
	err    error
}

// tryoutMsg is about one; of another than the one on the screen it is late.
type tryoutMsg struct {
	of     *tryout
	begun  string
	over   bool
	report *drill.Report
	err    error
}

// mayTryOut says whether the screen offers a drill.
func (m *model) mayTryOut() bool {
	return m.screen == checkScreen && m.options.Drill != nil && m.info != nil && m.here.InPlace == nil && !m.checks.Busy && !m.checks.Asks() && !m.choices.Asks()
}

// tryItFirst offers a drill, with the time that the last one took here.
func (m *model) tryItFirst() string {
	if f := m.here.Facts; f != nil && f.Drills.Seconds > 0 {
		return "try it first: " + text.Seconds(f.Drills.Seconds)
	}
	return "try it first"
}

// tryOut begins a drill of the chosen snapshot, before anything is planned.
func (m *model) tryOut() tea.Cmd {
	ctx, cancel := context.WithCancel(m.ctx)
	t := &tryout{cancel: cancel, begun: m.now(), busy: true, doing: "beginning"}
	m.over = &overlay{kind: drillOverlay, tryout: t}
	facts, info, box, try := m.here.Facts, m.info, m.box, m.options.Drill
	return func() tea.Msg {
		defer cancel()
		r, err := try(ctx, facts, info, func(begun string) { box.put(tryoutMsg{of: t, begun: begun}) })
		return tryoutMsg{of: t, over: true, report: r, err: err}
	}
}

// told takes what is reported of it.
func (t *tryout) told(msg tryoutMsg) {
	switch {
	case !t.busy:
	case msg.over:
		t.busy, t.report, t.err = false, msg.report, msg.err
	case msg.begun != "":
		t.doing = text.DrillDoing(msg.begun)
	}
}

// view shows what the drill does, and then what came of it.
func (t *tryout) view(p *pane.Page, l text.Look, now time.Time, w, h int) ([]string, string, []pane.Hint) {
	const title = "A drill: this snapshot, tested beside the cluster"
	var body []string
	switch {
	case t.busy:
		body = append(body, text.Spin(now)+" "+t.doing+", "+text.Seconds(now.Sub(t.begun).Seconds()), "")
		body = append(body, text.Hang("", "etcd and kube-apiserver are started on it, without a network, and all its objects are read. The cluster isn't touched. esc ends the drill and removes it.", w-2)...)
	case t.err != nil && errors.Is(t.err, context.Canceled):
		body = []string{"The drill was ended, and removed."}
	case t.err != nil:
		cause, hint := text.Explain(t.err)
		body = append(body, text.Hang("", "The drill couldn't run, which says nothing about the snapshot.", w-2)...)
		body = append(append(body, ""), text.Facts(text.Advice(cause, hint), w-2)...)
	default:
		body = text.Drill(t.report, now, w-2)
	}
	return p.View(l, title, text.Narrow(body, w-2), w, h, pane.Hint{"/", "search"}, pane.Hint{"↑↓", "scroll"})
}
