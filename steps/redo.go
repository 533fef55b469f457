package steps

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"etcd-rewind/manifest"
	"etcd-rewind/problem"
	"etcd-rewind/trust"
)

// NewRedo plans to have the restored data again after an undo, also after one
// that failed or was interrupted: from the journal of the same run, and a look
// at the node. A run of several nodes is redone on all of them. run may be "" for the newest one that was undone.
func NewRedo(stateDir, run string, t Terms) (*Plan, error) {
	undone := func(r RunInfo) bool { return r.Undoing || r.Redoing && r.State != RunRestored }
	h, err := find(stateDir, run, t, takenUp{
		left: undone, none: "no run was undone",
		fits: func(r RunInfo) error {
			if !undone(r) {
				return problem.New(t.command("runs", "")+" lists the runs of this node", "run %s was not undone: it is %s", r.Run, r.State)
			}
			return nil
		},
	})
	if err != nil {
		return nil, err
	}
	if h.restore.fleet() && !t.Fleet {
		return nil, problem.New(t.command("redo --fleet", h.restore.Run)+" does it on all of them",
			"run %s was made on several nodes: one that goes to the restored data alone has no quorum there", h.restore.Run)
	}
	return redoPlan(h, t)
}

// redo is the command that goes to the restored data again, as it is called on
// this plan; "" when that data can't be had.
func (h *history) redo() string {
	switch {
	case h.staged() == nil:
		return ""
	case h.restore.fleet():
		return "redo --fleet"
	}
	return "redo"
}

// redoPlan restarts etcd and kube-apiserver on what the run had restored. What
// is so already is left as it is.
func redoPlan(h *history, t Terms) (*Plan, error) {
	restored, err := h.restoredTarget()
	if err != nil {
		return nil, err
	}
	r := h.restore
	p := h.plan(KindRedo, t)
	p.Title = "Redo run " + r.Run + " on " + r.Node + ": to the restored data again"
	p.memory.renew()
	if p.memory.AwaySince.IsZero() {
		p.memory.Outage = 0
	}
	restart := p.takeUp(h, t)
	p.target = restored
	v, is := restored.verdict(context.Background())
	say := restored.say(is)
	if v.Level != Pass {
		say = v.Cause
	}
	p.Checks = append(p.Checks, v)
	p.Summary = []Fact{
		{"run", fmt.Sprintf("%s, of %s", r.Run, Moment(h.started))},
		{"etcd starts on", say},
		{"old data", "stays at " + r.Restore.OldDataDir + ", with what was written to it since the undo"},
	}

	b := &again{h: h, ready: &Ready{}, now: time.Now()}
	if err := b.look(); err != nil {
		return nil, err
	}
	p.Checks = append(p.Checks, editedVerdict(b.edited))
	for _, d := range b.edited {
		p.Diffs = append(p.Diffs, d.Diff)
	}
	for _, s := range b.steps() {
		if text, ok := restoreTexts[s.ID]; ok {
			s.Title, s.Why, s.More, s.Outage = text.title, text.why, text.more, text.outage
		}
		if len(s.Actions) > 0 {
			p.Steps = append(p.Steps, s)
		}
	}
	if step := letGoFor(p.Steps, restart, p.Reach.Kubelet.CRIEndpoint); step != nil {
		p.Steps = append(p.Steps, *step)
	}
	p.number()
	Accept(p.Checks, t.Accept)
	return p, nil
}

// again sorts the actions of a run for doing them again.
type again struct {
	h      *history
	now    time.Time
	ready  *Ready
	edited []edit

	etcd, api   *back
	controllers []*back
	renames     []Action
	verify      []Action
	kubeadm     []Action
	barriers    map[Phase]Action
	placed      bool
}

// back is a manifest of the restored cluster.
type back struct {
	out  *TakeOut // what is there now; nil when nothing is, or the right one
	in   *PutIn
	wait *WaitEtcd
	url  string // readiness of the API server
	is   bool   // the right one is in place
}

// look reads the run's actions, and what is where now.
func (b *again) look() error {
	b.placed, b.barriers = true, map[Phase]Action{}
	aside := map[string]string{} // by manifest
	for _, s := range b.h.restore.Steps {
		for _, a := range s.Actions {
			switch t := a.Action.(type) {
			case *TakeOut:
				aside[t.File] = t.To
			case *Rename:
				b.renames = append(b.renames, t)
				if _, err := os.Lstat(t.From); err == nil {
					b.placed = false
				}
			case *WaitEtcd:
				if b.etcd != nil && t.Restored {
					b.etcd.wait = t
				}
			case *WaitAPI:
				if b.api != nil {
					b.api.url = t.URL
				}
			case *SetKubeadmConfig:
				b.kubeadm = append(b.kubeadm, t)
			case *Verify:
				b.verify = append(b.verify, t)
			case *WaitNodes:
				b.barriers[t.Phase] = t
			case *PutIn:
				m, err := b.manifest(t, aside[t.File])
				if err != nil {
					return err
				}
				switch {
				case t.Etcd:
					b.etcd = m
				case t.API:
					b.api = m
				default:
					b.controllers = append(b.controllers, m)
				}
			}
		}
	}
	if b.etcd == nil || b.api == nil || b.etcd.wait == nil {
		return problem.New("", "the journal of run %s doesn't record how etcd and kube-apiserver are started", b.h.restore.Run)
	}
	return nil
}

// manifest readies a manifest once more, with an annotation that makes a pod of
// its own: kubelet would let one that it knows wait.
func (b *again) manifest(in *PutIn, aside string) (*back, error) {
	m := &back{}
	put := b.h.prepared(in.File)
	if put == nil {
		return nil, problem.New("", "the journal of run %s doesn't have what was put at %s", b.h.restore.Run, in.File)
	}
	now, err := os.ReadFile(in.File)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	case sum(now) != in.Original && sameButFresh(now, put.Data):
		m.is = true
	default:
		m.out = &TakeOut{Pod: in.Pod, File: in.File, To: aside, SHA256: sum(now), API: in.API, Etcd: in.Etcd, Link: isLink(in.File)}
		if sum(now) != in.Original {
			m.out.To = in.Undone
			b.edited = append(b.edited, edit{Diff{Path: in.File, Text: manifest.Diff(in.File, in.File, put.Old, now)}, in.Undone})
		}
	}
	data, err := manifest.Annotate(put.Data, restartedAt, b.now.UTC().Format(time.RFC3339Nano))
	if err != nil {
		return nil, err
	}
	b.ready.Files = append(b.ready.Files, Readied{New: in.From, Undone: in.Undone, Like: put.Kept, Data: data})
	c := *in
	c.SHA256 = sum(data)
	m.in = &c
	return m, nil
}

// stop takes out what is there of a manifest and waits until its pod is gone.
func (m *back) stop(undone string) []Action {
	var acts []Action
	switch {
	case m.out != nil:
		acts = append(acts, m.out)
	case m.is: // it runs, but on data that is not in place
		acts = append(acts, &TakeOut{Pod: m.in.Pod, File: m.in.File, To: undone, API: m.in.API, Etcd: m.in.Etcd})
	}
	return append(acts, goneActions(m.in.Pod, m.in.File, m.in.API)...)
}

func (b *again) steps() []Step {
	step := func(id string, actions ...Action) Step {
		s := Step{ID: id}
		for _, a := range actions {
			if a != nil {
				s.Actions = append(s.Actions, Planned{Action: a})
			}
		}
		return s
	}
	met := func(acts []Action, phase Phase) []Action {
		if m := b.barriers[phase]; m != nil {
			acts = append(acts, m)
		}
		return acts
	}
	out := []Step{step("prepare", b.ready)}
	etcd, api := b.etcd, b.api
	file := func(m *back) string { return m.in.File }
	whole := etcd.is && b.placed
	if !whole || !api.is {
		out = append(out, step("stop-kube-apiserver", met(api.stop(api.in.Undone), PhaseAPIGone)...))
	}
	if !whole {
		out = append(out, step("stop-etcd", met(etcd.stop(etcd.in.Undone), PhaseEtcdOut)...))
		start := append(b.renames, b.barriers[PhasePlaced])
		start = append(start, etcd.in, &WaitStarted{Pod: etcd.in.Pod, File: file(etcd), Fresh: true}, etcd.wait)
		out = append(out, step("start-etcd", met(start, PhaseEtcdReady)...))
	} else {
		out = append(out, step("start-etcd", etcd.wait))
	}
	var start []Action
	if !whole || !api.is {
		start = append(start, api.in, &WaitStarted{Pod: api.in.Pod, File: file(api), Fresh: true})
	}
	start = append(start, &WaitAPI{Pod: api.in.Pod, URL: api.url, File: file(api)})
	out = append(out, step("start-kube-apiserver", met(start, PhaseAPIReady)...))

	// All of them are taken out first, and then waited for at once.
	var stop, in []Action
	gone := &WaitForgotten{Fresh: true}
	for _, c := range b.controllers {
		if c.is {
			continue
		}
		if c.out != nil {
			stop = append(stop, c.out)
		}
		gone.Pods, gone.Files = append(gone.Pods, c.in.Pod), append(gone.Files, file(c))
		in = append(in, c.in, &WaitStarted{Pod: c.in.Pod, File: file(c), Fresh: true})
	}
	if len(in) > 0 {
		out = append(out, step(controllersStep, append(append(stop, gone), in...)...))
	}
	if len(b.kubeadm) > 0 {
		out = append(out, step(kubeadmStep, b.kubeadm...))
	}
	return append(out, step("verify", met(b.verify, PhaseVerified)...))
}

// Ready writes the manifests of the restored cluster once more, while the
// cluster runs as it is.
type Ready struct {
	Files []Readied `json:"files"`
}

// Readied is a manifest to be put in again.
type Readied struct {
	New    string `json:"new"`    // where it is written
	Undone string `json:"undone"` // where the undo moved the one before, which is removed
	Like   string `json:"like"`   // gives owner and mode
	Data   []byte `json:"data"`
}

func (*Ready) Kind() string { return "ready" }

func (*Ready) Title() string { return "Write the manifests of the restored cluster again" }

func (a *Ready) Commands() []string {
	var cmds []string
	for _, f := range a.Files {
		cmds = append(cmds, trust.Shell("mv %s %s   %s", f.Undone, f.New, trust.Raw(trust.Comment("with another "+restartedAt))))
	}
	return cmds
}

func (a *Ready) do(_ context.Context, r *run) (State, error) {
	for _, f := range a.Files {
		like, err := os.Stat(f.Like)
		if err != nil {
			return Failed, err
		}
		if err := ownSubdir(filepath.Dir(f.New)); err != nil {
			return Failed, err
		}
		if err := writeOnce(f.New, f.Data, like); err != nil {
			return Failed, err
		}
		// Else the next undo could not move its manifest there.
		if err := os.Remove(f.Undone); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return Failed, err
		}
		r.point("in the middle", r.action.ID)
	}
	return Done, nil
}

func (a *Ready) places(v *vetter) {
	for _, f := range a.Files {
		v.own(f.New, f.Undone, f.Like)
	}
}

func (*Ready) undo() []Action { return nil }
