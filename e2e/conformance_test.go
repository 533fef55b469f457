//go:build e2e && linux

package e2e

import (
	"context"
	"testing"

	look "etcd-rewind/node"
	"etcd-rewind/practice/conformance"
)

// The practice kubelet and the real one keep the same rules: practice's own
// tests run the same table.
func TestTheRealKubeletKeepsTheRulesThatPracticeTeaches(t *testing.T) {
	begin(t)
	runtime, err := look.Dial(t.Context(), node.HostPath("/run/containerd/containerd.sock"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := runtime.Close(); err != nil {
			t.Error(err)
		}
	})
	kubelet := &look.Kubelet{RootDir: node.HostPath("/var/lib/kubelet"), CgroupMount: "/sys/fs/cgroup", CgroupRoot: node.CgroupRoot}
	conformance.Run(t, conformance.Kubelet{
		Manifests: node.HostPath(manifests),
		NodeName:  node.Hostname,
		Runtime:   runtime,
		Image:     "registry.k8s.io/etcd:3.6.10-0",
		Remains:   kubelet.Remains,
		Begun:     kubelet.PodsBegun,
		Mirrors:   true,
		Busy:      busyness,
		Relists: func(ctx context.Context) (int, error) {
			return look.AskRelists(ctx, look.MetricsConfig{
				URL:  "https://" + node.Address + ":10250/metrics",
				Cert: node.HostPath("/etc/kubernetes/pki/apiserver-kubelet-client.crt"),
				Key:  node.HostPath("/etc/kubernetes/pki/apiserver-kubelet-client.key"),
			})
		},
	})
}
