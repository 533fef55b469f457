//go:build linux

package cluster

import (
	"fmt"
	"strconv"
)

// Layout is who has set a systemd host up. All of them call kubeadm, and have it
// put things in places of their own.
type Layout string

const (
	Packages Layout = ""         // Kubernetes' packages for Debian, and kubeadm by hand
	Minikube Layout = "minikube" // minikube start --container-runtime=containerd
	Kind     Layout = "kind"     // a node of kind create cluster
)

// layout is what a Layout does differently, after what minikube 1.38 and kind 0.31
// write: their templates, node images and entrypoints.
type layout struct {
	pki      string // kubeadm's certificatesDir
	port     int    // the API server's
	endpoint string // the host in controlPlaneEndpoint; none when empty
	programs string // where kubelet, kubeadm and kubectl are
	kubeadm  string // kubeadm's configuration
	// More of kubeadm's configuration: of the node's registration, the cluster's,
	// etcd.local, and kubelet's.
	registration, cluster, etcd, kubelet string
	files                                map[string]string
	kubeletUnit                          string
}

// layoutOf is the layout of a node with Kubernetes of this version, "v1.37.2", and
// more flags for kubelet.
func (n *Node) layoutOf(version, flags string) layout {
	const units, usr = "/etc/systemd/system/", "/usr/lib/systemd/system/"
	l := layout{
		pki: "/etc/kubernetes/pki", port: 6443, programs: "/usr/bin", kubeadm: "/root/kubeadm.yaml",
		kubeletUnit: usr + "kubelet.service",
	}
	switch n.record.Layout {
	case Packages:
		l.files = map[string]string{
			l.kubeletUnit: kubeletUnit,
			usr + "kubelet.service.d/10-kubeadm.conf": kubeadmDropIn,
			"/etc/default/kubelet":                    "KUBELET_EXTRA_ARGS=" + flags + "\n",
		}
	case Minikube:
		const home = "/var/lib/minikube"
		l.pki, l.port, l.endpoint = home+"/certs", 8443, "control-plane.minikube.internal"
		l.programs, l.kubeadm = home+"/binaries/"+version, "/var/tmp/minikube/kubeadm.yaml"
		l.registration = fmt.Sprintf("  kubeletExtraArgs:\n  - name: node-ip\n    value: %s\n  taints: []\n", n.Address)
		l.cluster = "certificatesDir: " + l.pki + "\nclusterName: mk\n" + minikubeArgs
		l.etcd = "    dataDir: " + home + "/etcd\n"
		l.kubelet = "authentication:\n  x509:\n    clientCAFile: " + l.pki + "/ca.crt\nhairpinMode: hairpin-veth\nruntimeRequestTimeout: 15m\n"
		l.files = map[string]string{
			l.kubeletUnit: fmt.Sprintf(minikubeUnit, l.programs),
			units + "kubelet.service.d/10-kubeadm.conf": fmt.Sprintf(minikubeDropIn, l.programs, n.Hostname, n.Address, flags),
		}
	case Kind:
		l.endpoint, l.kubeadm, l.kubeletUnit = n.Hostname, "/kind/kubeadm.conf", units+"kubelet.service"
		l.registration = fmt.Sprintf("  kubeletExtraArgs:\n  - name: node-ip\n    value: %s\n  - name: provider-id\n    value: kind://docker/kind/%s\n  - name: node-labels\n    value: \"\"\n",
			n.Address, n.Hostname)
		l.cluster = "clusterName: kind\n" + kindArgs
		l.kubelet = "cgroupRoot: /kubelet\n"
		l.files = map[string]string{
			l.kubeletUnit:           kindUnit,
			units + "kubelet.slice": "[Slice]\nMemoryAccounting=true\nCPUAccounting=true\n",

			units + "kubelet.service.d/10-kubeadm.conf": kubeadmDropIn,
			"/etc/default/kubelet":                      "KUBELET_EXTRA_ARGS=--runtime-cgroups=/system.slice/containerd.service " + flags + "\n",
		}
	}
	return l
}

// apiPort is where the node's API server listens.
func (n *Node) apiPort() string { return strconv.Itoa(n.layoutOf("", "").port) }

// pki is where the control plane's certificates are, inside the node.
func (n *Node) pki() string { return n.layoutOf("", "").pki }

const (
	minikubeArgs = `apiServer:
  extraArgs:
  - name: enable-admission-plugins
    value: NamespaceLifecycle,LimitRanger,ServiceAccount,DefaultStorageClass,DefaultTolerationSeconds,NodeRestriction,MutatingAdmissionWebhook,ValidatingAdmissionWebhook,ResourceQuota
controllerManager:
  extraArgs:
  - name: allocate-node-cidrs
    value: "true"
  - name: leader-elect
    value: "false"
scheduler:
  extraArgs:
  - name: leader-elect
    value: "false"
networking:
  podSubnet: 10.244.0.0/16
`
	minikubeUnit = `[Unit]
Description=kubelet: The Kubernetes Node Agent
StartLimitIntervalSec=0

[Service]
ExecStart=%s/kubelet
Restart=always
RestartSec=600ms

[Install]
WantedBy=multi-user.target
`
	minikubeDropIn = `[Unit]
Wants=containerd.service

[Service]
ExecStart=
ExecStart=%s/kubelet --bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf --config=/var/lib/kubelet/config.yaml --hostname-override=%s --kubeconfig=/etc/kubernetes/kubelet.conf --node-ip=%s %s
`
	kindArgs = `apiServer:
  certSANs: [localhost, 127.0.0.1]
  extraArgs:
  - name: runtime-config
    value: ""
controllerManager:
  extraArgs:
  - name: enable-hostpath-provisioner
    value: "true"
networking:
  podSubnet: 10.244.0.0/16
  serviceSubnet: 10.96.0.0/16
`
	kindUnit = `[Unit]
Description=kubelet: The Kubernetes Node Agent
ConditionPathExists=/var/lib/kubelet/config.yaml

[Service]
ExecStart=/usr/bin/kubelet
Restart=always
StartLimitInterval=0
RestartSec=1s
CPUAccounting=true
MemoryAccounting=true
Slice=kubelet.slice

[Install]
WantedBy=multi-user.target
`
)
