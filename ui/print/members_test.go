package print

import (
	"strings"
	"testing"

	"etcd-rewind/restore"
	"etcd-rewind/steps"
)

// What a node runs is printed only where it isn't what all control planes run.
func TestMembersTellWhatANodeRunsWhereItDiffers(t *testing.T) {
	for want, roles := range map[string][]steps.Role{
		"cp1  u, this node; API ready; etcd doesn't answer": steps.Roles,
		"cp1  u, this node, etcd only; etcd doesn't answer": {steps.RoleEtcd},
		"cp1  this node, no etcd; API ready\n":              {steps.RoleAPI, steps.RoleControllers},
		"cp1  this node, neither etcd nor API server\n":     {steps.RoleControllers},
	} {
		var b strings.Builder
		m := restore.Member{Name: "cp1", PeerURLs: []string{"u"}, Local: true, Roles: roles, Facts: &restore.NodeFacts{Roles: roles, APIState: "ready"}}
		if m.Apart = !m.Facts.Runs(steps.RoleEtcd); m.Apart {
			m.PeerURLs = nil
		}
		if err := Members(&b, []restore.Member{m}); err != nil || !strings.Contains(b.String(), want) {
			t.Errorf("%v: %q, want %q (%v)", roles, b.String(), want, err)
		}
	}
}
