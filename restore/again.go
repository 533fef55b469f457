package restore

import (
	"context"
	"strings"

	"etcd-rewind/steps"
)

// Ways are what can be done with a run, as far as this node knows of it;
// together says that it is done on all of several nodes. Only planning knows for sure.
func Ways(r steps.RunInfo, together bool) []Verb {
	var ways []Verb
	broken := r.State == steps.RunUnfinished || r.State == steps.RunFailed
	back := r.Undoing || r.Redoing
	if broken && !(together && back) { // several continue an undo or a redo by its own verb
		ways = append(ways, Resume)
	}
	if broken || r.State == steps.RunRestored {
		ways = append(ways, Undo)
	}
	if r.State == steps.RunUndone || broken && back {
		ways = append(ways, Redo)
	}
	return ways
}

// Open finds the nodes of an earlier run, and in which state it is on each of
// several.
func (f *Flow) Open(ctx context.Context, r Record) (err error) {
	f.Record = r
	f.States, err = f.Nodes.Open(ctx, r)
	return err
}

// PlanAgain plans what is done with the run that was opened, on every node where
// there is something to do.
func (f *Flow) PlanAgain(ctx context.Context, v Verb) ([]*steps.Plan, error) {
	return f.Nodes.PlanAgain(ctx, v)
}

// Whole is the plan that stands for those of all nodes with an earlier run: this
// node's, where it is alone or has something to do, under a title for all. It is
// for people, and for the commands that name the run; the nodes run their own.
func (f *Flow) Whole(v Verb, plans []*steps.Plan) *steps.Plan {
	names := f.Record.Names()
	own := PlanOf(plans, f.Nodes.Here())
	if len(names) == 0 {
		return own
	}
	p := steps.Plan{Run: f.Record.Run, Kind: steps.KindRestore}
	if own != nil {
		p = *own
	}
	p.Node = f.Nodes.Here()
	on := strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1]
	switch v {
	case Undo:
		p.Kind, p.Title = steps.KindUndo, "Undo on "+on+": revert them to the state before run "+p.Run
	case Redo:
		p.Kind, p.Title = steps.KindRedo, "Redo run "+p.Run+" on "+on+": to the restored data again"
	default:
		p.Title = "Resume the restore on " + on
	}
	return &p
}

// PlanOf is the plan of a node, else the first; nil when there is none.
func PlanOf(plans []*steps.Plan, node string) *steps.Plan {
	for _, p := range plans {
		if p.Node == node {
			return p
		}
	}
	if len(plans) > 0 {
		return plans[0]
	}
	return nil
}

// Names are those of the nodes.
func (r *Record) Names() []string {
	var names []string
	for _, n := range r.Nodes {
		names = append(names, n.Name)
	}
	return names
}
