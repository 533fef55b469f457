package settle

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"etcd-rewind/node"
	"etcd-rewind/problem"
	"etcd-rewind/snapshot"
	"etcd-rewind/steps"
)

// cluster of other nodes, by name; nil for one that can't be reached.
type others struct {
	nodes     map[string]*Kubelet
	asked     []Host
	restarted []string
}

func (o *others) Look(_ context.Context, nodes []Host) ([]*Kubelet, []error) {
	o.asked = nodes
	seen, errs := make([]*Kubelet, len(nodes)), make([]error, len(nodes))
	for i, h := range nodes {
		if seen[i] = o.nodes[h.Node]; seen[i] == nil {
			errs[i] = problem.New("", "no route to host")
		}
	}
	return seen, errs
}

func (o *others) Restart(_ context.Context, node string) error {
	o.restarted = append(o.restarted, node)
	return nil
}

func named(debts []Debt) (names []string) {
	for _, d := range debts {
		names = append(names, d.Name())
	}
	return names
}

// A worker that joined after the snapshot is asked over ssh, restarted, and in the
// API then; one that can't be reached is named with the command for it.
func TestANodeThatJoinedSinceIsRestartedWhereItIs(t *testing.T) {
	s := &server{lists: map[string]string{nodes: `{"metadata":{"name":"cp1"}}`}}
	c := s.cluster(t)
	c.Before = &snapshot.Info{Nodes: []snapshot.Object{{Name: "cp1"}, {Name: "w7"}, {Name: "w8"}}}

	found := Find(t.Context(), c, nil)
	if want := []string{"w7", "w8"}; !slices.Equal(found.Others, want) || len(found.Unread) > 0 {
		t.Errorf("not asked: %v; unread: %+v", found.Others, found.Unread)
	}
	for _, d := range found.Debts {
		if d.Offered {
			t.Errorf("%s is offered, and nobody has asked it", d.Name())
		}
	}

	far := &others{nodes: map[string]*Kubelet{"w7": {Node: "w7", Runs: true}}}
	c.Nodes = far
	found = Find(t.Context(), c, nil)
	if want := []string{"node-missing w7", "node-missing w8"}; !slices.Equal(named(found.Debts), want) {
		t.Fatalf("it owes %v", named(found.Debts))
	}
	w7, w8 := found.Debts[0], found.Debts[1]
	if !w7.Offered || !strings.Contains(w7.Sure, "w7") || w8.Offered || !strings.Contains(w8.Commands[0], "ssh w8 'systemctl restart kubelet'") {
		t.Errorf("%+v\n%+v", w7, w8)
	}
	if len(found.Unread) != 1 || found.Unread[0].Node != "w8" || !strings.Contains(found.Unread[0].Cause, "no route") {
		t.Errorf("unread: %+v", found.Unread)
	}
	s.lists[nodes] = `{"metadata":{"name":"cp1"}},{"metadata":{"name":"w7"}}`
	said, err := w7.Settle(t.Context())
	if err != nil || !slices.Equal(far.restarted, []string{"w7"}) || !strings.Contains(said, "is in the API") {
		t.Errorf("%q, %v, restarted %v", said, err, far.restarted)
	}
}

// Hosts are the nodes' names and their addresses in the API, or what the user says.
func TestNodesAreAskedWhereTheyAre(t *testing.T) {
	c := (&server{lists: map[string]string{nodes: `{"metadata":{"name":"cp1"}},{"metadata":{"name":"w7"},"status":{"addresses":[{"type":"InternalIP","address":"10.0.0.7"},{"type":"Hostname","address":"x"}]}},{"metadata":{"name":"-oProxyCommand=x"}}`}}).cluster(t)
	far := &others{}
	c.Nodes = far
	Find(t.Context(), c, nil)
	if len(far.asked) != 2 || !slices.Equal(far.asked[0].Try, []string{"w7", "10.0.0.7"}) || len(far.asked[1].Try) != 0 {
		t.Errorf("asked: %+v", far.asked)
	}
	c.Hosts = map[string]string{"w7": "root@worker7"}
	Find(t.Context(), c, nil)
	if !slices.Equal(far.asked[0].Try, []string{"root@worker7"}) {
		t.Errorf("asked: %+v", far.asked)
	}
	c.Named = []string{"cp1", "worker9"}
	Find(t.Context(), c, nil)
	if len(far.asked) != 1 || far.asked[0].Node != "worker9" {
		t.Errorf("asked: %+v", far.asked)
	}
}

// Pods are compared on each node that was asked, and a node speaks of its own only.
func TestPodsAndTokensAreComparedOnEachNode(t *testing.T) {
	long := time.Now().Add(-time.Hour)
	pod := func(uid, name, on, owner string) string {
		return `{"metadata":{"namespace":"kube-system","name":"` + name + `","uid":"` + uid + `","labels":{"pod-template-hash":"abc"},"ownerReferences":[` + owner + `]},"spec":{"nodeName":"` + on + `"},"status":{"phase":"Running"}}`
	}
	s := &server{lists: map[string]string{
		nodes: `{"metadata":{"name":"cp1"}},{"metadata":{"name":"w7"}},{"metadata":{"name":"w8"}}`,
		"api/v1/pods": pod("u1", "coredns-abc-1", "w7", `{"kind":"ReplicaSet","name":"coredns-abc","controller":true}`) + "," +
			pod("u2", "alone", "w7", "") + "," + pod("u3", "proxy", "cp1", `{"kind":"DaemonSet","name":"kube-proxy","controller":true}`),
	}}
	c := s.cluster(t)
	refusal := func(uid string) Refused { return Refused{Pod{UID: uid}, "token has been invalidated"} }
	far := &others{nodes: map[string]*Kubelet{"w8": {Node: "w8", Runs: true}, "w7": {
		Node: "w7", Runs: true, Tokens: 4, Refused: []Refused{refusal("u1"), refusal("u2"), refusal("u3")}, // the last is not its own
		Pods: []Pod{
			{Namespace: "shop", Name: "web-1", UID: "gone", Created: long},
			{Namespace: "kube-system", Name: "coredns-abc-1", UID: "u1", Created: long},
			{Namespace: "kube-system", Name: "alone", UID: "u2", Created: long},
		},
	}}}
	c.Nodes = far
	c.look = func(context.Context) *Kubelet { return &Kubelet{Node: "cp1", Runs: true, Pods: []Pod{{UID: "u3"}}} }
	c.wait = time.Millisecond
	found := Find(t.Context(), c, nil)
	if want := []string{"kubelet-pods w7", "token kube-system/deployment/coredns", "token kube-system/alone"}; !slices.Equal(named(found.Debts), want) {
		t.Fatalf("it owes %v", named(found.Debts))
	}
	if len(far.asked) != 2 { // the second look, too: or w8 couldn't be restarted
		t.Errorf("asked last: %+v", far.asked)
	}
	phantom, rollout, alone := found.Debts[0], found.Debts[1], found.Debts[2]
	if !strings.Contains(phantom.Is, "shop/web-1") || !phantom.Offered || phantom.Commands[0] != "ssh w7 'systemctl restart kubelet'" {
		t.Errorf("%+v", phantom)
	}
	if alone.Offered || !strings.Contains(rollout.Is, "invalidated") || rollout.Commands[0] != "kubectl -n kube-system rollout restart deployment/coredns" {
		t.Errorf("%+v\n%+v", rollout, alone)
	}
	if _, err := rollout.Settle(t.Context()); err != nil || !strings.Contains(s.patched, "restartedAt") || s.patchedAt != "apis/apps/v1/namespaces/kube-system/deployments/coredns" {
		t.Errorf("%v; patched %q at %s", err, s.patched, s.patchedAt)
	}
}

// An undo restarts the kubelets of its own nodes. Those of others wait for revisions
// that are gone, until they are restarted or a later run raises the revision again.
func TestKubeletsFromBeforeAnUndoAreFound(t *testing.T) {
	c := (&server{lists: map[string]string{nodes: `{"metadata":{"name":"cp1"}},{"metadata":{"name":"w7"}},{"metadata":{"name":"w8"}},{"metadata":{"name":"w9"}}`}}).cluster(t)
	c.wait = time.Millisecond
	c.look = func(context.Context) *Kubelet { return &Kubelet{Node: "cp1", Runs: true, Age: 500} }
	c.Nodes = &others{nodes: map[string]*Kubelet{
		"w7": {Node: "w7", Runs: true, Age: 5000}, "w8": {Node: "w8", Runs: true, Age: 60}, "w9": {Node: "w9", Runs: true}, // of which it isn't known
	}}
	undone := steps.RunInfo{Run: "20261120-212605", State: steps.RunUndone, WentBack: time.Now().Add(-10 * time.Minute)}
	c.Runs = []steps.RunInfo{{Run: "20261120-223000", State: steps.RunUntouched}, undone}
	found := Find(t.Context(), c, nil)
	if want := []string{"kubelet-pods w7"}; !slices.Equal(named(found.Debts), want) {
		t.Fatalf("it owes %v", named(found.Debts))
	}
	if d := found.Debts[0]; !d.Offered || d.Is != "its kubelet has run since before run 20261120-212605 took etcd's revision back" || d.Commands[0] != "ssh w7 'systemctl restart kubelet'" {
		t.Errorf("%+v", d)
	}
	c.Runs = []steps.RunInfo{{Run: "20261121-100000", State: steps.RunRestored}, undone}
	if found := Find(t.Context(), c, nil); len(found.Debts) > 0 {
		t.Errorf("after another restore it owes %v", named(found.Debts))
	}
}

// When no token is taken at all, it is the key.
func TestAnotherKeyThanTheTokensIsNamed(t *testing.T) {
	c := (&server{lists: map[string]string{nodes: `{"metadata":{"name":"cp1"}}`, "api/v1/pods": `{"metadata":{"namespace":"a","name":"a","uid":"a"},"spec":{"nodeName":"cp1"}},{"metadata":{"namespace":"a","name":"b","uid":"b"},"spec":{"nodeName":"cp1"}}`}}).cluster(t)
	c.wait = time.Millisecond
	c.look = func(context.Context) *Kubelet {
		return &Kubelet{Node: "cp1", Runs: true, Tokens: 2, Refused: []Refused{{Pod{UID: "a"}, "invalid bearer token"}, {Pod{UID: "b"}, "invalid bearer token"}}}
	}
	found := Find(t.Context(), c, nil)
	if len(found.Debts) != 3 || found.Debts[0].Name() != "token sa.key" || !strings.Contains(found.Debts[0].Means, "--service-account-key-file") {
		t.Errorf("it owes %+v", found.Debts)
	}
}

// What is settled stands in the record before it is done; the record is read with
// what was interrupted.
func TestTheRecordHasWhatWasInterrupted(t *testing.T) {
	dir := t.TempDir() + "/runs"
	if list, err := Read(dir); err != nil || len(list) > 0 {
		t.Errorf("%v, %v", list, err)
	}
	d := func(object string, settle func(context.Context) (string, error)) Debt {
		return Debt{Kind: "masterlease", Object: object, settle: settle}
	}
	before := 0
	if _, err := Do(t.Context(), dir, d("a", func(context.Context) (string, error) {
		list, err := Read(dir)
		before = len(list)
		return "deleted", err
	})); err != nil || before != 1 {
		t.Errorf("%v; %d lines when it was done", err, before)
	}
	if s, err := Do(t.Context(), dir, d("b", func(context.Context) (string, error) { return "half", node.ErrConflict })); err == nil || s.Done || s.Said != "" || s.Error == "" {
		t.Errorf("%v; %+v", err, s)
	}
	if err := Note(dir, Settled{Debt: Debt{Kind: "masterlease", Object: "c"}}); err != nil { // and then it was killed
		t.Fatal(err)
	}
	list, err := Read(dir)
	if err != nil || len(list) != 3 {
		t.Fatalf("%v, %+v", err, list)
	}
	if !list[0].Done || list[0].Said != "deleted" || list[1].Done || list[1].Error == "" || list[2].Done || list[2].Error != "" {
		t.Errorf("%+v", list)
	}
	if _, err := Do(t.Context(), "/dev/null/x", d("d", func(context.Context) (string, error) { return "", errors.New("it was done") })); err == nil || strings.Contains(err.Error(), "it was done") {
		t.Errorf("without a record: %v", err)
	}
}
