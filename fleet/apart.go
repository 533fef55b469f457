package fleet

import (
	"cmp"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"etcd-rewind/restore"
	"etcd-rewind/snapshot"
	"etcd-rewind/steps"
)

// etcd and the API servers may be apart. Who takes part is known from both ends:
// an API server names its etcd, and etcd has a lease of each API server. Where
// those can't be read, the snapshot has them of its day: they are asked about, and
// never dialled unless the user names them.

// at is the address by which a host is looked for that isn't a member's.
type at struct {
	address string
	role    steps.Role // why
	by      restore.Source
}

// beyond are the hosts that the nodes reached so far name, besides etcd's
// members: those that are none of theirs. A member is reached, or is missing, by
// its name.
func (c *Conductor) beyond() (all []at) {
	members := c.union()
	add := func(a at) {
		if a.address != "" && !c.reached(a.address) && !slices.ContainsFunc(all, func(o at) bool { return sameHost(o.address, a.address) }) {
			all = append(all, a)
		}
	}
	for _, n := range c.nodes {
		for _, ip := range c.users(n) {
			add(at{ip, steps.RoleAPI, restore.InEtcd})
		}
		if n.facts.Member != "" {
			continue // its etcd names the others
		}
		for _, s := range n.facts.EtcdServers {
			if u, err := url.Parse(s); err == nil && !slices.ContainsFunc(members, func(m restore.Member) bool { return !m.OnlySnapshot() && peerHost(m.PeerURLs) == u.Hostname() }) {
				add(at{u.Hostname(), steps.RoleEtcd, restore.InManifest})
			}
		}
	}
	unknown := c.leases() != ""
	for _, ip := range leased(c.want.Info) {
		of := func(m restore.Member) bool { return sameHost(peerHost(m.PeerURLs), ip) } // reported as that
		if (unknown || slices.Contains(c.want.Without, ip)) && !slices.ContainsFunc(members, of) {
			add(at{ip, steps.RoleAPI, restore.InSnapshot})
		}
	}
	return all
}

// users are the API servers that have a lease in etcd, as a node reads it. Where none
// answers, those that had one when etcd wrote its data last.
func (c *Conductor) users(n *fleetNode) []string {
	if c.live() {
		return n.facts.APIServers
	}
	return n.facts.LastAPIServers
}

// live says whether etcd answers one of the nodes.
func (c *Conductor) live() bool {
	return slices.ContainsFunc(c.nodes, func(n *fleetNode) bool { return n.facts.Live != nil })
}

// leases says why no node could read leases of API servers in etcd, "" when one
// could.
func (c *Conductor) leases() (unknown string) {
	for _, n := range c.nodes {
		if len(c.users(n)) > 0 {
			return ""
		}
		if unknown == "" || n.facts.Live != nil {
			unknown = n.facts.LeasesErr
		}
	}
	return cmp.Or(unknown, "no kube-apiserver has a lease in etcd")
}

// leased are the addresses of the API servers that had a lease when a snapshot was
// taken.
func leased(info *snapshot.Info) (all []string) {
	if info == nil {
		return nil
	}
	for _, s := range info.APIServers[:min(len(info.APIServers), mostMembers)] {
		if ip, err := netip.ParseAddr(s); err == nil && ip.Zone() == "" && !ip.IsLoopback() && !ip.IsUnspecified() {
			all = append(all, ip.Unmap().String())
		}
	}
	return all
}

// sameHost says whether two are one name, or one address however it is written.
func sameHost(a, b string) bool {
	if p, err := netip.ParseAddr(a); err == nil {
		q, err := netip.ParseAddr(b)
		return err == nil && p.Unmap() == q.Unmap()
	}
	return strings.EqualFold(a, b)
}

// reached says whether an address is one of a node that was reached.
func (c *Conductor) reached(address string) bool {
	if ip, err := netip.ParseAddr(address); err == nil && (ip.IsLoopback() || ip.IsUnspecified()) || address == "localhost" {
		return true // of the node itself
	}
	return slices.ContainsFunc(c.nodes, func(n *fleetNode) bool {
		ready, _ := url.Parse(n.facts.ReadyURL)
		hosts := []string{n.facts.AdvertiseAddress, n.facts.Node, n.name, n.at}
		if ready != nil {
			hosts = append(hosts, ready.Hostname())
		}
		if n.link != nil {
			hosts = append(hosts, n.link.host)
		}
		for _, u := range n.facts.PeerURLs {
			hosts = append(hosts, peerHost([]string{u}))
		}
		return slices.ContainsFunc(hosts, func(h string) bool { return h != "" && sameHost(h, address) })
	})
}

// others are the nodes without etcd, as they are shown among the members: those
// that were reached, and those that weren't.
func (c *Conductor) others(away map[string]string) (all []restore.Member) {
	for _, n := range c.nodes {
		if n.facts.Member == "" {
			all = append(all, restore.Member{
				Name: n.name, Apart: true, Facts: n.facts, Roles: n.facts.Roles, Host: n.link.host, Local: n.local,
				KnownBy: []restore.Source{restore.InManifest},
			})
		}
	}
	for _, a := range c.beyond() {
		why := "it isn't among the nodes that were named"
		if a.by == restore.InSnapshot && c.want.Nodes == nil {
			why = "only the snapshot names this API server, so it is not contacted"
		}
		all = append(all, restore.Member{
			Name: a.address, Apart: true, Roles: []steps.Role{a.role}, KnownBy: []restore.Source{a.by},
			Out: slices.Contains(c.want.Without, a.address),
			Err: cmp.Or(away[a.address], why),
		})
	}
	slices.SortFunc(all, func(a, b restore.Member) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// ready is where the API server of an excluded host is looked for: at the port
// that those of the nodes have.
func (c *Conductor) ready(address string) string {
	port := "6443"
	for _, n := range c.nodes {
		if u, err := url.Parse(n.facts.ReadyURL); err == nil && u.Port() != "" {
			port = u.Port()
		}
	}
	return "https://" + net.JoinHostPort(address, port)
}

// judgeAPI says whether all API servers of the cluster take part.
func (c *Conductor) judgeAPI(all []restore.Member, answers map[string]bool) (out []steps.Verdict) {
	add := func(level steps.Level, hint, cause string) {
		out = append(out, steps.Verdict{Check: steps.CheckAPIServers, Title: "API servers", Level: level, Cause: cause, Hint: hint, Overridable: level == steps.Error})
	}
	var alive, taken []string
	apart := false
	for i := range all {
		m := &all[i]
		switch {
		case m.Out && m.Apart && answers[m.Name]:
			alive = append(alive, m.Name)
		case m.Taken() && m.Facts.Runs(steps.RoleAPI):
			taken = append(taken, m.Name)
		}
		apart = apart || m.Apart || m.Taken() && len(m.Facts.Roles) > 0 && !m.Facts.Runs(steps.RoleAPI)
	}
	switch {
	case !apart: // each node has both
	case len(alive) > 0:
		add(steps.Error, "stop kube-apiserver there first: it must not run while etcd's data is replaced", strings.Join(alive, ", ")+" is excluded, but its kube-apiserver's port answers")
	case len(taken) == 0:
		add(steps.Error, "name their hosts with --nodes; or stop kube-apiserver on each of them, override "+steps.CheckAPIServers+", and start it again afterwards",
			"no node with kube-apiserver is known: those that use this etcd must not run while its data is replaced")
	default:
		part, since := strings.Join(taken, ", "), leased(c.want.Info)
		stop := "or stop kube-apiserver on each of the others, override " + steps.CheckAPIServers + ", and start it again afterwards"
		took := "all that have a lease in etcd take part: "
		if !c.live() {
			took = "all that had a lease when etcd was last written take part: "
		}
		gone := slices.DeleteFunc(slices.Clone(since), func(ip string) bool {
			return c.reached(ip) || slices.ContainsFunc(all, func(m restore.Member) bool { return sameHost(m.Name, ip) || sameHost(peerHost(m.PeerURLs), ip) })
		})
		switch unknown := c.leases(); {
		case unknown != "" && c.want.Nodes != nil:
			add(steps.Pass, "", "those that --nodes names take part: "+part)
		case unknown != "" && len(since) == 0:
			add(steps.Error, "name all control planes with --nodes; "+stop,
				"only "+part+" is known, and others may use this etcd: "+unknown+", and the snapshot names no API server")
		case unknown != "":
			add(steps.Warn, "if a control plane has joined since the snapshot was taken, name all of them with --nodes; "+stop,
				unknown+", so those that the snapshot names take part: "+part)
		case len(gone) > 0:
			add(steps.Pass, "", took+part+"; "+strings.Join(gone, ", ")+" had one when the snapshot was taken, and must not run now")
		default:
			add(steps.Pass, "", took+part)
		}
	}
	return out
}
