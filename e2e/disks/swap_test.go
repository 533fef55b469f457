//go:build e2e && linux

package disks

import (
	"os"
	"path/filepath"
	"testing"

	"etcd-rewind/steps"
)

// The restored data takes the old data's path, also where that is the root of a
// disk: what etcd has in it is swapped then. Back, and there again.
func TestASwapWhereverTheDataLies(t *testing.T) {
	for _, own := range []bool{false, true} {
		name := "a directory"
		if own {
			name = "the root of a disk"
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGround(t, func(root string) {
				if own {
					tmpfs(t, filepath.Join(root, "var/lib/etcd"), "256m")
				}
			})
			s, f := g.facts(t)
			info, err := s.Inspect(t.Context(), g.snapshot, nil)
			if err != nil {
				t.Fatal(err)
			}
			p, err := s.Plan(f, info, steps.Choices{Swap: true, KubeletRestart: g.restart()})
			if err != nil {
				t.Fatal(err)
			}
			if res := g.run(t, p, steps.Unattended, "", nil); !res.OK {
				t.Fatalf("the restore: %+v", res.Error)
			}
			g.restored(t)
			if p.Restore.DataDir != g.Root.Path("var/lib/etcd") {
				t.Errorf("etcd runs from %s", p.Restore.DataDir)
			}
			if _, err := os.Stat(filepath.Join(p.Restore.Aside, "member/snap/db")); err != nil {
				t.Error("the old data:", err)
			}
			g.undo(t)
			g.asBefore(t)
			redo, err := steps.NewRedo(g.stateDir(), "", g.terms())
			if err != nil {
				t.Fatal(err)
			}
			if res := g.run(t, redo, steps.Unattended, "", nil); !res.OK {
				t.Fatalf("the redo: %+v", res.Error)
			}
			g.restored(t)
			g.undo(t)
			g.asBefore(t)
		})
	}
}
