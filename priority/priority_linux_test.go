package priority

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// yields is the process that gives way: a priority that was given up can't be had back
// without being root.
const yields = "ETCD_REWIND_PRIORITY_YIELDS"

func init() {
	if os.Getenv(yields) == "" {
		return
	}
	GiveWay(10)
	fmt.Println("done")
	_, _ = os.Stdin.Read(make([]byte, 1)) // until it was looked at
	os.Exit(0)
}

func TestAProcessGivesWayWithAllItsThreads(t *testing.T) {
	for _, tt := range []struct {
		story   string
		flags   uintptr
		nice    int  // before
		idle    bool // at the disk, before
		becomes int
	}{
		{"as it is started", 0, 0, false, 10},
		{"one that is nicer already stays so", 0, 15, false, 15},
		{"one that may use the disk when nobody else does stays so", 0, 0, true, 10},
		{"in a namespace of its own, with the outer /proc", syscall.CLONE_NEWPID, 0, false, 10},
	} {
		t.Run(tt.story, func(t *testing.T) {
			now, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
			if err != nil {
				t.Fatal(err)
			}
			args, place := []string{"nice", "-n", strconv.Itoa(max(0, tt.nice-(20-now))), "ionice", "-c2", "-n0"}, uintptr(lastOfAll)
			if tt.idle {
				args, place = append(args[:3], "ionice", "-c3"), idle
			}
			self, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(args[0], append(args[1:], self)...)
			cmd.Env = append(os.Environ(), yields+"=yes")
			cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: tt.flags}
			if tt.flags != 0 && os.Geteuid() != 0 {
				cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
				cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
			}
			in, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() {
				_ = in.Close()
				if err := cmd.Wait(); err != nil {
					t.Error(err)
				}
			}()
			if said, err := bufio.NewReader(out).ReadString('\n'); err != nil || said != "done\n" {
				t.Fatalf("%q, %v", said, err)
			}
			tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", cmd.Process.Pid))
			if err != nil || len(tasks) < 2 {
				t.Fatalf("only %d threads were seen, %v", len(tasks), err)
			}
			for _, task := range tasks {
				tid, err := strconv.Atoi(filepath.Base(task))
				if err != nil {
					t.Fatal(err)
				}
				raw, err := unix.Getpriority(unix.PRIO_PROCESS, tid)
				if err != nil {
					continue // it has ended
				}
				disk, _, errno := unix.Syscall(unix.SYS_IOPRIO_GET, whoProcess, uintptr(tid), 0)
				if errno != 0 {
					continue
				}
				if tt.idle {
					disk >>= 13 // the class; it has no levels
				}
				// The tests themselves may be as nice.
				if nice := 20 - raw; nice != max(tt.becomes, 20-now) || disk != place {
					t.Errorf("a thread runs with nice %d and I/O priority %#x", nice, disk)
				}
			}
		})
	}
}
