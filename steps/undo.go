package steps

import (
	"context"
	"fmt"
	"slices"
	"time"

	"etcd-rewind/node"
)

// NewUndo plans to put back what a run changed, from its journal and a look at
// the node. run may be "" for the newest run that left something to put back.
func NewUndo(stateDir, run string) (*Plan, error) {
	runs, err := Runs(stateDir)
	if err != nil {
		return nil, err
	}
	var later []string
	for _, r := range runs {
		left := r.State == RunRestored || r.State == RunFailed || r.State == RunUnfinished
		switch {
		case run == "" && left, run == r.Run:
			if len(later) > 0 {
				return nil, &trouble{
					cause: fmt.Sprintf("run %s came after %s and still stands", later[len(later)-1], r.Run),
					hint:  "put back the later one first: " + UndoCommand(later[0], false),
				}
			}
			h, err := readHistory(r.Dir)
			if err != nil {
				return nil, err
			}
			p, err := undoPlan(h)
			if err != nil {
				return nil, err
			}
			if len(p.Steps) == 0 || r.State == RunUndone || r.State == RunUntouched {
				return nil, &trouble{cause: "run " + r.Run + " has left nothing to put back"}
			}
			return p, nil
		case left:
			later = append(later, r.Run)
		}
	}
	if run != "" {
		return nil, &trouble{cause: fmt.Sprintf("there is no run %s in %s", run, stateDir), hint: "etcd-rewind runs lists them"}
	}
	return nil, &trouble{cause: "no run has left anything to put back", hint: "etcd-rewind runs lists the runs of this node"}
}

// oldRun is how long after a restore an undo stops being routine: by then
// people rely on what the cluster has done since.
const oldRun = time.Hour

// sinceThen adds to an undo what the restored cluster has written since it was
// restored: going back loses it.
func sinceThen(ctx context.Context, p *Plan, ask func(context.Context, node.EtcdConfig, bool) (*node.EtcdStatus, error), now time.Time) {
	if p.Kind != KindUndo || p.memory.Revision == 0 || p.ended.IsZero() {
		return
	}
	age := now.Sub(p.ended).Round(time.Second)
	p.MustType = age >= oldRun
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	what := "can't be told: etcd doesn't answer"
	if s, err := ask(ctx, p.Reach.Etcd, false); err == nil {
		what = fmt.Sprintf("revisions: %d", max(s.Revision-p.memory.Revision, 0))
	}
	p.Summary = append(p.Summary, Fact{"written since", fmt.Sprintf("%s, in %s; the cluster loses it, %s keeps it", what, sayAge(age), p.Restore.Staging)})
}

// sayAge says how long ago, in the unit that matters.
func sayAge(d time.Duration) string {
	d = max(d, 0) // the clock may have been set back
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	default:
		return fmt.Sprintf("%d days", int(d.Hours()/24))
	}
}

// undoActions are the actions that take back what has begun, last first, by
// the step of the restore they belong to. But the controllers start last: what
// they have seen of the restored data, and the leases they hold in it, must not
// outlive it.
func undoActions(h *history) []Step {
	var steps []Step
	var controllers, kubeadm []Planned
	handled := map[string]bool{}
	for i := len(h.restore.Steps) - 1; i >= 0; i-- {
		s := h.restore.Steps[i]
		back := Step{ID: "undo-" + s.ID, Title: s.Title, Outage: s.Outage}
		for j := len(s.Actions) - 1; j >= 0; j-- {
			if !h.began[s.Actions[j].ID] {
				continue
			}
			into := &back.Actions
			if t, ok := s.Actions[j].Action.(*TakeOut); ok {
				if handled[t.File] {
					continue // the conditional step takes out what another step takes out too
				}
				handled[t.File] = true
				if !t.API && !t.Etcd {
					into = &controllers
				}
			}
			if _, ok := s.Actions[j].Action.(*SetKubeadmConfig); ok {
				into = &kubeadm
			}
			for _, a := range s.Actions[j].undo() {
				*into = append(*into, Planned{Action: a})
			}
		}
		if s.ID == controllersStep {
			back.Actions = together(back.Actions)
		}
		if len(back.Actions) > 0 {
			if t, ok := undoTexts[s.ID]; ok {
				back.Title, back.Why, back.More = t.title, t.why, t.more
			}
			steps = append(steps, back)
		}
	}
	if len(controllers) > 0 {
		t := undoTexts[controllersBack]
		steps = append(steps, Step{ID: "undo-" + controllersBack, Title: t.title, Why: t.why, More: t.more, Actions: controllers})
	}
	if len(kubeadm) > 0 { // it asks the API
		t := undoTexts[kubeadmStep]
		steps = append(steps, Step{ID: "undo-" + kubeadmStep, Title: t.title, Why: t.why, More: t.more, Actions: kubeadm})
	}
	return steps
}

// together takes all of the pods out first, and then waits for them at once.
func together(actions []Planned) []Planned {
	var out []Planned
	wait := &WaitForgotten{}
	for _, p := range actions {
		if w, ok := p.Action.(*WaitForgotten); ok {
			wait.Pods, wait.Files = append(wait.Pods, w.Pods...), append(wait.Files, w.Files...)
		} else {
			out = append(out, p)
		}
	}
	if len(wait.Pods) > 0 {
		out = append(out, Planned{Action: wait})
	}
	return out
}

func undoPlan(h *history) (*Plan, error) {
	r := h.restore
	p := &Plan{
		Run: r.Run, Kind: KindUndo, Node: r.Node, RunDir: r.RunDir, Reach: r.Reach,
		Title:   "Put " + r.Node + " back as it was before run " + r.Run,
		Steps:   undoActions(h),
		Restore: r.Restore,
		memory:  h.memory,
	}
	p.memory.KubeletRestarted, p.memory.Notes = false, nil
	if h.end != nil {
		p.ended = h.end.Time
	}
	if r.Restore != nil {
		p.Summary = []Fact{
			{"run", fmt.Sprintf("%s, of %s", r.Run, h.started.Local().Format(time.DateTime))},
			{"etcd goes back to", r.Restore.OldDataDir},
			{"restored data", "kept at " + r.Restore.Staging},
			{"manifests", "byte for byte as they were"},
		}
		if step := letGoFor(p.Steps, r.Restore.KubeletRestart, r.Reach.Kubelet.CRIEndpoint); step != nil {
			p.Steps = append(p.Steps, *step)
		}
	}
	p.number()
	return p, nil
}

// letGoFor is the conditional step for a kubelet that ignores removed
// manifests: what the plan takes out of the API server and etcd is taken out
// at once, kubelet restarted, and the containers ended. So are those of a
// manifest that is out already, which an undo only puts in.
func letGoFor(steps []Step, restart, cri string) *Step {
	s := letGoTemplate()
	var pods, files []string
	for _, step := range steps {
		for _, a := range step.Actions {
			switch t := a.Action.(type) {
			case *TakeOut:
				if t.API || t.Etcd {
					s.Actions = append(s.Actions, Planned{Action: t})
					pods, files = append(pods, t.Pod), append(files, t.File)
				}
			case *PutIn:
				if (t.API || t.Etcd) && !slices.Contains(pods, t.Pod) {
					pods, files = append(pods, t.Pod), append(files, t.File)
				}
			}
		}
	}
	if len(pods) == 0 {
		return nil
	}
	s.Actions = append(s.Actions, Planned{Action: &RestartKubelet{Command: restart}}, Planned{Action: &EndPods{Pods: pods, CRI: cri}})
	for i, pod := range pods {
		s.Actions = append(s.Actions, Planned{Action: &WaitGone{Pod: pod, File: files[i]}})
	}
	return &s
}
