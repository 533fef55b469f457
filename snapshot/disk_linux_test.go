package snapshot

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Nice and I/O class belong to a thread on Linux, and Go has many.
func TestARestoreGivesWayToTheClusterWithAllItsThreads(t *testing.T) {
	req := request(file(t, "s.db", fixture(t, "before")), filepath.Join(t.TempDir(), "etcd"))
	threads := 0
	_, err := Restore(context.Background(), req, func(p Progress) {
		if p.Phase != "copy" || threads > 0 {
			return
		}
		tasks, err := filepath.Glob("/proc/" + restoreWorker(t) + "/task/*")
		if err != nil {
			t.Error(err)
		}
		for _, task := range tasks {
			tid, err := strconv.Atoi(filepath.Base(task))
			if err != nil {
				t.Fatal(err)
			}
			raw, err := unix.Getpriority(unix.PRIO_PROCESS, tid) // 20 - nice
			if err != nil {
				continue // it has ended
			}
			class, _, errno := unix.Syscall(unix.SYS_IOPRIO_GET, 1, uintptr(tid), 0)
			if errno != 0 {
				continue
			}
			threads++
			if nice := 20 - raw; nice < copiesNice || class != 2<<13|7 && class>>13 != 3 { // or idle, as the tests themselves
				t.Errorf("a thread runs with nice %d and I/O priority %#x", nice, class)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if threads < 2 {
		t.Errorf("only %d threads were seen", threads)
	}
}

// restoreWorker is the process id of this process' worker.
func restoreWorker(t *testing.T) string {
	tasks, _ := filepath.Glob("/proc/self/task/*/children")
	for _, task := range tasks {
		children, _ := os.ReadFile(task)
		for _, pid := range strings.Fields(string(children)) {
			if line, _ := os.ReadFile(fmt.Sprintf("/proc/%s/cmdline", pid)); strings.Contains(string(line), "(restore worker)") {
				return pid
			}
		}
	}
	t.Error("there is no worker")
	return "self"
}
