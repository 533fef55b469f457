package ui

import (
	"errors"
	"slices"
	"testing"

	"etcd-rewind/problem"
	"etcd-rewind/restore"
	"etcd-rewind/steps"
)

// After an undo the restored data is one key away: planned, confirmed, shown.
func TestAnUndoIsRedone(t *testing.T) {
	d := drive(t, newFake(), Options{})
	d.to(runScreen)
	d.until("Restored: the API server answers")
	d.key("d")
	d.see("Restored: the API server answers") // nothing was undone
	d.key("u", "enter", "cp1", "enter")
	d.until("Undone: the node is as before")
	d.see("etcd-rewind redo 20261120-120000", "d redo")
	d.key("d")
	d.see("Redo run 20261120-120000 on cp1: to the restored data again", "with what was written to it since the undo")
	d.key("enter")
	d.see("etcd runs on the restored data again", "since the undo", "Type the node's name, cp1")
	d.key("esc", "esc")
	d.see("Undone: the node is as before")
	d.key("d", "enter", "cp1", "enter")
	d.until("Restored: the API server answers")
	if r := d.m.runner.wait(); r.ExitCode() != 0 || r.Reverted || !slices.Equal(d.f.runs, []string{steps.KindRestore, steps.KindUndo, steps.KindRedo}) {
		t.Errorf("ends as %+v, ran %v", r, d.f.runs)
	}
	d.key("u")
	d.see("Put cp1 back as it was before run")
}

// A redo that fails can be tried again or undone.
func TestARedoThatFailsLeavesBothWays(t *testing.T) {
	f := newFake()
	f.list = someRuns()
	f.failAt = "start-etcd.4"
	d := drive(t, f, Options{})
	d.to(nodeScreen)
	d.key("u", "d", "enter", "cp1", "enter")
	d.until("permission denied")
	d.key("x", "y")
	d.until("half restored")
	d.see("u undo", "d redo")
	d.key("q")
	d.see("Quit while the API is down?", "Redo  etcd-rewind redo 20261120-120000", "Undo  etcd-rewind undo 20261120-120000")
	d.key("n", "d", "enter", "cp1", "enter")
	d.until("Restored: the API server answers")
}

func TestAnInterruptedUndoIsRedone(t *testing.T) {
	f := newFake()
	f.brokeOff()
	f.facts.Unfinished.Undoing = true
	d := drive(t, f, Options{})
	d.do(d.m.discover())
	d.see("g  resume", "u  undo", "d  redo: to the restored data again")
	d.key("d", "enter", "cp1", "enter")
	d.until("Restored: the API server answers")

	d = brokeOff(t)
	d.dontSee("redo") // nothing was undone
	d.key("d")
	d.see("A run on this node was interrupted")
}

// All runs of the node, and what there is to do with each.
func TestTheListOfRuns(t *testing.T) {
	f := newFake()
	f.list = someRuns()
	d := drive(t, f, Options{})
	d.to(nodeScreen)
	d.key("u")
	d.see("The runs of this node", "20261120-110000  60 min ago    undone      4.2 s", "d  redo")
	d.dontSee("u  undo")
	d.key("u", "g")
	d.see("The runs of this node")
	d.key("j")
	d.see("u  undo: revert the node", "/mnt/backups/production/etcd/cp1/etcd-nightly-20261118.db.gz")
	d.dontSee("d  redo")
	d.key("u")
	d.see("Put cp1 back as it was before run")
	d.key("esc")
	d.see("The runs of this node")
	d.key("end")
	d.see("journal: unexpected end")
	for _, way := range []string{"g  ", "u  ", "d  "} {
		d.dontSee("   " + way)
	}
	d.key("/", "1119", "enter", "u", "enter", "cp1", "enter")
	d.until("Undone: the node is as before")

	f.list, f.listErr = nil, &problem.Problem{Cause: "the runs of this node can't be read", Hint: "look at its owner"}
	d = drive(t, f, Options{})
	d.to(nodeScreen)
	d.key("u")
	d.see("the runs of this node can't be read", "look at its owner")
	f.listErr = nil
	d.key("r")
	d.see("No runs on this node")
	d.key("u", "d", "enter", "esc")
	d.see("choose the snapshot")
}

func TestARunOfSeveralNodesIsRedoneOnAll(t *testing.T) {
	f := newFake()
	all := several(f, threeNames...)
	f.list = someRuns()
	f.list[0].Fleet, f.list[0].Dir = true, "/etc/kubernetes/etcd-rewind/20261120-110000"
	all.states = map[string]steps.RunState{"cp1": steps.RunUndone, "cp2": steps.RunRestored, "cp3": steps.RunUndone}
	d := drive(t, f, Options{})
	d.to(nodeScreen)
	d.key("u")
	d.see("cp1, cp2 and cp3", "d  redo: to the restored data again, on all nodes")
	d.key("d")
	d.see("Redo run 20261120-120000 on cp1, cp2 and cp3: to the restored data again", "All nodes switch to the restored data again at the same time")
	d.key("tab")
	d.see("Redo run 20261120-120000 on cp1: to the restored data again")
	d.key("tab", "tab", "enter")
	d.see("to start on all of them")
	d.key("cp1", "enter")
	d.until("all 3 nodes serve the snapshot's data")
	if !slices.Equal(all.ran, []string{string(restore.Redo)}) {
		t.Errorf("ran %v", all.ran)
	}

	// Without its record it is a run of this node.
	f = newFake()
	f.list = someRuns()
	f.list[0].Fleet = true
	f.planErr = errors.New("run 20261120-110000 was made on several nodes")
	d = drive(t, f, Options{})
	d.to(nodeScreen)
	d.key("u", "d")
	d.see("was made on several nodes")
}
