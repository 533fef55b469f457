//go:build e2e && linux

package e2e

import (
	"context"
	"testing"
	"time"

	"etcd-rewind/e2e/cluster"
	"etcd-rewind/e2e/matrix"
	look "etcd-rewind/node"
	"etcd-rewind/practice/conformance"
)

// The practice kubelet and the real one keep the same rules: practice's own
// tests run the same table.
func TestTheRealKubeletKeepsTheRulesThatPracticeTeaches(t *testing.T) {
	e, err := sharedEntry()
	if err != nil {
		t.Fatal(err)
	}
	keepsTheRules(t, e)
}

// keepsTheRules has the node, which an entry of the matrix is, held to the rules: they
// are those of the kubelets of other versions, too. CI leaves out the two that take a
// minute: the shared node of the oldest shows them there.
func keepsTheRules(t *testing.T, e matrix.Entry) {
	begin(t)
	rules := conformance.Run
	if e.InCI() && e.Name != defaultEntry {
		rules = conformance.RunShort
	}
	pki, groups, root := "/etc/kubernetes/pki", node.HostPath("/sys/fs/cgroup"), "/"
	if !e.Systemd {
		groups, root = "/sys/fs/cgroup", node.CgroupRoot
	}
	switch cluster.Layout(e.Layout) {
	case cluster.Minikube:
		pki = "/var/lib/minikube/certs"
	case cluster.Kind:
		root = "/kubelet"
	case cluster.Packages:
	}
	kubelet := &look.Kubelet{RootDir: node.HostPath("/var/lib/kubelet"), CgroupMount: groups, CgroupRoot: root}
	k := conformance.Kubelet{Image: "registry.k8s.io/etcd:" + e.Etcd + "-0", ListsSeldom: e.ListsSeldom()}
	runtime, err := look.Dial(t.Context(), node.HostPath("/run/containerd/containerd.sock"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := runtime.Close(); err != nil {
			t.Error(err)
		}
	})
	k.Manifests, k.NodeName, k.Runtime = node.HostPath(manifests), node.Hostname, runtime
	k.Remains, k.Begun, k.Mirrors, k.Busy = kubelet.Remains, kubelet.PodsBegun, true, busyness
	k.Relists = func(ctx context.Context) (int, error) {
		return look.AskRelists(ctx, look.MetricsConfig{
			URL:    "https://" + node.Address + ":10250/metrics",
			Cert:   node.HostPath(pki + "/apiserver-kubelet-client.crt"),
			Key:    node.HostPath(pki + "/apiserver-kubelet-client.key"),
			Within: 30 * time.Second, // beside other nodes that come up, kubelet takes over a second to answer
		})
	}
	rules(t, k)
}
