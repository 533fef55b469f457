//go:build e2e && linux

package disks

import (
	"regexp"
	"strings"
	"sync"
	"testing"

	"etcd-rewind/steps"
)

// writes says whether an action writes more than its journal. A fault that begins
// with a wait is met by the next action that does.
func writes(a steps.Action) bool {
	return !strings.HasPrefix(a.Kind(), "wait-") && a.Kind() != "verify" && a.Kind() != "end-pods"
}

// onEachAction runs tests for the actions of a restore, on some nodes at a time.
// The actions come from its plan: a new one is in these tests by itself.
func onEachAction(t *testing.T, tests map[string]func(t *testing.T, g *ground, id string), meets func(test string, a steps.Action) bool) {
	type one struct{ name, id string }
	queue := make(chan one)
	var busy sync.WaitGroup
	first := newGround(t)
	for i := range 6 {
		busy.Go(func() {
			g := first
			if i > 0 {
				g = newGround(t)
			}
			for o := range queue {
				if g == nil {
					g = newGround(t)
				}
				if !t.Run(o.id+" "+o.name, func(t *testing.T) { tests[o.name](t, g, o.id) }) {
					g = nil // who knows what is left there
					continue
				}
				g.tidy(t)
			}
		})
	}
	for _, s := range first.plan(t).Steps {
		for _, a := range s.Actions {
			for name := range tests {
				if s.When == "" && meets(name, a.Action) {
					queue <- one{name, a.ID}
				}
			}
		}
	}
	close(queue)
	busy.Wait()
}

// The disk of the whole node fills up to its last byte as soon as an action has
// begun. The run fails with that cause if it needs the space, no manifest is lost, and once
// there is space again both ways are open.
func TestADiskThatFillsUpIsNamedAndCostsNothing(t *testing.T) {
	onEachAction(t, map[string]func(*testing.T, *ground, string){
		"meets a full disk": func(t *testing.T, g *ground, id string) {
			g.survives(t, id, fault{"", "no space left|the disk is full", "free ", nil, func(t *testing.T, g *ground, _ *steps.Plan) func() {
				return fill(t, string(g.Root))
			}})
		},
	}, func(string, steps.Action) bool { return true })
}

// survives runs a restore that meets a fault once an action has begun. Half of
// them are answered as nobody would, while the fault is there; the others are
// left, and gone on with when it is mended.
func (g *ground) survives(t *testing.T, id string, f fault) {
	t.Helper()
	p := g.plan(t)
	ask, goOn := steps.Unattended, (len(f.name)+int(id[len(id)-1]))%2 == 0
	if goOn {
		ask = func(steps.Failure) steps.Choice { return steps.Leave }
	}
	mend := func() {}
	var res *steps.Result
	withoutOverride(t, func() {
		res = g.run(t, p, ask, id, func() { mend = f.harm(t, g, p) })
	})
	mend()
	g.told(t, res, f)
	g.noneLost(t, p)
	if goOn {
		g.goOn(t, res)
	}
	if !res.Reverted {
		g.undo(t)
	}
	g.asBefore(t)
}

// told fails unless a failed run says in its cause what the fault is, and in its
// hint what to do.
func (g *ground) told(t *testing.T, res *steps.Result, f fault) {
	t.Helper()
	t.Logf("ok %t, reverted %t, %+v", res.OK, res.Reverted, res.Error)
	if res.OK {
		return // nothing had to be written
	}
	if !regexp.MustCompile(f.cause).MatchString(res.Error.Cause) || !strings.Contains(res.Error.Hint, f.hint) {
		t.Errorf("cause %q doesn't say %q, or hint %q doesn't say %q", res.Error.Cause, f.cause, res.Error.Hint, f.hint)
	}
}

// goOn resumes a run that has failed, if it came so far that there is
// something to resume, and fails unless the node is restored then.
func (g *ground) goOn(t *testing.T, res *steps.Result) {
	t.Helper()
	if res.Reverted {
		return // nothing was touched
	}
	if !res.OK {
		p, err := steps.NewResume(g.stateDir(), "", g.terms())
		if err != nil {
			t.Fatal(err)
		}
		if res := g.run(t, p, steps.Unattended, "", nil); !res.OK {
			t.Fatalf("going on failed: %+v", res.Error)
		}
	}
	g.restored(t)
}
