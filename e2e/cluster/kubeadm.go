//go:build linux

package cluster

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// kubeadmConfig returns the text of kubeadm's configuration and the images that
// the manifests made from it ask for. Versions are asked of the programs
// themselves, so that they are pinned in the parts' go.mod only.
func (n *Node) kubeadmConfig(ctx context.Context, config Config, p parts) (string, []string, error) {
	version, err := p.kubeadmVersion(ctx)
	if err != nil {
		return "", nil, err
	}
	l, f := n.layoutOf(version, ""), config.founding
	etcdVersion, err := run(exec.CommandContext(ctx, filepath.Join(p.etcd, "etcd"), "--version"))
	if err != nil {
		return "", nil, err
	}
	line, _, _ := strings.Cut(etcdVersion, "\n")
	etcdVersion = strings.TrimPrefix(line, "etcd Version: ")

	endpoint := l.endpoint
	if n.record.Cluster != "" {
		endpoint = controlPlaneName
	}
	if endpoint != "" {
		endpoint = fmt.Sprintf("controlPlaneEndpoint: %s:%d\n", endpoint, l.port)
	}
	etcd := "  local:\n    imageTag: " + etcdVersion + "-0\n" + l.etcd
	if f != nil && len(f.etcd) > 0 {
		etcd = externalYAML(f.etcd)
	}
	// A bare node isn't named after its host, and shares the machine's cgroups.
	extraArgs, kubelet := fmt.Sprintf(`  kubeletExtraArgs:
  - name: node-ip
    value: %s
  - name: hostname-override
    value: %s
`, n.Address, n.Hostname), fmt.Sprintf(`cgroupDriver: cgroupfs
cgroupRoot: %s
enforceNodeAllocatable: []
localStorageCapacityIsolation: false
`, n.CgroupRoot)
	if n.Systemd {
		extraArgs, kubelet = l.registration, "cgroupDriver: systemd\n"
		if strings.Contains(config.Kubelet, "cgroupDriver:") {
			kubelet = ""
		}
		kubelet += l.kubelet + config.Kubelet
	}
	text := fmt.Sprintf(kubeadmYAML, n.Address, l.port, n.Hostname, extraArgs, version, endpoint+l.cluster, etcd, kubelet)
	file, err := os.CreateTemp("", "kubeadm-*.yaml")
	if err != nil {
		return "", nil, err
	}
	defer os.Remove(file.Name())
	defer file.Close()
	if _, err := file.WriteString(text); err != nil {
		return "", nil, err
	}
	images, err := run(exec.CommandContext(ctx, filepath.Join(p.kubernetes, "kubeadm"), "config", "images", "list", "--config", file.Name()))
	return text, strings.Fields(images), err
}

// kubeadmVersion is the version of the part's Kubernetes, with its v.
func (p parts) kubeadmVersion(ctx context.Context) (string, error) {
	version, err := run(exec.CommandContext(ctx, filepath.Join(p.kubernetes, "kubeadm"), "version", "-o", "short"))
	return strings.TrimSpace(version), err
}

// kubeadmYAML is what the tests ask of kubeadm. In the kubelet's part:
// failCgroupV1 and failSwapOn: machines with cgroup v1 or swap will do.
// makeIPTablesUtilChains: no iptables is needed. evictionHard and the image
// GC: a full disk of the machine is no reason to end or lose anything.
// resolvConf: the machine's may point into the machine's /run.
const kubeadmYAML = `apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
localAPIEndpoint:
  advertiseAddress: %s
  bindPort: %d
nodeRegistration:
  name: %s
  criSocket: unix:///run/containerd/containerd.sock
  imagePullPolicy: IfNotPresent
%s---
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
kubernetesVersion: %s
%setcd:
%s---
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
%sevictionHard:
  imagefs.available: 0%%
  nodefs.available: 0%%
  nodefs.inodesFree: 0%%
failCgroupV1: false
failSwapOn: false
imageGCHighThresholdPercent: 100
makeIPTablesUtilChains: false
resolvConf: ""
`

// kubeadmInit runs the phases of kubeadm init that need no running cluster; the
// last starts kubelet on a systemd host. It keeps the authorities that it finds.
// Only a cluster's first node gets a super-admin.conf, as with kubeadm join.
func (n *Node) kubeadmInit(ctx context.Context, f *founding) error {
	phases := []string{"certs all", "kubeconfig all", "etcd local", "control-plane all"}
	if n.record.Joined {
		phases = slices.Replace(phases, 1, 2, "kubeconfig admin", "kubeconfig kubelet",
			"kubeconfig controller-manager", "kubeconfig scheduler")
	}
	external := f != nil && len(f.etcd) > 0
	if external {
		phases = slices.DeleteFunc(phases, func(phase string) bool { return phase == "etcd local" })
	}
	for _, phase := range phases {
		if err := n.kubeadmPhase(ctx, phase); err != nil {
			return err
		}
	}
	if f != nil && !external {
		if err := n.foundMember(f); err != nil {
			return err
		}
	}
	return n.kubeadmPhase(ctx, "kubelet-start")
}

// kubeadmFile is kubeadm's configuration, inside the node.
func (n *Node) kubeadmFile() string {
	if n.Systemd {
		return n.layoutOf("", "").kubeadm
	}
	return filepath.Join(n.Dir, "kubeadm.yaml")
}

// uploadPhase runs a phase that writes to the API server. kubeadm gives it 10 s for
// an answer, and one in a virtual machine that has just become ready may need more:
// the phase is run again there.
func (n *Node) uploadPhase(ctx context.Context, phase string) error {
	if !n.record.VM {
		return n.kubeadmPhase(ctx, phase)
	}
	return poll(ctx, "kubeadm init phase "+phase, n.Stretched(patience), 5*time.Second, func(ctx context.Context) error {
		return n.kubeadmPhase(ctx, phase)
	})
}

func (n *Node) kubeadmPhase(ctx context.Context, phase string) error {
	args := append([]string{"init", "phase"}, strings.Fields(phase)...)
	_, err := run(n.Command(ctx, "kubeadm", append(args, "--config", n.kubeadmFile())...))
	return err
}
