//go:build e2e && linux

package e2e

import (
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"

	"etcd-rewind/e2e/cluster"
)

// Three etcd hosts with two control planes in front are restored as one cluster.
func TestExternalEtcdOfThreeMembersIsRestored(t *testing.T) {
	t.Run(string(cluster.Kubespray), func(t *testing.T) {
		c := externalUp(t, cluster.Kubespray, 3, 2)
		t.Run("and back, from a control plane", func(t *testing.T) { restoreExternal(t, c, cluster.Kubespray, c.Nodes[0], c.Etcd[1]) })
		t.Run("not without a host that can't be reached", func(t *testing.T) { refuseWithoutAHost(t, c) })
		t.Run("from another node after a kill", func(t *testing.T) { resumeExternal(t, c, cluster.Kubespray, c.Etcd[1], resumed, undone) })
		t.Run("from a control plane without etcd after a kill", func(t *testing.T) { resumeExternal(t, c, cluster.Kubespray, c.Nodes[1], resumed) })
		t.Run("with a unit that fails to start", func(t *testing.T) { failToStartExternal(t, c, c.Etcd[1]) })
		t.Run("in the wizard on an etcd host", func(t *testing.T) { wizardOverExternal(t, c, cluster.Kubespray, c.Etcd[0]) })
		t.Run("in the wizard on a control plane", func(t *testing.T) { wizardOverExternal(t, c, cluster.Kubespray, c.Nodes[0]) })
		t.Run("by a ticket, without ssh", func(t *testing.T) { ticketsOfExternal(t, c) })
		t.Run("beside a restore by hand", func(t *testing.T) { besideByHand(t, c) })
	})
	t.Run(string(cluster.ByHand), func(t *testing.T) {
		c := externalUp(t, cluster.ByHand, 3, 2)
		t.Run("and back, from an etcd host", func(t *testing.T) { restoreExternal(t, c, cluster.ByHand, c.Etcd[2], c.Nodes[1]) })
		t.Run("beside a restore by hand", func(t *testing.T) { besideByHand(t, c) })
	})
}

// refuseWithoutAHost pulls the cable of an etcd host and of a control plane: nothing
// is touched, and only the name of the one that is missing leads on.
func refuseWithoutAHost(t *testing.T, c *cluster.Cluster) {
	s := aStory(t)
	settings, pods := etcdSettings(t, c), manifestsOf(t, c)
	lost, cp2 := c.Etcd[2], c.Nodes[1]
	for _, tt := range []struct {
		cut  *cluster.Node
		name string
	}{{lost, lost.Hostname}, {cp2, cp2.Address}} {
		if err := tt.cut.LinkDown(t.Context()); err != nil {
			t.Fatal(err)
		}
		o := call{args: fleetArgs(s)}.run(t)
		var blocking []event
		for _, e := range o.events {
			if e.Type == "check" && e.Level == "error" {
				blocking = append(blocking, e)
			}
		}
		if o.code != 4 || len(blocking) == 0 || blocking[0].Check != "fleet-hosts" || !strings.Contains(blocking[0].Cause, tt.name) {
			t.Errorf("without %s: exit status %d, want 4 and its name\n%s", tt.name, o.code, o.story())
		}
		if err := tt.cut.LinkUp(t.Context()); err != nil {
			t.Fatal(err)
		}
		eventually(t, "all members and API servers", func() bool {
			return c.Healthy(t.Context()) == nil && allReady(c)
		})
	}
	// Excluded by its name while its API server goes on, it blocks all the same.
	if o := run(t, append(fleetArgs(s), "--without", cp2.Address)...); o.code != 4 || !strings.Contains(o.stdout, `"api-servers"`) {
		t.Errorf("with a control plane excluded that runs: exit status %d\n%s", o.code, o.story())
	}
	same(t, "a refused restore has changed the settings", settings, etcdSettings(t, c))
	same(t, "a refused restore has changed the manifests", pods, manifestsOf(t, c))
	allAre(t, c, s.isNow)

	// Lost for good, its name alone leads on: the others are a cluster of two.
	if err := lost.LinkDown(t.Context()); err != nil {
		t.Fatal(err)
	}
	allOf(t, c.Nodes[0], nil, "restore", s.snapshot, "--without", lost.Hostname)
	for _, n := range c.Nodes {
		on(n, func() { s.isThen(t) })
	}
	if members, err := c.Etcd[0].Members(t.Context()); err != nil || len(members) != 2 {
		t.Errorf("members without %s: %v %v", lost.Hostname, members, err)
	}
	allOf(t, c.Nodes[0], nil, "undo")
	if err := lost.LinkUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all members and API servers", func() bool {
		return c.Healthy(t.Context()) == nil && allReady(c)
	})
	allAre(t, c, s.isNow)
}

// allReady says whether every API server is ready.
func allReady(c *cluster.Cluster) bool {
	ready := true
	for _, n := range c.Nodes {
		on(n, func() { ready = ready && apiReady() })
	}
	return ready
}

// afterKill is in which phase the conductor is killed, and what is done then.
type afterKill struct{ phase, way string }

var resumed, undone = afterKill{"etcd-out", "resume"}, afterKill{"placed", "undo"}

// resumeExternal kills the conductor on a control plane, and another node goes on
// from there, or back.
func resumeExternal(t *testing.T, c *cluster.Cluster, form cluster.Form, by *cluster.Node, ways ...afterKill) {
	settings, pods := etcdSettings(t, c), manifestsOf(t, c)
	for _, kill := range ways {
		phase, way := kill.phase, kill.way
		s := aStory(t)
		killedIn(t, s, phase)
		settles(t, c)
		_, took := allOf(t, by, nil, way)
		t.Logf("after %s, %s took %.1f s", phase, way, took.Seconds())
		if way == "resume" {
			allAre(t, c, s.isThen)
			if swaps(form) {
				rendersAgain(t, c)
				allAre(t, c, s.isThen)
			}
			allOf(t, c.Etcd[0], nil, "undo")
		}
		allAre(t, c, s.isNow)
		same(t, "undo is not byte for byte", settings, etcdSettings(t, c))
		same(t, "undo is not byte for byte", pods, manifestsOf(t, c))
	}
}

// ticketsOfExternal starts the restore on each node by itself.
func ticketsOfExternal(t *testing.T, c *cluster.Cluster) {
	s := aStory(t)
	before := etcdClusters(t, c)
	ticket := strings.TrimSuffix(s.snapshot, ".db") + ".ticket"
	if o := run(t, "ticket", s.snapshot, ticket); o.code != 0 {
		t.Fatalf("exit status %d\n%s%s", o.code, o.stdout, o.stderr)
	}
	each := func(args ...string) {
		t.Helper()
		var all sync.WaitGroup
		for _, n := range c.All() {
			all.Go(func() {
				if out, err := n.Command(t.Context(), tool, args...).CombinedOutput(); err != nil {
					t.Errorf("%s: %v\n%s", n.Hostname, err, out)
				}
			})
		}
		all.Wait()
	}
	for _, n := range c.Etcd {
		giveTo(t, n, s.snapshot)
		giveTo(t, n, ticket)
	}
	each("restore", s.snapshot, "--ticket", ticket, "--yes")
	allAre(t, c, s.isThen)
	if now := etcdClusters(t, c); now[c.Etcd[0].Hostname] == before[c.Etcd[0].Hostname] {
		t.Error("etcd runs on the data before")
	}
	each("undo", "--yes")
	allAre(t, c, s.isNow)
	if now := etcdClusters(t, c); !maps.Equal(now, before) {
		t.Errorf("etcd is of %v after the undo, was of %v", now, before)
	}
}

// wizardOverExternal goes through all screens on a node, and back from the summary.
func wizardOverExternal(t *testing.T, c *cluster.Cluster, form cluster.Form, n *cluster.Node) {
	s := aStory(t)
	if n != c.Nodes[0] {
		giveTo(t, n, s.snapshot)
	}
	all, cp1 := len(c.All()), node
	use(t, n) // until its files are removed
	w := startWizard(t, tool+`; echo "exit status $?"; exec sleep 600`)
	path := w.offers(s)
	title, data := "One of etcd's 3 members: etcd1, etcd2 and etcd3", "/var/lib/etcd → /var/lib/etcd-2"
	switch {
	case n == c.Nodes[0]:
		title = "A control plane whose etcd runs on other nodes"
	case len(c.Etcd) == 1:
		title = "The node of etcd's only member"
	}
	if swaps(form) {
		data = "swapped: the old data is renamed"
	}
	lastEtcd, lastAPI := c.Etcd[len(c.Etcd)-1].Hostname, c.Nodes[len(c.Nodes)-1].Hostname
	w.sees(title, "enter choose the snapshot")
	t.Log(w.capture())
	w.finds(path)
	w.press("Enter")
	w.sees("The restore re-creates", "enter checks")
	w.press("Enter")
	w.sees(fmt.Sprintf("%d nodes restored as one", all), "✓ "+lastEtcd, "etcd only", "no etcd")
	t.Log(w.capture())
	w.press("Enter")
	w.sees("nothing blocks the restore", "All nodes")
	t.Log(w.capture())
	w.press("Enter")
	w.sees("enter confirm", data, "no etcd here")
	t.Log(w.capture())
	w.press("Enter")
	w.confirmAll()
	w.sees("staged", "etcd down", "placed", "etcd ready", "API ready", "verified", lastEtcd, lastAPI)
	t.Log(w.capture())
	w.sees(fmt.Sprintf("✓ Restored: all %d nodes", all), "etcd-rewind undo --fleet ", "q quit")
	t.Log(w.capture())
	on(cp1, func() { allAre(t, c, s.isThen) })
	w.press("u")
	w.sees("enter confirm")
	t.Log(w.capture())
	w.press("Enter")
	w.confirmAll()
	w.sees(fmt.Sprintf("✓ Undone: all %d nodes", all), "q quit")
	t.Log(w.capture())
	w.press("q")
	w.sees("exit status 0")
	on(cp1, func() { allAre(t, c, s.isNow) })
}
