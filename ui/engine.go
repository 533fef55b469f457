package ui

import (
	"context"
	"fmt"
	"io"
	"runtime/debug"
	"strings"
	"sync"

	"etcd-rewind/steps"
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
	plan    *steps.Plan // of the last run
	instead func(steps.Event)

	running sync.WaitGroup
	gone    chan struct{} // closed when nobody is there to answer
	once    sync.Once
}

type (
	askMsg      struct{ steps.Failure }
	finishedMsg struct{ steps.Result }
)

func newEngine(ctx context.Context, b Backend, box *mailbox) *engine {
	return &engine{backend: b, box: box, ctx: context.WithoutCancel(ctx), gone: make(chan struct{})}
}

// start begins a run. It does nothing when one is under way, or when the
// terminal went away before it could begin.
func (e *engine) start(p *steps.Plan) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.cancel != nil || e.isGone() {
		return
	}
	ctx, cancel := context.WithCancel(e.ctx)
	e.cancel, e.plan = cancel, p
	e.running.Add(1)
	go func() {
		defer e.running.Done()
		defer cancel()
		r := e.run(ctx, p)
		e.mu.Lock()
		e.cancel, e.last = nil, &r
		if e.first == nil {
			e.first, e.kind = &r, p.Kind
		}
		e.mu.Unlock()
		e.box.put(finishedMsg{r})
	}()
}

// run turns a panic into a result, so that the terminal is given back and the
// user reads what to do.
func (e *engine) run(ctx context.Context, p *steps.Plan) (r steps.Result) {
	defer func() {
		if v := recover(); v != nil {
			r = steps.Result{Undo: "etcd-rewind undo " + p.Run, Error: &steps.Failure{
				Cause: fmt.Sprintf("a defect in etcd-rewind ended the run: %v", v),
				Hint:  "the journal knows what was done; put the node back with the undo command",
				Log:   strings.Split(strings.TrimSpace(string(debug.Stack())), "\n"),
			}}
		}
	}()
	res, err := e.backend.Run(ctx, p, e.show, e.ask)
	if err != nil {
		// The run didn't begin.
		cause, advice := explain(err)
		return steps.Result{PutBack: true, Error: &steps.Failure{Cause: cause, Hint: advice}}
	}
	return *res
}

func (e *engine) show(ev steps.Event) {
	e.mu.Lock()
	instead := e.instead
	e.mu.Unlock()
	if instead != nil {
		instead(ev)
		return
	}
	e.box.put(eventMsg{ev})
}

// ask waits for the user's answer to a failure. With nobody there it answers
// as Unattended does.
func (e *engine) ask(f steps.Failure) steps.Choice {
	answer := make(chan steps.Choice, 1)
	e.mu.Lock()
	e.asked = answer
	e.mu.Unlock()
	e.box.put(askMsg{f})
	select {
	case c := <-answer:
		return c
	case <-e.gone:
		return Unattended(f)
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
	e.instead = NewPlain(w, PlainOptions{})
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

// wait returns what came of it all, nil when nothing ran. A restore that
// failed and was then put back by an undo counts as put back.
func (e *engine) wait() (*steps.Result, *steps.Plan) {
	e.running.Wait()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.first != nil && e.last != e.first && !e.first.OK && e.last.OK && e.kind == steps.KindRestore && e.plan.Kind == steps.KindUndo {
		r := *e.last
		r.OK, r.PutBack, r.Error = false, true, e.first.Error
		return &r, e.plan
	}
	return e.last, e.plan
}

// Unattended is the steps.Asker for a run that nobody watches: it does what the
// engine recommends.
func Unattended(f steps.Failure) steps.Choice {
	if len(f.Choices) == 0 {
		return steps.Leave
	}
	return f.Choices[0]
}
