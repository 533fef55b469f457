package ui

import (
	"context"

	tea "github.com/charmbracelet/bubbletea"

	"etcd-rewind/restore"
	"etcd-rewind/snapshot"
	"etcd-rewind/steps"
	"etcd-rewind/ui/pane"
	"etcd-rewind/ui/text"
)

// diffPane shows what restoring the chosen snapshot would change. It goes on
// with that while the user goes on to the checks.
type diffPane struct {
	pane.Diff
	name   string // of the snapshot compared last
	asked  int    // older answers don't count
	cancel context.CancelFunc
}

type (
	compareProgressMsg struct {
		asked int
		snapshot.Progress
	}
	comparedMsg struct {
		asked  int
		result *snapshot.Comparison
		err    error
	}
)

func (msg compareProgressMsg) Replaces(older any) (yes, further bool) {
	last, ok := older.(compareProgressMsg)
	return ok && msg.asked == last.asked, false
}

// compare shows the screen and starts the comparison, unless it was made
// already.
func (m *model) compare() tea.Cmd {
	if m.options.skipDiff {
		return m.afterDiff()
	}
	m.screen = diffScreen
	d := &m.diff
	if d.name == m.info.Name && (d.Busy || d.Result != nil) {
		return nil
	}
	d.stop()
	ctx, cancel := context.WithCancel(m.ctx)
	*d = diffPane{Diff: pane.Diff{Busy: true}, name: m.info.Name, asked: d.asked + 1, cancel: cancel}
	f := restore.Flow{Engine: m.backend, Want: restore.Want{Here: m.here.Facts, Info: m.info}}
	asked := d.asked
	return func() tea.Msg {
		c, err := f.Comparison(ctx, func(p snapshot.Progress) { m.box.put(compareProgressMsg{asked, p}) })
		return comparedMsg{asked, c, err}
	}
}

// afterDiff goes on to the checks, or to the members when there are several.
func (m *model) afterDiff() tea.Cmd {
	m.screen = checkScreen
	if m.several() {
		return m.toMembers()
	}
	return m.thisNode()
}

// stop breaks off what is under way.
func (d *diffPane) stop() {
	if d.cancel != nil {
		d.cancel()
		d.cancel = nil
	}
	d.Busy = false
}

func (d *diffPane) progress(msg compareProgressMsg) {
	if msg.asked == d.asked && d.Busy {
		d.Phase = msg.Progress
	}
}

func (d *diffPane) compared(msg comparedMsg) {
	if msg.asked != d.asked || !d.Busy {
		return
	}
	d.stop()
	d.Result, d.Err = msg.result, msg.err
}

// tell adds the summary to a plan, and so to the run's report.
func (d *diffPane) tell(p *steps.Plan) {
	if p == nil || d.Result == nil {
		return
	}
	p.Summary = append(p.Summary, steps.Fact{Name: "the restore", Value: text.ComparisonSummary(d.Result)})
}

func (m *model) diffKey(name string) tea.Cmd {
	d := &m.diff
	switch name {
	case "q":
		d.stop()
		return m.quit()
	case "?":
		m.over = newOverlay(helpOverlay)
	case "esc", "left":
		d.stop()
		m.screen = chooseScreen
		return m.lookInside()
	case "enter":
		return m.afterDiff()
	case "r":
		d.stop()
		d.name = ""
		return m.compare()
	default:
		d.Key(name, m.bodyHeight())
	}
	return nil
}
