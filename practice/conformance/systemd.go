package conformance

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"testing"
	"time"

	"etcd-rewind/node"
)

// Systemd is the one that is looked at: what the engine asks it and tells it, and
// the files of its services.
type Systemd interface {
	Unit(ctx context.Context, name string) (*node.Unit, error)
	StartUnit(ctx context.Context, name string) error
	StopUnit(ctx context.Context, name string) error
	KillUnit(ctx context.Context, name string) error
	ResetUnit(ctx context.Context, name string) error
	ReloadUnits(ctx context.Context) error
	// Put writes a service's file, also over an old one, and Remove removes it.
	// Neither reloads.
	Put(name string, s Service) error
	Remove(name string) error
}

// Service is one of Type=notify, as etcd's is.
type Service struct {
	Program Program
	// Restart is Restart=always after RestartWait; else it is "no".
	Restart      bool
	RestartWait  time.Duration
	TimeoutStart time.Duration // 0 is without limit
	StartBurst   int           // within an hour; 0 is without limit
	// Loose says that nothing refers to it: it isn't enabled.
	Loose bool
}

// Program is what a service runs.
type Program int

const (
	Serves  Program = iota // says at once that it does
	Waits                  // never says that it serves, as an etcd without a quorum
	Ends                   // at once, with exit status 1
	Lingers                // serves, and takes LingersFor to stop
)

// LingersFor is how long such a program takes to stop: longer than a question to a
// systemd takes on a busy machine, or nobody sees that it is deactivating.
const LingersFor = 12 * time.Second

// Text is the service's file.
func (s Service) Text() string {
	const script = "/bin/sh -c '%s'"
	run := map[Program]string{
		Serves: "systemd-notify --ready; exec sleep infinity", Waits: "exec sleep infinity", Ends: "exit 1",
		Lingers: fmt.Sprintf(`trap "sleep %.0f; exit 0" TERM; systemd-notify --ready; while :; do sleep 0.1; done`, LingersFor.Seconds()),
	}[s.Program]
	ms := func(d time.Duration) string {
		if d == 0 {
			return "infinity"
		}
		return fmt.Sprintf("%dms", d.Milliseconds())
	}
	restart := "Restart=no"
	if s.Restart {
		restart = "Restart=always\nRestartSec=" + ms(s.RestartWait)
	}
	return fmt.Sprintf("[Unit]\nStartLimitIntervalSec=1h\nStartLimitBurst=%d\n\n[Service]\nType=notify\nNotifyAccess=all\nKillMode=mixed\nExecStart="+script+"\n%s\nTimeoutStartSec=%s\n\n[Install]\nWantedBy=multi-user.target\n",
		s.StartBurst, run, restart, ms(s.TimeoutStart))
}

// SystemdRule is one of the rules that the engine stands on.
type SystemdRule struct {
	Name  string
	unit  string
	alone bool // a reload of another's would be seen: systemd 252 forgets then how often it has started units, or counts a restart twice
	run   func(u *service)
}

// Run looks whether a systemd keeps the rule, on a service of its own.
func (r SystemdRule) Run(t *testing.T, s Systemd) {
	u := &service{t: t, s: s, name: "conformance-" + r.unit + ".service"}
	t.Cleanup(u.remove)
	r.run(u)
}

// RunSystemd runs the rules, most of them at the same time.
func RunSystemd(t *testing.T, s Systemd) {
	var rules []rule
	for _, r := range SystemdRules {
		rules = append(rules, rule{r.Name, r.alone, func(t *testing.T) { r.Run(t, s) }})
	}
	runRules(t, rules)
}

// SystemdRules are those that no part of the engine may stand on the opposite of.
var SystemdRules = []SystemdRule{
	{Name: "one that is told to stop isn't started by Restart=", unit: "stop", run: func(u *service) {
		u.up(Service{Restart: true, RestartWait: 100 * time.Millisecond})
		u.do(u.s.StopUnit)
		u.until("to be inactive", func(is *node.Unit) bool { return is.Active == "inactive" && is.Stopped() })
		u.stays(500*time.Millisecond, (*node.Unit).Stopped)
	}},
	{Name: "nor one that waits for its restart", unit: "stop-waiting", run: func(u *service) {
		u.put(Service{Program: Ends, Restart: true, RestartWait: time.Minute})
		u.do(u.s.StartUnit)
		waits := u.until("to wait for its restart", restarts)
		if waits.Stopped() || waits.PID != 0 || waits.Result != "exit-code" {
			u.t.Errorf("it waits as %+v", waits)
		}
		u.do(u.s.StopUnit)
		u.until("to be inactive", func(is *node.Unit) bool { return is.Active == "inactive" && is.Stopped() })
	}},
	{Name: "a start doesn't wait, and is activating until the program says that it serves", unit: "notify", run: func(u *service) {
		u.put(Service{Program: Waits})
		u.do(u.s.StartUnit)
		u.until("to be activating", starts)
		u.stays(300*time.Millisecond, starts)
		u.do(u.s.StopUnit)
		u.until("to be stopped", (*node.Unit).Stopped)
		u.up(Service{})
	}},
	{Name: "one that takes its time to stop is deactivating", unit: "deactivating", run: func(u *service) {
		u.up(Service{Program: Lingers, Restart: true})
		u.do(u.s.StopUnit)
		if is := u.until("to be deactivating", stops); is.Stopped() {
			u.t.Errorf("it is stopped already: %+v", is)
		}
		if is := u.until("to be stopped", (*node.Unit).Stopped); is.Active != "inactive" || is.Result != "success" {
			u.t.Errorf("it has stopped as %+v", is)
		}
	}},
	{Name: "one that is killed is started by Restart=, and that is counted", unit: "killed", alone: true, run: func(u *service) {
		first := u.up(Service{Restart: true, RestartWait: 2 * time.Second})
		u.do(u.s.KillUnit)
		u.until("to wait for its restart", func(is *node.Unit) bool { return restarts(is) && is.Result == "signal" })
		again := u.until("to be active", active)
		if again.Restarts != first.Restarts+1 || again.Invocation == first.Invocation || again.PID == first.PID {
			u.t.Errorf("it was %+v, and is %+v", first, again)
		}
	}},
	{Name: "but not while it is stopped", unit: "killed-stopping", run: func(u *service) {
		u.up(Service{Program: Lingers, Restart: true, RestartWait: 100 * time.Millisecond})
		u.do(u.s.StopUnit)
		u.until("to be deactivating", stops)
		u.do(u.s.KillUnit)
		if is := u.until("to be stopped", (*node.Unit).Stopped); is.Active != "failed" || is.Result != "signal" {
			u.t.Errorf("it has stopped as %+v", is)
		}
		u.stays(500*time.Millisecond, (*node.Unit).Stopped)
	}},
	{Name: "one that ends is failed without Restart=, and may be started", unit: "failed", run: func(u *service) {
		u.put(Service{Program: Ends})
		u.do(u.s.StartUnit)
		first := u.until("to be failed", failed)
		if first.Result != "exit-code" || first.PID != 0 {
			u.t.Errorf("it has failed as %+v", first)
		}
		u.do(u.s.StartUnit)
		u.until("to fail again", func(is *node.Unit) bool { return failed(is) && is.Invocation != first.Invocation })
	}},
	{Name: "restarts are given up after StartLimitBurst=, until that is reset", unit: "burst", alone: true, run: func(u *service) {
		u.put(Service{Program: Ends, Restart: true, RestartWait: 100 * time.Millisecond, StartBurst: 3})
		u.do(u.s.StartUnit)
		// Result says how it ended before it was given up.
		if is := u.until("to be failed", failed); is.Restarts != 3 || is.Result != "exit-code" {
			u.t.Errorf("it was given up as %+v", is)
		}
		// systemctl start --no-block has nothing to say of it.
		u.do(u.s.StartUnit)
		u.stays(500*time.Millisecond, func(is *node.Unit) bool { return is.Active == "failed" })
		u.do(u.s.ResetUnit)
		if is := u.until("to be inactive", (*node.Unit).Stopped); is.Active != "inactive" || is.Restarts != 0 {
			u.t.Errorf("reset, it is %+v", is)
		}
		u.do(u.s.StartUnit)
		u.until("to be given up again", func(is *node.Unit) bool { return failed(is) && is.Restarts == 3 })
	}},
	{Name: "starts that somebody has asked for count for StartLimitBurst=", unit: "often", alone: true, run: func(u *service) {
		u.put(Service{StartBurst: 2})
		for range 2 {
			u.do(u.s.StartUnit)
			u.until("to be active", active)
			u.do(u.s.StopUnit)
			u.until("to be stopped", (*node.Unit).Stopped)
		}
		u.do(u.s.StartUnit)
		if is := u.until("to be failed", failed); is.Result != "start-limit-hit" {
			u.t.Errorf("it has failed as %+v", is)
		}
		u.do(u.s.ResetUnit)
		u.do(u.s.StartUnit)
		u.until("to be active", active)
	}},
	{Name: "a start while it is deactivating comes when it has stopped", unit: "start-stopping", run: func(u *service) {
		first := u.up(Service{Program: Lingers})
		u.do(u.s.StopUnit)
		u.until("to be deactivating", stops)
		u.do(u.s.StartUnit)
		if is := u.is(); !stops(is) || is.PID != first.PID || !is.Job {
			u.t.Errorf("the start has come too early, or never will: %+v", is)
		}
		again := u.until("to be active", func(is *node.Unit) bool {
			if is.Stopped() {
				u.t.Errorf("it counts as stopped: %+v", is)
			}
			return active(is)
		})
		if again.Invocation == first.Invocation || again.Restarts != 0 {
			u.t.Errorf("it was %+v, and is %+v", first, again)
		}
	}},
	{Name: "one that doesn't serve in time is stopped, and started over by Restart=", unit: "timeout", run: func(u *service) {
		u.put(Service{Program: Waits, Restart: true, RestartWait: time.Second, TimeoutStart: time.Second})
		u.do(u.s.StartUnit)
		first := u.until("to be activating", starts)
		if is := u.until("to wait for its restart", restarts); is.Result != "timeout" {
			u.t.Errorf("it has ended as %+v", is)
		}
		// It goes round every two seconds; who asks slowly doesn't see each round.
		again := func(is *node.Unit) bool { return starts(is) && is.Restarts > first.Restarts }
		if is := u.until("to be activating again, and counted", again); is.Invocation == first.Invocation {
			u.t.Errorf("it is started over as %+v", is)
		}
	}},
	{Name: "each start has an ID of its own, and a start of what runs is none", unit: "invocation", run: func(u *service) {
		first := u.up(Service{})
		u.do(u.s.StartUnit)
		u.stays(300*time.Millisecond, func(is *node.Unit) bool {
			return active(is) && is.Invocation == first.Invocation && is.PID == first.PID
		})
		u.do(u.s.StopUnit)
		if is := u.until("to be stopped", (*node.Unit).Stopped); is.Invocation != first.Invocation {
			u.t.Errorf("stopped, it is of %s, and was of %s", is.Invocation, first.Invocation)
		}
		u.do(u.s.StopUnit) // once more is no error
		u.do(u.s.StartUnit)
		if is := u.until("to be active", active); is.Invocation == first.Invocation || is.Invocation == "" {
			u.t.Errorf("started again, it is of %q", is.Invocation)
		}
	}},
	{Name: "one that nothing refers to is forgotten when it has stopped, and its starts with it", unit: "loose", run: func(u *service) {
		u.up(Service{Loose: true, StartBurst: 2})
		for range 2 {
			u.do(u.s.StopUnit)
			if is := u.until("to be stopped", (*node.Unit).Stopped); is.Load != "loaded" {
				u.t.Errorf("stopped, it is %+v", is)
			}
			u.until("to be forgotten", func(is *node.Unit) bool { return is.Invocation == "" })
			if err := u.s.ResetUnit(u.t.Context(), u.name); err == nil || !strings.Contains(err.Error(), "not loaded") {
				u.t.Errorf("there was something to reset: %v", err)
			}
			if err := u.s.KillUnit(u.t.Context(), u.name); err == nil || !strings.Contains(err.Error(), "not loaded") {
				u.t.Errorf("there was something to kill: %v", err)
			}
			u.do(u.s.StopUnit)
			u.do(u.s.StartUnit)
			u.until("to be active", active)
		}
	}},
	{Name: "a changed file is seen, and holds after a reload, which stops nothing", unit: "reload", alone: true, run: func(u *service) {
		first := u.up(Service{TimeoutStart: time.Minute})
		if first.NeedReload || first.TimeoutStart != time.Minute || first.FileState != "enabled" && first.FileState != "enabled-runtime" || path.Base(first.Fragment) != u.name {
			u.t.Errorf("before, it is %+v", first)
		}
		u.must(u.s.Put(u.name, Service{TimeoutStart: 2 * time.Minute}))
		if is := u.is(); !is.NeedReload || is.TimeoutStart != time.Minute {
			u.t.Errorf("changed, it is %+v", is)
		}
		u.do(func(ctx context.Context, _ string) error { return u.s.ReloadUnits(ctx) })
		if is := u.is(); is.NeedReload || is.TimeoutStart != 2*time.Minute || is.Invocation != first.Invocation || is.PID != first.PID || !active(is) {
			u.t.Errorf("reloaded, it was %+v, and is %+v", first, is)
		}
	}},
}

func active(is *node.Unit) bool { return is.Active == "active" && is.Sub == "running" && is.PID != 0 }

func starts(is *node.Unit) bool   { return is.Active == "activating" && is.Sub == "start" && is.PID != 0 }
func restarts(is *node.Unit) bool { return is.Active == "activating" && is.Sub == "auto-restart" }
func stops(is *node.Unit) bool    { return is.Active == "deactivating" && is.PID != 0 }
func failed(is *node.Unit) bool   { return is.Active == "failed" && !is.Job }

// service is that of one rule.
type service struct {
	t    *testing.T
	s    Systemd
	name string
}

func (u *service) must(err error) {
	u.t.Helper()
	if err != nil {
		u.t.Fatal(err)
	}
}

func (u *service) do(tell func(ctx context.Context, name string) error) {
	u.t.Helper()
	u.must(tell(u.t.Context(), u.name))
}

func (u *service) put(s Service) {
	u.t.Helper()
	u.must(u.s.Put(u.name, s))
	u.must(u.s.ReloadUnits(u.t.Context()))
}

// up is the service when it runs, with that file.
func (u *service) up(s Service) *node.Unit {
	u.t.Helper()
	u.put(s)
	u.do(u.s.StartUnit)
	return u.until("to be active", active)
}

func (u *service) is() *node.Unit {
	u.t.Helper()
	is, err := u.s.Unit(u.t.Context(), u.name)
	u.must(err)
	return is
}

// unitLimit is more than any of it takes on a busy machine.
const unitLimit = time.Minute

func (u *service) until(what string, ok func(*node.Unit) bool) *node.Unit {
	u.t.Helper()
	for begun := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		is := u.is()
		if ok(is) {
			return is
		}
		if time.Since(begun) > unitLimit {
			u.t.Fatalf("%s was %s, and is %+v", u.name, what, is)
		}
	}
}

// stays looks for a while that nothing changes.
func (u *service) stays(d time.Duration, ok func(*node.Unit) bool) {
	u.t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if is := u.is(); !ok(is) {
			u.t.Fatalf("%s didn't stay: %+v", u.name, is)
		}
	}
}

// remove leaves nothing of it behind.
func (u *service) remove() {
	ctx, cancel := context.WithTimeout(context.Background(), unitLimit)
	defer cancel()
	_ = u.s.StopUnit(ctx, u.name)
	_ = u.s.KillUnit(ctx, u.name)
	for begun := time.Now(); time.Since(begun) < unitLimit; time.Sleep(20 * time.Millisecond) {
		if is, err := u.s.Unit(ctx, u.name); err != nil || is.Stopped() {
			break
		}
	}
	_ = u.s.ResetUnit(ctx, u.name)
	if err := errors.Join(u.s.Remove(u.name), u.s.ReloadUnits(ctx)); err != nil {
		u.t.Error(err)
	}
}
