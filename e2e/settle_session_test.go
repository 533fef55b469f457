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
	"testing"

	"etcd-rewind/e2e/cluster"
)

// An old restore by hand left everything: a worker that joined since isn't a node,
// a pod made since runs on without the API, a workload's tokens are refused, an API
// server that is gone has its entry, and kubeadm would start the old data. One
// session of the wizard on the control plane settles all of it, one by one, on
// other nodes over ssh. The command, killed in the middle, goes on where it was;
// what was done is listed; and kubeadm keeps the restored data.
func TestDebtsAreSettledInOneSession(t *testing.T) {
	config := configOf(entryNamed(t, "debts-1.34"))
	config.Name, config.Dir = base+"-session", filepath.Join(logs, "session")
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
	workloadOn(t, w1, "app")
	s := aStory(t)
	w2 := join("w2")
	phantom := podOn(t, w1, "since")
	goOn(t)

	// Without a raised revision, and with kubeadm-config as the snapshot has it.
	result := restore(t, s.snapshot, "--accept", "snapshot-nodes", "--bump-revision", "0")
	s.isThen(t)
	owesAgain := func() {
		setKubeadm(t, result.DataDir, "/var/lib/etcd")
		if _, err := cp.Etcdctl(t.Context(), "put", "/registry/masterleases/10.255.255.9", "stale"); err != nil {
			t.Fatal(err)
		}
	}
	owesAgain()
	// Its account is another now than the one that its token is bound to.
	kubectl(t, "delete", "serviceaccount", "app", "--namespace=default")
	kubectl(t, "create", "serviceaccount", "app", "--namespace=default")

	want := []string{"kubeadm-config kube-system/kubeadm-config", "node-missing w2", "kubelet-pods w1", "token default/deployment/app", "masterlease 10.255.255.9"}
	// The control plane's own kubelet may hear the API or not (docs/after.md).
	owed := slices.DeleteFunc(owedOn(t), func(name string) bool { return name == "kubelet-pods cp1" })
	if !slices.Equal(owed, want) {
		t.Fatalf("the cluster owes\n%s\nwant\n%s", strings.Join(owed, "\n"), strings.Join(want, "\n"))
	}
	settlesInTheWizard(t, []string{
		"kubeadm would start the old data   kube-system/kubeadm-config", "A node isn't in the API   w2",
		"A kubelet doesn't follow the API   w1", "Tokens that the API server rejects   default/deployment/app", "An API server that is gone   10.255.255.9",
	})
	eventually(t, "all to be settled", func() bool { return len(owedOn(t)) == 0 })
	if running, err := w1.Containers(phantom); err != nil || running > 0 {
		t.Errorf("%d containers of the phantom run (%v)", running, err)
	}
	kubectl(t, "get", "node", w2.Hostname)
	isRecorded(t, want)

	// The command is killed while it settles the second.
	owesAgain()
	kubectl(t, "delete", "node", w2.Hostname)
	all := []string{"settle", "--fleet", "--only", "kubeadm-config,node-missing,kubelet-pods,masterlease", "--output", "json"}
	killed := call{args: all, on: func(e event, p process) {
		if e.Type == "settled" {
			eventually(t, "the second to be begun", func() bool { return !recorded(t)["node-missing "+w2.Hostname] })
			_ = p.killAll()
		}
	}}.run(t)
	if killed.code == 0 {
		t.Errorf("it wasn't killed:\n%s", killed.stdout)
	}
	left := owedOn(t)
	if slices.Contains(left, want[0]) || !slices.Contains(left, want[4]) {
		t.Errorf("after a kill the cluster owes %v", left)
	}
	if listed := run(t, "runs").stdout; !strings.Contains(listed, "kubeadm-config kube-system/kubeadm-config: ") || !strings.Contains(listed, "node-missing w2: interrupted") {
		t.Errorf("runs lists\n%s", listed)
	}
	if o := run(t, all...); o.code != 0 {
		t.Fatalf("exit status %d\n%s\n%s", o.code, o.stdout, o.stderr)
	}
	eventually(t, "all to be settled", func() bool { return len(owedOn(t)) == 0 })
	kubectl(t, "get", "node", w2.Hostname)
	if o := run(t, all...); o.code != 0 || strings.Contains(o.stdout, `"type":"settled"`) {
		t.Errorf("it settles again: exit status %d\n%s", o.code, o.stdout)
	}

	// As kubeadm upgrade does it.
	restored := etcdNow(t).ClusterID
	etcdPhase(t)
	if now := etcdNow(t).ClusterID; now != restored {
		t.Errorf("kubeadm has started etcd on another cluster's data: %x, not %x", now, restored)
	}
	s.isThen(t)
	upgradesOntoTheOldData(t, s, result.DataDir)
}

// upgradesOntoTheOldData has kubeadm start the old data, as after a restore by hand:
// settle says so, restarts the API server first, and the restored data is pointed at
// again; then it is moved to the usual path, and kubeadm keeps it.
func upgradesOntoTheOldData(t *testing.T, s story, restoredDir string) {
	t.Helper()
	restored := etcdNow(t).ClusterID
	setKubeadm(t, restoredDir, "/var/lib/etcd")
	etcdPhase(t)
	if now := etcdNow(t).ClusterID; now == restored {
		t.Fatal("kubeadm has kept the restored data: there is nothing to see")
	}
	owes := func() (said []string) {
		o := run(t, "settle", "--output", "json")
		t.Logf("exit status %d\n%s%s", o.code, o.stdout, o.stderr)
		for line := range strings.Lines(o.stdout) {
			var d struct{ Type, Kind, Object string }
			if err := json.Unmarshal([]byte(line), &d); err != nil {
				t.Fatal(err)
			}
			if d.Type == "debt" && d.Kind == "history" {
				said = append(said, d.Object)
			}
		}
		return said
	}
	// The API server runs on, unless kubelet's probes have ended it meanwhile.
	if first := owes(); !slices.Contains(first, "etcd") || len(first) == 2 && first[0] != "kube-apiserver" {
		t.Fatalf("the histories differ, and settle says %v", first)
	}
	if o := run(t, "settle", "--only", "history", "--output", "json"); o.code != 0 && o.code != 4 {
		t.Fatalf("exit status %d\n%s\n%s", o.code, o.stdout, o.stderr)
	}
	s.isNow(t)
	eventually(t, "the API server to have the old data's history", func() bool { return slices.Equal(owes(), []string{"etcd"}) })

	run(t, "repoint", restoredDir, "--yes", "--output", "json").succeeded(t)
	s.isThen(t)
	setKubeadm(t, restoredDir, "/var/lib/etcd")
	run(t, "settle", "--swap", "--yes", "--output", "json").succeeded(t)
	s.isThen(t)
	etcdPhase(t)
	if now := etcdNow(t).ClusterID; now != restored || dataDir(t) != "/var/lib/etcd" {
		t.Errorf("kubeadm has started etcd on cluster %x in %s, not on %x", now, dataDir(t), restored)
	}
	s.isThen(t)
}

// settlesInTheWizard settles all that can be, days later: from the first screen, the
// other nodes asked, each after a question. want are the rows.
func settlesInTheWizard(t *testing.T, want []string) {
	t.Helper()
	w := startWizard(t, tool+`; echo "exit status $?"; exec sleep 600`)
	w.sees("o what is owed")
	w.press("o")
	w.sees("What the cluster still owes", "a ask the other nodes")
	t.Log(w.capture())
	w.press("a")
	screen := ""
	until := func(what string, ok func() bool) {
		t.Helper()
		eventually(t, what, func() bool { screen = w.capture(); return ok() })
	}
	until("the nodes to be asked", func() bool {
		return strings.Contains(screen, "to settle here") && !strings.Contains(screen, "ask the other nodes")
	})
	marked := func() string {
		for line := range strings.Lines(screen) {
			if row, ok := strings.CutPrefix(line, "▸ "); ok {
				return strings.TrimSpace(row)
			}
		}
		return ""
	}
	var rows []string
	for strings.Contains(screen, "to settle here") && len(rows) <= len(want)+1 {
		t.Log(screen)
		row := marked()
		w.press("Enter")
		w.sees("y settle it")
		w.answers("y")
		settled := func() bool { return strings.Contains(strings.ToLower(screen), "settled: ") }
		until("an answer", func() bool { return settled() || strings.Contains(screen, "y yes, do it") })
		if !settled() { // it restarts something
			w.answers("y")
			until("it to be settled", settled)
		}
		if !strings.Contains(screen, "✓ Settled: ") {
			t.Fatalf("%s:\n%s", row, screen)
		}
		t.Log(screen)
		rows = append(rows, strings.TrimPrefix(row, "! "))
		w.press("Enter")
		until("the next", func() bool {
			return !strings.Contains(screen, "to settle here") || !strings.Contains(screen, "✓ Settled: ")
		})
	}
	t.Log(screen)
	rows = slices.DeleteFunc(rows, func(row string) bool { return strings.HasSuffix(row, "   cp1") })
	if !slices.Equal(rows, want) {
		t.Errorf("settled:\n%s\nwant\n%s", strings.Join(rows, "\n"), strings.Join(want, "\n"))
	}
	w.press("q")
	w.sees("exit status 0")
	if left := w.capture("-S", "-"); strings.Count(left, "✓ settled: ") < len(want) {
		t.Errorf("the scrollback doesn't say what was settled:\n%s", left)
	}
}

// workloadOn makes a Deployment of one pod with an account of its own.
func workloadOn(t *testing.T, worker *cluster.Node, name string) {
	t.Helper()
	kubectl(t, "create", "serviceaccount", name, "--namespace=default")
	apply(t, fmt.Sprintf(`{apiVersion: apps/v1, kind: Deployment, metadata: {name: %[1]s, namespace: default}, spec: {selector: {matchLabels: {app: %[1]s}},
  template: {metadata: {labels: {app: %[1]s}}, spec: {hostNetwork: true, serviceAccountName: %[1]s, nodeSelector: {kubernetes.io/hostname: %[2]s},
  terminationGracePeriodSeconds: 1, tolerations: [{operator: Exists}], containers: [{name: c, image: %[3]q}]}}}}`, name, worker.Hostname, imageOn(t, worker)))
	eventually(t, "the workload to run", func() bool {
		return kubectl(t, "get", "pods", "--namespace=default", "--selector=app="+name, "--output=jsonpath={.items[*].status.phase}") == "Running"
	})
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
	done := recorded(t)
	for _, name := range want {
		if !done[name] {
			t.Errorf("the record doesn't say that %s is settled: %v", name, done)
		}
	}
}

// recorded says of each debt in the record whether it is settled.
func recorded(t *testing.T) map[string]bool {
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
	return done
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
