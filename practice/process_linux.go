package practice

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// childAttr: a process group of its own, so that Ctrl-C at the terminal is the
// wizard's alone, and death when the thread that started it ends.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// endStarted ends what was started in the node's shell or wizard and is still
// there: what inherited its environment. It gives them 2 s, and then kills them.
func endStarted(r Root) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		for end := time.Now().Add(2 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
			left := startedIn(r)
			if len(left) == 0 {
				return
			}
			for _, p := range left {
				_ = p.Signal(sig)
				_ = p.Signal(syscall.SIGCONT) // it may be stopped
				_ = p.Release()
			}
		}
	}
}

func startedIn(r Root) []*os.Process {
	var found []*os.Process
	environs, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, path := range environs {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil || pid == os.Getpid() {
			continue
		}
		p, err := os.FindProcess(pid) // before it is read: a PID may be used again
		if err != nil {
			continue
		}
		if env, err := os.ReadFile(path); err == nil && slices.Contains(strings.Split(string(env), "\x00"), rootEnv+"="+string(r)) {
			found = append(found, p)
		} else {
			_ = p.Release()
		}
	}
	return found
}
