package node

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"etcd-rewind/defect"
	"etcd-rewind/trust"
)

type process struct {
	pid     int
	args    []string // without the program's own name
	cwd     string
	started time.Time
	ticks   uint64
}

// processes are those that call themselves kubelet.
type processes struct {
	own *process // nil when none of them is this node's
	// elsewhere are those of other mount namespaces.
	elsewhere []int
	// ignored are those whose word isn't taken, and why.
	ignored []string
}

// findProcess looks for the kubelet among the processes. Any user may call a
// process so: only root's count, with a program that only root can change
// ([trust.Process]). Nor do those count whose mount namespace isn't this
// process's own: the paths on their command lines lead elsewhere. Of several it
// is the one that systemd started, by mainPID; else the oldest, so that a
// short-lived "kubelet --version" is not taken for the service.
func findProcess(proc string, mainPID int) processes {
	var out processes
	entries, err := os.ReadDir(proc)
	if err != nil {
		return out // no /proc: not Linux
	}
	here, _ := os.Readlink(filepath.Join(proc, "self", "ns", "mnt"))
	strange, hangs := 0, false
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		dir := filepath.Join(proc, e.Name())
		if hangs && trust.ProcessUser(dir) != nil {
			continue
		}
		p, ok := readInTime(proc, pid)
		if !ok {
			hangs = true
			if strange++; strange <= fewIgnored {
				out.ignored = append(out.ignored, fmt.Sprintf("the command line of process %d can't be read", pid))
			}
		}
		if p == nil {
			continue
		}
		// Unreadable without root; the process is then taken for ours.
		there, err := os.Readlink(filepath.Join(dir, "ns", "mnt"))
		if err == nil && here != "" && there != here {
			out.elsewhere = append(out.elsewhere, pid)
			continue
		}
		err = isKubelet(dir)
		// A process that was root's may be another's by now, or another
		// process, and the reverse: what was read before and after has to agree.
		if again := readProcess(proc, pid); again == nil || !p.same(again) {
			continue
		}
		if err != nil {
			if strange++; strange <= fewIgnored {
				out.ignored = append(out.ignored, fmt.Sprintf("process %d is named kubelet, but %s", pid, trust.Clip(trust.Text(err.Error()), 200)))
			}
			continue
		}
		switch {
		case out.own == nil, pid == mainPID, out.own.pid != mainPID && p.ticks < out.own.ticks:
			out.own = p
		}
	}
	if more := strange - fewIgnored; more > 0 {
		out.ignored = append(out.ignored, fmt.Sprintf("%d more do", more))
	}
	slices.Sort(out.elsewhere)
	return out
}

// fewIgnored are named; any user may start as many as they like.
const fewIgnored = 3

// isKubelet says why the process isn't what it calls itself. Programs of root's
// that anybody may start under any name (sudo) are no kubelets.
func isKubelet(dir string) error {
	if err := trust.Process(dir); err != nil {
		return err
	}
	program, err := os.Readlink(filepath.Join(dir, "exe"))
	switch {
	case err != nil && IsRoot():
		return err
	case err == nil && !strings.Contains(filepath.Base(program), "kube"):
		return fmt.Errorf("its program is %s", program)
	}
	return trust.Process(dir) // and no other since its program was looked at
}

// readInTime reads a process; ok is false when the kernel doesn't give its
// command line within a second. That lies in the process's own memory, which any
// user may map from a file system that never answers (FUSE, userfaultfd): who
// did so once gets no second reading of a process that isn't root's.
func readInTime(proc string, pid int) (p *process, ok bool) {
	got := make(chan *process, 1)
	go defect.Do(func() { got <- readProcess(proc, pid) })()
	limit := time.NewTimer(time.Second)
	defer limit.Stop()
	select {
	case p := <-got:
		return p, true
	case <-limit.C:
		return nil, false
	}
}

// readProcess is nil for a process that doesn't call itself kubelet.
func readProcess(proc string, pid int) *process {
	dir := filepath.Join(proc, strconv.Itoa(pid))
	raw, err := os.ReadFile(filepath.Join(dir, "cmdline"))
	if err != nil {
		return nil
	}
	args, ok := kubeletArgs(raw)
	if !ok {
		return nil
	}
	p := &process{pid: pid, args: args, cwd: "/"}
	if cwd, err := os.Readlink(filepath.Join(dir, "cwd")); err == nil {
		p.cwd = cwd
	}
	p.ticks, p.started = startTime(proc, dir)
	return p
}

func (p *process) same(as *process) bool {
	return p.ticks == as.ticks && p.cwd == as.cwd && slices.Equal(p.args, as.args)
}

// mainPID is the process that systemd started as a unit; 0 where
// systemd doesn't run, doesn't answer within two seconds, or has started none.
func mainPID(ctx context.Context, unit string) int {
	if _, err := os.Stat("/run/systemd/system"); err != nil { // as sd_booted does
		return 0
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	cmd, err := trust.Command(ctx, "systemctl", "show", "--property=MainPID", unit)
	if err != nil {
		return 0
	}
	out, err := cmd.Output()
	if err != nil {
		return 0
	}
	_, pid, _ := strings.Cut(strings.TrimSpace(string(out)), "MainPID=")
	n, _ := strconv.Atoi(pid)
	return n
}

// kubeletArgs reports whether a command line is a kubelet's, with its flags.
func kubeletArgs(cmdline []byte) ([]string, bool) {
	cmdline = bytes.TrimRight(cmdline, "\x00")
	if len(cmdline) == 0 {
		return nil, false
	}
	args := strings.Split(string(cmdline), "\x00")
	switch filepath.Base(args[0]) {
	case "kubelet":
		args = args[1:]
	case "hyperkube":
		if len(args) < 2 || args[1] != "kubelet" {
			return nil, false
		}
		args = args[2:]
	default:
		return nil, false
	}
	return args, !slices.Contains(args, "--version")
}

// startTime reads when a process started, from field 22 of its stat: ticks
// since boot. User space sees 100 ticks a second on every architecture.
func startTime(proc, dir string) (uint64, time.Time) {
	const perSecond = 100
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return 0, time.Time{}
	}
	// The second field is the program's name in parentheses and may hold anything.
	_, rest, ok := strings.Cut(string(stat[max(0, bytes.LastIndexByte(stat, ')')):]), ") ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 20 {
		return 0, time.Time{}
	}
	ticks, err := strconv.ParseUint(fields[19], 10, 64)
	if err != nil {
		return 0, time.Time{}
	}
	up, err := os.ReadFile(filepath.Join(proc, "uptime"))
	if err != nil {
		return ticks, time.Time{}
	}
	first, _, _ := strings.Cut(string(up), " ")
	seconds, err := strconv.ParseFloat(strings.TrimSpace(first), 64)
	if err != nil {
		return ticks, time.Time{}
	}
	age := seconds - float64(ticks)/perSecond
	return ticks, time.Now().Add(-time.Duration(age * float64(time.Second)))
}

// Restarted says whether the kubelet that was found is gone, so that one that
// runs now is another. False where none was found.
func (k *Kubelet) Restarted() bool {
	if k.PID == 0 {
		return false
	}
	now := readProcess("/proc", k.PID)
	return now == nil || k.Ticks != 0 && now.ticks != k.Ticks
}
