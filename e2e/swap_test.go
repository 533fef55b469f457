//go:build e2e && linux

package e2e

import (
	"os"
	"strings"
	"testing"
)

// A swap keeps the path of etcd's data: no file names another, kubeadm has nothing
// to learn and renders etcd onto the restored data, and the undo has the old data
// at its path, byte for byte.
func TestASwapKeepsThePathOfTheData(t *testing.T) {
	begin(t)
	s := aStory(t)
	path, knew := dataDir(t), kubeadmDataDir(t)
	before := etcdNow(t).ClusterID

	var aside string
	var renamed picture // the old data, as soon as it is aside
	o := call{
		args: []string{"restore", s.snapshot, "--swap", "--yes", "--output", "json"},
		on: func(e event, _ process) {
			if e.Action == "start-etcd.1" && e.State == "done" {
				aside, _, _ = strings.Cut(strings.TrimPrefix(e.Message, "Rename the old data to "), ", and ")
				renamed = pictureOf(t, aside)
			}
		},
	}.run(t)
	result := o.succeeded(t)
	s.isThen(t)
	t.Logf("the API was down for %.1f s", result.Outage)
	if result.Outage <= 0 || result.Outage >= grace*busyness() {
		t.Errorf("the API was down for %.1f s, want less than kubelet's grace period of %d s", result.Outage, grace)
	}
	if now := dataDir(t); now != path || result.DataDir != path {
		t.Errorf("etcd.yaml names %s, the result %s, want %s as before", now, result.DataDir, path)
	}
	if now := kubeadmDataDir(t); now != knew {
		t.Errorf("kubeadm-config names %s, and named %s", now, knew)
	}
	if aside != path+"-before-"+result.Run || len(renamed) < 5 {
		t.Errorf("the old data is in %q: %v", aside, renamed)
	}
	same(t, "the old data was touched", renamed, pictureOf(t, aside))

	undo(t)
	s.isNow(t)
	if now := etcdNow(t).ClusterID; now != before {
		t.Errorf("after the undo etcd serves cluster %x, not %x", now, before)
	}
	if _, err := os.Stat(node.HostPath(aside)); !os.IsNotExist(err) {
		t.Errorf("the old data is still aside: %v", err)
	}

	s = aStory(t)
	restore(t, s.snapshot, "--swap")
	s.isThen(t)
	restored := etcdNow(t).ClusterID
	etcdPhase(t)
	if now := etcdNow(t).ClusterID; now != restored {
		t.Errorf("kubeadm has started etcd on another cluster's data: %x, not %x", now, restored)
	}
	s.isThen(t)
}
