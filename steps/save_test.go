package steps

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"etcd-rewind/snapshot"
)

// slowDisk is a world in which a snapshot and a restore take their time.
type slowDisk struct {
	world
	save, restore time.Duration
	saving        int
}

func (d *slowDisk) Save(ctx context.Context, q snapshot.SaveRequest) (*snapshot.Info, error) {
	d.saving++
	defer func() { d.saving-- }()
	q.Progress(snapshot.Progress{Phase: "save", Done: 1, Total: 2})
	select {
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-time.After(d.save):
	}
	return d.world.Save(ctx, q)
}

func (d *slowDisk) Restore(ctx context.Context, q snapshot.RestoreRequest, from *snapshot.Staged, progress func(snapshot.Progress)) (*snapshot.Restored, error) {
	select {
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-time.After(d.restore):
	}
	return d.world.Restore(ctx, q, from, progress)
}

// A snapshot of the state that is left costs no time beside the staging, and
// what is begun beside it doesn't outlive the run.
func TestTheStateThatIsLeftIsSavedBesideTheStaging(t *testing.T) {
	begin := func(t *testing.T, c Choices, d *slowDisk) (*fakeNode, *Engine, *Plan) {
		n := newFakeNode(t)
		e, _ := n.engine(nil)
		d.world = n
		e.world = d
		return n, e, n.plan(c)
	}
	saved := func(n *fakeNode, p *Plan) bool {
		_, err := os.Stat(filepath.Join(n.root, "lib", snapshot.SafetyCopy(p.Run)))
		return err == nil
	}
	t.Run("the longer of the two is waited for", inFakeTime(func(t *testing.T) {
		d := &slowDisk{save: 600 * time.Millisecond, restore: 500 * time.Millisecond}
		n, e, p := begin(t, Choices{}, d)
		begun := time.Now()
		res := e.Run(t.Context(), p)
		if took := time.Since(begun); !res.OK || !saved(n, p) || took > time.Second {
			t.Errorf("%v, saved %v, after %s", res.Error, saved(n, p), took)
		}
	}))
	// It was copied before: to stage it takes no time.
	path := filepath.Join(t.TempDir(), "monday.db")
	if _, err := gunzip("../snapshot/testdata/before.db.gz", path); err != nil {
		t.Fatal(err)
	}
	_, copied, err := snapshot.InspectAndCopy(t.Context(), path, t.TempDir(), 0, nil)
	if err != nil || copied == nil {
		t.Fatal(copied, err)
	}
	copied.Took = time.Second
	t.Run("as long as the staging would have taken without a copy", inFakeTime(func(t *testing.T) {
		d := &slowDisk{save: 600 * time.Millisecond}
		n, e, p := begin(t, Choices{}, d)
		var session Session
		e.staged = session.staged
		for a := range p.actions() {
			if st, ok := a.Action.(*Stage); ok {
				session.files.copied(copied, st.Request.Snapshot)
			}
		}
		defer func() { _ = session.Close() }()
		if res := e.Run(t.Context(), p); !res.OK || !saved(n, p) {
			t.Errorf("%v, saved %v", res.Error, saved(n, p))
		}
	}))
	t.Run("but not for longer than the staging took", inFakeTime(func(t *testing.T) {
		d := &slowDisk{save: time.Hour, restore: 500 * time.Millisecond}
		n, e, p := begin(t, Choices{}, d)
		begun := time.Now()
		res := e.Run(t.Context(), p)
		if took := time.Since(begun); !res.OK || saved(n, p) || took > 2*time.Second || !strings.Contains(fact(res.Summary, "state left behind"), "after the restore was staged") {
			t.Errorf("%v, saved %v, after %s, %+v", res.Error, saved(n, p), took, res.Summary)
		}
	}))
	t.Run("it can be left out", inFakeTime(func(t *testing.T) {
		n, e, p := begin(t, Choices{NoSave: true}, &slowDisk{save: time.Hour})
		if res := e.Run(t.Context(), p); !res.OK || saved(n, p) {
			t.Errorf("%v, saved %v", res.Error, saved(n, p))
		}
		// What was left can be read where it is.
		if runs, err := Runs(n.stateDir()); err != nil || runs[0].Left != filepath.Join(n.root, "lib/etcd/member/snap/db") {
			t.Errorf("%+v, %v", runs, err)
		}
	}))
	t.Run("a run that is stopped leaves it", inFakeTime(func(t *testing.T) {
		d := &slowDisk{save: time.Hour, restore: time.Hour}
		n, e, p := begin(t, Choices{}, d)
		ctx, stop := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer stop()
		e.Ask = func(Failure) Choice { return Leave }
		if res := e.Run(ctx, p); res.OK || saved(n, p) || d.saving != 0 {
			t.Errorf("saved %v, %d still save, %+v", saved(n, p), d.saving, res)
		}
	}))
	t.Run("one that fails blocks nothing", inFakeTime(func(t *testing.T) {
		n, e, p := begin(t, Choices{}, &slowDisk{})
		e.world = failingSave{n}
		res := e.Run(t.Context(), p)
		if !res.OK || fact(res.Summary, "state left behind") == "" {
			t.Errorf("%v, %+v", res.Error, res.Summary)
		}
	}))
}

type failingSave struct{ world }

func (failingSave) Save(context.Context, snapshot.SaveRequest) (*snapshot.Info, error) {
	return nil, errors.New("etcd sends nothing")
}
