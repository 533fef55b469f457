//go:build e2e && linux

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// grace is kubelet's grace period, in seconds. The strict numbers are the benchmark's
// business; a restore that takes longer than this on an idle machine has gone
// kubelet's slow ways.
const grace = 30

func TestARestoreBringsTheSnapshotBack(t *testing.T) {
	begin(t)
	s := aStory(t)
	old := dataDir(t)
	// An owner and a mode that nobody gets by accident.
	if err := os.Chown(node.HostPath(old), 0, 4321); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(node.HostPath(old), 0o710); err != nil {
		t.Fatal(err)
	}

	var stopped picture // the old data, once its etcd has ended
	o := call{
		args: []string{"restore", s.snapshot, "--yes", "--output", "json"},
		on: func(e event, _ process) {
			if e.Action == "stop-etcd.2" && e.State == "done" {
				stopped = pictureOf(t, old)
			}
		},
	}.run(t)
	result := o.succeeded(t)
	s.isThen(t)

	t.Logf("the API was down for %.1f s; all took %.1f s", result.Outage, o.took.Seconds())
	if result.Outage <= 0 || result.Outage >= grace*busyness() {
		t.Errorf("the API was down for %.1f s, want less than kubelet's grace period of %d s", result.Outage, grace)
	}
	if result.Run == "" || result.Undo != "etcd-rewind undo "+result.Run {
		t.Errorf("run %q, to be undone by %q", result.Run, result.Undo)
	}
	if !regexp.MustCompile(`^/var/lib/etcd-\d{8}-\d{6}$`).MatchString(result.DataDir) || result.DataDir != dataDir(t) {
		t.Errorf("the result names the data directory %s, etcd.yaml %s", result.DataDir, dataDir(t))
	}
	if now := etcdNow(t).Revision; result.Rev <= s.revision || now < result.Rev {
		t.Errorf("the revision was %d before, is restored as %d, and is %d now", s.revision, result.Rev, now)
	}
	var is syscall.Stat_t
	if err := syscall.Stat(node.HostPath(result.DataDir), &is); err != nil || is.Uid != 0 || is.Gid != 4321 || is.Mode&0o777 != 0o710 {
		t.Errorf("the new data directory: %v, owner %d:%d, mode %o; want the old one's 0:4321 and 710", err, is.Uid, is.Gid, is.Mode&0o777)
	}
	if stopped == nil {
		t.Error("no action stop-etcd.2 was seen")
	}
	same(t, "the old data directory was touched", stopped, pictureOf(t, old))
	if text, err := os.ReadFile(node.HostPath(result.Report)); err != nil || !strings.Contains(string(text), result.Undo) {
		t.Errorf("the report doesn't tell the way back: %v\n%s", err, text)
	}

	// The controllers live: somebody makes a ReplicaSet of a new Deployment.
	kubectl(t, "create", "deployment", "after", "--namespace=default", "--image=example.com/after")
	kubectl(t, "wait", "deployment/after", "--namespace=default", "--for=jsonpath={.status.unavailableReplicas}=1", "--timeout=240s")

	t.Run("and once more right after", func(t *testing.T) {
		s := aStory(t)
		again := restore(t, s.snapshot)
		s.isThen(t)
		t.Logf("the API was down for %.1f s", again.Outage)
		if filepath.Dir(again.DataDir) != "/var/lib" || strings.Count(filepath.Base(again.DataDir), "-") != 2 {
			t.Errorf("the data directory is %s: not named from the same base as %s", again.DataDir, result.DataDir)
		}
		if again.Rev <= s.revision {
			t.Errorf("the revision was %d before and is restored as %d", s.revision, again.Rev)
		}
	})
}

func TestUndoAfterSuccess(t *testing.T) {
	begin(t)
	s := aStory(t)
	before, old := pictureOf(t, manifests), dataDir(t)

	restored := restore(t, s.snapshot)
	s.isThen(t)
	if text := run(t, "runs").stdout; !strings.Contains(text, restored.Run) || !strings.Contains(text, "restored") {
		t.Errorf("etcd-rewind runs doesn't show the run %s as restored:\n%s", restored.Run, text)
	}

	// The manifests are byte for byte those whose containers were ended a
	// moment ago. Kubelet's crash back-off begins at 10 s and doubles.
	began := time.Now()
	undo(t)
	if took := time.Since(began); took.Seconds() > 40*busyness() {
		t.Errorf("undo took %.1f s: kubelet backs off", took.Seconds())
	}
	s.isNow(t)
	same(t, "undo is not byte for byte", before, pictureOf(t, manifests))
	if now := dataDir(t); now != old {
		t.Errorf("etcd's data is at %s, was at %s", now, old)
	}
	kubeletFollows(t)
	if text := run(t, "runs").stdout; !strings.Contains(text, "undone") {
		t.Errorf("etcd-rewind runs doesn't show the run %s as undone:\n%s", restored.Run, text)
	}

	node := wholeNode(t)
	for _, args := range [][]string{{"undo", "--yes"}, {"undo", restored.Run, "--yes"}} {
		if o := run(t, args...); o.code != 4 || !strings.Contains(o.stdout+o.stderr, "to undo") {
			t.Errorf("%v once more: exit status %d, want 4 and that there is nothing to undo", args, o.code)
		}
	}
	same(t, "an undo of nothing has changed the node", node, wholeNode(t))

	// The way back is the way forward: the run can be made again.
	restore(t, s.snapshot)
	s.isThen(t)
}

// kubeletFollows fails unless kubelet sees what is new in the API. One that waits for
// revisions that an undo has taken back starts no pod for minutes, and the API lacks
// the static pods that have started since.
func kubeletFollows(t *testing.T) {
	t.Helper()
	stories++
	name, began := fmt.Sprintf("new-%d", stories), time.Now()
	podOn(t, node, name)
	kubectl(t, "delete", "pod", name, "--namespace=default", "--grace-period=1") // its container is gone, too, before a picture of the node is taken
	for _, static := range []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler"} {
		eventually(t, static+" to be in the API", func() bool {
			_, err := node.Kubectl(t.Context(), "get", "pod", static+"-"+node.Hostname, "--namespace=kube-system")
			return err == nil
		})
	}
	if took := time.Since(began); took.Seconds() > 60*busyness() {
		t.Errorf("kubelet has followed the API after %.1f s", took.Seconds())
	}
}
