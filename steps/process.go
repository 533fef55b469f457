package steps

import (
	"context"
	"time"
)

// process is a program of the control plane in a plan. A kind of process knows
// how that is stopped and started, by which actions.
type process interface {
	// prepared are the files that it is started with, ready before the outage.
	prepared() []Prepared
	// stop ends it.
	stop(how StopHow) []Action
	// rest is what has to pass before it may be started again. Those of several
	// processes are waited for together.
	rest() []Action
	// start has it run.
	start() []Action
	// ref names it for the waits that follow.
	ref() processRef
}

// processRef names a process in an action: what it runs as, how long it may
// take. It is plain data.
type processRef struct {
	pod, file string // a static pod; its manifest, "" where that has to stay byte for byte
	unit      string // a service of systemd's
	budget    time.Duration
}

// what a process is called among the things that a wait sees.
func (p processRef) what() string {
	if p.unit != "" {
		return "unit"
	}
	return "container"
}

// process is one that is waited for.
func (v *vetter) process(p processRef) {
	if p.unit != "" {
		v.unit(p.unit)
		return
	}
	v.pod(p.pod)
	v.manifestIf(p.file)
}

// program is what an action stops or starts: its role, and what names it apart
// from all others, its manifest or unit.
type program struct {
	role Role
	name string
}

// stopping is an action by which a program ends, starting one by which it runs.
// What takes a run up again finds them so, whatever kind of process it is.
type (
	stopping interface {
		Action
		stops() program
		// before is what was ready, and has to be again when the run is undone; nil
		// when nothing was.
		before() *Expect
	}
	starting interface {
		Action
		starts() program
		// again is the program in a redo, after a look at what is there now.
		again(b *again) (returning, error)
	}
)

// starts says of an action whether it starts a program of a role.
func (role Role) starts(a Action) bool {
	s, ok := a.(starting)
	return ok && s.starts().role == role
}

// stops says of an action whether it stops a program of a role.
func (role Role) stops(a Action) bool {
	s, ok := a.(stopping)
	return ok && s.stops().role == role
}

// watched is a process while a wait looks at it.
type watched interface {
	// retry starts it once more when an earlier wait gave it up.
	retry(ctx context.Context) error
	// look shows in what state it is as the first thing seen, and what shows that
	// it gets on. failing is what its readiness waits for. The error is for one
	// that ends again and again, which ends a wait.
	look(ctx context.Context, failing string, s *sight) (up bool, err error)
	// late is the error of a wait that ran into its limit, with the process's
	// last words.
	late(cause string) error
}

// watch begins to look at a process. tolerated is how often it may end before it
// counts as failed, least how long it gets in any case.
func (r *run) watch(p processRef, tolerated int, least time.Duration) watched {
	if r.engine.watch != nil {
		return r.engine.watch(p)
	}
	if p.unit != "" {
		w := &unitWatch{run: r, name: p.unit, tolerated: tolerated}
		w.patience = r.patient(life{log: w.lastLog, cpu: w.cpu}, least)
		return w
	}
	w := &podWatch{run: r, pod: p.pod, file: p.file, tolerated: tolerated}
	w.patience = r.patient(life{log: w.lastLog, cpu: r.world.CPU}, least)
	return w
}

// stopThenWait puts what stops processes first, and then waits for all of them at
// once.
func stopThenWait(all []process, how StopHow) []Action {
	var stop, rest []Action
	for _, p := range all {
		stop = append(stop, p.stop(how)...)
		rest = append(rest, p.rest()...)
	}
	return append(stop, together(rest)...)
}

// together makes one wait of all that wait until kubelet has finished with a
// pod, after everything else.
func together(actions []Action) []Action {
	var out []Action
	wait := &WaitForgotten{}
	for _, a := range actions {
		if w, ok := a.(*WaitForgotten); ok {
			wait.Pods, wait.Files = append(wait.Pods, w.Pods...), append(wait.Files, w.Files...)
			wait.Fresh, wait.Later, wait.Lists = w.Fresh, w.Later, w.Lists
		} else {
			out = append(out, a)
		}
	}
	if len(wait.Pods) > 0 {
		out = append(out, wait)
	}
	return out
}
