package node

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

type process struct {
	pid     int
	args    []string // without the program's own name
	cwd     string
	started time.Time
	ticks   uint64
}

// findProcess looks for the kubelet among the processes. Only those count whose
// mount namespace is this process's own: the paths on another one's command
// line lead elsewhere. Of several the oldest counts, so that a short-lived
// "kubelet --version" is not taken for the service.
func findProcess(proc string) (own *process, elsewhere []int) {
	entries, err := os.ReadDir(proc)
	if err != nil {
		return nil, nil // no /proc: not Linux
	}
	here, _ := os.Readlink(filepath.Join(proc, "self", "ns", "mnt"))
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		dir := filepath.Join(proc, e.Name())
		raw, err := os.ReadFile(filepath.Join(dir, "cmdline"))
		if err != nil {
			continue
		}
		args, ok := kubeletArgs(raw)
		if !ok {
			continue
		}
		// Unreadable without root; the process is then taken for ours.
		there, err := os.Readlink(filepath.Join(dir, "ns", "mnt"))
		if err == nil && here != "" && there != here {
			elsewhere = append(elsewhere, pid)
			continue
		}
		p := &process{pid: pid, args: args, cwd: "/"}
		if cwd, err := os.Readlink(filepath.Join(dir, "cwd")); err == nil {
			p.cwd = cwd
		}
		p.ticks, p.started = startTime(proc, dir)
		if own == nil || p.ticks < own.ticks {
			own = p
		}
	}
	slices.Sort(elsewhere)
	return own, elsewhere
}

// kubeletArgs tells whether a command line is a kubelet's, and gives its flags.
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
	raw, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(k.PID), "cmdline"))
	if err != nil {
		return true
	}
	_, ok := kubeletArgs(raw)
	return !ok
}
