package steps

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"etcd-rewind/problem"
)

// movable is a node that was restored, and whose kubeadm-config still names the
// directory of before, where something lies or nothing does.
func movable(t *testing.T, something bool) (n *fakeNode, from, to string) {
	n = newFakeNode(t)
	e, _ := n.engine(nil)
	p := n.plan(Choices{})
	if res := e.Run(t.Context(), p); !res.OK {
		t.Fatal(res.Error)
	}
	to = n.oldData()
	if !something {
		n.must(os.Rename(to, to+"-kept"))
	}
	return n, p.Restore.DataDir, to
}

func (n *fakeNode) planHome(to string) *Plan {
	n.t.Helper()
	f := n.facts()
	f.Kubeadm = KubeadmFacts{DataDir: to}
	c, err := f.Home(Choices{})
	if err != nil {
		n.t.Fatal(err)
	}
	for _, v := range Check(n.t.Context(), f, nil, c) {
		if v.Level != Pass && (v.Check == "target" || v.Check == "data-directory") {
			n.t.Errorf("%+v", v)
		}
	}
	p, err := NewRestore(f, nil, c)
	if err != nil {
		n.t.Fatal(problem.Line(err))
	}
	return p
}

// etcd's data is moved to where kubeadm expects it: the same data, by renames, in
// one outage; etcd.yaml names the usual path again. Undo has it where it was.
func TestDataIsMovedToWhereKubeadmExpectsIt(t *testing.T) {
	for _, something := range []bool{true, false} {
		t.Run(fmt.Sprintf("something lies there: %t", something), func(t *testing.T) {
			t.Parallel()
			n, from, to := movable(t, something)
			before := n.picture()
			p := n.planHome(to)
			for _, s := range p.Steps {
				for _, a := range s.Actions {
					switch a.Action.(type) {
					case *Stage, *Swap, *Rename, *Verify, *Save, *SetKubeadmConfig:
						t.Errorf("%s: %s", a.Kind(), a.Title())
					}
				}
			}
			e, _ := n.engine(nil)
			res := e.Run(t.Context(), p)
			if !res.OK {
				t.Fatal(res.Error)
			}
			if err := n.works(0xbbbb); err != nil {
				t.Error(err)
			}
			if f := n.facts(); f.Etcd.DataDir.HostPath != to {
				t.Errorf("etcd.yaml names %s", f.Etcd.DataDir.HostPath)
			}
			if _, err := os.Stat(from); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s: %v", from, err)
			}
			if _, err := os.Stat(asideFor(to, p.Run)); something != (err == nil) {
				t.Errorf("what lay there: %v", err)
			}
			undo := n.undo()
			if err := undo.Allowed(t.Context()); err != nil {
				t.Fatal(problem.Line(err))
			}
			if res := e.Run(t.Context(), undo); !res.OK {
				t.Fatal(res.Error)
			}
			if err := n.works(0xbbbb); err != nil {
				t.Error(err)
			}
			if diff := cmp.Diff(before, n.picture()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Killed at any point of it, the next process finishes it or has it undone.
func TestAMoveThatIsInterruptedIsFinishedOrUndone(t *testing.T) {
	for _, something := range []bool{true, false} {
		for _, point := range []string{"after the intent", "in the middle", "before the result"} {
			if !something && point == "in the middle" {
				continue // one rename has none
			}
			for _, undo := range []bool{true, false} {
				t.Run(fmt.Sprintf("something lies there: %t, %s, undo: %t", something, point, undo), inFakeTime(func(t *testing.T) {
					n, _, to := movable(t, something)
					before := n.picture()
					p := n.planHome(to)
					at := crashed{point: point}
					for a := range p.actions() {
						if _, is := a.Action.(*Move); is {
							at.action = a.ID
						}
					}
					e, _ := n.engine(nil)
					if !n.crashAt(e, p, at) {
						t.Fatal("it did not crash")
					}
					next := NewResume
					if undo {
						next = NewUndo
					}
					again, err := next(n.stateDir(), "", Terms{})
					if err != nil {
						t.Fatal(problem.Line(err))
					}
					if res := e.Run(t.Context(), again); !res.OK {
						t.Fatal(res.Error)
					}
					if err := n.works(0xbbbb); err != nil {
						t.Error(err)
					}
					if !undo {
						if f := n.facts(); f.Etcd.DataDir.HostPath != to {
							t.Errorf("etcd.yaml names %s", f.Etcd.DataDir.HostPath)
						}
						return
					}
					if diff := cmp.Diff(before, n.picture()); diff != "" {
						t.Error(diff)
					}
				}))
			}
		}
	}
}

// What can't be moved by renames, or isn't one member's, stays where it is.
func TestDataThatCantBeMovedStays(t *testing.T) {
	n, from, to := movable(t, true)
	for _, c := range []struct {
		name, want string
		spoil      func(f *Facts, c *Choices)
	}{
		{"several members", "a single member", func(f *Facts, _ *Choices) { f.Live.Members = append(f.Live.Members, f.Live.Members[0]) }},
		{"there already", "already", func(_ *Facts, c *Choices) { c.DataDir = from }},
		{"inside", "inside each other", func(_ *Facts, c *Choices) { c.DataDir = filepath.Join(from, "data") }},
		{"a relative path", "absolute", func(_ *Facts, c *Choices) { c.DataDir = "etcd" }},
		{"a file", "director", func(_ *Facts, c *Choices) { c.DataDir = filepath.Join(n.root, "manifests/etcd.yaml") }},
		{"a WAL of its own", "--wal-dir", func(f *Facts, _ *Choices) { wal := f.Etcd.DataDir; f.Etcd.WALDir = &wal }},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := n.facts()
			f.Kubeadm = KubeadmFacts{DataDir: to}
			ch, err := f.Home(Choices{})
			if err != nil {
				t.Fatal(err)
			}
			c.spoil(f, &ch)
			if _, err := NewRestore(f, nil, ch); err == nil || !strings.Contains(problem.Line(err), c.want) {
				t.Errorf("%v, not %q", err, c.want)
			}
		})
	}
	f := n.facts()
	f.Kubeadm = KubeadmFacts{None: true}
	if _, err := f.Home(Choices{}); err == nil {
		t.Error("there is nowhere to move it to")
	}
}
