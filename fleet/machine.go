package fleet

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"etcd-rewind/problem"
	"etcd-rewind/restore"
	"etcd-rewind/steps"
	"etcd-rewind/trust"
)

// machine decides how a run of several nodes goes. step takes what has
// happened and returns what is to be done about it; the machine itself starts
// nothing, waits for nothing, and knows no clock but the time that comes with
// each input. The same inputs give the same outputs.
type machine struct {
	verb    restore.Verb // of an earlier run; "" for a restore
	nodes   []*nodeRun
	members int                      // of the restored cluster
	before  int                      // members of the cluster as it was
	command func(verb string) string // that does something with this run
	pace    Pace

	now time.Time
	out []output

	opened  map[steps.Phase]time.Time // barriers that all nodes have come to
	touched bool                      // a node may have changed something
	looked  time.Time                 // at the nodes' silence, last
	shown   time.Time                 // to those that wait: for whom they do, last

	stopping  time.Time // since when every node is to stop
	byUser    bool      // stopped by the user
	left      bool      // the user left at once
	undo      bool      // all nodes are reverted once they have stopped
	fail      *steps.Failure
	blamed    *nodeRun // whose trouble that is
	blamedFor string   // its cause

	troubles []*trouble // to be asked about, in this order
	asking   *trouble
	asks     int

	res *restore.Result // ends the run
}

// nodeRun is what is known of a node's part in a run.
type nodeRun struct {
	name   string
	linked bool // there is a connection to its agent
	leader bool // its etcd is the leader
	noEtcd bool // it has an API server alone
	verb   restore.Verb
	try    int // of a connection or request: news of an earlier one are void

	running  bool // a request is under way
	reaching bool // a connection is being made
	asked    int  // its engine waits for the answer to this question; 0 for none
	asks     int
	excluded bool  // the others continue without it
	lost     error // it can't be reached
	drops    int   // of its connection, since it came to a barrier

	reached int         // barriers come to: 0 none, 1 staged
	waiting steps.Phase // at the barrier of; "" for none
	res     *steps.Result
	err     error
	instead restore.Verb // what applies to the run there, and not what was asked for

	etcdStopped, etcdServes bool // its old etcd, its restored etcd
	etcdStarts              bool // it was let past placed

	apiDown, apiBack time.Time

	heard time.Time     // something of its run, or what it waited for
	told  time.Duration // how long nothing had been heard when that was reported
	over  time.Time     // its undo or redo has ended, or it was lost

	behind []string // nodes that it waits for by their ports
	why    string   // it was stopped: who it waited for can't come
	last   string   // the action that it named last
}

type trouble struct {
	node *nodeRun
	ask  int // nodeRun.asked; 0 when its engine doesn't wait
	restore.Trouble
}

// input is something that has happened.
type input any

// Inputs. Those with a try are about that try of a node.
type (
	begun struct{}
	// news is what an agent says while a request is under way.
	news struct {
		node, try int
		message
	}
	// ended is the end of a request; an *errGone when the connection ended.
	ended struct {
		node, try int
		res       *steps.Result
		err       error
	}
	// linked is the end of the tries to reach a node.
	linked struct {
		node, try int
		err       error
	}
	answered struct {
		question int
		choice   steps.Choice
	}
	ticked  struct{}
	stopped struct{} // by the user
	leaving struct{} // the user waits for nobody
)

// output is something to be done, in the order in which they are returned.
type output any

// Outputs.
type (
	// startRun sends the request for a verb; ended answers it.
	startRun struct {
		node, try int
		verb      restore.Verb
	}
	// reach connects to a node again, for so long; linked answers it.
	reach struct {
		node, try int
		within    time.Duration
	}
	giveUp  struct{} // what reach began
	abandon struct { // the connection to a node
		node int
		why  error
	}
	say struct {
		node int
		request
	}
	tell struct{ restore.NodeEvent }
	// askUser puts a question; answered answers it.
	askUser struct {
		question int
		restore.Trouble
	}
)

// step takes one input at a time; the times don't go back.
func (m *machine) step(now time.Time, in input) []output {
	m.now, m.out = now, nil
	if m.res != nil {
		return nil
	}
	switch in := in.(type) {
	case begun:
		m.looked = now
		m.startAll(m.verb)
	case news:
		if n := m.nodes[in.node]; n.running && n.try == in.try {
			m.news(n, in.message)
		}
	case ended:
		if n := m.nodes[in.node]; n.running && n.try == in.try {
			m.ended(n, in.res, in.err)
		}
	case linked:
		if n := m.nodes[in.node]; n.reaching && n.try == in.try {
			m.linked(n, in.err)
		}
	case answered:
		if t := m.asking; t != nil && in.question == m.asks {
			m.asking = nil
			m.answered(t, in.choice)
		}
	case ticked:
		m.watch()
		m.release()
		if m.now.Sub(m.shown) >= time.Second {
			m.show()
		}
	case stopped:
		m.stopByUser()
	case leaving:
		m.leave()
	}
	m.settle()
	return m.out
}

// settle asks what there is to ask, and ends what is over.
func (m *machine) settle() {
	if m.asking == nil && len(m.troubles) > 0 {
		m.askNext()
	}
	busy := m.asking != nil
	for _, n := range m.nodes {
		busy = busy || n.running || n.reaching
	}
	switch {
	case busy:
	case m.undo && !m.byUser:
		m.undo, m.stopping = false, time.Time{}
		m.startAll(restore.Undo)
	default:
		m.end()
	}
}

func (m *machine) do(o output) { m.out = append(m.out, o) }

func (m *machine) index(n *nodeRun) int { return slices.Index(m.nodes, n) }

func (m *machine) tell(n *nodeRun, ev steps.Event) {
	t := restore.NodeEvent{Event: ev}
	if n != nil {
		t.Node = n.name
	}
	t.Time = m.now.UTC()
	m.do(tell{t})
}

func (m *machine) tellLink(n *nodeRun, s steps.State, format string, args ...any) {
	m.tell(n, steps.Event{Type: restore.TypeLink, State: s, Message: fmt.Sprintf(format, args...)})
}

// startAll has every node begin, all at the same time. An undo needs no
// barriers: a quorum of the old members is needed for the first to be ready,
// and while it forms neither the old members nor the new ones can have one that
// the other has too. The same holds for a redo.
func (m *machine) startAll(v restore.Verb) {
	for _, n := range m.nodes {
		switch {
		case v == restore.Resume && n.res != nil: // it had finished
		case n.linked && n.lost == nil:
			m.start(n, v)
		case v == restore.Resume:
			m.reach(n, v, m.pace.Reconnect)
		default:
			m.reach(n, v, max(m.pace.Reconnect/4, m.pace.Pause))
		}
	}
}

// start begins what a node is to do.
func (m *machine) start(n *nodeRun, v restore.Verb) {
	n.try++
	n.verb, n.running, n.heard = v, true, m.now
	n.lost, n.waiting, n.asked, n.res, n.err = nil, "", 0, nil, nil
	n.told, n.behind, n.why = 0, nil, ""
	m.do(startRun{m.index(n), n.try, v})
}

// reach connects to a node, and continues there with a verb.
func (m *machine) reach(n *nodeRun, v restore.Verb, within time.Duration) {
	n.try++
	n.verb, n.reaching, n.lost = v, true, nil
	m.do(reach{m.index(n), n.try, within})
}

// apart says whether a node waits for no other.
func (n *nodeRun) apart() bool { return n.verb == restore.Undo || n.verb == restore.Redo }

// mostDrops is how often a node is reached again without coming any further.
const mostDrops = 3

// seen is where a node was when it was last heard of.
func (n *nodeRun) seen() string {
	at := "before the phase " + steps.Phases[0].Name()
	if n.reached > 0 {
		at = "past the phase " + steps.Phases[n.reached-1].Name()
	}
	if n.apart() {
		at = "in its " + string(n.verb)
	}
	if n.last != "" {
		at += ", at " + n.last
	}
	return at
}

// news takes what an agent says while it runs.
func (m *machine) news(n *nodeRun, msg message) {
	n.heard, n.told = m.now, 0
	switch {
	case msg.Event != nil:
		m.event(n, *msg.Event)
	case msg.Barrier != "":
		if n.apart() {
			m.do(say{m.index(n), request{Do: doGo, Phase: msg.Barrier}})
			return
		}
		if at := index(msg.Barrier) + 1; at > n.reached {
			n.reached, n.drops = at, 0
		}
		switch {
		case msg.Past:
			n.etcdStarts = n.etcdStarts || msg.Barrier == steps.PhasePlaced
		case m.stopping.IsZero():
			n.waiting = msg.Barrier
		}
		m.look()
	case msg.Ask != nil:
		n.asks++
		n.asked = n.asks
		m.trouble(n, restore.Trouble{Node: n.name, Failure: *msg.Ask})
		m.look()
	}
}

func (m *machine) event(n *nodeRun, ev steps.Event) {
	if ev.Type == steps.TypeAction {
		n.behind = nil
		for _, s := range ev.Seen {
			if !s.OK {
				n.behind = append(n.behind, s.What)
			}
		}
	}
	if ev.Action != "" {
		n.last = trust.Clip(trust.Text(ev.Action), 80)
	}
	switch {
	case ev.Away != nil:
		if n.apiDown.IsZero() {
			n.apiDown = m.now.Add(-time.Duration(*ev.Away * float64(time.Second)))
		}
		n.apiBack = time.Time{}
	case !n.apiDown.IsZero() && n.apiBack.IsZero():
		n.apiBack = m.now
	}
	if ev.Type != steps.TypeAsk && ev.Type != steps.TypeAnswer { // those are reported when it is asked here
		m.tell(n, ev)
	}
	if stopped, serves := ev.Etcd == steps.EtcdStopped, ev.Etcd == steps.EtcdServes; stopped && !n.etcdStopped || serves && !n.etcdServes {
		n.etcdStopped, n.etcdServes = n.etcdStopped || stopped, n.etcdServes || serves
		m.look()
	}
}

// look opens the barriers that every node has come to, and informs those that wait
// for whom they do.
func (m *machine) look() {
	if !m.stopping.IsZero() || m.nodes[0].apart() {
		return
	}
	for i, p := range steps.Phases {
		if m.opened[p].IsZero() && !m.open(i, p) {
			break
		}
	}
	m.release()
	m.show()
}

// show reports to those that wait for whom: at once when that changes, and once a second,
// so that a wait that lasts is reported in every output.
func (m *machine) show() {
	if !m.stopping.IsZero() || m.nodes[0].apart() {
		return
	}
	m.shown = m.now
	for _, n := range m.nodes {
		if n.waiting == "" || !n.running {
			continue
		}
		var seen []steps.Sighting
		for _, o := range m.nodes {
			if o != n && !o.excluded {
				seen = append(seen, steps.Sighting{What: o.name, Is: o.where(), OK: o.reached > index(n.waiting) && !m.holds(n, o)})
			}
		}
		m.do(say{m.index(n), request{Do: doSeen, Seen: seen}})
	}
}

func (m *machine) open(i int, p steps.Phase) bool {
	in := 0
	for _, n := range m.nodes {
		if n.excluded {
			continue
		}
		if n.reached <= i {
			return false
		}
		in++
	}
	m.opened[p], m.touched = m.now, true
	all := "the node"
	if in > 1 {
		all = fmt.Sprintf("all %d nodes", in)
	}
	m.do(tell{restore.NodeEvent{Event: steps.Event{Type: restore.TypePhase, Time: m.now.UTC(), State: steps.Done, Message: all + ": " + phaseWords[p]}, Phase: p}})
	return true
}

// release lets nodes past the barriers that are open.
func (m *machine) release() {
	for _, n := range m.nodes {
		if at := n.waiting; at != "" && n.running && m.stopping.IsZero() && !m.opened[at].IsZero() && !m.held(n) {
			n.waiting = ""
			n.etcdStarts = n.etcdStarts || at == steps.PhasePlaced
			m.do(say{m.index(n), request{Do: doGo, Phase: at}})
		}
	}
}

// held says whether a node stays at an open barrier for another's etcd, for as
// long as that saves time.
//
// A leader hands over before it ends, and waits for up to 7 s when whom it hands
// over to is ending too: it ends last, when nobody is left to hand over to
// (TryTransferLeadershipOnShutdown, etcdserver).
//
// An etcd that starts asks each of its peers for a hash of their data, as
// kubeadm has it do, and waits for up to 7 s for each that has begun to listen
// and doesn't serve yet: they start one after the other, as soon as the one
// before serves (InitialCheck, etcdserver/corrupt.go).
func (m *machine) held(n *nodeRun) bool {
	limit := m.pace.Stagger
	if n.waiting == steps.PhasePlaced {
		limit *= time.Duration(len(m.nodes))
	}
	if m.now.Sub(m.opened[n.waiting]) >= limit {
		return false
	}
	return slices.ContainsFunc(m.nodes, func(o *nodeRun) bool { return m.holds(n, o) })
}

// holds says whether n, at an open barrier, is held there for the etcd of o.
func (m *machine) holds(n, o *nodeRun) bool {
	switch {
	case o == n || o.excluded || o.asked > 0 || !o.running || m.opened[n.waiting].IsZero():
		return false
	case n.waiting == steps.PhaseAPIGone:
		return n.leader && !o.etcdStopped && o.reached <= index(steps.PhaseEtcdOut)
	case n.waiting == steps.PhasePlaced:
		return o.etcdStarts && !o.etcdServes && o.reached <= index(steps.PhaseEtcdReady)
	}
	return false
}

func (n *nodeRun) where() string {
	switch {
	case n.lost != nil || n.reaching:
		return "can't be reached"
	case n.waiting != "":
		return "waits at " + n.waiting.Name()
	case n.reached == 0:
		return "at work"
	}
	return "past " + steps.Phases[n.reached-1].Name()
}

// ended is the end of what ran on a node.
func (m *machine) ended(n *nodeRun, res *steps.Result, err error) {
	n.running, n.asked, n.waiting, n.over = false, 0, "", m.now
	m.troubles = slices.DeleteFunc(m.troubles, func(t *trouble) bool { return t.node == n && !t.Away })
	var gone *errGone
	switch {
	case errors.As(err, &gone):
		m.dropped(n, gone)
	case err != nil:
		n.err = err
		p := problem.From(err)
		n.instead = restore.Verb(p.Code)
		m.broken(n, steps.Failure{Title: "Begin", Cause: p.Cause, Hint: p.Hint})
	default:
		n.res = res
		if res.OK && !n.apart() {
			n.reached = len(steps.Phases)
		}
		if !res.OK && res.Error != nil {
			m.broken(n, *res.Error)
		}
	}
	m.look()
}

// broken is a node whose run ended with a failure, or could not begin. What
// could be asked about it was asked before.
func (m *machine) broken(n *nodeRun, f steps.Failure) {
	if m.stopping.IsZero() && !n.excluded && !n.apart() {
		f.Choices = nil
		m.trouble(n, restore.Trouble{Node: n.name, Failure: f})
	}
}

// dropped is a node whose connection has ended while something ran there. Its
// agent stops at its next wait; a new one continues.
func (m *machine) dropped(n *nodeRun, why error) {
	n.linked = false
	if n.excluded || !m.stopping.IsZero() {
		n.lost = why
		return
	}
	if n.drops++; n.drops > mostDrops {
		m.unreachable(n, fmt.Errorf("%d times in a row: %w", n.drops, why))
		return
	}
	next := n.verb
	if next == "" {
		next = restore.Resume
	}
	m.tellLink(n, steps.Waiting, "%s; trying to reach it again", why)
	m.reach(n, next, m.pace.Reconnect)
}

// linked is a node that was reached again, or was not.
func (m *machine) linked(n *nodeRun, err error) {
	n.reaching = false
	if err == nil {
		n.linked = true
		m.tellLink(n, steps.Done, "reached again")
		m.start(n, n.verb)
		return
	}
	m.unreachable(n, err)
}

// unreachable gives a node up, and asks what the others are to do.
func (m *machine) unreachable(n *nodeRun, why error) {
	n.reaching, n.lost, n.over = false, why, m.now
	m.tellLink(n, steps.Failed, "%s", why)
	if n.apart() || n.excluded || !m.stopping.IsZero() {
		return
	}
	m.trouble(n, restore.Trouble{Node: n.name, Away: true, Failure: steps.Failure{
		Title: "Reach " + n.name, Cause: "it can't be reached any more: " + why.Error(),
		Hint: "its run stops at its next wait; its journal is there",
	}})
	m.look()
}

// watch ends the connection to a node whose run reports nothing any more, though
// its agent answers. It counts as down then, as one that can't be reached.
func (m *machine) watch() {
	suspended := m.now.Sub(m.looked) > 5*m.pace.Ping // it was this process that didn't listen
	m.looked = m.now
	if suspended && !m.stopping.IsZero() {
		m.stopping = m.now
	}
	for i, n := range m.nodes {
		if !n.running {
			continue
		}
		if suspended || n.waiting != "" || n.asked > 0 {
			n.heard = m.now
		}
		quiet, limit := m.now.Sub(n.heard), m.pace.Quiet
		if n.reached == 0 && !n.apart() {
			limit = m.pace.Staging
		}
		if !m.stopping.IsZero() {
			since := m.now.Sub(m.stopping)
			limit = m.pace.Stop
			quiet = min(quiet, since)
			if since > 6*limit {
				quiet = since
			}
		}
		if quiet <= limit {
			if u := m.pace.Unheard; u > 0 && quiet >= max(u, 2*n.told) && m.stopping.IsZero() {
				n.told = quiet
				m.tellLink(n, steps.Warned, "nothing new for %.0f s; last seen %s", quiet.Seconds(), n.seen())
			}
			m.stopForNobody(i, n)
			continue
		}
		if !m.stopping.IsZero() {
			m.tellLink(n, steps.Failed, "did not stop within %s; last seen %s", quiet.Round(time.Second), n.seen())
		}
		gone := &errGone{why: fmt.Errorf("its agent answers, but the run reported nothing for %s; last seen %s", quiet.Round(time.Second), n.seen())}
		m.do(abandon{i, gone.why})
		m.ended(n, nil, gone)
	}
}

// stopForNobody stops a node that waits, in its undo or redo, for one whose own
// has ended without reaching what is waited for. What ended may still come up by
// itself, and has a moment for that.
func (m *machine) stopForNobody(i int, n *nodeRun) {
	if !n.apart() || n.why != "" || n.asked > 0 || !m.stopping.IsZero() {
		return
	}
	for _, o := range m.nodes {
		failed := !o.running && !o.reaching && (o.lost != nil || o.err != nil || o.res != nil && !o.res.OK && !o.res.Reverted)
		if !failed || !slices.Contains(n.behind, o.name) || m.now.Sub(o.over) < m.pace.Behind {
			continue
		}
		what := "the " + string(o.verb) + " there has failed"
		if o.lost != nil {
			what = "it can't be reached"
		}
		n.why = fmt.Sprintf("stopped: it waited for %s, and %s", o.name, what)
		m.tellLink(n, steps.Warned, "%s", n.why)
		m.do(say{i, request{Do: doStop}})
		return
	}
}

// trouble decides what can be decided, and asks for the rest.
func (m *machine) trouble(n *nodeRun, t restore.Trouble) {
	switch {
	case !m.stopping.IsZero():
		m.reply(n, steps.Leave)
	case !n.apart() && !m.touched:
		// Nothing is touched on any node, and stays so.
		m.blame(n, t)
		m.stop()
	default:
		m.troubles = append(m.troubles, &trouble{n, n.asked, t})
	}
}

// blame says which node's trouble the run ends with.
func (m *machine) blame(n *nodeRun, t restore.Trouble) {
	f := t.Failure
	m.blamed, m.blamedFor = n, f.Cause
	if t.Away && n.lost != nil {
		m.blamedFor = n.lost.Error()
	}
	f.Cause, f.Choices = n.name+": "+f.Cause, nil
	m.fail = &f
}

// reply answers a node's engine, when it waits for that.
func (m *machine) reply(n *nodeRun, c steps.Choice) {
	if n.asked > 0 && n.running {
		n.asked = 0
		m.do(say{m.index(n), request{Do: doAnswer, Choice: c}})
	}
}

func (m *machine) askNext() {
	t := m.troubles[0]
	m.troubles = m.troubles[1:]
	t.Failure.Choices = m.choices(t)
	f := t.Failure
	m.tell(t.node, steps.Event{Type: steps.TypeAsk, State: steps.Failed, Step: f.Step, Action: f.Action, Failure: &f})
	m.asks++
	m.asking = t
	m.do(askUser{m.asks, t.Trouble})
}

// choices that make sense, the recommended one first.
func (m *machine) choices(t *trouble) []steps.Choice {
	n, own := t.node, t.Failure.Choices
	if n.apart() { // each node decides for itself
		if len(own) == 0 {
			return []steps.Choice{steps.Leave}
		}
		return own
	}
	var out []steps.Choice
	add := func(c steps.Choice, ok bool) {
		if ok && !slices.Contains(out, c) {
			out = append(out, c)
		}
	}
	if t.Away && n.lost != nil {
		restored := m.restoredWithout(n)
		add(restore.ContinueWithout, restored && m.without(n))
		add(steps.Revert, !restored && m.canUndo())
		add(steps.Leave, restored || !m.canUndo())
		add(steps.Retry, true)
	} else {
		add(steps.RestartStuck, slices.Contains(own, steps.RestartStuck))
		leave := len(own) > 0 && own[0] == steps.Leave
		slow := len(own) > 0 && own[0] == steps.WaitOn // nothing has failed
		add(steps.WaitOn, slow)
		add(restore.ContinueWithout, leave && m.without(n))
		add(steps.Leave, slow)
		add(steps.Revert, !leave && !slow)
		add(steps.WaitOn, slices.Contains(own, steps.WaitOn))
		add(steps.Retry, slices.Contains(own, steps.Retry))
	}
	add(restore.ContinueWithout, m.without(n))
	add(steps.Revert, true)
	add(steps.Leave, true)
	return out
}

// without says whether the others may continue without a node: they have a
// quorum of the restored cluster, and neither the node's API server nor its old
// etcd can be running.
func (m *machine) without(n *nodeRun) bool {
	left := 0
	for _, o := range m.nodes {
		if o != n && !o.excluded && o.lost == nil && !o.noEtcd {
			left++
		}
	}
	return n.reached > index(steps.PhaseEtcdOut) && left >= quorum(m.members)
}

// restoredWithout says whether all others have their API back: then an undo is
// a decision to take with open eyes and not the default.
func (m *machine) restoredWithout(n *nodeRun) bool {
	for _, o := range m.nodes {
		if o != n && !o.excluded && o.reached <= index(steps.PhaseAPIReady) {
			return false
		}
	}
	return len(m.nodes) > 1
}

// canUndo says whether those that can be reached make the old cluster again:
// with less than its quorum they would only be between two clusters.
func (m *machine) canUndo() bool {
	here := 0
	for _, o := range m.nodes {
		if o.lost == nil {
			here++
		}
	}
	return here == len(m.nodes) || here >= quorum(max(m.before, len(m.nodes)))
}

// answered does what the user decided.
func (m *machine) answered(t *trouble, c steps.Choice) {
	n := t.node
	if !slices.Contains(t.Failure.Choices, c) {
		c = steps.Leave
	}
	m.tell(n, steps.Event{Type: steps.TypeAnswer, Message: string(c)})
	if t.ask != n.asked && !t.Away && (n.apart() || c == steps.WaitOn || c == steps.RestartStuck || c == steps.Retry) {
		return // its engine has ended meanwhile, or asks something else
	}
	switch {
	case n.apart() && (n.verb == restore.Undo || c != steps.Revert):
		m.reply(n, c)
	case c == steps.WaitOn || c == steps.RestartStuck || c == steps.Retry:
		if t.Away && n.lost != nil {
			n.drops = 0
			m.reach(n, restore.Resume, m.pace.Reconnect)
			return
		}
		m.reply(n, c)
	case c == restore.ContinueWithout && !m.without(n):
		m.troubles = append([]*trouble{t}, m.troubles...) // another node was lost since
	case c == restore.ContinueWithout:
		n.excluded = true
		m.blame(n, t.Trouble)
		m.reply(n, steps.Leave)
		m.tell(n, steps.Event{Type: restore.TypeLeft, State: steps.Stopped, Message: "the others continue without it"})
		m.look()
	default:
		m.blame(n, t.Trouble)
		m.undo = c == steps.Revert
		m.stop()
	}
}

// stop has every node stop at its next wait.
func (m *machine) stop() {
	if m.stopping.IsZero() {
		m.stopping = m.now
	}
	m.do(giveUp{})
	m.troubles, m.asking = nil, nil
	for i, n := range m.nodes {
		n.waiting = ""
		if n.reaching {
			n.try++
			m.unreachable(n, errors.New("its connection had ended when the run was stopped; last seen "+n.seen()))
		}
		if n.running {
			m.reply(n, steps.Leave)
			m.do(say{i, request{Do: doStop}})
		}
	}
}

func (m *machine) stopByUser() {
	m.byUser = true
	if m.fail == nil {
		m.fail = &steps.Failure{Title: "Run", Cause: steps.StoppedByUser}
	}
	m.stop()
}

// leave ends it at once: what is under way is left to the agents.
func (m *machine) leave() {
	m.left = true
	m.stopByUser()
	for i, n := range m.nodes {
		if n.running {
			n.running, n.linked = false, false
			n.lost = fmt.Errorf("you left before it had stopped; last seen %s", n.seen())
			m.do(abandon{i, n.lost})
		}
	}
}
