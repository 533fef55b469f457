package steps

import (
	"slices"
	"testing"
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
