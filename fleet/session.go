package fleet

import (
	"cmp"
	"context"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"etcd-rewind/manifest"
	"etcd-rewind/node"
	"etcd-rewind/problem"
	"etcd-rewind/restore"
	"etcd-rewind/snapshot"
	"etcd-rewind/steps"
)

// ThisNode is the node that the program runs on.
type ThisNode struct {
	Session *steps.Session

	mu    sync.Mutex
	facts *steps.Facts
	infos map[string]*snapshot.Info // by path, as inspected by Check
}

func (n *ThisNode) discover(ctx context.Context) (*steps.Facts, error) {
	f, err := n.Session.Discover(ctx)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.facts = f
	return f, err
}

func (n *ThisNode) Use(p restore.Paths) {
	o := &n.Session.Options
	o.KubeletConfig, o.Manifests, o.CRI, o.EtcdUnit, o.StateDir = p.KubeletConfig, p.Manifests, p.CRI, p.EtcdUnit, p.StateDir
	o.Accept, o.KubeletRestart = p.Accept, p.KubeletRestart
}

func (n *ThisNode) Facts(ctx context.Context) (*restore.NodeFacts, error) {
	s, err := n.discover(ctx)
	if err != nil {
		return nil, err
	}
	f := &restore.NodeFacts{
		Node: s.Node, Roles: s.Roles(), StateDir: s.StateDir, OS: runtime.GOOS, Arch: runtime.GOARCH,
		ReadyURL: s.Reach.API.ReadyURL, APIReady: s.APIReady, APIState: s.APIState,
		KubernetesVersion: s.KubernetesVersion, EtcdVersion: s.EtcdVersion, Unfinished: s.Unfinished,
		LatestRun: steps.NewestRunName(s.StateDir),
	}
	if s.Etcd != nil {
		f.Member, f.PeerURLs, f.InitialCluster = s.Etcd.Name, s.Etcd.AdvertisePeerURLs, s.Etcd.InitialCluster
		if !s.Kubeadm.None {
			f.KubeadmDataDir = s.Etcd.DataDir.Path
		}
		if d, err := node.DiskOf(s.BesideData()); err == nil {
			f.FreeBytes = d.FreeBytes
		}
	} else {
		f.EtcdErr = problem.Line(s.EtcdErr)
	}
	if s.API != nil {
		f.AdvertiseAddress = s.API.AdvertiseAddress
		for _, u := range s.API.EtcdServers {
			if validURL(u) == nil && len(f.EtcdServers) < mostURLs {
				f.EtcdServers = append(f.EtcdServers, u)
			}
		}
	}
	f.APIServers = s.APIServers
	f.LeasesErr = s.LeasesUnknown()
	if u := s.LastUsers; u != nil {
		members := known(u.Members)
		f.LastMembers, f.LastAPIServers = members[:min(len(members), mostMembers)], u.APIServers[:min(len(u.APIServers), mostMembers)]
	}
	if s.Live != nil {
		f.Live = &restore.LiveEtcd{ClusterID: s.Live.ClusterID, Revision: s.Live.Revision, Leader: s.Etcd != nil && s.Live.Leader != 0 && s.Live.Leader == s.Live.MemberID}
		for _, m := range s.Live.Members {
			f.Live.Members = append(f.Live.Members, manifest.Member{Name: m.Name, PeerURLs: m.PeerURLs})
		}
	} else if s.LiveErr != nil {
		f.LiveErr = s.LiveErr.Error()
	}
	f.ClusterID, f.ClusterErr = cluster(ctx, s)
	return f, nil
}

// cluster says of which cluster a node's etcd is. One that is dead, or that
// shows this node's certificate nothing, still has its data.
func cluster(ctx context.Context, s *steps.Facts) (id uint64, why string) {
	if s.Live != nil && s.Live.ClusterID != 0 {
		return s.Live.ClusterID, ""
	}
	if s.Etcd == nil {
		return 0, ""
	}
	wal := ""
	if s.Etcd.WALDir != nil {
		wal = s.Etcd.WALDir.Path
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	is, err := snapshot.Identify(ctx, s.Etcd.DataDir.Path, wal)
	switch {
	case err != nil:
		return 0, err.Error()
	case is.ClusterID == 0 && is.Size > 0:
		return 0, cmp.Or(is.WALErr, "no cluster ID in its data")
	}
	return is.ClusterID, ""
}

// Place is beside the data directory, where there has to be room
// for what is restored from it.
func (n *ThisNode) Place(sha256 string) (string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.facts != nil && n.facts.Etcd == nil && n.facts.API != nil { // it only looks into it
		return filepath.Join(filepath.Dir(n.facts.Layout.StateDir), "etcd-rewind-snapshot-"+sha256[:16]+".db"), nil
	}
	if n.facts == nil || n.facts.Etcd == nil {
		return "", problem.New("", "this node's etcd.yaml names no data directory")
	}
	dir := n.facts.BesideData()
	return filepath.Join(dir, "etcd-rewind-snapshot-"+sha256[:16]+".db"), nil
}

func (n *ThisNode) Check(ctx context.Context, o Order, busy func()) ([]steps.Verdict, error) {
	f, err := n.discover(ctx)
	if err != nil {
		return nil, err
	}
	if o.Snapshot == "" {
		return n.Session.Check(ctx, f, nil, o.Choices), nil
	}
	info, bad := n.Session.Inspect(ctx, o.Snapshot, func(int64, int64) { busy() })
	if bad != nil {
		return append(n.Session.Check(ctx, f, nil, o.Choices), steps.SnapshotVerdict(o.name(), bad)), nil
	}
	if err := o.same(info); err != nil {
		return append(n.Session.Check(ctx, f, nil, o.Choices), steps.SnapshotVerdict(o.name(), err)), nil
	}
	info.Name = o.name()
	n.mu.Lock()
	n.infos = map[string]*snapshot.Info{o.Snapshot: info}
	n.mu.Unlock()
	return n.Session.Check(ctx, f, info, o.Choices), nil
}

// Plan needs a Check before it, which has seen the snapshot.
func (n *ThisNode) Plan(_ context.Context, o Order) (*steps.Plan, error) {
	n.mu.Lock()
	f, info := n.facts, n.infos[o.Snapshot]
	n.mu.Unlock()
	if f == nil || info == nil {
		return nil, problem.New("", "%s was not checked", cmp.Or(o.name(), "the snapshot"))
	}
	if err := o.same(info); err != nil {
		return nil, err
	}
	return n.Session.Plan(f, info, o.Choices)
}

// name is the snapshot's, for people.
func (o *Order) name() string { return cmp.Or(o.Name, o.Snapshot) }

// same says whether what a node has is the snapshot that it is to restore.
func (o *Order) same(info *snapshot.Info) error {
	if o.SHA256 == "" || info.SHA256 != o.SHA256 {
		return problem.New("start again: the file may have been replaced", "this node has another snapshot than the one to be restored: sha256 %.12s… here, %.12s… was requested", info.SHA256, o.SHA256)
	}
	return nil
}

func (n *ThisNode) PlanAgain(ctx context.Context, v restore.Verb, run string) (*steps.Plan, error) {
	return restore.PlanAgain(ctx, &steps.Session{Options: n.Session.Options, Fleet: true}, v, run)
}

func (n *ThisNode) Run(ctx context.Context, p *steps.Plan, barrier steps.Barrier, sink func(steps.Event), ask steps.Asker) (*steps.Result, error) {
	s := steps.Session{Options: n.Session.Options, Barrier: barrier}
	return s.Run(ctx, p, sink, ask)
}

func (n *ThisNode) Runs(ctx context.Context) ([]steps.RunInfo, error) { return n.Session.Runs(ctx) }

func (n *ThisNode) Busy(ctx context.Context) error {
	live, err := n.Session.Live(ctx)
	if err == nil && live != nil {
		err = problem.New("wait for it, or stop it", "run %s is under way on this node", live.Run)
	}
	return err
}
