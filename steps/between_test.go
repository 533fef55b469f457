package steps

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/etcd/server/v3/storage/wal/walpb"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"

	"etcd-rewind/manifest"
	"etcd-rewind/problem"
)

// The old data is there when the undo begins, and not any more when etcd is
// about to start on it: no blank cluster boots, and the restored one can be had
// again.
func TestOldDataThatVanishesWhileAnUndoRunsBootsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := restored(t, false)
		p := n.undo()
		asked := ""
		e, _ := n.engine(func(f Failure) Choice { asked = f.Cause; return Leave })
		sink := e.Sink
		e.Sink = func(ev Event) {
			sink(ev)
			if a := p.action(ev.Action); ev.Type == TypeAction && ev.State == Started && a != nil {
				if in, ok := a.Action.(*PutIn); ok && in.Etcd {
					if err := os.Rename(n.oldData(), n.oldData()+".aside"); err != nil {
						t.Error(err)
					}
				}
			}
		}
		if res := e.Run(t.Context(), p); res.OK || !strings.Contains(asked, "isn't in "+n.oldData()+" any more") {
			t.Fatalf("%+v, asked %q", res, asked)
		}
		for _, path := range []string{n.oldData(), filepath.Join(n.root, "manifests/etcd.yaml")} {
			if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s is there (%v)", path, err)
			}
		}
		e.Sink = sink
		redo, err := NewRedo(n.stateDir(), "", Terms{})
		if err != nil {
			t.Fatal(err)
		}
		if res := e.Run(t.Context(), redo); !res.OK || !n.runsRestored() {
			t.Fatalf("%+v", res.Error)
		}
	})
}

// A copy of the same cluster that was made earlier is not what the run left.
// Data that was moved away and back is.
func TestAnOlderCopyOfTheOldDataIsOverriddenByName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := restored(t, false)
		db := filepath.Join(n.oldData(), "member/snap/db")
		data, err := os.ReadFile(db)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(db, db+".aside"); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(db, data, 0o600); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(db + ".aside")
		if err != nil {
			t.Fatal(err)
		}
		old := info.ModTime().Add(-72 * time.Hour)
		if err := os.Chtimes(db, old, old); err != nil {
			t.Fatal(err)
		}
		if err := n.undo().Allowed(t.Context()); err == nil || !strings.Contains(err.Error(), "is older than what the run left") {
			t.Errorf("an older copy: %v", err)
		}
		p, err := NewUndo(n.stateDir(), "", Terms{Accept: []string{checkOldData}})
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Allowed(t.Context()); err != nil {
			t.Errorf("overridden by name: %v", err)
		}
		if err := os.Rename(db+".aside", db); err != nil {
			t.Fatal(err)
		}
		if err := n.undo().Allowed(t.Context()); err != nil {
			t.Errorf("the file itself: %v", err)
		}
	})
}

// Whatever its date is, and although its IDs are the same: what the WAL has
// committed never becomes less.
func TestACopyOfOlderDataIsToldByItsWAL(t *testing.T) {
	n := newFakeNode(t)
	copied := filepath.Join(n.root, "copied")
	committed(t, filepath.Join(n.oldData(), "member/wal"), 300)
	if err := os.CopyFS(copied, os.DirFS(n.oldData())); err != nil {
		t.Fatal(err)
	}
	committed(t, filepath.Join(n.oldData(), "member/wal"), 500)
	e, _ := n.engine(nil)
	if res := e.Run(t.Context(), n.plan(Choices{})); !res.OK {
		t.Fatalf("%+v", res.Error)
	}
	if err := n.undo().Allowed(t.Context()); err != nil {
		t.Fatalf("the data itself: %v", err)
	}
	if err := os.Rename(n.oldData(), n.oldData()+".aside"); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(n.oldData(), os.DirFS(copied)); err != nil { // with the date of now
		t.Fatal(err)
	}
	if err := n.undo().Allowed(t.Context()); err == nil || !strings.Contains(err.Error(), "WAL ends at index 300, and not at 500 or later") {
		t.Errorf("a copy that was made before the run: %v", err)
	}
	p, err := NewUndo(n.stateDir(), "", Terms{Accept: []string{checkOldData}})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Allowed(t.Context()); err != nil {
		t.Errorf("overridden by name: %v", err)
	}
}

// committed adds to a WAL that raft has committed so much.
func committed(t *testing.T, dir string, index uint64) {
	t.Helper()
	w, err := wal.Open(zap.NewNop(), dir, &walpb.Snapshot{})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := w.ReadAll(); err != nil {
		t.Fatal(err)
	}
	term := uint64(2)
	if err := errors.Join(w.Save(&raftpb.HardState{Term: &term, Commit: &index}, nil), w.Close()); err != nil {
		t.Fatal(err)
	}
}

// A node that goes to the restored data alone has no quorum there: a run of
// several nodes is redone on all of them, and that is what is advised. In a
// conductor's hands a node does what it does alone, also when a redo was interrupted.
func TestARedoOfARunOfSeveralNodesIsLed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newFakeNode(t)
		p := n.plan(Choices{Fleet: &Fleet{Run: "20261120-212605", Token: "t", Members: []manifest.Member{{Name: "cp1", PeerURLs: []string{"https://10.77.0.11:2380"}}}}})
		e, _ := n.engine(nil)
		if res := e.Run(t.Context(), p); !res.OK {
			t.Fatal(res.Error)
		}
		undo := n.undo()
		if undo.redo != "redo --fleet" {
			t.Errorf("%q is advised", undo.redo)
		}
		if res := e.Run(t.Context(), undo); !res.OK {
			t.Fatal(res.Error)
		}
		_, err := NewRedo(n.stateDir(), "", Terms{})
		cause, hint := problem.Explain(err)
		if !strings.Contains(cause, "was made on several nodes") || !strings.Contains(hint, "redo --fleet "+p.Run) {
			t.Errorf("%q, hint %q", cause, hint)
		}
		stop, cancel := context.WithCancel(t.Context())
		e.Barrier = func(_ context.Context, at Phase, _ func([]Sighting)) error {
			if at == PhaseEtcdOut {
				cancel()
			}
			return nil
		}
		for _, ctx := range []context.Context{stop, t.Context()} {
			redo, err := NewRedo(n.stateDir(), "", Terms{Fleet: true})
			if err != nil {
				t.Fatal(err)
			}
			if res := e.Run(ctx, redo); res.OK != (ctx != stop) {
				t.Fatalf("%+v", res)
			}
		}
		if !n.runsRestored() {
			t.Error("the node isn't on the restored data")
		}
		if _, err := NewRedo(n.stateDir(), p.Run, Terms{Fleet: true}); err == nil || !strings.Contains(err.Error(), "was not undone: it is restored") {
			t.Error(err)
		}
	})
}

// One node of several whose undo is blocked blocks all of them: the error names
// the node, and no node is touched.
func TestOneBlockedNodeBlocksTheUndoOfAll(t *testing.T) {
	good, bad := restored(t, false), restored(t, false)
	if err := os.Rename(bad.oldData(), bad.oldData()+".aside"); err != nil {
		t.Fatal(err)
	}
	plans := []*Plan{good.undo(), nil, bad.undo()} // of one that can't be reached there is none
	plans[2].Node = "cp3"
	err := Blocked(t.Context(), plans)
	cause, hint := problem.Explain(err)
	if !strings.HasPrefix(cause, "cp3: the old data isn't in ") || hint == "" {
		t.Errorf("%q, hint %q", cause, hint)
	}
	if !good.runsRestored() || !bad.runsRestored() {
		t.Error("a node was touched")
	}
	if err := Blocked(t.Context(), plans[:2]); err != nil {
		t.Errorf("without that node: %v", err)
	}
}
