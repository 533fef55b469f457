package steps

import (
	"errors"
	"fmt"
	"slices"
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
type absent struct{ what, where string }

func (e *absent) Error() string {
	return fmt.Sprintf("there is no manifest of %s in %s", e.what, e.where)
}

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

// usable is the error of a node whose part of a restore can't be planned. Alone
// it runs both etcd and the API server; among several it may lack one.
func (f *Facts) usable(alone bool) error {
	switch {
	case f.Etcd == nil && (alone || f.Runs(RoleEtcd)):
		return f.EtcdErr
	case f.API == nil && (alone || f.Runs(RoleAPI)):
		return f.APIErr
	case f.Etcd == nil && f.API == nil:
		return f.EtcdErr
	}
	return nil
}
