package practice

import "syscall"

// childAttr: a process group of its own, so that Ctrl-C at the terminal is the
// wizard's alone, and death when the thread that started it ends.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
