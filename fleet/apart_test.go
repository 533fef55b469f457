package fleet

import (
	"context"
	"slices"
	"strings"
	"testing"

	"etcd-rewind/manifest"
	"etcd-rewind/restore"
	"etcd-rewind/snapshot"
	"etcd-rewind/steps"
)

// apartWorld is an etcd on a host of its own, 10.0.0.1, and two API servers that
// use it.
func apartWorld(t *testing.T) *fakeWorld {
	w := newFakeWorld(t, "10.0.0.1", "10.0.0.2", "10.0.0.3")
	w.nodes[0].facts = func(f *restore.NodeFacts) {
		f.Roles, f.ReadyURL, f.KubernetesVersion = []steps.Role{steps.RoleEtcd}, "", ""
		f.Live.Members = []manifest.Member{{Name: "10.0.0.1", PeerURLs: f.PeerURLs}}
		f.APIServers = []string{"10.0.0.2", "10.0.0.3"}
	}
	for _, n := range w.nodes[1:] {
		n.facts = func(f *restore.NodeFacts) {
			f.Roles, f.Member, f.EtcdErr, f.PeerURLs, f.Live = []steps.Role{steps.RoleAPI}, "", "there is no manifest of etcd", nil, nil
			f.ReadyURL, f.AdvertiseAddress = "https://"+f.Node+":6443/readyz", f.Node
			f.EtcdServers = []string{"https://10.0.0.1:2379"}
		}
	}
	return w
}

// Started on any of them, all are found: etcd by what an API server uses, API
// servers by their leases in etcd.
func TestAPIServersAndTheirEtcdAreFoundFromEitherEnd(t *testing.T) {
	for _, here := range []string{"10.0.0.1", "10.0.0.2"} {
		t.Run(here, func(t *testing.T) {
			w := apartWorld(t)
			c := conductor(t, w.pipes(t, here))
			info := theSnapshot(t)
			info.Members = []snapshot.Member{{Name: "10.0.0.1"}}
			prepare(t, c, restore.Want{Info: info})
			if names := c.Names(); !slices.Equal(names, []string{"10.0.0.1", "10.0.0.2", "10.0.0.3"}) {
				t.Errorf("%v take part", names)
			}
			if len(c.rec.Members) != 1 || c.rec.Members[0].Name != "10.0.0.1" || c.rec.Before != 1 {
				t.Errorf("members of the restored cluster: %v of %d", c.rec.Members, c.rec.Before)
			}
			// Each is told of all others, and where they are seen.
			if f := w.node("10.0.0.1").fleet; len(f.Others) != 2 || f.Others[0].ReadyURL == "" || f.Others[0].PeerURL != "" || f.ClusterID != 1 {
				t.Errorf("%+v", f)
			}
		})
	}
}

// An API server that can't be reached may go on writing: it blocks until it is
// excluded by name, and then until nobody answers at its port.
func TestAnAPIServerThatCannotBeReachedBlocks(t *testing.T) {
	discover := func(t *testing.T, answers bool, w restore.Want) []steps.Verdict {
		d := apartWorld(t).pipes(t, "10.0.0.1")
		d.lose("10.0.0.3")
		c := conductor(t, d)
		c.Answers = func(_ context.Context, url string) bool { return answers && url == "https://10.0.0.3:6443" }
		w.Info = theSnapshot(t)
		w.Info.Members = nil
		_, verdicts, err := c.Discover(t.Context(), w)
		if err != nil {
			t.Fatal(err)
		}
		return steps.Blocking(verdicts)
	}
	blocked := func(t *testing.T, by []steps.Verdict, check string) {
		t.Helper()
		if len(by) != 1 || by[0].Check != check || !strings.Contains(by[0].Cause, "10.0.0.3") {
			t.Errorf("blocked by %+v, want %s", by, check)
		}
	}
	blocked(t, discover(t, false, restore.Want{}), "fleet-hosts")
	blocked(t, discover(t, false, restore.Want{Nodes: []string{"10.0.0.2"}}), "fleet-hosts")
	blocked(t, discover(t, true, restore.Want{Without: []string{"10.0.0.3"}}), steps.CheckAPIServers)
	if by := discover(t, false, restore.Want{Without: []string{"10.0.0.3"}}); len(by) > 0 {
		t.Errorf("excluded and silent, it blocks: %+v", by)
	}
}

// A member of etcd's is missing once: by its name, and not by the address that the
// API servers have of it, too.
func TestAMemberThatCannotBeReachedIsNamedOnce(t *testing.T) {
	w := apartWorld(t)
	w.nodes[1].facts = func(f *restore.NodeFacts) {
		f.Roles, f.Member, f.EtcdErr, f.PeerURLs = []steps.Role{steps.RoleAPI}, "", "there is no manifest of etcd", nil
		f.ReadyURL, f.AdvertiseAddress = "https://"+f.Node+":6443/readyz", f.Node
		f.EtcdServers = []string{"https://10.0.0.1:2379"}
		f.Live.Members = []manifest.Member{{Name: "etcd1", PeerURLs: []string{"https://10.0.0.1:2380"}}}
	}
	d := w.pipes(t, "10.0.0.2")
	d.lose("10.0.0.1")
	d.lose("etcd1")
	c := conductor(t, d)
	info := theSnapshot(t)
	info.Members = nil
	all, _, err := c.Discover(t.Context(), restore.Want{Info: info})
	if err != nil {
		t.Fatal(err)
	}
	var missing []string
	for _, m := range all {
		if m.Facts == nil {
			missing = append(missing, m.Name)
		}
	}
	if !slices.Equal(missing, []string{"etcd1"}) {
		t.Errorf("%q are missing", missing)
	}
}
