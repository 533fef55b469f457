package print

import (
	"strings"
	"testing"

	"etcd-rewind/restore"
	"etcd-rewind/steps"
)

// What a node runs is told only where it isn't what all control planes run.
func TestMembersTellWhatANodeRunsWhereItDiffers(t *testing.T) {
	for want, roles := range map[string][]steps.Role{
		"this node; API":                              steps.Roles,
		"this node, etcd only; API":                   {steps.RoleEtcd},
		"this node, no etcd; API":                     {steps.RoleAPI, steps.RoleControllers},
		"this node, neither etcd nor API server; API": {steps.RoleControllers},
	} {
		var b strings.Builder
		m := restore.Member{Name: "cp1", PeerURLs: []string{"u"}, Local: true, Roles: roles, Facts: &restore.NodeFacts{}}
		if err := Members(&b, []restore.Member{m}); err != nil || !strings.Contains(b.String(), want) {
			t.Errorf("%v: %q, want %q (%v)", roles, b.String(), want, err)
		}
	}
}
