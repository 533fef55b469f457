//go:build e2e && linux

package disks

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// A hardened node has its temporary directory mounted noexec, so nothing that a run
// starts may lie there; and /etc/kubernetes is on a disk of its own, to which
// nothing is moved from etcd's.
func TestARestoreOnAHardenedNode(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("noexec", dir, "tmpfs", unix.MS_NOEXEC, "size=256m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error("unmount:", err)
		}
	})
	t.Setenv("TMPDIR", dir)
	program := filepath.Join(dir, "program")
	if err := os.WriteFile(program, []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := exec.Command(program).Run(); !errors.Is(err, unix.EACCES) {
		t.Fatalf("a program can be run there: %v", err)
	}

	g := newGround(t, func(root string) { tmpfs(t, filepath.Join(root, "etc/kubernetes"), "64m") })
	if res := g.run(t, g.plan(t), nil, "", nil); !res.OK {
		t.Fatal(res.Error)
	}
	g.restored(t)
	g.undo(t)
	g.asBefore(t)
}
