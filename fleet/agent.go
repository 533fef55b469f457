package fleet

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"etcd-rewind/defect"
	"etcd-rewind/problem"
	"etcd-rewind/restore"
	"etcd-rewind/settle"
	"etcd-rewind/steps"
)

// Node is what an agent does on its node.
type Node interface {
	// Use says where things are on the nodes; before all else.
	Use(p restore.Paths)
	Facts(ctx context.Context) (*restore.NodeFacts, error)
	// Place is where a snapshot of this hash is put.
	Place(sha256 string) (path string, err error)
	// Check looks at the node and at its copy of the snapshot; busy is called
	// while that is read.
	Check(ctx context.Context, o Order, busy func()) ([]steps.Verdict, error)
	Plan(ctx context.Context, o Order) (*steps.Plan, error)
	// PlanAgain plans what is done with an earlier run.
	PlanAgain(ctx context.Context, v restore.Verb, run string) (*steps.Plan, error)
	Run(ctx context.Context, p *steps.Plan, barrier steps.Barrier, sink func(steps.Event), ask steps.Asker) (*steps.Result, error)
	Runs(ctx context.Context) ([]steps.RunInfo, error)
	// Kubelet looks at the node's kubelet, and RestartKubelet restarts it.
	Kubelet(ctx context.Context) (*settle.Kubelet, error)
	RestartKubelet(ctx context.Context) error
	// Busy is nil when no process has a run under way on this node.
	Busy(ctx context.Context) error
}

// silence is how long an agent continues without a message from its conductor,
// which sends one every two seconds: an ssh whose network is gone says nothing.
const silence = 20 * time.Second

// Serve is an agent: it does on its node what the conductor at the other end of
// in and out asks for, until that says goodbye or is gone. A run that is under
// way then stops at its next wait; Serve returns when it has.
func Serve(ctx context.Context, in io.Reader, out io.Writer, n Node, version string) error {
	return serve(ctx, in, out, n, version, silence)
}

func serve(ctx context.Context, in io.Reader, out io.Writer, n Node, version string, silence time.Duration) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// What the login shell said may have no end of line.
	a := &agent{node: n, out: newOutbox[message](out, "\n"), gone: cancel, choices: make(chan steps.Choice, 1)}
	a.out.put(message{Hello: &hello{Protocol: protocolVersion, Version: version}})

	words := make(chan error, 1)
	heard := make(chan struct{}, 1)
	go defect.Do(func() { words <- a.listen(ctx, bufio.NewReaderSize(in, 64<<10), heard) })()
	quiet := time.NewTimer(silence)
	defer quiet.Stop()
	var err error
	for over := false; !over; {
		select {
		case <-heard:
			quiet.Reset(silence)
		case err = <-words:
			over = true
		case <-quiet.C:
			err, over = fmt.Errorf("no message from the conductor for %s", silence), true
		case <-ctx.Done():
			err, over = ctx.Err(), true
		}
	}
	cancel()
	a.work.Wait()
	a.out.close()
	if c, ok := in.(io.Closer); ok {
		_ = c.Close() // ends a listen that still waits
	}
	return err
}

type agent struct {
	node  Node
	paths restore.Paths // where things are, for the commands that are named
	out   *outbox[message]
	gone  context.CancelFunc
	work  sync.WaitGroup

	mu    sync.Mutex
	busy  bool
	plan  *steps.Plan
	stop  context.CancelFunc // of the run under way
	halt  bool               // it is to stop, perhaps before it has begun
	open  map[steps.Phase]chan struct{}
	tell  func([]steps.Sighting) // shows what the others do, at a barrier
	asked bool

	choices chan steps.Choice
	put     *putting
}

// listen reads requests until the conductor is gone; nil means that it said
// goodbye.
func (a *agent) listen(ctx context.Context, in *bufio.Reader, heard chan<- struct{}) error {
	for {
		line, err := readLine(in)
		if err != nil {
			return err
		}
		select {
		case heard <- struct{}{}:
		default:
		}
		if len(line) == 0 {
			continue
		}
		var r request
		if err := decode(line, &r); err != nil {
			return fmt.Errorf("not a request: %q: %w", clip(line), err)
		}
		if err := valid(r); err != nil {
			return fmt.Errorf("not a request: %w", err)
		}
		if r.Do == doBye {
			return nil
		}
		if err := a.take(ctx, r, in); err != nil {
			return err
		}
	}
}

// take handles a word at once and starts a request.
func (a *agent) take(ctx context.Context, r request, in io.Reader) error {
	switch r.Do {
	case doPing:
		a.out.put(message{Pong: true})
	case doPiece:
		return a.piece(r, in)
	case doGo:
		a.openGate(r.Phase)
	case doSeen:
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.tell != nil {
			a.tell(r.Seen)
		}
	case doAnswer:
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.asked {
			a.asked = false
			a.choices <- r.Choice
		}
	case doStop:
		a.mu.Lock()
		defer a.mu.Unlock()
		a.halt = true
		if a.stop != nil {
			a.stop()
		}
	default:
		a.begin(ctx, r)
	}
	return nil
}

// begin does a request in a goroutine of its own: words pass meanwhile.
func (a *agent) begin(ctx context.Context, r request) {
	a.mu.Lock()
	busy := a.busy
	if !busy {
		a.busy, a.halt = true, false
	}
	a.mu.Unlock()
	if busy {
		a.out.put(message{ID: r.ID, No: problem.New("", "the agent is already working")})
		return
	}
	a.work.Go(defect.Do(func() {
		reply, err := a.do(ctx, r)
		m := message{ID: r.ID}
		if err == nil && reply != nil {
			m.W, err = json.Marshal(reply)
		}
		if err != nil {
			m.W, m.No = nil, problem.From(err)
		}
		a.mu.Lock()
		a.busy = false
		a.mu.Unlock()
		a.out.put(m)
	}))
}

func (a *agent) do(ctx context.Context, r request) (any, error) {
	switch r.Do {
	case doUse:
		return given(r, func(p restore.Paths) (any, error) {
			a.paths = p
			a.node.Use(p)
			return nil, nil
		})
	case doFacts:
		return a.node.Facts(ctx)
	case doPut:
		return given(r, func(o putOrder) (any, error) { return a.receive(ctx, o) })
	case doCheck:
		return given(r, func(o Order) (any, error) { return a.node.Check(ctx, o, a.busyEvery(time.Second)) })
	case doPlan:
		return given(r, func(o Order) (_ any, err error) {
			a.plan, err = a.node.Plan(ctx, o)
			return a.plan, err
		})
	case doRun:
		return given(r, func(rec restore.Record) (any, error) { return a.begun(ctx, rec) })
	case doUndo, doRedo, doResume:
		return given(r, func(o RunOf) (any, error) {
			p, err := a.planAgain(ctx, restore.Verb(r.Do), o.Run)
			switch {
			case err != nil:
				return nil, err
			case p == nil:
				return &steps.Result{OK: true, Reverted: r.Do == doUndo}, nil
			}
			return a.run(ctx, p, nil)
		})
	case doPlanAgain + doUndo, doPlanAgain + doRedo, doPlanAgain + doResume:
		return given(r, func(o RunOf) (any, error) {
			p, err := a.planAgain(ctx, restore.Verb(strings.TrimPrefix(r.Do, doPlanAgain)), o.Run)
			return planReply{p}, err
		})
	case doKubelet:
		return a.node.Kubelet(ctx)
	case doRestartKubelet:
		return nil, a.node.RestartKubelet(ctx)
	case doFree:
		return nil, a.free(ctx)
	case doRuns:
		return a.node.Runs(ctx)
	case doDrop:
		return given(r, func(o putOrder) (any, error) { return nil, a.drop(ctx, o) })
	}
	return nil, problem.New("the versions differ", "unknown request %q", clip([]byte(r.Do)))
}

// given does something with what came with a request.
func given[T any](r request, do func(T) (any, error)) (any, error) {
	v, err := with[T](r)
	if err != nil {
		return nil, err
	}
	return do(v)
}

// begun runs what was planned. A run of its name must not be there yet: it would
// be appended to that one.
func (a *agent) begun(ctx context.Context, rec restore.Record) (any, error) {
	p := a.plan
	if p == nil || p.Run != rec.Run {
		return nil, problem.New("", "the agent has no plan of run %s", rec.Run)
	}
	if r, err := a.of(ctx, rec.Run); err != nil || r.Run != "" {
		return nil, cmp.Or(err, error(problem.New("try again", "this node has a run %s already", rec.Run)))
	}
	a.plan = nil
	return a.run(ctx, p, &rec)
}

// of is an earlier run; the zero value is of one that the node doesn't know.
func (a *agent) of(ctx context.Context, run string) (steps.RunInfo, error) {
	runs, err := a.node.Runs(ctx)
	if i := slices.IndexFunc(runs, func(r steps.RunInfo) bool { return r.Run == run }); i >= 0 {
		return runs[i], err
	}
	return steps.RunInfo{}, err
}

// busyEvery returns a function that says, now and then, that a request makes
// progress. It may be called from any goroutine.
func (a *agent) busyEvery(d time.Duration) func() {
	var mu sync.Mutex
	var last time.Time
	return func() {
		mu.Lock()
		defer mu.Unlock()
		if now := time.Now(); now.Sub(last) >= d {
			last = now
			a.out.put(message{Busy: true})
		}
	}
}

func (a *agent) free(ctx context.Context) error {
	if err := a.node.Busy(ctx); err != nil {
		p := problem.From(err)
		p.Code = codeLocked
		return p
	}
	return nil
}

// planAgain plans what is done with an earlier run; nil when there is nothing
// to do. A run that the node doesn't know has left nothing to undo.
func (a *agent) planAgain(ctx context.Context, v restore.Verb, run string) (*steps.Plan, error) {
	if err := a.free(ctx); err != nil {
		return nil, err
	}
	is, err := a.of(ctx, run)
	if err != nil {
		return nil, err
	}
	instead := func(verb restore.Verb, format string) error {
		return problem.Coded(string(verb), a.paths.Command(string(verb)+" --fleet", run)+" does it on all nodes", format, run)
	}
	switch done := is.State == steps.RunRestored; {
	case v == restore.Undo && (is.State == "" || is.State == steps.RunUndone || is.State == steps.RunUntouched), v != restore.Undo && done:
		return nil, nil
	case is.State == "":
		return nil, problem.New("", "the node has no run %s", run)
	case v == restore.Resume && is.Undoing:
		return nil, instead(restore.Undo, "an undo of run %s has begun here")
	case v == restore.Resume && is.Redoing:
		return nil, instead(restore.Redo, "a redo of run %s has begun here")
	case v == restore.Redo && !is.Undoing && !is.Redoing:
		return nil, instead(restore.Resume, "run %s was not undone here")
	}
	return a.node.PlanAgain(ctx, v, run)
}

// run runs a plan and sends its events. The record goes into the run's
// directory once the engine has made it.
func (a *agent) run(ctx context.Context, p *steps.Plan, rec *restore.Record) (*steps.Result, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	a.mu.Lock()
	a.stop = stop
	if a.halt {
		stop()
	}
	a.open = map[steps.Phase]chan struct{}{}
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		a.stop = nil
		a.mu.Unlock()
	}()
	sink := func(ev steps.Event) {
		if rec != nil && ev.Type == steps.TypePlan {
			if err := writeRecord(p.RunDir, *rec); err != nil {
				// Nothing is touched yet, and without it nobody could resume all
				// nodes again.
				a.out.put(message{Event: &steps.Event{Type: steps.TypeAction, Time: ev.Time, Run: p.Run, State: steps.Waiting, Message: err.Error()}})
				stop()
			}
			rec = nil
		}
		a.out.put(message{Event: &ev})
		if ev.Type == steps.TypeAction && ev.State == steps.Already {
			if at := p.Barrier(ev.Action); at != "" {
				a.out.put(message{Barrier: at, Past: true})
			}
		}
	}
	res, err := a.node.Run(ctx, p, a.barrier, sink, func(f steps.Failure) steps.Choice { return a.ask(ctx, f) })
	if err == nil && res.ExitCode() == 4 && ctx.Err() == nil { // one that was stopped wasn't refused
		return nil, &problem.Problem{Cause: res.Error.Cause, Hint: res.Error.Hint, Code: codeLocked}
	}
	return res, err
}

// gate is closed when the nodes may continue past a phase.
func (a *agent) gate(p steps.Phase) chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.open == nil {
		a.open = map[steps.Phase]chan struct{}{}
	}
	if a.open[p] == nil {
		a.open[p] = make(chan struct{})
	}
	return a.open[p]
}

func (a *agent) openGate(p steps.Phase) {
	gate := a.gate(p)
	select {
	case <-gate:
	default:
		close(gate) // only the goroutine of listen does
	}
}

// barrier reports that this node has reached a phase, and waits for
// its answer.
func (a *agent) barrier(ctx context.Context, p steps.Phase, tell func([]steps.Sighting)) error {
	a.out.put(message{Barrier: p})
	seen := make(chan []steps.Sighting, 1)
	a.mu.Lock()
	a.tell = func(s []steps.Sighting) {
		select {
		case <-seen: // older news
		default:
		}
		seen <- s
	}
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		a.tell = nil
		a.mu.Unlock()
	}()
	gate := a.gate(p)
	for {
		select {
		case <-gate:
			return nil
		case s := <-seen:
			tell(s) // from the engine's goroutine
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// ask waits for the conductor's choice. Without a conductor the node is left
// as it is: what the others do decides what is right for this one.
func (a *agent) ask(ctx context.Context, f steps.Failure) steps.Choice {
	a.mu.Lock()
	a.asked = true
	a.mu.Unlock()
	a.out.put(message{Ask: &f})
	select {
	case c := <-a.choices:
		return c
	case <-ctx.Done():
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked = false
	select {
	case <-a.choices: // it came too late, and isn't for the next question
	default:
	}
	return steps.Leave
}

// outbox writes lines in their order, from a goroutine of its own: a connection
// that hangs must not hold up the engine while the API is down, or the
// conductor while another node waits for its answer.
type outbox[T any] struct {
	mu     sync.Mutex
	some   *sync.Cond
	mail   []T
	closed bool
	done   chan struct{}
}

// newOutbox writes first before all else.
func newOutbox[T any](w io.Writer, first string) *outbox[T] {
	b := &outbox[T]{done: make(chan struct{})}
	b.some = sync.NewCond(&b.mu)
	go defect.Do(func() { b.write(w, first) })()
	return b
}

func (b *outbox[T]) put(m T) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed {
		b.mail = append(b.mail, m)
		b.some.Signal()
	}
}

func (b *outbox[T]) write(w io.Writer, first string) {
	defer close(b.done)
	var buf bytes.Buffer
	buf.WriteString(first)
	enc := json.NewEncoder(&buf)
	broken := false
	for {
		b.mu.Lock()
		for len(b.mail) == 0 && !b.closed {
			b.some.Wait()
		}
		mail, closed := b.mail, b.closed
		b.mail = nil
		b.mu.Unlock()
		if len(mail) == 0 && closed {
			return
		}
		for _, m := range mail {
			_ = enc.Encode(m)
		}
		if !broken {
			_, err := w.Write(buf.Bytes())
			broken = err != nil
		}
		buf.Reset()
	}
}

// shut takes nothing more.
func (b *outbox[T]) shut() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	b.some.Signal()
}

// close waits a moment for what is left to be read: nobody may be there.
func (b *outbox[T]) close() {
	b.shut()
	select {
	case <-b.done:
	case <-time.After(time.Second):
	}
}

// readLine reads a line without its end. A line that has no end before the
// connection's is none.
func readLine(in *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := in.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case err == nil:
			return bytes.TrimSpace(line), nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		case len(line) > longestLine:
			return nil, errors.New("a line without an end")
		}
	}
}

func with[T any](r request) (T, error) {
	var v T
	err := decode(r.W, &v)
	if err == nil {
		err = valid(v)
	}
	if err != nil {
		return v, fmt.Errorf("request %s: %w", clip([]byte(r.Do)), err)
	}
	return v, nil
}

func clip(b []byte) []byte { return b[:min(len(b), 120)] }
