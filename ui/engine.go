package ui

import (
	"context"
	"fmt"
	"io"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"etcd-rewind/defect"
	"etcd-rewind/restore"
	"etcd-rewind/steps"
	"etcd-rewind/ui/text"
)

// engine keeps a run apart from the screen that shows it: the run has its own
// goroutine and its own context, and goes on when the terminal is gone.
type engine struct {
	backend Backend
	box     *mailbox
	ctx     context.Context // values only; a run ends by stop

	mu      sync.Mutex
	cancel  context.CancelFunc // of the run under way
	asked   chan steps.Choice  // set while a failure waits for its answer
	first   *steps.Result      // of the first run
	kind    string             // of the first run
	last    *steps.Result
	plan    *steps.Plan     // of the last run
	all     *restore.Result // the last, of several nodes
	instead *Printer        // shows the rest when the screen is gone
	names   []string        // of several nodes

	running sync.WaitGroup
	gone    chan struct{} // closed when nobody is there to answer
	once    sync.Once
}

type (
	askMsg struct {
		steps.Failure
		node string // of several
		away bool   // it can't be reached
	}
	finishedMsg struct {
		steps.Result
		all *restore.Result // of several nodes
	}
)

func newEngine(ctx context.Context, b Backend, box *mailbox) *engine {
	return &engine{backend: b, box: box, ctx: context.WithoutCancel(ctx), gone: make(chan struct{})}
}

// start begins a run. It does nothing when one is under way, or when the
// terminal went away before it could begin.
func (e *engine) start(p *steps.Plan) {
	e.begin(p, nil, func(ctx context.Context) (*steps.Result, *restore.Result, error) {
		res, err := e.backend.Run(ctx, p, func(ev steps.Event) { e.show(restore.NodeEvent{Event: ev}) }, e.ask)
		return res, nil, err
	})
}

// startAll begins a run on several nodes; p is this node's part of it.
func (e *engine) startAll(p *steps.Plan, r *leadRun) {
	e.begin(p, r.names, func(ctx context.Context) (*steps.Result, *restore.Result, error) {
		all, err := r.run(ctx, e.show, e.askAll)
		if err != nil {
			return nil, nil, err
		}
		if all.ExitCode() == 4 && all.Error != nil {
			return steps.NotBegun(all.Error.Cause, all.Error.Hint), all, nil
		}
		res := &steps.Result{OK: all.OK, OutageSeconds: all.OutageSeconds, PutBack: all.PutBack, Error: all.Error, DownSince: downSince(all)}
		if !all.PutBack {
			res.Undo = p.Command("undo --fleet")
		}
		return res, all, nil
	})
}

// downSince is since when the API is down on any of several nodes, nil when it
// isn't.
func downSince(all *restore.Result) *time.Time {
	var first *time.Time
	for _, n := range all.Nodes {
		if n.Result != nil && n.Result.DownSince != nil && (first == nil || n.Result.DownSince.Before(*first)) {
			first = n.Result.DownSince
		}
	}
	return first
}

func (e *engine) begin(p *steps.Plan, names []string, run func(context.Context) (*steps.Result, *restore.Result, error)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.cancel != nil || e.isGone() {
		return
	}
	ctx, cancel := context.WithCancel(e.ctx)
	e.cancel, e.plan, e.names = cancel, p, names
	if p.Kind == steps.KindRestore {
		e.first = nil // what was before it is settled
	}
	e.running.Add(1)
	go defect.Do(func() {
		defer e.running.Done()
		defer cancel()
		r, all := e.run(ctx, p, run)
		e.mu.Lock()
		e.cancel, e.last, e.all = nil, &r, all
		if e.first == nil {
			e.first, e.kind = &r, p.Kind
		}
		e.mu.Unlock()
		e.box.put(finishedMsg{r, all})
	})()
}

// run turns a panic into a result, so that the terminal is given back and the
// user reads what to do.
func (e *engine) run(ctx context.Context, p *steps.Plan, run func(context.Context) (*steps.Result, *restore.Result, error)) (r steps.Result, all *restore.Result) {
	defer func() {
		if v := recover(); v != nil {
			verb := "undo"
			if e.names != nil {
				verb = "undo --fleet"
			}
			r = steps.Result{Undo: p.Command(verb), Error: &steps.Failure{
				Cause: fmt.Sprintf("a defect in etcd-rewind ended the run: %v", v),
				Hint:  "the journal says what was done; the undo command reverts the node",
				Log:   strings.Split(strings.TrimSpace(string(debug.Stack())), "\n"),
			}}
		}
	}()
	res, all, err := run(ctx)
	if err != nil {
		// The run didn't begin.
		cause, advice := text.Explain(err)
		return *steps.NotBegun(cause, advice), nil
	}
	return *res, all
}

func (e *engine) show(ev restore.NodeEvent) {
	e.mu.Lock()
	instead := e.instead
	e.mu.Unlock()
	if instead != nil {
		instead.Event(ev)
		return
	}
	e.box.put(eventMsg{ev})
}

// ask waits for the user's answer to a failure. With nobody there it answers
// as steps.Unattended does.
func (e *engine) ask(f steps.Failure) steps.Choice { return e.question(askMsg{Failure: f}) }

// askAll is ask for a node of several.
func (e *engine) askAll(t restore.Trouble) steps.Choice {
	return e.question(askMsg{t.Failure, t.Node, t.Away})
}

func (e *engine) question(q askMsg) steps.Choice {
	answer := make(chan steps.Choice, 1)
	e.mu.Lock()
	e.asked = answer
	e.mu.Unlock()
	e.box.put(q)
	select {
	case c := <-answer:
		return c
	case <-e.gone:
		return steps.Unattended(q.Failure)
	}
}

func (e *engine) answer(c steps.Choice) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.asked != nil {
		e.asked <- c
		e.asked = nil
	}
}

// stop ends the run before its next action.
func (e *engine) stop() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.cancel != nil {
		e.cancel()
	}
}

// leave says that the screen is gone: what the engine tells from here on goes
// to w as lines of text.
func (e *engine) leave(w io.Writer) {
	e.mu.Lock()
	if e.instead == nil {
		e.instead = NewPlain(w, PlainOptions{Nodes: e.names})
	}
	e.mu.Unlock()
	e.once.Do(func() { close(e.gone) })
}

func (e *engine) isGone() bool {
	select {
	case <-e.gone:
		return true
	default:
		return false
	}
}

// leftAlone is the result of a run that this process ends in the middle of.
func (e *engine) leftAlone() *steps.Result {
	e.mu.Lock()
	defer e.mu.Unlock()
	p := e.plan
	fleet := ""
	if e.names != nil {
		fleet = " --fleet"
	}
	resume, undo := p.Command("resume"+fleet), p.Command("undo"+fleet)
	ways := resume + " continues, " + undo + " reverts it"
	if p.Kind == steps.KindUndo {
		ways = undo + " continues"
	}
	return &steps.Result{Undo: undo, Error: &steps.Failure{Cause: "left in the middle of run " + p.Run, Hint: ways}}
}

// wait returns what came of it all, nil when nothing ran. A restore that
// failed and was then put back by an undo counts as put back.
func (e *engine) wait() (*steps.Result, *steps.Plan) {
	e.running.Wait()
	e.mu.Lock()
	instead := e.instead
	e.mu.Unlock()
	if instead != nil {
		_ = instead.Close()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.first != nil && e.last != e.first && !e.first.OK && e.last.OK && e.kind == steps.KindRestore && e.plan.Kind == steps.KindUndo {
		r := *e.last
		r.OK, r.PutBack, r.Error = false, true, e.first.Error
		return &r, e.plan
	}
	return e.last, e.plan
}
