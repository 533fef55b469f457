package backup

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// GiveWay makes all threads of this process yield to everybody else, as the unit of
// the timer does: nice 10, unless they are nicer already, and the last place at the
// disk, where its scheduler knows places. What can't be set isn't. Threads that are
// made later are as the one that makes them.
func GiveWay() {
	const (
		nice       = 10
		whoProcess = 1         // IOPRIO_WHO_PROCESS (include/uapi/linux/ioprio.h): a thread
		lastOfAll  = 2<<13 | 7 // best effort, the last of its eight levels
	)
	done := map[int]bool{}
	for range 10 { // until no thread is new
		tasks, _ := os.ReadDir("/proc/self/task")
		before := len(done)
		for _, t := range tasks {
			tid, err := strconv.Atoi(t.Name())
			if err != nil || done[tid] {
				continue
			}
			done[tid] = true
			if raw, err := unix.Getpriority(unix.PRIO_PROCESS, tid); err == nil && 20-raw < nice { // getpriority(2): 20 - nice
				_ = unix.Setpriority(unix.PRIO_PROCESS, tid, nice)
			}
			_, _, _ = unix.Syscall(unix.SYS_IOPRIO_SET, whoProcess, uintptr(tid), lastOfAll)
		}
		if len(done) == before {
			return
		}
	}
}
