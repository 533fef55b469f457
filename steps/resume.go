package steps

import (
	"fmt"
	"time"
)

// NewResume plans to go on with a run that broke off: the plan of that run,
// with what is done already marked. Every action may be done twice, so the one
// that was under way is done again. run may be "" for the newest one that broke
// off. A run that broke off while it was going back goes on going back. A run of
// a fleet that ended before it touched this node is gone on with when it is
// named: the other nodes may be further.
func NewResume(stateDir, run string) (*Plan, error) {
	runs, err := Runs(stateDir)
	if err != nil {
		return nil, err
	}
	for i, r := range runs {
		open := r.State == RunUnfinished || r.State == RunFailed || r.State == RunUntouched && run != "" && ofFleet(r.Dir)
		if run == "" && !open || run != "" && run != r.Run {
			continue
		}
		if !open {
			return nil, &trouble{cause: fmt.Sprintf("run %s came to its end: %s", r.Run, r.State), hint: "etcd-rewind undo goes back from it"}
		}
		for _, later := range runs[:i] {
			if later.State == RunRestored || later.State == RunFailed || later.State == RunUnfinished {
				return nil, &trouble{cause: fmt.Sprintf("run %s came after %s and still stands", later.Run, r.Run), hint: "put back the later one first: " + UndoCommand(later.Run, later.Fleet)}
			}
		}
		h, err := readHistory(r.Dir)
		if err != nil {
			return nil, err
		}
		if h.last.Kind == KindUndo {
			return undoPlan(h)
		}
		p := *h.restore
		p.memory, p.done = h.memory, h.done
		p.Title = "Go on: " + p.Title
		return &p, nil
	}
	if run != "" {
		return nil, &trouble{cause: fmt.Sprintf("there is no run %s in %s", run, stateDir), hint: "etcd-rewind runs lists them"}
	}
	return nil, &trouble{cause: "no run has broken off", hint: "etcd-rewind runs lists the runs of this node"}
}

func ofFleet(runDir string) bool {
	h, err := readHistory(runDir)
	if err != nil {
		return false
	}
	for _, s := range h.restore.Steps {
		for _, a := range s.Actions {
			if _, meets := a.Action.(*Meet); meets {
				return true
			}
		}
	}
	return false
}

// Standing says in words where a run that broke off has left the node.
func Standing(info RunInfo, now time.Time) []Fact {
	h, err := readHistory(info.Dir)
	if err != nil {
		return []Fact{{"journal", err.Error()}}
	}
	facts := []Fact{{"run", fmt.Sprintf("%s, begun %s ago", info.Run, sayAge(now.Sub(h.started)))}}
	if f := h.restore.Restore; f != nil {
		facts = append(facts, Fact{"snapshot", f.Snapshot})
	}
	was := "restoring"
	if h.last.Kind == KindUndo {
		was = "going back"
	}
	facts = append(facts, Fact{"it was", was})
	var last, next string
	for _, s := range h.last.Steps {
		for _, a := range s.Actions {
			if h.last.Kind == KindRestore && h.done[a.ID] {
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
		facts = append(facts, Fact{"API", fmt.Sprintf("away for %s", max(now.Sub(h.memory.AwaySince), 0).Round(time.Second))})
	case h.memory.Outage > 0:
		facts = append(facts, Fact{"API", "back, with the restored data"})
	default:
		facts = append(facts, Fact{"API", "not touched by this run"})
	}
	return facts
}
