package ui

import (
	"context"
	"errors"
	"strings"
	"testing"

	"etcd-rewind/snapshot"
	"etcd-rewind/steps"
	"etcd-rewind/ui/text"
)

// comparing is a backend that can compare.
type comparing struct {
	*fake
	result   *snapshot.Comparison
	err      error
	compared int
}

func (c *comparing) Compare(_ context.Context, _ *steps.Facts, _ *snapshot.Info, _ snapshot.CompareOptions, progress func(snapshot.Progress)) (*snapshot.Comparison, error) {
	c.compared++
	progress(snapshot.Progress{Phase: "snapshot", Done: 50, Total: 100})
	return c.result, c.err
}

func driveComparing(t testing.TB, c *comparing) *driver {
	t.Helper()
	c.fake = newFake()
	d := drive(t, c.fake, Options{})
	d.m.backend, d.m.options.skipDiff = c, false
	d.to(chooseScreen)
	d.key("enter")
	return d
}

func TestTheComparisonComesBetweenChoosingAndChecking(t *testing.T) {
	c := &comparing{result: someComparison()}
	d := driveComparing(t, c)
	d.see("one cluster; the cluster is 68 revisions further", "The restore re-creates 5 objects", "Namespace shop with 3 objects", "▸ snapshot")
	d.dontSee("Secret shop/s1")
	d.key("space")
	d.see("Secret shop/s1")
	d.key("space")
	d.dontSee("Secret shop/s1")
	d.key("j", "j", "j", "j", "j", "j", "j", "j", "f")
	d.see("spec.replicas 5 → 2")
	d.key("enter")
	d.see("checks")
	if d.m.screen != checkScreen || !strings.Contains(d.view(), "68 revisions") {
		t.Errorf("the lineage isn't among the checks:\n%s", d.view())
	}
	d.key("enter")
	found := false
	for _, f := range d.m.plan.Plan.Summary {
		found = found || f.Value == "re-creates 5, deletes 5, reverts 3 objects"
	}
	if !found {
		t.Errorf("the plan lacks the summary: %+v", d.m.plan.Plan.Summary)
	}
	if c.compared != 1 {
		t.Errorf("compared %d times", c.compared)
	}
}

func TestAComparisonThatFailsIsNoReasonToStop(t *testing.T) {
	d := driveComparing(t, &comparing{err: errors.New("connection refused")})
	d.see("The snapshot can't be compared with the cluster", "connection refused")
	d.key("enter")
	if d.m.screen != checkScreen {
		t.Error(d.view())
	}
}

func TestAnotherClustersSnapshotIsAnErrorAmongTheChecks(t *testing.T) {
	c := &comparing{result: someComparison()}
	c.result.Lineage = snapshot.Lineage{Relation: snapshot.OtherCluster, Cause: "another cluster: kube-system is 1 and 2"}
	d := driveComparing(t, c)
	d.see("✗ another cluster")
	d.key("enter")
	d.see("another cluster: kube-system", "1 to fix or override")
}

func TestComparisonOnAllSizes(t *testing.T) {
	d := driveComparing(t, &comparing{result: someComparison()})
	for w := minWidth; w < 130; w += 9 {
		for h := minHeight; h < 50; h += 7 {
			d.size(w, h)
			lines := strings.Split(d.view(), "\n")
			if len(lines) != h {
				t.Fatalf("%d lines, want %d", len(lines), h)
			}
			for _, l := range lines {
				if text.Width(l) != w {
					t.Fatalf("%d×%d: a line of %d: %q", w, h, text.Width(l), l)
				}
			}
		}
	}
	d.m.diff.Busy, d.m.diff.Phase = true, snapshot.Progress{Phase: "other", Done: 50, Total: 100}
	d.see("Comparing the snapshot with the cluster", "reading the cluster", "50 %")
}
