//go:build linux

package cluster

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"strings"
)

// writeHost makes all that lies in Dir for a systemd host, and returns the images
// that its manifests will ask for.
func (n *Node) writeHost(ctx context.Context, config Config, p parts) ([]string, error) {
	var l layout
	programs := fromPart(p.etcd, "/usr/local/bin", "etcdctl", "etcdutl")
	switch f := n.record.Form; {
	case f == Kubespray || f == ByHand:
		programs = append(programs, fromPart(p.etcd, "/usr/local/bin", "etcd")...)
	case f.engine() != "": // it is in the image
	default:
		version, err := p.kubeadmVersion(ctx)
		if err != nil {
			return nil, err
		}
		l = n.layoutOf(version, fmt.Sprintf("--v=%d", config.KubeletVerbosity))
		programs = append(programs, fromPart(p.kubernetes, l.programs, "kubelet", "kubeadm", "kubectl")...)
		if p.containerd != "" {
			programs = append(programs, fromPart(p.containerd, "/usr/local/bin", "containerd", "containerd-shim-runc-v2", "ctr")...)
		}
	}
	if err := n.prepareHost(p, programs); err != nil {
		return nil, err
	}

	var images []string
	var err error
	switch n.record.Form {
	case "":
		images, err = n.writeKubeHost(ctx, config, p, l)
	case Standalone:
		images, err = n.writeStandalone(ctx, config, p, l)
	default:
		err = n.writeEtcdHost(config.founding, p)
	}
	if err != nil {
		return nil, err
	}
	if config.founding != nil {
		if err := n.writeFounding(config.founding); err != nil {
			return nil, err
		}
	}
	kind := "host"
	if n.record.VM {
		kind = "vm"
		if err := n.vmHost(ctx); err != nil {
			return nil, err
		}
	}
	if err := n.writeScripts(kind); err != nil {
		return nil, err
	}
	hosts, err := procs(n.CgroupRoot)
	if err != nil {
		return nil, err
	}
	commands, err := procs(n.commandCgroup())
	if err != nil {
		return nil, err
	}
	n.record.Path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	if l.programs != "" && l.programs != "/usr/bin" {
		n.record.Path += ":" + l.programs
	}
	trees := []string{filepath.Join(n.Dir, "programs"), p.host}
	if n.record.Form.engine() != "" {
		trees = []string{trees[0], p.engines, p.host}
	}
	env := shellVariables([]string{
		"NODE_NAME=" + n.Name,
		"NODE_HOSTNAME=" + n.Hostname,
		"NODE_NETNS=" + n.netns(),
		"NODE_TREES=" + strings.Join(trees, ":"),
		"NODE_CGROUP=" + n.CgroupRoot,
		"NODE_CGROUP_PROCS=" + hosts,
		"NODE_COMMAND_PROCS=" + commands,
		"NODE_SHARED=" + strings.Join(n.record.Shared, " "),
		"NODE_ADDRESS=" + n.Address,
		"NODE_PATH=" + n.record.Path,
		"NODE_TAP=" + n.veth(), // of a virtual machine, as the next
		"NODE_MEMORY=3G",
	})
	if err := writeText(filepath.Join(n.Dir, "node.env"), env); err != nil {
		return nil, err
	}
	return images, n.record.write()
}

func (n *Node) writeEtcdHost(f *founding, p parts) error {
	if err := n.writeInside(n.etcdFiles(f.etcd)); err != nil {
		return err
	}
	if n.record.Form.engine() != "" {
		if err := n.writeEngine(p); err != nil {
			return err
		}
	}
	return n.enable("/etc/systemd/system/" + EtcdUnit)
}

func (n *Node) writeKubeHost(ctx context.Context, config Config, p parts, l layout) ([]string, error) {
	kubeadm, images, err := n.kubeadmConfig(ctx, config, p)
	if err != nil {
		return nil, err
	}
	files := map[string]string{
		l.kubeadm:                     kubeadm,
		"/etc/containerd/config.toml": containerdHostConfig(images, p.containerd != ""),
		"/etc/systemd/system/prepare-containers.service": fmt.Sprintf(prepareUnit, prepareScript),
	}
	if p.containerd != "" {
		files["/etc/systemd/system/containerd.service"] = containerdUnit
	}
	prepare, err := scripts.ReadFile("host/prepare")
	if err != nil {
		return nil, err
	}
	files[prepareScript] = string(prepare)
	maps.Copy(files, l.files)
	if err := n.writeInside(files); err != nil {
		return nil, err
	}
	if err := writeText(filepath.Join(n.Dir, "kubeadm.yaml"), kubeadm); err != nil {
		return nil, err
	}
	for _, unit := range []string{"/etc/systemd/system/prepare-containers.service", l.kubeletUnit} {
		if err := n.enable(unit); err != nil {
			return nil, err
		}
	}
	containerd := "/usr/lib/systemd/system/containerd.service"
	if p.containerd != "" {
		containerd = "/etc/systemd/system/containerd.service"
	}
	return images, n.enable(containerd)
}

// writeStandalone makes of a host with a kubelet one that has no API server, as
// kubeadm's guide to external etcd with kubeadm does.
func (n *Node) writeStandalone(ctx context.Context, config Config, p parts, l layout) ([]string, error) {
	config.founding = nil // its own kubeadm.yaml has a local etcd
	images, err := n.writeKubeHost(ctx, config, p, l)
	if err != nil {
		return nil, err
	}
	return images, n.writeInside(map[string]string{
		"/etc/systemd/system/kubelet.service.d/20-etcd-service-manager.conf": "[Service]\nExecStart=\nExecStart=/usr/bin/kubelet --config=" + standaloneConfig + "\nRestart=always\n",
		standaloneConfig: `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication:
  anonymous:
    enabled: false
  webhook:
    enabled: false
authorization:
  mode: AlwaysAllow
cgroupDriver: systemd
address: 127.0.0.1
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
staticPodPath: /etc/kubernetes/manifests
evictionHard:
  imagefs.available: 0%
  nodefs.available: 0%
  nodefs.inodesFree: 0%
failCgroupV1: false
failSwapOn: false
imageGCHighThresholdPercent: 100
makeIPTablesUtilChains: false
resolvConf: ""
`,
	})
}

const standaloneConfig = "/etc/systemd/system/kubelet.service.d/kubelet.conf"

// units are what a systemd host is there for.
func (n *Node) units() []string {
	switch {
	case !n.Systemd:
		return nil
	case n.record.Form != "" && n.record.Form != Standalone:
		return []string{EtcdUnit}
	}
	return []string{"containerd", "kubelet"}
}

// containerdHostConfig is containerd's configuration, of version 2 or 1. See
// containerdConfig.
func containerdHostConfig(images []string, two bool) string {
	const one = `version = 2

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = %q
  restrict_oom_score_adj = true
  disable_apparmor = true

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
  SystemdCgroup = true
`
	const second = `version = 3

[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = %q

[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true
  disable_apparmor = true
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
  runtime_type = 'io.containerd.runc.v2'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
  SystemdCgroup = true
`
	if two {
		return fmt.Sprintf(second, pauseImage(images))
	}
	return fmt.Sprintf(one, pauseImage(images))
}

const (
	// As Kubernetes' packages have them.
	kubeletUnit = `[Unit]
Description=kubelet: The Kubernetes Node Agent
Documentation=https://kubernetes.io/docs/
Wants=network-online.target
After=network-online.target

[Service]
ExecStart=/usr/bin/kubelet
Restart=always
StartLimitInterval=0
RestartSec=10

[Install]
WantedBy=multi-user.target
`
	kubeadmDropIn = `# Note: This dropin only works with kubeadm and kubelet v1.11+
[Service]
Environment="KUBELET_KUBECONFIG_ARGS=--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf --kubeconfig=/etc/kubernetes/kubelet.conf"
Environment="KUBELET_CONFIG_ARGS=--config=/var/lib/kubelet/config.yaml"
# This is a file that "kubeadm init" and "kubeadm join" generates at runtime, populating the KUBELET_KUBEADM_ARGS variable dynamically
EnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env
# This is a file that the user can use for overrides of the kubelet args as a last resort. Preferably, the user should use
# the .NodeRegistration.KubeletExtraArgs object in the configuration files instead. KUBELET_EXTRA_ARGS should be sourced from this file.
EnvironmentFile=-/etc/default/kubelet
ExecStart=
ExecStart=/usr/bin/kubelet $KUBELET_KUBECONFIG_ARGS $KUBELET_CONFIG_ARGS $KUBELET_KUBEADM_ARGS $KUBELET_EXTRA_ARGS
`
	// As containerd has it.
	containerdUnit = `[Unit]
Description=containerd container runtime
Documentation=https://containerd.io
After=network.target local-fs.target dbus.service

[Service]
ExecStartPre=-/sbin/modprobe overlay
ExecStart=/usr/local/bin/containerd

Type=notify
Delegate=yes
KillMode=process
Restart=always
RestartSec=5
LimitNPROC=infinity
LimitCORE=infinity
TasksMax=infinity
OOMScoreAdjust=-999

[Install]
WantedBy=multi-user.target
`
	// What the test machine needs, and a real host doesn't.
	prepareScript = "/usr/local/lib/prepare-containers"
	prepareUnit   = `[Unit]
Description=Makes of this host what containers need
Before=containerd.service kubelet.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/bash %s

[Install]
WantedBy=multi-user.target
`
)
