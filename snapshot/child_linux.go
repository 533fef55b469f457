package snapshot

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// childAttr ties the child's life to that of the thread that starts it.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// limitData bounds this process's own memory, in bytes; not under the race
// detector.
func limitData(most uint64) {
	var now unix.Rlimit
	if raced {
		return
	}
	if unix.Getrlimit(unix.RLIMIT_DATA, &now) == nil && now.Cur > most {
		now.Cur = most
		_ = unix.Setrlimit(unix.RLIMIT_DATA, &now) // without it, it is as if it weren't there
	}
}
