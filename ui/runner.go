package ui

import (
	"context"
	"fmt"
	"io"
	"runtime/debug"
	"strings"
	"sync"

	"etcd-rewind/defect"
	"etcd-rewind/restore"
	"etcd-rewind/steps"
	"etcd-rewind/ui/print"
	"etcd-rewind/ui/text"
)

// runner keeps a run apart from the screen that shows it: the run has its own
// goroutine and its own context, and continues when the terminal is gone.
type runner struct {
	box *mailbox
	ctx context.Context // values only; a run ends by stop

	mu      sync.Mutex
	cancel  context.CancelFunc // of the run under way
	asked   chan steps.Choice  // set while a failure waits for its answer
	first   *restore.Result    // of the first run
	kind    string             // of the first run
	last    *restore.Result
	plan    *steps.Plan    // of the last run
	names   []string       // of its nodes, where there are several
	instead *print.Printer // shows the rest when the screen is gone

	running sync.WaitGroup
	gone    chan struct{} // closed when nobody is there to answer
	once    sync.Once
}

type (
	askMsg      struct{ restore.Trouble }
	finishedMsg struct{ *restore.Result }
)

func newRunner(ctx context.Context, box *mailbox) *runner {
	return &runner{box: box, ctx: context.WithoutCancel(ctx), gone: make(chan struct{})}
}

// start begins a run of what the nodes have planned; p is this node's part of
// it. It does nothing when a run is under way, or when the terminal went away
// before it could begin.
func (e *runner) start(p *steps.Plan, names []string, nodes *session) {
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
		r := e.run(ctx, nodes)
		e.mu.Lock()
		e.cancel, e.last = nil, r
		if e.first == nil {
			e.first, e.kind = r, p.Kind
		}
		e.mu.Unlock()
		e.box.put(finishedMsg{r})
	})()
}

// run turns a panic into a result, so that the terminal is given back and the
// user reads what to do.
func (e *runner) run(ctx context.Context, nodes *session) (r *restore.Result) {
	undo := text.Command(e.plan, "undo", len(e.names) > 0)
	defer func() {
		if v := recover(); v != nil {
			r = &restore.Result{Run: e.plan.Run, Undo: undo, Error: &steps.Failure{
				Cause: fmt.Sprintf("a defect in etcd-rewind ended the run: %v", v),
				Hint:  "the journal records what was done; the undo command reverts the node",
				Log:   strings.Split(strings.TrimSpace(string(debug.Stack())), "\n"),
			}}
		}
	}()
	if err := nodes.do(func(_ context.Context, n restore.Nodes) (err error) {
		r, err = n.Run(ctx, e.show, e.ask)
		return err
	}); err != nil {
		cause, hint := text.Explain(err)
		return &restore.Result{Run: e.plan.Run, Reverted: true, NotBegun: true, Error: &steps.Failure{Cause: cause, Hint: hint}}
	}
	if r.Undo == "" && !r.Reverted {
		r.Undo = undo
	}
	return r
}

func (e *runner) show(ev restore.NodeEvent) {
	e.mu.Lock()
	instead := e.instead
	e.mu.Unlock()
	if instead != nil {
		instead.Event(ev)
		return
	}
	e.box.put(ev)
}

// ask waits for the user's answer to a trouble. With nobody there it answers as
// restore.Unattended does.
func (e *runner) ask(t restore.Trouble) steps.Choice {
	answer := make(chan steps.Choice, 1)
	e.mu.Lock()
	e.asked = answer
	e.mu.Unlock()
	e.box.put(askMsg{t})
	select {
	case c := <-answer:
		return c
	case <-e.gone:
		return restore.Unattended(t)
	}
}

func (e *runner) answer(c steps.Choice) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.asked != nil {
		e.asked <- c
		e.asked = nil
	}
}

// stop ends the run before its next action.
func (e *runner) stop() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.cancel != nil {
		e.cancel()
	}
}

// leave says that the screen is gone: what the run reports from here on goes to w
// as lines of text.
func (e *runner) leave(w io.Writer) {
	e.mu.Lock()
	if e.instead == nil {
		e.instead = print.NewText(w, print.Options{Nodes: e.names})
	}
	e.mu.Unlock()
	e.once.Do(func() { close(e.gone) })
}

func (e *runner) isGone() bool {
	select {
	case <-e.gone:
		return true
	default:
		return false
	}
}

// left is the result of a run that this process ends in the middle of.
func (e *runner) left() *restore.Result {
	e.mu.Lock()
	defer e.mu.Unlock()
	several := len(e.names) > 0
	return &restore.Result{Run: e.plan.Run, Left: true, Undo: text.Command(e.plan, "undo", several), Error: text.Left(e.plan, several)}
}

// wait returns what came of it all, nil when nothing ran. A restore that
// failed and was then put back by an undo counts as put back.
func (e *runner) wait() *restore.Result {
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
		r.OK, r.Reverted, r.Error = false, true, e.first.Error
		return &r
	}
	return e.last
}
