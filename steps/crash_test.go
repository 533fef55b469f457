package steps

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"etcd-rewind/node"
)

type crashed struct{ point, action string }

// crashAt runs the plan until the process dies at a point.
func (n *fakeNode) crashAt(e *Engine, p *Plan, at crashed) (died bool) {
	e.crash = func(point, action string) {
		if point == at.point && action == at.action {
			panic(at)
		}
	}
	defer func() {
		e.crash = nil
		if v := recover(); v == at {
			died = true
		} else if v != nil {
			panic(v)
		}
	}()
	e.Run(n.t.Context(), p)
	return false
}

// The crash matrix: for every action of the plan the process dies before its
// intent is on the disk, after that, in the middle, and when it is done but its
// result is not yet on the disk. From each the next process can continue to the
// restored cluster, and can go back to the node as it was. The matrix is made
// from the plan: a new action is in it without more.
func TestCrashMatrix(t *testing.T) {
	t.Run("of a single node", func(t *testing.T) { crashMatrix(t, Choices{}, func(Planned) bool { return true }) })
	// What a fleet adds; the rest of its plan is the same.
	t.Run("of a node in a fleet", func(t *testing.T) {
		crashMatrix(t, Choices{Fleet: fleetOfTheTests}, func(a Planned) bool {
			_, waits := a.Action.(*WaitNodes)
			return waits
		})
	})
	// What a swap adds: the renames, and the start on what they made.
	t.Run("of a node whose data is swapped", func(t *testing.T) {
		crashMatrix(t, Choices{Swap: true}, func(a Planned) bool {
			switch a.Action.(type) {
			case *Swap:
				return true
			}
			return RoleEtcd.starts(a.Action)
		})
	})
	// Each of the two parts without the other.
	changes := func(a Planned) bool {
		switch a.Action.(type) {
		case *TakeOut, *PutIn, *Rename, *Swap, *StopUnit, *WaitUnitStopped, *StartUnit, *ReplaceFile:
			return true
		}
		return false
	}
	t.Run("of a node without etcd", func(t *testing.T) { crashMatrix(t, Choices{Fleet: fleetOfTheTests}, changes, "etcd") })
	ofUnits := func(a Planned) bool {
		if _, pod := a.Action.(ofKubelet); pod {
			return false
		}
		return changes(a)
	}
	t.Run("of a node with etcd under systemd", func(t *testing.T) { crashMatrix(t, Choices{}, ofUnits, inSystemd) })
	t.Run("of a node with etcd under systemd whose data is swapped", func(t *testing.T) {
		crashMatrix(t, Choices{Swap: true}, ofUnits, inSystemd)
	})
	t.Run("of a node with etcd under systemd and nothing else", func(t *testing.T) {
		crashMatrix(t, Choices{}, ofUnits, inSystemd, "kube-apiserver", "kube-controller-manager", "kube-scheduler")
	})
	t.Run("of a node with everything under systemd", func(t *testing.T) { crashMatrix(t, Choices{}, ofUnits, allInSystemd) })
	t.Run("of a node without an API server", func(t *testing.T) {
		crashMatrix(t, Choices{Fleet: fleetOfTheTests}, changes, "kube-apiserver", "kube-controller-manager", "kube-scheduler")
	})
}

func crashMatrix(t *testing.T, c Choices, wanted func(Planned) bool, without ...string) {
	ahead := node.RemoteState{API: node.PortRefuses, APIReady: true, Peer: node.PortRefuses, ClusterID: 0xbbbb}
	terms := Terms{Accept: []string{CheckAPIServers}}
	fresh := func(t *testing.T) *fakeNode {
		n := newFakeNode(t, without...)
		n.see("cp2", ahead)
		n.see("cp3", ahead)
		return n
	}
	var points []crashed
	for _, s := range newFakeNode(t, without...).plan(c).Steps {
		for _, a := range s.Actions {
			if s.When != "" || !wanted(a) {
				continue
			}
			for _, p := range []string{"before the intent", "after the intent", "before the result"} {
				points = append(points, crashed{p, a.ID})
			}
			switch a.Action.(type) {
			case *Prepare, *Stage, *EndPods, *ReplaceFile, *Swap:
				points = append(points, crashed{"in the middle", a.ID})
			}
		}
	}
	for _, at := range points {
		t.Run(fmt.Sprintf("%s %s, then resume", at.action, at.point), inFakeTime(func(t *testing.T) {
			n := fresh(t)
			e, _ := n.engine(nil)
			if !n.crashAt(e, n.plan(c), at) {
				t.Fatal("it did not crash")
			}
			stateDir := filepath.Join(n.root, "etcd-rewind")
			p, err := NewResume(stateDir, "", terms)
			if open, _ := unfinished(stateDir); open == nil && n.works(0xaaaa) == nil && err != nil {
				p, err = n.plan(c), nil // it was interrupted before anything was touched: a new run may start
			}
			if err != nil {
				t.Fatal(err)
			}
			if res := e.Run(t.Context(), p); !res.OK {
				t.Fatal(res.Error)
			}
			if err := n.works(0xbbbb); err != nil {
				t.Errorf("not restored: %v", err)
			}
			// And still back from there.
			undo, err := NewUndo(stateDir, "", terms)
			if err != nil {
				t.Fatal(err)
			}
			if res := e.Run(t.Context(), undo); !res.OK {
				t.Fatal(res.Error)
			}
		}))
		t.Run(fmt.Sprintf("%s %s, then undo", at.action, at.point), inFakeTime(func(t *testing.T) {
			n := fresh(t)
			before := n.picture()
			e, _ := n.engine(nil)
			if !n.crashAt(e, n.plan(c), at) {
				t.Fatal("it did not crash")
			}
			p, err := NewUndo(filepath.Join(n.root, "etcd-rewind"), "", terms)
			if err != nil {
				// Nothing had been touched: that is as it was, too.
				if diff := cmp.Diff(before, n.picture()); diff != "" {
					t.Fatalf("%v, but:\n%s", err, diff)
				}
				return
			}
			if res := e.Run(t.Context(), p); !res.OK {
				t.Fatal(res.Error)
			}
			if diff := cmp.Diff(before, n.picture()); diff != "" {
				t.Error(diff)
			}
			n.until("the node works as before", func() bool { return n.works(0xaaaa) == nil })
		}))
	}
}

// Going back may break off too, at any point; going back once more ends it.
func TestAnUndoThatBreaksOffIsFinishedByTheNext(t *testing.T) {
	t.Run("new directory", func(t *testing.T) { undoMatrix(t, Choices{}, func(Planned) bool { return true }) })
	t.Run("swapped", func(t *testing.T) {
		undoMatrix(t, Choices{Swap: true}, func(a Planned) bool {
			switch a.Action.(type) {
			case *SwapBack:
				return true
			}
			return false
		})
	})
}

func undoMatrix(t *testing.T, c Choices, wanted func(Planned) bool) {
	n := newFakeNode(t)
	e, _ := n.engine(nil)
	if res := e.Run(t.Context(), n.plan(c)); !res.OK {
		t.Fatal(res.Error)
	}
	undo := n.undo()
	var points []crashed
	for _, s := range undo.Steps {
		for _, a := range s.Actions {
			if s.When == "" && wanted(a) {
				points = append(points, crashed{"after the intent", a.ID}, crashed{"before the result", a.ID})
				if _, swaps := a.Action.(*SwapBack); swaps {
					points = append(points, crashed{"in the middle", a.ID})
				}
			}
		}
	}
	for _, at := range points {
		t.Run(at.action+" "+at.point, inFakeTime(func(t *testing.T) {
			n := newFakeNode(t)
			before := n.picture()
			e, _ := n.engine(nil)
			if res := e.Run(t.Context(), n.plan(c)); !res.OK {
				t.Fatal(res.Error)
			}
			stateDir := filepath.Join(n.root, "etcd-rewind")
			undo, err := NewUndo(stateDir, "", Terms{})
			if err != nil {
				t.Fatal(err)
			}
			if !n.crashAt(e, undo, at) {
				t.Fatal("it did not crash")
			}
			again, err := NewResume(stateDir, "", Terms{})
			if err != nil {
				t.Fatal(err)
			}
			if res := e.Run(t.Context(), again); !res.OK {
				t.Fatal(res.Error)
			}
			if diff := cmp.Diff(before, n.picture()); diff != "" {
				t.Error(diff)
			}
			n.until("the API is ready", n.apiReady)
		}))
	}
}
