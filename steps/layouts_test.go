package steps

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// layouts are what others than kubeadm itself make of kubeadm's manifests, or
// kubeadm of other settings: edits of the manifests of a node of kubeadm 1.34,
// written after the real ones.
var layouts = map[string]struct {
	etcd, api []string // old, new
	more      string   // another static pod
}{
	// minikube has its certificates and etcd's data below /var/lib/minikube, and another port.
	"minikube": {
		etcd: []string{"/etc/kubernetes/pki", "/var/lib/minikube/certs", "=/var/lib/etcd", "=/var/lib/minikube/etcd", "mountPath: /var/lib/etcd", "mountPath: /var/lib/minikube/etcd", "10.77.0.11", "192.168.49.2", "--name=cp1", "--name=minikube", "initial-cluster=cp1", "initial-cluster=minikube"},
		api:  []string{"/etc/kubernetes/pki", "/var/lib/minikube/certs", "secure-port=6443", "secure-port=8443", "containerPort: 6443", "containerPort: 8443", "10.77.0.11:6443", "192.168.49.2:8443", "10.77.0.11", "192.168.49.2"},
	},
	// A node of kind is a container; its address is the bridge's.
	"kind": {
		etcd: []string{"10.77.0.11", "172.18.0.2", "--name=cp1", "--name=kind-control-plane", "initial-cluster=cp1", "initial-cluster=kind-control-plane"},
		api:  []string{"10.77.0.11", "172.18.0.2", "    - --secure-port=6443\n", "    - --runtime-config=\n    - --secure-port=6443\n"},
	},
	// kubespray's etcd_deployment_type: kubeadm.
	"kubespray-stacked": {
		etcd: []string{"/etc/kubernetes/pki", "/etc/kubernetes/ssl", "    - --name=cp1\n", "    - --auto-compaction-retention=8\n    - --election-timeout=5000\n    - --heartbeat-interval=250\n    - --metrics=basic\n    - --name=cp1\n"},
		api:  []string{"/etc/kubernetes/pki", "/etc/kubernetes/ssl", "    - --secure-port=6443\n", "    - '--bind-address=::'\n    - --secure-port=6443\n"},
	},
	// Cluster API's control plane is reached by an address that kube-vip, a static pod beside it, moves around.
	"cluster-api": {
		api: []string{"    - --secure-port=6443\n", "    - --cloud-provider=external\n    - --secure-port=6443\n"},
		more: "apiVersion: v1\nkind: Pod\nmetadata:\n  name: kube-vip\n  namespace: kube-system\nspec:\n  containers:\n" +
			"  - name: kube-vip\n    image: ghcr.io/kube-vip/kube-vip:v0.9.2\n    args: [manager]\n  hostNetwork: true\n",
	},
	// Upgraded from 1.2x: no readiness probe, health by /health, flags of etcd 3.5 with a space or in other places.
	"kubeadm-v1beta3": {
		etcd: []string{"etcd:3.6.10-0", "etcd:3.5.21-0", "--feature-gates=InitialCorruptCheck=true", "--experimental-initial-corrupt-check=true", "--watch-progress-notify-interval", "--experimental-watch-progress-notify-interval", "path: /readyz", "path: /health?exclude=NOSPACE&serializable=true", "port: probe-port", "port: 2381"},
		api:  []string{"v1.34.4", "v1.29.9", "    - --secure-port=6443\n", "    - --secure-port\n    - \"6443\"\n"},
	},
	"ipv6": {
		etcd: []string{"10.77.0.11:", "[fd00:77::11]:", "127.0.0.1:", "[::1]:", "host: 127.0.0.1", "host: ::1"},
		api:  []string{"=10.77.0.11", "=fd00:77::11", "10.77.0.11:6443", "'[fd00:77::11]:6443'", "host: 10.77.0.11", "host: fd00:77::11", "127.0.0.1:2379", "[::1]:2379", "10.96.0.0/12", "fd00:96::/112"},
	},
	"dual-stack": {
		etcd: []string{"    - --listen-client-urls=https://127.0.0.1:2379,", "    - --listen-client-urls=https://127.0.0.1:2379,https://[fd00:77::11]:2379,"},
		api:  []string{"10.96.0.0/12", "10.96.0.0/16,fd00:96::/112"},
	},
	// etcd's member has the host's name, the node one that its cloud gave it (--hostname-override).
	"named-unlike-its-host": {
		etcd: []string{"--name=cp1", "--name=ip-10-77-0-11", "initial-cluster=cp1", "initial-cluster=ip-10-77-0-11"},
	},
	"dots-in-names": {
		etcd: []string{"--name=cp1", "--name=cp1.prod.example.com", "initial-cluster=cp1", "initial-cluster=cp1.prod.example.com", "https://10.77.0.11:2380", "https://cp1.prod.example.com:2380"},
		api:  []string{"etcd-servers=https://127.0.0.1:2379", "etcd-servers=https://localhost:2379"},
	},
}

// Each layout is discovered, planned, restored and reverted. What was read, and
// the plan's commands where they differ from kubeadm's, are kept in
// testdata/layouts.
func TestOtherLayoutsOfKubeadmAreRestoredAlike(t *testing.T) {
	for name, l := range layouts {
		t.Run(name, inFakeTime(func(t *testing.T) {
			n := newFakeNode(t)
			if l.more != "" {
				n.write("manifests/more.yaml", []byte(l.more))
			}
			plain := n.planAt(Choices{})
			n.edit("manifests/etcd.yaml", l.etcd)
			n.edit("manifests/kube-apiserver.yaml", l.api)
			n.until("the control plane runs as that layout has it", func() bool { return n.works(0xaaaa) == nil })
			before := n.picture()

			f := n.facts()
			plan := n.planAt(Choices{})
			n.keptLayout(name, f, plan, plain)

			e, _ := n.engine(nil)
			if res := e.Run(t.Context(), plan); !res.OK {
				t.Fatal(res.Error)
			}
			if res := e.Run(t.Context(), n.undo()); !res.OK {
				t.Fatal(res.Error)
			}
			if after := n.picture(); !maps.Equal(before, after) {
				t.Errorf("the undo left the node otherwise: %v\n%v", before, after)
			}
		}))
	}
}

func (n *fakeNode) edit(name string, edits []string) {
	n.t.Helper()
	data, err := os.ReadFile(filepath.Join(n.root, name))
	if err != nil {
		n.t.Fatal(err)
	}
	text := string(data)
	for i := 0; i < len(edits); i += 2 {
		if !strings.Contains(text, edits[i]) {
			n.t.Fatalf("%s has no %q", name, edits[i])
		}
		text = strings.ReplaceAll(text, edits[i], edits[i+1])
	}
	// kubelet starts no pod with the UID of one that it saw too early.
	file := filepath.Join(n.root, name)
	if err := os.Remove(file); err != nil {
		n.t.Fatal(err)
	}
	pod := strings.TrimSuffix(filepath.Base(name), ".yaml") + "-cp1"
	n.until(pod+" is gone", func() bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		return n.pods[pod] == nil
	})
	n.write(name, []byte(text))
}

// keptLayout compares what was read of a layout, and the plan's commands, with
// the file that keeps them.
func (n *fakeNode) keptLayout(name string, f *Facts, p, plain *Plan) {
	n.t.Helper()
	var got strings.Builder
	e, a := f.Etcd, f.API
	if e == nil || a == nil {
		n.t.Fatalf("etcd: %v, API server: %v", f.EtcdErr, f.APIErr)
	}
	fmt.Fprintf(&got, "member %s, peers %s\n", e.Name, strings.Join(e.AdvertisePeerURLs, " "))
	fmt.Fprintf(&got, "etcd is asked at %s with %s\n", strings.Join(f.Reach.Etcd.Endpoints, " "), f.Reach.Etcd.Cert)
	fmt.Fprintf(&got, "its data: %s, for it %s\n", e.DataDir.HostPath, e.DataDir.Flag)
	fmt.Fprintf(&got, "the API server %s is ready at %s\n\n", a.Version, f.Reach.API.ReadyURL)
	usual := map[string]bool{}
	for _, s := range plain.Steps {
		for _, a := range s.Actions {
			for _, c := range a.Commands() {
				usual[c] = true
			}
		}
	}
	for _, s := range p.Steps {
		fmt.Fprintf(&got, "%s\n", s.Title)
		for _, a := range s.Actions {
			for _, c := range a.Commands() {
				if !usual[c] {
					fmt.Fprintf(&got, "    $ %s\n", c)
				}
			}
		}
	}
	n.compare(filepath.Join("testdata", "layouts", name+".golden"), got.String())
}
