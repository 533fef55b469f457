// Package matrix is the table of what the end-to-end tests run on. What the
// documentation says of versions comes from it (docs/supported.md).
package matrix

import (
	"fmt"
	"slices"
	"strings"
)

// Entry is a control plane that tests are run on.
type Entry struct {
	Name string // for ETCD_REWIND_E2E_ENTRIES, and in the names of tests

	// Versions, as the programs say them.
	Kubernetes, Containerd, Etcd string
	// Folders in e2e/parts; no ContainerdPart is Debian's package.
	KubernetesPart, ContainerdPart, EtcdPart string

	// Node says in the documentation what the nodes are.
	Node string
	// Ran says in the documentation what is run on it, and Target is the make
	// target that does. CI runs those of make e2e and of OfCI.
	Ran, Target string
	// Systemd: TestOnSystemd brings it up, and runs its tests on it.
	Systemd bool
}

const (
	bareNode    = "kubelet and containerd started by hand, cgroupfs"
	systemdNode = "kubelet and containerd as systemd units, systemd's cgroup driver, kubeadm's drop-in"
	systemdRuns = "a restore, an undo, and a kubelet that lets nothing go after a reboot with broken etcd, restarted by `systemctl restart kubelet`"
)

// Entries is the table.
var Entries = []Entry{
	{
		Name: "bare-1.34", Kubernetes: "1.34.4", Containerd: "1.6.20", Etcd: "3.6.10",
		KubernetesPart: "kubernetes", EtcdPart: "etcd-3.6",
		Node: bareNode, Ran: "all tests of one node and of three nodes", Target: "e2e",
	},
	{
		Name: "systemd-1.34", Kubernetes: "1.34.4", Containerd: "1.6.20", Etcd: "3.6.10",
		KubernetesPart: "kubernetes", EtcdPart: "etcd-3.6", Systemd: true,
		Node: systemdNode, Ran: systemdRuns, Target: "e2e-systemd",
	},
	{
		Name: "systemd-1.37", Kubernetes: "1.37.2", Containerd: "2.4.2", Etcd: "3.6.10",
		KubernetesPart: "kubernetes-1.37", ContainerdPart: "containerd-2.4", EtcdPart: "etcd-3.6", Systemd: true,
		Node: systemdNode, Ran: systemdRuns, Target: "e2e-systemd",
	},
	{
		Name: "systemd-1.34-etcd-3.5", Kubernetes: "1.34.4", Containerd: "1.6.20", Etcd: "3.5.21",
		KubernetesPart: "kubernetes", EtcdPart: "etcd-3.5", Systemd: true,
		Node: systemdNode, Ran: systemdRuns, Target: "e2e-versions",
	},
	{
		Name: "systemd-1.37-etcd-3.7", Kubernetes: "1.37.2", Containerd: "2.4.2", Etcd: "3.7.3",
		KubernetesPart: "kubernetes-1.37", ContainerdPart: "containerd-2.4", EtcdPart: "etcd-3.7", Systemd: true,
		Node: systemdNode, Ran: systemdRuns, Target: "e2e-versions",
	},
	{
		Name: "external-kubespray", Kubernetes: "1.34.4", Containerd: "1.6.20", Etcd: "3.6.10",
		KubernetesPart: "kubernetes", EtcdPart: "etcd-3.6",
		Node:   "etcd.service on one or three hosts of its own, as kubespray sets it up, and one or two control planes, " + bareNode,
		Ran:    "from an etcd host and from a control plane: restores that swap directories, kubespray's settings rendered again, undo, redo, a unit that fails to start, a host that can't be reached, a conductor killed, the wizard, tickets",
		Target: "e2e-external",
	},
	{
		Name: "external-by-hand", Kubernetes: "1.34.4", Containerd: "1.6.20", Etcd: "3.6.10",
		KubernetesPart: "kubernetes", EtcdPart: "etcd-3.6",
		Node:   "etcd.service on one or three hosts of its own, all flags in its ExecStart, and one or two control planes, " + bareNode,
		Ran:    "from an etcd host and from a control plane: restores that edit the unit, a reboot, undo, redo",
		Target: "e2e-external",
	},
}

// Named returns the entries of those names, and an error for one that isn't there.
func Named(names ...string) ([]Entry, error) {
	var all []Entry
	for _, name := range names {
		i := slices.IndexFunc(Entries, func(e Entry) bool { return e.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("the matrix has no entry %q", name)
		}
		all = append(all, Entries[i])
	}
	return all, nil
}

// Table is the table in Markdown.
func Table() string {
	var b strings.Builder
	b.WriteString("| Kubernetes | containerd | etcd | nodes | what is run on it | by |\n|---|---|---|---|---|---|\n")
	for _, e := range Entries {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | `make %s` |\n", e.Kubernetes, e.Containerd, e.Etcd, e.Node, e.Ran, e.Target)
	}
	return b.String()
}
