package ui

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"etcd-rewind/steps"
	"etcd-rewind/ui/pane"
)

func TestALogIsFollowedUntilTheUserScrollsUp(t *testing.T) {
	d := drive(t, newFake(), Options{})
	d.during(record(d.f, restorePlan(), steps.Unattended), action("start-etcd.4", steps.Waiting, 5))
	d.key("l")
	lines := func(n int) logsMsg {
		msg := logsMsg{component: pane.Components[0]}
		for i := range n {
			msg.lines = append(msg.lines, fmt.Sprintf("line %d.", i))
		}
		return msg
	}
	d.update(lines(50))
	d.see("line 49.")
	d.update(lines(60))
	d.see("line 59.")
	d.key("up")
	d.dontSee("line 59.")
	d.update(lines(70))
	d.see("line 58.")
	d.dontSee("line 69.")
	d.key("end")
	d.see("line 69.")
	d.update(lines(80))
	d.see("line 79.")
}

// The ticks come twelve times a second, and a log may be long.
func TestALogIsReadAFewTimesASecond(t *testing.T) {
	d := drive(t, newFake(), Options{})
	d.during(record(d.f, restorePlan(), steps.Unattended), action("start-etcd.4", steps.Waiting, 5))
	at := d.m.now()
	d.m.now = func() time.Time { return at }
	d.key("l")
	var reads []time.Duration
	for i := range 24 {
		since := time.Duration(i) * frameTime
		at = noon.Add(time.Hour + since)
		cmd := d.m.handle(tickMsg(at))
		d.m.ticking = true // no ticks but these
		if cmd != nil {
			reads = append(reads, since)
			d.do(cmd)
		}
	}
	if n := len(reads); n < 6 || n > 9 {
		t.Errorf("read at %v in two seconds", reads)
	}
	if !slices.IsSorted(reads) || reads[0] != 0 {
		t.Errorf("the first at %v", reads)
	}
}
