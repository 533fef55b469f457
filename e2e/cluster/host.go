//go:build linux

package cluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"etcd-rewind/trust"
)

// A systemd host is a Debian under systemd-nspawn: its own PID 1, journal, sshd
// and units, that outlive a reboot. Its root is an overlay over the tree that
// e2e/parts/build.sh makes and over the programs of the node; /var/lib is on the
// machine's disk, for containerd can't have its overlays on an overlay, and
// etcd is measured on a disk.

// prepareHost fills the directories that the host is made of.
func (n *Node) prepareHost(p parts, programs []program) error {
	for _, sub := range []string{"lib", "programs", "root", "work"} {
		if err := os.MkdirAll(filepath.Join(n.Dir, sub), 0o755); err != nil {
			return err
		}
	}
	if _, err := run(exec.Command("cp", "-a", filepath.Join(p.host, "var/lib")+"/.", filepath.Join(n.Dir, "lib"))); err != nil {
		return err
	}
	for _, program := range programs {
		to := filepath.Join(n.Dir, "programs", program.to, filepath.Base(program.from))
		if trust.Within("/var/lib", program.to) {
			to = filepath.Join(n.HostPath(program.to), filepath.Base(program.from))
		}
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		// Nobody writes to a program; the node begins without 500 MB of copies.
		err := os.Link(program.from, to)
		if errors.Is(err, syscall.EXDEV) {
			_, err = run(exec.Command("cp", program.from, to))
		}
		if err != nil {
			return err
		}
	}
	files := map[string]string{
		"/etc/hostname": n.Hostname + "\n",
		"/etc/hosts":    "127.0.0.1 localhost\n" + n.Address + " " + n.Hostname + " " + n.layoutOf("", "").endpoint + "\n",
	}
	if n.record.Cluster == "" && !n.record.VM {
		files["/etc/ssh/sshd_not_to_be_run"] = "" // there is nobody to reach it
	}
	return n.writeInside(files)
}

// program is a program that a host gets, from a part.
type program struct {
	from string // on the machine
	to   string // a directory in the host
}

// fromPart names programs of a part.
func fromPart(dir, to string, names ...string) []program {
	var all []program
	for _, name := range names {
		all = append(all, program{filepath.Join(dir, name), to})
	}
	return all
}

// writeInside writes files of the node, by their path inside.
func (n *Node) writeInside(files map[string]string) error {
	for path, text := range files {
		path = n.HostPath(path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// enable does what systemctl enable does, before the host is up.
func (n *Node) enable(unit string) error {
	link := n.HostPath("/etc/systemd/system/multi-user.target.wants/" + filepath.Base(unit))
	if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
		return err
	}
	return os.Symlink(unit, link)
}

// hostPath translates a path inside a host: what its PID 1 sees there, or what
// it will see.
func (n *Node) hostPath(path string) string {
	if leader := n.leader(); leader != 0 {
		return filepath.Join(fmt.Sprintf("/proc/%d/root", leader), path)
	}
	if trust.Within("/var/lib", path) {
		return filepath.Join(n.Dir, "lib", strings.TrimPrefix(path, "/var/lib"))
	}
	return filepath.Join(n.Dir, "fs", path)
}

// nspawn is the process id of the host's systemd-nspawn, 0 when none runs.
func (n *Node) nspawn() int {
	text, err := os.ReadFile(filepath.Join(n.Dir, "run", "nspawn.pid"))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || !n.Has(pid) {
		return 0
	}
	return pid
}

// leader is the process id of the host's PID 1, 0 when the host isn't up.
func (n *Node) leader() int {
	nspawn := n.nspawn()
	if nspawn == 0 {
		return 0
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", nspawn, nspawn))
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(text), " ")
	pid, err := strconv.Atoi(first)
	if err != nil || !n.Has(pid) {
		return 0
	}
	if ids, err := idsOf(pid); err != nil || len(ids) != 2 || ids[1] != "1" {
		return 0
	}
	return pid
}

// Has says whether a process is alive and this node's.
func (n *Node) Has(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil || !alive(pid) {
		return false
	}
	for line := range strings.Lines(string(text)) {
		if parts := strings.SplitN(strings.TrimSpace(line), ":", 3); len(parts) == 3 && trust.Within(n.CgroupRoot, parts[2]) {
			return true
		}
	}
	return false
}

// commandCgroup is where Command's processes are on a host.
func (n *Node) commandCgroup() string { return filepath.Join(n.CgroupRoot, "commands") }

// boot starts the host, and waits until systemd has started what belongs to a boot:
// a job of a timer that catches up may go on.
func (n *Node) boot(ctx context.Context) error {
	console, err := os.OpenFile(filepath.Join(n.Dir, "logs", "console.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer console.Close()
	if err := createHostCgroup(n.commandCgroup()); err != nil {
		return err
	}
	// The host outlives this process: what it leaves is found by its cgroup.
	cmd := exec.Command("unshare", "--mount", "--propagation", "private", filepath.Join(n.Dir, "bin", "boot"))
	cmd.Stdout, cmd.Stderr = console, console
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() { _ = cmd.Wait() }()
	return n.booted(ctx)
}

func (n *Node) booted(ctx context.Context) error {
	err := poll(ctx, "the host to boot", n.Stretched(patience), 100*time.Millisecond, func(ctx context.Context) error {
		out, err := n.Command(ctx, "systemctl", "is-system-running").Output()
		state := strings.TrimSpace(string(out))
		switch {
		case state == "":
			return fmt.Errorf("systemctl doesn't answer: %w", err)
		case state == "running":
			return nil
		}
		// It is starting as long as there is any job, one of a timer's among them.
		active := n.Command(ctx, "systemctl", "--quiet", "is-active", "default.target").Run() == nil
		if state == "degraded" || active {
			failed, err := n.Command(ctx, "systemctl", "--failed", "--plain", "--no-legend").Output()
			if len(failed) > 0 {
				return final{fmt.Errorf("units have failed: %s", failed)}
			}
			if active {
				return err
			}
		}
		jobs, _ := n.Command(ctx, "systemctl", "list-jobs", "--no-legend").Output()
		return fmt.Errorf("it is %s: %s", state, jobs)
	})
	if err != nil {
		return fmt.Errorf("node %s: %w\n%s", n.Name, err, tail(filepath.Join(n.Dir, "logs", "console.log"), 20))
	}
	return nil
}

// Reboot reboots a systemd host and waits until it has booted. What lies outside
// of /run and /tmp is still there; containers are not.
func (n *Node) Reboot(ctx context.Context) error {
	before := n.leader()
	if before == 0 {
		return fmt.Errorf("node %s is not up", n.Name)
	}
	// The connection to systemd ends with the host.
	_ = n.Command(ctx, "systemctl", "reboot").Run()
	err := poll(ctx, "node "+n.Name+" to go down", patience, 50*time.Millisecond, func(context.Context) error {
		if n.leader() == before {
			return errors.New("it is up")
		}
		return nil
	})
	if err != nil {
		return err
	}
	return n.booted(ctx)
}

// PowerOff shuts a systemd host down, as an administrator does; it is still the
// cluster's, and PowerOn boots it again. Safe to call twice.
func (n *Node) PowerOff(ctx context.Context) error {
	if n.nspawn() == 0 {
		return nil
	}
	_ = n.Command(ctx, "systemctl", "poweroff").Run()
	return poll(ctx, "node "+n.Name+" to power off", patience, 50*time.Millisecond, func(context.Context) error {
		pids, err := processes(n.CgroupRoot)
		if err != nil {
			return final{err}
		}
		if len(pids) > 0 {
			return fmt.Errorf("%d processes run", len(pids))
		}
		return nil
	})
}

// PowerOn boots a systemd host that was powered off.
func (n *Node) PowerOn(ctx context.Context) error {
	if n.nspawn() != 0 {
		return fmt.Errorf("node %s is up", n.Name)
	}
	return n.boot(ctx)
}

// Journal returns the last lines of a unit's journal on a systemd host.
func (n *Node) Journal(ctx context.Context, unit string, lines int) (string, error) {
	return run(n.Command(ctx, "journalctl", "--no-pager", "--output=cat", "--unit="+unit, fmt.Sprintf("--lines=%d", lines)))
}

// createHostCgroup makes a cgroup in all hierarchies, v2 beside v1 among them: each
// is a host's root. v2 hands down no controllers then, so processes may be anywhere.
func createHostCgroup(cgroup string) error {
	if err := createCgroup(cgroup); err != nil {
		return err
	}
	v1, v2, err := hierarchies()
	if err != nil || len(v1) == 0 {
		return err
	}
	for _, root := range v2 {
		if err := os.MkdirAll(filepath.Join(root, cgroup), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

// procs are the files by which a process gets into a cgroup, in all hierarchies.
func procs(cgroup string) (string, error) {
	dirs, err := cgroupDirs(cgroup)
	for i := range dirs {
		dirs[i] = filepath.Join(dirs[i], "cgroup.procs")
	}
	return strings.Join(dirs, " "), err
}
