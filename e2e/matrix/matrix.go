// Package matrix is the table of what the end-to-end tests run on. The versions
// in the documentation come from it (docs/supported.md).
package matrix

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/version"
)

// Entry is a control plane that tests are run on.
type Entry struct {
	Name string // for ETCD_REWIND_E2E_ENTRIES, and in the names of tests

	// Versions, as the programs say them.
	Kubernetes, Containerd, Etcd string
	// Folders in e2e/parts; no ContainerdPart is Debian's package.
	KubernetesPart, ContainerdPart, EtcdPart string

	// Engine is what etcd's container runs in on an etcd host, with its version; ""
	// where there is none of its own.
	Engine string

	// Layout is who has set the host up: cluster.Layout. Kubelet are more lines of
	// its KubeletConfiguration.
	Layout, Kubelet string

	// Node says in the documentation what the nodes are.
	Node string
	// Ran says in the documentation what is run on it and was seen to pass; "" when
	// nothing was. Open is what is run and wasn't seen to pass yet. Targets are the make
	// targets that do.
	Ran, Open string
	Targets   []string
	// Systemd: TestOnSystemd brings it up, and runs its tests on it.
	Systemd bool
}

// Hostname is the node's name, as who sets it up calls it.
func (e Entry) Hostname() string {
	switch e.Layout {
	case "minikube":
		return "minikube"
	case "kind":
		return "kind-control-plane"
	}
	return "cp1"
}

// ofCI are the targets of make e2e, which CI runs.
var ofCI = []string{"e2e-one", "e2e-two", "e2e-three"}

// InCI says whether CI runs it.
func (e Entry) InCI() bool {
	return slices.ContainsFunc(e.Targets, func(target string) bool { return slices.Contains(ofCI, target) })
}

// ListsSeldom says that its kubelet lists its containers every 300 s, and not
// every second: with EventedPLEG, until 1.36 (eventedPlegRelistPeriod,
// pkg/kubelet/kubelet.go; 1.37 has none).
func (e Entry) ListsSeldom() bool {
	return strings.Contains(e.Kubelet, "EventedPLEG: true") && version.MustParse(e.Kubernetes).LessThan(version.MajorMinor(1, 37))
}

const (
	bareNode     = "kubelet and containerd started by hand, cgroupfs"
	systemdNode  = "kubelet and containerd as systemd units, systemd's cgroup driver, kubeadm's drop-in"
	minikubeNode = "as minikube sets it up: `/var/lib/minikube/certs`, `/var/lib/minikube/etcd`, port 8443, its own kubelet unit, which runs a kubelet that is in no PATH"
	kindNode     = "as kind sets it up: kubelet in a slice of its own below `cgroupRoot: /kubelet`, its own unit and drop-ins, kubeadm's paths"
	overruled    = "`cgroupDriver: cgroupfs` in kubelet's configuration, which the runtime overrules"
	eventedNode  = systemdNode + ", `EventedPLEG: true`, and " + overruled
	vmNode       = "a virtual machine (User-Mode Linux) with cgroup v2 and no v1, " + systemdNode

	containerRuns = "from the etcd host and from the control plane: a restore, an undo"
	measured      = "what a restore leaves, measured with the revision raised and without"

	rules        = "the rules of kubelet's that the engine stands on"
	systemdRuns  = "a restore, an undo, and a kubelet that lets nothing go after a reboot with broken etcd, restarted by `systemctl restart kubelet`"
	hostRuns     = systemdRuns + "; backups by a timer"
	versionsRuns = systemdRuns + "; " + rules
)

// cgroupfs is what kubelet's configuration says and the runtime knows better
// (KubeletCgroupDriverFromCRI).
const cgroupfs = "cgroupDriver: cgroupfs\n"

const evented = cgroupfs + "featureGates:\n  EventedPLEG: true\n"

// Entries is the table.
var Entries = []Entry{
	{
		Name: "bare-1.34", Kubernetes: "1.34.4", Containerd: "1.6.20", Etcd: "3.6.10",
		KubernetesPart: "kubernetes", EtcdPart: "etcd-3.6",
		Node: bareNode, Ran: "of three: restores, undos and a redo, a conductor that is killed, nodes that are cut off or lost, a snapshot that is altered, a ticket, the wizard; of one: 40 restores killed at random moments", Targets: []string{"e2e-fleet", "e2e-kills"},
	},
	{
		Name: "systemd-1.34", Kubernetes: "1.34.4", Containerd: "1.6.20", Etcd: "3.6.10",
		KubernetesPart: "kubernetes", EtcdPart: "etcd-3.6", Systemd: true,
		Node: systemdNode, Ran: "all tests of one node but those of the next line, " + rules + " among them; " + hostRuns, Targets: []string{"e2e-one", "e2e-long", "e2e-systemd"},
	},
	{
		Name: "systemd-1.37", Kubernetes: "1.37.2", Containerd: "2.4.2", Etcd: "3.6.10",
		KubernetesPart: "kubernetes-1.37", ContainerdPart: "containerd-2.4", EtcdPart: "etcd-3.6", Systemd: true,
		Kubelet: cgroupfs, Node: systemdNode + ", " + overruled, Ran: "the wizard, undo, restores that are killed, restores while kubelet or containerd goes away, kubeadm's phases after a restore; " + hostRuns + "; " + rules + ", but for the two that take a minute", Targets: []string{"e2e-two", "e2e-long", "e2e-systemd"},
	},
	{
		Name: "three-1.37", Kubernetes: "1.37.2", Containerd: "2.4.2", Etcd: "3.6.10",
		KubernetesPart: "kubernetes-1.37", ContainerdPart: "containerd-2.4", EtcdPart: "etcd-3.6", Systemd: true,
		Node: "three control planes, " + systemdNode, Ran: "a restore of all three as one, and its undo; a snapshot that is altered on one", Targets: []string{"e2e-three"},
	},
	{
		Name: "systemd-1.34-etcd-3.5", Kubernetes: "1.34.4", Containerd: "1.6.20", Etcd: "3.5.21",
		KubernetesPart: "kubernetes", EtcdPart: "etcd-3.5", Systemd: true,
		Node: systemdNode, Ran: versionsRuns, Targets: []string{"e2e-versions"},
	},
	{
		Name: "systemd-1.37-etcd-3.7", Kubernetes: "1.37.2", Containerd: "2.4.2", Etcd: "3.7.3",
		KubernetesPart: "kubernetes-1.37", ContainerdPart: "containerd-2.4", EtcdPart: "etcd-3.7", Systemd: true,
		Node: systemdNode, Ran: versionsRuns, Targets: []string{"e2e-versions"},
	},
	{
		Name: "systemd-1.35", Kubernetes: "1.35.4", Containerd: "2.4.2", Etcd: "3.6.10",
		KubernetesPart: "kubernetes-1.35", ContainerdPart: "containerd-2.4", EtcdPart: "etcd-3.6", Systemd: true,
		Node: systemdNode, Ran: versionsRuns, Targets: []string{"e2e-versions"},
	},
	{
		Name: "systemd-1.36", Kubernetes: "1.36.3", Containerd: "2.4.2", Etcd: "3.6.10",
		KubernetesPart: "kubernetes-1.36", ContainerdPart: "containerd-2.4", EtcdPart: "etcd-3.6", Systemd: true,
		Node: systemdNode, Ran: versionsRuns, Targets: []string{"e2e-versions"},
	},
	{
		Name: "evented-1.36", Kubernetes: "1.36.3", Containerd: "2.4.2", Etcd: "3.6.10",
		KubernetesPart: "kubernetes-1.36", ContainerdPart: "containerd-2.4", EtcdPart: "etcd-3.6", Systemd: true,
		Kubelet: evented, Node: eventedNode, Open: versionsRuns + " (it passed twice; before, a restore was seen to stop when it restarts the controllers)", Targets: []string{"e2e-versions"},
	},
	{
		Name: "evented-1.37", Kubernetes: "1.37.2", Containerd: "2.4.2", Etcd: "3.6.10",
		KubernetesPart: "kubernetes-1.37", ContainerdPart: "containerd-2.4", EtcdPart: "etcd-3.6", Systemd: true,
		Kubelet: evented, Node: eventedNode, Ran: versionsRuns, Targets: []string{"e2e-versions"},
	},
	{
		Name: "minikube-1.37", Kubernetes: "1.37.2", Containerd: "2.4.2", Etcd: "3.6.10",
		KubernetesPart: "kubernetes-1.37", ContainerdPart: "containerd-2.4", EtcdPart: "etcd-3.6", Systemd: true,
		Layout: "minikube", Node: minikubeNode, Ran: versionsRuns + "; backups by a timer", Targets: []string{"e2e-versions"},
	},
	{
		Name: "kind-1.37", Kubernetes: "1.37.2", Containerd: "2.4.2", Etcd: "3.6.10",
		KubernetesPart: "kubernetes-1.37", ContainerdPart: "containerd-2.4", EtcdPart: "etcd-3.6", Systemd: true,
		Layout: "kind", Node: kindNode, Ran: versionsRuns + "; backups by a timer", Targets: []string{"e2e-versions"},
	},
	{
		Name: "kind-three-1.37", Kubernetes: "1.37.2", Containerd: "2.4.2", Etcd: "3.6.10",
		KubernetesPart: "kubernetes-1.37", ContainerdPart: "containerd-2.4", EtcdPart: "etcd-3.6", Systemd: true,
		Layout: "kind", Node: "three control planes, " + kindNode + ", behind haproxy, without ssh", Ran: "a restore of all three by a ticket, and its undo", Targets: []string{"e2e-kind"},
	},
	{
		Name: "cgroup2-1.37", Kubernetes: "1.37.2", Containerd: "2.4.2", Etcd: "3.6.10",
		KubernetesPart: "kubernetes-1.37", ContainerdPart: "containerd-2.4", EtcdPart: "etcd-3.6",
		Node: vmNode, Ran: "a restore and an undo", Targets: []string{"e2e-cgroup2"},
	},
	{
		Name: "external-kubespray", Kubernetes: "1.34.4", Containerd: "1.6.20", Etcd: "3.6.10",
		KubernetesPart: "kubernetes", EtcdPart: "etcd-3.6",
		Node:    "etcd.service on one or three hosts of its own, as kubespray sets it up, and one or two control planes, " + bareNode,
		Ran:     "from an etcd host and from a control plane: restores that swap directories, kubespray's settings rendered again, undo, redo, a unit that fails to start, a host that can't be reached, a conductor killed, the wizard, tickets",
		Targets: []string{"e2e-external"},
	},
	{
		Name: "external-by-hand", Kubernetes: "1.34.4", Containerd: "1.6.20", Etcd: "3.6.10",
		KubernetesPart: "kubernetes", EtcdPart: "etcd-3.6",
		Node:    "etcd.service on one or three hosts of its own, all flags in its ExecStart, and one or two control planes, " + bareNode,
		Ran:     "from an etcd host and from a control plane: restores that edit the unit, a reboot, undo, redo; with etcd, kube-apiserver, kube-controller-manager and kube-scheduler as services of one host: restore, undo and redo, by an edit and by a swap with a reboot after it",
		Targets: []string{"e2e-external"},
	},
	{
		Name: "external-docker", Kubernetes: "1.34.4", Containerd: "1.6.20", Etcd: "3.6.10", Engine: "docker 20.10",
		KubernetesPart: "kubernetes", EtcdPart: "etcd-3.6",
		Node: "etcd in a container on one host of its own, by kubespray's unit and script, and one control plane, " + bareNode,
		Ran:  containerRuns, Targets: []string{"e2e-external"},
	},
	{
		Name: "external-podman", Kubernetes: "1.34.4", Containerd: "1.6.20", Etcd: "3.6.10", Engine: "podman 4.3",
		KubernetesPart: "kubernetes", EtcdPart: "etcd-3.6",
		Node: "etcd in a container on one host of its own, `podman run` in ExecStart, and one control plane, " + bareNode,
		Ran:  containerRuns, Targets: []string{"e2e-external"},
	},
	{
		Name: "external-standalone", Kubernetes: "1.34.4", Containerd: "1.6.20", Etcd: "3.6.10",
		KubernetesPart: "kubernetes", EtcdPart: "etcd-3.6",
		Node: "etcd as a static pod of a kubelet without an API server, on one host of its own, and one control plane, " + bareNode,
		Ran:  containerRuns, Targets: []string{"e2e-external"},
	},
	{
		Name: "debts-1.34", Kubernetes: "1.34.4", Containerd: "1.6.20", Etcd: "3.6.10",
		KubernetesPart: "kubernetes", EtcdPart: "etcd-3.6", Systemd: true,
		Node: "a control plane and two workers, " + systemdNode, Ran: measured + "; all of it is settled in one session of the wizard", Targets: []string{"e2e-debts"},
	},
	{
		Name: "debts-1.37", Kubernetes: "1.37.2", Containerd: "2.4.2", Etcd: "3.6.10",
		KubernetesPart: "kubernetes-1.37", ContainerdPart: "containerd-2.4", EtcdPart: "etcd-3.6", Systemd: true,
		Node: "a control plane and two workers, " + systemdNode, Ran: measured, Targets: []string{"e2e-debts"},
	},
}

// Weaker is what is known by less than a restore on a real node of Entries, and
// what isn't of a control plane.
type Weaker struct {
	What, Tested string
	By           string // a command, or "" where nothing is tested
}

// Weakers is the second table.
var Weakers = []Weaker{
	{"Cluster API with kube-vip or a DNS name, kubespray's stacked etcd, one of kind's three control planes behind haproxy, minikube with docker (cri-dockerd), kubeadm before 1.31 with v1beta3, IPv6, dual stack, names with dots, a node named unlike its host, kubelet's `--config-dir`, `/etc/kubernetes` on another disk", "kubelet's facts from its command line and files, plan, restore and undo on a fake node with their manifests and kubeadm-config", "go test ./steps -run Layouts"},
	{"`/etc/kubernetes` on a disk of its own, a temporary directory mounted noexec", "restore and undo on a practice node", "make e2e-disks"},
	{"CRI-O", "its socket, labels and answers, and 10 s for containers to end, on a fake: the real one isn't to be had where the tests run", "go test ./node ./steps -run 'CRIO|LetsContainers'"},
	{"stores of backups: versitygw 1.8 (S3), OpenSSH 9.2 (SFTP), a directory", "putting, listing, locking, deleting and restoring backups, that a store that refuses is named, that one that is killed or gets full during an upload fails alone and keeps nothing of it, and that two nodes at once take one backup", "make e2e-backup"},
	{"arm64", "the binary for it, run under emulation: `version`, `inspect`, `check`", "make arm64"},
	{"vt100, Linux' console, a serial console without a size, no UTF-8, no colours, `TERM=dumb`", "the wizard, or its questions in lines, on a real pty", "go test ./ui ./cli -run 'Terminals|Dumb'"},
	{"SELinux", "a file's label goes with it to what replaces it; no policy is enforced in any test", "go test ./manifest ./snapshot -run SELinux"},
	{"RKE2, k3s, k0s, MicroK8s, OpenShift, Talos", "that they are recognised by what a fake node shows, and refused by the commands and the wizard with the vendor's own command; nothing is touched", "go test ./node ./steps ./cli -run 'Vendor|CommandLine'"},
	{"etcd on several hosts in containers or under a standalone kubelet, nerdctl, systemd after 252, RHEL's and kubekey's own packages", "that their units and scripts are read; nothing on a real host", "go test ./unit ./manifest"},
}

// Named returns the entries of those names, and an error for one that isn't there.
func Named(names ...string) ([]Entry, error) {
	var all []Entry
	for _, name := range names {
		e, err := One(name)
		if err != nil {
			return nil, err
		}
		all = append(all, e)
	}
	return all, nil
}

// One returns the entry of that name, or an error when it isn't there.
func One(name string) (Entry, error) {
	i := slices.IndexFunc(Entries, func(e Entry) bool { return e.Name == name })
	if i < 0 {
		return Entry{}, fmt.Errorf("the matrix has no entry %q", name)
	}
	return Entries[i], nil
}

// Table is the table in Markdown, and what is open below it.
func Table() string {
	return table("what is run on it", func(e Entry) string { return e.Ran }) +
		"\nWritten as tests, and not seen to pass yet: no promise.\n\n" +
		table("what is to be run on it", func(e Entry) string { return e.Open })
}

// table has the entries on which anything is run.
func table(column string, runs func(Entry) string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "| Kubernetes | containerd | etcd | nodes | %s | by |\n|---|---|---|---|---|---|\n", column)
	for _, e := range Entries {
		if runs(e) == "" {
			continue
		}
		etcd := e.Etcd
		if e.Engine != "" {
			etcd += " in " + e.Engine
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | `make %s` |\n", e.Kubernetes, e.Containerd, etcd, e.Node, runs(e), strings.Join(e.Targets, "`, `make "))
	}
	return b.String()
}

// WeakerTable is the second table in Markdown.
func WeakerTable() string {
	var b strings.Builder
	b.WriteString("| what | what is tested | by |\n|---|---|---|\n")
	for _, w := range Weakers {
		by := ""
		if w.By != "" {
			by = "`" + strings.ReplaceAll(w.By, "|", `\|`) + "`"
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", w.What, w.Tested, by)
	}
	return b.String()
}

// Versions are all that the two tables have, by the program: "etcd", "docker".
func Versions() map[string][]string {
	all := map[string][]string{}
	add := func(program, version string) {
		if !slices.Contains(all[program], version) {
			all[program] = append(all[program], version)
		}
	}
	for _, e := range Entries {
		add("Kubernetes", e.Kubernetes)
		add("containerd", e.Containerd)
		add("etcd", e.Etcd)
		if engine, version, ok := strings.Cut(e.Engine, " "); ok {
			add(engine, version)
		}
	}
	for _, w := range Weakers {
		for _, found := range named.FindAllStringSubmatch(w.What, -1) {
			add(found[1], found[2])
		}
	}
	return all
}

var named = regexp.MustCompile(`(versitygw|OpenSSH|systemd after) (\d+(?:\.\d+)*)`)
