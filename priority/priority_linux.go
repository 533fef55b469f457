package priority

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// GiveWay makes all threads of this process yield to everybody else: by nice, and by
// the last place at the disk, where its scheduler knows places. Not the idle class: on
// a disk that others use work takes twice the time in it. No thread gets a higher
// priority than it had; what can't be set isn't. Threads that are made later, and
// children, are as the one that makes them. Safe to call again.
//
// It goes by threads because both belong to a thread on Linux, and the process group may be
// a shell's, with other processes in it.
func GiveWay(nice int) {
	done := map[int]bool{}
	for range 10 { // until no thread is new
		before := len(done)
		for _, tid := range threads() {
			if !done[tid] {
				done[tid] = true
				lower(tid, nice)
			}
		}
		if len(done) == before {
			return
		}
	}
}

const (
	whoProcess = 1         // IOPRIO_WHO_PROCESS (include/uapi/linux/ioprio.h): a thread
	lastOfAll  = 2<<13 | 7 // best effort, the last of its eight levels
	idle       = 3         // the class
)

func lower(tid, nice int) {
	if raw, err := unix.Getpriority(unix.PRIO_PROCESS, tid); err == nil && 20-raw < nice { // getpriority(2): 20 - nice
		_ = unix.Setpriority(unix.PRIO_PROCESS, tid, nice)
	}
	if is, _, errno := unix.Syscall(unix.SYS_IOPRIO_GET, whoProcess, uintptr(tid), 0); errno == 0 && is>>13 != idle {
		_, _, _ = unix.Syscall(unix.SYS_IOPRIO_SET, whoProcess, uintptr(tid), lastOfAll)
	}
}

// threads are the ids of this process's threads in its own namespace of processes.
// /proc may be that of an outer one, as in a drill, and is called by the ids there.
func threads() (ids []int) {
	const dir = "/proc/self/task"
	tasks, _ := os.ReadDir(dir)
	for _, t := range tasks {
		name := t.Name()
		status, _ := os.ReadFile(filepath.Join(dir, name, "status"))
		for line := range strings.Lines(string(status)) {
			if all, is := strings.CutPrefix(line, "NSpid:"); is {
				of := strings.Fields(all) // the own namespace's is the last
				name = of[len(of)-1]
			}
		}
		if tid, err := strconv.Atoi(name); err == nil {
			ids = append(ids, tid)
		}
	}
	return ids
}
