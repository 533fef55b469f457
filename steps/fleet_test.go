package steps

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"etcd-rewind/manifest"
	"etcd-rewind/node"
	"etcd-rewind/snapshot"
)

var fleetOfTheTests = &Fleet{
	Run: "20261121-020000", Token: "of-all",
	Members: []manifest.Member{
		{Name: "cp1", PeerURLs: []string{"https://10.0.0.1:2380"}},
		{Name: "cp2", PeerURLs: []string{"https://10.0.0.2:2380"}},
		{Name: "cp3", PeerURLs: []string{"https://10.0.0.3:2380"}},
	},
	Others: []RemoteNode{
		{Name: "cp3", RemoteConfig: node.RemoteConfig{ReadyURL: "cp3", PeerURL: "https://10.0.0.3:2380"}},
		{Name: "cp2", RemoteConfig: node.RemoteConfig{ReadyURL: "cp2", PeerURL: "https://10.0.0.2:2380"}},
	},
}

// roll is a barrier of several nodes in one process. It notes who came to a
// phase and who continued past it.
type roll struct {
	of   int
	mu   sync.Mutex
	came map[Phase]int
	all  map[Phase]chan struct{}
	log  []string
}

func (m *roll) barrier(ctx context.Context, p Phase, _ func([]Sighting)) error {
	m.mu.Lock()
	if m.all[p] == nil {
		m.all[p] = make(chan struct{})
	}
	m.came[p]++
	m.log = append(m.log, "at "+string(p))
	all := m.all[p]
	if m.came[p] == m.of {
		close(all)
	}
	m.mu.Unlock()
	select {
	case <-all:
		m.mu.Lock()
		defer m.mu.Unlock()
		m.log = append(m.log, "past "+string(p))
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func TestThreeNodesAreRestoredInStep(t *testing.T) {
	m := &roll{of: 3, came: map[Phase]int{}, all: map[Phase]chan struct{}{}}
	var wg sync.WaitGroup
	for range 3 {
		n := newFakeNode(t)
		e, _ := n.engine(nil)
		e.Barrier = m.barrier
		p := n.plan(Choices{Fleet: fleetOfTheTests})
		wg.Go(func() {
			if res := e.Run(t.Context(), p); !res.OK {
				t.Error(res.Error)
			}
			if s, err := n.Etcd(t.Context(), true); err != nil || s.ClusterID != 0xbbbb || !n.apiReady() {
				t.Errorf("not restored: %+v %v", s, err)
			}
		})
	}
	wg.Wait()
	if len(m.log) != 2*3*len(Phases) {
		t.Fatalf("%d comings and goings, want %d: %v", len(m.log), 2*3*len(Phases), m.log)
	}
	for _, p := range Phases {
		lastAt, firstPast := -1, slices.Index(m.log, "past "+string(p))
		for i, l := range m.log {
			if l == "at "+string(p) {
				lastAt = i
			}
		}
		if lastAt > firstPast {
			t.Errorf("%s: a node continued before all were there: %v", p, m.log)
		}
	}
}

func TestAPlanForAFleetHasTheMembersOfAllNodes(t *testing.T) {
	n := newFakeNode(t)
	p := n.plan(Choices{Fleet: fleetOfTheTests})
	if p.Run != "20261121-020000" || filepath.Base(p.RunDir) != p.Run || p.Restore.Token != "of-all" {
		t.Errorf("run %s in %s, token %s", p.Run, p.RunDir, p.Restore.Token)
	}
	q := p.step("stage").Actions[0].Action.(*Stage).Request
	if q.Name != "cp1" || q.InitialCluster != "cp1=https://10.0.0.1:2380,cp2=https://10.0.0.2:2380,cp3=https://10.0.0.3:2380" {
		t.Errorf("%s in %s", q.Name, q.InitialCluster)
	}
	if !slices.Equal(q.PeerURLs, []string{"https://10.0.0.1:2380"}) {
		t.Errorf("peer URLs %s", q.PeerURLs)
	}
	var phases []Phase
	for _, s := range p.Steps {
		for _, a := range s.Actions {
			if m, ok := a.Action.(*WaitNodes); ok {
				phases = append(phases, m.Phase)
			}
		}
	}
	if !slices.Equal(phases, Phases) {
		t.Errorf("it meets at %v", phases)
	}
	other := *fleetOfTheTests
	other.Members = other.Members[1:]
	if _, err := NewRestore(n.facts(), snapshotOfTheTests, Choices{Fleet: &other}); err == nil || !strings.Contains(err.Error(), "cp1 of this node is not among") {
		t.Errorf("without this node's member: %v", err)
	}
}

func TestANodeAloneReadsFromThePortsOfTheOthersHowFarTheyAre(t *testing.T) {
	const staged = 0xbbbb
	for _, tt := range []struct {
		story string
		phase Phase
		sees  node.RemoteState
		want  bool
	}{
		{"what others stage can't be seen", PhaseStaged, node.RemoteState{API: node.PortAnswers, APIReady: true, Peer: node.PortAnswers, ClusterID: 1}, true},
		{"its API server refuses", PhaseAPIGone, node.RemoteState{API: node.PortRefuses, Peer: node.PortAnswers, ClusterID: 1}, true},
		{"its API server answers still", PhaseAPIGone, node.RemoteState{API: node.PortAnswers, Peer: node.PortAnswers, ClusterID: 1}, false},
		{"the way to its API server is cut", PhaseAPIGone, node.RemoteState{API: node.PortSilent, Peer: node.PortSilent}, false},
		{"its old etcd runs still", PhaseEtcdOut, node.RemoteState{API: node.PortRefuses, Peer: node.PortAnswers, ClusterID: 1}, false},
		{"no etcd runs", PhaseEtcdOut, node.RemoteState{API: node.PortRefuses, Peer: node.PortRefuses}, true},
		{"the way to its etcd is cut", PhaseEtcdOut, node.RemoteState{API: node.PortRefuses, Peer: node.PortSilent}, false},
		{"it is ahead, with the restored etcd", PhaseEtcdOut, node.RemoteState{API: node.PortRefuses, Peer: node.PortAnswers, ClusterID: staged}, true},
		{"its etcd doesn't answer yet", PhaseEtcdReady, node.RemoteState{API: node.PortRefuses, Peer: node.PortRefuses}, false},
		{"its etcd runs on something else", PhaseEtcdReady, node.RemoteState{API: node.PortRefuses, Peer: node.PortAnswers, ClusterID: 1}, false},
		{"its etcd is in the restored cluster", PhaseEtcdReady, node.RemoteState{API: node.PortRefuses, Peer: node.PortAnswers, ClusterID: staged}, true},
		{"its API server starts", PhaseAPIReady, node.RemoteState{API: node.PortAnswers, Peer: node.PortAnswers, ClusterID: staged}, false},
		{"its API server is ready", PhaseAPIReady, node.RemoteState{API: node.PortAnswers, APIReady: true, Peer: node.PortAnswers, ClusterID: staged}, true},
	} {
		t.Run(tt.story, func(t *testing.T) {
			if got := (&WaitNodes{Phase: tt.phase}).reached(fleetOfTheTests.Others[0], tt.sees, staged); got != tt.want {
				t.Errorf("%s with %s: %v", tt.phase, tt.sees, got)
			}
		})
	}
}

// A node that runs no API server, or no etcd, holds nobody up by that.
func TestANodeIsNotWaitedForWithWhatItDoesNotRun(t *testing.T) {
	etcdOnly := RemoteNode{Name: "e1", RemoteConfig: node.RemoteConfig{PeerURL: "https://10.0.0.9:2380"}}
	apiOnly := RemoteNode{Name: "a1", RemoteConfig: node.RemoteConfig{ReadyURL: "https://10.0.0.8:6443/readyz"}}
	silent := node.RemoteState{API: node.PortSilent, Peer: node.PortSilent}
	const staged = 7
	for _, tt := range []struct {
		of    RemoteNode
		phase Phase
		want  bool
	}{
		{etcdOnly, PhaseAPIGone, true},
		{etcdOnly, PhaseAPIReady, true},
		{etcdOnly, PhaseEtcdOut, false},
		{etcdOnly, PhaseEtcdReady, false},
		{apiOnly, PhaseEtcdOut, true},
		{apiOnly, PhaseEtcdReady, true},
		{apiOnly, PhaseAPIGone, false},
		{apiOnly, PhaseAPIReady, false},
	} {
		if got := (&WaitNodes{Phase: tt.phase}).reached(tt.of, silent, staged); got != tt.want {
			t.Errorf("%s of %s, which is silent: %v", tt.phase, tt.of.Name, got)
		}
	}
	// A node without etcd has staged nothing that it could compare.
	ready := node.RemoteState{API: node.PortRefuses, Peer: node.PortAnswers, ClusterID: staged}
	if !(&WaitNodes{Phase: PhaseEtcdReady}).reached(etcdOnly, ready, 0) {
		t.Error("a node without etcd waits in vain for one that is ready")
	}
}

func TestANodeThatStaysBehindIsNamed(t *testing.T) {
	inFakeTime(func(t *testing.T) {
		n := newFakeNode(t)
		n.see("cp2", node.RemoteState{API: node.PortRefuses, Peer: node.PortRefuses})
		n.see("cp3", node.RemoteState{API: node.PortAnswers, APIReady: true, Peer: node.PortAnswers, ClusterID: 1})
		var asked []Failure
		e, _ := n.engine(func(f Failure) Choice { asked = append(asked, f); return Revert })
		before := n.picture()
		res := e.Run(t.Context(), n.plan(Choices{Fleet: fleetOfTheTests}))
		if res.OK || !res.Reverted || len(asked) != 1 {
			t.Fatalf("%+v, asked %d times", res, len(asked))
		}
		if f := asked[0]; f.Cause != "still behind: cp3" || f.Hint == "" {
			t.Errorf("%s; %s", f.Cause, f.Hint)
		}
		for path, was := range before {
			if now := n.picture()[path]; now != was {
				t.Errorf("%s is not as it was", path)
			}
		}
	})(t)
}

func TestChecksOfANodeInAFleet(t *testing.T) {
	live := func(names ...string) *node.EtcdStatus {
		s := &node.EtcdStatus{ClusterID: 1}
		for _, n := range names {
			s.Members = append(s.Members, node.EtcdMember{Name: n})
		}
		return s
	}
	two := *fleetOfTheTests
	two.Members = two.Members[:2]
	notMine := *fleetOfTheTests
	notMine.Members = notMine.Members[1:]
	for _, tt := range []struct {
		story string
		fleet *Fleet
		live  *node.EtcdStatus
		level Level
		says  string
	}{
		{"all members are restored", fleetOfTheTests, live("cp1", "cp2", "cp3"), Pass, "3 members"},
		{"etcd doesn't answer and etcd.yaml names this one only, as kubeadm leaves it", fleetOfTheTests, nil, Pass, "3 members"},
		{"one was lost", &two, live("cp1", "cp2", "cp3"), Warn, "excluded from the restored cluster: cp3"},
		{"this node isn't among them", &notMine, live("cp1", "cp2", "cp3"), Error, "cp1 of this node is not among"},
		{"three members and no fleet", nil, live("cp1", "cp2", "cp3"), Error, "the running etcd has 3 members"},
	} {
		t.Run(tt.story, func(t *testing.T) {
			n := newFakeNode(t)
			f := n.facts()
			f.Live = tt.live
			for _, v := range Check(t.Context(), f, &snapshot.Info{Members: []snapshot.Member{{}, {}, {}}, StorageVersion: "3.6.0"}, Choices{Fleet: tt.fleet}) {
				switch {
				case v.Check == "topology" && (v.Level != tt.level || !strings.Contains(v.Cause, tt.says)):
					t.Errorf("%s: %s", v.Level, v.Cause)
				case v.Check == "snapshot-members" && (v.Level == Pass) != (tt.fleet != nil):
					t.Errorf("%s: %s", v.Level, v.Cause)
				}
			}
		})
	}
}

// The other nodes wait for what a node's events say of its etcd: that the one
// before has stopped, and that the restored one is there, though it has no
// leader yet. Without one it keeps who asks whether it is ready for half a second,
// for which the others would wait too.
func TestEventsShowWhenEtcdHasStoppedAndWhenItServes(t *testing.T) {
	n := newFakeNode(t)
	n.leaderless = true
	p := n.plan(Choices{Fleet: fleetOfTheTests})
	e, _ := n.engine(nil)
	e.Barrier = func(context.Context, Phase, func([]Sighting)) error { return nil }
	var told []string
	tell := e.Sink
	e.Sink = func(ev Event) {
		tell(ev)
		if ev.Etcd != "" && !slices.Contains(told, ev.Step+" "+string(ev.Etcd)) {
			told = append(told, ev.Step+" "+string(ev.Etcd))
		}
		if ev.Etcd == EtcdServes {
			n.mu.Lock()
			if n.leaderless && n.readyAsked > 0 {
				t.Error("it was asked whether it is ready first")
			}
			n.leaderless = false
			n.mu.Unlock()
		}
	}
	if res := e.Run(t.Context(), p); !res.OK {
		t.Fatalf("%+v", res.Error)
	}
	if want := []string{"stop-etcd stopped", "start-etcd serves"}; !slices.Equal(told, want) {
		t.Errorf("reported %q, want %q", told, want)
	}
}

// A node that was stopped before anything was touched may have to catch up with
// others that are further.
func TestARunOfAFleetThatEndedUntouchedIsGoneOnWithByItsName(t *testing.T) {
	n := newFakeNode(t)
	ctx, stop := context.WithCancel(t.Context())
	e, _ := n.engine(nil)
	e.Barrier = func(ctx context.Context, _ Phase, _ func([]Sighting)) error { stop(); return ctx.Err() }
	p := n.plan(Choices{Fleet: fleetOfTheTests})
	if res := e.Run(ctx, p); res.OK || !res.Reverted {
		t.Fatalf("%+v", res)
	}
	dir := filepath.Dir(p.RunDir)
	if _, err := NewResume(dir, "", Terms{}); err == nil {
		t.Error("it is gone on with without being named")
	}
	again, err := NewResume(dir, p.Run, Terms{})
	if err != nil {
		t.Fatal(err)
	}
	e, _ = n.engine(nil)
	e.Barrier = func(context.Context, Phase, func([]Sighting)) error { return nil }
	if res := e.Run(t.Context(), again); !res.OK {
		t.Errorf("%+v", res.Error)
	}
}

func TestABrokenOffRunOfAFleetPointsToAllNodes(t *testing.T) {
	for _, fleet := range []*Fleet{nil, fleetOfTheTests} {
		n := newFakeNode(t)
		e, _ := n.engine(nil)
		e.Barrier = func(context.Context, Phase, func([]Sighting)) error { return nil }
		if !n.crashAt(e, n.plan(Choices{Fleet: fleet}), crashed{"after the intent", "start-kube-apiserver.3"}) {
			t.Fatal("it did not crash")
		}
		for _, v := range Check(t.Context(), n.facts(), nil, Choices{}) {
			if v.Check == "earlier-run" && (v.Level != Error || strings.Contains(v.Hint, "--fleet") != (fleet != nil)) {
				t.Errorf("%s: %s; %s", v.Level, v.Cause, v.Hint)
			}
		}
	}
}
