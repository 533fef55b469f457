package steps

import (
	"cmp"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"etcd-rewind/node"
	"etcd-rewind/trust"
)

// Row 8.
func (k *checks) etcdManifest() Verdict {
	if k.f.lacks(RoleEtcd) {
		return ok("none: etcd runs on other nodes")
	}
	if k.f.EtcdErr != nil {
		v := failed(k.f.EtcdErr)
		v.Hint = cmp.Or(v.Hint, "run it on a node with etcd, or name the directory of its manifests with --manifests")
		return v
	}
	d := k.f.Etcd.DataDir
	if u, is := k.f.Etcd.unit(); is {
		return ok("%s", trust.Text(u.says()))
	}
	return ok("--data-dir %s → volume %s → %s", d.Flag, d.Volume, d.HostPath)
}

// etcdHosts: a control plane without etcd takes part in a restore of those that
// have it.
func (k *checks) etcdHosts() Verdict {
	switch {
	case !k.f.lacks(RoleEtcd):
		return none
	case k.c.Fleet == nil:
		return failed(k.f.etcdElsewhere())
	}
	return ok("%s", k.c.Fleet.initialCluster())
}

// apiServers: etcd's data is replaced while no API server runs that uses it.
// (Row 29.)
func (k *checks) apiServers() Verdict {
	others := k.f.OtherAPIServers
	if !k.f.lacks(RoleAPI) && (len(others) == 0 || k.c.Fleet != nil) {
		return none
	}
	if k.f.lacks(RoleAPI) {
		others = k.f.Users()
	}
	if f := k.c.Fleet; f != nil && slices.ContainsFunc(f.Others, func(o RemoteNode) bool { return o.ReadyURL != "" }) {
		return none // they are stopped with it
	}
	who := ""
	if len(others) > 0 {
		who = " (" + strings.Join(others, ", ") + ")"
	}
	return wrong("restore them together: etcd-rewind restore --fleet; or stop kube-apiserver on each of them, override "+CheckAPIServers+", and start it again afterwards",
		apiElsewhere, who)
}

const apiElsewhere = "kube-apiserver runs on other nodes%s, and must not run while this etcd's data is replaced"

// Row 27, this node's part.
func (k *checks) topology() Verdict {
	e := k.f.Etcd
	if fleet := k.c.Fleet; fleet != nil {
		return k.fleet()
	}
	several := "restored alone, one of several members becomes a cluster of one. " +
		"Restore all of them as one: etcd-rewind restore --fleet"
	if k.f.Live != nil && len(k.f.Live.Members) > 1 {
		return bad(several, "the running etcd has %d members: %s", len(k.f.Live.Members), liveNames(k.f.Live.Members))
	}
	if len(e.InitialCluster) > 1 {
		var names []string
		for _, m := range e.InitialCluster {
			names = append(names, m.Name)
		}
		if k.f.Live != nil {
			return warn("fine if the other members were removed and stay down", "--initial-cluster names %s, the running etcd has one member", strings.Join(names, ", "))
		}
		return bad(several, "--initial-cluster in %s names %d members: %s", e.Source.Name(), len(names), strings.Join(names, ", "))
	}
	if e.InitialClusterState == "existing" && k.f.Live == nil {
		return wrong(several, "--initial-cluster-state=existing: this etcd joined a cluster, and the number of its members can't be read")
	}
	return ok("one member on this node")
}

// fleet compares who the members are by etcd.yaml, by the running etcd and by
// the plan. Kubeadm doesn't rewrite --initial-cluster when members join later,
// so a name that is missing there means nothing.
func (k *checks) fleet() Verdict {
	fleet, e := k.c.Fleet, k.f.Etcd
	if fleet.member(e.Name) == nil {
		return bad("name all members", "the member %s of this node is not among those to be restored: %s", e.Name, fleet.initialCluster())
	}
	known := map[string]bool{}
	for _, m := range e.InitialCluster {
		known[m.Name] = true
	}
	if k.f.Live != nil {
		known = map[string]bool{}
		for _, m := range k.f.Live.Members {
			known[m.Name] = true
		}
	}
	var left []string
	for name := range known {
		if name != "" && fleet.member(name) == nil {
			left = append(left, name)
		}
	}
	if len(left) > 0 {
		slices.Sort(left)
		return warn("fine if these nodes are lost: they rejoin later (kubeadm reset, kubeadm join --control-plane)",
			"excluded from the restored cluster: %s", strings.Join(left, ", "))
	}
	return ok("%d members, restored as one: %s", len(fleet.Members), fleet.initialCluster())
}

func liveNames(all []node.EtcdMember) string {
	var names []string
	for _, m := range all {
		names = append(names, m.Name)
	}
	return strings.Join(names, ", ")
}

// Row 26.
func (k *checks) member() Verdict {
	e := k.f.Etcd
	peers := strings.Join(e.AdvertisePeerURLs, ", ")
	for _, p := range e.AdvertisePeerURLs {
		if u, err := url.Parse(p); err == nil && !k.f.Own && (u.Hostname() == "localhost" || u.Hostname() == "127.0.0.1") {
			return warn("works alone; kubeadm join --control-plane fails later", "the member %s has the peer URL %s, which no other node can reach", e.Name, p)
		}
	}
	return ok("%s at %s, as in %s", e.Name, peers, e.Source.Name())
}

// Row 14.
func (k *checks) wal() Verdict {
	w := k.f.Etcd.WALDir
	switch {
	case w == nil:
		return ok("inside the data directory")
	default:
		return ok("--wal-dir %s is restored too, its volume %s gets a new hostPath", w.Flag, w.Volume)
	}
}

// Row 11.
func (k *checks) owner() Verdict {
	e := k.f.Etcd
	uid, _, mode, label, err := node.Owner(e.DataDir.Path)
	if err != nil {
		return warn("", "the owner of %s can't be read: %s", e.DataDir.Path, err)
	}
	if label != "" {
		label = ", " + label
	}
	if e.RunAsUser != nil && int(*e.RunAsUser) != uid {
		return wrong(fmt.Sprintf("chown -R %d %s, or correct runAsUser", *e.RunAsUser, e.DataDir.Path),
			"etcd runs as user %d, but %s belongs to user %d, and so would the restored data", *e.RunAsUser, e.DataDir.Path, uid)
	}
	if k.c.InPlace {
		return ok("user %d, mode %04o%s; existing data keeps its own", uid, mode.Perm(), label)
	}
	return ok("user %d, mode %04o%s; the new directory gets the same", uid, mode.Perm(), label)
}

// otherEtcds names what a restore doesn't touch. Events can be lost; what else
// is kept apart no longer fits what is restored.
func (k *checks) otherEtcds() Verdict {
	if len(k.f.OtherEtcds) == 0 && (k.f.API == nil || len(k.f.API.EtcdServersOverrides) == 0) {
		return none
	}
	var say []string
	for _, o := range k.f.OtherEtcds {
		holds := "not kube-apiserver's"
		switch {
		case len(o.Holds) > 0:
			holds = "it holds " + strings.Join(o.Holds, ", ")
		case k.f.API == nil:
			holds = "what it holds is unknown here"
		}
		disable := "if it isn't used: systemctl disable --now " + trust.Shell("%s", o.name())
		if o.SameData {
			return bad(disable, "%s is another etcd with the same data directory: %s", o.name(), o.DataDir.HostPath)
		}
		if o.SameAddress {
			return warn(disable, "%s is another etcd with an address of this one: both can't run, and a boot starts both", o.name())
		}
		say = append(say, o.name()+" is another etcd ("+o.DataDir.HostPath+"; "+holds+") and is left alone")
	}
	if apart := k.f.apart(); len(apart) > 0 {
		say = append(say, "not restored: "+strings.Join(apart, ", ")+", which kube-apiserver keeps in another etcd (--etcd-servers-overrides)")
		if slices.ContainsFunc(apart, func(r string) bool { return r != "events" && !strings.HasSuffix(r, "/events") }) {
			return warn("restore that etcd too, from a snapshot of the same time", "%s", strings.Join(say, "; "))
		}
	}
	return ok("%s", strings.Join(say, "; "))
}
