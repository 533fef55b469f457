package steps

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"etcd-rewind/node"
)

func TestTheOutageBeginsAtAMomentOfKubeletsLists(t *testing.T) {
	n := newFakeNode(t)
	p := n.plan(Choices{})
	e, events := n.engine(nil)
	if res := e.Run(t.Context(), p); !res.OK {
		t.Fatal(res.Error)
	}
	var out time.Time
	for _, ev := range *events {
		if ev.Action == "stop-kube-apiserver.1" && ev.State == Started {
			out = ev.Time
		}
	}
	if since := out.Sub(n.listed); n.listed.IsZero() || since < fakePace.begin {
		t.Errorf("kube-apiserver.yaml went out %s after a list, at least %s were meant", since, fakePace.begin)
	}
}

func TestARestoreGoesOnWhereKubeletsListsCannotBeSeen(t *testing.T) {
	for name, c := range map[string]struct {
		node       func(*fakeNode)
		says, most string
	}{
		"kubelet turns its metrics down":     {func(n *fakeNode) { n.metrics = errors.New("403 Forbidden") }, "403 Forbidden", "up to 1 s longer"},
		"kubelet lists with events, at most": {func(n *fakeNode) { n.listless = true }, "has not listed its containers for 10 s", "up to 5 s longer"},
	} {
		t.Run(name, inFakeTime(func(t *testing.T) {
			n := newFakeNode(t)
			c.node(n)
			e, events := n.engine(nil)
			if res := e.Run(t.Context(), n.plan(Choices{})); !res.OK {
				t.Fatal(res.Error)
			}
			if !slices.ContainsFunc(*events, func(ev Event) bool {
				return ev.Action == "stage.3" && strings.Contains(ev.Message, c.says) && strings.Contains(ev.Message, c.most)
			}) {
				t.Error("nothing is said about it")
			}
		}))
	}
}

// With EventedPLEG, kubelet until 1.36 lists its containers every 300 s, and may
// begin 5 s late.
func TestAKubeletThatListsSeldomIsRestoredAndUndone(t *testing.T) {
	inFakeTime(func(t *testing.T) {
		n := newFakeNode(t)
		n.relists, n.lateness = 300*time.Second, 5*time.Second
		before := n.picture()
		e, _ := n.engine(nil)
		if res := e.Run(t.Context(), n.plan(Choices{})); !res.OK {
			t.Fatal(res.Error)
		}
		if err := n.works(0xbbbb); err != nil {
			t.Fatal(err)
		}
		e, events := n.engine(nil)
		if res := e.Run(t.Context(), n.undo()); !res.OK {
			t.Fatal(res.Error)
		}
		if err := n.works(0xaaaa); err != nil {
			t.Fatal(err)
		}
		if n.restarts != 1 { // at the end of the undo
			t.Errorf("kubelet was restarted %d times", n.restarts)
		}
		// The next list never comes; that nothing is left for long enough shows it, too.
		var waited, settled bool
		for _, ev := range *events {
			for _, s := range ev.Seen {
				waited = waited || s.What == "kubelet" && s.Is == sayLists(0)
				settled = settled || s.What == "left over" && s.OK
			}
		}
		if !waited || !settled {
			t.Errorf("the undo has waited for a list: %v, and without one: %v", waited, settled)
		}
		for path, was := range before {
			if n.picture()[path] != was {
				t.Errorf("%s is another", path)
			}
		}
	})(t)
}

func TestTheWaitForAListCanBeStopped(t *testing.T) {
	n := newFakeNode(t)
	n.listless = true
	before := n.picture()
	ctx, stop := context.WithCancel(t.Context())
	e, _ := n.engine(nil)
	sink := e.Sink
	e.Sink = func(ev Event) {
		sink(ev)
		if ev.Action == "stage.3" && ev.State == Waiting {
			stop()
		}
	}
	res := e.Run(ctx, n.plan(Choices{}))
	if res.OK || !res.Reverted || res.Error == nil || res.Error.Action != "stage.3" {
		t.Errorf("%+v %+v", res, res.Error)
	}
	for path, was := range before {
		if n.picture()[path] != was {
			t.Errorf("%s was touched", path)
		}
	}
}

func TestAListIsNotWaitedForWhereNothingIsWon(t *testing.T) {
	for name, c := range map[string]struct {
		facts   func(*Facts)
		choices Choices
	}{
		"kubelet stops the API server, with its grace": {choices: Choices{Stop: StopGraceful}},
		"the API is down already":                      {facts: func(f *Facts) { f.APIReady = false }},
		"kubelet's metrics are not to be had":          {facts: func(f *Facts) { f.Reach.Metrics = node.MetricsConfig{} }},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeNode(t).facts()
			if c.facts != nil {
				c.facts(f)
			}
			p, err := NewRestore(f, snapshotOfTheTests, c.choices)
			if err != nil {
				t.Fatal(err)
			}
			for _, a := range p.step("stage").Actions {
				if a.Kind() == (&WaitRelist{}).Kind() {
					t.Error("it is planned")
				}
			}
		})
	}
}
