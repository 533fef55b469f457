package steps

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"etcd-rewind/manifest"
	"etcd-rewind/node"
	"etcd-rewind/node/nodetest"
	"etcd-rewind/snapshot"
)

// aLayout is a way of setting a node up, as what differs from a node of kubeadm
// 1.34: edits of its manifests, the kubelet, kubeadm-config. Written after the
// real ones. ROOT stands for the fake node's /.
type aLayout struct {
	node      string   // its name; cp1 when empty
	etcd, api []string // old, new
	more      string   // another static pod
	// kubelet is its command line, without what kubeadm's drop-in gives it. config is
	// its configuration file, files are others, below ROOT/kubelet.
	kubelet, config string
	files           map[string]string
	kubeadm         string // the ClusterConfiguration
	fleet           *Fleet // of which it is one node; nil where it is alone
	otherDisk       bool   // /etc/kubernetes is a link to another disk
}

const (
	overContainerd = "--container-runtime-endpoint=unix:///run/containerd/containerd.sock "
	// what kubeadm init writes of what is read here
	kubeadmsKubelet = "cgroupDriver: systemd\nfileCheckFrequency: 0s\nhealthzBindAddress: 127.0.0.1\nhealthzPort: 10248\nstaticPodPath: ROOT/manifests\n"
)

var (
	minikubesEtcd = []string{"/etc/kubernetes/pki", "/var/lib/minikube/certs", "=/var/lib/etcd", "=/var/lib/minikube/etcd", "mountPath: /var/lib/etcd", "mountPath: /var/lib/minikube/etcd", "10.77.0.11", "192.168.49.2", "--name=cp1", "--name=minikube", "initial-cluster=cp1", "initial-cluster=minikube"}
	minikubesAPI  = []string{"/etc/kubernetes/pki", "/var/lib/minikube/certs", "secure-port=6443", "secure-port=8443", "containerPort: 6443", "containerPort: 8443", "10.77.0.11:6443", "192.168.49.2:8443", "10.77.0.11", "192.168.49.2"}
)

const minikubesKubeadm = "apiVersion: kubeadm.k8s.io/v1beta4\ncertificatesDir: /var/lib/minikube/certs\nclusterName: mk\n" +
	"controlPlaneEndpoint: control-plane.minikube.internal:8443\netcd:\n  local:\n    dataDir: /var/lib/minikube/etcd\nkind: ClusterConfiguration\n"

var layouts = map[string]aLayout{
	// minikube has its certificates and etcd's data below /var/lib/minikube, and another port.
	"minikube": {
		node: "minikube", etcd: minikubesEtcd, api: minikubesAPI, kubeadm: minikubesKubeadm,
		kubelet: "--hostname-override=minikube --node-ip=192.168.49.2",
		config:  kubeadmsKubelet + "authentication: {x509: {clientCAFile: /var/lib/minikube/certs/ca.crt}}\ncontainerRuntimeEndpoint: unix:///run/containerd/containerd.sock\nruntimeRequestTimeout: 15m\n",
	},
	// minikube --container-runtime=docker: cri-dockerd is beside docker.
	"minikube-docker": {
		node: "minikube", etcd: minikubesEtcd, api: minikubesAPI, kubeadm: minikubesKubeadm,
		kubelet: "--hostname-override=minikube --node-ip=192.168.49.2",
		config:  kubeadmsKubelet + "containerRuntimeEndpoint: unix:///var/run/cri-dockerd.sock\nruntimeRequestTimeout: 15m\n",
	},
	// A node of kind is a container; its address is the bridge's.
	"kind": {
		node: "kind-control-plane",
		etcd: []string{"10.77.0.11", "172.18.0.2", "--name=cp1", "--name=kind-control-plane", "initial-cluster=cp1", "initial-cluster=kind-control-plane"},
		api:  []string{"10.77.0.11", "172.18.0.2", "    - --secure-port=6443\n", "    - --runtime-config=\n    - --secure-port=6443\n"},
		kubelet: overContainerd + "--node-ip=172.18.0.2 --node-labels= --pod-infra-container-image=registry.k8s.io/pause:3.10 " +
			"--provider-id=kind://docker/kind/kind-control-plane --runtime-cgroups=/system.slice/containerd.service",
		config: kubeadmsKubelet + "cgroupRoot: /kubelet\nevictionHard: {imagefs.available: 0%, nodefs.available: 0%, nodefs.inodesFree: 0%}\nfailSwapOn: false\n",
		kubeadm: "apiVersion: kubeadm.k8s.io/v1beta4\nclusterName: kind\ncontrolPlaneEndpoint: kind-control-plane:6443\n" +
			"etcd: {local: {dataDir: /var/lib/etcd}}\nkind: ClusterConfiguration\n",
	},
	// The second of three control planes of kind, which kubeadm has joined: kubeconfigs
	// are led to a container with haproxy, whose name no node has.
	"kind-behind-haproxy": {
		node: "kind-control-plane2",
		etcd: []string{
			"10.77.0.11", "172.18.0.4", "--name=cp1", "--name=kind-control-plane2",
			"    - --initial-cluster=cp1=https://172.18.0.4:2380\n", "    - --initial-cluster=kind-control-plane=https://172.18.0.3:2380,kind-control-plane2=https://172.18.0.4:2380\n    - --initial-cluster-state=existing\n",
		},
		api: []string{"10.77.0.11", "172.18.0.4", "    - --secure-port=6443\n", "    - --runtime-config=\n    - --secure-port=6443\n"},
		kubelet: overContainerd + "--node-ip=172.18.0.4 --node-labels= --pod-infra-container-image=registry.k8s.io/pause:3.10 " +
			"--provider-id=kind://docker/kind/kind-control-plane2 --runtime-cgroups=/system.slice/containerd.service",
		config: kubeadmsKubelet + "cgroupRoot: /kubelet\nevictionHard: {imagefs.available: 0%, nodefs.available: 0%, nodefs.inodesFree: 0%}\nfailSwapOn: false\n",
		kubeadm: "apiServer:\n  certSANs: [localhost, 127.0.0.1]\n  extraArgs:\n  - name: runtime-config\n    value: \"\"\napiVersion: kubeadm.k8s.io/v1beta4\nclusterName: kind\n" +
			"controlPlaneEndpoint: kind-external-load-balancer:6443\netcd: {local: {dataDir: /var/lib/etcd}}\nkind: ClusterConfiguration\n",
		fleet: &Fleet{
			Run: "20261120-212605", Token: "of-all",
			Members: []manifest.Member{
				{Name: "kind-control-plane", PeerURLs: []string{"https://172.18.0.3:2380"}},
				{Name: "kind-control-plane2", PeerURLs: []string{"https://172.18.0.4:2380"}},
				{Name: "kind-control-plane3", PeerURLs: []string{"https://172.18.0.5:2380"}},
			},
			Others: []RemoteNode{
				{Name: "kind-control-plane", RemoteConfig: node.RemoteConfig{ReadyURL: "https://172.18.0.3:6443/readyz", PeerURL: "https://172.18.0.3:2380"}},
				{Name: "kind-control-plane3", RemoteConfig: node.RemoteConfig{ReadyURL: "https://172.18.0.5:6443/readyz", PeerURL: "https://172.18.0.5:2380"}},
			},
		},
	},
	// kubespray's etcd_deployment_type: kubeadm.
	"kubespray-stacked": {
		etcd: []string{"/etc/kubernetes/pki", "/etc/kubernetes/ssl", "    - --name=cp1\n", "    - --auto-compaction-retention=8\n    - --election-timeout=5000\n    - --heartbeat-interval=250\n    - --metrics=basic\n    - --name=cp1\n"},
		api:  []string{"/etc/kubernetes/pki", "/etc/kubernetes/ssl", "    - --secure-port=6443\n", "    - '--bind-address=::'\n    - --secure-port=6443\n"},
		kubelet: "--v=2 --node-ip=10.77.0.11 --hostname-override=cp1 --container-runtime-endpoint=unix:///var/run/containerd/containerd.sock " +
			"--runtime-cgroups=/system.slice/containerd.service --config=ROOT/kubelet/kubelet-config.yaml",
		files: map[string]string{"kubelet-config.yaml": "staticPodPath: ROOT/manifests\nauthentication: {anonymous: {enabled: false}}\ncgroupDriver: systemd\nhealthzPort: 10248\nhealthzBindAddress: \"127.0.0.1\"\nkubeletCgroups: /system.slice/kubelet.service\nmaxPods: 110\n"},
		kubeadm: "apiVersion: kubeadm.k8s.io/v1beta4\ncertificatesDir: /etc/kubernetes/ssl\netcd:\n  local:\n    dataDir: \"/var/lib/etcd\"\n    extraArgs:\n    - name: election-timeout\n      value: \"5000\"\n" +
			"    - name: heartbeat-interval\n      value: \"250\"\n    serverCertSANs:\n    - etcd.kube-system.svc.cluster.local\nkind: ClusterConfiguration\n",
	},
	// Cluster API's control plane is reached by an address that kube-vip, a static pod beside it, moves around.
	"cluster-api-vip": {
		api:     []string{"    - --secure-port=6443\n", "    - --cloud-provider=external\n    - --secure-port=6443\n"},
		more:    kubeVIP("10.77.0.100"),
		kubelet: overContainerd + "--cloud-provider=external --node-labels=node-role.example.com/pool=control-plane",
		kubeadm: "apiVersion: kubeadm.k8s.io/v1beta4\napiServer:\n  extraArgs:\n  - name: cloud-provider\n    value: external\ncontrolPlaneEndpoint: 10.77.0.100:6443\netcd:\n  local:\n    dataDir: /var/lib/etcd\nkind: ClusterConfiguration\n",
	},
	// Or by a name, of a load balancer that nothing on the node knows of.
	"cluster-api-dns": {
		api:     []string{"    - --secure-port=6443\n", "    - --cloud-provider=external\n    - --secure-port=6443\n"},
		kubelet: overContainerd + "--cloud-provider=external",
		kubeadm: "apiVersion: kubeadm.k8s.io/v1beta4\napiServer:\n  certSANs: [api.prod.example.com]\ncontrolPlaneEndpoint: api.prod.example.com:6443\netcd:\n  local:\n    dataDir: /var/lib/etcd\nkind: ClusterConfiguration\n",
	},
	// Upgraded from 1.2x: no readiness probe, health by /health, flags of etcd 3.5 with a space or in other places.
	"kubeadm-v1beta3": {
		etcd:    []string{"etcd:3.6.10-0", "etcd:3.5.21-0", "--feature-gates=InitialCorruptCheck=true", "--experimental-initial-corrupt-check=true", "--watch-progress-notify-interval", "--experimental-watch-progress-notify-interval", "path: /readyz", "path: /health?exclude=NOSPACE&serializable=true", "port: probe-port", "port: 2381"},
		api:     []string{"v1.34.4", "v1.29.9", "    - --secure-port=6443\n", "    - --secure-port\n    - \"6443\"\n"},
		kubelet: overContainerd + "--pod-infra-container-image=registry.k8s.io/pause:3.9",
		// Extra arguments are a map.
		kubeadm: "apiServer:\n  extraArgs:\n    authorization-mode: Node,RBAC\n  timeoutForControlPlane: 4m0s\napiVersion: kubeadm.k8s.io/v1beta3\ncertificatesDir: /etc/kubernetes/pki\n" +
			"etcd:\n  local:\n    dataDir: /var/lib/etcd\n    extraArgs:\n      election-timeout: \"5000\"\n      quota-backend-bytes: \"8589934592\"\nkind: ClusterConfiguration\nkubernetesVersion: v1.29.9\n",
	},
	"ipv6": {
		etcd:    []string{"10.77.0.11:", "[fd00:77::11]:", "127.0.0.1:", "[::1]:", "host: 127.0.0.1", "host: ::1"},
		api:     []string{"=10.77.0.11", "=fd00:77::11", "10.77.0.11:6443", "'[fd00:77::11]:6443'", "host: 10.77.0.11", "host: fd00:77::11", "127.0.0.1:2379", "[::1]:2379", "10.96.0.0/12", "fd00:96::/112"},
		kubelet: overContainerd + "--node-ip=fd00:77::11",
		config:  strings.Replace(kubeadmsKubelet, "127.0.0.1", "::1", 1) + "address: \"::\"\nclusterDNS: [\"fd00:96::a\"]\n",
	},
	"dual-stack": {
		etcd:    []string{"    - --listen-client-urls=https://127.0.0.1:2379,", "    - --listen-client-urls=https://127.0.0.1:2379,https://[fd00:77::11]:2379,"},
		api:     []string{"10.96.0.0/12", "10.96.0.0/16,fd00:96::/112"},
		kubelet: overContainerd + "--node-ip=10.77.0.11,fd00:77::11",
	},
	// The node has the name that its cloud gave it, and so has etcd's member; the
	// host has another. Kubelet takes it in small letters.
	"named-unlike-its-host": {
		node:    "ip-10-77-0-11.eu-central-1.compute.internal",
		etcd:    []string{"--name=cp1", "--name=ip-10-77-0-11.eu-central-1.compute.internal", "initial-cluster=cp1", "initial-cluster=ip-10-77-0-11.eu-central-1.compute.internal"},
		kubelet: overContainerd + "--hostname-override=IP-10-77-0-11.eu-central-1.compute.internal",
	},
	// The host's name has dots, which the node's keeps.
	"dots-in-names": {
		node:    "cp1.prod.example.com",
		etcd:    []string{"--name=cp1", "--name=cp1.prod.example.com", "initial-cluster=cp1", "initial-cluster=cp1.prod.example.com", "https://10.77.0.11:2380", "https://cp1.prod.example.com:2380"},
		api:     []string{"etcd-servers=https://127.0.0.1:2379", "etcd-servers=https://localhost:2379"},
		kubelet: overContainerd,
	},
	// What counts is in drop-ins: the last by name wins, null takes back, and a flag
	// goes before all of them.
	"config-dir": {
		kubelet: "--config-dir=ROOT/kubelet/conf.d --node-ip=10.77.0.11",
		config:  "staticPodPath: /nowhere\nhealthzPort: 10999\npodLogsDir: /nowhere/pods\n",
		files: map[string]string{
			"conf.d/10-paths.conf":       "staticPodPath: ROOT/manifests\ncgroupRoot: /machine\n",
			"conf.d/20-sub/30-last.conf": "cgroupRoot: null\nhealthzPort: 10248\n",
			"conf.d/90-runtime.conf":     "containerRuntimeEndpoint: unix:///run/crio/crio.sock\npodLogsDir: null\n",
			"conf.d/99-not-read.yaml":    "staticPodPath: /not/read\n",
		},
	},
	// The directory that kubeadm's and this program's files are below, by a link.
	"kubernetes-on-another-disk": {
		kubelet: overContainerd, config: strings.Replace(kubeadmsKubelet, "ROOT/manifests", "ROOT/kubernetes/manifests", 1), otherDisk: true,
	},
}

func kubeVIP(address string) string {
	return "apiVersion: v1\nkind: Pod\nmetadata:\n  name: kube-vip\n  namespace: kube-system\nspec:\n  containers:\n" +
		"  - name: kube-vip\n    image: ghcr.io/kube-vip/kube-vip:v0.9.2\n    args: [manager]\n    env:\n    - {name: address, value: " + address + "}\n" +
		"    - {name: cp_enable, value: \"true\"}\n    volumeMounts:\n    - {mountPath: /etc/kubernetes/admin.conf, name: kubeconfig}\n" +
		"  hostNetwork: true\n  volumes:\n  - name: kubeconfig\n    hostPath: {path: /etc/kubernetes/super-admin.conf}\n"
}

// settle makes the node one of that layout, and reads its kubelet.
func (l aLayout) settle(n *fakeNode) {
	n.t.Helper()
	if l.otherDisk {
		n.moveToAnotherDisk()
	}
	if l.more != "" {
		n.write("manifests/more.yaml", []byte(l.more))
	}
	n.edit("manifests/etcd.yaml", l.etcd)
	n.edit("manifests/kube-apiserver.yaml", l.api)
	n.kubeadm = l.kubeadm
	const head = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n"
	files := map[string]string{"config.yaml": cmp.Or(l.config, kubeadmsKubelet)}
	maps.Copy(files, l.files)
	for name, text := range files {
		path := filepath.Join(n.root, "kubelet", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			n.t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(head+strings.ReplaceAll(text, "ROOT", n.root)), 0o600); err != nil {
			n.t.Fatal(err)
		}
	}
	flags := "--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf --kubeconfig=/etc/kubernetes/kubelet.conf --config=ROOT/kubelet/config.yaml " + l.kubelet
	proc := filepath.Join(n.root, "proc")
	if err := nodetest.Proc(proc, strings.Fields(strings.ReplaceAll(flags, "ROOT", n.root))...); err != nil {
		n.t.Fatal(err)
	}
	k, err := node.FindKubelet(n.t.Context(), node.Options{Layout: &node.Kubeadm, Proc: proc})
	if err != nil {
		n.t.Fatal(err)
	}
	if k.PID != nodetest.PID {
		n.t.Fatalf("it wasn't read from the process: %+v", k)
	}
	if k.Sources["nodeName"] == "the host's name" {
		k.NodeName = n.name
	}
	n.found = k
	n.until("the control plane runs as that layout has it", func() bool { return n.works(0xaaaa) == nil })
}

// moveToAnotherDisk moves what is below /etc/kubernetes to another file system,
// where the machine has one for all users, and leaves a link.
func (n *fakeNode) moveToAnotherDisk() {
	n.t.Helper()
	disk := n.t.TempDir()
	if other, err := os.MkdirTemp("/dev/shm", "etcd-rewind-layouts-"); err == nil {
		disk = other
		n.t.Cleanup(func() {
			if err := os.RemoveAll(other); err != nil {
				n.t.Error(err)
			}
		})
	}
	n.mu.Lock()
	n.paused = true
	n.mu.Unlock()
	old, at := filepath.Join(n.root, "manifests"), filepath.Join(n.root, "kubernetes/manifests")
	for _, err := range []error{
		os.CopyFS(filepath.Join(disk, "manifests"), os.DirFS(old)), os.RemoveAll(old),
		os.Symlink(disk, filepath.Dir(at)), os.Symlink(at, old),
	} {
		if err != nil {
			n.t.Fatal(err)
		}
	}
	n.mu.Lock()
	n.paused = false
	n.mu.Unlock()
}

// Each layout is discovered, planned, restored and reverted. What was read, and
// the plan's commands where they differ from kubeadm's, are kept in
// testdata/layouts.
func TestOtherLayoutsOfKubeadmAreRestoredAlike(t *testing.T) {
	for name, l := range layouts {
		t.Run(name, inFakeTime(func(t *testing.T) {
			n := newFakeNodeNamed(t, cmp.Or(l.node, "cp1"))
			plain := n.planAt(Choices{})
			l.settle(n)
			before := n.picture()

			f := n.facts()
			f.Time = dayOfThePlans
			info := *snapshotOfTheTests
			info.Nodes, info.Members = []snapshot.Object{{Name: n.name, UID: "n"}}, []snapshot.Member{{ID: 7, Name: n.name}}
			if l.kubeadm != "" {
				info.Kubeadm = &snapshot.Kubeadm{ClusterConfiguration: l.kubeadm}
			}
			plan, err := NewRestore(f, &info, Choices{Fleet: l.fleet})
			if err != nil {
				t.Fatal(err)
			}
			n.keptLayout(name, f, plan, plain)

			e, _ := n.engine(nil)
			e.Barrier = func(context.Context, Phase, func([]Sighting)) error { return nil } // the others are there
			if res := e.Run(t.Context(), plan); !res.OK {
				t.Fatal(res.Error)
			}
			n.namesItsData(cmp.Or(l.kubeadm, kubeadmText("/var/lib/etcd")), plan)
			undo, err := NewUndo(f.StateDir, "", Terms{})
			if err != nil {
				t.Fatal(err)
			}
			if res := e.Run(t.Context(), undo); !res.OK {
				t.Fatal(res.Error)
			}
			if after := n.picture(); !maps.Equal(before, after) {
				t.Errorf("the undo left the node otherwise: %v\n%v", before, after)
			}
		}))
	}
}

// namesItsData fails unless kubeadm-config is as it was, but for the directory.
func (n *fakeNode) namesItsData(was string, p *Plan) {
	n.t.Helper()
	read, err := n.KubeadmConfig(n.t.Context())
	if err != nil {
		n.t.Fatal(err)
	}
	want, is := strings.Split(was, "\n"), strings.Split(read.Data[kubeadmKey], "\n")
	differ := 0
	for i := range want {
		if i < len(is) && want[i] != is[i] {
			differ++
			if !strings.Contains(is[i], "dataDir: ") || !strings.Contains(is[i], p.Restore.DataDir) {
				n.t.Errorf("kubeadm-config has the line %q, it was %q", is[i], want[i])
			}
		}
	}
	if len(want) != len(is) || differ != 1 {
		n.t.Errorf("kubeadm-config differs in %d lines:\n%s\nit was:\n%s", differ, read.Data[kubeadmKey], was)
	}
}

func (n *fakeNode) edit(name string, edits []string) {
	n.t.Helper()
	if len(edits) == 0 {
		return
	}
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
	pod := n.pod(strings.TrimSuffix(filepath.Base(name), ".yaml"))
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
	k := f.Kubelet
	for _, fact := range []struct{ name, is, source string }{
		{"node", f.Node, k.Sources["nodeName"]},
		{"manifests", f.Manifests.Path, k.Sources["staticPodPath"]},
		{"runtime", k.CRIEndpoint, k.Sources["containerRuntimeEndpoint"]},
		{"cgroup root", k.CgroupRoot, k.Sources["cgroupRoot"]},
		{"logs", k.PodLogs, k.Sources["podLogsDir"]},
		{"health", k.HealthzURL, k.Sources["healthz"]},
		{"metrics", k.MetricsURL, k.Sources["metrics"]},
		{"runs", f.StateDir, "beside the manifests"},
	} {
		fmt.Fprintf(&got, "%s: %s (%s)\n", fact.name, fact.is, fact.source)
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
