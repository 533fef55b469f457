package node

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The command line of a process lies in its own memory. Any user may map that
// from a file system that never answers: whoever reads it waits for ever.
func TestACommandLineThatNeverComesHoldsUpNothing(t *testing.T) {
	proc := newProc(t)
	proc.add(t, 42, "mnt:[1]", "/", 900, "kubelet", "--pod-manifest-path=/pods")
	for pid := 100; pid < 120; pid++ {
		proc.add(t, pid, "mnt:[1]", "/", 100, "kubelet")
		proc.runs(t, pid, 65534, "/usr/bin/kubelet")
		line := filepath.Join(proc.dir, strconv.Itoa(pid), "cmdline")
		if err := os.Remove(line); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mkfifo(line, 0o600); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if f, err := os.OpenFile(line, os.O_WRONLY|syscall.O_NONBLOCK, 0); err == nil {
				_ = f.Close() // who waits continues
			}
		})
	}
	begun := time.Now()
	got := findProcess(proc.dir, 0)
	if got.own == nil || got.own.pid != 42 {
		t.Errorf("kubelet is %+v", got.own)
	}
	if took := time.Since(begun); took > 10*time.Second { // one limit, and not twenty
		t.Errorf("it took %s", took)
	}
	if len(got.ignored) != 1 || !strings.Contains(got.ignored[0], "the command line of process") {
		t.Errorf("ignored: %q", got.ignored)
	}
}
