package steps

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"etcd-rewind/node"
	"etcd-rewind/problem"
	"etcd-rewind/snapshot"
)

// deadWorld is a node on which whatever is asked never answers, and doesn't
// care for contexts: a disk, a driver, a socket that takes and says nothing.
// What of it lives is answered by the node behind it.
type deadWorld struct {
	world
	dead func(method string) bool
	ever chan struct{} // never closed while the test looks
}

func (d *deadWorld) hang(method string) {
	if d.dead == nil || d.dead(method) {
		<-d.ever
		runtime.Goexit()
	}
}

func (d *deadWorld) Pod(ctx context.Context, pod string) ([]node.Sandbox, error) {
	d.hang("Pod")
	return d.world.Pod(ctx, pod)
}

func (d *deadWorld) Pods(ctx context.Context) ([]node.Sandbox, error) {
	d.hang("Pods")
	return d.world.Pods(ctx)
}

func (d *deadWorld) CPU(ctx context.Context, container string) (time.Duration, error) {
	d.hang("CPU")
	return d.world.CPU(ctx, container)
}

func (d *deadWorld) StopSandbox(ctx context.Context, id string) error {
	d.hang("StopSandbox")
	return d.world.StopSandbox(ctx, id)
}

func (d *deadWorld) RemoveSandbox(ctx context.Context, id string) error {
	d.hang("RemoveSandbox")
	return d.world.RemoveSandbox(ctx, id)
}

func (d *deadWorld) Remains(uid string) node.Remains {
	d.hang("Remains")
	return d.world.Remains(uid)
}

func (d *deadWorld) PodsBegun() (map[string]bool, error) {
	d.hang("PodsBegun")
	return d.world.PodsBegun()
}

func (d *deadWorld) Changed() <-chan struct{} {
	d.hang("Changed")
	return d.world.Changed()
}

func (d *deadWorld) KubeletRestarted() bool {
	d.hang("KubeletRestarted")
	return d.world.KubeletRestarted()
}

func (d *deadWorld) KubeletHealthy(ctx context.Context) error {
	d.hang("KubeletHealthy")
	return d.world.KubeletHealthy(ctx)
}

func (d *deadWorld) Relists(ctx context.Context) (int, error) {
	d.hang("Relists")
	return d.world.Relists(ctx)
}

func (d *deadWorld) API(ctx context.Context, timeout time.Duration) node.APIAnswer {
	d.hang("API")
	return d.world.API(ctx, timeout)
}

func (d *deadWorld) EtcdCluster(ctx context.Context) uint64 {
	d.hang("EtcdCluster")
	return d.world.EtcdCluster(ctx)
}

func (d *deadWorld) EtcdReady(ctx context.Context) (string, error) {
	d.hang("EtcdReady")
	return d.world.EtcdReady(ctx)
}

func (d *deadWorld) Etcd(ctx context.Context, countKeys bool) (*node.EtcdStatus, error) {
	d.hang("Etcd")
	return d.world.Etcd(ctx, countKeys)
}

func (d *deadWorld) Objects(ctx context.Context, resource string) ([]node.Object, error) {
	d.hang("Objects")
	return d.world.Objects(ctx, resource)
}

func (d *deadWorld) KubeadmConfig(ctx context.Context) (*node.ConfigMap, error) {
	d.hang("KubeadmConfig")
	return d.world.KubeadmConfig(ctx)
}

func (d *deadWorld) SetKubeadmConfig(ctx context.Context, read *node.ConfigMap, text string) error {
	d.hang("SetKubeadmConfig")
	return d.world.SetKubeadmConfig(ctx, read, text)
}

func (d *deadWorld) Remote(ctx context.Context, n node.RemoteConfig) node.RemoteState {
	d.hang("Remote")
	return d.world.Remote(ctx, n)
}

func (d *deadWorld) Shell(ctx context.Context, command string) error {
	d.hang("Shell")
	return d.world.Shell(ctx, command)
}

func (d *deadWorld) LogTail(pod, uid, container string, lines int) ([]string, string) {
	d.hang("LogTail")
	return d.world.LogTail(pod, uid, container, lines)
}

func (d *deadWorld) Unit(ctx context.Context, name string) (*node.Unit, error) {
	d.hang("Unit")
	return d.world.Unit(ctx, name)
}

func (d *deadWorld) KillUnit(ctx context.Context, name string) error {
	d.hang("KillUnit")
	return d.world.KillUnit(ctx, name)
}

func (d *deadWorld) StopUnit(ctx context.Context, name string) error {
	d.hang("StopUnit")
	return d.world.StopUnit(ctx, name)
}

func (d *deadWorld) StartUnit(ctx context.Context, name string) error {
	d.hang("StartUnit")
	return d.world.StartUnit(ctx, name)
}

func (d *deadWorld) ResetUnit(ctx context.Context, name string) error {
	d.hang("ResetUnit")
	return d.world.ResetUnit(ctx, name)
}

func (d *deadWorld) ReloadUnits(ctx context.Context) error {
	d.hang("ReloadUnits")
	return d.world.ReloadUnits(ctx)
}

func (d *deadWorld) UnitLog(name string, lines int) []string {
	d.hang("UnitLog")
	return d.world.UnitLog(name, lines)
}

func (d *deadWorld) Save(ctx context.Context, req snapshot.SaveRequest) (*snapshot.Info, error) {
	d.hang("Save")
	return d.world.Save(ctx, req)
}

func (d *deadWorld) ReadData(ctx context.Context, dir string) (*snapshot.Restored, error) {
	d.hang("ReadData")
	return d.world.ReadData(ctx, dir)
}

func (d *deadWorld) Restore(ctx context.Context, req snapshot.RestoreRequest, from *snapshot.Staged, progress func(snapshot.Progress)) (*snapshot.Restored, error) {
	d.hang("Restore")
	return d.world.Restore(ctx, req, from, progress)
}

func newDeadWorld(t *testing.T, of world, dead func(method string) bool) *deadWorld {
	d := &deadWorld{world: of, dead: dead, ever: make(chan struct{})}
	t.Cleanup(func() { close(d.ever) })
	return d
}

// quickLimits are short enough to be waited for.
var quickLimits = limits{
	look: 300 * time.Millisecond, act: 300 * time.Millisecond, save: 300 * time.Millisecond, stage: 300 * time.Millisecond, files: 300 * time.Millisecond,
	grace: 50 * time.Millisecond,
}

// Whatever hangs on the node, and whatever method is new: the call comes back,
// after its limit or once the run is stopped.
func TestEveryCallToTheNodeComesBack(t *testing.T) {
	methods := reflect.TypeFor[world]()
	for i := range methods.NumMethod() {
		name := methods.Method(i).Name
		call := func(t *testing.T, d *deadlined, ctx context.Context) []reflect.Value {
			m := reflect.ValueOf(world(d)).MethodByName(name)
			var args []reflect.Value
			for i := range m.Type().NumIn() {
				arg := reflect.Zero(m.Type().In(i))
				switch m.Type().In(i) {
				case reflect.TypeFor[context.Context]():
					arg = reflect.ValueOf(ctx)
				case reflect.TypeFor[time.Duration]():
					arg = reflect.ValueOf(100 * time.Millisecond)
				}
				args = append(args, arg)
			}
			back := make(chan []reflect.Value, 1)
			go func() { back <- m.Call(args) }()
			select {
			case out := <-back:
				return out
			case <-time.After(20 * time.Second):
				t.Fatalf("%s hangs", name)
				return nil
			}
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dead := newDeadWorld(t, nil, nil)
			out := call(t, &deadlined{world: dead, limits: quickLimits}, t.Context())
			if err, ok := out[len(out)-1].Interface().(error); ok && !strings.Contains(err.Error(), "has not answered for") {
				t.Errorf("after its limit: %v", err)
			}
			patient := limits{look: time.Hour, act: time.Hour, save: time.Hour, stage: time.Hour, files: time.Hour}
			stop := make(chan struct{})
			close(stop)
			out = call(t, &deadlined{world: dead, limits: patient, stop: stop}, context.Background())
			if err, ok := out[len(out)-1].Interface().(error); ok && !errors.Is(err, errStopped) {
				t.Errorf("the run is stopped: %v", err)
			}
		})
	}
}

// A container runtime that takes questions and never answers: the wait says
// the screen so, and its limit ends it.
func TestAWaitEndsWhoeverHangs(t *testing.T) {
	n := newFakeNode(t)
	var dead atomic.Bool
	asked := ""
	e, events := n.engine(func(f Failure) Choice {
		asked = f.Action + ": " + f.Cause
		return Leave
	})
	e.limits = &limits{look: 1300 * time.Millisecond, act: time.Second, save: time.Minute, stage: time.Minute, files: time.Minute, grace: time.Second}
	e.pace.gone, e.pace.stopping = 3*time.Second, 3*time.Second
	e.world = newDeadWorld(t, n, func(method string) bool { return dead.Load() && method == "Pod" })
	sink := e.Sink
	e.Sink = func(ev Event) {
		if ev.Type == TypeAction && ev.State == Started && strings.HasPrefix(ev.Message, "Wait until kubelet stops") {
			dead.Store(true)
		}
		sink(ev)
	}
	begun := time.Now()
	res := e.Run(t.Context(), n.plan(Choices{}))
	if res.ExitCode() != 3 || !strings.Contains(asked, "stop") {
		t.Errorf("status %d, asked: %q", res.ExitCode(), asked)
	}
	if took := time.Since(begun); took > 40*time.Second {
		t.Errorf("it took %s", took)
	}
	if !slices.ContainsFunc(*events, func(ev Event) bool {
		return ev.State == Waiting && len(ev.Seen) > 0 && ev.Seen[0].What == theRuntime && strings.HasPrefix(ev.Seen[0].Is, "has not answered for") && ev.Limit == 3
	}) {
		t.Error("nothing says what is waited for")
	}
}

// Ctrl-C while any method hangs, in the action that needs it: the run stops, and
// says how to continue. Its journal can be resumed.
func TestARunThatHangsCanBeStopped(t *testing.T) {
	for _, method := range []string{"Save", "Restore", "Pod", "StopSandbox", "API", "Remains", "EtcdCluster", "Objects", "Changed", "PodsBegun"} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			n := newFakeNode(t)
			n.grace = time.Minute // kubelet ends nothing before it is told over CRI
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			e, _ := n.engine(nil)
			e.limits = &limits{look: time.Hour, act: time.Hour, save: time.Hour, stage: time.Hour, files: time.Hour, grace: 100 * time.Millisecond}
			e.pace.stopping, e.pace.gone, e.pace.started, e.pace.etcd, e.pace.api, e.pace.verify = time.Hour, time.Hour, time.Hour, time.Hour, time.Hour, time.Hour
			hangs := make(chan struct{}, 1)
			dead := true
			e.world = newDeadWorld(t, n, func(m string) bool {
				if m != method || !dead {
					return false
				}
				select {
				case hangs <- struct{}{}:
				default:
				}
				return true
			})
			go func() {
				<-hangs
				stop()
			}()
			done := make(chan *Result, 1)
			plan := n.plan(Choices{})
			go func() { done <- e.Run(ctx, plan) }()
			var res *Result
			select {
			case res = <-done:
				if res.Error == nil || res.Error.Cause != "you stopped the run" || res.Error.Hint == "" {
					t.Errorf("%+v", res.Error)
				}
			case <-time.After(30 * time.Second):
				t.Fatal("it keeps hanging")
			}
			if res.Reverted {
				return // before anything was touched
			}
			resume, err := NewResume(filepath.Dir(plan.RunDir), plan.Run, Terms{})
			if err != nil {
				t.Fatal(err)
			}
			again, _ := n.engine(nil)
			if res = again.Run(t.Context(), resume); !res.OK {
				t.Errorf("resumed: %+v", res.Error)
			}
		})
	}
}

// sickEtcd is a node whose etcd sends no snapshot of itself.
type sickEtcd struct{ *fakeNode }

func (*sickEtcd) Save(_ context.Context, req snapshot.SaveRequest) (*snapshot.Info, error) {
	req.Progress(snapshot.Progress{Phase: "save", Done: 4096, Total: 1 << 20})
	return nil, &problem.Problem{Code: snapshot.CodeStalled, Cause: "etcd has sent nothing for 20 s", Hint: "look at its disk"}
}

// The sick disk is when one restores: a safety snapshot that can't be had holds
// nothing up. That there is none is said while it runs, and at the end.
func TestARestoreGoesOnWithoutItsSafetySnapshot(t *testing.T) {
	for name, spoil := range map[string]func(*testing.T, *fakeNode) world{
		"etcd stops sending": func(_ *testing.T, n *fakeNode) world { return &sickEtcd{n} },
		"the disk takes it and never syncs": func(t *testing.T, n *fakeNode) world {
			return newDeadWorld(t, n, func(method string) bool { return method == "Save" })
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newFakeNode(t)
			e, events := n.engine(nil)
			patient := realLimits
			patient.save = 300 * time.Millisecond
			e.limits = &patient
			unhurried := fakePace
			unhurried.save = time.Minute // the silence is to be seen first
			e.pace = &unhurried
			e.world = spoil(t, n)
			res := e.Run(t.Context(), n.plan(Choices{}))
			if !res.OK {
				t.Fatalf("%+v", res.Error)
			}
			said := slices.ContainsFunc(*events, func(ev Event) bool { return strings.HasPrefix(ev.Message, "not saved: etcd has") })
			summed := slices.ContainsFunc(res.Summary, func(f Fact) bool {
				return f.Name == "state left behind" && strings.Contains(f.Value, "no snapshot of it: etcd has") && strings.Contains(f.Value, "old data directory")
			})
			report, err := os.ReadFile(res.Report)
			if err != nil {
				t.Fatal(err)
			}
			if !said || !summed || !strings.Contains(string(report), "no snapshot of it: etcd has") {
				t.Errorf("said %t, summary %+v, report:\n%s", said, res.Summary, report)
			}
		})
	}
}

// Discovery reads files of disks that may be gone. Here the read never ends: the
// file is a pipe that nobody writes to.
func TestDiscoveryComesBackFromADiskThatHangs(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "config.yaml")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // ends the read that was left alone
		if f, err := os.OpenFile(pipe, os.O_RDWR, 0); err == nil {
			_ = f.Close()
		}
	})
	opts := Options{Options: node.Options{KubeletConfig: pipe, NoProcess: true}}
	_, err := discovered(t.Context(), 200*time.Millisecond, func(ctx context.Context) (*Facts, error) { return discover(ctx, opts) })
	cause, hint := problem.Explain(err)
	if !strings.Contains(cause, "a disk or a process hangs") || hint == "" {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := discovered(ctx, time.Hour, func(ctx context.Context) (*Facts, error) { return discover(ctx, opts) }); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}

// A check that hangs is a failed check, which can be overridden by name; the
// others are made all the same.
func TestACheckThatHangsHoldsUpNoOther(t *testing.T) {
	n := newFakeNode(t)
	k := &checks{ctx: t.Context(), f: n.facts()}
	ever := make(chan struct{})
	defer close(ever)
	hung := check{name: "hung", run: func(k *checks) Verdict { <-ever; k.locked = true; return none }}
	if v := k.comesBack(hung, 100*time.Millisecond); v.Level != Error || !v.Overridable || !strings.Contains(v.Cause, "has not answered") {
		t.Errorf("%+v", v)
	}
	fine := check{name: "fine", run: func(k *checks) Verdict { k.locked = true; return ok("fine") }}
	if v := k.comesBack(fine, time.Minute); v.Level != Pass || !k.locked {
		t.Errorf("%+v, locked %t", v, k.locked)
	}
}
