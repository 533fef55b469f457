package steps

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"filippo.io/age"

	"etcd-rewind/node"
	"etcd-rewind/problem"
	"etcd-rewind/snapshot"
)

// Session is the engine on this node, as the wizard and the commands use it.
type Session struct {
	Options Options
	// Barrier waits for the other nodes of a fleet; nil means to look at their
	// ports.
	Barrier Barrier
	Fleet   bool // what is planned is done by a conductor, with the run's other nodes
	// AtOnce, when it isn't nil, says that the snapshot that is inspected will be
	// restored on this node by these choices, unless something is in the way: it is
	// copied while it is read.
	AtOnce *Choices

	// Elsewhere finds a snapshot that isn't a file of this node; is says that the
	// name is of such a one. nil finds none. f may be nil.
	Elsewhere func(ctx context.Context, f *Facts, name string) (src snapshot.Source, is bool, err error)
	// Ask asks for the passphrase of an identity, or of a snapshot; nil when there
	// is nobody to ask.
	Ask snapshot.Ask
	// Outdated says why the timer of this node's backups doesn't do what their
	// configuration says; nil when it does. nil says nothing of it.
	Outdated func(*Backups) *problem.Problem

	facts   atomic.Pointer[Facts] // as discovered last
	kubelet atomic.Pointer[node.Kubelet]
	files   stagings
	ids     struct {
		sync.Mutex
		read       []age.Identity
		files      int // of Options.Identities that were read
		passphrase age.Identity
	}
	elsewhere struct {
		sync.Mutex
		found map[string]snapshot.Source // by the name the user gave
	}
}

// Close removes what was unpacked. Safe to call twice.
func (s *Session) Close() error { return s.files.close() }

// Discover reads what this node is and does. The facts are there also when the
// error says that this machine has no control plane.
func (s *Session) Discover(ctx context.Context) (*Facts, error) {
	f, err := Discover(ctx, s.Options)
	if err != nil {
		return f, err
	}
	if s.Outdated != nil && f.Backups != nil {
		f.BackupTimer = s.Outdated(f.Backups)
	}
	s.facts.Store(f)
	s.kubelet.Store(f.Kubelet)
	return f, f.ControlPlane()
}

// Candidates are the snapshots found in the usual places, the newest first
// and the safety copies of earlier runs last.
// Of packed ones nothing but the first pages was read.
func (s *Session) Candidates(ctx context.Context, _ *Facts) []snapshot.Candidate {
	dirs := s.Options.Snapshots
	if dirs == nil {
		dirs = snapshot.UsualPlaces()
	}
	return snapshot.Find(ctx, dirs)
}

// Inspect reads a whole snapshot, which is staged first where it has to be: the
// file that was made stays until Close.
func (s *Session) Inspect(ctx context.Context, name string, progress func(done, total int64)) (*snapshot.Info, error) {
	file, err := s.Stage(ctx, name, progress)
	if err != nil {
		return nil, err
	}
	f := s.facts.Load()
	if s.AtOnce == nil || file.Copied() || f == nil || f.Etcd == nil {
		return file.Inspect(ctx, progress)
	}
	dir, spare := f.stagedIn(*s.AtOnce), int64(walBytes)
	if f.Live != nil && !s.AtOnce.NoSave {
		spare += f.Live.DBSize // the snapshot of it
	}
	_ = snapshot.RemoveStale(dir, f.stagedBefore()...)
	info, copied, err := snapshot.InspectAndCopy(ctx, file.Path, dir, spare, progress)
	if copied != nil {
		s.files.copied(copied, file.Path)
	}
	return info, err
}

// Check looks at everything that can be known to go wrong.
func (s *Session) Check(ctx context.Context, f *Facts, info *snapshot.Info, c Choices) []Verdict {
	return Check(ctx, f, info, c)
}

// Plan plans a restore.
func (s *Session) Plan(f *Facts, info *snapshot.Info, c Choices) (*Plan, error) {
	if c.KubeletRestart != "" {
		s.Options.KubeletRestart = c.KubeletRestart // for what takes the run up again
	}
	return NewRestore(f, info, c)
}

// PlanUndo plans to undo what a run changed; "" is the newest run that left
// something.
func (s *Session) PlanUndo(ctx context.Context, run string) (*Plan, error) {
	return s.takeUp(ctx, run, NewUndo)
}

// PlanRedo plans to have the restored data again after an undo.
func (s *Session) PlanRedo(ctx context.Context, run string) (*Plan, error) {
	return s.takeUp(ctx, run, NewRedo)
}

func (s *Session) takeUp(ctx context.Context, run string, plan func(stateDir, run string, t Terms) (*Plan, error)) (*Plan, error) {
	dir, err := StateDir(ctx, s.Options)
	if err != nil {
		return nil, err
	}
	t := Terms{Accept: s.Options.Accept, KubeletRestart: s.Options.KubeletRestart, Flags: s.Options.Flags(), Fleet: s.Fleet}
	t.Kubelet, t.KubeletErr = findKubelet(ctx, s.Options.Options)
	if t.Kubelet != nil && s.Options.CRI != "" {
		t.CRI = t.Kubelet.CRIEndpoint
	}
	p, err := plan(dir, run, t)
	if err == nil {
		sinceThen(ctx, p, node.AskEtcd, time.Now())
	}
	return p, err
}

// PlanResume plans to continue an interrupted run; "" is the newest one.
func (s *Session) PlanResume(ctx context.Context, run string) (*Plan, error) {
	return s.takeUp(ctx, run, NewResume)
}

// Runs lists the runs of this node, the newest first.
func (s *Session) Runs(ctx context.Context) ([]RunInfo, error) {
	dir, err := StateDir(ctx, s.Options)
	if err != nil {
		return nil, err
	}
	return Runs(dir)
}

// Run runs a plan. The error is for a run that could not begin: nothing was
// done then.
func (s *Session) Run(ctx context.Context, p *Plan, sink func(Event), ask Asker) (*Result, error) {
	return (&Engine{Sink: sink, Ask: ask, Barrier: s.Barrier, staged: s.staged}).Run(ctx, p), nil
}

// Live is the run that another process has under way on this node; nil when
// there is none.
func (s *Session) Live(ctx context.Context) (*RunInfo, error) {
	dir, err := StateDir(ctx, s.Options)
	if err != nil {
		return nil, err
	}
	return Live(dir)
}

// Follow passes on the events of a run of another process until it ends.
func (s *Session) Follow(ctx context.Context, info RunInfo, sink func(Event)) (ended bool, err error) {
	return Follow(ctx, info, sink)
}

// Logs are the last lines that a component's container wrote, the oldest
// first; empty when there are none. It is cheap, and may be called often.
func (s *Session) Logs(ctx context.Context, component string) []string {
	k := s.kubelet.Load()
	if k == nil {
		var err error
		if k, err = findKubelet(ctx, s.Options.Options); err != nil {
			return nil
		}
		s.kubelet.Store(k)
	}
	lines, _, err := node.LogTail(k.PodLogs, namespace, k.PodName(component), "", component, 200)
	if err != nil {
		return nil
	}
	return lines
}
