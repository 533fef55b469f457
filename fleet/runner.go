package fleet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"etcd-rewind/defect"
	"etcd-rewind/restore"
	"etcd-rewind/steps"
	"etcd-rewind/trust"
)

// runner leads a run: one goroutine decides, from what the nodes tell.
type runner struct {
	c    *Conductor
	life context.Context // of tries to reach a node; ends when the run is to stop
	kill context.CancelFunc
	over chan struct{} // closed when nothing is taken any more
	sink func(restore.NodeEvent)
	ask  restore.Asker
	pace Pace

	nodes  []*runNode
	in     chan func() // what has happened, done in the runner's goroutine
	open   int         // goroutines that will tell something
	opened map[steps.Phase]bool
	late   map[steps.Phase]bool // nobody waits for another's turn any more

	stopping bool
	stopped  time.Time // when
	looked   time.Time // at the nodes' silence
	left     bool      // the user leaves at once
	refused  bool      // a node didn't begin: another run is under way there
	undo     bool
	back     bool // it is an undo from the start
	fail     *steps.Failure
	troubles []*trouble
	asking   bool
	asks     int
}

type runNode struct {
	*crewman
	run     bool   // a request is under way
	trying  bool   // to reconnect
	asked   bool   // its engine waits for an answer
	out     bool   // the others go on without it
	lost    error  // it can't be reached
	do      string // the request under way, or that was
	reached int    // phases come to: 0 none, 1 staged
	waits   bool   // for the others, at
	at      steps.Phase
	res     *steps.Result
	err     error

	ended, answers bool // its old etcd, its restored etcd
	placed         bool // it has its turn to start etcd

	away, back time.Time // the API, by the conductor's clock

	heard time.Time // something of its run, or what it waited for
	last  string    // the action that it told of last
}

type trouble struct {
	node *runNode
	restore.Trouble
}

func newRunner(c *Conductor, sink func(restore.NodeEvent), ask restore.Asker) *runner {
	r := &runner{c: c, over: make(chan struct{}), sink: sink, ask: ask, pace: c.pace(), in: make(chan func(), 64), opened: map[steps.Phase]bool{}, late: map[steps.Phase]bool{}}
	r.live()
	for _, n := range c.crew {
		m := &runNode{crewman: n}
		r.nodes = append(r.nodes, m)
		if n.link != nil {
			n.link.setNote(r.note(m))
		}
	}
	return r
}

// live begins a part of the run: forward, or back.
func (r *runner) live() {
	r.life, r.kill = context.WithCancel(context.Background())
}

// spawn runs something that tells the runner what came of it.
func (r *runner) spawn(work func() (then func())) {
	r.open++
	go defect.Do(func() {
		then := work()
		r.later(func() { r.open--; then() })
	})()
}

// later has something done in the runner's goroutine.
func (r *runner) later(what func()) {
	select {
	case r.in <- what:
	case <-r.over:
	}
}

func (r *runner) tell(ev restore.NodeEvent) {
	ev.Time = r.c.now().UTC()
	if ev.Run == "" {
		ev.Run = r.c.rec.Run
	}
	r.sink(ev)
}

// start sends a request that runs something.
func (r *runner) start(n *runNode, do string, what any) {
	l := n.link
	n.run, n.do, n.lost, n.waits, n.asked, n.heard = true, do, nil, false, false, time.Now()
	reply, err := l.begin(do, what)
	r.spawn(func() func() {
		var res *steps.Result
		if err == nil {
			// It is stopped by a word, and then has to end; watch sees to it.
			res, err = finish[*steps.Result](context.Background(), l, do, reply, 0)
		}
		return func() { r.ended(n, res, err) }
	})
}

// watch ends the connection to a node whose run tells nothing any more, though
// its agent answers. It counts as down then, as one that can't be reached.
func (r *runner) watch() {
	now := time.Now()
	if now.Sub(r.looked) > 5*r.pace.Ping {
		for _, n := range r.nodes {
			n.heard = now // it was this process that didn't listen
		}
	}
	r.looked = now
	for _, n := range r.nodes {
		if !n.run || n.link == nil {
			continue
		}
		if n.waits || n.asked {
			n.heard = now
		}
		limit := r.pace.Quiet
		if n.reached == 0 && n.do != doUndo {
			limit = r.pace.Staging
		}
		quiet := now.Sub(n.heard)
		if r.stopping {
			limit = r.pace.Stop
			quiet = min(quiet, now.Sub(r.stopped))
			if now.Sub(r.stopped) > 6*limit {
				quiet = now.Sub(r.stopped)
			}
		}
		if quiet <= limit {
			continue
		}
		if r.stopping {
			r.tell(restore.NodeEvent{Node: n.name, Event: steps.Event{Type: restore.TypeLink, State: steps.Failed, Message: fmt.Sprintf("did not stop within %s; last seen %s", quiet.Round(time.Second), n.seen())}})
		}
		n.link.abandon(fmt.Errorf("its agent answers, but the run told nothing for %s; last seen %s", quiet.Round(time.Second), n.seen()))
		n.heard = now
	}
}

// seen is where a node was when it was last heard of.
func (n *runNode) seen() string {
	at := "before the phase " + steps.Phases[0].Name()
	if n.reached > 0 {
		at = "past the phase " + steps.Phases[min(n.reached, len(steps.Phases))-1].Name()
	}
	if n.do == doUndo {
		at = "in its undo"
	}
	if n.last != "" {
		at += ", at " + n.last
	}
	return at
}

// note takes what an agent tells while it runs.
func (r *runner) note(n *runNode) func(message) {
	return func(m message) {
		r.later(func() {
			n.heard = time.Now()
			switch {
			case m.Event != nil:
				r.event(n, *m.Event)
			case m.Meet != "":
				r.came(n, m.Meet)
			case m.Ask != nil:
				n.asked = true
				r.trouble(n, restore.Trouble{Node: n.name, Failure: *m.Ask})
				r.look()
			}
		})
	}
}

func (r *runner) event(n *runNode, ev steps.Event) {
	now := r.c.now()
	if ev.Action != "" {
		n.last = trust.Clip(trust.Text(ev.Action), 80)
	}
	switch {
	case ev.Away != nil:
		if n.away.IsZero() {
			n.away = now.Add(-time.Duration(*ev.Away * float64(time.Second)))
		}
		n.back = time.Time{}
	case !n.away.IsZero() && n.back.IsZero():
		n.back = now
	}
	if gone, up := ev.EtcdEnded(), ev.EtcdAnswers(); gone && !n.ended || up && !n.answers {
		n.ended, n.answers = n.ended || gone, n.answers || up
		defer r.look()
	}
	if ev.Type == steps.TypeAsk || ev.Type == steps.TypeAnswer {
		return // told when it is asked here
	}
	r.tell(restore.NodeEvent{Node: n.name, Event: ev})
}

// came notes that a node waits at the end of a phase.
func (r *runner) came(n *runNode, p steps.Phase) {
	i := index(p)
	if i < 0 {
		return
	}
	n.reached, n.waits, n.at = max(n.reached, i+1), true, p
	r.look()
}

// look opens the phases that every node has come to, and tells those who wait
// for whom they do.
func (r *runner) look() {
	if r.stopping {
		return
	}
	for i, p := range steps.Phases {
		if r.opened[p] {
			continue
		}
		var late []string
		in := 0
		for _, n := range r.nodes {
			if n.out {
				continue
			}
			in++
			if n.reached <= i {
				late = append(late, n.name)
			}
		}
		if len(late) > 0 {
			break
		}
		r.opened[p] = true
		r.notForever(p)
		r.tell(restore.NodeEvent{Event: steps.Event{Type: restore.TypePhase, State: steps.Done, Message: fmt.Sprintf("%s: %s", allOf(in), phaseWords[p])}, Phase: p})
	}
	for _, n := range r.nodes {
		if !n.waits || n.link == nil {
			continue
		}
		if r.opened[n.at] {
			if !r.turn(n) {
				continue
			}
			n.waits = false
			n.link.say(request{Do: doGo, Phase: n.at})
			continue
		}
		var seen []steps.Sighting
		for _, o := range r.nodes {
			if o != n && !o.out {
				seen = append(seen, steps.Sighting{What: o.name, Is: o.where(), OK: o.reached > index(n.at)})
			}
		}
		n.link.say(request{Do: doSeen, Seen: seen})
	}
}

// turn says whether it is a node's turn to go on from a phase that all have
// come to.
//
// An etcd that leads hands over before it ends, and waits for up to 7 s when
// whom it hands over to is ending too: the leader ends last, when nobody is
// left to hand over to (TryTransferLeadershipOnShutdown, etcdserver).
//
// An etcd that starts asks each of its peers for a hash of their data, as
// kubeadm has it do, and waits for up to 7 s for each that has begun to listen
// and doesn't serve yet: they start one after the other, as soon as the one
// before serves (InitialCheck, etcdserver/corrupt.go).
func (r *runner) turn(n *runNode) bool {
	if r.late[n.at] {
		return true
	}
	for _, o := range r.nodes {
		if o == n || o.out || o.asked || !o.run {
			continue
		}
		switch n.at {
		case steps.PhaseAPIGone:
			if n.leads() && !o.ended && o.reached <= index(steps.PhaseEtcdOut) {
				return false
			}
		case steps.PhasePlaced:
			if o.placed && !o.answers && o.reached <= index(steps.PhaseEtcdReady) {
				return false
			}
		}
	}
	n.placed = n.placed || n.at == steps.PhasePlaced
	return true
}

func (n *runNode) leads() bool { return n.facts != nil && n.facts.Live != nil && n.facts.Live.Leads }

// notForever ends the taking of turns when it takes longer than it saves.
func (r *runner) notForever(p steps.Phase) {
	limit := r.pace.Turn
	if p == steps.PhasePlaced {
		limit *= time.Duration(len(r.nodes))
	}
	time.AfterFunc(limit, defect.Do(func() { r.later(func() { r.late[p] = true; r.look() }) }))
}

func allOf(n int) string {
	if n == 1 {
		return "the node"
	}
	return fmt.Sprintf("all %d nodes", n)
}

func (n *runNode) where() string {
	switch {
	case n.lost != nil || n.trying:
		return "can't be reached"
	case n.reached == 0:
		return "at work"
	case n.waits:
		return "waits at " + n.at.Name()
	}
	return "past " + steps.Phases[n.reached-1].Name()
}

// ended is the end of what ran on a node.
func (r *runner) ended(n *runNode, res *steps.Result, err error) {
	n.run, n.asked, n.waits = false, false, false
	defer r.look()
	r.troubles = slices.DeleteFunc(r.troubles, func(t *trouble) bool { return t.node == n && !t.Away })
	var gone *errGone
	switch {
	case errors.As(err, &gone):
		r.dropped(n, gone)
		return
	case err != nil:
		n.err = err
		p := toProblem(err)
		if p.Code == codeLocked && n.do == doRun {
			r.refused = true
		}
		r.broken(n, steps.Failure{Title: "Begin", Cause: p.Cause, Hint: p.Hint})
		return
	}
	n.res = res
	if res.OK {
		if n.do != doUndo {
			n.reached = len(steps.Phases)
		}
		return
	}
	if res.Error != nil {
		r.broken(n, *res.Error)
	}
}

// broken is a node whose run ended with a failure, or could not begin. What
// could be asked about it was asked before.
func (r *runner) broken(n *runNode, f steps.Failure) {
	if !r.stopping && !n.out && n.do != doUndo {
		f.Choices = nil
		r.trouble(n, restore.Trouble{Node: n.name, Failure: f})
	}
}

func blame(node string, f steps.Failure) *steps.Failure {
	f.Cause = node + ": " + f.Cause
	f.Choices = nil
	return &f
}

// dropped is a node whose connection has ended while something ran there. Its
// agent stops at its next wait; a new one goes on.
func (r *runner) dropped(n *runNode, gone *errGone) {
	if n.out || r.stopping {
		n.lost = gone // its agent stops by itself
		return
	}
	next := doResume
	if n.do == doUndo {
		next = doUndo
	}
	r.tell(restore.NodeEvent{Node: n.name, Event: steps.Event{Type: restore.TypeLink, State: steps.Waiting, Message: gone.Error() + "; trying to reach it again"}})
	r.again(n, next, r.pace.Reconnect)
}

// again connects to a node anew and goes on there.
func (r *runner) again(n *runNode, do string, limit time.Duration) {
	n.trying, n.do = true, do
	ctx, cancel := context.WithTimeout(r.life, limit)
	note := r.note(n)
	r.spawn(func() func() {
		defer cancel()
		l, err := r.reconnect(ctx, n.crewman, note)
		return func() {
			n.trying = false
			if err != nil {
				r.unreachable(n, err)
				return
			}
			n.link, n.lost = l, nil
			if r.stopping {
				n.lost = errors.New("its run was interrupted, and it was not resumed")
				return
			}
			r.tell(restore.NodeEvent{Node: n.name, Event: steps.Event{Type: restore.TypeLink, State: steps.Done, Message: "reached again"}})
			r.start(n, do, RunOf{r.c.rec.Run})
		}
	})
}

// reconnect tries until ctx is over. The agent before may hold the node's lock
// for a moment: it is waited for.
func (r *runner) reconnect(ctx context.Context, n *crewman, note func(message)) (*link, error) {
	pause := r.pace.Pause
	for {
		l, err := r.c.connect(ctx, n, note)
		for err == nil {
			if _, err = call[struct{}](ctx, l, doFree, struct{}{}); err == nil {
				return l, nil
			}
			var p *Problem
			if !errors.As(err, &p) || p.Code != codeLocked || !sleep(ctx, r.pace.Pause) {
				l.bye()
				break
			}
			err = nil
		}
		if !sleep(ctx, pause) {
			return nil, err
		}
		pause = min(2*pause, 8*time.Second)
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (r *runner) unreachable(n *runNode, err error) {
	if r.stopping {
		err = errors.New("its connection had ended when the run was stopped; last seen " + n.seen())
	}
	n.lost = err
	r.tell(restore.NodeEvent{Node: n.name, Event: steps.Event{Type: restore.TypeLink, State: steps.Failed, Message: err.Error()}})
	if n.do == doUndo || n.out || r.stopping {
		return
	}
	r.trouble(n, restore.Trouble{Node: n.name, Away: true, Failure: steps.Failure{
		Title: "Reach " + n.name, Cause: "it can't be reached any more: " + err.Error(),
		Hint: "its run stops at its next wait; its journal is there",
	}})
	r.look()
}

// trouble decides what can be decided, and asks for the rest.
func (r *runner) trouble(n *runNode, t restore.Trouble) {
	switch {
	case r.stopping:
		r.reply(n, steps.Leave)
	case n.do != doUndo && !r.opened[steps.PhaseStaged]:
		// Nothing is touched on any node, and stays so.
		r.fail = blame(n.name, t.Failure)
		r.reply(n, steps.Leave)
		r.stop()
	default:
		r.troubles = append(r.troubles, &trouble{n, t})
		r.nextQuestion()
	}
}

// reply answers a node's engine, when it waits for that.
func (r *runner) reply(n *runNode, c steps.Choice) {
	if n.asked && n.link != nil {
		n.asked = false
		n.link.say(request{Do: doAnswer, Choice: c})
	}
}

func (r *runner) nextQuestion() {
	if r.asking || len(r.troubles) == 0 {
		return
	}
	t := r.troubles[0]
	r.troubles = r.troubles[1:]
	t.Failure.Choices = r.choices(t)
	f := t.Failure
	r.tell(restore.NodeEvent{Node: t.node.name, Event: steps.Event{Type: steps.TypeAsk, State: steps.Failed, Step: f.Step, Action: f.Action, Failure: &f}})
	// The person is waited for, but not when the run is to stop.
	r.asking = true
	r.asks++
	turn := r.asks
	go defect.Do(func() {
		c := r.ask(t.Trouble)
		r.later(func() {
			if r.asks != turn || !r.asking {
				return // nobody waits for it any more
			}
			r.asking = false
			if !slices.Contains(t.Failure.Choices, c) {
				c = steps.Leave
			}
			r.tell(restore.NodeEvent{Node: t.node.name, Event: steps.Event{Type: steps.TypeAnswer, Message: string(c)}})
			r.decided(t, c)
			r.nextQuestion()
		})
	})()
}

// choices that make sense, the recommended one first.
func (r *runner) choices(t *trouble) []steps.Choice {
	n := t.node
	if n.do == doUndo {
		return t.Failure.Choices // each node goes back by itself
	}
	var out []steps.Choice
	add := func(c steps.Choice, ok bool) {
		if ok && !slices.Contains(out, c) {
			out = append(out, c)
		}
	}
	own := t.Failure.Choices
	restored := r.restoredWithout(n)
	if t.Away {
		add(restore.ContinueWithout, restored && r.without(n))
		add(steps.PutBack, !restored && r.canUndo())
		add(steps.Leave, restored || !r.canUndo())
		add(steps.Retry, true)
	} else {
		add(steps.LetGo, slices.Contains(own, steps.LetGo))
		leave := len(own) > 0 && own[0] == steps.Leave
		slow := len(own) > 0 && own[0] == steps.WaitOn // nothing has failed
		add(steps.WaitOn, slow)
		add(restore.ContinueWithout, leave && r.without(n))
		add(steps.Leave, slow)
		add(steps.PutBack, !leave && !slow)
		add(steps.WaitOn, slices.Contains(own, steps.WaitOn))
		add(steps.Retry, slices.Contains(own, steps.Retry))
	}
	add(restore.ContinueWithout, r.without(n))
	add(steps.PutBack, true)
	add(steps.Leave, true)
	return out
}

// without says whether the others may go on without a node: they have a quorum
// of the restored cluster, and neither the node's API server nor its old etcd
// can be running.
func (r *runner) without(n *runNode) bool {
	left := 0
	for _, o := range r.nodes {
		if o != n && !o.out && o.lost == nil {
			left++
		}
	}
	return n.reached > index(steps.PhaseEtcdOut) && left >= quorum(len(r.c.rec.Members))
}

// restoredWithout says whether all others have their API back: then going back
// is a decision to take with open eyes and not the default.
func (r *runner) restoredWithout(n *runNode) bool {
	for _, o := range r.nodes {
		if o != n && !o.out && o.reached <= index(steps.PhaseAPIReady) {
			return false
		}
	}
	return len(r.nodes) > 1
}

// canUndo says whether those that can be reached make the old cluster again:
// with less than its quorum they would only be between two clusters.
func (r *runner) canUndo() bool {
	here := 0
	for _, o := range r.nodes {
		if o.lost == nil {
			here++
		}
	}
	return here == len(r.nodes) || here >= quorum(max(r.c.rec.Before, len(r.nodes)))
}

func (r *runner) decided(t *trouble, c steps.Choice) {
	n := t.node
	if n.do == doUndo {
		r.reply(n, c)
		return
	}
	switch c {
	case steps.WaitOn, steps.LetGo, steps.Retry:
		if t.Away {
			n.lost = nil
			r.again(n, doResume, r.pace.Reconnect)
			return
		}
		r.reply(n, c)
	case restore.ContinueWithout:
		n.out = true
		r.fail = blame(n.name, t.Failure)
		r.reply(n, steps.Leave)
		r.tell(restore.NodeEvent{Node: n.name, Event: steps.Event{Type: restore.TypeLeft, State: steps.Stopped, Message: "the others continue without it"}})
		r.look()
	default:
		r.fail = blame(n.name, t.Failure)
		r.undo = c == steps.PutBack
		r.reply(n, steps.Leave)
		r.stop()
	}
}

// stop has every node stop at its next wait.
func (r *runner) stop() {
	if !r.stopping {
		r.stopping, r.stopped = true, time.Now()
	}
	r.kill()
	r.troubles, r.asking = nil, false
	for _, n := range r.nodes {
		if n.run && n.link != nil {
			r.reply(n, steps.Leave)
			n.link.say(request{Do: doStop})
		}
	}
}

// settleAll takes what happens until nothing is under way.
func (r *runner) settleAll(ctx context.Context) {
	stop := ctx.Done()
	tick := time.NewTicker(r.pace.Ping)
	defer tick.Stop()
	for r.open > 0 || r.asking {
		select {
		case f := <-r.in:
			f()
		case <-tick.C:
			r.watch()
		case <-r.c.leave():
			r.leave()
			return
		case <-stop:
			stop = nil
			if r.fail == nil {
				r.fail = &steps.Failure{Title: "Run", Cause: "you stopped the run"}
			}
			r.stop()
		}
	}
	// What was told before the end and has not been taken yet.
	for {
		select {
		case f := <-r.in:
			f()
		default:
			return
		}
	}
}

// leave ends it at once: what is under way is left to the agents.
func (r *runner) leave() {
	r.stop()
	r.left = true
	for _, n := range r.nodes {
		if !n.run && !n.trying {
			continue
		}
		n.lost = fmt.Errorf("you left before it had stopped; last seen %s", n.seen())
		if n.link != nil {
			n.link.abandon(n.lost)
		}
	}
	if r.fail == nil {
		r.fail = &steps.Failure{Title: "Run", Cause: "you stopped the run"}
	}
}

// conduct leads a restore to its end, and back if that is decided.
func (r *runner) conduct(ctx context.Context) *restore.Result {
	r.settleAll(ctx)
	if r.undo && !r.left {
		r.stopping = false
		r.live()
		r.undoAll(ctx)
	}
	return r.end()
}

// end says how it all ended.
func (r *runner) end() *restore.Result {
	close(r.over)
	r.kill()
	res := r.result()
	res.Left, res.NotBegun = r.left, r.refused && res.PutBack && !r.opened[steps.PhaseStaged]
	state := steps.Done
	if !res.OK {
		state = steps.Failed
	}
	of := &steps.Result{OK: res.OK, OutageSeconds: res.OutageSeconds, PutBack: res.PutBack, Error: res.Error}
	if !res.PutBack {
		of.Undo = r.c.command("undo --fleet")
	}
	r.tell(restore.NodeEvent{Event: steps.Event{Type: steps.TypeResult, State: state, Result: of}, Nodes: res.Nodes})
	return res
}

// undoAll puts back every node, all at the same time: a quorum of the old
// members is needed for the first to be ready, and while it forms neither the
// old members nor the new ones can have one that the other has too.
func (r *runner) undoAll(ctx context.Context) {
	for _, n := range r.nodes {
		if n.link == nil || n.lost != nil {
			r.again(n, doUndo, max(r.pace.Reconnect/4, r.pace.Pause))
			continue
		}
		r.start(n, doUndo, RunOf{r.c.rec.Run})
	}
	r.settleAll(ctx)
}

// result says where each node stands.
func (r *runner) result() *restore.Result {
	res := &restore.Result{Run: r.c.rec.Run, OK: true, PutBack: true, Error: r.fail}
	goal := restore.Restored
	if r.back {
		goal = restore.Reverted
	}
	var first, last time.Time
	for _, n := range r.nodes {
		if !n.away.IsZero() && (first.IsZero() || n.away.Before(first)) {
			first = n.away
		}
		if back := n.back; n.away.IsZero() {
			// not touched
		} else if back.IsZero() {
			last = r.c.now()
		} else if back.After(last) {
			last = back
		}
		nr := r.of(n)
		res.OK = res.OK && nr.State == goal
		res.PutBack = res.PutBack && (nr.State == restore.Reverted || nr.State == restore.Untouched)
		res.Nodes = append(res.Nodes, nr)
	}
	if !first.IsZero() {
		res.OutageSeconds = last.Sub(first).Seconds()
	}
	if !res.OK && res.Error == nil {
		for _, nr := range res.Nodes {
			if nr.Cause != "" && res.Error == nil {
				res.Error = &steps.Failure{Title: "Run", Cause: nr.Node + ": " + nr.Cause}
			}
		}
	}
	r.advise(res)
	return res
}

// of is how one node ended.
func (r *runner) of(n *runNode) restore.NodeResult {
	nr := restore.NodeResult{Node: n.name, Result: n.res}
	if n.reached > 0 {
		nr.Phase = steps.Phases[min(n.reached, len(steps.Phases))-1]
	}
	switch {
	case n.lost != nil && !r.opened[steps.PhaseStaged] && n.do != doUndo:
		nr.State, nr.Cause = restore.Untouched, n.lost.Error() // it can't have gone on without the word
	case n.lost != nil || n.link == nil:
		nr.State = restore.Unreachable
		if n.lost != nil {
			nr.Cause = n.lost.Error()
		}
	case n.err != nil && n.res == nil && !r.opened[steps.PhaseStaged] && n.do != doUndo:
		nr.State, nr.Cause = restore.Untouched, n.err.Error()
	case n.res == nil:
		nr.State = restore.HalfWay
		if n.err != nil {
			nr.Cause = n.err.Error()
		}
	case n.res.OK && n.do != doUndo:
		nr.State = restore.Restored
	case n.res.PutBack && n.do == doUndo:
		nr.State = restore.Reverted
	case n.res.PutBack:
		nr.State = restore.Untouched
	default:
		nr.State = restore.HalfWay
	}
	if nr.Cause == "" && n.res != nil && n.res.Error != nil && nr.State == restore.HalfWay {
		nr.Cause = n.res.Error.Cause
	}
	return nr
}

// advise says which command brings each node to where the others are.
func (r *runner) advise(res *restore.Result) {
	back, on := 0, 0
	for _, nr := range res.Nodes {
		switch nr.State {
		case restore.Reverted, restore.Untouched:
			back++
		case restore.Restored:
			on++
		}
	}
	for i := range res.Nodes {
		nr := &res.Nodes[i]
		if nr.State != restore.HalfWay && nr.State != restore.Unreachable {
			continue
		}
		switch {
		case on > 0 && back == 0:
			nr.Do = []string{r.c.command("resume")}
		case back > 0:
			nr.Do = []string{r.c.command("undo")}
		default:
			nr.Do = []string{r.c.command("resume --fleet"), r.c.command("undo --fleet")}
		}
	}
}
