package steps

import (
	"fmt"
	"maps"
	"math"
	"net"
	"slices"
	"strings"

	netutils "k8s.io/utils/net"

	"etcd-rewind/problem"
	"etcd-rewind/snapshot"
	"etcd-rewind/trust"
)

// SnapshotVerdict is the verdict on a file that can't be used at all.
func SnapshotVerdict(name string, err error) Verdict {
	v := failed(problem.From(err).About(snapshot.BaseName(name)))
	v.Check, v.Title = unusable, "Snapshot"
	return v
}

// Rows 16, 17, 18: a wrong hash or a torn file never gets this far.
func (k *checks) hash() Verdict {
	if k.c.InPlace {
		return ok("the database of %s is intact: pages and records", k.c.DataDir)
	}
	if k.info.Hash == snapshot.HashMissing {
		return warn("fine for a copy of member/snap/db that was taken while etcd was stopped; a copy from a running etcd may be torn",
			"%s has no sha256 trailer: its pages are consistent, but there is no checksum to verify the content", snapshot.BaseName(k.info.Name))
	}
	return ok("%s is intact: sha256, pages and records", snapshot.BaseName(k.info.Name))
}

// record warns of a backup of which nobody knows who made it: a cluster that is
// down isn't left so for that.
func (k *checks) record() Verdict {
	if d := k.info.Doubt; d != nil {
		return advise(d.Hint, "%s", d.Cause)
	}
	return none
}

// Row 20.
func (k *checks) version() Verdict {
	snap, server, runs := minor(k.info.StorageVersion), minor(k.f.EtcdVersion), "this node runs "+k.f.EtcdVersion
	if server == "" && k.f.LastUsers != nil { // a service that is down has no image that says so
		server = minor(k.f.LastUsers.StorageVersion)
		runs = "this node's data is of etcd " + server
	}
	etcd := k.f.Etcd.Image
	if etcd == "" {
		etcd = "this node's etcd"
	}
	switch {
	case snap == "" && server == "":
		return warn("", "neither the snapshot nor the image names its version")
	case server == "":
		return warn("an older etcd refuses a newer snapshot", "the snapshot is from etcd %s, the version of %s isn't known", snap, etcd)
	case snap != "" && newer(snap, server):
		return wrong("use an etcd of "+snap+" or newer", "the snapshot was written by etcd %s, %s, which refuses it (\"version ... is not supported\")", snap, runs)
	case snap == "":
		return ok("from before etcd 3.6; %s", runs)
	default:
		return ok("etcd %s, %s", snap, runs)
	}
}

func minor(v string) string {
	parts := strings.SplitN(strings.TrimPrefix(v, "v"), ".", 3)
	if len(parts) < 2 {
		return ""
	}
	return parts[0] + "." + parts[1]
}

func newer(a, b string) bool {
	var a1, a2, b1, b2 int
	_, errA := fmt.Sscanf(a, "%d.%d", &a1, &a2)
	_, errB := fmt.Sscanf(b, "%d.%d", &b1, &b2)
	return errA == nil && errB == nil && (a1 > b1 || a1 == b1 && a2 > b2)
}

// Row 22.
func (k *checks) alarms() Verdict {
	quota := k.f.Etcd.QuotaBytes
	if quota == 0 {
		quota = 2 << 30
	}
	switch {
	case len(k.info.Alarms) > 0:
		return warn("after the restore: etcdctl alarm disarm, once the cause is gone", "the snapshot contains the alarm %s", someNames(k.info.Alarms))
	case quota < 0: // as etcd reads it (storage/quota.go)
		return ok("no alarm, no quota")
	case k.info.TotalSize > quota:
		return wrong("raise --quota-backend-bytes in etcd.yaml first", "the database has %s, etcd's quota is %s: it would refuse writes", Bytes(k.info.TotalSize), Bytes(quota))
	default:
		return ok("no alarm, %s of %s", Bytes(k.info.TotalSize), Bytes(quota))
	}
}

// Rows 27 and 30, the snapshot's part.
func (k *checks) members() Verdict {
	if fleet := k.c.Fleet; fleet != nil {
		return ok("replaced by the %d that take part", len(fleet.Members))
	}
	if k.c.InPlace && len(k.info.Members) > 1 {
		return bad("restore its database instead: "+trust.Shell("etcd-rewind restore %s", k.info.Name),
			"the data belongs to one member of a cluster of %d, and etcd would wait for the others", len(k.info.Members))
	}
	if n := len(k.info.Members) + k.info.More["members"]; n > 1 {
		var names []string
		for _, m := range k.info.Members {
			names = append(names, m.Name)
		}
		return wrong("continue only if this is the last node left: it becomes the only member; the others rejoin later",
			"the snapshot is from a cluster of %d members (%s), the restored cluster has one", n, someNames(names))
	}
	return ok("replaced by the one of this node")
}

// prefix holds where the keys lie against where kube-apiserver looks: elsewhere
// it finds nothing, makes a blank cluster, and kubelets stop all pods.
func (k *checks) prefix() Verdict {
	reads, all := k.f.API.EtcdPrefix, k.info.Prefixes
	if len(all) == 0 {
		all = []string{k.info.Prefix}
	}
	switch {
	case len(k.info.Namespaces) == 0:
		return none // snapshot-node says so
	case !slices.Contains(all, strings.TrimSuffix(reads, "/")):
		return bad("set --etcd-prefix="+trust.Text(all[0])+" in "+k.f.API.Source.Name()+" if that is what the cluster had, or use another snapshot",
			"the snapshot's keys are below %s, kube-apiserver reads those below %s (--etcd-prefix): it would start a blank cluster",
			someNames(all), reads)
	case len(all) > 1:
		return warn("the snapshot's contents are shown for those below "+trust.Text(k.info.Prefix),
			"the snapshot holds several clusters' keys, below %s; kube-apiserver reads those below %s", someNames(all), reads)
	}
	return ok("%s, as kube-apiserver reads them", reads)
}

// Row 25, the node's part.
func (k *checks) nodeInSnapshot() Verdict {
	if k.f.lacks(RoleAPI) && (k.f.Kubelet == nil || k.f.Kubelet.Kubeconfig == "") {
		return none // an etcd host is none of the cluster's nodes
	}
	if len(k.info.Namespaces) == 0 {
		return wrong("is it the right file?", "the snapshot holds no Kubernetes objects")
	}
	if k.f.Kubelet == nil { // an API server that is a service of a host without one
		return ok("%s has no kubelet, so it isn't one of the cluster's nodes", k.f.Node)
	}
	for _, n := range k.info.Nodes {
		if n.Name == k.f.Node {
			return ok("%s is among its %d nodes", k.f.Node, len(k.info.Nodes)+k.info.More["nodes"])
		}
	}
	if more := k.info.More["nodes"]; more > 0 {
		return warn("is it this cluster's snapshot?", "the snapshot has %d nodes, more than any cluster: whether %s is one of them isn't known", len(k.info.Nodes)+more, k.f.Node)
	}
	var names []string
	for _, n := range k.info.Nodes {
		names = append(names, n.Name)
	}
	return wrong("is it this cluster's snapshot?", "the snapshot does not contain node %s, only: %s", k.f.Node, someNames(names))
}

// kubelets holds the snapshot's kubelets against the version skew that
// Kubernetes supports: none may be newer than kube-apiserver.
func (k *checks) kubelets() Verdict {
	ours := minor(k.f.KubernetesVersion)
	if ours == "" || len(k.info.KubeletVersions) == 0 {
		return none
	}
	var beyond []string
	count := 0
	for _, v := range slices.Sorted(maps.Keys(k.info.KubeletVersions)) {
		if newer(minor(v), ours) {
			n := k.info.KubeletVersions[v]
			beyond, count = append(beyond, fmt.Sprintf("%s (%d)", trust.Text(v), n)), count+n
		}
	}
	if len(beyond) > 0 {
		return warn("fine if those nodes are gone, or run an older kubelet again; otherwise upgrade the control plane first",
			"%d of the snapshot's nodes ran a newer kubelet than this kube-apiserver, %s: %s", count, k.f.KubernetesVersion, someNames(beyond))
	}
	return ok("none is newer than kube-apiserver, %s", k.f.KubernetesVersion)
}

// Row 23, as far as it can be seen without a running cluster.
func (k *checks) sameServices() Verdict {
	ours := networks(k.f.API.ServiceCIDRs)
	if len(ours) == 0 {
		return none // nothing to compare
	}
	same := func(c *net.IPNet) bool {
		return slices.ContainsFunc(ours, func(o *net.IPNet) bool { return o.String() == c.String() })
	}
	theirs := networks(k.info.ServiceCIDRs)
	if slices.ContainsFunc(theirs, same) {
		return ok("%s, as in %s", strings.Join(trust.Lines(k.info.ServiceCIDRs), ", "), k.f.API.Source.Name())
	}
	hint, where := "is it this cluster's snapshot?", strings.Join(k.f.API.ServiceCIDRs, ", ")
	if len(theirs) > 0 {
		return wrong(hint, "the snapshot's services are in %s, --service-cluster-ip-range is %s", strings.Join(trust.Lines(k.info.ServiceCIDRs), ", "), where)
	}
	// Before Kubernetes 1.33 the service kubernetes has an address of the range.
	ip := netutils.ParseIPSloppy(k.info.ServiceIP)
	switch {
	case ip == nil:
		return none
	case slices.ContainsFunc(ours, func(o *net.IPNet) bool { return o.Contains(ip) }):
		return ok("the service kubernetes has %s, of %s", ip, where)
	}
	return wrong(hint, "the service kubernetes has %s in the snapshot, --service-cluster-ip-range is %s", ip, where)
}

// networks reads ranges as kube-apiserver does, which masks their addresses.
func networks(ranges []string) []*net.IPNet {
	var all []*net.IPNet
	for _, r := range ranges {
		if _, n, err := netutils.ParseCIDRSloppy(strings.TrimSpace(r)); err == nil {
			all = append(all, n)
		}
	}
	return all
}

// NotCompared says why a snapshot couldn't be compared with what this node has.
// That blocks nothing: etcd's data may be what is broken.
func NotCompared(err error) Verdict {
	cause, hint := problem.Explain(err)
	return Verdict{Check: lineage, Title: "Cluster", Level: Pass, Cause: "not compared with this node's data: " + cause, Hint: hint}
}

// LineageVerdict says whether a snapshot is of this cluster, by what a
// comparison found. (Row 23.)
func LineageVerdict(c *snapshot.Comparison) Verdict {
	v := Verdict{Check: lineage, Title: "Cluster", Level: Pass, Cause: c.Lineage.Cause}
	switch c.Lineage.Relation {
	case snapshot.OtherCluster:
		v.Level, v.Overridable, v.Hint = Error, true, "the control plane would start with another cluster's data: is it the right file?"
	case snapshot.Unrelated:
		v.Level, v.Hint = Warn, "check the node's name and the namespaces in it"
	case snapshot.Forked:
		v.Hint = "expected after a restore of an older snapshot"
	}
	return v
}

// roomForRevisions is how many revisions a restored cluster has to be able to
// write before etcd's int64 is at its end: 1000 a second for 30 years.
const roomForRevisions = 1 << 40

// revision holds the sum of the snapshot's revision and the bump against what
// an int64 holds: beyond its end etcd's revisions would begin again below zero.
func (k *checks) revision() Verdict {
	have, bump := k.info.Revision, *k.c.Bump
	switch {
	case have < 0:
		return bad("use another snapshot", "its revision is %d: no etcd wrote that", have)
	case have > math.MaxInt64-roomForRevisions || bump > uint64(math.MaxInt64-roomForRevisions-have):
		return bad("choose a smaller --bump-revision; without one, use another snapshot: only damage makes such a revision",
			"revision %d + %d exceeds etcd's maximum", have, bump)
	}
	return ok("%d + %d", have, bump)
}
