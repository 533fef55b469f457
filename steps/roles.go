package steps

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"etcd-rewind/problem"
	"etcd-rewind/trust"
)

// Role is a part of the control plane that a node runs. A node may have each
// without the others.
type Role string

// The roles, in the order in which a restore starts them.
const (
	RoleEtcd        Role = "etcd"
	RoleAPI         Role = "kube-apiserver"
	RoleControllers Role = "controllers"
)

// Roles are all roles.
var Roles = []Role{RoleEtcd, RoleAPI, RoleControllers}

// absent is the error of a program that this node doesn't run, as far as its
// files say. What is there and can't be used is another error.
type absent struct {
	what, where string
	services    bool   // systemd was asked, too
	named       string // the service that the person has named, which isn't there
}

func (e *absent) Error() string {
	say := fmt.Sprintf("there is no manifest of %s in %s", e.what, e.where)
	switch {
	case e.named != "":
		say += ", and systemd has no unit " + e.named
	case e.services:
		say += ", and no service that starts it"
	}
	return say
}

// NotHere is the error of a program that this node doesn't run: its manifest
// isn't in a directory that was read.
func NotHere(what, where string) error { return &absent{what: what, where: where} }

// Roles are what this node runs, or has that can't be read.
func (f *Facts) Roles() (all []Role) {
	has := func(role Role, err error) {
		var no *absent
		if !errors.As(err, &no) {
			all = append(all, role)
		}
	}
	has(RoleEtcd, f.EtcdErr)
	has(RoleAPI, f.APIErr)
	if len(f.Controllers) > 0 {
		all = append(all, RoleControllers)
	}
	return all
}

// Runs says whether this node has a role.
func (f *Facts) Runs(role Role) bool { return slices.Contains(f.Roles(), role) }

// lacks says that a role is on other nodes: this one runs another part of the
// control plane, and what would show the role here was read. An earlier run
// that was interrupted may have moved its manifest aside.
func (f *Facts) lacks(role Role) bool {
	return !f.Runs(role) && f.ManifestsErr == nil && f.Unfinished == nil && (f.Etcd != nil || f.API != nil)
}

// Apart says that etcd and kube-apiserver run on different nodes, as far as this
// one shows: it has one of them, and nothing of what belongs to the other.
func (f *Facts) Apart() bool {
	return f.lacks(RoleEtcd) || f.lacks(RoleAPI) && len(f.Controllers) == 0
}

// usable is the error of a node whose part of a restore can't be planned. Alone
// it runs etcd; among several it may run the API server alone.
func (f *Facts) usable(alone bool) error {
	switch {
	case f.Etcd == nil && alone && f.lacks(RoleEtcd):
		return f.etcdElsewhere()
	case f.Etcd == nil && (alone || f.Runs(RoleEtcd)):
		return f.EtcdErr
	case f.API == nil && f.Runs(RoleAPI):
		return f.APIErr
	case f.Etcd == nil && f.API == nil:
		return f.EtcdErr
	}
	return nil
}

// etcdElsewhere is the error of a restore of this node alone, whose etcd is on
// others.
func (f *Facts) etcdElsewhere() error {
	return problem.New("restore etcd's nodes and this one together: etcd-rewind restore --fleet",
		"etcd runs on other nodes: kube-apiserver here uses %s", trust.Text(strings.Join(f.API.EtcdServers, ", ")))
}

// onPods says whether a part of the control plane here is a static pod, or may
// be, as nothing else is known.
func (f *Facts) onPods() bool {
	if f.Etcd.pod() != nil || f.API.pod() != nil || f.Etcd == nil && f.API == nil {
		return true
	}
	return slices.ContainsFunc(f.Controllers, func(s ProgramSource) bool { _, ok := s.(podOther); return ok })
}
