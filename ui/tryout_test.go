package ui

import (
	"context"
	"strings"
	"testing"

	"etcd-rewind/drill"
	"etcd-rewind/problem"
	"etcd-rewind/snapshot"
	"etcd-rewind/steps"
)

// Before the plan the wizard offers to try the snapshot, and shows what came of
// that; then the restore goes on as it would have.
func TestTheSnapshotCanBeTriedBeforeThePlan(t *testing.T) {
	report := &drill.Report{
		Snapshot: "/backup/etcd.db", Proven: true, Objects: 271, Recovery: 3.8, Total: 4.1, Programs: []drill.Program{{Name: "etcd"}, {Name: "kube-apiserver"}},
		Parts: []drill.Part{{Part: drill.PartEtcd, Seconds: 0.7}}, Kinds: []drill.Kind{{Resource: "secrets", Objects: 271, Listed: 271, Encrypted: []string{"aescbc:key1"}}},
	}
	var fails error
	d := drive(t, newFake(), Options{Drill: func(_ context.Context, f *steps.Facts, info *snapshot.Info, tell func(string)) (*drill.Report, error) {
		if f == nil || info == nil {
			t.Errorf("%v %v", f, info)
		}
		tell(drill.PartAPI)
		return report, fails
	}})
	d.to(checkScreen)
	d.see("try it first")
	d.key("t")
	d.until("is proven")
	d.see("271 of 1 kinds", "secrets with aescbc:key1", "time to recovery", "3.8 s", "etcd start")
	d.key("enter")
	d.see("try it first: 4.1 s") // as it was measured

	fails = problem.New("wait until it has ended", "another drill is under way in /var/lib")
	d.key("t")
	d.until("another drill is under way")
	d.see("says nothing about the snapshot", "wait until it has ended")
	d.key("esc")

	report, fails = &drill.Report{Snapshot: "etcd.db", Fault: problem.New("put the key back", "kube-apiserver can't read secrets")}, nil
	d.key("t")
	d.until("the drill failed")
	d.see("can't read secrets", "put the key back")
	d.key("esc", "enter")
	d.until("confirm")
	d.dontSee("try it first")
}

// Leaving the drill ends it; what it says afterwards is nobody's.
func TestADrillEndsWhenItIsLeft(t *testing.T) {
	ended := make(chan struct{})
	d := drive(t, newFake(), Options{Drill: func(ctx context.Context, _ *steps.Facts, _ *snapshot.Info, _ func(string)) (*drill.Report, error) {
		<-ctx.Done()
		close(ended)
		return nil, ctx.Err()
	}})
	d.to(checkScreen)
	cmd := d.m.tryOut()
	over := make(chan any, 1)
	go func() { over <- cmd() }()
	d.m.handle(tryoutMsg{of: d.m.over.tryout, begun: drill.PartEtcd})
	if view := d.view(); !strings.Contains(view, "starting etcd, 0") {
		t.Error(view)
	}
	d.key("enter") // is nobody's while it runs
	d.see("starting etcd")
	d.key("esc")
	<-ended
	d.update(<-over)
	d.see("try it first")
	if d.m.over != nil {
		t.Error("it is still there")
	}
}
