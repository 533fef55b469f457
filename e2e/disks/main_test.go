//go:build e2e && linux

// Package disks tests what a disk can do to a restore: whole restores on
// practice nodes whose files lie on file systems of their own, which fill up or
// turn read-only in the middle. Mounting them needs root.
//
//	go test -tags e2e ./e2e/disks
package disks

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"etcd-rewind/practice"
	"etcd-rewind/snapshot"
)

// ownMounts is set in the child that runs the tests.
const ownMounts = "ETCD_REWIND_OWN_MOUNTS"

// TestMain runs the tests in a child with a mount namespace of its own: nobody
// else sees what is mounted, and it goes away with the child, however that ends.
func TestMain(m *testing.M) {
	snapshot.Worker()
	practice.Worker()
	if os.Getenv(ownMounts) != "" {
		os.Exit(m.Run())
	}
	tests := exec.Command("/proc/self/exe", os.Args[1:]...)
	tests.Env = append(os.Environ(), ownMounts+"=1")
	tests.Stdin, tests.Stdout, tests.Stderr = os.Stdin, os.Stdout, os.Stderr
	tests.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	err := tests.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		os.Exit(max(exit.ExitCode(), 1))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "FAIL:", err)
		os.Exit(1)
	}
}
