package steps

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"etcd-rewind/defect"
	"etcd-rewind/snapshot"
	"etcd-rewind/trust"
)

// Save takes a snapshot of the state that is about to be left. It never blocks
// a restore: the old data directory is kept in any case. Where it comes after a
// Stage in its step, that begins with it, and both are done side by side.
type Save struct {
	To   string        `json:"to"`
	Etcd snapshot.Etcd `json:"etcd"`
}

// saveBefore is beside the old data directory: there is room for one more.
func saveBefore(f *Facts, run string) *Save {
	return &Save{To: filepath.Join(f.BesideData(), snapshot.SafetyCopy(run)), Etcd: f.SnapshotEtcd()}
}

func (*Save) Kind() string { return "save" }

func (a *Save) Title() string { return "Save a snapshot of the current cluster to " + a.To }

func (a *Save) Commands() []string {
	// As variables, not flags: etcdctl refuses a flag where the caller's
	// environment has the variable too. And one endpoint: a snapshot is of one
	// member.
	cmd := ""
	for _, v := range [][2]string{{"ENDPOINTS", append(a.Etcd.Endpoints, "")[0]}, {"CACERT", a.Etcd.CA}, {"CERT", a.Etcd.Cert}, {"KEY", a.Etcd.Key}} {
		if v[1] != "" {
			cmd += trust.Shell("ETCDCTL_%s=%s ", v[0], v[1])
		}
	}
	return []string{trust.Shell("%setcdctl snapshot save %s", trust.Raw(cmd), a.To)}
}

func (a *Save) do(ctx context.Context, r *run) (State, error) {
	if err := realFile(a.To); err == nil {
		return Already, nil // by an earlier try: it has its name only when it is whole
	} else if !errors.Is(err, fs.ErrNotExist) {
		r.note("state left behind", "no snapshot of it: %s. The old data directory is kept", err)
		r.say("not saved: %s; the old data directory is kept", err)
		return Warned, nil
	}
	info, err := r.saved(ctx, a)
	switch {
	case errors.Is(err, errStopped):
		return Stopped, err
	case err != nil:
		// The old data directory is the way back in any case.
		cause := err.Error()
		r.note("state left behind", "no snapshot of it: %s. The old data directory is kept", cause)
		r.say("not saved: %s; the old data directory is kept", cause)
		return Warned, nil
	default:
		r.say("revision %d, %s", info.Revision, Bytes(info.Size))
	}
	return Done, nil
}

func (a *Save) places(v *vetter) {
	if !clean(a.To) || filepath.Base(a.To) != snapshot.SafetyCopy(v.run) {
		v.refuse("the snapshot", a.To)
	}
}

func (*Save) undo() []Action { return nil }

// saving is a Save that goes on beside other actions.
type saving struct {
	of    *Save
	begun time.Time
	spare time.Duration // that the staging takes less because a file was made before
	stop  context.CancelFunc
	at    atomic.Pointer[snapshot.Progress]
	done  chan struct{}
	info  *snapshot.Info // once done is closed, as err
	err   error
}

// saveBeside begins with the Save that comes later in the step, unless that was
// done. Nobody has to undo what it leaves, and what isn't whole has no name.
func (r *run) saveBeside() {
	if r.saving != nil {
		return
	}
	for _, p := range r.step.Actions {
		a, ok := p.Action.(*Save)
		if !ok || r.plan.done[p.ID] {
			continue
		}
		if _, err := os.Lstat(a.To); err == nil {
			return
		}
		ctx, stop := context.WithCancel(context.Background())
		s := &saving{of: a, begun: r.now(), stop: stop, done: make(chan struct{})}
		// Who doesn't answer is said by what goes on in front.
		world := r.world
		if d, ok := world.(*deadlined); ok {
			world = &deadlined{world: d.world, limits: d.limits, stop: d.stop}
		}
		r.saving = s
		go defect.Do(func() {
			defer close(s.done)
			s.info, s.err = world.Save(ctx, snapshot.SaveRequest{Etcd: a.Etcd, Path: a.To, Brief: true, Progress: func(p snapshot.Progress) { s.at.Store(&p) }})
		})()
		return
	}
}

// saved waits for what was begun, or does it now. What was begun may take as long
// again as the staging, with what of it was done before: the old data directory
// holds the same.
func (r *run) saved(ctx context.Context, a *Save) (*snapshot.Info, error) {
	s := r.saving
	if s == nil || s.of != a {
		return r.world.Save(ctx, snapshot.SaveRequest{Etcd: a.Etcd, Path: a.To, Brief: true, Progress: r.progress})
	}
	r.saving = nil
	tick := time.NewTicker(tellEvery)
	defer tick.Stop()
	limit := max(r.now().Sub(s.begun)+s.spare, r.pace.save)
	enough := time.NewTimer(limit)
	defer enough.Stop()
	for {
		select {
		case <-s.done:
			s.stop()
			return s.info, s.err
		case <-enough.C:
			s.stop()
			if <-s.done; s.err == nil {
				return s.info, nil
			}
			return nil, fmt.Errorf("it was not finished %s after the restore was staged", limit.Round(time.Second))
		case <-tick.C:
			if p := s.at.Load(); p != nil {
				r.progress(*p)
			}
		}
	}
}

// endSaving leaves nothing behind that still writes when a run ends before.
func (r *run) endSaving() {
	if s := r.saving; s != nil {
		r.saving = nil
		s.stop()
		<-s.done
	}
}
