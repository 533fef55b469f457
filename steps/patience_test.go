package steps

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"etcd-rewind/node"
)

// fakeStart is how the fake node's API server starts on restored data.
type fakeStart struct {
	starting func() node.APIAnswer
	cpu      func() time.Duration
}

// slowClock advances by some seconds with every look at the API server, so that
// ten minutes pass in a test.
type slowClock struct{ by atomic.Int64 }

func (c *slowClock) now() time.Time { return time.Now().Add(time.Duration(c.by.Load())) }

// startsFor makes the API server take that long by the clock. What shows of it
// meanwhile is shown by each.
func (n *fakeNode) startsFor(c *slowClock, d time.Duration, look func(since time.Duration) node.APIAnswer) {
	var begun time.Time
	n.starting = func() node.APIAnswer {
		if begun.IsZero() {
			begun = c.now()
		}
		c.by.Add(int64(2 * time.Second))
		since := c.now().Sub(begun)
		if since >= d {
			return node.APIAnswer{Code: 200}
		}
		return look(since)
	}
}

func (e *Engine) realPatience() {
	e.pace.api, e.pace.budget, e.pace.evidence, e.pace.still, e.pace.most = realPace.api, realPace.budget, realPace.evidence, realPace.still, realPace.most
}

func hooks(n int) node.APIAnswer {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "[-]poststarthook/%c failed: reason withheld\n", 'a'+i)
	}
	return node.APIAnswer{Code: 500, Body: b.String()}
}

// A slow machine: the API server takes ten minutes and is at work all the time.
// Each sign of life alone keeps the run waiting, nobody is asked, and the screen
// says what it goes by.
func TestAnAPIServerThatTakesTenMinutesIsWaitedFor(t *testing.T) {
	for _, c := range []struct {
		name, sign string
		show       func(n *fakeNode, since time.Duration) node.APIAnswer
	}{
		{"hooks get fewer", "readiness", func(_ *fakeNode, since time.Duration) node.APIAnswer { return hooks(20 - int(since/(45*time.Second))) }},
		{"it writes new things into its log", "log", func(n *fakeNode, since time.Duration) node.APIAnswer {
			n.log = append(n.log, "installed custom resource "+strings.Repeat("x", int(since/(30*time.Second))))
			return hooks(3)
		}},
		{"it uses its CPU", "CPU time", func(n *fakeNode, since time.Duration) node.APIAnswer {
			n.cpu = func() time.Duration { return since / 2 }
			return node.APIAnswer{Err: fmt.Errorf("connection refused")}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			n := newFakeNode(t)
			var clock slowClock
			n.startsFor(&clock, 10*time.Minute, func(since time.Duration) node.APIAnswer { return c.show(n, since) })
			e, events := n.engine(nil) // asking is a failure
			e.Now = clock.now
			e.realPatience()
			res := e.Run(t.Context(), n.plan(Choices{}))
			if !res.OK || res.OutageSeconds < 600 {
				t.Fatalf("%v, away for %.0f s", res.Error, res.OutageSeconds)
			}
			told := slices.ContainsFunc(*events, func(ev Event) bool {
				return slices.ContainsFunc(ev.Seen, func(s Sighting) bool {
					return s.What == "progress" && s.OK && strings.Contains(s.Is, c.sign) && strings.Contains(s.Is, "limit 4m0s")
				})
			})
			if !told {
				t.Errorf("the screen says nothing of %s", c.sign)
			}
		})
	}
}

// An API server that gets nowhere is given kubelet's own patience and not more.
// Where its log says why, the way back is offered first, and taken unattended.
func TestAnAPIServerThatFailsIsFailed(t *testing.T) {
	n := newFakeNode(t)
	before := n.picture()
	var clock slowClock
	at := 0
	n.startsFor(&clock, 24*time.Hour, func(time.Duration) node.APIAnswer {
		at++ // the same again and again, with another time
		n.log = []string{fmt.Sprintf("E0101 00:%02d:00.000000 1 cacher.go:526] unable to transform key \"/registry/secrets/shop/a%d\"", at%60, at)}
		return hooks(3)
	})
	var asked []Failure
	e, _ := n.engine(func(f Failure) Choice { asked = append(asked, f); return f.Choices[0] })
	e.Now = clock.now
	e.realPatience()
	res := e.Run(t.Context(), n.plan(Choices{}))
	if res.OK || !res.Reverted || len(asked) != 1 {
		t.Fatalf("%+v, asked %d times", res, len(asked))
	}
	if f := asked[0]; f.Waited < 240 || f.Waited > 300 || !strings.Contains(f.Cause, "encryption key") || f.Choices[0] != Revert {
		t.Errorf("after %.0f s: %s, %v", f.Waited, f.Cause, f.Choices)
	}
	if diff := cmp.Diff(before, n.picture()); diff != "" {
		t.Error(diff)
	}
}

// What is only slow is no reason to go back: the restored etcd is proven, the
// container runs, and no error is known. Unattended the run ends there, and
// resume continues to wait.
func TestSlownessIsNoReasonToGoBack(t *testing.T) {
	n := newFakeNode(t)
	var clock slowClock
	n.startsFor(&clock, 24*time.Hour, func(time.Duration) node.APIAnswer { return hooks(3) })
	var asked []Failure
	e, _ := n.engine(func(f Failure) Choice { asked = append(asked, f); return Leave })
	e.Now = clock.now
	e.realPatience()
	p := n.plan(Choices{})
	res := e.Run(t.Context(), p)
	if res.OK || res.Reverted || len(asked) != 1 {
		t.Fatalf("%+v, asked %d times", res, len(asked))
	}
	if f := asked[0]; f.Choices[0] != WaitOn || !strings.Contains(f.Cause, "not ready yet") || !strings.Contains(f.Hint, "resume later") || !slices.Contains(f.Choices, Revert) {
		t.Errorf("%s / %s, %v", f.Cause, f.Hint, f.Choices)
	}
	n.mu.Lock()
	n.starting = nil // it got there in the end
	n.mu.Unlock()
	again, err := NewResume(n.root+"/etcd-rewind", "", Terms{})
	if err != nil {
		t.Fatal(err)
	}
	if res := e.Run(t.Context(), again); !res.OK {
		t.Fatal(res.Error)
	}
	if n.undo().memory.Proven {
		t.Error("the undo takes for proven what the restore has proven of other data")
	}
}

// A look at the runtime that takes long on a slow machine is made less often; a
// quick one as often as ever. So is a look of a wait that has lasted long: with
// 50 looks a second one took 6 % of a core.
func TestThePauseBetweenLooksFollowsWhatALookCosts(t *testing.T) {
	for _, c := range []struct{ cost, waited, want time.Duration }{
		{0, 0, 20 * time.Millisecond},
		{2 * time.Millisecond, 0, 18 * time.Millisecond},
		{5 * time.Millisecond, 0, 15 * time.Millisecond},
		{50 * time.Millisecond, 0, 150 * time.Millisecond},
		{3 * time.Second, time.Minute, 2 * time.Second},
		{0, 2 * time.Second, 20 * time.Millisecond},
		{2 * time.Millisecond, 5 * time.Second, 50 * time.Millisecond},
		{0, time.Minute, 100 * time.Millisecond},
	} {
		r := &run{cost: c.cost}
		if got := r.pause(realPace.lookCRI, c.waited); got != c.want {
			t.Errorf("after a look of %s, %s into the wait: %s, want %s", c.cost, c.waited, got, c.want)
		}
	}
}
