//go:build e2e && linux

package disks

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"etcd-rewind/steps"
)

// disk is an ext4 of its own in a file, mounted as Debian mounts its root: an
// error turns it read-only, for files that are open already too.
type disk struct{ image, dir, name string }

func newDisk(t *testing.T, dir string) *disk {
	t.Helper()
	d := &disk{image: filepath.Join(t.TempDir(), "disk"), dir: dir}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(d.image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(d.image, 16<<20); err != nil {
		t.Fatal(err)
	}
	command(t, "mkfs.ext4", "-q", d.image)
	d.mount(t)
	t.Cleanup(func() { d.unmount(t) })
	return d
}

func command(t *testing.T, line ...string) string {
	t.Helper()
	out, err := exec.Command(line[0], line[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(line, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

func (d *disk) mount(t *testing.T) {
	t.Helper()
	command(t, "mount", "-o", "loop,errors=remount-ro", d.image, d.dir)
	d.name = filepath.Base(command(t, "findmnt", "-n", "-o", "SOURCE", d.dir))
}

func (d *disk) unmount(t *testing.T) {
	t.Helper()
	// Whoever reads a file there does so for a moment only.
	var err error
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if err = unix.Unmount(d.dir, 0); err == nil {
			return
		}
	}
	t.Error("unmount:", err)
}

// fails is an error of the disk, as the kernel meets one.
func (d *disk) fails(t *testing.T) {
	t.Helper()
	if err := os.WriteFile("/sys/fs/ext4/"+d.name+"/trigger_fs_error", []byte("an error of this test"), 0); err != nil {
		t.Error(err)
	}
}

// mended is what an administrator does, and systemd at a boot.
func (d *disk) mended(t *testing.T) {
	t.Helper()
	d.unmount(t)
	// It says 1 for an error that it has put right.
	fsck := exec.Command("fsck.ext4", "-p", d.image)
	if out, err := fsck.CombinedOutput(); err != nil && fsck.ProcessState.ExitCode() != 1 {
		t.Fatalf("fsck: %v\n%s", err, out)
	}
	d.mount(t)
}

// The disk of manifests and journal has an error in the middle: nothing can be
// written there any more, the journal neither. Mended, with kubelet started
// again, both ways are open.
func TestADiskWithAnErrorCostsNothing(t *testing.T) {
	for _, at := range []string{"prepare.1", "stop-kube-apiserver.1", "start-etcd.3", "restart-controllers.1"} {
		for _, goOn := range []bool{true, false} {
			name := at + ", then back"
			if goOn {
				name = at + ", then on"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				var d *disk
				g := newGround(t, func(root string) { d = newDisk(t, filepath.Join(root, "etc/kubernetes")) })
				unix.Sync() // all of the node has been there for long
				p := g.plan(t)
				res := g.run(t, p, steps.Unattended, at, func() { d.fails(t) })
				g.told(t, res, fault{cause: "read-only file system", hint: "remount"})
				if res.OK {
					t.Fatal("it is restored, without a journal")
				}
				d.mended(t)
				g.noneLost(t, p)
				g.RestartKubelet() // its watch has gone with the mount
				if r, err := steps.NewResume(g.stateDir(), "", g.terms()); err == nil && goOn {
					if res := g.run(t, r, steps.Unattended, "", nil); !res.OK {
						t.Fatalf("going on failed: %+v", res.Error)
					}
					g.restored(t)
				}
				g.undo(t)
				g.asBefore(t)
			})
		}
	}
}

// etcd doesn't start on the restored data, and the disk is full and stays full:
// an undo in a new process begins and ends all the same.
func TestAnUndoNeedsNoSpace(t *testing.T) {
	g := newGround(t)
	p := g.plan(t)
	leave := func(steps.Failure) steps.Choice { return steps.Leave }
	free := func() {}
	defer func() { free() }()
	// A full disk alone doesn't always stop etcd: its WAL has its space.
	harm := func() {
		if err := os.Truncate(filepath.Join(p.Restore.DataDir, "member/snap/db"), 100); err != nil {
			t.Error(err)
		}
		free = fill(t, string(g.Root))
	}
	if res := g.run(t, p, leave, "start-etcd.2", harm); res.OK {
		t.Fatal("it did not fail")
	}
	g.undo(t)
	g.asBefore(t)
}
