package ui

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"etcd-rewind/manifest"
	"etcd-rewind/node"
	"etcd-rewind/restore"
	"etcd-rewind/snapshot"
	"etcd-rewind/steps"
	"etcd-rewind/ui/pane"
)

// fakeFleet is a cluster with several members, whose runs are played.
type fakeFleet struct {
	names    []string
	away     map[string]string // members that can't be reached, and why
	host     map[string]string // by which host an away one can be reached
	odd      map[string]bool   // in the snapshot only
	find     error
	sendErr  error
	refuse   error // a run can't begin
	verdicts []steps.Verdict
	checked  map[string][]steps.Verdict
	objects  func(c steps.Choices) []steps.Verdict // what every node says to the choices
	states   map[string]steps.RunState             // of an earlier run
	pace     time.Duration

	failAt string // "cp2/start-etcd.4": fails until it is tried again
	dropAt string // "cp2/start-etcd.4": can't be reached for a while
	lost   bool   // and never again
	holdAt string
	hold   chan struct{}
	deaf   bool // to being stopped

	mu     sync.Mutex
	made   int // conductors
	closed int
	left   int // conductors told to wait for nobody
	wants  []restore.Want
	rsh    [][]string
	sends  int
	asked  []steps.Choices // of Check
	ran    []string        // run, resume, undo
	chosen []steps.Choice
	opened []string // runs
}

func newFakeFleet(names ...string) *fakeFleet { return &fakeFleet{names: names} }

func peerOf(name string) string { return "https://10.0.0.1" + name[len(name)-1:] + ":2380" }

// several is a node that is one of several members.
func several(f *fake, names ...string) *fakeFleet {
	f.fleet = newFakeFleet(names...)
	f.facts.Live.Members = nil
	for _, n := range names {
		f.facts.Live.Members = append(f.facts.Live.Members, node.EtcdMember{Name: n, PeerURLs: []string{peerOf(n)}})
	}
	f.early = []steps.Verdict{{Check: "topology", Title: "Members", Level: steps.Error, Cause: fmt.Sprintf("the running etcd has %d members: %s", len(names), strings.Join(names, ", ")), Hint: "Restore all of them as one: etcd-rewind restore --fleet"}}
	return f.fleet
}

// apart is a node of etcd's, or cp1, where cp1 is the only control plane and etcd
// runs on other nodes.
func apart(f *fake, names ...string) *fakeFleet {
	f.facts.Kubelet, f.facts.Controllers = nil, nil
	members, api := names, f.facts.API
	if names[0] == "cp1" {
		members = []string{"etcd1"}
		f.facts.Etcd, f.facts.EtcdErr = nil, steps.NotHere("etcd", manifests)
		api.EtcdServers = []string{"https://10.0.0.11:2379"}
		f.early = []steps.Verdict{{Check: steps.CheckEtcdHosts, Title: "etcd's nodes", Level: steps.Error, Cause: "etcd runs on other nodes: kube-apiserver here uses https://10.0.0.11:2379", Hint: "restore etcd's nodes and this one together: etcd-rewind restore --fleet"}}
	} else {
		f.facts.Node, f.facts.Etcd.Name = names[0], names[0]
		f.facts.API, f.facts.APIErr = nil, steps.NotHere("kube-apiserver", manifests)
	}
	f.facts.Live.Members = nil
	for _, n := range members {
		f.facts.Live.Members = append(f.facts.Live.Members, node.EtcdMember{Name: n, PeerURLs: []string{peerOf(n)}})
	}
	f.fleet = newFakeFleet(append(members, "cp1")...)
	return f.fleet
}

// fakeConductor is one conductor of it.
type fakeConductor struct {
	*fakeFleet
	want  restore.Want
	rec   *restore.Record
	taken []string
	verb  restore.Verb
	isUp  bool // sent
	over  bool // closed
}

func (f *fakeFleet) conductor(rsh []string) restore.Nodes {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.made++
	f.rsh = append(f.rsh, rsh)
	return &fakeConductor{fakeFleet: f}
}

func (l *fakeConductor) Leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.left++
}

func (l *fakeConductor) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.over {
		l.over = true
		l.closed++
	}
	return nil
}

func (l *fakeConductor) Names() []string { return l.taken }

func (l *fakeConductor) Discover(ctx context.Context, w restore.Want) ([]restore.Member, []steps.Verdict, error) {
	l.wait()
	l.mu.Lock()
	l.wants = append(l.wants, w)
	l.want = w
	l.mu.Unlock()
	if l.find != nil {
		return nil, nil, l.find
	}
	var all []restore.Member
	for i, n := range l.names {
		m := restore.Member{Name: n, PeerURLs: []string{peerOf(n)}, KnownBy: []restore.Source{restore.InManifest, restore.InEtcd, restore.InSnapshot}, Local: i == 0, Host: n}
		if l.odd[n] {
			m.KnownBy, m.Missing = []restore.Source{restore.InSnapshot}, []restore.Source{restore.InManifest, restore.InEtcd}
		}
		m.Out = slices.Contains(w.Without, n)
		why, away := l.away[n]
		if away && w.Hosts[n] != "" && w.Hosts[n] == l.host[n] {
			away, m.Host = false, w.Hosts[n]
		}
		switch {
		case m.Out:
			m.Host = ""
		case away:
			m.Err, m.Host = why, ""
		default:
			m.Facts = &restore.NodeFacts{
				Node: n, Member: n, KubernetesVersion: "1.34.4", EtcdVersion: "3.6.10", FreeBytes: 12_100_000_000 - uint64(i)*1_700_000_000,
				APIReady: true, APIState: "ready", Live: &restore.LiveEtcd{ClusterID: 1, Revision: 1000000802 - int64(i), Members: make([]manifest.Member, len(l.names))},
			}
			l.taken = append(l.taken, n)
		}
		if strings.HasPrefix(l.names[0], "etcd") { // apart from the API servers
			m.Roles = []steps.Role{steps.RoleEtcd}
			if m.Apart = n == "cp1"; m.Apart {
				m.Roles, m.PeerURLs = []steps.Role{steps.RoleAPI, steps.RoleControllers}, nil
			}
			if f := m.Facts; f != nil {
				f.Roles = m.Roles
				if m.Apart {
					f.Live, f.EtcdServers = nil, []string{"https://10.0.0.11:2379"}
				} else {
					f.KubernetesVersion, f.APIState = "", ""
				}
			}
		}
		all = append(all, m)
	}
	return all, l.verdicts, ctx.Err()
}

func (l *fakeConductor) wait() {
	if l.pace > 0 {
		time.Sleep(8 * l.pace)
	}
}

func (l *fakeConductor) Send(_ context.Context, progress func(string, int64, int64)) error {
	l.mu.Lock()
	l.sends++
	l.mu.Unlock()
	for i := range 5 {
		for _, n := range l.taken[1:] {
			progress(n, int64(i)*132_104, 528_416)
		}
		l.wait()
	}
	if l.sendErr != nil {
		return l.sendErr
	}
	l.isUp = true
	return nil
}

func (l *fakeConductor) Check(_ context.Context, c steps.Choices) ([]restore.Checked, error) {
	if !l.isUp {
		return nil, errors.New("nothing was sent")
	}
	l.wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked = append(l.asked, c)
	var out []restore.Checked
	for _, n := range l.taken {
		v := append(goodVerdicts(), steps.Verdict{Check: "disk-speed", Title: "Disk", Level: steps.Pass, Cause: "/dev/" + n})
		if l.objects != nil {
			v = append(v, l.objects(c)...)
		}
		out = append(out, restore.Checked{Node: n, Verdicts: append(v, l.checked[n]...)})
	}
	return out, nil
}

func (l *fakeConductor) Plan(_ context.Context, c steps.Choices) ([]*steps.Plan, error) {
	var out []*steps.Plan
	for _, n := range l.taken {
		out = append(out, nodePlan(n, l.taken, c))
	}
	return out, nil
}

// nodePlan is a node's part of a restore of several: its steps, with a meeting
// at the end of each phase.
func nodePlan(name string, all []string, c steps.Choices) *steps.Plan {
	p := restorePlan()
	forNode(p, name)
	p.Title = "Restore before.db on " + name
	var members []string
	for _, n := range all {
		members = append(members, n+"="+peerOf(n))
	}
	p.Summary = append(p.Summary, steps.Fact{Name: "members", Value: strings.Join(members, ",")})
	for _, n := range all {
		p.Restore.Members = append(p.Restore.Members, manifest.Member{Name: n, PeerURLs: []string{peerOf(n)}})
	}
	p.Restore.Token = "etcd-rewind-" + p.Run
	if c.DataDir != "" {
		p.Restore.DataDir = c.DataDir
	}
	meet := func(id string, at int, ph steps.Phase) {
		for i := range p.Steps {
			s := &p.Steps[i]
			if s.ID != id {
				continue
			}
			if at < 0 {
				at = len(s.Actions)
			}
			s.Actions = slices.Insert(s.Actions, at, steps.Planned{Action: &steps.WaitNodes{Phase: ph}})
			for j := range s.Actions {
				s.Actions[j].ID = fmt.Sprintf("%s.%d", id, j+1)
			}
		}
	}
	meet("stage", -1, steps.PhaseStaged)
	meet("stop-kube-apiserver", -1, steps.PhaseAPIGone)
	meet("stop-etcd", -1, steps.PhaseEtcdOut)
	meet("start-etcd", 1, steps.PhasePlaced)
	meet("start-etcd", -1, steps.PhaseEtcdReady)
	meet("start-kube-apiserver", -1, steps.PhaseAPIReady)
	meet("verify", -1, steps.PhaseVerified)
	return p
}

func forNode(p *steps.Plan, name string) {
	p.Node = name
	for i := range p.Steps {
		for j := range p.Steps[i].Actions {
			if a, ok := p.Steps[i].Actions[j].Action.(act); ok {
				a.title = strings.ReplaceAll(a.title, "cp1", name)
				p.Steps[i].Actions[j].Action = a
			}
		}
	}
}

func nodeUndo(name string) *steps.Plan {
	p := undoPlan()
	forNode(p, name)
	p.Title = strings.ReplaceAll(p.Title, "cp1", name)
	return p
}

func (l *fakeConductor) Run(ctx context.Context, sink func(restore.NodeEvent), ask restore.Asker) (*restore.Result, error) {
	if l.refuse != nil {
		return nil, l.refuse
	}
	return l.play(ctx, cmp.Or(string(l.verb), "run"), l.taken, sink, ask), nil
}

func (l *fakeConductor) Here() string { return l.names[0] }

func (l *fakeConductor) Open(_ context.Context, r restore.Record) (map[string]steps.RunState, error) {
	l.wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.opened = append(l.opened, r.Run)
	l.rec = &r
	states := maps.Clone(l.states)
	if states == nil {
		states = map[string]steps.RunState{}
	}
	for _, n := range r.Nodes {
		l.taken = append(l.taken, n.Name)
		if states[n.Name] == "" {
			states[n.Name] = steps.RunUnfinished
		}
	}
	return states, nil
}

func (l *fakeConductor) PlanAgain(_ context.Context, v restore.Verb) ([]*steps.Plan, error) {
	l.verb = v
	var out []*steps.Plan
	for _, n := range l.taken {
		switch {
		case l.states[n] == restore.RunUnreachable:
		case v == restore.Undo:
			out = append(out, nodeUndo(n))
		case l.states[n] != steps.RunRestored:
			p := nodePlan(n, l.taken, steps.Choices{})
			if v == restore.Redo {
				p.Kind, p.Title = steps.KindRedo, "Redo run "+p.Run+" on "+n+": to the restored data again"
			}
			out = append(out, p)
		}
	}
	return out, nil
}

// record is the record of a run.
func (f *fakeFleet) record(dir string) (*restore.Record, error) {
	if dir == "" {
		return nil, errors.New("no such run")
	}
	r := &restore.Record{Run: "20261120-120000", Rsh: []string{"rsh"}}
	for _, n := range f.names {
		r.Nodes = append(r.Nodes, restore.NodeHosts{Name: n, Try: []string{n}})
	}
	return r, nil
}

// player plays a run on several nodes, each an action further in turn.
type player struct {
	*fakeFleet
	sink   func(restore.NodeEvent)
	n      int
	since  map[string]time.Time
	last   map[string]time.Time
	out    string // node that the others go on without
	dropIt bool
}

func (p *player) emit(node string, away bool, ev steps.Event) {
	p.n++
	ev.Run, ev.Time = "20261120-120000", noon.Add(time.Duration(p.n)*40*time.Millisecond)
	if p.pace > 0 {
		time.Sleep(p.pace)
		ev.Time = time.Now()
	}
	if away {
		if p.since[node].IsZero() {
			p.since[node] = ev.Time
		}
		o := ev.Time.Sub(p.since[node]).Seconds()
		ev.Away = &o
		p.last[node] = ev.Time
	}
	p.sink(restore.NodeEvent{Node: node, Event: ev})
}

// told is what one node reports of its way to the next meeting.
type told struct {
	away bool
	ev   steps.Event
	act  string // done
	fail bool
	drop bool
	hold bool
}

func (p *player) toBarrier(plan *steps.Plan, name string, slow int, from *[2]int) (list []told, meet *steps.WaitNodes, id string) {
	for ; from[0] < len(plan.Steps); from[0], from[1] = from[0]+1, 0 {
		s := plan.Steps[from[0]]
		if s.When != "" {
			list = append(list, told{ev: steps.Event{Type: steps.TypeStep, Step: s.ID, State: steps.Unneeded}})
			continue
		}
		if from[1] == 0 {
			list = append(list, told{away: s.Outage, ev: steps.Event{Type: steps.TypeStep, Step: s.ID, State: steps.Started}})
		}
		for ; from[1] < len(s.Actions); from[1]++ {
			a := s.Actions[from[1]]
			start := steps.Event{Type: steps.TypeAction, Step: s.ID, Action: a.ID, State: steps.Started, Message: a.Title(), Commands: a.Commands(), Limit: 60}
			if m, ok := a.Action.(*steps.WaitNodes); ok {
				list = append(list, told{away: s.Outage, ev: start})
				from[1]++
				return list, m, a.ID
			}
			list = append(list, told{away: s.Outage, ev: start})
			for i := range 2 + slow {
				list = append(list, told{away: s.Outage, ev: steps.Event{
					Type: steps.TypeAction, Step: s.ID, Action: a.ID, State: steps.Waiting, Waited: float64(i) / 10, Limit: 60,
					Seen: []steps.Sighting{{What: "pod", Is: "6f3c… gone → 91ab… created", OK: i > 0}, {What: "container", Is: fmt.Sprintf("running 0.%d s", i)}},
				}})
			}
			at := name + "/" + a.ID
			list = append(list, told{away: s.Outage, act: a.ID, fail: at == p.failAt, drop: at == p.dropAt, hold: at == p.holdAt, ev: steps.Event{Type: steps.TypeAction, Step: s.ID, Action: a.ID, State: steps.Done, Message: a.Title()}})
		}
		list = append(list, told{away: s.Outage, ev: steps.Event{Type: steps.TypeStep, Step: s.ID, State: steps.Done}})
	}
	return list, nil, ""
}

func (f *fakeFleet) play(ctx context.Context, what string, names []string, sink func(restore.NodeEvent), ask restore.Asker) *restore.Result {
	f.mu.Lock()
	f.ran = append(f.ran, what)
	f.mu.Unlock()
	p := &player{fakeFleet: f, sink: sink, since: map[string]time.Time{}, last: map[string]time.Time{}}
	res := &restore.Result{Run: "20261120-120000"}
	state := restore.Restored
	var fail *steps.Failure
	if what == "undo" {
		state = restore.Reverted
		p.goBack(names)
	} else if fail = p.restore(ctx, names, ask); fail != nil {
		state = restore.HalfWay
		if f.lastChoice() == steps.Revert {
			state = restore.Reverted
			p.goBack(names)
		}
	}
	res.Error, res.OK, res.Reverted = fail, what == "undo" || fail == nil && p.out == "", state == restore.Reverted
	if res.OK && res.Reverted {
		res.Redo = steps.Command("redo --fleet", res.Run, nil)
	}
	for _, n := range names {
		nr := restore.NodeResult{Node: n, State: state, Phase: steps.PhaseVerified}
		switch {
		case n == p.out:
			nr.State, nr.Phase, nr.Cause, nr.Told = restore.HalfWay, steps.PhaseEtcdOut, someFailure().Cause, true
			nr.Do = []string{"etcd-rewind resume " + res.Run}
			res.Error = &steps.Failure{Cause: n + ": " + someFailure().Cause, Hint: someFailure().Hint}
		case state == restore.Restored:
			nr.Result = &steps.Result{OK: true, DataDir: "/var/lib/etcd-" + res.Run, Report: "/etc/kubernetes/etcd-rewind/" + res.Run + "/report.md"}
		case state == restore.HalfWay:
			nr.Phase = steps.PhaseEtcdOut
			nr.Do = []string{"etcd-rewind resume --fleet " + res.Run, steps.Command("undo --fleet", res.Run, nil)}
		}
		res.Nodes = append(res.Nodes, nr)
	}
	first, end := time.Time{}, time.Time{}
	for n, at := range p.since {
		if first.IsZero() || at.Before(first) {
			first = at
		}
		if p.last[n].After(end) {
			end = p.last[n]
		}
	}
	res.OutageSeconds = end.Sub(first).Seconds()
	return res
}

func (f *fakeFleet) lastChoice() steps.Choice {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.chosen) == 0 {
		return ""
	}
	return f.chosen[len(f.chosen)-1]
}

func (p *player) goBack(names []string) {
	for _, n := range names {
		p.emit(n, true, steps.Event{Type: steps.TypePlan, Plan: nodeUndo(n), State: steps.Started})
	}
	ways := make([][2]int, len(names))
	lists := make([][]told, len(names))
	for i, n := range names {
		lists[i], _, _ = p.toBarrier(nodeUndo(n), n, i, &ways[i])
	}
	p.inTurn(context.Background(), names, lists, nil)
	for _, n := range names {
		p.emit(n, false, steps.Event{Type: steps.TypeResult, State: steps.Done, Result: &steps.Result{OK: true, Reverted: true}})
	}
}

func (p *player) restore(ctx context.Context, names []string, ask restore.Asker) *steps.Failure {
	plans := map[string]*steps.Plan{}
	for _, n := range names {
		plans[n] = nodePlan(n, names, steps.Choices{})
		p.emit(n, false, steps.Event{Type: steps.TypePlan, Plan: plans[n], State: steps.Started})
	}
	ways := map[string]*[2]int{}
	for {
		lists, met, ids := make([][]told, len(names)), (*steps.WaitNodes)(nil), make([]string, len(names))
		for i, n := range names {
			if n == p.out {
				continue
			}
			if ways[n] == nil {
				ways[n] = &[2]int{}
			}
			slow := i
			if n == "cp2" {
				slow = 4
			}
			var m *steps.WaitNodes
			lists[i], m, ids[i] = p.toBarrier(plans[n], n, slow, ways[n])
			if m != nil {
				met = m
			}
		}
		if fail := p.inTurn(ctx, names, lists, ask); fail != nil {
			return fail
		}
		if met == nil {
			break
		}
		away := met.Phase != steps.PhaseStaged && met.Phase != steps.PhaseVerified
		p.n++
		at := noon.Add(time.Duration(p.n) * 40 * time.Millisecond)
		if p.pace > 0 {
			at = time.Now()
		}
		p.sink(restore.NodeEvent{Event: steps.Event{Type: restore.TypePhase, Time: at, State: steps.Done, Message: "all nodes"}, Phase: met.Phase})
		for i, n := range names {
			if n != p.out {
				p.emit(n, away, steps.Event{Type: steps.TypeAction, Step: plans[n].Steps[min(ways[n][0], len(plans[n].Steps)-1)].ID, Action: ids[i], State: steps.Done})
			}
		}
	}
	for _, n := range names {
		if n != p.out {
			p.emit(n, false, steps.Event{Type: steps.TypeResult, State: steps.Done, Result: &steps.Result{OK: true}})
		}
	}
	return nil
}

// inTurn reports one event of each node after the other.
func (p *player) inTurn(ctx context.Context, names []string, lists [][]told, ask restore.Asker) *steps.Failure {
	for i := 0; ; i++ {
		more := false
		for k, n := range names {
			if i >= len(lists[k]) || n == p.out {
				continue
			}
			more = true
			t := lists[k][i]
			if ctx.Err() != nil && !p.deaf {
				return &steps.Failure{Title: "Run", Cause: "you stopped the run"}
			}
			if t.hold {
				heldUntil(ctx, p.hold, p.deaf)
			}
			if t.drop && !p.dropIt {
				p.dropIt = true
				p.emit(n, false, steps.Event{Type: restore.TypeLink, State: steps.Waiting, Message: "the connection ended: client_loop: send disconnect: Broken pipe; trying to reach it again"})
				if p.lost {
					p.emit(n, false, steps.Event{Type: restore.TypeLink, State: steps.Failed, Message: n + ": ssh: connect to host " + n + " port 22: No route to host"})
				} else {
					p.emit(n, false, steps.Event{Type: restore.TypeLink, State: steps.Done, Message: "reached again"})
				}
			}
			if t.fail && ask != nil && len(p.chosen) == 0 || t.drop && p.lost {
				f := someFailure()
				f.Step, f.Action, f.Title = t.ev.Step, t.ev.Action, t.ev.Message
				f.Choices = []steps.Choice{steps.Revert, steps.WaitOn, steps.Retry, restore.ContinueWithout, steps.Leave}
				if t.drop {
					f = &steps.Failure{Title: "Reach " + n, Cause: "it can't be reached any more: " + n + ": ssh: connect to host " + n + " port 22: No route to host", Hint: "its run stops at its next wait; its journal is there", Choices: []steps.Choice{steps.Revert, steps.Retry, restore.ContinueWithout, steps.Leave}}
				}
				p.emit(n, t.away, steps.Event{Type: steps.TypeAction, Step: t.ev.Step, Action: t.ev.Action, State: steps.Failed, Message: f.Cause})
				told := *f
				p.emit(n, t.away, steps.Event{Type: steps.TypeAsk, State: steps.Failed, Step: f.Step, Action: f.Action, Failure: &told})
				c := ask(restore.Trouble{Node: n, Away: t.drop, Failure: *f})
				p.mu.Lock()
				p.chosen = append(p.chosen, c)
				p.mu.Unlock()
				p.emit(n, t.away, steps.Event{Type: steps.TypeAnswer, Message: string(c)})
				switch c {
				case restore.ContinueWithout:
					p.out = n
					p.emit(n, false, steps.Event{Type: restore.TypeLeft, State: steps.Stopped, Message: "the others continue without it"})
					continue
				case steps.Revert, steps.Leave:
					f.Cause, f.Choices = n+": "+f.Cause, nil
					return f
				}
			}
			p.emit(n, t.away, t.ev)
		}
		if !more {
			return nil
		}
	}
}

// recordAll plays a whole run on all nodes without a screen.
func recordAll(f *fakeFleet, choose restore.Asker) ([]restore.NodeEvent, *restore.Result) {
	var events []restore.NodeEvent
	res := f.play(context.Background(), "run", f.names, func(ev restore.NodeEvent) { events = append(events, ev) }, choose)
	return events, res
}

// duringAll shows a run on several nodes as it is after the first event that
// fits; the clock stands at that event.
func (d *driver) duringAll(names []string, fits func(restore.NodeEvent) bool) {
	d.t.Helper()
	if d.f.fleet == nil {
		several(d.f, names...)
	}
	f := d.f.fleet
	d.to(confirmScreen)
	events, _ := recordAll(f, restore.Unattended)
	f.ran, f.chosen = nil, nil
	d.m.screen = runScreen
	d.m.run = pane.NewRun(d.m.plan.Plan, d.m.members.Names, d.m.plan.All, nil)
	for _, ev := range events {
		d.do(d.m.handle(ev))
		d.m.now = func() time.Time { return ev.Time }
		if fits(ev) {
			return
		}
	}
	d.t.Fatal("no such event")
}

// on fits the n-th event of a node's action in a state.
func on(node, id string, s steps.State, n int) func(restore.NodeEvent) bool {
	fits := action(id, s, n)
	return func(ev restore.NodeEvent) bool { return ev.Node == node && fits(ev.Event) }
}

// endedAll is a run on several nodes that has come to its end.
func (d *driver) endedAll(choose restore.Asker) {
	d.t.Helper()
	f := d.f.fleet
	d.to(confirmScreen)
	events, res := recordAll(f, choose)
	f.ran, f.chosen = nil, nil
	d.m.screen = runScreen
	d.m.run = pane.NewRun(d.m.plan.Plan, d.m.members.Names, d.m.plan.All, nil)
	for _, ev := range events {
		d.do(d.m.handle(ev))
	}
	if !res.Reverted {
		res.Undo = steps.Command("undo --fleet", res.Run, nil)
	}
	d.update(finishedMsg{res})
}

// someInfoOf is the snapshot of a cluster with these members.
func someInfoOf(path string, names []string) *snapshot.Info {
	i := someInfo(path)
	i.Members = nil
	for n, name := range names {
		i.Members = append(i.Members, snapshot.Member{ID: uint64(n + 1), Name: name, PeerURLs: []string{peerOf(name)}})
	}
	return i
}

func driveSeveral(t testing.TB, names ...string) (*driver, *fakeFleet) {
	t.Helper()
	f := newFake()
	all := several(f, names...)
	return drive(t, f, Options{}), all
}
