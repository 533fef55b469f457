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

// missing are the names of those that take part and can't be reached.
func missing(all []restore.Member) (names []string) {
	for _, m := range all {
		if m.Facts == nil && !m.Out {
			names = append(names, m.Name)
		}
	}
	return names
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

// Where no etcd says who uses it, the API servers are not those that happen to be
// found: those that the snapshot names are asked about, and dialled only where the
// user names them.
func TestAPIServersAreNotForgottenWhereEtcdIsDown(t *testing.T) {
	for _, tt := range []struct {
		story    string
		here     string
		lease    string   // why there is none
		snapshot []string // API servers in it
		want     restore.Want
		level    steps.Level // of the check of API servers
		says     string
		missing  string
	}{
		{"etcd is down", "10.0.0.2", "etcd doesn't answer", []string{"10.0.0.2", "10.0.0.3"}, restore.Want{}, steps.Warn, "etcd doesn't answer, so those that the snapshot names take part: 10.0.0.2", "10.0.0.3"},
		{"etcd is down, from its host", "10.0.0.1", "etcd doesn't answer", []string{"10.0.0.2", "10.0.0.3"}, restore.Want{}, steps.Error, "no node with kube-apiserver is known", "10.0.0.2 10.0.0.3"},
		{"the leases are denied", "10.0.0.2", "reading the API servers' leases: permission denied", []string{"10.0.0.2", "10.0.0.3"}, restore.Want{}, steps.Warn, "permission denied", "10.0.0.3"},
		{"one is excluded", "10.0.0.2", "etcd doesn't answer", []string{"10.0.0.2", "10.0.0.3"}, restore.Want{Without: []string{"10.0.0.3"}}, steps.Warn, "take part: 10.0.0.2", ""},
		{"the user names its host", "10.0.0.2", "etcd doesn't answer", []string{"10.0.0.2", "10.0.0.3"}, restore.Want{Hosts: map[string]string{"10.0.0.3": "10.0.0.3"}}, steps.Warn, "take part: 10.0.0.2, 10.0.0.3", ""},
		{"the user names all", "10.0.0.2", "etcd doesn't answer", []string{"10.0.0.2", "10.0.0.3"}, restore.Want{Nodes: []string{"10.0.0.1", "10.0.0.3"}}, steps.Pass, "those that --nodes names take part: 10.0.0.2, 10.0.0.3", ""},
		{"the user names some", "10.0.0.2", "etcd doesn't answer", []string{"10.0.0.2", "10.0.0.3"}, restore.Want{Nodes: []string{"10.0.0.1"}}, steps.Pass, "", "10.0.0.3"},
		{"nothing names any", "10.0.0.2", "etcd doesn't answer", nil, restore.Want{}, steps.Error, "only 10.0.0.2 is known, and others may use this etcd: etcd doesn't answer, and the snapshot names no API server", ""},
		{"nothing but the user", "10.0.0.2", "etcd doesn't answer", nil, restore.Want{Nodes: []string{"10.0.0.1"}}, steps.Pass, "10.0.0.2", ""},
		{"the snapshot lies", "10.0.0.2", "etcd doesn't answer", []string{"127.0.0.1", "-oProxyCommand=id", "10.0.0.2"}, restore.Want{}, steps.Warn, "take part: 10.0.0.2", ""},
		{"etcd is down, and its data says", "10.0.0.2", "data", nil, restore.Want{}, steps.Pass, "all that had a lease when etcd was last written take part: 10.0.0.2, 10.0.0.3", ""},
		{"etcd knows fewer", "10.0.0.2", "", []string{"10.0.0.2", "10.0.0.9"}, restore.Want{}, steps.Pass, "10.0.0.9 had one when the snapshot was taken", ""},
	} {
		t.Run(tt.story, func(t *testing.T) {
			w := apartWorld(t)
			etcd1 := w.nodes[0].facts
			w.nodes[0].facts = func(f *restore.NodeFacts) {
				etcd1(f)
				if tt.lease != "" {
					f.APIServers, f.LeasesErr = nil, tt.lease
				}
				if tt.lease == "data" {
					f.LastAPIServers, f.LastMembers = []string{"10.0.0.2", "10.0.0.3"}, f.Live.Members
				}
				if tt.lease != "" && !strings.Contains(tt.lease, "denied") {
					f.Live, f.LiveErr = nil, "connection refused"
				}
			}
			c := conductor(t, w.pipes(t, tt.here))
			tt.want.Info = theSnapshot(t)
			tt.want.Info.Members, tt.want.Info.APIServers = []snapshot.Member{{Name: "10.0.0.1"}}, tt.snapshot
			all, verdicts, err := c.Discover(t.Context(), tt.want)
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(missing(all), " "); got != tt.missing {
				t.Errorf("%q can't be reached, want %q", got, tt.missing)
			}
			i := slices.IndexFunc(verdicts, func(v steps.Verdict) bool { return v.Check == steps.CheckAPIServers })
			if i < 0 || verdicts[i].Level != tt.level || !strings.Contains(verdicts[i].Cause, tt.says) || tt.level != steps.Pass && verdicts[i].Hint == "" {
				t.Errorf("%+v, want %s %q", verdicts, tt.level, tt.says)
			}
			if away := len(steps.Blocking(slices.DeleteFunc(verdicts, func(v steps.Verdict) bool { return v.Check == steps.CheckAPIServers }))) > 0; away != (tt.missing != "") {
				t.Errorf("it blocks: %v", away)
			}
		})
	}
}

// On stacked nodes an API server is missing by its member's name, and only by that.
func TestAStackedMemberIsNotMissingTwice(t *testing.T) {
	w := newFakeWorld(t, "cp1", "cp2", "cp3")
	w.next = func(f *restore.NodeFacts) {
		f.Live, f.LiveErr, f.LeasesErr, f.AdvertiseAddress = nil, "connection refused", "etcd doesn't answer", peerHost(f.PeerURLs)
		f.InitialCluster = []manifest.Member{{Name: "cp1", PeerURLs: w.node("cp1").peer()}}
	}
	c := conductor(t, w.pipes(t, "cp1"))
	info := theSnapshot(t)
	info.Members, info.APIServers = nil, []string{"10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"}
	for _, name := range []string{"cp1", "cp2", "cp3"} {
		info.Members = append(info.Members, snapshot.Member{Name: name, PeerURLs: w.node(name).peer()})
	}
	all, verdicts, err := c.Discover(t.Context(), restore.Want{Info: info})
	if err != nil {
		t.Fatal(err)
	}
	if got := missing(all); !slices.Equal(got, []string{"cp2", "cp3", "10.0.0.4"}) {
		t.Errorf("%q are missing: %+v", got, verdicts)
	}

	// The data of one that is down names the others: these are reached.
	was := w.next
	w.next = func(f *restore.NodeFacts) {
		members := f.Live.Members
		was(f)
		f.LastMembers = members
	}
	c = conductor(t, w.pipes(t, "cp1"))
	info.Members, info.APIServers = info.Members[:1], nil
	if _, _, err := c.Discover(t.Context(), restore.Want{Info: info}); err != nil || !slices.Equal(c.Names(), []string{"cp1", "cp2", "cp3"}) {
		t.Errorf("by its data %q are reached (%v)", c.Names(), err)
	}
}

// A member of etcd's is missing once: by its name, and not by the address that the
// API servers have of it, too.
func TestAMemberThatCannotBeReachedIsNamedOnce(t *testing.T) {
	w := apartWorld(t)
	api := w.nodes[1].facts
	w.nodes[1].facts = func(f *restore.NodeFacts) {
		live := f.Live
		api(f)
		f.Live = live
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
	if got := missing(all); !slices.Equal(got, []string{"etcd1"}) {
		t.Errorf("%q are missing", got)
	}
}
