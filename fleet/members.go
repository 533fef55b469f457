package fleet

import (
	"cmp"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strings"

	"etcd-rewind/manifest"
	"etcd-rewind/node"
	"etcd-rewind/restore"
	"etcd-rewind/steps"
	"etcd-rewind/trust"
)

func sameURLs(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

// named are lists of members by where they come from.
type named map[restore.Source][]manifest.Member

// union are all members that any source names, in the order of their names.
// The running etcd knows best where they are, then the etcd.yamls; what a
// snapshot says of it is true of the day on which it was taken, if it is this
// cluster's.
func union(lists named) []restore.Member {
	all := map[string]*restore.Member{}
	for _, src := range []restore.Source{restore.InEtcd, restore.InManifest, restore.InSnapshot} {
		for _, m := range lists[src] {
			if m.Name == "" {
				continue // one that was added and never started
			}
			u := all[m.Name]
			if u == nil {
				u = &restore.Member{Name: m.Name, PeerURLs: m.PeerURLs}
				all[m.Name] = u
			}
			if !slices.Contains(u.KnownBy, src) {
				u.KnownBy = append(u.KnownBy, src)
			}
			if src == restore.InSnapshot && len(m.PeerURLs) > 0 && !sameURLs(u.PeerURLs, m.PeerURLs) {
				u.Elsewhere = m.PeerURLs
			}
		}
	}
	var out []restore.Member
	for _, name := range slices.Sorted(maps.Keys(all)) {
		m := all[name]
		for _, src := range []restore.Source{restore.InManifest, restore.InEtcd, restore.InSnapshot} {
			if len(lists[src]) > 0 && !slices.Contains(m.KnownBy, src) {
				m.Missing = append(m.Missing, src)
			}
		}
		slices.Sort(m.KnownBy)
		out = append(out, *m)
	}
	return out
}

// quorum of a cluster of n members.
func quorum(n int) int { return n/2 + 1 }

// judge says what is to be said of the members as a whole.
func judge(all []restore.Member, answers map[string]bool) []steps.Verdict {
	var out []steps.Verdict
	add := func(level steps.Level, check, title, hint string, overridable bool, format string, args ...any) {
		out = append(out, steps.Verdict{
			Check: check, Title: title, Level: level, Cause: fmt.Sprintf(format, args...), Hint: hint, Overridable: overridable,
		})
	}
	var away, odd, moved, left, alive, taken []string
	var unknown, others []string
	clusters, etcds, kubes, dirs := map[uint64][]string{}, map[string][]string{}, map[string][]string{}, map[string][]string{}
	for i := range all {
		m := &all[i]
		switch {
		case m.Apart && m.Out:
			continue
		case m.Apart && m.Facts == nil:
			away = append(away, m.Name+": "+m.Err)
			continue
		case m.Apart:
			others = append(others, m.Name)
			kubes[m.Facts.KubernetesVersion] = append(kubes[m.Facts.KubernetesVersion], m.Name)
			continue
		case m.Out:
			left = append(left, m.Name)
			if answers[m.Name] {
				alive = append(alive, m.Name)
			}
			continue
		case m.Facts == nil:
			away = append(away, m.Name+": "+m.Err)
			continue
		}
		taken = append(taken, m.Name)
		if len(m.Elsewhere) > 0 {
			moved = append(moved, fmt.Sprintf("%s is at %s, in the snapshot at %s", m.Name, strings.Join(m.PeerURLs, ", "), strings.Join(m.Elsewhere, ", ")))
		}
		if m.OnlySnapshot() {
			odd = append(odd, fmt.Sprintf("only the snapshot names %s, at %s", m.Name, cmp.Or(strings.Join(m.PeerURLs, ", "), "no address")))
		} else if len(m.Missing) > 0 {
			odd = append(odd, fmt.Sprintf("%s is named by %s, not by %s", m.Name, said(m.KnownBy), said(m.Missing)))
		}
		switch id := m.Facts.Cluster(); {
		case id != 0:
			clusters[id] = append(clusters[id], m.Name)
		case m.Facts.ClusterErr != "":
			unknown = append(unknown, m.Name+": "+m.Facts.ClusterErr)
		}
		etcds[m.Facts.EtcdVersion] = append(etcds[m.Facts.EtcdVersion], m.Name)
		if v := m.Facts.KubernetesVersion; v != "" || m.Facts.Runs(steps.RoleAPI) || len(m.Facts.Roles) == 0 {
			kubes[v] = append(kubes[v], m.Name)
		}
		if d := m.Facts.KubeadmDataDir; d != "" {
			dirs[d] = append(dirs[d], m.Name)
		}
	}
	const reach = "fleet-hosts"
	if len(away) > 0 {
		add(steps.Error, reach, "Nodes", "--host NAME=HOST names another host for it, --without NAME excludes it", false, "%s", strings.Join(away, "; "))
	} else {
		add(steps.Pass, reach, "Nodes", "", false, "reached: %s", strings.Join(slices.Concat(taken, others), ", "))
	}
	if len(odd) > 0 {
		add(steps.Warn, steps.CheckMembers, "Members", "fine if it joined later: it becomes a member of the restored cluster; if it was removed, exclude it with --without NAME", false, "%s", strings.Join(odd, "; "))
	} else {
		add(steps.Pass, steps.CheckMembers, "Members", "", false, "all sources name the same: %s", strings.Join(taken, ", "))
	}
	if len(moved) > 0 {
		add(steps.Warn, "fleet-addresses", "Addresses", "fine if the nodes got other addresses since the snapshot was taken; otherwise it is another cluster's", false, "%s", strings.Join(moved, "; "))
	}
	switch lost := len(left); {
	case len(alive) > 0:
		add(steps.Error, "left-out", "Excluded members", "stop kubelet and etcd there first: an excluded member must not keep running as a cluster of its own", true,
			"%s is excluded, but its etcd's port answers", strings.Join(alive, ", "))
	case lost > 0 && len(taken) < quorum(len(taken)+lost):
		add(steps.Warn, "left-out", "Excluded members", "make sure that they are down and stay down: together they could keep running as the old cluster", false,
			"%s: most of the members are excluded, and can't be seen from here", strings.Join(left, ", "))
	case lost > 0:
		add(steps.Pass, "left-out", "Excluded members", "", false, "%s: rejoin later (kubeadm reset, kubeadm join --control-plane)", strings.Join(left, ", "))
	}
	differ := func(check, title, what, hint string, by map[string][]string) {
		if len(by) > 1 {
			var parts []string
			for _, v := range slices.Sorted(maps.Keys(by)) {
				parts = append(parts, fmt.Sprintf("%s on %s", cmp.Or(v, "unknown"), strings.Join(by[v], ", ")))
			}
			add(steps.Warn, check, title, hint, false, "%s: %s", what, strings.Join(parts, "; "))
		}
	}
	const upgrade = "fine during an upgrade"
	differ("fleet-etcd-version", "etcd's version", "the nodes run different versions", upgrade, etcds)
	differ("fleet-kubernetes-version", "Kubernetes' version", "the nodes run different versions", upgrade, kubes)
	differ("fleet-data-directory", "Data directories", "the nodes' etcds have their data in different directories",
		"each node restores beside its own; kubeadm-config has one for all, so set etcd.local.dataDir to a node's own before kubeadm upgrade runs there", dirs)
	if len(unknown) > 0 {
		// What isn't known is no match.
		add(steps.Warn, "fleet-cluster", "Cluster", "make sure that they are of this cluster: their data isn't touched, and undo reverts to it", false,
			"cluster ID not known on every node: %s", strings.Join(unknown, "; "))
	}
	if len(clusters) > 1 {
		var parts []string
		for _, id := range slices.Sorted(maps.Keys(clusters)) {
			parts = append(parts, fmt.Sprintf("%x on %s", id, strings.Join(clusters[id], ", ")))
		}
		add(steps.Error, "fleet-cluster", "Cluster", "fine if a split cluster is joined again", true,
			"the nodes' etcds are of different clusters: %s", strings.Join(parts, "; "))
	}
	return out
}

func said(sources []restore.Source) string {
	var s []string
	for _, src := range sources {
		s = append(s, string(src))
	}
	return strings.Join(s, " and ")
}

// remote is how a node's ports are seen from the others. A readiness URL of
// its loopback is asked at the address that etcd's peers use.
func remote(f *restore.NodeFacts) steps.RemoteNode {
	n := steps.RemoteNode{Name: f.Name(), RemoteConfig: node.RemoteConfig{ReadyURL: f.ReadyURL}}
	if len(f.PeerURLs) > 0 {
		n.PeerURL = f.PeerURLs[0]
	}
	ready, err := url.Parse(f.ReadyURL)
	if err != nil {
		return n
	}
	if ip := net.ParseIP(ready.Hostname()); ready.Hostname() == "localhost" || ip != nil && ip.IsLoopback() {
		if peer := peerHost(f.PeerURLs); peer != "" {
			ready.Host = net.JoinHostPort(peer, ready.Port())
			n.ReadyURL = ready.String()
		}
	}
	return n
}

// peerHost is the host of the first peer URL, "" when there is none.
func peerHost(urls []string) string {
	if len(urls) == 0 {
		return ""
	}
	u, err := trust.URL(urls[0])
	if err != nil {
		return ""
	}
	return u.Hostname()
}

// CheckNames are the names of the checks of several nodes, sorted, beside those
// of each node.
func CheckNames() []string {
	return []string{"fleet-addresses", "fleet-cluster", "fleet-data-directory", "fleet-etcd-version", "fleet-hosts", "fleet-kubernetes-version", steps.CheckMembers, "left-out"}
}
