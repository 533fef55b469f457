package steps

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"etcd-rewind/node"
	"etcd-rewind/practice/conformance"
)

// What the crash matrix proves is worth as much as its node is like a real one.
func TestTheFakeNodeKeepsKubeletsRules(t *testing.T) {
	t.Parallel()
	n := newFakeNode(t)
	n.mu.Lock()
	// A restore that comes to a retry or a back-off has failed in the other tests.
	n.retries, n.relists, n.grace = 10*time.Second, time.Second, 500*time.Millisecond
	n.mu.Unlock()
	conformance.Run(t, conformance.Kubelet{
		Manifests: filepath.Join(n.root, "manifests"), NodeName: "cp1", Runtime: anyNamespace{n}, Image: "fake", ListsAtOnce: true,
		Remains: n.Remains, Begun: n.PodsBegun, Relists: n.Relists,
	})
}

// Its systemd, too.
func TestTheFakeNodeKeepsSystemdsRules(t *testing.T) {
	for _, r := range conformance.SystemdRules {
		t.Run(r.Name, inFakeTime(func(t *testing.T) { r.Run(t, newFakeNode(t, inSystemd)) }))
	}
}

// With EventedPLEG, kubelet until 1.36 lists its containers every 300 s.
func TestTheFakeNodeCanListSeldom(t *testing.T) {
	t.Parallel()
	n := newFakeNode(t)
	n.mu.Lock()
	n.relists = 300 * time.Second
	n.mu.Unlock()
	conformance.RunLists(t, conformance.Kubelet{Manifests: filepath.Join(n.root, "manifests"), NodeName: "cp1", Runtime: anyNamespace{n}, Relists: n.Relists, ListsSeldom: true})
}

// anyNamespace is the fake node's runtime, whose pods are of one namespace.
type anyNamespace struct{ *fakeNode }

func (n anyNamespace) Pod(ctx context.Context, _, name string) ([]node.Sandbox, error) {
	return n.fakeNode.Pod(ctx, name)
}
