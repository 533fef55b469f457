package steps

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"etcd-rewind/node"
	"etcd-rewind/snapshot"
)

func TestARestoreEndsOnTheRestoredData(t *testing.T) {
	n := newFakeNode(t)
	old := n.picture()
	p := n.plan(Choices{})
	e, events := n.engine(nil)
	res := e.Run(t.Context(), p)

	if !res.OK || res.ExitCode() != 0 {
		t.Fatalf("result: %+v, error: %v", res, res.Error)
	}
	status, err := n.Etcd(t.Context(), true)
	if err != nil || status.ClusterID != 0xbbbb {
		t.Errorf("etcd runs on cluster %x (%v), want the restored one", status.ClusterID, err)
	}
	if want := status.Revision; res.Revision != want || want <= 900 {
		t.Errorf("revision %d, etcd has %d; it has to be beyond the old 900", res.Revision, want)
	}
	if !n.apiReady() {
		t.Error("the API is not ready")
	}
	for path, was := range old {
		if now := n.picture()[path]; strings.Contains(path, "lib/etcd") && now != was {
			t.Errorf("%s was touched", path)
		}
	}
	if res.OutageSeconds <= 0 {
		t.Error("no outage was measured")
	}
	if report, err := os.ReadFile(res.Report); err != nil || !strings.Contains(string(report), "etcd-rewind undo "+p.Run) {
		t.Errorf("the report doesn't name the way back (%v)", err)
	}
	last := (*events)[len(*events)-1]
	if last.Type != TypeResult || last.Result == nil {
		t.Errorf("the last event is %+v", last)
	}
}

func TestUndoAfterSuccessBringsTheNodeBackByteForByte(t *testing.T) {
	n := newFakeNode(t)
	before := n.picture()
	e, _ := n.engine(nil)
	if res := e.Run(t.Context(), n.plan(Choices{})); !res.OK {
		t.Fatal(res.Error)
	}
	undo := n.undo()
	if res := e.Run(t.Context(), undo); !res.OK || !res.Reverted {
		t.Fatalf("undo: %+v %v", res, res.Error)
	}
	if diff := cmp.Diff(before, n.picture()); diff != "" {
		t.Errorf("the node differs from before (-before +now):\n%s", diff)
	}
	n.until("the API is ready on the old data", n.apiReady)
	if s, _ := n.Etcd(t.Context(), false); s.ClusterID != 0xaaaa {
		t.Errorf("etcd runs on cluster %x", s.ClusterID)
	}
	runs, err := Runs(filepath.Join(n.root, "etcd-rewind"))
	if err != nil || len(runs) != 1 || runs[0].State != RunUndone {
		t.Errorf("runs: %+v %v", runs, err)
	}
	if _, err := NewUndo(filepath.Join(n.root, "etcd-rewind"), "", Terms{}); err == nil {
		t.Error("there is something to undo a second time")
	}
}

// What they saw of the restored data they must not take to the old one.
func TestUndoStopsTheControllersFirstAndStartsThemLast(t *testing.T) {
	n := newFakeNode(t)
	e, _ := n.engine(nil)
	if res := e.Run(t.Context(), n.plan(Choices{})); !res.OK {
		t.Fatal(res.Error)
	}
	undo := n.undo()
	var moves []string
	for _, s := range undo.Steps {
		for _, a := range s.Actions {
			switch t := a.Action.(type) {
			case *TakeOut:
				if s.When == "" {
					moves = append(moves, "out "+filepath.Base(t.File))
				}
			case *PutIn:
				moves = append(moves, "in "+filepath.Base(t.File))
			case *WaitAPI:
				moves = append(moves, "ready")
			}
		}
	}
	want := []string{
		"out kube-scheduler.yaml", "out kube-controller-manager.yaml",
		"out kube-apiserver.yaml", "out etcd.yaml", "in etcd.yaml", "in kube-apiserver.yaml", "ready",
		"in kube-scheduler.yaml", "in kube-controller-manager.yaml",
	}
	if diff := cmp.Diff(want, moves); diff != "" {
		t.Errorf("what undo moves (-want +got):\n%s", diff)
	}
}

// Every action of the plan fails in turn, before it did anything and after it
// did all. A new action is in this test without more.
func TestWhateverFailsTheNodeCanBeReverted(t *testing.T) {
	whateverFails(t, func(Planned) bool { return true })
	t.Run("etcd under systemd", func(t *testing.T) {
		whateverFails(t, func(a Planned) bool { return onUnit(a.Action) }, inSystemd)
	})
}

func whateverFails(t *testing.T, wanted func(Planned) bool, without ...string) {
	var ids []string
	for _, s := range newFakeNode(t, without...).plan(Choices{}).Steps {
		for _, a := range s.Actions {
			if s.When == "" && wanted(a) {
				ids = append(ids, a.ID)
			}
		}
	}
	for _, id := range ids {
		for _, when := range []string{"before", "after"} {
			t.Run(id+" fails "+when+" it acts", inFakeTime(func(t *testing.T) {
				n := newFakeNode(t, without...)
				before := n.picture()
				p := n.plan(Choices{})
				broken := breakAction(t, p, id, when == "after")
				asked := false
				e, _ := n.engine(func(f Failure) Choice {
					if asked {
						t.Errorf("asked again: %s: %s", f.Action, f.Cause)
					}
					asked = true
					if f.Cause != errBroken.Error() {
						t.Errorf("cause: %s", f.Cause)
					}
					if slices.Contains(f.Choices, Revert) {
						return Revert
					}
					return Leave
				})
				res := e.Run(t.Context(), p)
				if !broken.failed {
					t.Fatal("the action did not fail")
				}
				if res.OK || !res.Reverted || res.ExitCode() != 1 {
					t.Errorf("result %+v %v", res, res.Error)
				}
				if diff := cmp.Diff(before, n.picture()); diff != "" {
					t.Errorf("the node differs from before (-before +now):\n%s", diff)
				}
				n.until("the API is ready", n.apiReady)
				if s, err := n.Etcd(t.Context(), false); err != nil || s.ClusterID != 0xaaaa {
					t.Errorf("etcd: %+v %v", s, err)
				}
			}))
		}
	}
}

var errBroken = errors.New("broken by the test")

// brokenAction fails once in place of the action it wraps, or after it.
type brokenAction struct {
	Action
	after, failed bool
}

func (b *brokenAction) do(ctx context.Context, r *run) (State, error) {
	if b.after {
		if s, err := b.Action.do(ctx, r); err != nil {
			return s, err
		}
	}
	b.failed = true
	return Failed, errBroken
}

func (b *brokenAction) MarshalJSON() ([]byte, error) { return json.Marshal(b.Action) }

func breakAction(t *testing.T, p *Plan, id string, after bool) *brokenAction {
	t.Helper()
	for i := range p.Steps {
		for j := range p.Steps[i].Actions {
			if a := &p.Steps[i].Actions[j]; a.ID == id {
				b := &brokenAction{Action: a.Action, after: after}
				a.Action = b
				return b
			}
		}
	}
	t.Fatalf("the plan has no action %s", id)
	return nil
}

func TestAKubeletThatIgnoresRemovedManifestsIsRestarted(t *testing.T) {
	inFakeTime(func(t *testing.T) {
		n := newFakeNode(t)
		n.mu.Lock()
		n.ignoring = true
		n.mu.Unlock()
		var asked []Choice
		e, _ := n.engine(func(f Failure) Choice {
			asked = append(asked, f.Choices[0])
			return f.Choices[0]
		})
		res := e.Run(t.Context(), n.plan(Choices{}))
		if !res.OK {
			t.Fatalf("%+v %v", res, res.Error)
		}
		if !slices.Equal(asked, []Choice{RestartStuck}) {
			t.Errorf("asked: %v", asked)
		}
		if n.restarts != 1 {
			t.Errorf("kubelet was restarted %d times", n.restarts)
		}
		if s, _ := n.Etcd(t.Context(), true); s.ClusterID != 0xbbbb {
			t.Errorf("etcd runs on cluster %x", s.ClusterID)
		}
	})(t)
}

// Somebody restarts kubelet while the API is away, and it sees the API late: it goes
// on ignoring removals for most of a minute after that. The API is back by then, so
// it is waited for; the step that takes the API server out wouldn't fit any more.
func TestControllersAreWaitedForUntilARestartedKubeletHasSeenTheAPI(t *testing.T) {
	inFakeTime(func(t *testing.T) {
		n := newFakeNode(t)
		e, _ := n.engine(func(f Failure) Choice {
			t.Errorf("asked: %s: %s, %v", f.Action, f.Cause, f.Choices)
			return Leave
		})
		sink := e.Sink
		e.Sink = func(ev Event) {
			sink(ev)
			if ev.Type != TypeStep || ev.Step != "restart-controllers" || ev.State != Started {
				return
			}
			ignoring := func(is bool) {
				n.mu.Lock()
				defer n.mu.Unlock()
				n.ignoring, n.another = is, true
			}
			ignoring(true)
			time.AfterFunc(50*time.Second, func() { ignoring(false) })
		}
		if res := e.Run(t.Context(), n.plan(Choices{})); !res.OK {
			t.Errorf("%+v %v", res, res.Error)
		}
	})(t)
}

// What a controller remembers is of the state before. One that is there when the API
// comes back acts on the restored data with it, until it has listed everything again.
func TestNoControllerOfBeforeIsThereWhenTheAPIComesBack(t *testing.T) {
	inFakeTime(func(t *testing.T) {
		n := newFakeNode(t)
		e, _ := n.engine(nil)
		of := func() map[string]string { // those that run, by name, with the UIDs of their pods
			n.mu.Lock()
			defer n.mu.Unlock()
			uids := map[string]string{}
			for _, role := range []string{"kube-controller-manager", "kube-scheduler"} {
				if p := n.pods[n.pod(role)]; p != nil && p.state == "running" {
					uids[role] = p.uid
				}
			}
			return uids
		}
		before, looked := of(), 0
		check := func(e *Engine) func(Event) {
			sink := e.Sink
			return func(ev Event) {
				sink(ev)
				if ev.Type == TypeAction && strings.HasSuffix(ev.Step, "kube-apiserver") && ev.State == Waiting && n.apiReady() {
					looked++
					if ev.Step == "start-kube-apiserver" && len(of()) > 0 {
						t.Errorf("the API is back, and of before there are %v", of())
					}
				}
			}
		}
		e.Sink = check(e)
		if len(before) != 2 {
			t.Fatalf("before: %v", before)
		}
		if res := e.Run(t.Context(), n.plan(Choices{})); !res.OK {
			t.Fatal(res.Error)
		}
		if looked == 0 {
			t.Error("nobody looked")
		}
		if after := of(); len(after) != 2 || after["kube-scheduler"] == before["kube-scheduler"] {
			t.Errorf("afterwards %v, before %v", after, before)
		}
	})(t)
}

// Somebody has moved kube-apiserver.yaml aside, or never had it here.
func TestControllersAreRestartedWhereNoAPIServerIs(t *testing.T) {
	inFakeTime(func(t *testing.T) {
		n := newFakeNode(t, "kube-apiserver")
		before := n.pods[n.pod("kube-scheduler")].uid
		e, _ := n.engine(nil)
		if res := e.Run(t.Context(), n.plan(Choices{})); !res.OK {
			t.Fatal(res.Error)
		}
		n.mu.Lock()
		defer n.mu.Unlock()
		if p := n.running(n.pod("kube-scheduler")); p == nil || p.uid == before {
			t.Errorf("the scheduler of before still runs: %v", p)
		}
	})(t)
}

// A restarted kubelet that hasn't seen the API deletes nothing, and so starts
// nothing of a pod that was exchanged before it was up.
func TestAPodIsNotHelpedOnAKubeletThatWasJustRestarted(t *testing.T) {
	for _, by := range []string{"this run", "somebody else"} {
		t.Run("by "+by, func(t *testing.T) {
			n := newFakeNode(t)
			e, events := n.engine(nil)
			r := &run{engine: e, world: n, plan: n.plan(Choices{}), pace: fakePace, away: true, mem: memory{Begun: map[string][]string{}}}
			if by == "this run" {
				r.mem.KubeletRestarted = true
			} else {
				n.another = true
			}
			begun := time.Now().Add(-time.Minute)
			if (&refusal{run: r, pod: "etcd-cp1", since: begun}).look() || len(*events) > 0 {
				t.Error("it is helped")
			}
			r.mem.KubeletRestarted, n.another = false, false
			if !(&refusal{run: r, pod: "etcd-cp1", since: begun, begun: true}).look() {
				t.Error("one that runs since before isn't helped")
			}
		})
	}
}

func TestAnEtcdOnOtherDataNeverPasses(t *testing.T) {
	for _, c := range []struct {
		name  string
		at    Action
		spoil func(n *fakeNode, dir string)
		api   bool // is started first
	}{
		{"a blank cluster", &WaitData{}, func(n *fakeNode, dir string) { _ = os.Remove(filepath.Join(dir, "data.json")) }, false},
		{"the old data", &WaitData{}, func(n *fakeNode, dir string) {
			data, _ := os.ReadFile(filepath.Join(n.root, "lib/etcd/data.json"))
			_ = os.WriteFile(filepath.Join(dir, "data.json"), data, 0o600)
		}, false},
		{"a blank cluster whose peer port is closed", &WaitData{}, func(n *fakeNode, dir string) {
			n.peerless = true
			_ = os.Remove(filepath.Join(dir, "data.json"))
		}, false},
		{"less than was staged", &WaitEtcd{}, func(n *fakeNode, dir string) {
			n.writeData(dir, snapshot.Restored{ClusterID: 0xbbbb, Revision: 1})
		}, true},
	} {
		t.Run(c.name, inFakeTime(func(t *testing.T) {
			n := newFakeNode(t)
			before := n.picture()
			p := n.plan(Choices{})
			for i, s := range p.Steps {
				for j, a := range s.Actions {
					if a.Kind() == c.at.Kind() {
						p.Steps[i].Actions[j].Action = &spoil{Action: a.Action, do2: func() { c.spoil(n, p.Restore.DataDir) }}
					}
				}
			}
			var cause string
			e, events := n.engine(func(f Failure) Choice { cause = f.Cause; return f.Choices[0] })
			res := e.Run(t.Context(), p)
			if res.OK || !res.Reverted {
				t.Errorf("%+v", res)
			}
			if !strings.Contains(cause, "not on the right data") {
				t.Errorf("cause: %q", cause)
			}
			if started := slices.ContainsFunc(*events, func(ev Event) bool { return ev.Step == "start-kube-apiserver" }); started != c.api {
				t.Errorf("an API server was started on it: %v", started)
			}
			if diff := cmp.Diff(before, n.picture()); diff != "" {
				t.Error(diff)
			}
		}))
	}
}

func TestAnEtcdThatOpensItsDataAndNeverGetsReadyIsReverted(t *testing.T) {
	inFakeTime(func(t *testing.T) {
		n := newFakeNode(t)
		n.leaderless = true
		before := n.picture()
		var cause string
		e, _ := n.engine(func(f Failure) Choice { cause = f.Cause; return f.Choices[0] })
		res := e.Run(t.Context(), n.plan(Choices{}))
		if res.OK || !res.Reverted || !strings.Contains(cause, "etcd is not ready") {
			t.Errorf("%+v, cause: %q", res, cause)
		}
		if diff := cmp.Diff(before, n.picture()); diff != "" {
			t.Error(diff)
		}
		n.until("the API is ready on the old data", n.apiReady)
	})(t)
}

// What no waiting mends ends a wait, and is the cause that is shown.
func TestAPermanentErrorEndsAWaitAtOnce(t *testing.T) {
	denied := status.Error(codes.PermissionDenied, "etcdserver: permission denied")
	for name, c := range map[string]struct {
		spoil func(n *fakeNode)
		says  string
	}{
		"authentication is enabled in the snapshot": {func(n *fakeNode) { n.denying = denied }, "authentication enabled"},
		"etcd refuses the question":                 {func(n *fakeNode) { n.refusing = denied }, "permission denied"},
		"its certificate isn't trusted":             {func(n *fakeNode) { n.refusing = x509.UnknownAuthorityError{} }, "unknown authority"},
	} {
		t.Run(name, inFakeTime(func(t *testing.T) {
			n := newFakeNode(t)
			c.spoil(n)
			before := n.picture()
			var failed Failure
			e, _ := n.engine(func(f Failure) Choice { failed = f; return f.Choices[0] })
			e.pace.etcd = time.Hour
			if res := e.Run(t.Context(), n.plan(Choices{})); res.OK || !res.Reverted {
				t.Errorf("%+v", res)
			}
			if !strings.Contains(failed.Cause, c.says) || failed.Hint == "" {
				t.Errorf("cause %q, hint %q", failed.Cause, failed.Hint)
			}
			if diff := cmp.Diff(before, n.picture()); diff != "" {
				t.Error(diff)
			}
		}))
	}
}

func TestWhereThePeerPortIsClosedEtcdsReadinessIsWaitedFor(t *testing.T) {
	n := newFakeNode(t)
	n.peerless = true
	e, _ := n.engine(nil)
	if res := e.Run(t.Context(), n.plan(Choices{})); !res.OK {
		t.Fatal(res.Error)
	}
}

type spoil struct {
	Action
	do2 func()
}

func (s *spoil) do(ctx context.Context, r *run) (State, error) { s.do2(); return s.Action.do(ctx, r) }

func (s *spoil) MarshalJSON() ([]byte, error) { return json.Marshal(s.Action) }

func TestStoppingTheRunEndsAWaitAndNothingElse(t *testing.T) {
	inFakeTime(func(t *testing.T) {
		n := newFakeNode(t)
		n.grace = 10 * fakePace.gone
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		p := n.plan(Choices{Stop: StopGraceful})
		var events []Event
		pace := fakePace
		e := &Engine{world: n, pace: &pace, Ask: func(f Failure) Choice { t.Error("asked", f); return Leave }, Sink: func(ev Event) {
			events = append(events, ev)
			if ev.Action == "stop-kube-apiserver.2" && ev.State == Waiting {
				stop()
			}
		}}
		res := e.Run(ctx, p)
		if res.OK || res.Reverted || res.ExitCode() != 3 {
			t.Fatalf("%+v", res)
		}
		if !strings.Contains(res.Error.Hint, "etcd-rewind undo "+p.Run) {
			t.Errorf("hint: %q", res.Error.Hint)
		}
		for _, ev := range events {
			if strings.HasPrefix(ev.Step, "stop-etcd") {
				t.Errorf("it continued: %+v", ev)
			}
		}
		n.mu.Lock()
		n.grace = 0
		n.mu.Unlock()
		undo := n.undo()
		e2, _ := n.engine(nil)
		if res := e2.Run(t.Context(), undo); !res.OK {
			t.Fatal(res.Error)
		}
		n.until("the API is ready", n.apiReady)
	})(t)
}

func TestAStopBeforeAnythingWasMovedLeavesTheNodeUntouched(t *testing.T) {
	n := newFakeNode(t)
	ctx, stop := context.WithCancel(t.Context())
	e, _ := n.engine(nil)
	sink := e.Sink
	e.Sink = func(ev Event) {
		sink(ev)
		if ev.Step == "stage" && ev.Type == TypeStep && ev.State == Done {
			stop()
		}
	}
	res := e.Run(ctx, n.plan(Choices{}))
	if res.OK || !res.Reverted || res.ExitCode() != 1 || !n.apiReady() {
		t.Fatalf("%+v %v", res, res.Error)
	}
}

func TestASecondRunOnTheSameNodeIsRefused(t *testing.T) {
	n := newFakeNode(t)
	p := n.plan(Choices{})
	if err := os.MkdirAll(filepath.Join(n.root, "etcd-rewind"), 0o700); err != nil {
		t.Fatal(err)
	}
	release, err := node.Lock(filepath.Join(n.root, "etcd-rewind", lockName))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = release() }()
	e, events := n.engine(nil)
	res := e.Run(t.Context(), p)
	if res.OK || !res.Reverted || len(*events) != 1 || !n.apiReady() {
		t.Errorf("%+v, %d events", res, len(*events))
	}
}

func TestSomebodyElsesEditIsNoticedAndNotOverwritten(t *testing.T) {
	n := newFakeNode(t)
	p := n.plan(Choices{})
	path := filepath.Join(n.root, "manifests/etcd.yaml")
	data, _ := os.ReadFile(path)
	edited := append(data, "# edited\n"...)
	n.write("manifests/etcd.yaml", edited)
	var cause string
	e, _ := n.engine(func(f Failure) Choice { cause = f.Cause; return Leave })
	res := e.Run(t.Context(), p)
	if res.OK || !res.Reverted || !strings.Contains(cause, "not what it was") {
		t.Errorf("%+v, cause %q", res, cause)
	}
	if now, _ := os.ReadFile(path); string(now) != string(edited) {
		t.Error("the edit is gone")
	}
}

func TestAnEtcdThatDoesNotStartShowsItsLogAndTheLikelyCause(t *testing.T) {
	t.Run("alone in its pod", func(t *testing.T) { etcdThatDoesNotStart(t, false) })
	t.Run("beside a proxy that runs", func(t *testing.T) { etcdThatDoesNotStart(t, true) })
}

func etcdThatDoesNotStart(t *testing.T, sidecar bool) {
	n := newFakeNode(t)
	n.mu.Lock()
	n.sidecar = sidecar
	n.mu.Unlock()
	before := n.picture()
	p := n.plan(Choices{})
	n.mu.Lock()
	n.log = []string{`{"level":"fatal","error":"open /var/lib/etcd/member/snap/db: permission denied"}`}
	n.mu.Unlock()
	var got Failure
	e, _ := n.engine(func(f Failure) Choice {
		got = f
		n.mu.Lock()
		n.broken = map[string]bool{}
		n.mu.Unlock()
		return f.Choices[0]
	})
	sink := e.Sink
	e.Sink = func(ev Event) {
		sink(ev)
		if ev.Step == "start-etcd" && ev.Type == TypeStep && ev.State == Started {
			n.mu.Lock()
			n.broken["etcd-cp1"] = true
			n.mu.Unlock()
		}
	}
	res := e.Run(t.Context(), p)
	if res.OK || !res.Reverted {
		t.Errorf("%+v %v", res, res.Error)
	}
	if !strings.Contains(got.Cause, "starts and ends again: etcd may not read its data directory") || len(got.Log) == 0 || got.Choices[0] != Revert {
		t.Errorf("%+v", got)
	}
	if diff := cmp.Diff(before, n.picture()); diff != "" {
		t.Error(diff)
	}
}

// relay is a node whose runtime keeps only the newest container of etcd, and on
// which etcd ends as soon as it has been seen.
type relay struct {
	*fakeNode
	attempt uint32
	on      bool
}

func (n *relay) Pod(ctx context.Context, pod string) ([]node.Sandbox, error) {
	boxes, err := n.fakeNode.Pod(ctx, pod)
	if n.on && pod == "etcd-cp1" && len(boxes) > 0 && boxes[0].Ready {
		c := &boxes[0].Containers[0]
		c.Attempt = n.attempt
		if n.attempt++; n.attempt > 1 {
			c.State = node.Exited
		}
	}
	return boxes, err
}

func TestAnEtcdThatEndsAgainAndAgainIsNoticedByItsAttempts(t *testing.T) {
	inFakeTime(func(t *testing.T) {
		n := &relay{fakeNode: newFakeNode(t)}
		n.peerless = true
		p := n.plan(Choices{})
		var got Failure
		e, _ := n.engine(func(f Failure) Choice { got, n.on = f, false; return f.Choices[0] })
		e.world = n
		sink := e.Sink
		e.Sink = func(ev Event) {
			sink(ev)
			if ev.Action == "start-etcd.4" && ev.State == Started {
				n.on, n.leaderless = true, true
			}
		}
		if res := e.Run(t.Context(), p); res.OK || !res.Reverted {
			t.Errorf("%+v %v", res, res.Error)
		}
		if got.Action != "start-etcd.4" || !strings.Contains(got.Cause, "starts and ends again") {
			t.Errorf("%s: %s", got.Action, got.Cause)
		}
	})(t)
}

func TestThePlanSurvivesTheJournal(t *testing.T) {
	p := newFakeNode(t).plan(Choices{})
	raw, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	var back Plan
	if err := json.Unmarshal(raw, &back); err != nil {
		t.Fatal(err)
	}
	again, err := json.Marshal(back)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(raw), string(again)); diff != "" {
		t.Error(diff)
	}
}

func TestAManifestThatSomebodyPutsBackIsNoticed(t *testing.T) {
	n := newFakeNode(t)
	p := n.plan(Choices{})
	path := filepath.Join(n.root, "manifests/etcd.yaml")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var cause string
	e, _ := n.engine(func(f Failure) Choice {
		if cause == "" {
			cause = f.Cause
			// The user finds out and takes it away again.
			if err := os.Remove(path); err != nil {
				t.Error(err)
			}
			return Retry
		}
		t.Errorf("asked again: %s", f.Cause)
		return Leave
	})
	sink := e.Sink
	e.Sink = func(ev Event) {
		sink(ev)
		if ev.Action == "stop-etcd.2" && ev.State == Started && cause == "" {
			n.write("manifests/etcd.yaml", data)
		}
	}
	if res := e.Run(t.Context(), p); !res.OK {
		t.Fatal(res.Error)
	}
	if !strings.Contains(cause, "somebody else moved") {
		t.Errorf("cause: %q", cause)
	}
}

func TestAnUndoDaysLaterTellsWhatIsLostAndHasToBeTyped(t *testing.T) {
	n := newFakeNode(t)
	e, _ := n.engine(nil)
	res := e.Run(t.Context(), n.plan(Choices{}))
	if !res.OK {
		t.Fatal(res.Error)
	}
	for _, c := range []struct {
		after time.Duration
		typed bool
	}{{time.Minute, false}, {72 * time.Hour, true}, {-72 * time.Hour, true} /* the clock was set back */} {
		p := n.undo()
		ask := func(context.Context, node.EtcdConfig, bool) (*node.EtcdStatus, error) {
			return &node.EtcdStatus{Revision: res.Revision + 4711}, nil
		}
		sinceThen(t.Context(), p, ask, time.Now().Add(c.after))
		last := p.Summary[len(p.Summary)-1]
		if p.MustType != c.typed || last.Name != "written since" || !strings.Contains(last.Value, "revisions: 4711") {
			t.Errorf("after %s: typed %v, %+v", c.after, p.MustType, last)
		}
	}
}

func TestAPodThatKubeletRefusesIsHelped(t *testing.T) {
	t.Run("as soon as kubelet would have begun with it", inFakeTime(func(t *testing.T) { refusedPodIsHelped(t, false) }))
	t.Run("when no sandbox comes, where nothing else can be seen", inFakeTime(func(t *testing.T) { refusedPodIsHelped(t, true) }))
}

func refusedPodIsHelped(t *testing.T, blind bool) {
	n := newFakeNode(t)
	n.blind = blind
	p := n.plan(Choices{})
	e, events := n.engine(nil)
	n.mu.Lock()
	n.refuse = "etcd-cp1"
	n.mu.Unlock()
	if res := e.Run(t.Context(), p); !res.OK {
		t.Fatal(res.Error)
	}
	helped := slices.ContainsFunc(*events, func(ev Event) bool { return strings.Contains(ev.Message, "fresh annotation") })
	data, err := os.ReadFile(filepath.Join(n.root, "manifests/etcd.yaml"))
	if err != nil || !strings.Contains(string(data), restartedAt) || !helped {
		t.Errorf("helped: %v, manifest (%v):\n%s", helped, err, data)
	}
	// The annotation must not block an undo.
	undo := n.undo()
	if res := e.Run(t.Context(), undo); !res.OK {
		t.Fatal(res.Error)
	}
}

func TestAPlanCoversAWALOfItsOwn(t *testing.T) {
	n := newFakeNode(t)
	data, err := os.ReadFile(filepath.Join(n.root, "manifests/etcd.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	wal := filepath.Join(n.root, "wal")
	if err := os.Mkdir(wal, 0o700); err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(data), "    - --data-dir=/var/lib/etcd\n", "    - --data-dir=/var/lib/etcd\n    - --wal-dir=/wal/here\n", 1)
	text = strings.Replace(text, "    volumeMounts:\n", "    volumeMounts:\n    - mountPath: /wal\n      name: wal\n", 1)
	text = strings.Replace(text, "  volumes:\n", "  volumes:\n  - hostPath:\n      path: "+wal+"\n    name: wal\n", 1)
	n.replace("etcd", []byte(text))
	p := n.plan(Choices{})
	st, ok := p.step("stage").Actions[0].Action.(*Stage)
	if !ok || len(st.Roots) != 2 {
		t.Fatalf("%+v", st)
	}
	walRoot := st.Roots[1]
	if walRoot.Old != wal || st.Request.WALDir != filepath.Join(walRoot.Staging, "here") {
		t.Errorf("the WAL is staged at %s, its root %+v", st.Request.WALDir, walRoot)
	}
	if !strings.Contains(p.Diffs[0].Text, "+      path: "+wal+"-"+p.Run) {
		t.Errorf("the WAL's hostPath stays:\n%s", p.Diffs[0].Text)
	}
	e, _ := n.engine(nil)
	if res := e.Run(t.Context(), p); !res.OK {
		t.Fatal(res.Error)
	}
	if _, err := os.Stat(wal + "-" + p.Run); err != nil {
		t.Error(err)
	}
}

func TestAContainerRuntimeThatIsRestartedIsWaitedFor(t *testing.T) {
	var ids []string
	for _, s := range newFakeNode(t).plan(Choices{}).Steps {
		for _, a := range s.Actions {
			if s.When == "" {
				ids = append(ids, a.ID)
			}
		}
	}
	for _, id := range ids {
		t.Run("it goes away at "+id, inFakeTime(func(t *testing.T) {
			n := newFakeNode(t)
			p := n.plan(Choices{})
			e, _ := n.engine(nil)
			sink := e.Sink
			e.Sink = func(ev Event) {
				sink(ev)
				if ev.Action == id && ev.State == Started {
					n.mu.Lock()
					n.away = time.Now().Add(100 * time.Millisecond)
					n.mu.Unlock()
				}
			}
			if res := e.Run(t.Context(), p); !res.OK {
				t.Fatal(res.Error)
			}
		}))
	}
}

func TestAJournalThatCannotBeWrittenStopsTheRunBeforeAnythingIsTouched(t *testing.T) {
	n := newFakeNode(t)
	before := n.picture()
	p := n.plan(Choices{})
	// A directory in the journal's place can't be written, not even by root.
	if err := os.MkdirAll(filepath.Join(p.RunDir, journalName), 0o700); err != nil {
		t.Fatal(err)
	}
	e, _ := n.engine(nil)
	res := e.Run(t.Context(), p)
	if res.OK || !res.Reverted || !strings.Contains(res.Error.Cause, "journal") {
		t.Errorf("%+v %v", res, res.Error)
	}
	if diff := cmp.Diff(before, n.picture()); diff != "" {
		t.Error(diff)
	}
}

func TestADiskThatFillsUpInTheMiddleLeavesAWayBack(t *testing.T) {
	for _, full := range []string{"stop-kube-apiserver.2", "stop-etcd.1", "start-etcd.2", "verify.1"} {
		t.Run("the journal can't be written any more at "+full, inFakeTime(func(t *testing.T) {
			n := newFakeNode(t)
			before := n.picture()
			p := n.plan(Choices{})
			asked := 0
			e, _ := n.engine(func(f Failure) Choice { asked++; return Leave })
			e.fail = func(action string) error {
				if action == full {
					return syscall.ENOSPC
				}
				return nil
			}
			res := e.Run(t.Context(), p)
			if res.OK || asked == 0 || !strings.Contains(res.Error.Cause, "no space left") {
				t.Fatalf("%+v %v, asked %d times", res, res.Error, asked)
			}
			e.fail = nil
			undo := n.undo()
			if res := e.Run(t.Context(), undo); !res.OK {
				t.Fatal(res.Error)
			}
			if diff := cmp.Diff(before, n.picture()); diff != "" {
				t.Error(diff)
			}
		}))
	}
}

func TestVerifyToleratesWhatWasBeingDeletedAndNothingElse(t *testing.T) {
	v := &Verify{Node: "cp1"}
	want := []snapshot.Object{{Name: "shop", UID: "s"}, {Name: "going", UID: "g", Deleting: true}}
	for _, c := range []struct {
		name string
		have []node.Object
		ok   bool
	}{
		{"all there", []node.Object{{Name: "shop", UID: "s"}, {Name: "going", UID: "g"}}, true},
		{"the one that was being deleted is gone", []node.Object{{Name: "shop", UID: "s"}}, true},
		{"another is gone", []node.Object{{Name: "going", UID: "g"}}, false},
		{"another UID", []node.Object{{Name: "shop", UID: "x"}}, false},
		{"one more, and one that is missing", []node.Object{{Name: "going", UID: "g"}, {Name: "late", UID: "l"}}, false},
		{"one more, made since", []node.Object{{Name: "shop", UID: "s"}, {Name: "late", UID: "l"}}, true},
		{"a system namespace too many", []node.Object{{Name: "shop", UID: "s"}, {Name: "kube-public", UID: "p"}}, true},
	} {
		if says, ok, _ := v.compare(want, 0, c.have); ok != c.ok {
			t.Errorf("%s: %v, %s", c.name, ok, says)
		}
	}
}

// GitOps makes a namespace as soon as the API answers, and it is gone on with:
// the report names it.
func TestANamespaceThatIsMadeRightAfterTheRestoreIsANote(t *testing.T) {
	n := newFakeNode(t)
	n.more = []node.Object{{Name: "flux-system", UID: "f"}}
	e, _ := n.engine(nil)
	res := e.Run(t.Context(), n.plan(Choices{}))
	if !res.OK {
		t.Fatal(res.Error)
	}
	report, err := os.ReadFile(res.Report)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(report), "flux-system") {
		t.Errorf("the report doesn't name it:\n%s", report)
	}
}

// kubelet registers its node when it starts and not again: a node that joined
// after the snapshot is named afterwards, unless it is there by then.
func TestANodeThatJoinedAfterTheSnapshotIsNamedInTheReport(t *testing.T) {
	n := newFakeNode(t)
	f := n.facts()
	f.Nodes = []node.Object{{Name: "cp1"}, {Name: "worker-8"}, {Name: "worker-9"}}
	p, err := NewRestore(f, snapshotOfTheTests, Choices{})
	if err != nil {
		t.Fatal(err)
	}
	n.nodes = []node.Object{{Name: "worker-8", UID: "w"}} // restarted meanwhile
	e, _ := n.engine(nil)
	res := e.Run(t.Context(), p)
	if !res.OK {
		t.Fatal(res.Error)
	}
	report, err := os.ReadFile(res.Report)
	if err != nil {
		t.Fatal(err)
	}
	if says := fact(res.Summary, "nodes that joined after the snapshot"); !strings.Contains(says, "worker-9: run systemctl restart kubelet") || !strings.Contains(string(report), "worker-9: run") {
		t.Errorf("the summary says %q, the report:\n%s", says, report)
	}
}

// A client counts from the last answer it got.
func TestTheOutageCountsFromTheLastGoodAnswer(t *testing.T) {
	inFakeTime(func(t *testing.T) {
		n := newFakeNode(t)
		n.lateness = 400 * time.Millisecond
		e, events := n.engine(nil)
		res := e.Run(t.Context(), n.plan(Choices{}))
		if !res.OK {
			t.Fatal(res.Error)
		}
		var moved, ready time.Time
		for _, ev := range *events {
			if ev.Action == "stop-kube-apiserver.1" && ev.State == Done {
				moved = ev.Time
			}
			if strings.HasPrefix(ev.Action, "start-kube-apiserver") && ev.State == Done {
				ready = ev.Time
			}
		}
		if lost := ready.Sub(moved).Seconds() - res.OutageSeconds; lost < 0.35 {
			t.Errorf("the outage of %.2f s has the time in it in which the API answered: %.2f s less than since the manifest was moved", res.OutageSeconds, lost)
		}
	})(t)
}

// Row 5: kubelet 1.22 starts no static pod twice whose UID it has had. A restore
// gives each pod another UID; going back can't, and says what helps.
func TestAKubeletThatStartsNoUIDTwice(t *testing.T) {
	inFakeTime(func(t *testing.T) {
		n := newFakeNode(t)
		n.mu.Lock()
		n.once = true
		n.mu.Unlock()
		before := n.picture()
		e, _ := n.engine(nil)
		if res := e.Run(t.Context(), n.plan(Choices{})); !res.OK {
			t.Fatal(res.Error)
		}
		undo := n.undo()
		asked := 0
		e, _ = n.engine(func(f Failure) Choice {
			if asked++; asked > 1 {
				t.Errorf("asked again: %s", f.Cause)
				return Leave
			}
			if !strings.Contains(f.Cause, "kubelet has not started") || !strings.Contains(f.Hint, "restart kubelet, then retry") {
				t.Errorf("%s / %s", f.Cause, f.Hint)
			}
			n.mu.Lock()
			n.once = false // the user restarts kubelet, and that is that
			n.mu.Unlock()
			return Retry
		})
		if res := e.Run(t.Context(), undo); !res.OK || asked != 1 {
			t.Fatalf("asked %d times, %v", asked, res.Error)
		}
		if diff := cmp.Diff(before, n.picture()); diff != "" {
			t.Error(diff)
		}
	})(t)
}

// The kubelet that was restarted to let go has not seen the API either. When the
// restored etcd doesn't start then, and the run goes back, that etcd too has to
// be let go.
func TestAStuckKubeletIsRestartedOnceMoreDuringARevert(t *testing.T) {
	inFakeTime(func(t *testing.T) {
		n := newFakeNode(t)
		before := n.picture()
		var asked []Choice
		e, _ := n.engine(func(f Failure) Choice {
			n.mu.Lock()
			n.broken = map[string]bool{}
			n.mu.Unlock()
			asked = append(asked, f.Choices[0])
			return f.Choices[0]
		})
		sink := e.Sink
		e.Sink = func(ev Event) {
			sink(ev)
			n.mu.Lock()
			defer n.mu.Unlock()
			switch {
			case ev.Type == TypeAction && ev.Action == "stop-kube-apiserver.1" && ev.State == Started:
				n.unseen, n.ignoring = false, true
			case ev.Step == stuckKubeletStep && ev.Type == TypeStep && ev.State == Started:
				n.unseen = true
			case ev.Step == "start-etcd" && ev.Type == TypeStep && ev.State == Started:
				n.broken["etcd-cp1"] = true
			}
		}
		res := e.Run(t.Context(), n.plan(Choices{}))
		if res.OK || !res.Reverted {
			t.Errorf("%+v, %v", res, res.Error)
		}
		if !slices.Equal(asked, []Choice{RestartStuck, Revert, RestartStuck}) || n.restarts != 2 {
			t.Errorf("asked %v, kubelet was restarted %d times", asked, n.restarts)
		}
		if diff := cmp.Diff(before, n.picture()); diff != "" {
			t.Error(diff)
		}
		n.until("the API is ready", n.apiReady)
	})(t)
}
