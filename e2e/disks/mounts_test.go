//go:build e2e && linux

package disks

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"etcd-rewind/steps"
)

// fault is what happens to a node's directories in the middle of a run.
type fault struct {
	name        string
	cause, hint string   // what is said then; cause is a regular expression
	kinds       []string // of the actions that meet it; all that write if empty
	// harm does it and returns what mends it.
	harm func(t *testing.T, g *ground, p *steps.Plan) (mend func())
}

var faults = []fault{
	{"the disk turns read-only", "read-only file system", "remount", nil, func(t *testing.T, g *ground, _ *steps.Plan) func() {
		return bind(t, g.Root.Path("etc/kubernetes"), unix.MS_RDONLY)
	}},
	{"the disk of the data turns read-only", "read-only file system", "read-only", []string{"save", "stage", "rename"}, func(t *testing.T, g *ground, _ *steps.Plan) func() {
		return bind(t, g.Root.Path("var/lib"), unix.MS_RDONLY)
	}},
	// A rename from there to anywhere else is EXDEV from now on.
	{"the manifest directory becomes a mount", "different file systems", "same file system", nil, func(t *testing.T, g *ground, _ *steps.Plan) func() {
		return bind(t, g.Root.Manifests(), 0)
	}},
	{"the permission to write is lost", "permission denied", "check who can", nil, func(t *testing.T, g *ground, p *steps.Plan) func() {
		dirs := []string{g.Root.Manifests(), g.Root.Path("var/lib"), g.stateDir()}
		for _, d := range []string{"", "kept", "new", "aside", "undone"} {
			dirs = append(dirs, filepath.Join(p.RunDir, d))
		}
		change := func(mode os.FileMode) {
			for _, d := range dirs {
				if err := os.Chmod(d, mode); err != nil && !os.IsNotExist(err) {
					t.Error(err)
				}
			}
		}
		change(0o500)
		return func() { change(0o700) }
	}},
}

// bind mounts a directory over itself.
func bind(t *testing.T, dir string, flags uintptr) (unmount func()) {
	if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
		t.Error(err)
		return func() {}
	}
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_BIND|flags, ""); err != nil {
		t.Error(err)
	}
	return func() {
		// What was started meanwhile has files open there.
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	}
}

// withoutOverride calls f on a thread that may do what root may, but for
// ignoring the modes of files and directories.
func withoutOverride(t *testing.T, f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread ends here
		who := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var caps [2]unix.CapUserData
		if err := unix.Capget(&who, &caps[0]); err != nil {
			t.Error(err)
			return
		}
		caps[0].Effective &^= 1<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_DAC_READ_SEARCH
		if err := unix.Capset(&who, &caps[0]); err != nil {
			t.Error(err)
			return
		}
		f()
	}()
	<-done
}

// The same with directories that can't be written to any more.
func TestADirectoryThatCannotBeWrittenToIsNamedAndCostsNothing(t *testing.T) {
	tests := map[string]func(*testing.T, *ground, string){}
	for _, f := range faults {
		tests[f.name] = func(t *testing.T, g *ground, id string) { g.survives(t, id, f) }
	}
	onEachAction(t, tests, func(name string, a steps.Action) bool {
		i := slices.IndexFunc(faults, func(f fault) bool { return f.name == name })
		return writes(a) && (faults[i].kinds == nil || slices.Contains(faults[i].kinds, a.Kind()))
	})
}
