package settle

import (
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

	settle func(context.Context) error
}

// Settle does what is offered. It is safe to call twice; an error is of what
// stands in its way, and then nothing was changed.
func (d Debt) Settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return d.settle(ctx)
}

// Unread is what couldn't be looked at.
type Unread struct {
	Kind  string `json:"kind"`
	Cause string `json:"cause"`
	Hint  string `json:"hint,omitempty"`
}

// Cluster is the cluster as it is seen from this node.
type Cluster struct {
	Facts *steps.Facts
	// Before is the state that the restore left behind, nil when no snapshot of
	// it is known: what was made after the restored snapshot is only there.
	Before *snapshot.Info
	// Restart restarts this node's kubelet.
	Restart func(context.Context) error
	// RestartCommand is the same for people.
	RestartCommand string

	// What several searches need is read once.
	all     func() ([]corev1.Node, error)
	nodes   func() (map[string]bool, error)
	volumes func() ([]corev1.PersistentVolume, error)

	wait time.Duration // between two looks at what is refreshed every 10 s; another in tests
}

// kinds are all kinds of debts, in the order in which they are settled: what the
// others stand on comes first. find sees one after a restore, foretell before it;
// either may be nil.
var kinds = []struct {
	name     string
	find     func(context.Context, *Cluster) ([]Debt, error)
	foretell func(Since) []Coming
}{
	{"kubeadm-config", kubeadmConfig, nil}, // the plan of a restore says what it writes
	{"node-missing", nodesMissing, nodesToCome},
	{"node-gone", nodesGone, nodesToReturn},
	{"kubelet-pods", kubeletPods, nil},
	{"token", nil, tokensToCome},
	{"masterlease", masterleases, leasesToReturn},
	{"volume-attachment", attachments, attachmentsToReturn},
	{"volume", volumes, volumesToCome},
	{"webhook", webhooks, webhooksToReturn},
	{"api-service", apiServices, apiServicesToReturn},
	{"csr", signingRequests, requestsToReturn},
	{"job", jobs, jobsToReturn},
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
// nothing, and takes no longer than 30 seconds.
func Find(ctx context.Context, c *Cluster) ([]Debt, []Unread) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
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
	found := make([][]Debt, len(kinds))
	failed := make([]error, len(kinds))
	var all sync.WaitGroup
	for i, k := range kinds {
		if k.find != nil {
			all.Go(defect.Do(func() { found[i], failed[i] = k.find(ctx, c) }))
		}
	}
	all.Wait()
	var unread []Unread
	for i, k := range kinds {
		for j := range found[i] {
			d := &found[i][j]
			d.Kind, d.Offered = k.name, d.settle != nil
		}
		if failed[i] != nil {
			cause, hint := problem.Explain(failed[i])
			unread = append(unread, Unread{k.name, cause, hint})
		}
	}
	return slices.Concat(found...), unread
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

// some are the first names of a list, in words.
func some(names []string) string {
	slices.Sort(names)
	if len(names) > 5 {
		return strings.Join(names[:5], ", ") + fmt.Sprintf(" and %d more", len(names)-5)
	}
	return strings.Join(names, ", ")
}
