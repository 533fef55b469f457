package restore

import (
	"cmp"
	"context"
	"slices"

	"etcd-rewind/manifest"
	"etcd-rewind/snapshot"
	"etcd-rewind/steps"
)

// Nodes are the nodes of one restore, or of one look at an earlier run: Local,
// or the conductor of several. One goroutine calls them, in this order:
// Discover, Send, Check, Plan, Run; or Open, PlanAgain, Run. Close ends it.
type Nodes interface {
	// Discover finds the members, reaches their nodes and reads what they are;
	// nothing is changed on them. What blocks a restore is in the verdicts; the
	// error is for what makes everything else pointless.
	Discover(ctx context.Context, w Want) ([]Member, []steps.Verdict, error)
	// Names are those of the nodes that take part, as events have them; none for
	// a node alone.
	Names() []string
	// Here is this node's name, by its kubelet: what the user types to confirm.
	Here() string
	// Send brings the snapshot to the nodes. progress may be nil; it is called
	// from several goroutines, with the node's name and bytes.
	Send(ctx context.Context, progress func(node string, done, total int64)) error
	// Check has every node look at itself and at its copy of the snapshot, if it
	// was sent.
	Check(ctx context.Context, c steps.Choices) ([]Checked, error)
	// Plan plans the restore on every node.
	Plan(ctx context.Context, c steps.Choices) ([]*steps.Plan, error)

	// Open finds the nodes of an earlier run. It reports in which state that run is
	// on each of several; a node that can't be reached is RunUnreachable.
	Open(ctx context.Context, r Record) (map[string]steps.RunState, error)
	// PlanAgain plans what is done with that run, on every node where there is
	// something to do.
	PlanAgain(ctx context.Context, v Verb) ([]*steps.Plan, error)

	// Run runs what was planned last: a restore and a resume in step, an undo and
	// a redo on all nodes at the same time. sink and ask are called from one goroutine
	// each. Cancelling ctx stops every node at its next wait. The error is for a
	// run that could not begin.
	Run(ctx context.Context, sink func(NodeEvent), ask Asker) (*Result, error)

	// Leave makes what is under way on other nodes return at once, with what is
	// known. It may be called at any time and from any goroutine.
	Leave()
	// Close ends the connections. Safe to call twice.
	Close() error
}

// Verb is what is done with an earlier run.
type Verb string

// The verbs, as the commands are called.
const (
	Undo   Verb = "undo"
	Redo   Verb = "redo"
	Resume Verb = "resume"
)

// Want is what the user says of a restore.
type Want struct {
	Paths Paths
	// Here are this node's facts as they were just read. Several nodes read them
	// again, each its own.
	Here *steps.Facts
	// Info is of the snapshot; nil for a look at the nodes alone. Its Path is
	// the file on this node.
	Info *snapshot.Info
	// Nodes are the hosts to take besides this one; nil takes every member
	// that is known.
	Nodes []string
	// Hosts are the hosts of members, by the member's name, where they differ
	// from it.
	Hosts map[string]string
	// Without are members that are left out for good.
	Without []string
}

// Paths are what the user says about the nodes' layout; the same for all.
type Paths struct {
	KubeletConfig string `json:"kubelet_config,omitempty"`
	Manifests     string `json:"manifests,omitempty"`
	CRI           string `json:"cri,omitempty"`
	EtcdUnit      string `json:"etcd_unit,omitempty"`
	StateDir      string `json:"state_dir,omitempty"`

	// Accept are the checks overridden by name, and KubeletRestart the command
	// that restarts kubelet, where a run is resumed or undone.
	Accept         []string `json:"accept,omitempty"`
	KubeletRestart string   `json:"kubelet_restart,omitempty"`
}

// Command is the command that does something with a run of these nodes, "undo"
// or "resume --fleet".
func (p Paths) Command(verb, run string) string {
	o := steps.Options{StateDir: p.StateDir}
	o.KubeletConfig, o.Manifests, o.CRI, o.EtcdUnit = p.KubeletConfig, p.Manifests, p.CRI, p.EtcdUnit
	flags := o.Flags()
	if p.KubeletRestart != "" {
		flags = append(flags, "--kubelet-restart-command", p.KubeletRestart)
	}
	return steps.Command(verb, run, flags)
}

// Source is where a member is known from.
type Source string

// The sources. All etcd.yamls count as one: kubeadm doesn't rewrite them when
// members join later.
const (
	InManifest Source = "etcd.yaml"
	InEtcd     Source = "etcd"
	InSnapshot Source = "the snapshot"
)

// Member is a member of the cluster's etcd, as far as anybody knows it.
type Member struct {
	Name     string   `json:"name"`
	PeerURLs []string `json:"peer_urls"`
	// KnownBy are the sources that name it, Missing those that were asked and
	// don't.
	KnownBy []Source `json:"known_by"`
	Missing []Source `json:"missing,omitempty"`

	// Elsewhere are its peer URLs in the snapshot, where they differ.
	Elsewhere []string `json:"elsewhere,omitempty"`

	// Roles are what its node runs, as far as anybody has looked.
	Roles []steps.Role `json:"roles,omitempty"`
	Local bool         `json:"local,omitempty"` // of the node that this process runs on
	Out   bool         `json:"out,omitempty"`   // left out for good
	// Apart says that it is no member: a host that takes part for its API server,
	// or one of etcd's that isn't known by its member's name yet.
	Apart bool       `json:"apart,omitempty"`
	Host  string     `json:"host,omitempty"`  // by which it was reached
	Facts *NodeFacts `json:"facts,omitempty"` // nil when it wasn't reached
	Err   string     `json:"error,omitempty"` // why not
}

// Taken says whether it takes part.
func (m *Member) Taken() bool { return m.Facts != nil && !m.Out }

// OnlySnapshot says that nothing but the snapshot names it: nothing is dialled
// on a snapshot's word.
func (m *Member) OnlySnapshot() bool { return len(m.KnownBy) == 1 && m.KnownBy[0] == InSnapshot }

// NodeFacts are what has to be known of a node to restore it with others.
type NodeFacts struct {
	Node     string       `json:"node"`   // kubelet's name for it
	Member   string       `json:"member"` // etcd's; "" when etcd.yaml can't be used
	Roles    []steps.Role `json:"roles,omitempty"`
	StateDir string       `json:"state_dir"`
	OS       string       `json:"os"`
	Arch     string       `json:"arch"`

	PeerURLs       []string          `json:"peer_urls,omitempty"` // the node's own
	InitialCluster []manifest.Member `json:"initial_cluster,omitempty"`
	EtcdErr        string            `json:"etcd_error,omitempty"`
	// KubeadmDataDir is etcd's data directory where kubeadm may render etcd.yaml
	// from its configuration, which has one for all nodes.
	KubeadmDataDir string `json:"kubeadm_data_dir,omitempty"`

	// LastMembers and LastAPIServers are those of an etcd that doesn't answer, by its
	// data.
	LastMembers    []manifest.Member `json:"last_members,omitempty"`
	LastAPIServers []string          `json:"last_api_servers,omitempty"`

	Live    *LiveEtcd `json:"live,omitempty"` // nil when etcd doesn't answer
	LiveErr string    `json:"live_error,omitempty"`

	// ClusterID is that of the running etcd, or else of the data in its directory;
	// 0 when there is none, or when it can't be known, as ClusterErr says.
	ClusterID  uint64 `json:"cluster_id,omitempty"`
	ClusterErr string `json:"cluster_error,omitempty"`

	ReadyURL string `json:"ready_url,omitempty"`
	APIReady bool   `json:"api_ready"`
	APIState string `json:"api_state,omitempty"`

	// EtcdServers are those that kube-apiserver here uses; APIServers the
	// addresses of those that use the etcd here, by their leases, and LeasesErr why
	// there are none. AdvertiseAddress is its own.
	EtcdServers      []string `json:"etcd_servers,omitempty"`
	APIServers       []string `json:"api_servers,omitempty"`
	LeasesErr        string   `json:"leases_error,omitempty"`
	AdvertiseAddress string   `json:"advertise_address,omitempty"`

	KubernetesVersion string         `json:"kubernetes_version,omitempty"`
	EtcdVersion       string         `json:"etcd_version,omitempty"`
	FreeBytes         uint64         `json:"free_bytes,omitempty"` // where the data directory is
	Unfinished        *steps.RunInfo `json:"unfinished,omitempty"`
	LatestRun         string         `json:"latest_run,omitempty"` // name of the newest run there, readable or not
}

// Name is the node's among those of a run: its member's, or its own where it has
// no etcd.
func (f *NodeFacts) Name() string { return cmp.Or(f.Member, f.Node) }

// Runs says whether the node has a role.
func (f *NodeFacts) Runs(role steps.Role) bool { return slices.Contains(f.Roles, role) }

// Cluster is the ID of the node's cluster, 0 when it isn't known.
func (f *NodeFacts) Cluster() uint64 {
	if f.ClusterID == 0 && f.Live != nil {
		return f.Live.ClusterID
	}
	return f.ClusterID
}

// LiveEtcd is what a running etcd says of itself.
type LiveEtcd struct {
	ClusterID uint64            `json:"cluster_id"`
	Revision  int64             `json:"revision"`
	Leader    bool              `json:"leader,omitempty"` // this node's member is the leader
	Members   []manifest.Member `json:"members"`
}

// Checked are the verdicts of one node; without its name they are of all.
type Checked struct {
	Node     string
	Verdicts []steps.Verdict
}
