package settle

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"etcd-rewind/defect"
	"etcd-rewind/node"
	"etcd-rewind/problem"
	"etcd-rewind/snapshot"
	"etcd-rewind/steps"
	"etcd-rewind/trust"
)

// Debt is one thing that doesn't fit the restored objects.
type Debt struct {
	Kind   string `json:"kind"`             // see docs/after.md
	Object string `json:"object,omitempty"` // namespace/name, or a name
	Is     string `json:"is"`               // what was seen
	Means  string `json:"means"`            // what follows from it
	// Commands settle it, or show what to look at first.
	Commands []string `json:"commands,omitempty"`
	// Offered says that Settle does it.
	Offered bool `json:"offered"`
	// Sure is what it changes on a node or of what runs, to be agreed to once more;
	// "" for an entry in etcd or the API.
	Sure string `json:"sure,omitempty"`

	// settle does it, and says what came of it.
	settle func(context.Context) (string, error)
}

// Name is the debt in one line.
func (d *Debt) Name() string { return strings.TrimSpace(d.Kind + " " + d.Object) }

// Bounds of what is kept of a debt, in bytes: names come from whoever could make an
// object.
const (
	longestName    = 2 * 253 // with its namespace
	longestText    = 2 << 10
	longestCommand = 4 << 10
)

// bound keeps a debt to what can be shown. A command that is too long is none: cut
// off it would do something else.
func (d *Debt) bound() {
	d.Object, d.Sure = trust.Clip(d.Object, longestName), trust.Clip(d.Sure, longestText)
	d.Is, d.Means = trust.Clip(d.Is, longestText), trust.Clip(d.Means, longestText)
	d.Commands = slices.DeleteFunc(d.Commands, func(c string) bool { return len(c) > longestCommand })
}

// Settle does what is offered, and says what came of it. It is safe to call twice;
// an error is of what stands in its way.
func (d *Debt) Settle(ctx context.Context) (said string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	return d.settle(ctx)
}

// Found is what a cluster owes, as far as it was looked at.
type Found struct {
	Debts  []Debt
	Unread []Unread
	Asked  []string // the nodes whose kubelets were asked
	// Others are nodes that weren't asked: of the API, and of the state before the
	// restore.
	Others []string
}

// Unread is what couldn't be looked at.
type Unread struct {
	Kind  string `json:"kind"`
	Node  string `json:"node,omitempty"` // on this one
	Cause string `json:"cause"`
	Hint  string `json:"hint,omitempty"`
}

// Cluster is the cluster as it is seen from this node.
type Cluster struct {
	Facts *steps.Facts
	// Before is the state that the restore left behind, nil when no snapshot of
	// it is known: what was made after the restored snapshot is only there.
	Before *snapshot.Info
	// Runs are those of this node, the newest first: what a restore left, and where.
	Runs []steps.RunInfo
	// RestartCommand restarts this node's kubelet; "" is its layout's.
	RestartCommand string
	// Nodes are the other nodes; nil where none is asked. Named are those that are
	// to be asked, nil for all that are known; Hosts is where one is reached, by its
	// name, where that isn't its name or its address in the API.
	Nodes Nodes
	Named []string
	Hosts map[string]string

	// What several searches need is read once.
	kubelets []*Kubelet // this node's first
	away     map[string]error
	at       map[string]string // the hosts at which nodes answered
	hosts    map[string]Host   // as which they were asked
	all      func() ([]corev1.Node, error)
	nodes    func() (map[string]bool, error)
	volumes  func() ([]corev1.PersistentVolume, error)

	wait    time.Duration                  // between two looks; another in tests
	look    func(context.Context) *Kubelet // Look at this node; another in tests
	restart func(context.Context) error    // of this node's kubelet; another in tests
	limit   time.Duration                  // for all searches; another in tests
	// began says since when this node's etcd and API server run, revision where etcd
	// is; others in tests.
	began    func(context.Context) (etcd, api time.Time, err error)
	revision func(context.Context) (int64, error)
}

// Nodes are other nodes than this one, as far as they can be reached.
type Nodes interface {
	// Look asks nodes at the same time for their kubelets; nil and an error for one
	// that can't be reached. Which error belongs to which node follows from the order.
	Look(ctx context.Context, nodes []Host) ([]*Kubelet, []error)
	// Restart restarts the kubelet of a node that was looked at, and waits until it
	// answers.
	Restart(ctx context.Context, node string) error
}

// Host is a node, and where it may be reached, in this order.
type Host struct {
	Node string
	Try  []string
}

// kinds are all kinds of debts, in the order in which they are settled: what the
// others stand on comes first. find sees one after a restore, foretell before it;
// either may be nil.
var kinds = []struct {
	name     string
	find     func(context.Context, *Cluster) ([]Debt, error)
	foretell func(Since) []Coming
}{
	{"history", histories, nil},            // everything else is read through that API server
	{"kubeadm-config", kubeadmConfig, nil}, // the plan of a restore says what it writes
	{"node-missing", nodesMissing, nodesToCome},
	{"node-gone", nodesGone, nodesToReturn},
	{"kubelet-pods", kubeletPods, nil},
	{"token", tokens, tokensToCome},
	{"masterlease", masterleases, leasesToReturn},
	{"volume-attachment", attachments, attachmentsToReturn},
	{"volume", volumes, volumesToCome},
	{"lease", leases, nil}, // they expire by themselves
	{"webhook", webhooks, webhooksToReturn},
	{"api-service", apiServices, apiServicesToReturn},
	{"csr", signingRequests, requestsToReturn},
	{"job", jobs, jobsToReturn},
	{"certificate", certificates, nil},
	{"secret", nil, secretsToReturn},
}

// Kinds are the names of all kinds of debts that Find sees.
func Kinds() []string {
	var out []string
	for _, k := range kinds {
		if k.find != nil {
			out = append(out, k.name)
		}
	}
	return out
}

// Find looks for all debts, and says what it couldn't look at. It changes
// nothing. tell, which may be nil, hears what is being done. When the nodes have been
// asked it takes no longer than 30 seconds; where other nodes are, which may have to be
// asked once more, 30 more, or twice what asking them took.
func Find(ctx context.Context, c *Cluster, tell func(doing string)) *Found {
	if tell == nil {
		tell = func(string) {}
	}
	c.RestartCommand = cmp.Or(c.RestartCommand, c.Facts.Layout.RestartKubelet())
	if c.look == nil {
		c.look = func(ctx context.Context) *Kubelet { return Look(ctx, c.Facts) }
	}
	if c.restart == nil {
		c.restart = func(ctx context.Context) error { return RestartKubelet(ctx, c.Facts, c.RestartCommand) }
	}
	if c.began == nil {
		c.began = c.begunAt
	}
	if c.revision == nil {
		c.revision = func(ctx context.Context) (int64, error) {
			s, err := node.AskEtcd(ctx, c.Facts.Reach.Etcd, false)
			if err != nil {
				return 0, err
			}
			return s.Revision, nil
		}
	}
	out := &Found{}
	began := time.Now()
	c.askNodes(ctx, out, tell)
	limit := cmp.Or(c.limit, 30*time.Second)
	if c.Nodes != nil {
		limit += max(limit, 2*time.Since(began))
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tell("comparing the API, etcd and the nodes; with several API servers for 21 s")
	c.remember(ctx)
	found := make([][]Debt, len(kinds))
	failed := make([]error, len(kinds))
	var all sync.WaitGroup
	for i, k := range kinds {
		if k.find != nil {
			all.Go(defect.Do(func() { found[i], failed[i] = k.find(ctx, c) }))
		}
	}
	all.Wait()
	for i, k := range kinds {
		for j := range found[i] {
			d := &found[i][j]
			d.bound()
			d.Kind, d.Offered = k.name, d.settle != nil
		}
		if failed[i] != nil {
			cause, hint := problem.Explain(failed[i])
			out.Unread = append(out.Unread, Unread{Kind: k.name, Cause: cause, Hint: hint})
		}
	}
	out.Debts = slices.Concat(found...)
	return out
}

// remember has what several searches need read once, by whoever needs it first.
func (c *Cluster) remember(ctx context.Context) {
	c.all = sync.OnceValues(func() (all []corev1.Node, err error) {
		err = list(ctx, c, "api/v1/nodes", func(n *corev1.Node) { all = append(all, *n) })
		return all, err
	})
	c.nodes = sync.OnceValues(func() (map[string]bool, error) {
		all, err := c.all()
		there := map[string]bool{}
		for _, n := range all {
			there[n.Name] = true
		}
		return there, err
	})
	c.volumes = sync.OnceValues(func() (all []corev1.PersistentVolume, err error) {
		err = list(ctx, c, "api/v1/persistentvolumes", func(v *corev1.PersistentVolume) { all = append(all, *v) })
		return all, err
	})
}

// askNodes looks at the kubelets of this node and, where that is wanted, of the
// others. It comes first: a pod that begins meanwhile is then in the API, too.
func (c *Cluster) askNodes(ctx context.Context, out *Found, tell func(string)) {
	tell("reading this node")
	c.kubelets, c.away, c.at, c.hosts = nil, map[string]error{}, map[string]string{}, map[string]Host{}
	own := c.look(ctx)
	if own != nil {
		c.kubelets = append(c.kubelets, own)
		out.Asked = append(out.Asked, own.Node)
	}
	ask, cancel := context.WithTimeout(ctx, 10*time.Second)
	c.remember(ask)
	others := c.others(own)
	cancel()
	if c.Nodes == nil {
		for _, h := range others {
			out.Others = append(out.Others, h.Node)
		}
		return
	}
	if len(others) == 0 {
		return
	}
	tell(fmt.Sprintf("asking %d other nodes over ssh", len(others)))
	seen, errs := c.Nodes.Look(ctx, others)
	for i, h := range others {
		if errs[i] != nil {
			c.away[h.Node] = errs[i]
			cause, _ := problem.Explain(errs[i])
			out.Unread = append(out.Unread, Unread{
				Kind: "kubelet-pods", Node: h.Node, Cause: "it can't be reached: " + cause, Hint: "there: " + c.Facts.Layout.RestartKubelet() + ", if pods hang; or etcd-rewind settle",
			})
			continue
		}
		k := seen[i]
		if slices.Contains(out.Asked, k.Node) {
			continue // named twice
		}
		if k.Node != h.Node {
			c.at[k.Node] = h.Node
		}
		c.hosts[k.Node] = h
		c.kubelets = append(c.kubelets, k)
		out.Asked = append(out.Asked, k.Node)
	}
}

// others are the other nodes that are known: those that are named, or else those
// of the API and those of the state before the restore.
func (c *Cluster) others(own *Kubelet) []Host {
	var out []Host
	here := func(name string) bool {
		return own != nil && own.Node == name || slices.ContainsFunc(out, func(h Host) bool { return h.Node == name })
	}
	add := func(name string, try ...string) {
		if host := c.Hosts[name]; host != "" {
			try = []string{host}
		}
		if !here(name) && len(out) < mostNodes {
			out = append(out, Host{name, slices.DeleteFunc(try, func(h string) bool { return trust.Host(h) != nil && c.Hosts[name] == "" })})
		}
	}
	for _, name := range c.Named { // the user's word
		if !here(name) {
			out = append(out, Host{name, []string{cmp.Or(c.Hosts[name], name)}})
		}
	}
	if len(c.Named) > 0 {
		return out
	}
	all, _ := c.all() // the searches say why not
	for _, n := range all {
		try := []string{n.Name}
		for _, a := range n.Status.Addresses {
			if a.Type == corev1.NodeInternalIP {
				try = append(try, a.Address)
			}
		}
		add(n.Name, try...)
	}
	if c.Before != nil {
		for _, n := range c.Before.Nodes {
			add(n.Name, n.Name)
		}
	}
	return out
}

// mostNodes bounds how many nodes are asked.
const mostNodes = 1000

// restartOf restarts the kubelet of a node that was asked.
func (c *Cluster) restartOf(ctx context.Context, node string) error {
	if node == c.here() {
		return c.restart(ctx)
	}
	return c.Nodes.Restart(ctx, node)
}

// here is this node's name for its kubelet, "" where it has none.
func (c *Cluster) here() string {
	if k := c.Facts.Kubelet; k != nil {
		return k.NodeName
	}
	return ""
}

// list lists objects of the API of this node's server. A kind that it doesn't
// have has none.
func list[T any](ctx context.Context, c *Cluster, path string, each func(*T)) error {
	err := node.ListObjects(ctx, c.Facts.Reach.API.Kubeconfig, c.Facts.Reach.Server, path, each)
	if errors.Is(err, node.ErrNotFound) {
		return nil
	}
	return err
}

// most is how many debts of a kind are shown one by one.
const most = 20

// few keeps the first debts of a kind, and says how many more there are.
func few(debts []Debt) []Debt {
	if len(debts) <= most {
		return debts
	}
	more := Debt{Is: fmt.Sprintf("%d more like these", len(debts)-most), Means: debts[0].Means}
	return append(debts[:most:most], more)
}

// longestShown is in bytes, of a name in a sentence.
const longestShown = 120

// some are the first names of a list, in words.
func some(names []string) string {
	slices.Sort(names)
	more := ""
	if len(names) > 5 {
		more = fmt.Sprintf(" and %d more", len(names)-5)
		names = names[:5]
	}
	shown := make([]string, len(names))
	for i, n := range names {
		shown[i] = trust.Clip(trust.Text(n), longestShown)
	}
	return strings.Join(shown, ", ") + more
}
