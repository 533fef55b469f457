//go:build e2e && linux

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"etcd-rewind/e2e/cluster"
	"etcd-rewind/e2e/matrix"
)

// What wants a host for itself: reboots, timers, stores that are its units, all of
// it lost; and, on versions and layouts that the shared node isn't, a restore.
func TestOnSystemd(t *testing.T) {
	names := strings.Fields(os.Getenv(entriesVariable))
	if len(names) == 0 {
		names = []string{defaultEntry}
	}
	entries, err := matrix.Named(names...)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		t.Run(e.Name, func(t *testing.T) {
			entryUp(t, e, false)
			if err := buildTool(); err != nil {
				t.Fatal(err)
			}
			t.Run("the node is what the table says", func(t *testing.T) { isTheEntry(t, e) })
			if !e.InCI() { // whose shared nodes have their kubelets
				t.Run("kubelet keeps the rules that the engine stands on", func(t *testing.T) { keepsTheRules(t, e) })
			}
			t.Run("backups by a timer", backupsOnSystemd)
			t.Run("a restore, and its undo", restoreAndUndoOnSystemd)
			t.Run("a kubelet that ignores removed manifests", stuckKubeletOnSystemd)
			if e.Name == entries[0].Name && e.Layout == "" { // it is about the host, and no version
				t.Run("backups in three stores, and everything lost", lostAndRestoredOnSystemd)
			}
		})
	}
}

// entryUp brings up the node of an entry of the matrix for one test, which works on it.
func entryUp(t *testing.T, e matrix.Entry, vm bool) {
	t.Helper()
	began := time.Now()
	config := configOf(e)
	config.Name, config.Hostname = base+"-"+strings.ReplaceAll(e.Name, ".", "-"), e.Hostname()
	config.Dir, config.Progress = filepath.Join(logs, e.Name), os.Stderr
	if config.VM, config.Systemd = vm, e.Systemd || vm; !vm {
		config.Shared = []string{os.TempDir()}
	}
	n, err := cluster.Up(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Down(afterwards(t)); err != nil {
			t.Error(err)
		}
	})
	t.Logf("the node came up in %.1f s", time.Since(began).Seconds())
	use(t, n)
}

// entryNamed is the entry of the matrix with that name.
func entryNamed(t *testing.T, name string) matrix.Entry {
	t.Helper()
	e, err := matrix.One(name)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// configOf is what an entry of the matrix says of a node or of a cluster's, whose
// kubelets log why they don't start a pod.
func configOf(e matrix.Entry) cluster.Config {
	config := cluster.ConfigOf(e)
	config.KubeletVerbosity = 2
	return config
}

// said is what a command line in the node prints.
func said(t *testing.T, command string) string {
	t.Helper()
	out, err := node.Command(t.Context(), "sh", "-c", command).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
	return string(out)
}

func isTheEntry(t *testing.T, e matrix.Entry) {
	for _, version := range []struct{ of, command, want string }{
		{"kubelet", "kubelet --version", "Kubernetes v" + e.Kubernetes},
		{"the API server", "kubectl --kubeconfig /etc/kubernetes/admin.conf version", "Server Version: v" + e.Kubernetes},
		{"containerd", "ctr version | grep -A1 Server", " v" + e.Containerd},
		{"containerd, by kubelet", "kubectl --kubeconfig /etc/kubernetes/admin.conf get nodes -o wide", "containerd://" + e.Containerd},
	} {
		out := said(t, version.command)
		if version.of == "containerd" { // Debian's has no v, and its own suffix
			out, version.want = strings.ReplaceAll(out, " v", " "), " "+e.Containerd
		}
		if !strings.Contains(out, version.want) {
			t.Errorf("%s: %q has no %q", version.of, out, version.want)
		}
	}
	if now := etcdNow(t).Version; now != e.Etcd {
		t.Errorf("etcd is %s, want %s", now, e.Etcd)
	}
	if !e.Systemd {
		return
	}
	// As kubeadm and the packages leave it, or who calls kubeadm.
	wants, slice := []string{"10-kubeadm.conf", "/var/lib/kubelet/kubeadm-flags.env", "cgroupDriver: systemd"}, "kubepods.slice"
	switch cluster.Layout(e.Layout) {
	case cluster.Minikube:
		wants = []string{"/var/lib/minikube/binaries/v" + e.Kubernetes + "/kubelet", "clientCAFile: /var/lib/minikube/certs/ca.crt", "path: /var/lib/minikube/etcd"}
	case cluster.Kind:
		wants, slice = append(wants, "cgroupRoot: /kubelet", "Slice=kubelet.slice"), "kubelet.slice/kubelet-kubepods.slice"
	case cluster.Packages:
	}
	if e.Kubelet != "" {
		wants = append(strings.Split(strings.TrimSpace(e.Kubelet), "\n"), wants[:2]...)
	}
	out := said(t, "systemctl show -p DropInPaths -p EnvironmentFiles -p ExecStart -p Slice -p MainPID kubelet; cat /var/lib/kubelet/config.yaml "+manifests+"/etcd.yaml")
	for _, want := range wants {
		if !strings.Contains(out, want) {
			t.Errorf("kubelet has no %s:\n%s", want, out)
		}
	}
	if out := said(t, "ls -d /sys/fs/cgroup/*/"+slice+"/*/*.slice/cri-containerd-*.scope"); out == "" {
		t.Error("no container is a scope of systemd's")
	}
	isAsAfterInit(t, e)
}

// isAsAfterInit fails when something is missing of what kubeadm init leaves in a
// cluster, but for its addons, which are images that aren't there.
func isAsAfterInit(t *testing.T, e matrix.Entry) {
	t.Helper()
	for namespace, names := range map[string]string{
		"kube-system": "configmap/kubeadm-config configmap/kubelet-config role/kubeadm:kubelet-config role/kubeadm:nodes-kubeadm-config " +
			"rolebinding/kubeadm:kubelet-config rolebinding/kubeadm:nodes-kubeadm-config",
		"kube-public": "configmap/cluster-info role/kubeadm:bootstrap-signer-clusterinfo rolebinding/kubeadm:bootstrap-signer-clusterinfo",
		"default": "clusterrole/kubeadm:get-nodes clusterrolebinding/kubeadm:get-nodes clusterrolebinding/kubeadm:cluster-admins " +
			"clusterrolebinding/kubeadm:kubelet-bootstrap clusterrolebinding/kubeadm:node-autoapprove-bootstrap " +
			"clusterrolebinding/kubeadm:node-autoapprove-certificate-rotation",
	} {
		kubectl(t, append([]string{"get", "--namespace=" + namespace}, strings.Fields(names)...)...)
	}
	if kubeadmDataDir(t) == "" {
		t.Error("kubeadm-config names no directory of etcd's data")
	}
	marks := 2 // a label and a taint
	if cluster.Layout(e.Layout) == cluster.Minikube {
		marks = 1 // its only node has to run all pods
	}
	of := kubectl(t, "get", "node", node.Hostname, "--output=jsonpath={.metadata.labels} {.spec.taints}")
	if strings.Count(of, "node-role.kubernetes.io/control-plane") != marks {
		t.Errorf("the node isn't marked as a control plane: %s", of)
	}
	// kubelet's own certificate, which it renews.
	if text := said(t, "cat /etc/kubernetes/kubelet.conf"); !strings.Contains(text, "client-certificate: /var/lib/kubelet/pki/kubelet-client-current.pem") {
		t.Error("kubelet.conf has the certificate that kubeadm made")
	}
}

func restoreAndUndoOnSystemd(t *testing.T) {
	begin(t)
	s := aStory(t)
	before, old := pictureOf(t, manifests), dataDir(t)

	result := restore(t, s.snapshot)
	s.isThen(t)
	t.Logf("the API was down for %.1f s", result.Outage)
	if result.Outage <= 0 || result.Outage >= grace*busyness() {
		t.Errorf("the API was down for %.1f s, want less than kubelet's grace period of %d s", result.Outage, grace)
	}
	if now := dataDir(t); now != result.DataDir || now == old {
		t.Errorf("etcd's data is at %s, the result says %s, it was at %s", now, result.DataDir, old)
	}
	if now := kubeadmDataDir(t); now != result.DataDir {
		t.Errorf("kubeadm would start etcd on %s, not on %s", now, result.DataDir)
	}

	back := undo(t)
	t.Logf("undone: the API was down for %.1f s", back.Outage)
	s.isNow(t)
	kubeletFollows(t)
	same(t, "undo is not byte for byte", before, pictureOf(t, manifests))
}

// The host is rebooted with a broken etcd, so kubelet has never seen the API.
func stuckKubeletOnSystemd(t *testing.T) {
	begin(t)
	s := aStory(t)
	db := dataDir(t) + "/member/snap/db"
	began := time.Now()
	if err := node.PowerOff(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(node.HostPath(db), []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := node.PowerOn(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Logf("the reboot took %.1f s", time.Since(began).Seconds())
	if err := buildTool(); err != nil {
		t.Fatal(err)
	}
	// Four sandboxes and a container at least: kubelet has taken up its work.
	eventually(t, "kubelet to start the pods", func() bool { return len(tasks(t)) > 4 })
	if apiReady() {
		t.Fatal("the API is ready")
	}
	restarts := strings.Count(said(t, "journalctl --boot -u kubelet --output=cat"), "Started kubelet.service")

	o := run(t, "restore", s.snapshot, "--yes", "--output", "json")
	result := o.succeeded(t)
	s.isThen(t)
	t.Logf("all took %.1f s, %s; the API server was ready %.1f s after its manifest was moved", o.took.Seconds(), o.slowest(), result.Outage)
	let := false
	for _, e := range o.events {
		let = let || e.Step == "let-go" && e.State == "done"
	}
	journal := said(t, "journalctl --boot -u kubelet --output=cat")
	if !let || !strings.Contains(journal, "sources aren't ready yet") {
		t.Error("it wasn't a kubelet that ignores removed manifests, or the step let-go has not run")
	}
	if now := strings.Count(journal, "Started kubelet.service"); now != restarts+1 {
		t.Errorf("systemd has started kubelet %d times more, want once", now-restarts)
	}
}
