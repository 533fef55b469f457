package steps

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"etcd-rewind/defect"
	"etcd-rewind/node"
	"etcd-rewind/problem"
	"etcd-rewind/snapshot"
	"etcd-rewind/trust"
)

// Engine runs plans. Its zero value isn't usable: Sink and Ask must be set.
type Engine struct {
	// Sink gets every event, in order, from the engine's goroutine.
	Sink func(Event)
	// Ask decides when an action fails.
	Ask Asker
	// Barrier waits for the other nodes of a fleet; nil means to look at their
	// ports.
	Barrier Barrier
	// Now is the clock; nil means time.Now.
	Now func() time.Time

	// staged is the staging file, which may be used up, of a snapshot that is named, by
	// where it was when the run was planned; see Session.staged. nil has none.
	staged func(ctx context.Context, name, path string, progress func(done, total int64)) (*snapshot.Staged, error)

	// crash is called at every point where the process may die, in tests.
	crash func(point, action string)
	// fail makes the journal fail for an action, in tests.
	fail func(action string) error
	// watch looks at another kind of process, in tests.
	watch func(processRef) watched
	// exchange swaps two directories, in tests; nil means manifest.Exchange.
	exchange func(a, b string) error
	world    world   // nil means the node of the plan's Reach
	limits   *limits // nil means realLimits
	pace     *pace   // nil means realPace
}

// Run runs a plan to its end, and journals it. Cancelling ctx stops it before
// the next action; a wait ends at once, any other action is finished first.
//
// It takes the node's lock first: while another run holds it, the result is an
// error that names the holder, and an untouched node.
func (e *Engine) Run(ctx context.Context, plan *Plan) *Result {
	r := &run{engine: e, world: e.world, plan: plan, mem: plan.memory, pace: realPace, halted: map[string]bool{}, lists: map[string]*endLists{}}
	if e.pace != nil {
		r.pace = *e.pace
	}
	if r.mem.Pods == nil {
		r.mem.Pods = map[string][]string{}
	}
	if r.mem.Begun == nil {
		r.mem.Begun = map[string][]string{}
	}
	r.mem.Ended = map[string]time.Time{} // another process's clock is no measure
	// Only the API's return ends the outage, not the end of a process.
	r.away = !r.mem.AwaySince.IsZero()
	r.stop = ctx.Done()
	closeAll, err := r.open(ctx)
	defer closeAll()
	if err != nil {
		cause, hint := problem.Explain(err)
		if ctx.Err() != nil { // what was waited for isn't to blame
			cause, hint = StoppedByUser, ""
		}
		if hint != "" {
			hint += "; "
		}
		res := &Result{Reverted: plan.Kind == KindRestore && plan.done == nil, refused: true, Error: &Failure{Title: plan.Title, Cause: cause, Hint: hint + "nothing was changed"}}
		r.emit(Event{Type: TypeResult, State: Failed, Result: res})
		return res
	}
	defer r.endSaving()
	over := defect.During(r.command("undo"))
	res := r.run(ctx)
	over()
	return res
}

// open gets what a run needs before it may touch the node: the lock, the
// container runtime, the journal with the plan in it.
func (r *run) open(ctx context.Context) (closeAll func(), err error) {
	var opened []func() error
	closeAll = func() {
		for _, c := range slices.Backward(opened) {
			_ = c()
		}
	}
	if err := r.plan.Allowed(ctx); err != nil {
		return closeAll, err
	}
	stateDir := filepath.Dir(r.plan.RunDir)
	if err := ownDir(stateDir); err != nil {
		return closeAll, err
	}
	release, err := node.Lock(filepath.Join(stateDir, lockName))
	if err != nil {
		return closeAll, err
	}
	opened = append(opened, release)
	if r.world == nil {
		n, err := dialNode(ctx, r.plan.Reach)
		if err != nil {
			return closeAll, err
		}
		opened = append(opened, n.Close)
		r.world = n
	}
	limits := realLimits
	if r.engine.limits != nil {
		limits = *r.engine.limits
	}
	r.world = &deadlined{world: r.world, limits: limits, stop: r.stop, slow: r.silent}
	if r.journal, err = openJournal(r.plan.RunDir, r.plan.room()); err != nil {
		return closeAll, err
	}
	opened = append(opened, r.journal.close)
	r.log = openEventLog(r.plan.RunDir)
	opened = append(opened, r.log.close)
	return closeAll, r.record(record{Type: recPlan, Plan: r.plan})
}

const lockName = "lock"

// ownDir makes the state directory, or makes sure that nobody else can have
// put anything there: what lies in it decides what is moved where, as root.
func ownDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return notTrusted(trust.Dir(dir))
}

// run is one plan under way.
type run struct {
	engine  *Engine
	world   world
	journal *journal
	plan    *Plan
	mem     memory

	step   *Step
	action Planned
	stop   <-chan struct{} // closed when the run is to be stopped
	wait   struct {        // the one under way
		begun time.Time
		limit time.Duration
	}
	saving *saving // goes on beside the action; nil when there is none
	away   bool
	// halted are pods whose containers this process has ended over CRI.
	halted map[string]bool
	lists  map[string]*endLists // of pods that have ended
	unseen bool                 // the API server is ended, and kubelet was not seen to begin with that
	pace   pace
	cost   time.Duration // of the runtime's answers in a wait's last look
	log    *eventLog
}

// endLists are kubelet's lists since a pod has ended.
type endLists struct {
	first, more int
	known       bool
	finished    time.Time // cgroup gone, and a list
}

func (r *run) now() time.Time {
	if r.engine.Now != nil {
		return r.engine.Now()
	}
	return time.Now()
}

func (r *run) emit(ev Event) {
	ev.Time, ev.Run = r.now().UTC(), r.plan.Run
	if r.step != nil && ev.Type != TypePlan && ev.Type != TypeResult {
		ev.Step = r.step.ID
		if ev.Type != TypeStep && ev.Action == "" {
			ev.Action = r.action.ID
		}
	}
	if r.away {
		s := r.awayFor()
		ev.Away = &s
	}
	r.log.write(ev)
	r.engine.Sink(ev)
}

// say reports something about the action that runs.
func (r *run) say(format string, args ...any) {
	r.emit(Event{Type: TypeAction, State: Waiting, Message: fmt.Sprintf(format, args...)})
}

// silent reports who doesn't answer, so that nobody has to guess what is waited
// for.
func (r *run) silent(who string, waited time.Duration) {
	ev := Event{Type: TypeAction, State: Waiting, Seen: []Sighting{{What: who, Is: "has not answered for " + seconds(waited)}}}
	if !r.wait.begun.IsZero() {
		ev.Waited, ev.Limit = r.now().Sub(r.wait.begun).Seconds(), r.wait.limit.Seconds()
	}
	r.emit(ev)
}

func (r *run) progress(p snapshot.Progress) {
	r.emit(Event{Type: TypeAction, State: Waiting, Progress: &Progress{Phase: p.Phase, Done: p.Done, Total: p.Total}})
}

func (r *run) run(ctx context.Context) *Result {
	r.emit(Event{Type: TypePlan, Plan: r.plan, State: Started, Message: r.plan.Title})
	fail := r.steps(ctx)
	var res *Result
	switch {
	case fail == nil:
		res = r.result()
		res.OK, res.Reverted = true, r.plan.Kind == KindUndo
	case fail.reverted != nil:
		res = fail.reverted
	default:
		res = r.result()
		res.Error = &fail.Failure
		res.Reverted = !r.touched()
	}
	if fail == nil || fail.reverted == nil {
		r.finish(res)
	}
	return res
}

// note keeps something for the summary and the report; the same name again
// replaces what it said.
func (r *run) note(name, format string, args ...any) {
	notes := slices.DeleteFunc(slices.Clone(r.mem.Notes), func(f Fact) bool { return f.Name == name })
	r.mem.Notes = append(notes, Fact{name, fmt.Sprintf(format, args...)})
}

// touched says whether an action that changes the node has begun.
func (r *run) touched() bool {
	if r.plan.Kind != KindRestore {
		return true
	}
	h, err := readHistory(r.plan.RunDir)
	if err != nil {
		return true
	}
	return len(undoActions(h)) > 0 || r.mem.KubeletRestarted
}

func (r *run) result() *Result {
	res := &Result{
		OutageSeconds: r.mem.Outage,
		Revision:      r.mem.Revision,
	}
	if f := r.plan.Restore; f != nil && r.plan.Kind != KindUndo {
		res.DataDir = f.DataDir
		res.Undo = r.command("undo")
	}
	res.DownBefore = r.mem.APIBefore != "" && r.mem.APIBefore != apiReady
	if r.away {
		res.OutageSeconds = r.awayFor()
		since := r.mem.AwaySince.UTC()
		res.DownSince = &since
	}
	return res
}

// finish writes the end of the plan, the report, and the last event.
func (r *run) finish(res *Result) {
	r.step = nil
	if res.OK && res.Reverted && r.plan.redo != "" { // what a failed run restored isn't worth going to
		res.Redo = r.plan.Command(r.plan.redo)
	}
	res.Summary = r.summary(res)
	if path, err := writeReport(r, res); err == nil {
		res.Report = path
	} else {
		r.emit(Event{Type: TypeAction, State: Waiting, Message: "the report could not be written: " + err.Error()})
	}
	if err := r.record(record{Type: recEnd, Result: res}); err != nil {
		r.emit(Event{Type: TypeAction, State: Waiting, Message: err.Error()})
	}
	if res.OK || res.Reverted {
		r.journal.release() // else the way back may need it yet
	}
	state := Done
	if !res.OK {
		state = Failed
	}
	r.emit(Event{Type: TypeResult, State: state, Result: res})
}

// failure is a Failure with what was decided about it.
type failure struct {
	Failure
	remedy   *Step // what RestartStuck runs
	reverted *Result
}

func (r *run) steps(ctx context.Context) *failure {
	for i := range r.plan.Steps {
		step := &r.plan.Steps[i]
		if !step.always() {
			if r.step = step; !step.ran(&r.mem) {
				r.emit(Event{Type: TypeStep, State: Unneeded})
			}
			continue
		}
		if fail := r.runStep(ctx, step); fail != nil {
			return fail
		}
	}
	return nil
}

func (r *run) runStep(ctx context.Context, step *Step) *failure {
	r.step, r.action = step, Planned{}
	r.emit(Event{Type: TypeStep, State: Started, Message: step.Title})
	for _, a := range step.Actions {
		r.step = step
		if fail := r.runAction(ctx, a); fail != nil {
			if fail.reverted == nil { // else reported already: nothing comes after the result
				r.step, r.action = step, Planned{}
				r.emit(Event{Type: TypeStep, State: Failed})
			}
			return fail
		}
	}
	r.step, r.action = step, Planned{}
	r.emit(Event{Type: TypeStep, State: Done})
	return nil
}

// runAction runs one action until it is done or the user decides otherwise.
func (r *run) runAction(ctx context.Context, a Planned) *failure {
	if r.plan.done[a.ID] {
		r.action = a
		r.emit(Event{Type: TypeAction, State: Already, Message: a.Title()})
		return nil
	}
	meant := false // its intent is in the journal
	step := r.step
	for {
		r.action = a
		if ctx.Err() != nil {
			return r.stopped()
		}
		state, err := r.try(ctx, a, &meant)
		if err == nil {
			r.emit(Event{Type: TypeAction, State: state, Message: a.Title()})
			return nil
		}
		if errors.Is(err, errStopped) {
			return r.stopped()
		}
		fail := r.failed(ctx, err)
		r.emit(Event{Type: TypeAction, State: Failed, Message: fail.Cause})
		r.emit(Event{Type: TypeAsk, State: Failed, Failure: &fail.Failure})
		choice := r.engine.Ask(fail.Failure)
		if !slices.Contains(fail.Choices, choice) {
			choice = Leave
		}
		r.emit(Event{Type: TypeAnswer, Message: string(choice)})
		switch choice {
		case WaitOn:
		case Retry:
			if t, ok := a.Action.(retrier); ok {
				if err := t.retry(ctx, r); err != nil {
					r.say("%s", err)
				}
			}
		case RestartStuck:
			if f := r.runStep(ctx, fail.remedy); f != nil {
				return f
			}
			r.step, r.action = step, a
		case Revert:
			r.emit(Event{Type: TypeStep, State: Failed})
			fail.reverted = r.revert(context.WithoutCancel(ctx), fail.Failure)
			return fail
		default:
			return fail
		}
	}
}

// try journals the intent, unless that was done before, runs the action, and
// journals the result.
func (r *run) try(ctx context.Context, a Planned, meant *bool) (State, error) {
	r.point("before the intent", a.ID)
	if !*meant {
		if err := r.record(record{Type: recIntent, Action: a.ID, Command: a.Commands()}); err != nil {
			return Failed, err
		}
		*meant = true
	}
	ev := Event{Type: TypeAction, State: Started, Message: a.Title(), Commands: a.Commands()}
	if w, ok := a.Action.(waiter); ok {
		ev.Limit = w.limit(r.pace).Seconds()
	} else {
		ctx = context.WithoutCancel(ctx)
	}
	r.emit(ev)
	r.point("after the intent", a.ID)
	state, err := a.do(ctx, r)
	if err != nil && ctx.Err() != nil { // of a wait: whatever it ran into because of that
		state, err = Stopped, errStopped
	}
	r.point("before the result", a.ID)
	mem := r.mem
	mem.Pods, mem.Begun, mem.Ended = maps.Clone(r.mem.Pods), maps.Clone(r.mem.Begun), maps.Clone(r.mem.Ended)
	rec := record{Type: recResult, Action: a.ID, State: state, Memory: &mem}
	if err != nil {
		rec.State, rec.Error = Failed, err.Error()
	}
	if werr := r.record(rec); werr != nil && err == nil {
		// The action is done and every action may be done twice: a run that
		// can't write its journal any more ends here.
		return Failed, werr
	}
	return state, err
}

func (r *run) record(rec record) error {
	if r.engine.fail != nil {
		if err := r.engine.fail(rec.Action); err != nil {
			return fmt.Errorf("write the journal: %w", err)
		}
	}
	rec.Time = r.now().UTC()
	return r.journal.write(rec)
}

// point is a place where a crash leaves the node in a state of its own.
func (r *run) point(point, action string) {
	if r.engine.crash != nil {
		r.engine.crash(point, action)
	}
}

var errStopped = errors.New("stopped")

// StoppedByUser is the cause of a run that was asked to stop.
const StoppedByUser = "you stopped the run"

func (r *run) stopped() *failure {
	r.emit(Event{Type: TypeAction, State: Stopped})
	return &failure{Failure: Failure{
		Step: r.step.ID, Action: r.action.ID, Title: r.action.Title(),
		Cause: StoppedByUser,
		Hint:  r.wayBack(),
	}}
}

// command is the command that does something with this run: on all nodes, when
// it is led on all of them.
func (r *run) command(verb string) string {
	if r.engine.Barrier != nil {
		verb += " --fleet"
	}
	return r.plan.Command(verb)
}

func (r *run) wayBack() string {
	if !r.touched() {
		return "nothing on this node was changed"
	}
	ways := r.command("resume") + " continues, " + r.command("undo") + " reverts the node to how it was"
	if r.plan.Kind == KindUndo {
		ways = r.command("undo") + " continues"
		if r.plan.redo != "" {
			ways += ", " + r.plan.Command(r.plan.redo) + " switches to the restored data again"
		}
	}
	if r.away {
		ways = fmt.Sprintf("the API is down since %s; ", Clock(r.mem.AwaySince)) + ways
	}
	return ways
}

func (r *run) failed(ctx context.Context, err error) *failure {
	f := &failure{Failure: Failure{Step: r.step.ID, Action: r.action.ID, Title: r.action.Title()}}
	f.Cause, f.Hint = problem.Explain(err)
	var t *trouble
	if errors.As(err, &t) {
		f.Log, f.LogPath = t.log, t.logPath
	}
	var s *sawError
	if errors.As(err, &s) {
		f.Waited, f.Seen = s.waited.Seconds(), s.seen
	}
	touched := r.touched()
	_, waits := r.action.Action.(waiter)
	if waits {
		if cause, hint := r.sickDisk(); cause != "" {
			f.Cause, f.Hint = f.Cause+"; "+cause, hint
		}
	}
	if f.remedy = r.remedy(t); f.remedy != nil {
		f.Choices = append(f.Choices, RestartStuck)
	}
	back := touched && r.plan.Kind != KindUndo
	if back {
		if err := r.undoBlocked(ctx); err != nil {
			back = false
			f.Hint = strings.TrimPrefix(f.Hint+"; undo is blocked: "+err.Error(), "; ")
		}
	}
	if r.plan.Kind == KindUndo && r.plan.redo != "" {
		f.Hint = strings.TrimPrefix(f.Hint+"; instead of undoing, "+r.plan.Command(r.plan.redo)+" switches to the restored data again", "; ")
	}
	// Once the API is back on the restored data, going back is a decision to
	// take with open eyes and not the default.
	if t != nil && t.slow {
		f.Choices = append(f.Choices, WaitOn, Leave)
	} else if back && !r.backAndRestored() {
		f.Choices = append(f.Choices, Revert)
	}
	if slow := t != nil && t.slow; !slow && (!back || r.backAndRestored()) {
		f.Choices = append(f.Choices, Leave)
	}
	if waits && !slices.Contains(f.Choices, WaitOn) {
		f.Choices = append(f.Choices, WaitOn)
	}
	f.Choices = append(f.Choices, Retry)
	for _, c := range []Choice{Revert, Leave} {
		if (c != Revert || back) && !slices.Contains(f.Choices, c) {
			f.Choices = append(f.Choices, c)
		}
	}
	return f
}

func (r *run) backAndRestored() bool { return r.mem.Outage > 0 && !r.away }

// revert runs the plan that undoes this run, in the same journal.
func (r *run) revert(ctx context.Context, why Failure) *Result {
	undo, err := r.undoOfThis(ctx)
	if err == nil {
		err = r.record(record{Type: recPlan, Plan: undo})
	}
	if err != nil {
		res := r.result()
		why.Hint = "undo failed: " + goAgain(err, r.command("undo"))
		res.Error = &why
		r.finish(res)
		return res
	}
	b := &run{engine: r.engine, world: r.world, journal: r.journal, plan: undo, mem: r.mem, away: r.away, pace: r.pace, log: r.log, halted: map[string]bool{}, lists: map[string]*endLists{}}
	// A kubelet that was restarted for the way there knows the pods that were put
	// in since, and may have to stop them too.
	b.mem.renew()
	// What stopped the run doesn't stop the way back.
	if d, ok := r.world.(*deadlined); ok {
		b.world = &deadlined{world: d.world, limits: d.limits, slow: b.silent}
	}
	b.emit(Event{Type: TypePlan, Plan: undo, State: Started, Message: undo.Title})
	fail := b.steps(ctx)
	res := b.result()
	res.Error = &why
	if fail == nil {
		res.Reverted = true
	} else {
		why.Hint = "undo failed too: " + goAgain(problem.New(fail.Hint, "%s", fail.Cause), r.command("undo"))
		res.Undo = r.command("undo")
	}
	b.finish(res)
	return res
}

// undoOfThis plans to undo this run, which another process would ask more of:
// the node is this one, and the command that restarts kubelet is the one given.
func (r *run) undoOfThis(ctx context.Context) (*Plan, error) {
	h, err := readHistory(r.plan.RunDir)
	if err != nil {
		return nil, err
	}
	t := Terms{Accept: r.plan.accept, Flags: r.plan.Flags, CRI: r.plan.Reach.Kubelet.CRIEndpoint, same: true}
	if r.plan.Restore != nil {
		t.KubeletRestart = r.plan.Restore.KubeletRestart
	}
	undo, err := undoPlan(h, t)
	if err != nil {
		return nil, err
	}
	return undo, undo.Allowed(ctx)
}

// undoBlocked says why this run can't be undone now.
func (r *run) undoBlocked(ctx context.Context) error {
	_, err := r.undoOfThis(context.WithoutCancel(ctx))
	return err
}

// goAgain says why an undo failed, and how to try that again.
func goAgain(err error, undo string) string {
	cause, hint := problem.Explain(err)
	if hint != "" {
		cause += " → " + hint
	}
	return cause + "; then " + undo + " reverts it"
}

// sight is one look of a wait.
type sight struct {
	ok   bool
	seen []Sighting
	etcd EtcdState
	// limit takes the place of the wait's, for one that goes by what it sees.
	limit time.Duration
}

// sawError is a failed wait with what was seen last.
type sawError struct {
	err    error
	waited time.Duration
	seen   []Sighting
}

func (e *sawError) Error() string { return e.err.Error() }
func (e *sawError) Unwrap() error { return e.err }

// poll looks until a look is ok, the limit is over or the user stops the run:
// every so often, and at once when kubelet has made or removed something.
// A look that fails for a moment (a socket that is being restarted) is shown
// and tried again; a trouble ends the wait.
func (r *run) poll(ctx context.Context, limit, every time.Duration, look func(context.Context) (sight, error), timeout func(sight) error) (State, error) {
	begun := r.now()
	r.wait.begun, r.wait.limit = begun, limit
	defer func() { r.wait.begun = time.Time{} }()
	var told time.Time
	var last sight
	for first := true; ; first = false {
		r.cost = 0
		s, err := lookOnce(ctx, limit-r.now().Sub(begun), look)
		waited := r.now().Sub(begun)
		if ctx.Err() != nil {
			return Stopped, errStopped
		}
		var t *trouble
		switch {
		case errors.As(err, &t):
			return Failed, &sawError{err: err, waited: waited, seen: s.seen}
		case err != nil:
			s = sight{seen: []Sighting{{What: "look", Is: err.Error()}}}
		}
		if s.limit > 0 {
			limit, r.wait.limit = s.limit, s.limit
		}
		quiet := r.now().Sub(told)
		if s.ok || s.etcd != last.etcd || turned(last.seen, s.seen) || quiet > time.Second || quiet > tellEvery && !slices.Equal(last.seen, s.seen) {
			told = r.now()
			r.emit(Event{Type: TypeAction, State: Waiting, Seen: s.seen, Etcd: s.etcd, Waited: waited.Seconds(), Limit: limit.Seconds()})
		}
		last = s
		if s.ok {
			if first {
				return Already, nil
			}
			return Done, nil
		}
		if waited >= limit {
			err := timeout(s)
			return Failed, &sawError{err: err, waited: waited, seen: s.seen}
		}
		pause := time.NewTimer(r.pause(every, waited))
		select {
		case <-ctx.Done():
		case <-r.world.Changed():
		case <-pause.C:
		}
		pause.Stop()
		if ctx.Err() != nil {
			return Stopped, errStopped
		}
	}
}

// lookOnce lets a look that begins just before the limit end after it, by a
// second at most.
func lookOnce(ctx context.Context, left time.Duration, look func(context.Context) (sight, error)) (sight, error) {
	ctx, cancel := context.WithTimeout(ctx, max(left, 0)+time.Second)
	defer cancel()
	return look(ctx)
}

// pause is how long to wait before the next look: a look at the runtime takes
// its CPU time, and on a slow machine that is taken from what is waited for. So
// no more than a quarter of the time goes into looks; natively one takes 2 to
// 5 ms. What has taken long may be seen a hundredth of that later.
func (r *run) pause(every, waited time.Duration) time.Duration {
	long := min(waited/100, 5*every)
	return min(max(every-r.cost, 3*r.cost, long, time.Millisecond), max(every, 2*time.Second))
}

// tellEvery is how often a change that is only a running clock is reported.
const tellEvery = 200 * time.Millisecond

// turned says whether something came true or false, or came into view.
func turned(a, b []Sighting) bool {
	return !slices.EqualFunc(a, b, func(a, b Sighting) bool { return a.What == b.What && a.OK == b.OK })
}

const (
	apiReady  = "ready"
	apiSilent = "silent"
)

// apiGoesAway starts the outage clock. One that wasn't ready when the run was
// planned isn't given long to say what it is.
func (r *run) apiGoesAway(wasReady bool) {
	limit := r.pace.readyz
	if wasReady {
		limit = time.Second
	}
	switch a := r.world.API(context.Background(), limit); {
	case a.Code == 200:
		r.mem.APIBefore = apiReady
	case a.Code == 0:
		r.mem.APIBefore = apiSilent
	default:
		r.mem.APIBefore = fmt.Sprint(a.Code)
	}
	if !r.away {
		r.away, r.mem.AwaySince = true, r.now()
	}
}

// apiWasDead says whether the API server that a run stops was of no use to
// anybody before. A kubelet that was restarted since is not waited for.
func (r *run) apiWasDead() bool {
	return r.mem.APIBefore != "" && r.mem.APIBefore != apiReady && !r.mem.KubeletRestarted
}

// apiStillAnswers moves the start of the outage: it counts from the last good
// answer, as a client does, and not from when its manifest was moved.
func (r *run) apiStillAnswers() {
	if r.away {
		r.mem.AwaySince = r.now()
	}
}

// awayFor is how long the API has been away, in seconds. A run that is gone on
// with has only the machine's clock for it, which may have been set back.
func (r *run) awayFor() float64 { return max(r.now().Sub(r.mem.AwaySince).Seconds(), 0) }

func (r *run) apiIsBack() {
	if r.away {
		r.mem.Outage = r.awayFor()
		r.away, r.mem.AwaySince = false, time.Time{}
	}
}
