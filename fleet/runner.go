package fleet

import (
	"context"
	"sync"
	"time"

	"etcd-rewind/defect"
	"etcd-rewind/problem"
	"etcd-rewind/restore"
	"etcd-rewind/steps"
)

// runner carries between a machine and what it is about: the agents, the
// screen, a person, the clock. It decides nothing.
type runner struct {
	c     *Conductor
	m     *machine
	nodes []*fleetNode
	sink  func(restore.NodeEvent)
	ask   restore.Asker

	in   chan input
	over chan struct{} // closed when no input is taken any more
	work sync.WaitGroup

	tries context.Context // to reach nodes
	stop  context.CancelFunc
}

// conduct runs a machine to its end.
func (c *Conductor) conduct(ctx context.Context, m *machine, sink func(restore.NodeEvent), ask restore.Asker) *restore.Result {
	r := &runner{c: c, m: m, nodes: c.nodes, sink: sink, ask: ask, in: make(chan input, 64), over: make(chan struct{})}
	r.tries, r.stop = context.WithCancel(context.Background())
	tick := time.NewTicker(m.pace.Ping / 4)
	defer tick.Stop()
	r.step(begun{})
	for done := ctx.Done(); m.res == nil; {
		select {
		case in := <-r.in:
			r.step(in)
		case <-tick.C:
			r.step(ticked{})
		case <-c.leave():
			r.step(leaving{})
		case <-done:
			done = nil
			r.step(stopped{})
		}
	}
	close(r.over)
	r.stop()
	if !m.res.Left {
		r.work.Wait()
	}
	m.res.Run = c.rec.Run
	return m.res
}

// step does what the machine makes of an input.
func (r *runner) step(in input) {
	if l, ok := in.(reachedLink); ok {
		if n := r.m.nodes[l.node]; !n.reaching || n.try != l.try {
			r.work.Go(defect.Do(l.link.bye)) // nobody waits for it any more
			return
		}
		r.nodes[l.node].link = l.link
		in = l.linked
	}
	for _, o := range r.m.step(time.Now(), in) {
		switch o := o.(type) {
		case startRun:
			r.start(o)
		case reach:
			r.reach(o)
		case giveUp:
			r.stop()
			r.tries, r.stop = context.WithCancel(context.Background())
		case abandon:
			r.nodes[o.node].link.abandon(o.why)
		case say:
			r.nodes[o.node].link.say(o.request)
		case tell:
			if o.Run == "" {
				o.Run = r.c.rec.Run
			}
			r.sink(o.NodeEvent)
		case askUser:
			go defect.Do(func() { r.put(answered{o.question, r.ask(o.Trouble)}) })() // waited for by nobody once the run is to stop
		}
	}
}

// put hands in an input; false when none is taken any more.
func (r *runner) put(in input) bool {
	select {
	case r.in <- in:
		return true
	case <-r.over:
		return false
	}
}

// note hands in what an agent says.
func (r *runner) note(node, try int) func(message) {
	return func(m message) { r.put(news{node, try, m}) }
}

func (r *runner) start(o startRun) {
	n := r.nodes[o.node]
	do, with := string(o.verb), any(RunOf{r.c.rec.Run})
	if o.verb == "" {
		rec := r.c.rec
		rec.Me = n.name
		do, with = doRun, rec
	}
	l := n.link
	l.setNote(r.note(o.node, o.try))
	reply, err := l.begin(do, with)
	r.work.Go(defect.Do(func() {
		var res *steps.Result
		if err == nil {
			// It is stopped by a word, and then has to end; the machine enforces that.
			res, err = finish[*steps.Result](context.Background(), l, do, reply, 0)
		}
		r.put(ended{o.node, o.try, res, err})
	}))
}

// reachedLink is linked, with the link.
type reachedLink struct {
	linked
	link *link
}

func (r *runner) reach(o reach) {
	n := r.nodes[o.node]
	ctx, cancel := context.WithTimeout(r.tries, o.within)
	r.work.Go(defect.Do(func() {
		defer cancel()
		l, err := r.connect(ctx, n, r.note(o.node, o.try))
		switch {
		case err != nil:
			r.put(linked{o.node, o.try, err})
		case !r.put(reachedLink{linked{o.node, o.try, nil}, l}):
			l.bye()
		}
	}))
}

// connect tries until ctx is over. The agent before may hold the node's lock
// for a moment: it is waited for.
func (r *runner) connect(ctx context.Context, n *fleetNode, note func(message)) (*link, error) {
	pause := r.m.pace.Pause
	for {
		l, err := r.c.connect(ctx, n, note)
		for err == nil {
			if _, err = call[struct{}](ctx, l, doFree, struct{}{}); err == nil {
				return l, nil
			}
			if !problem.HasCode(err, codeLocked) || !sleep(ctx, r.m.pace.Pause) {
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
