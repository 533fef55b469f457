package steps

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"etcd-rewind/manifest"
	"etcd-rewind/node"
	"etcd-rewind/snapshot"
)

func TestANodeHasTheRolesOfWhatItRuns(t *testing.T) {
	for _, tt := range []struct {
		story   string
		without []string
		broken  string
		want    []Role
	}{
		{"stacked", nil, "", Roles},
		{"etcd on other nodes", []string{"etcd"}, "", []Role{RoleAPI, RoleControllers}},
		{"etcd alone", []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler"}, "", []Role{RoleEtcd}},
		// Not "no etcd": a plan without it would start the API server on whatever there is.
		{"an etcd.yaml that can't be used", nil, "    - --config-file=/etc/etcd.conf", Roles},
	} {
		t.Run(tt.story, func(t *testing.T) {
			n := newFakeNode(t, tt.without...)
			f := n.facts()
			if tt.broken != "" {
				n.mustReplace("manifests/etcd.yaml", "    - --name=cp1", tt.broken)
				f = n.discovered()
				if _, err := NewRestore(f, snapshotOfTheTests, Choices{Fleet: fleetOfTheTests}); err == nil {
					t.Error("a restore is planned without this node's etcd")
				}
			}
			if got := f.Roles(); !slices.Equal(got, tt.want) {
				t.Errorf("%v, want %v", got, tt.want)
			}
		})
	}
	// Alone, a node needs both.
	if _, err := NewRestore(newFakeNode(t, "etcd").facts(), snapshotOfTheTests, Choices{}); err == nil {
		t.Error("a restore is planned on a single node without etcd")
	}
}

// A node that has one part alone switches to the restored data again as it went
// there first, and has waits for the others.
func TestANodeWithOneRoleIsRedone(t *testing.T) {
	for part, without := range map[string][]string{
		"etcd alone":          {"kube-apiserver", "kube-controller-manager", "kube-scheduler"},
		"no etcd on the node": {"etcd"},
	} {
		t.Run(part, inFakeTime(func(t *testing.T) {
			n := newFakeNode(t, without...)
			ahead := node.RemoteState{API: node.PortRefuses, APIReady: true, Peer: node.PortRefuses, ClusterID: 0xbbbb}
			n.see("cp2", ahead)
			n.see("cp3", ahead)
			e, _ := n.engine(nil)
			if res := e.Run(t.Context(), n.plan(Choices{Fleet: fleetOfTheTests})); !res.OK {
				t.Fatal(res.Error)
			}
			if res := e.Run(t.Context(), n.undo()); !res.OK {
				t.Fatal(res.Error)
			}
			if err := n.works(0xaaaa); err != nil {
				t.Fatalf("not undone: %v", err)
			}
			redo, err := NewRedo(filepath.Join(n.root, "etcd-rewind"), "", Terms{Fleet: true})
			if err != nil {
				t.Fatal(err)
			}
			for phase, want := range map[Phase]bool{PhaseAPIGone: redo.has(RoleEtcd.starts), PhaseEtcdReady: true} {
				if got := redo.has(func(a Action) bool { w, ok := a.(*WaitNodes); return ok && w.Phase == phase && w.ByPorts }); got != want {
					t.Errorf("looks whether %s: %t", phase, got)
				}
			}
			if res := e.Run(t.Context(), redo); !res.OK {
				t.Fatal(res.Error)
			}
			if err := n.works(0xbbbb); err != nil {
				t.Errorf("not redone: %v", err)
			}
		}))
	}
}

// twoControlPlanes are the others of one, whose etcd is on a host of its own.
var twoControlPlanes = &Fleet{
	Run: fleetOfTheTests.Run, Token: "of-all", ClusterID: 0xaaaa,
	Members: []manifest.Member{{Name: "etcd1", PeerURLs: []string{"https://10.0.0.9:2380"}}},
	Others: []RemoteNode{
		{Name: "etcd1", RemoteConfig: node.RemoteConfig{PeerURL: "https://10.0.0.9:2380"}},
		{Name: "cp1", RemoteConfig: node.RemoteConfig{ReadyURL: "cp1"}},
	},
}

// Of two control planes without etcd one may be so quick that its API server is back
// before the other looks whether it is down: etcd on the restored data says that it
// was.
func TestAControlPlaneThatIsLateDoesNotWaitForAnAPIServerThatIsBack(t *testing.T) {
	inFakeTime(func(t *testing.T) {
		n := newFakeNode(t, "etcd")
		etcdOn := func(cluster uint64) {
			n.see("", node.RemoteState{Peer: node.PortAnswers, ClusterID: cluster})
			n.see("cp1", node.RemoteState{API: node.PortAnswers, APIReady: true})
		}
		e, _ := n.engine(nil)
		quickly := func(what string, p *Plan) {
			t.Helper()
			begun := time.Now()
			res := e.Run(t.Context(), p)
			if took := time.Since(begun); !res.OK || took > time.Minute {
				t.Fatalf("%s: %v, %+v", what, took, res.Error)
			}
		}
		etcdOn(0xbbbb)
		quickly("the restore by ticket", n.plan(Choices{Fleet: twoControlPlanes}))
		etcdOn(0xaaaa)
		quickly("the undo", n.undo())
		etcdOn(0xbbbb)
		redo, err := NewRedo(filepath.Join(n.root, "etcd-rewind"), "", Terms{Fleet: true})
		if err != nil {
			t.Fatal(err)
		}
		quickly("the redo", redo)
	})(t)
}

// Where nobody leads, a control plane that is undone waits for etcd on other hosts:
// long until somebody has come there, and not when etcd went down there and stays so.
func TestAnUndoByHandDoesNotWaitLongForOneThatHasFailed(t *testing.T) {
	for _, tt := range []struct {
		story string
		stops time.Duration // when etcd stops there; 0 for never
		back  time.Duration // after that it is back; 0 for never
		took  time.Duration
		says  string // of the failure; "" for none
	}{
		{"nobody is there", 0, 0, 20 * time.Second, "still behind: etcd1"},
		{"it fails", 8 * time.Second, 0, 14 * time.Second, "etcd1: etcd was stopped there and has not come back for 6 s: its undo has failed, or was not started"},
		{"it is slow", 18 * time.Second, 5 * time.Second, 23 * time.Second, ""},
	} {
		t.Run(tt.story, inFakeTime(func(t *testing.T) {
			n := newFakeNode(t, "etcd")
			etcd1 := func(port node.PortState, cluster uint64) {
				n.see("", node.RemoteState{Peer: port, ClusterID: cluster})
			}
			var asked []Failure
			e, _ := n.engine(func(f Failure) Choice { asked = append(asked, f); return Leave })
			n.see("cp1", node.RemoteState{API: node.PortRefuses, APIReady: true})
			etcd1(node.PortAnswers, 0xbbbb)
			if res := e.Run(t.Context(), n.plan(Choices{Fleet: twoControlPlanes})); !res.OK {
				t.Fatal(res.Error)
			}
			e.pace.nodes, e.pace.etcd = 20*time.Second, 3*time.Second
			begun := time.Now()
			if tt.stops > 0 {
				stops := time.AfterFunc(tt.stops, func() { etcd1(node.PortRefuses, 0) })
				defer stops.Stop()
			}
			if tt.back > 0 {
				back := time.AfterFunc(tt.stops+tt.back, func() { etcd1(node.PortAnswers, 0xaaaa) })
				defer back.Stop()
			}
			res := e.Run(t.Context(), n.undo())
			if took := time.Since(begun); (took - tt.took).Abs() > 3*time.Second {
				t.Errorf("it took %s, want %s", took, tt.took)
			}
			if res.OK != (tt.says == "") || !res.OK && (len(asked) != 1 || asked[0].Cause != tt.says || asked[0].Hint == "") {
				t.Errorf("%+v, asked %+v", res, asked)
			}
		}))
	}
}

// One member has nobody to wait for: the API servers are started on other nodes as
// soon as it has opened the right data, and not after its election.
func TestAPIServersDoNotWaitForTheElectionOfOneMember(t *testing.T) {
	for members, want := range map[int][]string{
		1: {"wait-data", "meet etcd-ready", "wait-etcd", "meet api-ready"},
		3: {"wait-etcd", "meet etcd-ready", "meet api-ready"},
	} {
		fleet := *fleetOfTheTests
		fleet.Members = fleet.Members[:members]
		t.Run(fmt.Sprint(members), inFakeTime(func(t *testing.T) {
			n := newFakeNode(t, "kube-apiserver", "kube-controller-manager", "kube-scheduler")
			p := n.plan(Choices{Fleet: &fleet})
			var got []string
			for a := range p.actions() {
				switch w := a.Action.(type) {
				case *WaitData, *WaitEtcd:
					got = append(got, w.Kind())
				case *WaitNodes:
					if w.Phase == PhaseEtcdReady || w.Phase == PhaseAPIReady {
						got = append(got, w.Kind()+" "+string(w.Phase))
					}
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("%q, want %q", got, want)
			}
			for _, o := range []string{"cp2", "cp3"} {
				n.see(o, node.RemoteState{API: node.PortRefuses, APIReady: true, Peer: node.PortRefuses, ClusterID: 0xbbbb})
			}
			e, _ := n.engine(nil)
			if res := e.Run(t.Context(), p); !res.OK {
				t.Error(res.Error)
			}
		}))
	}
}

// A leader hands over before it ends, and waits when whom it hands over to is
// ending, too: with kubespray's election timeout for 15 s.
func TestTheLeaderStopsAfterTheOthers(t *testing.T) {
	for _, tt := range []struct {
		story string
		leads bool
		after time.Duration // the others stop; 0 for never
		want  time.Duration // this one does
	}{
		{"it leads", true, time.Second, time.Second},
		{"it leads, and the others don't stop", true, 0, fakePace.handover},
		{"it follows", false, 0, 0},
	} {
		t.Run(tt.story, inFakeTime(func(t *testing.T) {
			n := newFakeNode(t, "kube-apiserver", "kube-controller-manager", "kube-scheduler")
			restored := node.RemoteState{API: node.PortRefuses, APIReady: true, Peer: node.PortAnswers, ClusterID: 0xbbbb}
			n.see("cp2", restored)
			n.see("cp3", restored)
			e, events := n.engine(nil)
			fleet := *fleetOfTheTests
			fleet.ClusterID = 0xaaaa
			if res := e.Run(t.Context(), n.plan(Choices{Fleet: &fleet})); !res.OK {
				t.Fatal(res.Error)
			}
			n.leads = tt.leads
			again := n.undo()
			*events = nil
			begun := time.Now()
			if tt.after > 0 {
				stop := time.AfterFunc(tt.after, func() {
					n.see("cp2", node.RemoteState{API: node.PortRefuses, Peer: node.PortRefuses})
					n.see("cp3", node.RemoteState{API: node.PortRefuses, Peer: node.PortAnswers, ClusterID: 0xaaaa}) // already the old one
				})
				defer stop.Stop()
			}
			if res := e.Run(t.Context(), again); !res.OK {
				t.Fatal(res.Error)
			}
			for _, ev := range *events {
				if a := again.action(ev.Action); a != nil && ev.State == Started && RoleEtcd.stops(a.Action) {
					if late := ev.Time.Sub(begun) - tt.want; late < 0 || late > time.Second {
						t.Errorf("etcd is stopped after %s, want %s", ev.Time.Sub(begun), tt.want)
					}
					return
				}
			}
			t.Error("etcd wasn't stopped")
		}))
	}
}

// What a node doesn't run blocks nothing there; what can't be read does, and so
// does what an interrupted run may have moved away.
func TestRolesDecideWhichManifestsMustBeThere(t *testing.T) {
	controlPlane := []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler"}
	for _, tt := range []struct {
		story   string
		without []string
		spoil   func(*fakeNode)
		fleet   *Fleet
		says    map[string]Level // "" for a check that isn't made
	}{
		{"stacked", nil, nil, nil, map[string]Level{CheckEtcdManifest: Pass, CheckAPIManifest: Pass, CheckEtcdHosts: "", CheckAPIServers: "", "kubelet": Pass}},
		{"a control plane without etcd, alone", []string{"etcd"}, nil, nil, map[string]Level{CheckEtcdManifest: Pass, CheckAPIManifest: Pass, CheckEtcdHosts: Error}},
		{"a control plane without etcd, with etcd's nodes", []string{"etcd"}, nil, fleetOfTheTests, map[string]Level{CheckEtcdManifest: Pass, CheckAPIManifest: Pass, CheckEtcdHosts: Pass}},
		{"etcd alone", controlPlane, nil, nil, map[string]Level{CheckEtcdManifest: Pass, CheckAPIManifest: Pass, CheckAPIServers: Error}},
		{"etcd, with the API servers' nodes", controlPlane, nil, fleetOfTheTests, map[string]Level{CheckEtcdManifest: Pass, CheckAPIManifest: Pass, CheckAPIServers: ""}},
		{"both here, and another API server that uses this etcd", nil, func(n *fakeNode) { n.leases = []string{"10.0.0.9"} }, nil, map[string]Level{CheckAPIServers: Error}},
		{
			"an etcd.yaml that can't be used", nil,
			func(n *fakeNode) {
				n.mustReplace("manifests/etcd.yaml", "    - --name=cp1", "    - --config-file=/etc/etcd.conf")
			},
			fleetOfTheTests,
			map[string]Level{CheckEtcdManifest: Error, CheckAPIManifest: Pass},
		},
		{
			"an etcd.yaml that an interrupted run moved aside", nil, func(n *fakeNode) {
				e, _ := n.engine(func(Failure) Choice { return Leave })
				n.crashAt(e, n.plan(Choices{}), crashed{"before the result", "stop-etcd.1"})
			},
			fleetOfTheTests,
			map[string]Level{CheckEtcdManifest: Error, CheckAPIManifest: Error},
		},
		{"neither", append(controlPlane, "etcd"), nil, nil, map[string]Level{CheckEtcdManifest: Error, CheckAPIManifest: Error, "kubelet": Pass}},
	} {
		t.Run(tt.story, inFakeTime(func(t *testing.T) {
			n := newFakeNode(t, tt.without...)
			if tt.spoil != nil {
				tt.spoil(n)
			}
			got := map[string]Level{}
			f := n.discovered()
			for _, v := range Check(t.Context(), f, nil, Choices{Fleet: tt.fleet}) {
				got[v.Check] = v.Level
			}
			if without := len(tt.without); f.Apart() != (without == 1 || without == 3) {
				t.Errorf("etcd and kube-apiserver are on different nodes: %t", f.Apart())
			}
			for check, want := range tt.says {
				if got[check] != want {
					t.Errorf("%s: %q, want %q", check, got[check], want)
				}
			}
		}))
	}
}

// On a node with both, another API server counts when it has a lease and answers: a
// lease may be left over, and an address may be this node's.
func TestAnotherAPIServerHasALeaseAndAnswers(t *testing.T) {
	for _, tt := range []struct {
		story, own string
		live       bool
		want       []string
	}{
		{"etcd answers", "10.0.0.1", true, []string{"10.0.0.2"}},
		{"etcd is down", "10.0.0.1", false, []string{"10.0.0.4"}},
		{"a node for practice", "127.0.0.1", true, nil},
		{"its node is a member's", "10.0.0.1", true, nil},
		{"its node was a member's", "10.0.0.1", false, nil},
	} {
		f := &Facts{
			API:        &API{APISettings: manifest.APISettings{AdvertiseAddress: tt.own}},
			APIServers: []string{"10.0.0.1", "127.0.0.1", "10.0.0.2", "10.0.0.3", "no address"},
			LastUsers:  &snapshot.LastUsers{APIServers: []string{"10.0.0.1", "10.0.0.4"}},
		}
		if f.Reach.API.ReadyURL = "https://localhost:7443/readyz"; tt.live {
			f.Live = &node.EtcdStatus{}
		}
		switch tt.story {
		case "its node is a member's":
			f.Live.Members = []node.EtcdMember{{PeerURLs: []string{"https://10.0.0.2:2380"}}}
		case "its node was a member's":
			f.LastUsers.Members = []snapshot.Member{{PeerURLs: []string{"https://10.0.0.4:2380"}}}
		}
		got := f.otherAPIServers(t.Context(), func(_ context.Context, url string) bool {
			return url == "https://10.0.0.2:7443/readyz" || url == "https://10.0.0.4:7443/readyz"
		})
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.story, got, tt.want)
		}
		f.Own = true
		if got := f.otherAPIServers(t.Context(), func(context.Context, string) bool { return true }); got != nil {
			t.Errorf("%s, on a practice node: %q was asked", tt.story, got)
		}
	}
}
