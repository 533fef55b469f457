//go:build e2e && linux

package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"etcd-rewind/e2e/cluster"
)

// An old restore by hand left everything: a worker that joined since isn't a node,
// a pod made since runs on without the API, an API server that is gone has its
// entry, and kubeadm would start the old data. One session of settle on the
// control plane settles all of it, one by one, on other nodes over ssh. Killed in
// the middle it goes on where it was; what it did is listed; and kubeadm keeps the
// restored data.
func TestDebtsAreSettledInOneSession(t *testing.T) {
	config := cluster.Config{Name: base + "-session", Dir: filepath.Join(logs, "session"), Systemd: true, KubeletVerbosity: 4}
	cp := aControlPlane(t, config)
	join := func(hostname string) *cluster.Node {
		own := config
		own.Name, own.Hostname, own.Dir = config.Name+"-"+hostname, hostname, filepath.Join(config.Dir, hostname)
		n, err := cp.Join(t.Context(), own)
		if err != nil {
			t.Fatal(err)
		}
		// Where it is reached over ssh it has the program, too.
		on(n, func() {
			if err := buildTool(); err != nil {
				t.Fatal(err)
			}
		})
		return n
	}
	w1 := join("w1")
	begin(t)
	s := aStory(t)
	w2 := join("w2")
	phantom := podOn(t, w1, "since")
	goOn(t)

	// Without a raised revision, and with kubeadm-config as the snapshot has it.
	result := restore(t, s.snapshot, "--accept", "snapshot-nodes", "--bump-revision", "0")
	s.isThen(t)
	text := kubectl(t, "get", "configmap", "kubeadm-config", "--namespace=kube-system", "--output=jsonpath={.data.ClusterConfiguration}")
	patch, err := json.Marshal(map[string]any{"data": map[string]string{"ClusterConfiguration": strings.Replace(text, result.DataDir, "/var/lib/etcd", 1)}})
	if err != nil {
		t.Fatal(err)
	}
	kubectl(t, "patch", "configmap", "kubeadm-config", "--namespace=kube-system", "--type=merge", "--patch", string(patch))
	if _, err := cp.Etcdctl(t.Context(), "put", "/registry/masterleases/10.255.255.9", "stale"); err != nil {
		t.Fatal(err)
	}

	want := []string{"kubeadm-config kube-system/kubeadm-config", "node-missing w2", "kubelet-pods w1", "masterlease 10.255.255.9"}
	// The control plane's own kubelet may hear the API or not (docs/after.md).
	owed := slices.DeleteFunc(owedOn(t), func(name string) bool { return name == "kubelet-pods cp1" })
	if !slices.Equal(owed, want) {
		t.Fatalf("the cluster owes\n%s\nwant\n%s", strings.Join(owed, "\n"), strings.Join(want, "\n"))
	}

	// Killed as soon as it has settled two.
	all := []string{"settle", "--fleet", "--only", "kubeadm-config,node-missing,kubelet-pods,masterlease", "--output", "json"}
	settled := 0
	killed := call{args: all, on: func(e event, p *os.Process) {
		if e.Type == "settled" {
			if settled++; settled == 2 {
				_ = syscall.Kill(-p.Pid, syscall.SIGKILL)
			}
		}
	}}.run(t)
	if killed.code == 0 {
		t.Errorf("it wasn't killed:\n%s", killed.stdout)
	}
	left := owedOn(t)
	if slices.Contains(left, want[0]) || slices.Contains(left, want[1]) || !slices.Contains(left, want[3]) {
		t.Errorf("after a kill the cluster owes %v", left)
	}
	if o := run(t, all...); o.code != 0 {
		t.Fatalf("exit status %d\n%s\n%s", o.code, o.stdout, o.stderr)
	}
	eventually(t, "all to be settled", func() bool { return len(owedOn(t)) == 0 })
	if running, err := w1.Containers(phantom); err != nil || running > 0 {
		t.Errorf("%d containers of the phantom run (%v)", running, err)
	}
	kubectl(t, "get", "node", w2.Hostname)
	if o := run(t, all...); o.code != 0 || strings.Contains(o.stdout, `"type":"settled"`) {
		t.Errorf("it settles again: exit status %d\n%s", o.code, o.stdout)
	}
	isRecorded(t, want)

	// As kubeadm upgrade does it.
	restored := etcdNow(t).ClusterID
	etcdPhase(t)
	if now := etcdNow(t).ClusterID; now != restored {
		t.Errorf("kubeadm has started etcd on another cluster's data: %x, not %x", now, restored)
	}
	s.isThen(t)
}

// owedOn is what settle finds that is for it, on this node and over ssh.
func owedOn(t *testing.T) []string {
	t.Helper()
	o := run(t, "settle", "--fleet", "--output", "json")
	if o.code != 0 {
		t.Fatalf("exit status %d\n%s\n%s", o.code, o.stdout, o.stderr)
	}
	var out []string
	for line := range strings.Lines(o.stdout) {
		var d struct {
			Type, Kind, Object string
			Offered            bool
		}
		if err := json.Unmarshal([]byte(line), &d); err != nil {
			t.Fatal(err)
		}
		if name := d.Kind + " " + d.Object; d.Type == "debt" && d.Offered && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

// isRecorded fails unless the record says of each debt that it is settled.
func isRecorded(t *testing.T, want []string) {
	t.Helper()
	file, err := os.Open(node.HostPath(stateDir + "/settled.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	done := map[string]bool{}
	for lines := bufio.NewScanner(file); lines.Scan(); {
		var s struct {
			Kind, Object string
			Done         bool
		}
		if err := json.Unmarshal(lines.Bytes(), &s); err != nil {
			t.Fatal(err)
		}
		done[s.Kind+" "+s.Object] = s.Done
	}
	for _, name := range want {
		if !done[name] {
			t.Errorf("the record doesn't say that %s is settled: %v", name, done)
		}
	}
}

// goOn has the cluster write more than a restored one does while it is looked at:
// a kubelet that waits for a revision waits for all of that time.
func goOn(t *testing.T) {
	t.Helper()
	var many strings.Builder
	for i := range writes {
		fmt.Fprintf(&many, "---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: since-%d, namespace: default}}\n", i)
	}
	apply(t, many.String())
}
