package steps

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"etcd-rewind/node"
	"etcd-rewind/trust"
)

// StopUnit has systemd stop a service. Restart= doesn't apply to one that is
// stopped so.
type StopUnit struct {
	Unit string `json:"unit"`
	Role Role   `json:"role"`
	// Ready is what to wait for when it is started again by an undo; nil for one
	// that wasn't ready before and won't be then.
	Ready *Expect       `json:"ready,omitempty"`
	Limit time.Duration `json:"limit,omitempty"` // as in [WaitUnitStopped]
	// Now kills it, for one that keeps no state and would take its time to end.
	Now bool `json:"now,omitempty"`
}

func (*StopUnit) Kind() string { return "stop-unit" }

func (a *StopUnit) Title() string { return "Stop " + a.Unit }

func (a *StopUnit) Commands() []string {
	if a.Now {
		return []string{trust.Shell("systemctl stop --no-block %s", a.Unit), trust.Shell("systemctl kill --signal=SIGKILL %s", a.Unit)}
	}
	return []string{trust.Shell("systemctl stop %s", a.Unit)}
}

func (a *StopUnit) do(ctx context.Context, r *run) (State, error) {
	u, err := r.unit(ctx, a.Unit)
	if err != nil {
		return Failed, err
	}
	if u.Stopped() {
		return Already, nil
	}
	if a.Role == RoleAPI {
		r.apiGoesAway(true)
	}
	if err := r.world.StopUnit(ctx, a.Unit); err != nil {
		return Failed, stuck("systemctl status "+a.Unit, "systemd doesn't stop %s: %w", a.Unit, err)
	}
	if a.Now { // after the stop, so that Restart= doesn't apply
		return Done, r.killStopping(ctx, a.Unit)
	}
	return Done, nil
}

// killStopping kills a service that systemd stops. One that has ended by itself
// meanwhile is left alone.
func (r *run) killStopping(ctx context.Context, name string) error {
	u, err := r.unit(ctx, name)
	if err != nil || u.Active != "deactivating" {
		return err
	}
	if err := r.world.KillUnit(ctx, name); err != nil {
		if u, again := r.unit(ctx, name); again == nil && u.Stopped() {
			return nil
		}
		return err
	}
	return nil
}

func (a *StopUnit) stops() program { return program{a.Role, a.Unit} }

func (a *StopUnit) before() *Expect { return a.Ready }

func (a *StopUnit) places(v *vetter) {
	v.unit(a.Unit)
	v.role(a.Role)
}

// undo starts it, also when it was never stopped: what runs already is left as
// it is.
func (a *StopUnit) undo() []Action {
	acts := []Action{&StartUnit{Unit: a.Unit, Role: a.Role, StopLimit: a.Limit}}
	if a.Ready != nil {
		return append(acts, a.Ready.wait(processRef{unit: a.Unit}))
	}
	if a.Role == RoleControllers {
		acts = append(acts, &WaitUnitUp{Unit: a.Unit})
	}
	return acts
}

// WaitUnitStopped waits until nothing of a service runs.
type WaitUnitStopped struct {
	Unit string `json:"unit"`
	Role Role   `json:"role"`
	// Limit is how long systemd lets it take (TimeoutStopSec=).
	Limit time.Duration `json:"limit,omitempty"`
}

func (*WaitUnitStopped) Kind() string { return "wait-unit-stopped" }

func (a *WaitUnitStopped) Title() string { return "Wait until " + a.Unit + " is stopped" }

func (a *WaitUnitStopped) Commands() []string {
	return []string{trust.Shell("until systemctl is-active %s | grep -qxE 'inactive|failed'; do sleep 0.1; done", a.Unit)}
}

func (a *WaitUnitStopped) limit(p pace) time.Duration { return max(p.gone, a.Limit+p.end) }

func (a *WaitUnitStopped) do(ctx context.Context, r *run) (State, error) {
	return r.poll(ctx, a.limit(r.pace), r.pace.lookUnit, func(ctx context.Context) (sight, error) {
		u, err := r.unit(ctx, a.Unit)
		if err != nil {
			return sight{}, err
		}
		gone := u.Stopped()
		s := sight{ok: gone, seen: []Sighting{{What: a.Unit, Is: u.String(), OK: gone}}}
		switch {
		case a.Role == RoleEtcd && gone:
			s.etcd = EtcdStopped
		case a.Role == RoleAPI && !gone && r.world.API(ctx, r.pace.readyz).Code == http.StatusOK:
			r.apiStillAnswers()
		}
		if u.Active == "active" && !u.Job {
			return s, stuck("find out who did (another person, a timer, a configuration manager), then retry", "somebody else started %s while this run needs it stopped", a.Unit)
		}
		return s, nil
	}, func(sight) error {
		t := stuck("systemctl status "+a.Unit+" shows what still runs", "%s has not stopped", a.Unit)
		t.log, t.logPath = r.unitLog(a.Unit, 12)
		return t
	})
}

func (a *WaitUnitStopped) places(v *vetter) {
	v.unit(a.Unit)
	v.role(a.Role)
}

func (*WaitUnitStopped) undo() []Action { return nil }

// StartUnit has systemd start a service, and doesn't wait for it: one of
// Type=notify that needs a quorum is started when the others are.
type StartUnit struct {
	Unit string `json:"unit"`
	Role Role   `json:"role"`
	// StopLimit is how long systemd lets it take to stop again.
	StopLimit time.Duration `json:"stop_limit,omitempty"`
}

func (*StartUnit) Kind() string { return "start-unit" }

func (a *StartUnit) Title() string { return "Start " + a.Unit }

func (a *StartUnit) Commands() []string {
	return []string{trust.Shell("systemctl start --no-block %s", a.Unit)}
}

func (a *StartUnit) do(ctx context.Context, r *run) (State, error) {
	u, err := r.unit(ctx, a.Unit)
	if err != nil {
		return Failed, err
	}
	if !u.Stopped() && u.Active != "deactivating" {
		return Already, nil
	}
	if a.Role == RoleEtcd && r.plan.target != nil {
		// As in [PutIn]: minutes may have gone by since it was proven.
		if err := r.plan.proven(context.WithoutCancel(ctx)); err != nil {
			return Failed, err
		}
	}
	return Done, r.startUnit(ctx, u)
}

// startUnit starts a service, also one that systemd has given up, or would give up
// for the starts of this run and of an undo.
func (r *run) startUnit(ctx context.Context, u *node.Unit) error {
	few := fewStarts(u)
	if few {
		r.say("%s may be started %d times in %s: systemd counts from here (systemctl reset-failed)", u.Name, u.StartBurst, u.StartInterval)
	}
	if few || u.Active == "failed" {
		// One that isn't enabled is forgotten when it has stopped, and its starts
		// with it: there is nothing to reset.
		if err := r.world.ResetUnit(ctx, u.Name); err != nil && u.Active != "inactive" {
			return err
		}
	}
	if err := r.world.StartUnit(ctx, u.Name); err != nil {
		return stuck("systemctl status "+u.Name, "systemd doesn't start %s: %w", u.Name, err)
	}
	return nil
}

// fewStarts says of a service that systemd lets it be started less often than a run,
// its undo and a redo may come to within minutes. systemd's default is five times in
// ten seconds.
func fewStarts(u *node.Unit) bool {
	return u.StartBurst > 0 && u.StartInterval > 0 && (u.StartBurst < 3 || u.StartInterval >= time.Minute)
}

func (a *StartUnit) starts() program { return program{a.Role, a.Unit} }

func (a *StartUnit) again(*again) (returning, error) { return unitAgain{a}, nil }

func (a *StartUnit) places(v *vetter) {
	v.unit(a.Unit)
	v.role(a.Role)
}

func (a *StartUnit) undo() []Action {
	return []Action{&StopUnit{Unit: a.Unit, Role: a.Role, Now: a.Role == RoleAPI}, &WaitUnitStopped{Unit: a.Unit, Role: a.Role, Limit: a.StopLimit}}
}

// WaitUnitUp waits until a service is active, for one whose readiness nobody
// asks.
type WaitUnitUp struct {
	Unit string `json:"unit"`
}

func (*WaitUnitUp) Kind() string { return "wait-unit-up" }

func (a *WaitUnitUp) Title() string { return "Wait until " + a.Unit + " is active" }

func (a *WaitUnitUp) Commands() []string {
	return []string{trust.Shell("until systemctl is-active -q %s; do sleep 0.1; done", a.Unit)}
}

func (*WaitUnitUp) limit(p pace) time.Duration { return p.started }

func (a *WaitUnitUp) do(ctx context.Context, r *run) (State, error) {
	w := r.watch(processRef{unit: a.Unit}, 3, r.pace.started)
	if err := w.retry(ctx); err != nil {
		return Failed, err
	}
	return r.poll(ctx, a.limit(r.pace), r.pace.lookUnit, func(ctx context.Context) (sight, error) {
		s := sight{seen: []Sighting{{What: a.Unit, Is: "not asked yet"}}}
		up, err := w.look(ctx, "", &s)
		s.ok = up
		return s, err
	}, func(sight) error { return w.late(a.Unit + " has not become active") })
}

func (a *WaitUnitUp) places(v *vetter) { v.unit(a.Unit) }

func (*WaitUnitUp) undo() []Action { return nil }

// unit asks for a service, and notes what that costs. One that systemd doesn't
// know is an error.
func (r *run) unit(ctx context.Context, name string) (*node.Unit, error) {
	begun := time.Now()
	defer func() { r.cost += time.Since(begun) }()
	u, err := r.world.Unit(ctx, name)
	if err == nil && u.Load != "loaded" {
		err = stuck("systemctl status "+name, "systemd has no unit %s that can be started: %s", name, u.Load)
	}
	return u, err
}

func (r *run) unitLog(name string, lines int) (log []string, from string) {
	return lastWords(r.world.UnitLog(name, 200), lines), node.UnitLogCommand(name)
}

// unit is a service that is stopped and started.
func (v *vetter) unit(names ...string) {
	for _, name := range names {
		if !node.UnitName(name) {
			v.refuse("the unit", name)
		}
	}
}

func (v *vetter) role(role Role) {
	if !slices.Contains(Roles, role) {
		v.refuse("the role", fmt.Sprint(role))
	}
}
