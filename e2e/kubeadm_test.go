//go:build e2e && linux

package e2e

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// kubeadm upgrade writes etcd.yaml again, from the ConfigMap kubeadm-config and
// nothing else, by the phase that is run here. After a restore etcd is still on
// the restored data then, and after the undo on the old.
func TestKubeadmRendersEtcdOntoTheDataThatIsLive(t *testing.T) {
	begin(t)
	s := aStory(t)

	result := restore(t, s.snapshot)
	s.isThen(t)
	restored := etcdNow(t).ClusterID
	etcdPhase(t)
	if now := etcdNow(t).ClusterID; now != restored {
		t.Errorf("kubeadm has started etcd on another cluster's data: %x, not %x", now, restored)
	}
	if now := dataDir(t); now != result.DataDir {
		t.Errorf("kubeadm has started etcd on %s, not on %s", now, result.DataDir)
	}
	s.isThen(t)

	s = aStory(t)
	before := etcdNow(t).ClusterID
	restore(t, s.snapshot)
	s.isThen(t)
	undo(t)
	s.isNow(t)
	etcdPhase(t)
	if now := etcdNow(t).ClusterID; now != before {
		t.Errorf("after the undo kubeadm has started etcd on another cluster's data: %x, not %x", now, before)
	}
	if now := dataDir(t); now != result.DataDir {
		t.Errorf("after the undo kubeadm has started etcd on %s, not on %s", now, result.DataDir)
	}
	s.isNow(t)
}

// etcdPhase renders etcd's manifest as kubeadm upgrade does, and waits until
// etcd answers from what that says.
func etcdPhase(t *testing.T) {
	t.Helper()
	config := kubectl(t, "get", "configmap", "kubeadm-config", "--namespace=kube-system", "--output=jsonpath={.data.ClusterConfiguration}")
	own, err := os.ReadFile(filepath.Join(node.Dir, "kubeadm.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	// Of the node's own configuration the first document: who it is.
	init, _, _ := strings.Cut(string(own), "\n---\n")
	file := pathFor(t, "phase.yaml")
	if err := os.WriteFile(node.HostPath(file), []byte(init+"\n---\n"+config), 0o600); err != nil {
		t.Fatal(err)
	}
	before, was := etcdPodUID(t), readManifests(t)
	if out, err := node.Command(t.Context(), "kubeadm", "init", "phase", "etcd", "local", "--config", file).CombinedOutput(); err != nil {
		t.Fatalf("kubeadm init phase etcd local: %v\n%s", err, out)
	}
	if bytes.Equal(was[manifests+"/etcd.yaml"], readManifests(t)[manifests+"/etcd.yaml"]) {
		return // it has rendered what was there: the same pod
	}
	// kubelet ends the old pod and starts the new one 10 to 15 s later.
	eventually(t, "the etcd that kubeadm has rendered", func() bool {
		uid := etcdPodUID(t)
		return uid != "" && uid != before && apiReady()
	})
}

// kubeadmDataDir is where kubeadm would start etcd.
func kubeadmDataDir(t *testing.T) string {
	t.Helper()
	var c struct {
		Etcd struct{ Local struct{ DataDir string } }
	}
	text := kubectl(t, "get", "configmap", "kubeadm-config", "--namespace=kube-system", "--output=jsonpath={.data.ClusterConfiguration}")
	if err := yaml.Unmarshal([]byte(text), &c); err != nil {
		t.Fatal(err)
	}
	return c.Etcd.Local.DataDir
}

// etcdPodUID is the UID of etcd's running pod, "" when none runs.
func etcdPodUID(t *testing.T) string {
	t.Helper()
	out, err := node.Command(t.Context(), "ctr", "--namespace=k8s.io", "containers", "list", "--quiet").Output()
	if err != nil {
		t.Fatal(err)
	}
	running := map[string]bool{}
	for _, id := range tasks(t) {
		running[id] = true
	}
	for id := range strings.FieldsSeq(string(out)) {
		if !running[id] {
			continue
		}
		if of := labels(t, id); of["io.kubernetes.container.name"] == "etcd" {
			return of["io.kubernetes.pod.uid"]
		}
	}
	return ""
}
