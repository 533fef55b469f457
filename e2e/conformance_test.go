//go:build e2e && linux

package e2e

import (
	"context"
	"testing"

	"etcd-rewind/e2e/cluster"
	"etcd-rewind/e2e/matrix"
	look "etcd-rewind/node"
	"etcd-rewind/practice/conformance"
)

// The practice kubelet and the real one keep the same rules: practice's own
// tests run the same table.
func TestTheRealKubeletKeepsTheRulesThatPracticeTeaches(t *testing.T) {
	begin(t)
	keepsTheRules(t, &look.Kubelet{
		RootDir: node.HostPath("/var/lib/kubelet"), CgroupMount: "/sys/fs/cgroup", CgroupRoot: node.CgroupRoot,
	}, "registry.k8s.io/etcd:3.6.10-0", "/etc/kubernetes/pki")
}

// The rules are those of the kubelets of other versions, too.
func keepsTheRulesOnSystemd(t *testing.T, e matrix.Entry) {
	begin(t)
	pki, root := "/etc/kubernetes/pki", "/"
	switch cluster.Layout(e.Layout) {
	case cluster.Minikube:
		pki = "/var/lib/minikube/certs"
	case cluster.Kind:
		root = "/kubelet"
	case cluster.Packages:
	}
	keepsTheRules(t, &look.Kubelet{
		RootDir: node.HostPath("/var/lib/kubelet"), CgroupMount: node.HostPath("/sys/fs/cgroup"), CgroupRoot: root,
	}, "registry.k8s.io/etcd:"+e.Etcd+"-0", pki)
}

func keepsTheRules(t *testing.T, kubelet *look.Kubelet, image, pki string) {
	runtime, err := look.Dial(t.Context(), node.HostPath("/run/containerd/containerd.sock"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := runtime.Close(); err != nil {
			t.Error(err)
		}
	})
	conformance.Run(t, conformance.Kubelet{
		Manifests: node.HostPath(manifests),
		NodeName:  node.Hostname,
		Runtime:   runtime,
		Image:     image,
		Remains:   kubelet.Remains,
		Begun:     kubelet.PodsBegun,
		Mirrors:   true,
		Busy:      busyness,
		Relists: func(ctx context.Context) (int, error) {
			return look.AskRelists(ctx, look.MetricsConfig{
				URL:  "https://" + node.Address + ":10250/metrics",
				Cert: node.HostPath(pki + "/apiserver-kubelet-client.crt"),
				Key:  node.HostPath(pki + "/apiserver-kubelet-client.key"),
			})
		},
	})
}
