package steps

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
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
			"run %s was made on several nodes: a single one on the restored data has no quorum", h.restore.Run)
	}
	return redoPlan(h, t)
}

// redo is the command that switches to the restored data again, as it is called on
// this plan; "" when that data can't be had.
func (h *history) redo() string {
	switch {
	case h.staged() == nil && h.restore.has(RoleEtcd.starts):
		return ""
	case h.restore.fleet():
		return "redo --fleet"
	}
	return "redo"
}

// redoPlan restarts etcd and kube-apiserver on what the run had restored. What
// is so already is left as it is.
func redoPlan(h *history, t Terms) (*Plan, error) {
	r := h.restore
	p := h.plan(KindRedo, t)
	p.Title = "Redo run " + r.Run + " on " + r.Node + ": to the restored data again"
	p.memory.renew()
	if p.memory.AwaySince.IsZero() {
		p.memory.Outage = 0
	}
	p.Summary = []Fact{{"run", fmt.Sprintf("%s, of %s", r.Run, Moment(h.started))}}
	restart := p.takeUp(h, t)
	if r.has(RoleEtcd.starts) {
		restored, err := h.restoredTarget()
		if err != nil {
			return nil, err
		}
		p.target = restored
		v, is := restored.verdict(context.Background())
		say := restored.say(is)
		if v.Level != Pass {
			say = v.Cause
		}
		p.Checks = append(p.Checks, v)
		p.Summary = append(p.Summary, Fact{"etcd starts on", say},
			Fact{"old data", r.Restore.stays() + ", with what was written to it since the undo"})
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
	explainUnits(p.Steps, "", unitTexts)
	if f := r.Restore; f.Bump == 0 && !f.Home { // etcd goes to the revisions of other data
		p.renewKubelet(renewStep, cmp.Or(t.Kubelet, &r.Reach.Kubelet), restart, r.fleet())
	}
	if step := stuckKubeletFor(p.Steps, restart, p.Reach.Kubelet.CRIEndpoint); step != nil {
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

	etcd, api   returning // nil for what the node doesn't run
	controllers []returning
	etcdReady   *WaitEtcd
	url         string // readiness of the API server
	moves       []Action
	verify      []Action
	kubeadm     []Action
	barriers    map[Phase]Action
	placed      bool // the restored data is where etcd looks for it
}

// returning is a program of the restored cluster, that was stopped since and is
// started once more.
type returning interface {
	// right says whether what runs now is set up as the run had it.
	right() bool
	// stop ends what is there; rest is what has to pass before the start. As in
	// [process].
	stop() []Action
	rest() []Action
	start() []Action
	// keep sees to it that one runs that is right.
	keep() []Action
	ref() processRef
}

// look reads the run's actions, and what is where now.
func (b *again) look() error {
	b.placed, b.barriers = true, map[Phase]Action{}
	split := b.h.restore.split()
	for a := range b.h.restore.actions() {
		switch t := a.Action.(type) {
		case moving:
			b.moves = append(b.moves, t)
			b.placed = b.placed && t.moved()
		case *WaitEtcd:
			if t.Restored {
				b.etcdReady = t
			}
		case *WaitAPI:
			b.url = t.URL
		case *SetKubeadmConfig:
			b.kubeadm = append(b.kubeadm, t)
		case *Verify:
			b.verify = append(b.verify, t)
		case *WaitNodes:
			b.barriers[t.Phase] = t
			if split && (t.Phase == PhaseAPIGone || t.Phase == PhaseEtcdReady) {
				by := *t
				by.ByPorts = true
				b.barriers[t.Phase] = &by
			}
		case starting:
			m, err := t.again(b)
			if err != nil {
				return err
			}
			switch t.starts().role {
			case RoleEtcd:
				b.etcd = m
			case RoleAPI:
				b.api = m
			default:
				b.controllers = append(b.controllers, m)
			}
		}
	}
	if b.etcd == nil && b.api == nil || b.etcd != nil && b.etcdReady == nil {
		return problem.New("", "the journal of run %s doesn't record how etcd and kube-apiserver are started", b.h.restore.Run)
	}
	return nil
}

func (b *again) steps() []Step {
	var out []Step
	add := func(id string, actions ...Action) {
		if len(out) == 0 || out[len(out)-1].ID != id {
			out = append(out, Step{ID: id})
		}
		s := &out[len(out)-1]
		for _, a := range actions {
			if a != nil {
				s.Actions = append(s.Actions, Planned{Action: a})
			}
		}
	}
	if len(b.ready.Files) > 0 {
		add("prepare", b.ready)
	}
	etcd, api := b.etcd, b.api
	whole := etcd != nil && etcd.right() && b.placed
	restarted := api != nil && (!whole || !api.right())
	if restarted {
		add("stop-kube-apiserver", slices.Concat(api.stop(), api.rest())...)
	}
	if etcd != nil && (restarted || !whole) {
		// Without etcd there is nothing to stop under the others' API servers. One of
		// them may be back before this one is down, and not refuse any more.
		add("stop-kube-apiserver", b.barriers[PhaseAPIGone])
	}
	switch {
	case etcd == nil:
		add("start-etcd", b.barriers[PhaseEtcdReady])
	case whole:
		add("start-etcd", append(etcd.keep(), b.etcdReady)...)
	default:
		if w, ok := b.barriers[PhaseAPIGone].(*WaitNodes); ok && w.ByPorts {
			add("stop-etcd", w.leaderLast(false)...)
		}
		add("stop-etcd", slices.Concat(etcd.stop(), etcd.rest())...)
		add("stop-etcd", b.barriers[PhaseEtcdOut])
		add("start-etcd", slices.Concat(b.moves, []Action{b.barriers[PhasePlaced]}, etcd.start(), []Action{b.etcdReady, b.barriers[PhaseEtcdReady]})...)
	}
	controllers := slices.DeleteFunc(b.controllers, returning.right)
	var stop, rest []Action
	for _, c := range controllers {
		stop, rest = append(stop, c.stop()...), append(rest, c.rest()...)
	}
	switch {
	case restarted:
		var out []Action
		out, stop = stopsOf(stop)
		add("start-kube-apiserver", slices.Concat(out, api.start())...)
	case api != nil:
		add("start-kube-apiserver", api.keep()...)
	}
	if api != nil {
		ref := api.ref()
		add("start-kube-apiserver", &WaitAPI{Pod: ref.pod, Unit: ref.unit, URL: b.url, File: ref.file})
	}
	add("start-kube-apiserver", b.barriers[PhaseAPIReady])

	// All of them are stopped first, and then waited for at once.
	add(controllersStep, append(stop, together(rest)...)...)
	for _, c := range controllers {
		add(controllersStep, c.start()...)
	}
	add(kubeadmStep, b.kubeadm...)
	add("verify", append(b.verify, b.barriers[PhaseVerified])...)
	return out
}

// podAgain is a static pod of the restored cluster.
type podAgain struct {
	out *TakeOut // what is there now; nil when nothing is, or the right one
	in  *PutIn
	is  bool // the right one is in place
}

// again readies a manifest once more, with an annotation that makes a pod of
// its own: kubelet would let one that it knows wait.
func (a *PutIn) again(b *again) (returning, error) {
	m := &podAgain{}
	put := b.h.prepared(a.File)
	if put == nil {
		return nil, problem.New("", "the journal of run %s doesn't have what was put at %s", b.h.restore.Run, a.File)
	}
	now, err := os.ReadFile(a.File)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	case sum(now) != a.Original && sameButFresh(now, put.Data):
		m.is = true
	default:
		m.out = &TakeOut{Pod: a.Pod, File: a.File, To: b.h.aside(a.File), SHA256: sum(now), API: a.API, Etcd: a.Etcd, Link: isLink(a.File)}
		if sum(now) != a.Original {
			m.out.To = a.Undone
			b.edited = append(b.edited, edit{Diff{Path: a.File, Text: manifest.Diff(a.File, a.File, put.Old, now)}, a.Undone})
		}
	}
	data, err := manifest.Annotate(put.Data, restartedAt, b.now.UTC().Format(time.RFC3339Nano))
	if err != nil {
		return nil, err
	}
	b.ready.Files = append(b.ready.Files, Readied{New: a.From, Undone: a.Undone, Like: put.Kept, Data: data})
	c := *a
	c.SHA256 = sum(data)
	m.in = &c
	return m, nil
}

// aside is where the run moved a manifest.
func (h *history) aside(file string) string {
	for a := range h.restore.actions() {
		if out, ok := a.Action.(*TakeOut); ok && out.File == file {
			return out.To
		}
	}
	return ""
}

func (m *podAgain) right() bool { return m.is }

func (m *podAgain) ref() processRef { return processRef{pod: m.in.Pod, file: m.in.File} }

func (m *podAgain) stop() []Action {
	switch {
	case m.out != nil:
		return []Action{m.out}
	case m.is: // it runs, but on data that is not in place
		return []Action{&TakeOut{Pod: m.in.Pod, File: m.in.File, To: m.in.Undone, API: m.in.API, Etcd: m.in.Etcd}}
	}
	return nil
}

func (m *podAgain) rest() []Action {
	if m.in.starts().role == RoleControllers {
		return []Action{&WaitForgotten{Pods: []string{m.in.Pod}, Files: []string{m.in.File}, Fresh: true}}
	}
	return goneActions(m.in.Pod, m.in.File, m.in.API)
}

// keep: kubelet does.
func (m *podAgain) keep() []Action { return nil }

func (m *podAgain) start() []Action {
	return []Action{m.in, &WaitStarted{Pod: m.in.Pod, File: m.in.File, Fresh: true}}
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
		if err := ownSubdir(filepath.Dir(f.New)); err != nil {
			return Failed, err
		}
		if err := writeOnce(f.New, f.Data, f.Like); err != nil {
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
