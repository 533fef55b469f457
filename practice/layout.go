package practice

import (
	"embed"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// nodeName is the node of the cluster that the snapshots were taken of.
const nodeName = "cp1"

// files are kubeadm's manifests and kubelet configuration, and what e2e/seeds
// has made on a real cluster.
//
//go:embed files
var files embed.FS

// Root is the directory that stands for / on a practice node; below it
// everything has kubeadm's paths.
type Root string

// Path is where an absolute path of the node lies on this machine.
func (r Root) Path(p ...string) string { return filepath.Join(append([]string{string(r)}, p...)...) }

// locate is where a hostPath lies on this machine: below the root, also when it
// is written as on a real node.
func (r Root) locate(p string) string {
	p = filepath.Clean(p)
	if p == string(r) || strings.HasPrefix(p, string(r)+"/") {
		return p
	}
	return r.Path(p)
}

// Manifests is kubelet's static pod directory.
func (r Root) Manifests() string { return r.Path("etc/kubernetes/manifests") }

// Kubeconfig is the administrator's.
func (r Root) Kubeconfig() string { return r.Path("etc/kubernetes/admin.conf") }

// Backups is where the exercises keep snapshots.
func (r Root) Backups() string { return r.Path("opt/backup") }

// toolsDir is the shell's tools' directory below the node's /opt.
const toolsDir = "practice"

// tools is where the shell's programs lie.
func (r Root) tools() string { return r.Path("opt", toolsDir) }

// ports of a node, all on the loopback address.
type ports struct {
	Etcd    int `json:"etcd"`
	Peer    int `json:"peer"`
	Metrics int `json:"metrics"`
	API     int `json:"api"`
	Healthz int `json:"kubelet"`
	Kubelet int `json:"kubelet_tls"`
}

// all are the ports in a fixed order.
func (p ports) all() []int { return []int{p.Etcd, p.Peer, p.Metrics, p.API, p.Healthz, p.Kubelet} }

func (p ports) etcdURL() string    { return fmt.Sprintf("https://127.0.0.1:%d", p.Etcd) }
func (p ports) peerURL() string    { return fmt.Sprintf("https://127.0.0.1:%d", p.Peer) }
func (p ports) metricsURL() string { return fmt.Sprintf("http://127.0.0.1:%d", p.Metrics) }
func (p ports) apiURL() string     { return fmt.Sprintf("https://127.0.0.1:%d", p.API) }
func (p ports) healthzURL() string { return fmt.Sprintf("http://127.0.0.1:%d/healthz", p.Healthz) }

// view is the node as a process sees it, and as the node's own files name it.
type view struct {
	root   Root // its /
	ports  ports
	socket string // the container runtime's
}

// realView is that of a real node. On this machine it is had from inside the
// practice node's namespaces.
var realView = view{
	root:   "/",
	ports:  ports{Etcd: 2379, Peer: 2380, Metrics: 2381, API: 6443, Healthz: 10248, Kubelet: 10250},
	socket: "/run/containerd/containerd.sock",
}

// writeManifests derives the control plane's manifests from kubeadm's: other
// addresses, ports and hostPaths, and etcd's image names what really runs.
// The paths in the containers stay kubeadm's.
func (r Root) writeManifests(named view) error {
	p := named.ports
	if err := os.MkdirAll(r.Manifests(), 0o700); err != nil {
		return err
	}
	replace := strings.NewReplacer(
		"https://127.0.0.1:2379,https://10.77.0.11:2379", p.etcdURL(),
		"https://10.77.0.11:2379", p.etcdURL(),
		"https://127.0.0.1:2379", p.etcdURL(),
		"https://10.77.0.11:2380", p.peerURL(),
		"http://127.0.0.1:2381", p.metricsURL(),
		"containerPort: 2381", fmt.Sprintf("containerPort: %d", p.Metrics),
		"containerPort: 6443", fmt.Sprintf("containerPort: %d", p.API),
		"--secure-port=6443", fmt.Sprintf("--secure-port=%d", p.API),
		"10.77.0.11:6443", fmt.Sprintf("127.0.0.1:%d", p.API),
		"10.77.0.11", "127.0.0.1",
		"registry.k8s.io/etcd:3.6.10-0", fmt.Sprintf("registry.k8s.io/etcd:%s-0", etcdVersion),
	)
	for _, name := range components {
		raw, err := files.ReadFile("files/" + name + ".yaml")
		if err != nil {
			return err
		}
		text := hostPath.ReplaceAllString(replace.Replace(string(raw)), "${1}"+strings.TrimSuffix(string(named.root), "/")+"/")
		if name == "kube-apiserver" {
			text = strings.Replace(text, "    - --client-ca-file=", "    - --bind-address=127.0.0.1\n    - --client-ca-file=", 1)
		}
		if strings.HasPrefix(name, "kube-controller") || name == "kube-scheduler" {
			text = probes.ReplaceAllString(text, "") // the stand-ins listen nowhere
		}
		if err := os.WriteFile(filepath.Join(r.Manifests(), name+".yaml"), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

var (
	hostPath = regexp.MustCompile(`(?m)^(  - hostPath:\n      path: )/`)
	probes   = regexp.MustCompile(`(?m)^    (?:livenessProbe|readinessProbe|startupProbe):\n(?:      .*\n)+`)
)

var components = []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"}

// writeKubelet leaves kubelet's configuration where kubeadm has it.
func (r Root) writeKubelet(named view) error {
	raw, err := files.ReadFile("files/kubelet-config.yaml")
	if err != nil {
		return err
	}
	text := strings.NewReplacer(
		"unix:///run/containerd/containerd.sock", "unix://"+named.socket,
		"healthzPort: 10248", fmt.Sprintf("healthzPort: %d\naddress: 127.0.0.1\nport: %d", named.ports.Healthz, named.ports.Kubelet),
		"staticPodPath: /etc/kubernetes/manifests", "staticPodPath: "+named.root.Manifests()+"\npodLogsDir: "+named.root.Path("var/log/pods"),
		"/etc/kubernetes/pki/ca.crt", named.root.Path("etc/kubernetes/pki/ca.crt"),
	).Replace(string(raw))
	for _, dir := range []string{"var/lib/kubelet/pods", "var/log/pods", "sys/fs/cgroup/kubepods/burstable", "opt/backup", "run/containers", "tmp"} {
		if err := os.MkdirAll(r.Path(dir), 0o755); err != nil {
			return err
		}
	}
	for name, text := range map[string]string{
		"var/lib/kubelet/config.yaml":       text,
		"var/lib/kubelet/kubeadm-flags.env": "KUBELET_KUBEADM_ARGS=\"--hostname-override=" + nodeName + "\"\n",
		"sys/fs/cgroup/cgroup.controllers":  "cpu memory pids\n",
	} {
		if err := os.WriteFile(r.Path(name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}
