package node

import (
	"os"
	"path/filepath"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"etcd-rewind/trust"
)

// Layout is where a way of setting a cluster up puts things on a node, and what
// it calls them: what holds where nothing on the node says otherwise. A new
// layout is a value in Layouts.
type Layout struct {
	Name string
	// Marks are files or directories of which one is there on a node of this
	// layout.
	Marks []string

	// Of kubelet, where its command line and configuration don't say.
	KubeletUnit string
	Manifests   string // static pods
	KubeletRoot string
	KubeletEnv  []string // files that its unit reads flags from; a relative one is below KubeletRoot
	PodLogs     string
	Cgroups     string
	Sockets     []string // of the container runtime, in the order in which they are looked for

	// The control plane, as static pods.
	Namespace   string
	Etcd, API   string
	Controllers []string

	// StateDir is where runs are kept on a node without kubelet, whose manifests
	// they would lie beside.
	StateDir string

	// Files of the cluster's.
	Config      string   // the directory of all of them
	Kubeconfigs []string // administrators', best first

	// ConfigMap, in Namespace, holds under its key what etcd's manifest is
	// rendered from.
	ConfigMap, ConfigMapKey string
}

// StartKubelet, RestartKubelet and KubeletLog are the commands for kubelet's
// unit.
func (l *Layout) StartKubelet() string   { return trust.Shell("systemctl start %s", l.kubelet()) }
func (l *Layout) RestartKubelet() string { return trust.Shell("systemctl restart %s", l.kubelet()) }
func (l *Layout) KubeletLog() string     { return trust.Shell("journalctl -u %s", l.kubelet()) }

func (l *Layout) kubelet() string { return strings.TrimSuffix(l.KubeletUnit, ".service") }

// Admin is the kubeconfig that is named to people.
func (l *Layout) Admin() string { return l.Kubeconfigs[len(l.Kubeconfigs)-1] }

// EtcdClient is a certificate with which etcd lets itself be asked.
type EtcdClient struct{ CA, Cert, Key string }

// Where kubespray, and kubekey, put what is etcd's.
const (
	KubesprayEtcdEnv   = "/etc/etcd.env"
	KubesprayEtcdCerts = "/etc/ssl/etcd/ssl"
)

// EtcdClients are where a node's etcd has certificates for its administrators,
// by the ways of setting it up, which may be there or not.
func (l *Layout) EtcdClients(node string) []EtcdClient {
	kubespray := func(name string) EtcdClient {
		at := filepath.Join(KubesprayEtcdCerts, name)
		return EtcdClient{filepath.Join(KubesprayEtcdCerts, "ca.pem"), at + ".pem", at + "-key.pem"}
	}
	pki := filepath.Join(l.Config, "pki")
	return []EtcdClient{
		kubespray("admin-" + node),
		{filepath.Join(pki, "etcd/ca.crt"), filepath.Join(pki, "etcd/healthcheck-client.crt"), filepath.Join(pki, "etcd/healthcheck-client.key")},
		{filepath.Join(pki, "etcd/ca.crt"), filepath.Join(pki, "apiserver-etcd-client.crt"), filepath.Join(pki, "apiserver-etcd-client.key")},
		{"/etc/etcd/pki/ca.crt", "/etc/etcd/pki/etcdctl-etcd-client.crt", "/etc/etcd/pki/etcdctl-etcd-client.key"}, // etcdadm
		kubespray("member-" + node),
	}
}

// UnitLogCommand shows what a service has written.
func UnitLogCommand(unit string) string { return trust.Shell("journalctl -u %s", unit) }

// envFiles are the files that kubelet's unit reads flags from.
func (l *Layout) envFiles(root string) []string {
	var all []string
	for _, f := range l.KubeletEnv {
		all = append(all, absolute(f, root))
	}
	return all
}

// Kubeadm is the layout of kubeadm, and of all who use it.
var Kubeadm = Layout{
	Name:  "kubeadm",
	Marks: []string{"/etc/kubernetes/manifests", "/var/lib/kubelet/kubeadm-flags.env"},

	KubeletUnit: "kubelet.service",
	Manifests:   "/etc/kubernetes/manifests",
	KubeletRoot: "/var/lib/kubelet",
	KubeletEnv:  []string{"kubeadm-flags.env", "/etc/default/kubelet", "/etc/sysconfig/kubelet"},
	PodLogs:     "/var/log/pods",
	Cgroups:     "/sys/fs/cgroup",
	Sockets: []string{
		"/run/containerd/containerd.sock",
		"/run/crio/crio.sock",
		"/run/k3s/containerd/containerd.sock",
		"/run/cri-dockerd.sock",
	},

	Namespace:   metav1.NamespaceSystem,
	Etcd:        "etcd",
	API:         "kube-apiserver",
	Controllers: []string{"kube-controller-manager", "kube-scheduler"},

	StateDir:    "/var/lib/etcd-rewind",
	Config:      "/etc/kubernetes",
	Kubeconfigs: []string{"/etc/kubernetes/super-admin.conf", "/etc/kubernetes/admin.conf"}, // the first works even when RBAC doesn't

	ConfigMap: "kubeadm-config", ConfigMapKey: "ClusterConfiguration",
}

// Layouts are all that are known. One whose marks are there goes before
// kubeadm's, which is assumed.
var Layouts = []*Layout{&Kubeadm}

// FindLayout is the layout of the node whose root directory is root.
func FindLayout(root string) *Layout {
	for _, l := range Layouts {
		for _, mark := range l.Marks {
			if _, err := os.Stat(filepath.Join(root, mark)); err == nil {
				return l
			}
		}
	}
	return &Kubeadm
}
