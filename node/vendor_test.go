package node

import (
	"os"
	"path/filepath"
	"testing"
)

func TestAVendorsNodeIsRecognised(t *testing.T) {
	kubeadms := &Kubelet{StaticPodPath: "/etc/kubernetes/manifests", RootDir: "/var/lib/kubelet"}
	for _, tt := range []struct {
		name    string
		mark    string
		kubelet *Kubelet
		want    string
	}{
		{"kubeadm's kubelet", "/etc/kubernetes/manifests", kubeadms, ""},
		{"nothing at all", "/etc", nil, ""},
		{"RKE2 runs a kubelet of its own", "/var/lib/rancher/rke2/agent", &Kubelet{StaticPodPath: "/var/lib/rancher/rke2/agent/pod-manifests"}, "RKE2"},
		{"RKE2 whose kubelet is down", "/var/lib/rancher/rke2/server/db", nil, "RKE2"},
		{"k3s has kubelet in its own process", "/var/lib/rancher/k3s/server/db", nil, "k3s"},
		{"k3s's agent has no etcd", "/var/lib/rancher/k3s/agent", nil, ""},
		{"k3s was here before kubeadm", "/var/lib/rancher/k3s/server/db", kubeadms, ""},
		{"k0s", "/var/lib/k0s/etcd", &Kubelet{StaticPodPath: "/etc/kubernetes/manifests", RootDir: "/var/lib/k0s/kubelet"}, "k0s"},
		{"a controller of k0s has no kubelet", "/var/lib/k0s/etcd", nil, "k0s"},
		{"MicroK8s", "/var/snap/microk8s/current/var/kubernetes/backend", nil, "MicroK8s"},
		{"OpenShift has kubeadm's manifest directory", "/etc/kubernetes/static-pod-resources", kubeadms, "OpenShift"},
		{"Talos, seen from a pod", "/system/state", nil, "Talos"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			if err := os.MkdirAll(filepath.Join(root, tt.mark), 0o700); err != nil {
				t.Fatal(err)
			}
			got := ""
			if v := findVendor(root, tt.kubelet); v != nil {
				got = v.Name
			}
			if got != tt.want {
				t.Errorf("it is taken for %q, not %q", got, tt.want)
			}
		})
	}
}

// Who names a node's files means that node: practice runs on vendors' nodes, too.
func TestANodeThatIsNamedIsNoVendors(t *testing.T) {
	rke2 := &Kubelet{StaticPodPath: "/var/lib/rancher/rke2/agent/pod-manifests"}
	if FindVendor(Options{}, rke2) == nil {
		t.Error("it isn't recognised")
	}
	if v := FindVendor(Options{KubeletConfig: "/tmp/practice/kubelet.yaml"}, rke2); v != nil {
		t.Errorf("it is taken for %s", v.Name)
	}
}
