package steps

import (
	"context"
	"errors"
	"slices"
	"time"

	"etcd-rewind/snapshot"
)

// check is one thing that can be known to be wrong before anything is touched.
type check struct {
	name  string // for --override: people have it in scripts, it stays
	title string
	rows  string // of docs/failures.md
	needs need
	run   func(*checks) Verdict
}

// need is what a check can't be made without; it is left out then.
type need uint8

const (
	needEtcd     need = 1 << iota // etcd's manifest could be read
	needKubelet                   // there is one
	needAPI                       // kube-apiserver's manifest could be read
	needSnapshot                  // one was chosen
	needPods                      // a part of the control plane here is a static pod
)

// ofNode are the checks of a node, ofSnapshot those of a snapshot on it, in the
// order in which they are made. Documentation and completion are made from them.
var (
	ofNode = []check{
		{"root", "Root", "", 0, (*checks).root},
		{"lock", "Other runs", "", 0, (*checks).lock},
		{CheckEarlierRun, "Earlier run", "", 0, (*checks).earlierRun},
		{"kubelet", "kubelet", "", 0, (*checks).kubelet},
		{"kubelet-process", "kubelet's process", "", needKubelet, (*checks).impostors},
		{"container-runtime", "Container runtime", "", needKubelet | needPods, (*checks).runtime},
		{"manifest-directory", "Manifest directory", "7", needKubelet, (*checks).manifestDir},
		{"stray-manifests", "Stray manifests", "1, 2", needKubelet, (*checks).strays},
		{CheckEtcdManifest, "etcd's manifest", "8", 0, (*checks).etcdManifest},
		{CheckAPIManifest, "kube-apiserver's manifest", "37", 0, (*checks).apiManifest},
		{CheckAPIServers, "API servers", "29", needEtcd, (*checks).apiServers},
		{CheckEtcdHosts, "etcd's nodes", "", needAPI, (*checks).etcdHosts},
		{CheckTopology, "Members", "27", needEtcd, (*checks).topology},
		{"member-name", "Member", "26", needEtcd, (*checks).member},
		{"old-data", "Old data", "9", needEtcd, (*checks).data},
		{"data-directory", "Data directory", "39", needEtcd, (*checks).dataDirectory},
		{CheckOlderData, "Older data", "9", needEtcd, (*checks).older},
		{"data-volume", "Data volume", "", needEtcd, (*checks).onDataVolume},
		{"wal-dir", "WAL directory", "14", needEtcd, (*checks).wal},
		{"owner", "Owner of the data", "11", needEtcd, (*checks).owner},
		{"target", "New data directory", "13", needEtcd, (*checks).target},
		{"managed-file", "Who writes etcd's settings", "", needEtcd, (*checks).managedFile},
		{"unit-settings", "etcd's unit", "", needEtcd, (*checks).unitSettings},
		{"unit-others", "Other units", "", 0, (*checks).unitOthers},
		{"same-file-system", "Renames", "15", needPods, (*checks).renames},
		{"journal-disk", "Journal's disk", "", 0, (*checks).journalDisk},
		{"etcd-access", "Access to etcd", "", needEtcd, (*checks).etcdAccess},
		{"other-etcds", "Other etcds", "", 0, (*checks).otherEtcds},
		{"etcd-servers", "API server → etcd", "36", needEtcd | needAPI, (*checks).etcdServers},
		{"kms-plugin", "KMS plugin", "", needAPI, (*checks).kms},
		{"certificates", "Certificates", "34", 0, (*checks).certificates},
		{CheckBackups, "Backups", "", 0, (*checks).backups},
	}
	ofSnapshot = []check{
		{"unit-start", "Time to start etcd", "", needEtcd | needSnapshot, (*checks).unitStart},
		{"disk-space", "Disk space", "15", needEtcd | needSnapshot, (*checks).space},
		{"snapshot-hash", "Snapshot", "16 to 18", needSnapshot, (*checks).hash},
		{"snapshot-record", "Backup's record", "", needSnapshot, (*checks).record},
		{"snapshot-version", "Snapshot's version", "20", needEtcd | needSnapshot, (*checks).version},
		{"snapshot-revision", "Revision", "", needSnapshot, (*checks).revision},
		{"snapshot-alarms", "Alarms and quota", "22", needEtcd | needSnapshot, (*checks).alarms},
		{"snapshot-prefix", "Prefix of the keys", "", needAPI | needSnapshot, (*checks).prefix},
		{"snapshot-auth", "Authentication in the snapshot", "", needEtcd | needAPI | needSnapshot, (*checks).auth},
		{"snapshot-members", "Members in the snapshot", "27, 30", needEtcd | needSnapshot, (*checks).members},
		{"snapshot-node", "This node in the snapshot", "25", needSnapshot, (*checks).nodeInSnapshot},
		{"snapshot-nodes", "Other nodes in the snapshot", "40", needSnapshot, (*checks).joinedSince},
		{"snapshot-kubelets", "Kubelets in the snapshot", "", needAPI | needSnapshot, (*checks).kubelets},
		{"snapshot-services", "Service addresses", "23", needAPI | needSnapshot, (*checks).sameServices},
		{"snapshot-encryption", "Encryption at rest", "24", needSnapshot, (*checks).encryption},
	}
)

// The checks that others look for among verdicts, by name.
const (
	CheckEarlierRun   = "earlier-run"
	CheckEtcdManifest = "etcd-manifest"
	CheckAPIManifest  = "api-manifest"
	CheckAPIServers   = "api-servers"
	CheckEtcdHosts    = "etcd-hosts"
	CheckTopology     = "topology" // refuses to restore one of several members alone
	CheckOlderData    = "older-data"
	CheckBackups      = "backups"
	CheckMembers      = "fleet-members" // of several nodes: fleet's, which screens know nothing of
)

// The verdicts that come from elsewhere: on a file that can't be used at all,
// and from a comparison with the running cluster.
const (
	unusable = "snapshot"
	lineage  = "snapshot-cluster"
)

// CheckInfo is what documentation and completion show of a check: the name that
// --override takes, what is looked at, and its rows of docs/failures.md. Not
// each can be overridden.
type CheckInfo struct{ Name, Title, Rows string }

// Checks are all checks of one node, in the order in which they are made: first
// of the node, then of a snapshot on it, then of a run that is taken up again.
func Checks() []CheckInfo {
	var all []CheckInfo
	for _, c := range slices.Concat(ofNode, ofSnapshot) {
		all = append(all, CheckInfo{c.name, c.title, c.rows})
	}
	return append(
		all, CheckInfo{unusable, "Snapshot", "17, 18"}, CheckInfo{lineage, "Cluster", "23"},
		CheckInfo{checkThisNode, "This node", ""}, CheckInfo{checkRestart, "kubelet's restart", ""}, CheckInfo{checkUnreadable, "Earlier run", ""},
		CheckInfo{checkEdited, "Manifests since the run", ""}, CheckInfo{checkRestoredData, "The restored data", ""},
	)
}

// Check looks at everything that can be known to go wrong before anything is
// touched. info is nil when no snapshot was chosen: then what depends on it is
// left out.
func Check(ctx context.Context, f *Facts, info *snapshot.Info, c Choices) []Verdict {
	all := ofNode
	if f.Etcd != nil || f.lacks(RoleEtcd) {
		all = slices.Concat(ofNode, ofSnapshot)
	}
	return f.check(ctx, all, info, c)
}

// CheckSnapshot is Check's part about the snapshot alone: whether this node
// can use it.
func CheckSnapshot(ctx context.Context, f *Facts, info *snapshot.Info, c Choices) []Verdict {
	return f.check(ctx, ofSnapshot, info, c)
}

func (f *Facts) check(ctx context.Context, all []check, info *snapshot.Info, c Choices) []Verdict {
	k := &checks{ctx: ctx, f: f, info: info, c: f.Settle(info, c)}
	var have need
	for n, there := range map[need]bool{needEtcd: f.Etcd != nil, needKubelet: f.Kubelet != nil, needAPI: f.API != nil, needSnapshot: info != nil, needPods: f.onPods()} {
		if there {
			have |= n
		}
	}
	var out []Verdict
	for _, c := range all {
		if ctx.Err() != nil {
			break
		}
		if c.needs&^have != 0 {
			continue
		}
		if v := k.comesBack(c, checkLimit); v.Level != "" {
			v.Check, v.Title = c.name, c.title
			out = append(out, v)
		}
	}
	for _, r := range f.Unreadable {
		if len(all) > len(ofSnapshot) {
			out = append(out, unreadable(r))
		}
	}
	Accept(out, c.Accept)
	return out
}

// checkLimit is for one check: most look at a disk, and a mount may hang.
const checkLimit = 30 * time.Second

// comesBack runs a check, and gives it up when it hangs.
func (k *checks) comesBack(c check, limit time.Duration) Verdict {
	type outcome struct {
		v Verdict
		k checks
	}
	its := *k // copied before it begins: one that was given up may begin later
	out, err := bounded(k.ctx, bound{who: "this check", limit: limit}, func(context.Context, func(func())) (outcome, error) {
		v := c.run(&its)
		return outcome{v, its}, nil
	})
	if errors.As(err, new(*noAnswer)) {
		return wrong("check dmesg, and for a mount that hangs", "not known: %s", err)
	}
	if err != nil {
		return none // interrupted
	}
	*k = out.k
	return out.v
}
