package steps

import (
	"context"
	"slices"
	"time"

	"etcd-rewind/node"
)

// systemdUnit is a process that systemd runs, as a service.
type systemdUnit struct {
	unit  *node.Unit // as it was found
	role  Role
	ready *Expect
	files []Prepared // that it is started with, where they change
	edit  []Action   // that put them in place, before it is started
}

func (p *systemdUnit) prepared() []Prepared { return p.files }

func (p *systemdUnit) ref() processRef {
	return processRef{unit: p.unit.Name, budget: p.unit.TimeoutStart}
}

// stop waits at once: a service that has stopped may be started. kube-apiserver
// keeps no state, and with clients connected it would take a minute to end.
func (p *systemdUnit) stop(how StopHow) []Action {
	return []Action{
		&StopUnit{Unit: p.unit.Name, Role: p.role, Ready: p.ready, Limit: p.unit.TimeoutStop, Now: p.role == RoleAPI && how == StopNow},
		&WaitUnitStopped{Unit: p.unit.Name, Role: p.role, Limit: p.unit.TimeoutStop},
	}
}

func (p *systemdUnit) rest() []Action { return nil }

func (p *systemdUnit) start() []Action {
	acts := append(slices.Clone(p.edit), &StartUnit{Unit: p.unit.Name, Role: p.role, StopLimit: p.unit.TimeoutStop})
	if p.role == RoleControllers {
		acts = append(acts, &WaitUnitUp{Unit: p.unit.Name})
	}
	return acts
}

// unitAgain is a service of the restored cluster that is started once more.
type unitAgain struct{ in *StartUnit }

// right: what it runs on is the data's to be, and its files', which are moved. But
// nothing shows what a controller has seen of the other data.
func (u unitAgain) right() bool { return u.in.Role != RoleControllers }

func (u unitAgain) ref() processRef { return processRef{unit: u.in.Unit} }

func (u unitAgain) stop() []Action { return u.in.undo() }

func (u unitAgain) rest() []Action { return nil }

func (u unitAgain) start() []Action { return []Action{u.in} }

func (u unitAgain) keep() []Action { return []Action{u.in} }

// unitWatch is a service while a wait looks at it.
type unitWatch struct {
	*run
	name      string
	tolerated int
	base      int // restarts when the wait began
	newest    *node.Unit
	patience  *patience
}

func (w *unitWatch) lastLog() []string { return w.world.UnitLog(w.name, 100) }

func (w *unitWatch) cpu(context.Context, string) (time.Duration, error) { return w.newest.CPU, nil }

// retry starts one that systemd has given up, when an earlier wait has failed
// for that.
func (w *unitWatch) retry(ctx context.Context) error {
	u, err := w.unit(ctx, w.name)
	if err != nil {
		return err
	}
	w.base = u.Restarts
	if !u.Stopped() || !slices.Contains(w.mem.Judged[w.name], u.Invocation) {
		return nil
	}
	w.say("%s is %s: it is started again", w.name, u)
	w.base = 0
	return w.startUnit(ctx, u)
}

// look counts a service as up while its process runs: one of Type=notify is
// "activating" until etcd has a quorum.
func (w *unitWatch) look(ctx context.Context, failing string, s *sight) (up bool, err error) {
	u, err := w.unit(ctx, w.name)
	if err != nil {
		return false, err
	}
	w.newest = u
	up = u.PID != 0 && (u.Active == "active" || u.Active == "activating")
	s.seen[0] = Sighting{What: "unit", Is: u.String(), OK: up}
	if u.Active == "failed" && !u.Job || u.Restarts-w.base >= w.tolerated && !up && u.Result != "timeout" {
		return false, w.crashed()
	}
	instance := ""
	if up {
		instance = u.Invocation
	}
	w.patience.see(ctx, instance, failing, s)
	return up, nil
}

// crashed is a service that systemd has given up, or starts again and again.
func (w *unitWatch) crashed() error {
	w.judge(w.name, w.newest.Invocation)
	cause := w.name + " starts and ends again"
	if w.newest.Active == "failed" {
		cause = w.name + " has " + w.newest.String()
	}
	return w.withLog(cause)
}

func (w *unitWatch) withLog(cause string) *trouble {
	t := stuck(node.UnitLogCommand(w.name), "%s", cause)
	t.log, t.logPath = w.world.UnitLog(w.name, 200), node.UnitLogCommand(w.name)
	t.explainBy(likelyCauseOfUnit)
	return t
}

func (w *unitWatch) late(cause string) error {
	t := w.withLog(cause)
	u := w.newest
	if t.slow = u != nil && w.mem.Proven && t.known == "" && u.PID != 0 && u.Restarts == w.base; t.slow {
		t.Cause, t.Hint = cause+" yet", slowHint
	}
	return t
}
