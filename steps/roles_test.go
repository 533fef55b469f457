package steps

import (
	"path/filepath"
	"slices"
	"testing"

	"etcd-rewind/node"
)

func TestANodeHasTheRolesOfWhatItRuns(t *testing.T) {
	for _, tt := range []struct {
		story   string
		without []string
		broken  string
		want    []Role
	}{
		{"stacked", nil, "", Roles},
		{"etcd on other nodes", []string{"etcd"}, "", []Role{RoleAPI, RoleControllers}},
		{"etcd alone", []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler"}, "", []Role{RoleEtcd}},
		// Not "no etcd": a plan without it would start the API server on whatever there is.
		{"an etcd.yaml that can't be used", nil, "    - --config-file=/etc/etcd.conf", Roles},
	} {
		t.Run(tt.story, func(t *testing.T) {
			n := newFakeNode(t, tt.without...)
			f := n.facts()
			if tt.broken != "" {
				n.mustReplace("manifests/etcd.yaml", "    - --name=cp1", tt.broken)
				f = n.discovered()
				if _, err := NewRestore(f, snapshotOfTheTests, Choices{Fleet: fleetOfTheTests}); err == nil {
					t.Error("a restore is planned without this node's etcd")
				}
			}
			if got := f.Roles(); !slices.Equal(got, tt.want) {
				t.Errorf("%v, want %v", got, tt.want)
			}
		})
	}
	// Alone, a node needs both.
	if _, err := NewRestore(newFakeNode(t, "etcd").facts(), snapshotOfTheTests, Choices{}); err == nil {
		t.Error("a restore is planned on a single node without etcd")
	}
}

// A node that has one part alone goes to the restored data again as it went
// there first, and has waits for the others.
func TestANodeWithOneRoleIsRedone(t *testing.T) {
	for part, without := range map[string][]string{
		"etcd alone":          {"kube-apiserver", "kube-controller-manager", "kube-scheduler"},
		"no etcd on the node": {"etcd"},
	} {
		t.Run(part, inFakeTime(func(t *testing.T) {
			n := newFakeNode(t, without...)
			ahead := node.RemoteState{API: node.PortRefuses, APIReady: true, Peer: node.PortRefuses, ClusterID: 0xbbbb}
			n.see("cp2", ahead)
			n.see("cp3", ahead)
			e, _ := n.engine(nil)
			if res := e.Run(t.Context(), n.plan(Choices{Fleet: fleetOfTheTests})); !res.OK {
				t.Fatal(res.Error)
			}
			if res := e.Run(t.Context(), n.undo()); !res.OK {
				t.Fatal(res.Error)
			}
			if err := n.works(0xaaaa); err != nil {
				t.Fatalf("not undone: %v", err)
			}
			redo, err := NewRedo(filepath.Join(n.root, "etcd-rewind"), "", Terms{Fleet: true})
			if err != nil {
				t.Fatal(err)
			}
			for _, phase := range []Phase{PhaseAPIGone, PhaseEtcdOut, PhasePlaced, PhaseEtcdReady, PhaseAPIReady, PhaseVerified} {
				if !redo.has(func(a Action) bool { w, ok := a.(*WaitNodes); return ok && w.Phase == phase }) {
					t.Errorf("nothing waits for %s", phase)
				}
			}
			if res := e.Run(t.Context(), redo); !res.OK {
				t.Fatal(res.Error)
			}
			if err := n.works(0xbbbb); err != nil {
				t.Errorf("not redone: %v", err)
			}
		}))
	}
}
