//go:build !linux

package drill

import (
	"context"
	"errors"
	"os"
	"syscall"

	"etcd-rewind/problem"
)

func namespaces() (*syscall.SysProcAttr, error) {
	return nil, problem.New("run it on Linux", "a drill needs Linux namespaces")
}

func holdOn() { os.Exit(2) }

func inside(context.Context, order, func(told)) told {
	return told{Error: problem.From(errors.ErrUnsupported)}
}

type groups struct{}

func makeGroups() groups       { return groups{} }
func (groups) files() []string { return nil }
func (groups) remove()         {}
