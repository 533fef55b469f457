package steps

import (
	"context"
	"errors"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"etcd-rewind/node"
	"etcd-rewind/snapshot"
)

// A disk on which each record of the journal takes seconds makes minutes of
// outage: that is measured beforehand, and leaves nothing behind.
func TestTheJournalsDiskIsMeasured(t *testing.T) {
	n := newFakeNode(t)
	if v := verdictOn(t, n, "journal-disk", nil); v.Cause == "" {
		t.Errorf("%+v", v)
	}
	if _, err := os.Stat(n.stateDir()); err == nil {
		t.Error("a check has made the state directory")
	}
	if v := judgeSync(5*time.Second, "/slow"); v.Level != Warn || !strings.Contains(v.Cause, "3m20s longer") {
		t.Errorf("5 s for a record: %+v", v)
	}
	if v := judgeSync(20*time.Millisecond, "/hdd"); v.Level != Pass {
		t.Errorf("20 ms for a record: %+v", v)
	}
	// The disk that hangs is not waited for.
	hangs := make(chan struct{})
	defer close(hangs)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := measure(ctx, func() (time.Duration, error) { <-hangs; return 0, nil }); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a disk that hangs: %v", err)
	}
	writes := 0
	for _, s := range n.plan(Choices{}).Steps {
		if s.Outage && s.When == "" {
			writes += 2 * len(s.Actions)
		}
	}
	if writes > outageWrites || writes < outageWrites/2 {
		t.Errorf("the outage has %d records, %d are reckoned with", writes, outageWrites)
	}
}

// Near the end of an int64 a bump is refused instead of beginning again below
// zero.
func TestARevisionAtTheEndOfWhatEtcdCountsToIsRefused(t *testing.T) {
	for _, c := range []struct {
		name     string
		revision int64
		bump     uint64
		blocks   bool
	}{
		{"an ordinary one", 500, 1_000_000_000, false},
		{"the snapshot's is at the end", math.MaxInt64 - 5, 0, true},
		{"the sum is beyond", math.MaxInt64 / 2, math.MaxInt64, true},
		{"the bump alone is beyond", 500, math.MaxUint64, true},
		{"below zero", -5, 1, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := &checks{f: &Facts{}, info: &snapshot.Info{Revision: c.revision}, c: Choices{Bump: &c.bump}}
			if v := k.revision(); v.Blocks() != c.blocks || v.Overridable {
				t.Errorf("%+v", v)
			}
		})
	}
}

// However many namespaces a snapshot has, the plan keeps a bounded part of them,
// and says so when it compares.
func TestThePlanKeepsABoundedPartOfTheNames(t *testing.T) {
	n := newFakeNode(t)
	info := *snapshotOfTheTests
	var have []node.Object
	for i := range 10_000 {
		name := "ns-" + strings.Repeat("x", 50) + time.Duration(i).String()
		info.Namespaces = append(info.Namespaces, snapshot.Object{Name: name, UID: "u"})
		have = append(have, node.Object{Name: name, UID: "u"})
	}
	p, err := NewRestore(n.facts(), &info, Choices{})
	if err != nil {
		t.Fatal(err)
	}
	if room := p.room(); room > 2*leastRoom {
		t.Errorf("the journal needs %d bytes", room)
	}
	v := newVerify(n.facts(), &info)
	have = append(have, node.Object{Name: "default", UID: "d"}, node.Object{Name: "shop", UID: "s"})
	is, ok, more := v.compare(v.Namespaces, v.NamespacesTotal, have)
	if !ok || len(more) > 0 || !strings.Contains(is, "500 of the snapshot's 10002 compared") {
		t.Errorf("%s %v %v", is, ok, more)
	}
	if is, ok, _ := v.compare(v.Namespaces, v.NamespacesTotal, have[600:]); ok || !strings.Contains(is, "missing") {
		t.Errorf("%s %v", is, ok)
	}
}
