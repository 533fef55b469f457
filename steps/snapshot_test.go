package steps

import (
	"compress/gzip"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"etcd-rewind/snapshot"
)

func TestAnUnpackedSnapshotStaysAsLongAsARunMayNeedIt(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte("as left by a process that was killed"), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	needed, left := path(".etcd-rewind-unpacked-1"), path(".etcd-rewind-unpacked-2")
	f := &Facts{Etcd: &Etcd{}, Unfinished: &RunInfo{file: needed}}
	f.Etcd.DataDir.HostPath = filepath.Join(dir, "etcd")
	var u stagings
	if _, err := u.stage(t.Context(), f, snapshot.File(path("raw.db")), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(needed); err != nil {
		t.Errorf("what an interrupted run restores from: %v", err)
	}
	if _, err := os.Stat(left); err == nil {
		t.Error("what nobody needs is still there")
	}

	n := newFakeNode(t)
	p := n.plan(Choices{})
	p.step("stage").Actions[0].Action.(*Stage).Request.Snapshot = needed
	e, _ := n.engine(nil)
	if res := e.Run(t.Context(), p); !res.OK {
		t.Fatal(res.Error)
	}
	if _, err := os.Stat(needed); err == nil {
		t.Error("after it was restored it is still there")
	}
}

// The live database is damaged, the snapshot is good: the check says which file
// is meant, blocks nothing, and advises no other snapshot.
func TestADamagedLiveDatabaseIsNoFaultOfTheSnapshot(t *testing.T) {
	good, dir := filepath.Join(t.TempDir(), "good.db"), t.TempDir()
	if _, err := gunzip("../snapshot/testdata/before.db.gz", good); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "member", "snap"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "member", "snap", "db"), make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := snapshot.Compare(t.Context(), good, snapshot.Other{DataDir: dir}, snapshot.CompareOptions{}, nil)
	if err == nil {
		t.Fatal("zeros were compared with")
	}
	v := NotCompared(err)
	if len(Blocking([]Verdict{v})) > 0 || !strings.Contains(v.Cause, dir) || strings.Contains(v.Hint, "another snapshot") || v.Hint == "" {
		t.Errorf("%+v", v)
	}
}

func gunzip(from, to string) (int64, error) {
	f, err := os.Open(from)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return 0, err
	}
	out, err := os.Create(to)
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(out, z)
	return n, errors.Join(err, out.Close())
}

// A passphrase file may be a pipe, and its disk may be gone: who waits for it can be
// interrupted, and tries again.
func TestAPassphraseFileIsReadOnceAndItsWaitCanBeInterrupted(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	s := &Session{Options: Options{PassphraseFile: pipe}}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.identities(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("a pipe that nobody writes to: %v", err)
	}
	w, err := os.OpenFile(pipe, os.O_RDWR, 0) // who was left alone gets the first
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := os.Remove(pipe); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(pipe, []byte("correct horse\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if all, err := s.identities(t.Context()); err != nil || len(all) != 1 {
			t.Fatal(all, err)
		}
		_ = os.Remove(pipe)
	}
}

func TestARestoreThatIsTriedAgainUnpacksAgain(t *testing.T) {
	dir := t.TempDir()
	packed, err := filepath.Abs("../snapshot/testdata/before.db.gz")
	if err != nil {
		t.Fatal(err)
	}
	s := &Session{}
	f := &Facts{Etcd: &Etcd{}}
	f.Etcd.DataDir.HostPath = filepath.Join(dir, "etcd")
	s.facts.Store(f)
	t.Cleanup(func() { _ = s.Close() })
	info, err := s.Inspect(t.Context(), packed, nil)
	if err != nil {
		t.Fatal(err)
	}
	planned := info.Path
	for _, try := range []string{"first", "second", "third"} {
		from, err := s.staged(t.Context(), packed, planned, nil)
		if err != nil || from == nil {
			t.Fatal(try, from, err)
		}
		req := snapshot.RestoreRequest{
			Snapshot: from.Path, DataDir: filepath.Join(dir, try), Name: "cp1", PeerURLs: []string{"https://127.0.0.1:2380"}, ExpectSHA256: info.SHA256,
		}
		if _, err := from.Restore(t.Context(), req, nil); err != nil {
			t.Fatal(try, err)
		}
	}
	if from, err := s.staged(t.Context(), packed, filepath.Join(dir, "other.db"), nil); from != nil || err != nil {
		t.Error("a file that was never staged:", from, err)
	}
}

func TestARestoreAtOnceUsesTheCopyOfItsInspection(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "monday.db")
	if _, err := gunzip("../snapshot/testdata/before.db.gz", path); err != nil {
		t.Fatal(err)
	}
	s := &Session{AtOnce: &Choices{}}
	t.Cleanup(func() { _ = s.Close() })
	f := &Facts{Etcd: &Etcd{}}
	f.Etcd.DataDir.HostPath = filepath.Join(dir, "etcd")
	s.facts.Store(f)
	// As it is named in the directory that it lies in; and nobody needs what an
	// earlier look has copied.
	t.Chdir(dir)
	var info *snapshot.Info
	for range 2 {
		var err error
		if info, err = s.Inspect(t.Context(), "monday.db", nil); err != nil {
			t.Fatal(err)
		}
	}
	if info.Path != "monday.db" {
		t.Errorf("the plan would name %s", info.Path)
	}
	if copies, err := filepath.Glob(filepath.Join(dir, ".etcd-rewind-*")); err != nil || len(copies) != 1 {
		t.Errorf("%q, %v", copies, err)
	}
	from, err := s.staged(t.Context(), path, path, nil)
	if err != nil || from == nil || from.Path == path {
		t.Fatal(from, err)
	}
	for _, try := range []string{"first", "second"} {
		from, err := s.staged(t.Context(), path, path, nil)
		if err != nil {
			t.Fatal(try, err)
		}
		req := snapshot.RestoreRequest{
			Snapshot: path, DataDir: filepath.Join(dir, try), Name: "cp1", PeerURLs: []string{"https://127.0.0.1:2380"}, ExpectSHA256: info.SHA256,
		}
		if from != nil {
			req.Snapshot = from.Path
		}
		if _, err := from.Restore(t.Context(), req, nil); err != nil {
			t.Fatal(try, err)
		}
	}
}

// A copy that lies on another disk is copied once more: it is none ahead.
func TestACopyIsMadeOnTheDiskOfTheNewData(t *testing.T) {
	f := &Facts{Etcd: &Etcd{}}
	for _, c := range []struct {
		old     string
		choices Choices
		in      string
	}{
		{"/var/lib/etcd", Choices{}, "/var/lib"},
		{"/var/lib/etcd", Choices{Swap: true}, "/var/lib"},
		{"/var/lib/etcd", Choices{DataDir: "/mnt/fast/etcd"}, "/mnt/fast"},
		{"/proc", Choices{}, "/proc"}, // the root of a file system
	} {
		f.Etcd.DataDir.HostPath = c.old
		f.Etcd.DataDir.Path = c.old
		if in := f.stagedIn(c.choices); in != c.in {
			t.Errorf("%s, %+v: in %s", c.old, c.choices, in)
		}
	}
}

// usingUp is a world that sees what is restored.
type usingUp struct {
	world
	from string
}

func (u *usingUp) Restore(ctx context.Context, q snapshot.RestoreRequest, from *snapshot.Staged, progress func(snapshot.Progress)) (*snapshot.Restored, error) {
	if _, err := os.Stat(q.Snapshot); err != nil {
		return nil, err
	}
	u.from = q.Snapshot
	return u.world.Restore(ctx, q, from, progress)
}

// A run may be resumed by another process than the one that had unpacked the
// snapshot, whose file is removed or used up.
func TestAResumeUnpacksAgain(t *testing.T) {
	inFakeTime(func(t *testing.T) {
		n := newFakeNode(t)
		packed := filepath.Join(t.TempDir(), "monday.db.gz")
		data, err := os.ReadFile("../snapshot/testdata/before.db.gz")
		if err == nil {
			err = os.WriteFile(packed, data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		info := *snapshotOfTheTests
		info.Name, info.Path = packed, filepath.Join(n.root, ".etcd-rewind-unpacked-1")
		p, err := NewRestore(n.facts(), &info, Choices{})
		if err != nil {
			t.Fatal(err)
		}
		var s Session
		defer func() { _ = s.Close() }()
		w := &usingUp{world: n}
		e, _ := n.engine(nil)
		e.world, e.staged = w, s.staged
		if res := e.Run(t.Context(), p); !res.OK || !snapshot.IsStaging(w.from) || w.from == info.Path {
			t.Errorf("%v, restored from %q", res.Error, w.from)
		}
	})(t)
}
