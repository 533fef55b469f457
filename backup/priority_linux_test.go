package backup

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// yields is the process of TestABackupGivesWayWithAllItsThreads: a priority that was
// given up can't be had back without being root.
const yields = "ETCD_REWIND_BACKUP_YIELDS"

func sayPriorities() {
	GiveWay()
	tasks, _ := filepath.Glob("/proc/self/task/*")
	for _, task := range tasks {
		tid, _ := strconv.Atoi(filepath.Base(task))
		raw, err := unix.Getpriority(unix.PRIO_PROCESS, tid)
		class, _, errno := unix.Syscall(unix.SYS_IOPRIO_GET, 1, uintptr(tid), 0)
		if err == nil && errno == 0 {
			_, _ = os.Stdout.WriteString(strconv.Itoa(20-raw) + " " + strconv.Itoa(int(class)) + "\n")
		}
	}
	os.Exit(0)
}

func TestABackupGivesWayWithAllItsThreads(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), yields+"=yes")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(lines) < 2 {
		t.Fatalf("only %d threads were seen", len(lines))
	}
	for _, l := range lines {
		nice, class, _ := strings.Cut(l, " ")
		if n, _ := strconv.Atoi(nice); n < 10 || class != strconv.Itoa(2<<13|7) {
			t.Errorf("a thread runs with nice %s and I/O priority %s", nice, class)
		}
	}
}

func init() {
	if os.Getenv(yields) != "" {
		sayPriorities()
	}
}
