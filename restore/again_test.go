package restore

import (
	"slices"
	"testing"

	"etcd-rewind/steps"
)

func TestTheWaysOnFromAnEarlierRun(t *testing.T) {
	for _, tc := range []struct {
		run         steps.RunInfo
		alone, with []Verb
	}{
		{steps.RunInfo{State: steps.RunRestored}, []Verb{Undo}, []Verb{Undo}},
		{steps.RunInfo{State: steps.RunUnfinished}, []Verb{Resume, Undo}, []Verb{Resume, Undo}},
		{steps.RunInfo{State: steps.RunUndone, Undoing: true}, []Verb{Redo}, []Verb{Redo}},
		{steps.RunInfo{State: steps.RunFailed, Undoing: true}, []Verb{Resume, Undo, Redo}, []Verb{Undo, Redo}},
		{steps.RunInfo{State: steps.RunUnfinished, Redoing: true}, []Verb{Resume, Undo, Redo}, []Verb{Undo, Redo}},
		{steps.RunInfo{State: steps.RunRestored, Redoing: true}, []Verb{Undo}, []Verb{Undo}},
		{steps.RunInfo{State: steps.RunUntouched}, nil, nil},
		{steps.RunInfo{State: steps.RunUnreadable}, nil, nil},
	} {
		if got := Ways(tc.run, false); !slices.Equal(got, tc.alone) {
			t.Errorf("%+v alone: %v", tc.run, got)
		}
		if got := Ways(tc.run, true); !slices.Equal(got, tc.with) {
			t.Errorf("%+v on all nodes: %v", tc.run, got)
		}
	}
}

// here is nodes that know which this one is.
type here struct{ Nodes }

func (here) Here() string { return "cp1.example" }

// What stands for the plans of all nodes is this node's plan, or where it has
// nothing to do one that names the run.
func TestOnePlanStandsForTheNodesOfAnEarlierRun(t *testing.T) {
	two := here{&pair{}}
	f := &Flow{Nodes: two, Record: Record{Run: "old", Nodes: []NodeHosts{{Name: "cp1"}, {Name: "cp2"}}}}
	own := &steps.Plan{Run: "old", Node: two.Here(), Kind: steps.KindUndo, Steps: make([]steps.Step, 2)}
	for _, tc := range []struct {
		v     Verb
		plans []*steps.Plan
		kind  string
		steps int
		title string
	}{
		{Undo, []*steps.Plan{{Node: "cp2"}, own}, steps.KindUndo, 2, "Undo on cp1 and cp2: revert them to the state before run old"},
		{Resume, nil, steps.KindRestore, 0, "Resume the restore on cp1 and cp2"},
		{Redo, nil, steps.KindRedo, 0, "Redo run old on cp1 and cp2: to the restored data again"},
	} {
		p := f.Whole(tc.v, tc.plans)
		if p.Kind != tc.kind || len(p.Steps) != tc.steps || p.Title != tc.title || p.Run != "old" || p.Node != two.Here() {
			t.Errorf("%s: %+v", tc.v, p)
		}
	}
	if own.Title != "" {
		t.Error("the node's own plan was changed")
	}
	alone := &Flow{Nodes: &Local{}}
	if alone.Whole(Undo, []*steps.Plan{own}) != own {
		t.Error("a node alone has another plan than its own")
	}
}
