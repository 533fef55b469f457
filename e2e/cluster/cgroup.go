//go:build linux

package cluster

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// cgroupPrefix begins the name of every node's cgroup. Nothing outside of such a
// cgroup is ever killed.
const cgroupPrefix = "/etcd-rewind-"

// systemCgroup is where the node's processes are that are not in a container.
func (n *Node) systemCgroup() string { return filepath.Join(n.CgroupRoot, "system") }

// hierarchies lists where cgroups are mounted: one directory per controller with
// cgroup v1, one in all with v2. With both, v1 is what kubelet and runc use, but
// runc makes directories in v2 all the same [measured].
func hierarchies() (v1, v2 []string, err error) {
	file, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, nil, err
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		// proc(5): ID, parent, device, root, mount point, options ... - type ...
		before, after, _ := strings.Cut(lines.Text(), " - ")
		fields, kind := strings.Fields(before), strings.Fields(after)
		if len(fields) < 5 || len(kind) < 1 || fields[3] != "/" {
			continue
		}
		switch kind[0] {
		case "cgroup":
			v1 = append(v1, fields[4])
		case "cgroup2":
			v2 = append(v2, fields[4])
		}
	}
	if len(v1)+len(v2) == 0 {
		return nil, nil, errors.New("no cgroups are mounted")
	}
	return v1, v2, nil
}

// cgroupRoots lists the hierarchies that a node's processes are put into.
func cgroupRoots() ([]string, error) {
	v1, v2, err := hierarchies()
	if len(v1) > 0 {
		return v1, err
	}
	return v2, err
}

// cgroupDirs lists all directories that a cgroup may have.
func cgroupDirs(cgroup string) ([]string, error) {
	v1, v2, err := hierarchies()
	var dirs []string
	for _, root := range append(v1, v2...) {
		dirs = append(dirs, filepath.Join(root, cgroup))
	}
	return dirs, err
}

// createCgroup makes a cgroup and those above it, ready to take processes.
func createCgroup(cgroup string) error {
	roots, err := cgroupRoots()
	if err != nil {
		return err
	}
	for _, root := range roots {
		dir := root
		for part := range strings.SplitSeq(strings.Trim(cgroup, "/"), "/") {
			parent := dir
			dir = filepath.Join(dir, part)
			if controllers, err := os.ReadFile(filepath.Join(parent, "cgroup.controllers")); err == nil {
				// v2: a cgroup's children have only what it hands down.
				for controller := range strings.FieldsSeq(string(controllers)) {
					_ = os.WriteFile(filepath.Join(parent, "cgroup.subtree_control"), []byte("+"+controller), 0o644)
				}
			}
			if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
				return err
			}
			// v1: a new cpuset is empty and takes no processes, cgroups(7).
			for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
				text, err := os.ReadFile(filepath.Join(parent, name))
				if err != nil {
					continue
				}
				if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil && dir != root {
					return err
				}
			}
		}
	}
	return nil
}

// processes lists the live processes in a cgroup and below.
func processes(cgroup string) (map[int]bool, error) {
	dirs, err := cgroupDirs(cgroup)
	if err != nil {
		return nil, err
	}
	pids := map[int]bool{}
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil // gone meanwhile, or never made
			}
			if err != nil || entry.Name() != "cgroup.procs" {
				return err
			}
			text, err := os.ReadFile(path)
			if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENODEV) {
				return nil
			}
			for line := range strings.FieldsSeq(string(text)) {
				if pid, err := strconv.Atoi(line); err == nil && alive(pid) {
					pids[pid] = true
				}
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return pids, nil
}

// alive says whether a process exists and has not ended. One that has ended
// but was not waited for yet still has its id.
func alive(pid int) bool {
	state, _ := stat(pid)
	return state != "" && state != "Z" && state != "X"
}

// stat returns a process's state and when it was started, in ticks since the
// machine was; together with the id that names a process for good. Empty when
// there is none. Fields 3 and 22 of proc(5)'s stat.
func stat(pid int) (state, started string) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", ""
	}
	// The second field is a name in parentheses that may hold anything.
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) < 20 {
		return "", ""
	}
	return fields[0], fields[19]
}

// killAll kills every process in a cgroup and below, and waits until none is left.
func killAll(ctx context.Context, cgroup string) error {
	if !strings.HasPrefix(cgroup, cgroupPrefix) {
		return fmt.Errorf("%s is not a node's cgroup", cgroup)
	}
	return poll(ctx, "the processes in "+cgroup+" to end", patience, 20*time.Millisecond, func(context.Context) error {
		pids, err := processes(cgroup)
		if err != nil {
			return final{err}
		}
		delete(pids, os.Getpid())
		for pid := range pids {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				return final{err}
			}
		}
		if len(pids) > 0 {
			return fmt.Errorf("%d still run", len(pids))
		}
		return nil
	})
}

// removeCgroup removes a cgroup and those below it.
func removeCgroup(ctx context.Context, cgroup string) error {
	if !strings.HasPrefix(cgroup, cgroupPrefix) {
		return fmt.Errorf("%s is not a node's cgroup", cgroup)
	}
	dirs, err := cgroupDirs(cgroup)
	if err != nil {
		return err
	}
	// The kernel lets go of a cgroup a moment after its last process has ended.
	return poll(ctx, "cgroup "+cgroup+" to be removed", patience, 50*time.Millisecond, func(context.Context) error {
		var errs []error
		for _, dir := range dirs {
			errs = append(errs, removeDirs(dir))
		}
		return errors.Join(errs...)
	})
}

// removeDirs removes a directory of directories. A cgroup's files cannot be
// removed, and go with it.
func removeDirs(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.IsDir() {
			if err := removeDirs(filepath.Join(dir, entry.Name())); err != nil {
				return err
			}
		}
	}
	if err := syscall.Rmdir(dir); err != nil && !errors.Is(err, syscall.ENOENT) {
		return &fs.PathError{Op: "rmdir", Path: dir, Err: err}
	}
	return nil
}

// pid returns the process id of kubelet or containerd, 0 when it doesn't run.
func (n *Node) pid(service string) int {
	text, err := os.ReadFile(filepath.Join(n.Dir, "run", service+".pid"))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || !alive(pid) {
		return 0
	}
	// The id may be a stranger's by now; the cgroup is the node's.
	pids, err := processes(n.systemCgroup())
	if err != nil || !pids[pid] {
		return 0
	}
	return pid
}

// end ends kubelet or containerd: it is asked first, and killed after 10 s.
func (n *Node) end(ctx context.Context, service string) error {
	pid := n.pid(service)
	if pid == 0 {
		return nil
	}
	gone := func(limit time.Duration) error {
		return poll(ctx, service+" to end", limit, 20*time.Millisecond, func(context.Context) error {
			if n.pid(service) == pid {
				return fmt.Errorf("process %d still runs", pid)
			}
			return nil
		})
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	if gone(10*time.Second) == nil {
		return nil
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	return gone(10 * time.Second)
}

// Containers says how many containers of a pod run on the node, its sandbox
// among them. It is read from the cgroups, which kubelet names after the UID.
func (n *Node) Containers(uid string) (int, error) {
	dirs, err := cgroupDirs(n.CgroupRoot)
	if err != nil {
		return 0, err
	}
	pod := []string{"pod" + uid, "pod" + strings.ReplaceAll(uid, "-", "_")}
	most := 0
	for _, dir := range dirs {
		running := map[string]bool{}
		err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil || entry.Name() != "cgroup.procs" {
				return err
			}
			if of := filepath.Dir(path); strings.Contains(of, pod[0]) || strings.Contains(of, pod[1]) {
				if text, _ := os.ReadFile(path); len(text) > 0 {
					running[of] = true
				}
			}
			return nil
		})
		if err != nil {
			return 0, err
		}
		most = max(most, len(running))
	}
	return most, nil
}
