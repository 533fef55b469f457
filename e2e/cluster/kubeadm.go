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
)

// kubeadmConfig returns the text of kubeadm's configuration and the images that
// the manifests made from it ask for. Versions are asked of the programs
// themselves, so that they are pinned in the parts' go.mod only.
func (n *Node) kubeadmConfig(ctx context.Context, kubernetes, etcd string) (string, []string, error) {
	kubeadm := filepath.Join(kubernetes, "kubeadm")
	version, err := run(exec.CommandContext(ctx, kubeadm, "version", "-o", "short"))
	if err != nil {
		return "", nil, err
	}
	etcdVersion, err := run(exec.CommandContext(ctx, filepath.Join(etcd, "etcd"), "--version"))
	if err != nil {
		return "", nil, err
	}
	line, _, _ := strings.Cut(etcdVersion, "\n")
	etcdVersion = strings.TrimPrefix(line, "etcd Version: ")

	endpoint := ""
	if n.record.Cluster != "" {
		endpoint = "controlPlaneEndpoint: " + controlPlaneName + ":6443\n"
	}
	text := fmt.Sprintf(kubeadmYAML, n.Address, n.Hostname, n.Address, n.Hostname,
		strings.TrimSpace(version), endpoint, etcdVersion, n.CgroupRoot)
	file, err := os.CreateTemp("", "kubeadm-*.yaml")
	if err != nil {
		return "", nil, err
	}
	defer os.Remove(file.Name())
	defer file.Close()
	if _, err := file.WriteString(text); err != nil {
		return "", nil, err
	}
	images, err := run(exec.CommandContext(ctx, kubeadm, "config", "images", "list", "--config", file.Name()))
	return text, strings.Fields(images), err
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
  bindPort: 6443
nodeRegistration:
  name: %s
  criSocket: unix:///run/containerd/containerd.sock
  imagePullPolicy: IfNotPresent
  kubeletExtraArgs:
  - name: node-ip
    value: %s
  - name: hostname-override
    value: %s
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
kubernetesVersion: %s
%setcd:
  local:
    imageTag: %s-0
---
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
cgroupDriver: cgroupfs
cgroupRoot: %s
enforceNodeAllocatable: []
evictionHard:
  imagefs.available: 0%%
  nodefs.available: 0%%
  nodefs.inodesFree: 0%%
failCgroupV1: false
failSwapOn: false
imageGCHighThresholdPercent: 100
localStorageCapacityIsolation: false
makeIPTablesUtilChains: false
resolvConf: ""
`

// kubeadmInit runs the phases of kubeadm init that need no running cluster. It
// keeps the authorities that it finds. Only a cluster's first node gets a
// super-admin.conf, as with kubeadm join.
func (n *Node) kubeadmInit(ctx context.Context) error {
	phases := []string{"certs all", "kubeconfig all", "kubelet-start", "etcd local", "control-plane all"}
	if n.record.Joined {
		phases = slices.Replace(phases, 1, 2, "kubeconfig admin", "kubeconfig kubelet",
			"kubeconfig controller-manager", "kubeconfig scheduler")
	}
	for _, phase := range phases {
		if err := n.kubeadmPhase(ctx, phase); err != nil {
			return err
		}
	}
	return nil
}

func (n *Node) kubeadmPhase(ctx context.Context, phase string) error {
	args := append([]string{"init", "phase"}, strings.Fields(phase)...)
	_, err := run(n.Command(ctx, "kubeadm", append(args, "--config", filepath.Join(n.Dir, "kubeadm.yaml"))...))
	return err
}
