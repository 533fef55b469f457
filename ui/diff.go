package ui

import (
	"context"

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
	p.Summary = append(p.Summary, text.Foreseen(d.Result)...)
}
