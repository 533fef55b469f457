package steps

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"etcd-rewind/defect"
	"etcd-rewind/node"
	"etcd-rewind/snapshot"
)

// noAnswer is a call that was given up.
type noAnswer struct {
	who    string
	waited time.Duration
}

func (e *noAnswer) Error() string { return e.who + " has not answered for " + seconds(e.waited) }

func (e *noAnswer) Unwrap() error { return context.DeadlineExceeded }

// bound is how long a call to something that isn't this program may take.
type bound struct {
	who   string        // for people
	limit time.Duration // since the last sign of life; then the call is given up
	// stop ends the call; what can't be ended in the middle has grace to finish.
	stop  <-chan struct{}
	grace time.Duration
	// slow gets once a second how long there was no answer; may be nil.
	slow func(waited time.Duration)
}

// settle is how long a call may take to notice that it is over, and to clear up.
const settle = 200 * time.Millisecond

// bounded makes a call that ends, whatever the one who is called does: after
// its limit, with ctx, or when it is stopped (errStopped), it is left alone in
// its goroutine and its answer is dropped. alive, which the call gets, is a sign
// of life: the limit starts again, and what it is given is done in the caller's
// goroutine, and never after bounded has returned.
func bounded[T any](ctx context.Context, b bound, call func(ctx context.Context, alive func(func())) (T, error)) (T, error) {
	type answer struct {
		value T
		err   error
		crash any
	}
	within, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan answer, 1)
	signs := make(chan func())
	go defect.Do(func() {
		var a answer
		defer func() {
			if v := recover(); v != nil {
				a.crash = fmt.Sprintf("%v\n%s", v, debug.Stack())
			}
			done <- a
		}()
		a.value, a.err = call(within, func(do func()) {
			select {
			case signs <- do:
			case <-within.Done():
			}
		})
	})()

	last := time.Now()
	limit := time.NewTimer(b.limit)
	defer limit.Stop()
	second := time.NewTimer(time.Second)
	defer second.Stop()
	var over <-chan time.Time // the call was asked to end
	var why error
	var grace <-chan time.Time
	end := func(err error) {
		if why == nil {
			cancel()
			why, over = err, time.After(settle)
		}
	}
	ended, stop := ctx.Done(), b.stop
	for {
		select {
		case a := <-done:
			if a.crash != nil {
				panic(a.crash)
			}
			if why != nil && a.err != nil && !errors.Is(why, ctx.Err()) {
				a.err = why // that its context ended says less
			}
			return a.value, a.err
		case do := <-signs:
			last = time.Now()
			limit.Reset(b.limit)
			do()
		case <-second.C:
			second.Reset(time.Second)
			if waited := time.Since(last); b.slow != nil && waited >= time.Second {
				b.slow(waited)
			}
		case <-limit.C:
			end(&noAnswer{b.who, time.Since(last)})
		case <-ended:
			ended = nil
			end(ctx.Err())
		case <-stop:
			stop, grace = nil, time.After(b.grace)
		case <-grace:
			grace = nil
			end(errStopped)
		case <-over:
			var none T
			return none, why
		}
	}
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.0f s", d.Seconds()) }

// limits are how long calls may take. What asks in the node package has limits
// of its own, and shorter ones: these hold where those don't.
type limits struct {
	look  time.Duration // a question
	act   time.Duration // a change: containers ended, an object written
	save  time.Duration // without a byte more
	stage time.Duration // the same
	files time.Duration // a look at kubelet's directories
	grace time.Duration // for a change under way, when the run is stopped
}

var realLimits = limits{
	look:  15 * time.Second, // what is slow is not dead
	act:   30 * time.Second, // kubelet gives a runtime 2 minutes
	save:  2 * time.Minute,  // a disk that syncs
	stage: 10 * time.Minute, // the same, in a process of its own that can be killed
	files: 5 * time.Second,
	grace: 3 * time.Second,
}

// deadlined is the world with a deadline on every call. It embeds no world: a
// method that is new there has to be written here too.
type deadlined struct {
	world  world
	limits limits
	// stop ends calls that run in actions which aren't waits.
	stop <-chan struct{}
	// slow gets who hasn't answered, and since when: over all calls to it.
	slow func(who string, waited time.Duration)

	mu     sync.Mutex
	silent map[string]time.Time // since when
}

const (
	theRuntime = "the container runtime"
	theAPI     = "kube-apiserver"
	theEtcd    = "etcd"
	theKubelet = "kubelet"
	theSystemd = "systemd"
	theDisk    = "the disk with kubelet's directories"
)

func (d *deadlined) bound(who string, limit time.Duration) bound {
	return bound{who: who, limit: limit, stop: d.stop, grace: d.limits.grace, slow: func(waited time.Duration) {
		if d.slow != nil {
			d.slow(who, d.unheard(who, waited))
		}
	}}
}

// unheard is how long somebody hasn't answered who hasn't for waited.
func (d *deadlined) unheard(who string, waited time.Duration) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.silent[who]; !ok {
		if d.silent == nil {
			d.silent = map[string]time.Time{}
		}
		d.silent[who] = time.Now().Add(-waited)
	}
	return time.Since(d.silent[who])
}

// heard notes an answer, and makes the error of a call without one say how long
// there was none.
func (d *deadlined) heard(who string, err error) {
	var none *noAnswer
	if errors.As(err, &none) {
		none.waited = d.unheard(who, none.waited)
		return
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) || errors.Is(err, errStopped) {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.silent, who)
}

// asks is a call that only answers.
func asks[T any](ctx context.Context, d *deadlined, b bound, call func(context.Context) (T, error)) (T, error) {
	v, err := bounded(ctx, b, func(ctx context.Context, _ func(func())) (T, error) { return call(ctx) })
	d.heard(b.who, err)
	return v, err
}

// does is a call that only succeeds or fails.
func does(ctx context.Context, d *deadlined, b bound, call func(context.Context) error) error {
	_, err := asks(ctx, d, b, func(ctx context.Context) (struct{}, error) { return struct{}{}, call(ctx) })
	return err
}

func (d *deadlined) Pod(ctx context.Context, pod string) ([]node.Sandbox, error) {
	return asks(ctx, d, d.bound(theRuntime, d.limits.look), func(ctx context.Context) ([]node.Sandbox, error) { return d.world.Pod(ctx, pod) })
}

func (d *deadlined) Pods(ctx context.Context) ([]node.Sandbox, error) {
	return asks(ctx, d, d.bound(theRuntime, d.limits.look), d.world.Pods)
}

func (d *deadlined) CPU(ctx context.Context, container string) (time.Duration, error) {
	return asks(ctx, d, d.bound(theRuntime, d.limits.look), func(ctx context.Context) (time.Duration, error) { return d.world.CPU(ctx, container) })
}

func (d *deadlined) StopSandbox(ctx context.Context, id string) error {
	return does(ctx, d, d.bound(theRuntime, d.limits.act), func(ctx context.Context) error { return d.world.StopSandbox(ctx, id) })
}

func (d *deadlined) RemoveSandbox(ctx context.Context, id string) error {
	return does(ctx, d, d.bound(theRuntime, d.limits.act), func(ctx context.Context) error { return d.world.RemoveSandbox(ctx, id) })
}

// Remains says that something is left where that can't be seen.
func (d *deadlined) Remains(uid string) node.Remains {
	r, err := asks(context.Background(), d, d.bound(theDisk, d.limits.files), func(context.Context) (node.Remains, error) { return d.world.Remains(uid), nil })
	if err != nil {
		return node.Remains{PodDir: true}
	}
	return r
}

func (d *deadlined) PodsBegun() (map[string]bool, error) {
	return asks(context.Background(), d, d.bound(theDisk, d.limits.files), func(context.Context) (map[string]bool, error) { return d.world.PodsBegun() })
}

func (d *deadlined) Changed() <-chan struct{} {
	c, _ := asks(context.Background(), d, d.bound(theDisk, d.limits.files), func(context.Context) (<-chan struct{}, error) { return d.world.Changed(), nil })
	return c
}

func (d *deadlined) KubeletRestarted() bool {
	is, _ := asks(context.Background(), d, d.bound(theDisk, d.limits.files), func(context.Context) (bool, error) { return d.world.KubeletRestarted(), nil })
	return is
}

func (d *deadlined) KubeletHealthy(ctx context.Context) error {
	return does(ctx, d, d.bound(theKubelet, d.limits.look), d.world.KubeletHealthy)
}

func (d *deadlined) Relists(ctx context.Context) (int, error) {
	return asks(ctx, d, d.bound(theKubelet, d.limits.look), d.world.Relists)
}

func (d *deadlined) API(ctx context.Context, timeout time.Duration) node.APIAnswer {
	a, err := asks(ctx, d, d.bound(theAPI, min(2*timeout, d.limits.look)), func(ctx context.Context) (node.APIAnswer, error) { return d.world.API(ctx, timeout), nil })
	if err != nil {
		return node.APIAnswer{Err: err}
	}
	return a
}

func (d *deadlined) EtcdCluster(ctx context.Context) uint64 {
	id, _ := asks(ctx, d, d.bound(theEtcd, d.limits.look), func(ctx context.Context) (uint64, error) { return d.world.EtcdCluster(ctx), nil })
	return id
}

func (d *deadlined) EtcdReady(ctx context.Context) (string, error) {
	return asks(ctx, d, d.bound(theEtcd, d.limits.look), d.world.EtcdReady)
}

func (d *deadlined) Etcd(ctx context.Context, countKeys bool) (*node.EtcdStatus, error) {
	return asks(ctx, d, d.bound(theEtcd, 2*d.limits.look), func(ctx context.Context) (*node.EtcdStatus, error) { return d.world.Etcd(ctx, countKeys) })
}

func (d *deadlined) Objects(ctx context.Context, resource string) ([]node.Object, error) {
	return asks(ctx, d, d.bound(theAPI, d.limits.act), func(ctx context.Context) ([]node.Object, error) { return d.world.Objects(ctx, resource) })
}

func (d *deadlined) KubeadmConfig(ctx context.Context) (*node.ConfigMap, error) {
	return asks(ctx, d, d.bound(theAPI, d.limits.act), d.world.KubeadmConfig)
}

func (d *deadlined) SetKubeadmConfig(ctx context.Context, read *node.ConfigMap, text string) error {
	return does(ctx, d, d.bound(theAPI, d.limits.act), func(ctx context.Context) error { return d.world.SetKubeadmConfig(ctx, read, text) })
}

// Remote is silent when it can't be asked.
func (d *deadlined) Remote(ctx context.Context, n node.RemoteConfig) node.RemoteState {
	s, err := asks(ctx, d, d.bound("the other node", d.limits.look), func(ctx context.Context) (node.RemoteState, error) { return d.world.Remote(ctx, n), nil })
	if err != nil {
		return node.RemoteState{API: node.PortSilent, Peer: node.PortSilent}
	}
	return s
}

// Shell may take as long as ctx allows, or as actions may.
func (d *deadlined) Shell(ctx context.Context, command string) error {
	limit := d.limits.act
	if end, ok := ctx.Deadline(); ok {
		limit = time.Until(end)
	}
	b := d.bound("the command", max(limit, 0))
	b.grace *= 3 // a restart isn't interrupted half-way
	return does(ctx, d, b, func(ctx context.Context) error { return d.world.Shell(ctx, command) })
}

func (d *deadlined) LogTail(pod, uid, container string, lines int) ([]string, string) {
	type tail struct {
		log  []string
		path string
	}
	t, _ := asks(context.Background(), d, d.bound("the disk with the logs", d.limits.files), func(context.Context) (tail, error) {
		log, path := d.world.LogTail(pod, uid, container, lines)
		return tail{log, path}, nil
	})
	return t.log, t.path
}

func (d *deadlined) Unit(ctx context.Context, name string) (*node.Unit, error) {
	return asks(ctx, d, d.bound(theSystemd, d.limits.look), func(ctx context.Context) (*node.Unit, error) { return d.world.Unit(ctx, name) })
}

func (d *deadlined) StopUnit(ctx context.Context, name string) error {
	return does(ctx, d, d.bound(theSystemd, d.limits.act), func(ctx context.Context) error { return d.world.StopUnit(ctx, name) })
}

func (d *deadlined) KillUnit(ctx context.Context, name string) error {
	return does(ctx, d, d.bound(theSystemd, d.limits.act), func(ctx context.Context) error { return d.world.KillUnit(ctx, name) })
}

func (d *deadlined) StartUnit(ctx context.Context, name string) error {
	return does(ctx, d, d.bound(theSystemd, d.limits.act), func(ctx context.Context) error { return d.world.StartUnit(ctx, name) })
}

func (d *deadlined) ResetUnit(ctx context.Context, name string) error {
	return does(ctx, d, d.bound(theSystemd, d.limits.act), func(ctx context.Context) error { return d.world.ResetUnit(ctx, name) })
}

func (d *deadlined) ReloadUnits(ctx context.Context) error {
	return does(ctx, d, d.bound(theSystemd, d.limits.act), d.world.ReloadUnits)
}

func (d *deadlined) UnitLog(name string, lines int) []string {
	log, _ := asks(context.Background(), d, d.bound(theSystemd, d.limits.files), func(context.Context) ([]string, error) {
		return d.world.UnitLog(name, lines), nil
	})
	return log
}

// Save and Restore are left at once when the run is stopped: what they have
// written is of no use to anybody.
func (d *deadlined) Save(ctx context.Context, req snapshot.SaveRequest) (*snapshot.Info, error) {
	b := d.bound(theEtcd, d.limits.save)
	b.grace = 0
	return bounded(ctx, b, func(ctx context.Context, alive func(func())) (*snapshot.Info, error) {
		tell := req.Progress
		req.Progress = func(p snapshot.Progress) {
			alive(func() {
				if tell != nil {
					tell(p)
				}
			})
		}
		return d.world.Save(ctx, req)
	})
}

// ReadData goes through a whole database, and reports no progress.
func (d *deadlined) ReadData(ctx context.Context, dir string) (*snapshot.Restored, error) {
	b := d.bound("the process that reads the data", d.limits.stage)
	b.grace = 0
	return bounded(ctx, b, func(ctx context.Context, _ func(func())) (*snapshot.Restored, error) {
		return d.world.ReadData(ctx, dir)
	})
}

func (d *deadlined) Restore(ctx context.Context, req snapshot.RestoreRequest, from *snapshot.Staged, progress func(snapshot.Progress)) (*snapshot.Restored, error) {
	b := d.bound("the process that restores the snapshot", d.limits.stage)
	b.grace = 0
	return bounded(ctx, b, func(ctx context.Context, alive func(func())) (*snapshot.Restored, error) {
		return d.world.Restore(ctx, req, from, func(p snapshot.Progress) {
			alive(func() {
				if progress != nil {
					progress(p)
				}
			})
		})
	})
}
