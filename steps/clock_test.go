package steps

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"
)

// jumpingClock is the machine's clock after somebody has set it: what it shows
// has jumped, the monotonic reading beside it has not.
type jumpingClock struct{ by atomic.Int64 } // seconds

func (c *jumpingClock) now() time.Time {
	t := time.Now()
	shown := t.Add(time.Duration(c.by.Load()) * time.Second)
	// A time.Time with a monotonic reading: a bit that says so, 33 bits of seconds
	// since 1885, and 30 of nanoseconds; then the reading. That it is so is seen
	// in the test below. In fake time, time.Now has none.
	since := uint64(shown.Unix() - time.Date(1885, 1, 1, 0, 0, 0, 0, time.UTC).Unix())
	words := (*[2]uint64)(unsafe.Pointer(&t))
	words[0], words[1] = 1<<63|since<<30|uint64(shown.Nanosecond()), uint64(t.UnixNano())
	return t
}

func TestTheJumpingClockJumpsAsTheKernelsDoes(t *testing.T) {
	for _, by := range []time.Duration{5 * time.Hour, -5 * time.Hour} {
		var c jumpingClock
		before := c.now()
		c.by.Store(int64(by.Seconds()))
		after := c.now()
		if d := after.Round(0).Sub(before.Round(0)); (d - by).Abs() > time.Minute {
			t.Errorf("it shows %s later, not %s", d, by)
		}
		if d := after.Sub(before); d < 0 || d > time.Minute {
			t.Errorf("the monotonic clock has gone on by %s", d)
		}
	}
}

var jumps = map[string]time.Duration{"forward": 5 * time.Hour, "back": -5 * time.Hour}

// The clock jumps as soon as an action has begun, at each of the plan and of the
// way back, forward and back in turn. No wait is cut short or becomes endless by
// that, and the outage is what it was.
func TestAClockThatJumpsChangesNoWait(t *testing.T) {
	for first, by := range jumps {
		t.Run(first+" first", inFakeTime(func(t *testing.T) {
			n := newFakeNode(t)
			n.grace = 50 * time.Millisecond
			before := n.picture()
			var clock jumpingClock
			e, _ := n.engine(nil)
			e.Now = clock.now
			jumped := map[string]bool{}
			var out, in string  // the actions that move etcd's manifest on the way back
			var taken time.Time // when it was out
			sink := e.Sink
			e.Sink = func(ev Event) {
				sink(ev)
				if ev.Away != nil && (*ev.Away < 0 || *ev.Away > 300) {
					t.Errorf("%s: away for %f s", ev.Action, *ev.Away)
				}
				if ev.Type == TypeAction && ev.State == Started {
					jumped[ev.Action] = true
					clock.by.Store(int64(by.Seconds()))
					by = -by
				}
				if ev.Type != TypeAction || ev.State != Started {
					return
				}
				switch ev.Action {
				case out:
					taken = time.Now()
				case in:
					if d := time.Since(taken); d < fakePace.settle {
						t.Errorf("kubelet had %s to finish with etcd, not %s", d, fakePace.settle)
					}
				}
			}
			p := n.plan(Choices{})
			begun := time.Now()
			res := e.Run(t.Context(), p)
			if took := time.Since(begun).Seconds(); !res.OK || res.OutageSeconds <= 0 || res.OutageSeconds > took {
				t.Errorf("%+v, away %f s of %f s", res.Error, res.OutageSeconds, took)
			}
			for _, id := range actionIDs(p) {
				if !jumped[id] {
					t.Errorf("no jump at %s", id)
				}
			}
			n.mu.Lock()
			n.listless, n.metrics = true, errors.New("unauthorized") // it goes by the clock then
			n.mu.Unlock()
			undo := n.undo()
			for _, step := range undo.Steps {
				for _, a := range step.Actions {
					if t, ok := a.Action.(*TakeOut); ok && t.Etcd && step.When == "" {
						out = a.ID
					}
					if p, ok := a.Action.(*PutIn); ok && p.Etcd {
						in = a.ID
					}
				}
			}
			if res := e.Run(t.Context(), undo); !res.OK || res.OutageSeconds < 0 {
				t.Fatal(res.Error, res.OutageSeconds)
			}
			if taken.IsZero() {
				t.Error("etcd's manifest was never out on the way back")
			}
			if diff := cmp.Diff(before, n.picture()); diff != "" {
				t.Error(diff)
			}
		}))
	}
}

// The process dies, the clock is set, and the run is gone on with or gone back
// from: what the journal says of times is hours old or yet to come.
func TestAClockThatJumpedBeforeARunIsGoneOnWith(t *testing.T) {
	for _, id := range actionIDs(newFakeNode(t).plan(Choices{})) {
		for where, by := range jumps {
			t.Run(id+", "+where, inFakeTime(func(t *testing.T) {
				n := newFakeNode(t)
				n.grace = 50 * time.Millisecond
				before := n.picture()
				var clock jumpingClock
				e, _ := n.engine(nil)
				e.Now = clock.now
				if !n.crashAt(e, n.plan(Choices{}), crashed{"before the result", id}) {
					t.Fatal("it did not crash")
				}
				clock.by.Store(int64(by.Seconds()))
				stateDir := filepath.Join(n.root, "etcd-rewind")
				runs, err := Runs(stateDir)
				if err != nil || len(runs) != 1 {
					t.Fatal(runs, err)
				}
				for _, f := range Standing(runs[0], clock.now()) {
					if strings.Contains(f.Value, "-") && f.Name == "API" || strings.Contains(f.Value, " -") {
						t.Errorf("%s: %s", f.Name, f.Value)
					}
				}
				sink := e.Sink
				e.Sink = func(ev Event) {
					sink(ev)
					if ev.Away != nil && *ev.Away < 0 {
						t.Errorf("away for %f s", *ev.Away)
					}
				}
				if p, err := NewResume(stateDir, "", Terms{}); err == nil {
					if res := e.Run(t.Context(), p); !res.OK || res.OutageSeconds < 0 {
						t.Fatal(res.Error, res.OutageSeconds)
					}
				}
				if undo, err := NewUndo(stateDir, "", Terms{}); err == nil {
					if res := e.Run(t.Context(), undo); !res.OK || res.OutageSeconds < 0 {
						t.Fatal(res.Error, res.OutageSeconds)
					}
				}
				if diff := cmp.Diff(before, n.picture()); diff != "" {
					t.Error(diff)
				}
			}))
		}
	}
}

// The names of runs say which came last, also when the clock was set back.
func TestARunIsNamedAfterTheOnesBeforeIt(t *testing.T) {
	dir := t.TempDir()
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	var names []string
	for _, at := range []time.Time{now, now, now.Add(-time.Hour), now.Add(time.Second), now.Add(time.Hour)} {
		name := newRunName(dir, at)
		if !runName.MatchString(name) {
			t.Errorf("%q is no name of a run", name)
		}
		names = append(names, name)
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.IsSorted(names) || len(slices.Compact(slices.Clone(names))) != len(names) || names[0] != "20261120-120000" || names[4] != "20261120-130000" {
		t.Error(names)
	}
}

// actionIDs are the actions that always run.
func actionIDs(p *Plan) []string {
	var ids []string
	for _, s := range p.Steps {
		for _, a := range s.Actions {
			if s.When == "" {
				ids = append(ids, a.ID)
			}
		}
	}
	return ids
}
