//go:build e2e && linux

package e2e

import (
	"os"
	"strings"
	"syscall"
	"testing"
)

// A restore that was interrupted in the middle is reverted by undo, wherever that
// was, and however it ended: by Ctrl-C, or by a kill that left it no moment to
// write anything down.
func TestUndoFromTheMiddle(t *testing.T) {
	begin(t)
	s := aStory(t)
	before := pictureOf(t, manifests)

	for _, point := range []struct{ name, after string }{
		{"kube-apiserver's manifest is out", "stop-kube-apiserver.1"},
		{"etcd's manifest is out", "stop-etcd.1"},
		{"the data is in place", "start-etcd.1"},
	} {
		t.Run("interrupted when "+point.name, func(t *testing.T) {
			o := s.breakOff(t, point.after, func(p process) error { return p.signal(syscall.SIGINT) })
			if o.code != 3 {
				t.Errorf("exit status %d, want 3", o.code)
			}
			if last := o.last(t); last.OK || last.Error == nil || last.Error.Cause == "" || !strings.Contains(last.Error.Hint+last.Undo, "etcd-rewind undo") {
				t.Errorf("the result doesn't name the way back: %+v", last)
			}
			undo(t)
			s.isNow(t)
			same(t, "undo is not byte for byte", before, pictureOf(t, manifests))
			nothingInItsPlace(t, o.events[len(o.events)-1].Run)
		})
		t.Run("killed when "+point.name, func(t *testing.T) {
			o := s.breakOff(t, point.after, func(p process) error { return p.killAll() })
			if o.code != -1 {
				t.Errorf("exit status %d, want a death by signal", o.code)
			}
			half := pictureOf(t, manifests)
			if o := run(t, "restore", s.snapshot, "--yes"); o.code != 4 || !strings.Contains(o.stdout, "etcd-rewind undo") {
				t.Errorf("a restore of a node that is half-way: exit status %d, want 4 and a hint at undo", o.code)
			}
			same(t, "a restore that was refused has moved a manifest", half, pictureOf(t, manifests))
			if text := run(t, "runs").stdout; !strings.Contains(text, "unfinished") {
				t.Errorf("etcd-rewind runs doesn't show an unfinished run:\n%s", text)
			}
			undo(t)
			s.isNow(t)
			same(t, "undo is not byte for byte", before, pictureOf(t, manifests))
			nothingInItsPlace(t, o.events[len(o.events)-1].Run)
		})
	}

	// Or it is gone on with.
	s.breakOff(t, "stop-etcd.1", func(p process) error { return p.signal(syscall.SIGKILL) })
	o := run(t, "resume", "--yes", "--output", "json")
	o.succeeded(t)
	s.isThen(t)
	t.Logf("resume took %.1f s", o.took.Seconds())
	undo(t)
	s.isNow(t)
	same(t, "undo after resume is not byte for byte", before, pictureOf(t, manifests))
}

// breakOff starts a restore and ends it as soon as an action is done.
func (s story) breakOff(t *testing.T, action string, end func(process) error) outcome {
	t.Helper()
	ended := false
	o := call{
		args: []string{"restore", s.snapshot, "--yes", "--output", "json"},
		on: func(e event, p process) {
			if e.Action == action && e.State == "done" {
				ended = true
				if err := end(p); err != nil {
					t.Error(err)
				}
			}
		},
	}.run(t)
	if !ended {
		t.Fatalf("the restore never came to %s", action)
	}
	return o
}

// nothingInItsPlace fails when a reverted run has left a data directory
// behind where it had put the restored data: kubelet makes an empty one for a
// container that it still starts.
func nothingInItsPlace(t *testing.T, run string) {
	t.Helper()
	if _, err := os.Lstat(node.HostPath("/var/lib/etcd-" + run)); !os.IsNotExist(err) {
		t.Errorf("/var/lib/etcd-%s is there after undo: %v", run, err)
	}
}
