//go:build !linux

package practice

import "syscall"

// childAttr: without a death signal a child ends when the pipe from its parent
// closes (see [Worker]).
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}

// endStarted does nothing: what other processes inherited can't be read here.
func endStarted(Root) {}
