package steps

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"etcd-rewind/defect"
	"etcd-rewind/manifest"
	"etcd-rewind/node"
	"etcd-rewind/problem"
	"etcd-rewind/trust"
)

// Fleet is what the nodes of a cluster with several members have in common
// when they are restored as one. A single node is restored without one.
type Fleet struct {
	Run   string `json:"run"`   // the same on every node
	Token string `json:"token"` // of the initial cluster: it makes the cluster ID
	// Members are all that the restored cluster has, in one order on every
	// node; this node's is found by name.
	Members []manifest.Member `json:"members"`
	Others  []RemoteNode      `json:"others"` // the nodes that take part, without this one
	// ClusterID is that of etcd as it was; 0 when it isn't known.
	ClusterID uint64 `json:"cluster_id,omitempty"`
}

// Remote is another node of a fleet, as it can be seen over the network.
type RemoteNode struct {
	Name string `json:"name"`
	node.RemoteConfig
}

func (f *Fleet) initialCluster() string {
	var all []string
	for _, m := range f.Members {
		for _, u := range m.PeerURLs {
			all = append(all, m.Name+"="+u)
		}
	}
	return strings.Join(all, ",")
}

func (f *Fleet) member(name string) *manifest.Member {
	for i := range f.Members {
		if f.Members[i].Name == name {
			return &f.Members[i]
		}
	}
	return nil
}

// Phase is what all nodes of a fleet have to have reached before one continues.
type Phase string

// The phases of a restore, in their order.
const (
	PhaseStaged    Phase = "staged"     // the restored data lies beside the old
	PhaseAPIGone   Phase = "api-gone"   // no API server runs
	PhaseEtcdOut   Phase = "etcd-out"   // no etcd runs
	PhasePlaced    Phase = "placed"     // the restored data is where etcd will look for it
	PhaseEtcdReady Phase = "etcd-ready" // etcd has a quorum, and every member is there
	PhaseAPIReady  Phase = "api-ready"
	PhaseVerified  Phase = "verified"
)

// Name is the phase as a person reads it.
func (p Phase) Name() string {
	switch p {
	case PhaseAPIGone:
		return "API down"
	case PhaseEtcdOut:
		return "etcd down"
	case PhaseAPIReady:
		return "API ready"
	}
	return strings.ReplaceAll(string(p), "-", " ")
}

// Phases are all phases in their order.
var Phases = []Phase{PhaseStaged, PhaseAPIGone, PhaseEtcdOut, PhasePlaced, PhaseEtcdReady, PhaseAPIReady, PhaseVerified}

var phaseTitles = map[Phase]string{
	PhaseStaged:    "Wait until every node has staged the restore",
	PhaseAPIGone:   "Wait until every node's kube-apiserver is down",
	PhaseEtcdOut:   "Wait until every node's etcd is down",
	PhasePlaced:    "Wait until every node's data is in place",
	PhaseEtcdReady: "Wait until every node's etcd is ready",
	PhaseAPIReady:  "Wait until every node's kube-apiserver is ready",
	PhaseVerified:  "Wait until every node is verified",
}

// Barrier waits for the other nodes at the end of a phase. It returns nil when
// this node may continue, and reports on the way what it sees. It is called from the
// engine's goroutine.
type Barrier func(ctx context.Context, phase Phase, tell func([]Sighting)) error

// WaitNodes waits for the other nodes at the end of a phase.
type WaitNodes struct {
	Phase  Phase        `json:"phase"`
	Others []RemoteNode `json:"others"`
	// ClusterID is that of etcd as it was; 0 when it isn't known.
	ClusterID uint64 `json:"cluster_id,omitempty"`
	// ByPorts says that the others are looked at, whoever else could tell, Back
	// that they go to the cluster as it was, and not to the one that was staged.
	ByPorts bool `json:"by_ports,omitempty"`
	Back    bool `json:"back,omitempty"`
	// Leading says that only the member that leads waits, before its etcd stops,
	// and not for long: see [pace.handover].
	Leading bool `json:"leading,omitempty"`
}

func (*WaitNodes) Kind() string { return "meet" } // as in journals of all versions

func (a *WaitNodes) Title() string {
	if a.Leading {
		return "Let the other members stop first where this one leads"
	}
	return phaseTitles[a.Phase]
}

func (a *WaitNodes) Commands() []string {
	var cmds []string
	if a.Leading {
		return []string{trust.Comment("stop the leader last (etcdctl endpoint status): it would wait to hand over to a member that stops, too")}
	}
	for _, o := range a.Others {
		switch a.Phase {
		case PhaseAPIGone:
			cmds = append(cmds, trust.Shell("while curl -sk -m 1 -o /dev/null %s; do sleep 0.1; done   %s", o.ReadyURL, trust.Raw(trust.Comment(o.Name))))
		case PhaseEtcdOut:
			cmds = append(cmds, trust.Shell("while curl -sk -m 1 -o /dev/null %s; [ $? -ne 7 ]; do sleep 0.1; done   %s", o.PeerURL, trust.Raw(trust.Comment(o.Name))))
		case PhaseAPIReady:
			cmds = append(cmds, trust.Shell("until curl -skf -m 1 -o /dev/null %s; do sleep 0.1; done   %s", o.ReadyURL, trust.Raw(trust.Comment(o.Name))))
		default:
			cmds = append(cmds, trust.Comment(fmt.Sprintf("%s: %s?", o.Name, a.Phase)))
		}
	}
	return cmds
}

func (a *WaitNodes) limit(p pace) time.Duration {
	if a.Leading {
		return 2 * p.handover
	}
	return p.nodes
}

func (a *WaitNodes) do(ctx context.Context, r *run) (State, error) {
	switch {
	case a.Leading:
		return a.leading(ctx, r)
	case r.engine.Barrier == nil || a.ByPorts:
		state, err := a.byPorts(ctx, r)
		if err == nil && a.Phase == PhaseAPIGone && !a.ByPorts && r.plan.has(RoleEtcd.stops) {
			// Nobody conducts who would have the leader stop last.
			last := WaitNodes{Phase: PhaseEtcdOut, Others: a.Others, ClusterID: a.ClusterID, Leading: true}
			return last.leading(ctx, r)
		}
		return state, err
	}
	begun := r.now()
	err := r.engine.Barrier(ctx, a.Phase, func(seen []Sighting) {
		r.emit(Event{Type: TypeAction, State: Waiting, Seen: seen, Waited: r.now().Sub(begun).Seconds()})
	})
	if ctx.Err() != nil {
		return Stopped, errStopped
	}
	if err != nil {
		return Failed, err
	}
	return Done, nil
}

// leading waits where this member leads, until the others have stopped. It fails
// nothing: a leader that hands over to one that stops takes longer, and stops.
func (a *WaitNodes) leading(ctx context.Context, r *run) (State, error) {
	ask, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if s, err := r.world.Etcd(ask, false); err != nil || s.Leader == 0 || s.Leader != s.MemberID {
		return Already, nil
	}
	return a.byPorts(ctx, r)
}

// byPorts sees the others only by what their ports show: nothing of what they
// stage, and of the rest enough to stay in step.
func (a *WaitNodes) byPorts(ctx context.Context, r *run) (State, error) {
	var staged uint64
	switch {
	case a.Back:
		staged = a.ClusterID
	case r.mem.Staged != nil:
		staged = r.mem.Staged.ClusterID
	}
	begun, down := r.now(), map[string]time.Time{}
	return r.poll(ctx, a.limit(r.pace), r.pace.lookAPI, func(ctx context.Context) (sight, error) {
		s := sight{ok: true}
		state := make([]node.RemoteState, len(a.Others))
		var all sync.WaitGroup
		for i, o := range a.Others { // one that is silent takes a second
			all.Go(defect.Do(func() { state[i] = r.world.Remote(ctx, o.RemoteConfig) }))
		}
		all.Wait()
		led := a.Phase == PhaseAPIGone && a.allAhead(state, staged)
		for i, o := range a.Others {
			is := state[i]
			ok := a.reached(o, is, staged) || led
			s.ok = s.ok && ok
			s.seen = append(s.seen, Sighting{What: o.Name, Is: is.String(), OK: ok})
			if _, known := down[o.Name]; !ok && !known && is.Peer == node.PortRefuses {
				down[o.Name] = r.now()
			}
		}
		if a.Back && a.Phase == PhaseEtcdReady && r.engine.Barrier == nil {
			s.limit = a.limit(r.pace)
			if last, all := lastDown(s.seen, down); all {
				s.limit = last.Sub(begun) + back(r.pace)
			}
		}
		s.ok = s.ok || a.Leading && r.now().Sub(begun) >= r.pace.handover
		return s, nil
	}, func(s sight) error {
		var late []string
		for _, seen := range s.seen {
			if !seen.OK {
				late = append(late, seen.What)
			}
		}
		if last, all := lastDown(s.seen, down); all && s.limit > 0 {
			return problem.New("look there (etcd-rewind runs); then undo here again: "+r.command("undo"), "%s: etcd was stopped there and has not come back for %s: its undo has failed, or was not started",
				strings.Join(late, ", "), patient(r.now().Sub(last)))
		}
		return problem.New("inspect the run there (etcd-rewind); continue here once it has finished, or undo it on all nodes: "+r.command("undo"), "still behind: %s", strings.Join(late, ", "))
	})
}

// back is how long an undo of etcd on another node takes at most, once its etcd is
// down, where nobody can say that it has failed.
func back(p pace) time.Duration { return 2 * p.etcd }

// patient says how long somebody waited.
func patient(d time.Duration) string {
	if d < 2*time.Minute {
		return fmt.Sprintf("%.0f s", d.Seconds())
	}
	return fmt.Sprintf("%.0f min", d.Minutes())
}

// lastDown is when the last of the nodes that are waited for was first seen without
// etcd; false while one of them wasn't.
func lastDown(seen []Sighting, down map[string]time.Time) (last time.Time, all bool) {
	for _, s := range seen {
		if s.OK {
			continue
		}
		since, is := down[s.What]
		if !is {
			return last, false
		}
		if all = true; since.After(last) {
			last = since
		}
	}
	return last, all
}

// reached reads a phase from a node's ports. A node that is ahead of this one
// counts too: its etcd is in the restored cluster already, and it could only
// get there after it saw this node out of the old one.
// One that has no API server, or no etcd, has no URL of it, and isn't waited for.
func (a *WaitNodes) reached(o RemoteNode, n node.RemoteState, staged uint64) bool {
	ahead := a.ahead(n, staged)
	switch a.Phase {
	case PhaseAPIGone:
		return o.ReadyURL == "" || n.API == node.PortRefuses || ahead
	case PhaseEtcdOut:
		return o.PeerURL == "" || n.Peer == node.PortRefuses || ahead
	case PhaseEtcdReady:
		// Where it isn't known which cluster the old one was, the phases before have
		// seen it out.
		return o.PeerURL == "" || ahead || staged == 0 && a.ClusterID == 0 && n.ClusterID != 0
	case PhaseAPIReady:
		return o.ReadyURL == "" || n.APIReady
	}
	return true
}

// ahead says of another node that its etcd is in the cluster that this run goes to.
func (a *WaitNodes) ahead(n node.RemoteState, staged uint64) bool {
	if staged == 0 && a.ClusterID != 0 && n.ClusterID != 0 {
		return n.ClusterID != a.ClusterID // without etcd, nothing was staged here
	}
	return staged != 0 && n.ClusterID == staged
}

// allAhead says that the others' etcds are all ahead of this node: they saw every
// API server down. Those without etcd show nothing of that, and may have started
// theirs again.
func (a *WaitNodes) allAhead(state []node.RemoteState, staged uint64) bool {
	ahead := false
	for i, o := range a.Others {
		if o.PeerURL != "" {
			if ahead = a.ahead(state[i], staged); !ahead {
				return false
			}
		}
	}
	return ahead
}

func (*WaitNodes) places(*vetter) {}

// split says whether etcd and the API servers are apart: on one of the nodes one
// of them doesn't run. Then an undo and a redo are done in step, too.
func (p *Plan) split() bool {
	if !p.fleet() {
		return false
	}
	if !p.has(RoleEtcd.starts) || !p.has(RoleAPI.starts) {
		return true
	}
	return p.has(func(a Action) bool {
		w, ok := a.(*WaitNodes)
		return ok && slices.ContainsFunc(w.Others, func(o RemoteNode) bool { return o.ReadyURL == "" || o.PeerURL == "" })
	})
}

// inStep adds to the undo of a node what keeps API servers and etcd apart: no
// etcd stops before all API servers are down, and an API server without etcd
// beside it starts when etcd is the old one. And of several members the leader
// stops last.
func inStep(steps []Step, restore *Plan) []Step {
	if !restore.split() {
		return steps
	}
	var of *WaitNodes
	for a := range restore.actions() {
		if w, ok := a.Action.(*WaitNodes); ok {
			of = w
		}
	}
	wait := func(p Phase) Planned {
		return Planned{Action: &WaitNodes{Phase: p, Others: of.Others, ClusterID: of.ClusterID, ByPorts: true, Back: true}}
	}
	hasEtcd, waited := restore.has(RoleEtcd.starts), false
	for i := range steps {
		acts := &steps[i].Actions
		for j := 0; j < len(*acts); j++ {
			switch a := (*acts)[j].Action; {
			case hasEtcd && RoleEtcd.stops(a) && !waited:
				before := append([]Planned{wait(PhaseAPIGone)}, planned(of.leaderLast(true))...)
				*acts = slices.Insert(*acts, j, before...)
				waited = true
				j += len(before)
			case !hasEtcd && RoleAPI.starts(a):
				*acts = slices.Insert(*acts, j, wait(PhaseEtcdReady))
				j++
			}
		}
	}
	return steps
}

// undo needs no barrier where each node has both: its etcd goes back to the old
// members, and neither they nor the new ones can do anything without a quorum of
// them. See [inStep] for the others.
func (*WaitNodes) undo() []Action { return nil }

// leaderLast has the others' etcd stop before this one, where it leads; nothing
// where it is the only one.
func (a *WaitNodes) leaderLast(back bool) []Action {
	if !slices.ContainsFunc(a.Others, func(o RemoteNode) bool { return o.PeerURL != "" }) {
		return nil
	}
	return []Action{&WaitNodes{Phase: PhaseEtcdOut, Others: a.Others, ClusterID: a.ClusterID, ByPorts: true, Back: back, Leading: true}}
}

// others of a fleet in a fixed order.
func (f *Fleet) others() []RemoteNode {
	return slices.SortedFunc(slices.Values(f.Others), func(a, b RemoteNode) int { return cmp.Compare(a.Name, b.Name) })
}

// Barrier is the phase whose end an action waits at; "" for another action.
func (p *Plan) Barrier(action string) Phase {
	if a := p.action(action); a != nil {
		if w, ok := a.Action.(*WaitNodes); ok {
			return w.Phase
		}
	}
	return ""
}

// fleet says whether a plan is that of one of several nodes.
func (p *Plan) fleet() bool {
	return p.has(func(a Action) bool { _, waits := a.(*WaitNodes); return waits })
}
