package steps

import (
	"fmt"
	"maps"
	"time"

	"etcd-rewind/problem"
)

// NewResume plans to continue a run that was interrupted: the plan of that run,
// with what is done already marked. Every action may be done twice, so the one
// that was under way is done again. run may be "" for the newest interrupted
// one. A run that was interrupted while it was undone, or redone, continues
// with that. A run of a fleet that ended before it touched this node is resumed
// when it is named: the other nodes may be further.
func NewResume(stateDir, run string, t Terms) (*Plan, error) {
	open := func(r RunInfo) bool {
		return r.State == RunUnfinished || r.State == RunFailed || r.State == RunUntouched && run != "" && ofFleet(r.Dir)
	}
	h, err := find(stateDir, run, t, takenUp{
		left: open, none: "no run was interrupted",
		fits: func(r RunInfo) error {
			if !open(r) {
				return problem.New(t.command("undo", r.Run)+" reverts it", "run %s has finished: %s", r.Run, r.State)
			}
			return nil
		},
	})
	if err != nil {
		return nil, err
	}
	switch h.last.Kind {
	case KindUndo:
		p, err := undoPlan(h, t)
		if err == nil && p.redo != "" {
			p.Summary = append(p.Summary, Fact{"instead", p.Command(p.redo) + " switches to the restored data again"})
		}
		return p, err
	case KindRedo:
		return redoPlan(h, t)
	}
	p := *h.restore
	p.memory, p.done, p.accept, p.Flags, p.Checks = h.memory, h.done, t.Accept, t.Flags, nil
	p.Title = "Resume: " + p.Title
	p.restartWith(p.takeUp(h, t))
	p.done = h.lasting()
	Accept(p.Checks, t.Accept)
	return &p, nil
}

// lasting are the actions that are done and still are: a service that was stopped
// starts again when the machine boots, so it is stopped once more.
func (h *history) lasting() map[string]bool {
	done := maps.Clone(h.done)
	for a := range h.restore.actions() {
		unit := ""
		switch t := a.Action.(type) {
		case *StopUnit:
			unit = t.Unit
		case *WaitUnitStopped:
			unit = t.Unit
		default:
			continue
		}
		if h.atRest(unit) != nil {
			delete(done, a.ID)
		}
	}
	return done
}

// restartWith sets the command that restarts kubelet.
func (p *Plan) restartWith(command string) {
	facts := *p.Restore
	facts.KubeletRestart = command
	p.Restore = &facts
	for a := range p.actions() {
		if r, ok := a.Action.(*RestartKubelet); ok {
			again := *r
			again.Command = command
			a.Action = &again
		}
	}
}

func ofFleet(runDir string) bool {
	h, err := readHistory(runDir)
	if err != nil {
		return false
	}
	return h.restore.fleet()
}

// Standing says in words where a run that was interrupted has left the node.
func Standing(info RunInfo, now time.Time) []Fact {
	h, err := readHistory(info.Dir)
	if err != nil {
		return []Fact{{"journal", err.Error()}}
	}
	facts := []Fact{{"run", fmt.Sprintf("%s, begun on %s, %s", info.Run, Moment(h.started), Ago(h.started, now))}}
	if f := h.restore.Restore; f != nil {
		facts = append(facts, Fact{"snapshot", f.Snapshot})
	}
	was := "restoring"
	switch h.last.Kind {
	case KindUndo:
		was = "undoing"
	case KindRedo:
		was = "redoing"
	}
	facts = append(facts, Fact{"it was", was})
	var last, next string
	for _, s := range h.last.Steps {
		for _, a := range s.Actions {
			if h.last.Kind == KindRestore && h.done[a.ID] { // an undo's are not kept
				last = a.Title()
			}
		}
	}
	if a := h.last.action(h.doing); a != nil {
		next = a.Title()
	}
	if last != "" {
		facts = append(facts, Fact{"done last", last})
	}
	if next != "" {
		facts = append(facts, Fact{"in the middle of", next})
	}
	switch {
	case !h.memory.AwaySince.IsZero():
		facts = append(facts, Fact{"API", fmt.Sprintf("down for %s%s", max(now.Sub(h.memory.AwaySince), 0).Round(time.Second), beforeToo(h.memory.APIBefore))})
	case h.memory.Outage > 0:
		facts = append(facts, Fact{"API", "up, with the restored data"})
	default:
		facts = append(facts, Fact{"API", "not touched by this run"})
	}
	facts = append(facts, h.halfSwapped()...)
	if redo := h.redo(); h.last.Kind == KindUndo && redo != "" {
		facts = append(facts, Fact{"to redo", Command(redo, info.Run, h.last.Flags) + " switches to the restored data again"})
	}
	return facts
}
