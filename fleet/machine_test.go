package fleet

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"etcd-rewind/manifest"
	"etcd-rewind/problem"
	"etcd-rewind/restore"
	"etcd-rewind/steps"
)

// play is a run of several nodes in which nothing takes time: a machine, its
// nodes, and all that lies between them. What happens next is drawn.
type play struct {
	t      *testing.T
	rnd    *rand.Rand
	w      *fakeWorld
	actors []*actor
	rec    restore.Record

	m     *machine
	now   time.Time
	calm  bool // nothing goes wrong any more
	evil  int  // things that may still go wrong
	open  []func()
	log   []string
	moves int
}

// actor is a node and its agent. What is in fakeNode outlives the agent.
type actor struct {
	*fakeNode
	p  *play
	at int // in the machine

	try      int
	cut      bool      // the connection is gone, whether or not anybody has noticed
	inbox    []request // words on their way
	outbox   []input   // news on their way
	stale    []input   // of connections before
	runs     bool
	verb     restore.Verb
	wedged   bool // says nothing any more
	halt     bool
	gates    map[steps.Phase]bool
	phase    int
	waits    bool // at the barrier of phase
	asking   bool
	answer   steps.Choice
	excluded bool
	waited   int // for a quorum
}

func newPlay(t *testing.T, seed uint64, names ...string) *play {
	p := &play{t: t, rnd: rand.New(rand.NewPCG(seed, 0)), w: newFakeWorld(t, names...), now: time.Date(2026, 11, 21, 3, 0, 0, 0, time.UTC), evil: 12}
	p.rec = restore.Record{Run: theRun, Me: names[0], Before: len(names)}
	for i, n := range p.w.nodes {
		p.rec.Members = append(p.rec.Members, manifest.Member{Name: n.name})
		p.actors = append(p.actors, &actor{fakeNode: n, p: p, at: i})
	}
	return p
}

func (p *play) note(format string, args ...any) {
	p.log = append(p.log, fmt.Sprintf(format, args...))
}

func (p *play) wrong(format string, args ...any) {
	p.w.wrong = append(p.w.wrong, fmt.Sprintf(format, args...))
}

// goesWrong draws whether something that may go wrong does.
func (p *play) goesWrong(oneIn int) bool {
	if p.calm || p.evil == 0 || p.rnd.IntN(oneIn) > 0 {
		return false
	}
	p.evil--
	return true
}

// conductor begins to do something with the run, as a process that has just
// been started; the error is that of its plan.
func (p *play) conductor(v restore.Verb, away ...string) error {
	c := &Conductor{rec: p.rec, verb: v, Pace: RealPace, states: map[string]steps.RunState{}}
	for _, a := range p.actors {
		n := &fleetNode{name: a.name, facts: &restore.NodeFacts{Live: &restore.LiveEtcd{Leader: a.at == 1}}}
		c.states[a.name] = a.stands()
		if slices.Contains(away, a.name) {
			c.states[a.name] = restore.RunUnreachable
		} else {
			n.link = &link{}
		}
		c.nodes = append(c.nodes, n)
		a.try, a.cut, a.inbox, a.outbox, a.stale, a.excluded, a.wedged = 0, false, nil, nil, nil, false, false
	}
	if v != "" {
		if err := c.applies(v); err != nil {
			return err
		}
		for _, a := range p.actors { // PlanAgain asks all of them
			if err := a.refuses(v); err != nil && !slices.Contains(away, a.name) {
				return err
			}
		}
	}
	p.m, p.open = c.machine(), nil
	p.w.undo = p.w.undo || v == restore.Redo
	p.step(begun{})
	return nil
}

// step gives the machine an input, and does what it says.
func (p *play) step(in input) {
	p.note("%s %T %+v", p.now.Format("15:04:05.000"), in, in)
	for _, o := range p.m.step(p.now, in) {
		if s, ok := o.(say); !ok || s.Do != doSeen {
			p.note("  → %T %+v", o, o)
		}
		switch o := o.(type) {
		case startRun:
			p.actors[o.node].start(o)
		case reach:
			p.reach(o)
		case say:
			p.actors[o.node].inbox = append(p.actors[o.node].inbox, o.request)
		case abandon:
			p.actors[o.node].drop()
		case tell:
			if o.Type == restore.TypeLeft {
				a := p.actors[slices.Index(p.w.names(), o.Node)]
				if a.excluded = true; a.api == "old" || a.etcd == "old" {
					p.wrong("%s is left behind with %s/%s", a.name, a.api, a.etcd)
				}
			}
		case askUser:
			p.open = append(p.open, func() {
				c := steps.Choice("nonsense")
				if n := len(o.Failure.Choices); n > 0 && !p.goesWrong(5) {
					c = o.Failure.Choices[0]
					if !p.calm {
						c = o.Failure.Choices[p.rnd.IntN(n)]
					}
					if c == steps.WaitOn {
						c = steps.Retry
					}
				}
				p.step(answered{o.question, c})
			})
		}
	}
}

func (w *fakeWorld) names() []string {
	var names []string
	for _, n := range w.nodes {
		names = append(names, n.name)
	}
	return names
}

// reach ends some time: well when the agent before has ended, and nothing is in
// the way.
func (p *play) reach(o reach) {
	a, begun := p.actors[o.node], p.now
	p.open = append(p.open, func() {
		a.ends()
		if p.goesWrong(2) {
			p.now = begun.Add(max(o.within, p.now.Sub(begun)))
			p.step(linked{o.node, o.try, errors.New("no route to host")})
			return
		}
		p.step(linked{o.node, o.try, nil})
	})
}

func (a *actor) start(o startRun) {
	if a.runs {
		a.p.wrong("%s is to begin while it runs", a.name)
	}
	a.stale = append(a.stale, a.outbox...)
	a.inbox, a.outbox, a.try, a.cut = nil, nil, o.try, false
	a.wedged = a.wedged && a.p.rnd.IntN(2) == 0
	a.begin(o.verb)
}

func kindOf(v restore.Verb) string {
	switch v {
	case restore.Undo:
		return steps.KindUndo
	case restore.Redo:
		return steps.KindRedo
	}
	return steps.KindRestore
}

// refuses is the agent's own word on a verb.
func (a *actor) refuses(v restore.Verb) error {
	if v == "" || v == restore.Undo || a.state == steps.RunRestored {
		return nil
	}
	if a.state == "" {
		return problem.New("", "the node has no run")
	}
	_, err := (&agent{node: a.fakeNode}).planAgain(a.p.t.Context(), v, theRun)
	return err
}

// begin is what an agent does with a request that runs something.
func (a *actor) begin(v restore.Verb) {
	a.verb, a.halt, a.asking, a.answer, a.waits, a.gates = v, false, false, "", false, map[steps.Phase]bool{}
	switch {
	case v == restore.Undo && slices.Contains([]steps.RunState{"", steps.RunUndone, steps.RunUntouched}, a.stands()), v != restore.Undo && a.state == steps.RunRestored:
		a.send(ended{a.at, a.try, &steps.Result{OK: true, Reverted: v == restore.Undo}, nil})
		return
	case a.refuses(v) != nil:
		a.send(ended{a.at, a.try, nil, a.refuses(v)})
		return
	case v == "" && a.p.goesWrong(40):
		a.send(ended{a.at, a.try, nil, &problem.Problem{Cause: "another run is under way", Code: codeLocked}})
		return
	}
	a.runs = true
	a.change(func() {
		a.state = steps.RunUnfinished
		a.last = kindOf(v)
		a.w.undo = a.w.undo || v == restore.Undo
		if v == restore.Redo { // everything is as it was before
			a.done, a.past = 0, 0
		}
	})
	for a.phase = 0; a.phase < a.past; a.phase++ {
		a.says(message{Barrier: steps.Phases[a.phase], Past: true})
	}
}

func (a *actor) send(in input) {
	if !a.wedged && !a.cut {
		a.outbox = append(a.outbox, in)
	}
}

func (a *actor) says(m message) { a.send(news{a.at, a.try, m}) }

func (a *actor) end(ok bool, cause string) {
	a.runs = false
	res := &steps.Result{OK: ok}
	if !ok {
		res.Error = &steps.Failure{Cause: cause}
	}
	a.change(func() {
		switch {
		case ok && a.verb == restore.Undo:
			res.Reverted, a.state, a.done, a.past = true, steps.RunUndone, 0, 0
		case ok:
			a.state = steps.RunRestored
		default:
			a.state = steps.RunFailed
			if a.verb == "" || a.verb == restore.Resume {
				if res.Reverted = !a.touched(); res.Reverted {
					a.state = steps.RunUntouched
				}
			}
		}
	})
	a.send(ended{a.at, a.try, res, nil})
}

// act is the next thing that a run on the node does; false when it waits.
func (a *actor) act() bool {
	if len(a.inbox) > 0 {
		r := a.inbox[0]
		a.inbox = a.inbox[1:]
		switch r.Do {
		case doGo:
			a.gates[r.Phase] = true
		case doStop:
			a.halt = true
		case doAnswer:
			if a.asking && a.answer == "" {
				a.answer = r.Choice
			}
		}
		return true
	}
	if !a.runs {
		return false
	}
	stops := a.halt || a.cut
	if a.asking {
		if a.answer == "" && !stops {
			return false
		}
		again := a.answer == steps.Retry && !stops
		a.asking, a.answer = false, ""
		if !again {
			a.end(false, "it fails")
		}
		return true
	}
	if stops {
		a.end(false, "you stopped the run")
		return true
	}
	if a.waits {
		p := steps.Phases[a.phase]
		if !a.gates[p] {
			return false
		}
		if a.verb != restore.Redo {
			for _, o := range a.p.actors {
				if !o.excluded && o.done <= a.phase {
					a.p.wrong("%s continues past %s, which %s has not come to", a.name, p, o.name)
				}
			}
		}
		a.change(func() { a.waits, a.past = false, a.phase+1 })
		a.phase++
		return true
	}
	if a.verb != restore.Undo && a.phase == len(steps.Phases) {
		a.end(true, "")
		return true
	}
	if a.p.goesWrong(8) {
		choices := []steps.Choice{steps.Revert, steps.Retry, steps.Leave}
		switch {
		case a.verb == restore.Undo:
			choices = []steps.Choice{steps.Retry, steps.Leave}
		case a.phase == len(steps.Phases)-1:
			choices = []steps.Choice{steps.Leave, steps.Retry, steps.Revert}
		case a.p.rnd.IntN(3) == 0:
			choices = []steps.Choice{steps.WaitOn, steps.Leave, steps.Retry, steps.Revert}
		}
		a.asks(choices...)
		return true
	}
	a.work()
	return true
}

func (a *actor) asks(choices ...steps.Choice) {
	a.asking = true
	a.says(message{Ask: &steps.Failure{Cause: "it fails", Choices: choices}})
}

// work is that of a phase, or of an undo.
func (a *actor) work() {
	ev := steps.Event{Type: steps.TypeAction, State: steps.Done, Action: "x.1"}
	if a.verb == restore.Undo {
		switch {
		case a.etcd == "new":
			a.change(func() { a.etcd = "none" })
		case a.etcd == "none":
			a.change(func() { a.etcd = "old" })
		case a.api != "old":
			a.change(func() { a.api = "old" })
		default:
			a.end(true, "")
			return
		}
		a.says(message{Event: &ev})
		return
	}
	p := steps.Phases[a.phase]
	if p == steps.PhaseEtcdReady && a.etcd == "new" && !a.w.ready() {
		if a.waited++; a.waited%40 == 0 {
			a.asks(steps.WaitOn, steps.Leave, steps.Retry, steps.Revert)
			return
		}
		a.says(message{Event: &steps.Event{Type: steps.TypeAction, State: steps.Waiting, Action: "x.1"}})
		a.p.tick() // it waits for a quorum
		return
	}
	a.change(func() {
		switch p {
		case steps.PhaseAPIGone:
			a.api = "none"
		case steps.PhaseEtcdOut:
			a.etcd = "none"
			ev.Etcd = steps.EtcdStopped
		case steps.PhaseEtcdReady:
			a.etcd = "new"
		case steps.PhaseAPIReady:
			a.api = "new"
		}
		if p != steps.PhaseEtcdReady || a.w.quorum() {
			a.done = max(a.done, a.phase+1)
		}
	})
	if p == steps.PhaseEtcdReady {
		ev.Etcd = steps.EtcdServes
	}
	a.says(message{Event: &ev})
	if a.done <= a.phase {
		return
	}
	if a.verb == restore.Redo && p == steps.PhaseStaged {
		a.phase++ // it was staged by the run
		return
	}
	a.waits = true
	a.says(message{Barrier: p})
}

// drop is the end of a connection, with some of the news that were on their way.
func (a *actor) drop() {
	if a.cut {
		return
	}
	a.cut, a.inbox = true, nil
	arrive := a.p.rnd.IntN(len(a.outbox) + 1)
	a.stale = append(a.stale, a.outbox[arrive:]...)
	a.outbox = append(a.outbox[:arrive:arrive], ended{a.at, a.try, nil, &errGone{}})
}

// ends lets an agent whose conductor is gone come to its end.
func (a *actor) ends() {
	for a.runs && a.act() {
		continue
	}
}

// move is one thing that happens.
func (p *play) move() {
	p.moves++
	a := p.actors[p.rnd.IntN(len(p.actors))]
	switch {
	case a.runs && p.goesWrong(60):
		p.note("the connection to %s ends", a.name)
		a.drop()
	case a.runs && p.goesWrong(200):
		p.note("%s says nothing any more", a.name)
		a.wedged = true
	case p.goesWrong(1500):
		p.step(stopped{})
	case p.goesWrong(3000):
		p.step(leaving{})
	case len(a.stale) > 0 && p.rnd.IntN(4) == 0:
		in := a.stale[0]
		a.stale = a.stale[1:]
		p.step(in)
	case len(p.open) > 0 && p.rnd.IntN(6) == 0:
		i := p.rnd.IntN(len(p.open))
		what := p.open[i]
		p.open = slices.Delete(p.open, i, i+1)
		what()
	case len(a.outbox) > 0 && p.rnd.IntN(2) == 0:
		in := a.outbox[0]
		a.outbox = a.outbox[1:]
		p.step(in)
	case a.wedged && !a.cut:
		p.tick()
	case !a.act():
		p.tick()
	}
}

func (p *play) tick() {
	d := time.Duration(p.rnd.IntN(2000)) * time.Millisecond
	if p.goesWrong(100) {
		d = time.Hour // the machine was asleep
	}
	p.now = p.now.Add(d)
	p.step(ticked{})
}

// run continues until the machine ends it, or its process dies.
func (p *play) run(mayDie bool) *restore.Result {
	for p.m.res == nil {
		if mayDie && p.goesWrong(400) {
			p.note("the conductor dies")
			return nil
		}
		if p.move(); p.moves > 20_000 {
			p.wrong("it doesn't end")
			return p.m.result()
		}
	}
	return p.m.res
}

// settled lets the agents end whose conductor has.
func (p *play) settled() {
	for _, a := range p.actors {
		a.drop()
		a.ends()
	}
}

// fits holds a result against the nodes.
func (p *play) fits(res *restore.Result, v restore.Verb) {
	asBefore, goal := true, true
	for i, nr := range res.Nodes {
		a := p.actors[i]
		is := a.api + "/" + a.etcd
		want := map[restore.NodeState]string{restore.Restored: "new/new", restore.Reverted: "old/old", restore.Untouched: "old/old"}[nr.State]
		if want != "" && want != is {
			p.wrong("%s is reported as %s, and is %s", a.name, nr.State, is)
		}
		if nr.State == restore.Unreachable && nr.Cause == "" {
			p.wrong("%s: nothing says why it isn't reached", a.name)
		}
		if (nr.State == restore.HalfWay || nr.State == restore.Unreachable) && len(nr.Do) == 0 {
			p.wrong("%s is %s, and nothing says what to do", a.name, nr.State)
		}
		asBefore = asBefore && is == "old/old"
		if v == restore.Undo {
			goal = goal && nr.State == restore.Reverted
		} else {
			goal = goal && nr.State == restore.Restored
		}
	}
	code := res.ExitCode()
	if (code == 0) != goal || (code == 1 || code == 4) && !asBefore || code != 0 && res.Error == nil {
		p.wrong("exit status %d: %+v", code, res)
	}
}

// follow does on every node what the result says: afterwards all are on one
// side.
func (p *play) follow(res *restore.Result) {
	for i, nr := range res.Nodes {
		if len(nr.Do) == 0 {
			continue
		}
		words := strings.Fields(nr.Do[p.rnd.IntN(len(nr.Do))])
		v := restore.Verb(words[1])
		p.note("%s: %s", nr.Node, strings.Join(words, " "))
		if slices.Contains(words, "--fleet") {
			err := p.conductor(v)
			if err != nil && len(nr.Do) > 1 { // what nobody knew: a node was undone, and wasn't reached
				p.note("%s", err)
				err = p.conductor(restore.Undo)
			}
			if err != nil {
				if !p.even() {
					p.wrong("%s: %s", nr.Do, err)
				}
				return
			}
			if again := p.run(false); again.ExitCode() != 0 {
				p.wrong("%s: %+v", nr.Do, again)
			}
			break // it was for all nodes
		}
		a := p.actors[i]
		if v == restore.Resume && a.last == steps.KindRedo {
			v = restore.Redo // resume continues what was begun last
		}
		a.cut, a.inbox, a.outbox, a.wedged = false, nil, nil, false
		p.w.undo = true // the others are elsewhere already
		if a.begin(v); v == restore.Resume {
			for _, o := range p.actors {
				if a.runs && o != a && o.state != steps.RunRestored && len(res.Nodes[o.at].Do) == 0 {
					p.wrong("%s: it would wait for %s, which is %s", nr.Do, o.name, o.state)
				}
			}
		}
		for a.runs {
			a.gates[steps.Phases[min(a.phase, len(steps.Phases)-1)]] = true
			a.act()
		}
		if n := len(a.outbox); n > 0 {
			if e, ok := a.outbox[n-1].(ended); ok && e.err != nil && !p.even() {
				p.wrong("%s on %s: %s", nr.Do, a.name, e.err)
			}
		}
	}
	if !p.even() {
		p.wrong("after doing what the result says the nodes are %v", p.w.all())
	}
}

func (p *play) even() bool { return len(slices.Compact(p.w.all())) == 1 }

func (p *play) tellWrong(seed uint64) {
	if len(p.w.wrong) > 0 {
		p.t.Errorf("seed %d:\n%s\n%s", seed, strings.Join(p.w.wrong, "\n"), strings.Join(p.log, "\n"))
	}
}

// Whatever happens in whatever order: no restored etcd runs beside an old etcd
// or API server, there are never two quorums, the run ends, it says truly how,
// and doing what it says mends it.
func TestAnyOrderOfEventsEndsWell(t *testing.T) {
	verbs := []restore.Verb{restore.Resume, restore.Undo, restore.Redo}
	ended := map[string]int{}
	for seed := uint64(0); seed < 1500 && !t.Failed(); seed++ {
		names := []string{"cp1", "cp2", "cp3", "cp4", "cp5"}[:1+seed%5]
		p := newPlay(t, seed, names...)
		v := restore.Verb("")
		if err := p.conductor(v); err != nil {
			t.Fatal(err)
		}
		res := p.run(true)
		for range 3 {
			p.settled()
			if res != nil {
				p.fits(res, v)
				ended[fmt.Sprintf("%s %d", v, res.ExitCode())]++
				if p.rnd.IntN(2) == 0 {
					break
				}
			}
			next := verbs[p.rnd.IntN(len(verbs))]
			var away []string
			if p.goesWrong(8) {
				away = []string{p.actors[len(names)-1].name}
			}
			if err := p.conductor(next, away...); err == nil {
				v, res = next, p.run(true)
			} else {
				p.note("%s: %s", next, err)
			}
		}
		p.settled()
		if p.calm = true; res != nil {
			p.follow(res)
		}
		p.tellWrong(seed)
	}
	for _, want := range []string{" 0", " 1", " 3", " 4", "undo 0", "undo 3", "resume 0", "resume 1", "resume 3", "redo 0", "redo 1", "redo 3"} {
		if ended[want] == 0 && !t.Failed() {
			t.Errorf("no run ended %q: %v", want, ended)
		}
	}
}

// The same inputs give the same outputs: nothing in the machine is drawn, and
// nothing depends on when it runs.
func TestAMachineDoesTheSameTwice(t *testing.T) {
	for seed := range uint64(50) {
		var logs [2]string
		for i := range logs {
			p := newPlay(t, seed, "cp1", "cp2", "cp3")
			if err := p.conductor(""); err != nil {
				t.Fatal(err)
			}
			p.run(false)
			for _, l := range p.log { // without addresses
				logs[i] += strings.Split(l, "0x")[0] + "\n"
			}
		}
		if logs[0] != logs[1] {
			t.Fatalf("seed %d:\n%s\nand\n%s", seed, logs[0], logs[1])
		}
	}
}
