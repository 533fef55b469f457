//go:build e2e && linux

package disks

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"etcd-rewind/steps"
)

// The old data is on a disk of its own that is mounted at member. The restore
// wants to be told that the new data may lie elsewhere; the undo leads back to
// that disk, and begins only while it is mounted.
func TestAnUndoToAMemberThatIsAMountOfItsOwn(t *testing.T) {
	g := newGround(t)
	member := g.Root.Path("var/lib/etcd/member")
	g.moveTo(t, member)
	s, f := g.facts(t)
	info, err := s.Inspect(t.Context(), g.snapshot, nil)
	if err != nil {
		t.Fatal(err)
	}
	p, err := s.Plan(f, info, steps.Choices{KubeletRestart: g.restart(), Accept: []string{"target"}})
	if err != nil {
		t.Fatal(err)
	}
	if res := g.run(t, p, steps.Unattended, "", nil); !res.OK {
		t.Fatalf("the restore: %+v", res.Error)
	}
	g.restored(t)
	undo, err := steps.NewUndo(g.stateDir(), "", g.terms())
	if err != nil {
		t.Fatal(err)
	}

	// The disk goes. Below its mount point lies what was moved to it, which is
	// older; then nothing.
	other := t.TempDir()
	if err := unix.Mount(member, other, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(other, unix.MNT_DETACH) })
	if err := unix.Unmount(member, unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	during := g.manifests(t)
	for _, cause := range []string{"is older than what the run left", "isn't in"} {
		if res := g.run(t, undo, steps.Unattended, "", nil); res.ExitCode() != 4 || !strings.Contains(res.Error.Cause, cause) {
			t.Errorf("with the disk gone: %+v, not %q", res.Error, cause)
		}
		if diff := cmp.Diff(during, g.manifests(t)); diff != "" {
			t.Errorf("something was moved:\n%s", diff)
		}
		for _, sub := range []string{"snap", "wal"} {
			if err := os.RemoveAll(filepath.Join(member, sub)); err != nil {
				t.Fatal(err)
			}
		}
	}

	if err := unix.Mount(other, member, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	g.undo(t)
	g.asBefore(t)
}

// moveTo moves what lies at dir to a file system of its own that is mounted
// there, while etcd is stopped.
func (g *ground) moveTo(t *testing.T, dir string) {
	t.Helper()
	file, out, aside := filepath.Join(g.Root.Manifests(), "etcd.yaml"), g.Root.Path("etc/etcd.yaml"), t.TempDir()
	move := func(from, to string) {
		t.Helper()
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	move(file, out)
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		if f, err := os.Open(filepath.Join(dir, "snap", "db")); err == nil {
			free := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil // etcd holds it while it runs
			_ = f.Close()
			if free {
				break
			}
		}
		if time.Now().After(end) {
			t.Fatal("etcd does not stop")
		}
	}
	if err := os.CopyFS(aside, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	tmpfs(t, dir, "256m")
	if err := os.CopyFS(dir, os.DirFS(aside)); err != nil {
		t.Fatal(err)
	}
	move(out, file)
	g.ready(t)
}
