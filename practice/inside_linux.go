package practice

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"etcd-rewind/trust"
)

// namespaces are those of the node's inside: who is in them sees its paths and
// ports as on a real node, and nobody else does. They end with the last process
// in them. Without root a user namespace is needed, too.
func namespaces() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET}
	if os.Geteuid() != 0 {
		attr.Cloneflags |= syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	return attr
}

// mayEnter tries all that enter does, with nothing running yet. The error says
// why this can't be had here.
func mayEnter(ctx context.Context, r Root) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	try, err := trust.Self(ctx, string(r))
	if err != nil {
		return err
	}
	try.Args[0] = insideRole
	try.Env = append(try.Env, roleEnv+"="+insideRole)
	try.SysProcAttr = namespaces()
	out, err := try.CombinedOutput()
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSPC) {
		return errors.New("this system doesn't allow you namespaces")
	}
	if text := strings.TrimSpace(string(out)); err != nil && text != "" {
		return errors.New(trust.Clip(text, 200))
	}
	return err
}

// enter has cmd run inside the node. leave must be called when it has ended, or
// wasn't started.
func (s *session) enter(cmd *exec.Cmd) (leave func(), err error) {
	self, err := trust.SelfPath()
	if err != nil {
		return nil, err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socketpair: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "ports"), os.NewFile(uintptr(pair[1]), "ports inside")
	defer func() { _ = ours.Close() }()
	f, err := forward(ours, s.Ports.all(), s.node.serves)
	if err != nil {
		_ = theirs.Close()
		return nil, err
	}
	cmd.ExtraFiles = []*os.File{theirs} // portsFD there
	cmd.Args = append([]string{insideRole, string(s.Root), s.Socket, cmd.Path}, cmd.Args...)
	cmd.Path = self
	attr := namespaces()
	if was := cmd.SysProcAttr; was != nil {
		attr.Setpgid, attr.Pdeathsig = was.Setpgid, was.Pdeathsig
	}
	cmd.SysProcAttr = attr
	cmd.Env = append(cmd.Env, roleEnv+"="+insideRole, "KUBECONFIG="+realView.root.Kubeconfig())
	return func() {
		_ = theirs.Close()
		f.close()
	}, nil
}

// insideMain is the first process inside the node: it mounts, listens, and
// becomes the program. args are the node's root, its CRI socket, and the program
// with its arguments; with the root alone it only tries.
func insideMain(args []string) int {
	if len(args) == 0 {
		return 2
	}
	fail := func(err error) int {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	socket := ""
	if len(args) > 1 {
		socket = args[1]
	}
	if err := mountNode(Root(args[0]), socket); err != nil {
		return fail(err)
	}
	fds, err := bindInside(realView.ports.all())
	if err != nil {
		return fail(err)
	}
	if len(args) < 4 {
		return 0
	}
	if err := unix.Sendmsg(portsFD, []byte{1}, unix.UnixRights(fds...), nil, 0); err != nil {
		return fail(fmt.Errorf("hand over the ports: %w", err))
	}
	_ = unix.Close(portsFD)
	return fail(syscall.Exec(args[2], args[3:], os.Environ()))
}

func mountNode(r Root, socket string) error {
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	// What is made in these on the node is the node's, whatever its name; so
	// nothing of the machine may be needed there. And with the root below one
	// that is linked, the links would lead from the root to the machine.
	whole, linked := []string{"/var/lib", "/var/log"}, []string{"/etc", "/opt", "/run"}
	for _, p := range []string{string(r), socket} {
		real, err := filepath.EvalSymlinks(p)
		if err != nil {
			real = p
		}
		for _, dir := range append(linked, whole...) {
			if strings.HasPrefix(p, dir+"/") || strings.HasPrefix(real, dir+"/") {
				return fmt.Errorf("the practice node is below %s", dir)
			}
		}
	}
	for _, dir := range whole {
		if strings.HasPrefix(exe, dir+"/") {
			return fmt.Errorf("%s would be hidden", exe)
		}
	}
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("private mounts: %w", err)
	}
	scratch := r.Path("run/inside")
	for _, dir := range []string{scratch, r.Path("etc/kubernetes"), r.Backups(), r.tools(), r.Path("var/lib"), r.Path("var/log")} {
		if err := os.MkdirAll(dir, 0o755); err != nil { // a probe comes before the node
			return err
		}
	}
	if err := syscall.Mount("tmpfs", scratch, "tmpfs", syscall.MS_NOSUID|syscall.MS_NODEV, "mode=755"); err != nil {
		return fmt.Errorf("tmpfs: %w", err)
	}
	socketDir := filepath.Join(scratch, "containerd")
	if err := os.Mkdir(socketDir, 0o755); err != nil {
		return err
	}
	place := filepath.Join(socketDir, filepath.Base(realView.socket))
	if err := os.WriteFile(place, nil, 0o600); err != nil {
		return err
	}
	if socket != "" {
		if err := bind(socket, place); err != nil {
			return err
		}
	}
	for dir, own := range map[string]map[string]string{
		"/etc": {"kubernetes": r.Path("etc/kubernetes")},
		"/opt": {"backup": r.Backups(), toolsDir: r.tools()},
		"/run": {"containerd": socketDir},
	} {
		if err := beside(scratch, dir, own); err != nil {
			return err
		}
	}
	for _, dir := range whole {
		if err := bind(r.Path(dir), dir); err != nil {
			return err
		}
	}
	return ownRoot(scratch)
}

// machineDir is where links in the shell's /etc, /opt and /run lead to. It is
// not below the node's root: who removes that must not reach the machine's.
const machineDir = "/.machine"

// ownRoot makes a directory of scratch the /, with all that / has, and takes
// scratch away from the node's root. In a user namespace the machine's / belongs
// to nobody, and below such a one etcd-rewind rightly trusts no socket.
func ownRoot(scratch string) error {
	to := filepath.Join(scratch, "root")
	entries, err := os.ReadDir("/")
	if err != nil {
		return err
	}
	const old = ".old"
	for _, dir := range []string{old, machineDir} {
		if err := os.MkdirAll(filepath.Join(to, dir), 0o755); err != nil {
			return err
		}
	}
	if err := syscall.Mount(to, to, "", syscall.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount %s: %w", to, err)
	}
	if err := bind(filepath.Join(scratch, "machine"), filepath.Join(to, machineDir)); err != nil {
		return err
	}
	for _, e := range entries {
		from, at := filepath.Join("/", e.Name()), filepath.Join(to, e.Name())
		switch {
		case e.Type()&os.ModeSymlink != 0:
			target, err := os.Readlink(from)
			if err == nil {
				err = os.Symlink(target, at)
			}
			if err != nil {
				return err
			}
		case e.IsDir():
			if err := os.Mkdir(at, 0o755); err != nil {
				return err
			}
			if err := bind(from, at); err != nil {
				return err
			}
		}
	}
	wd, err := os.Getwd()
	if err != nil {
		return err
	}
	if err := syscall.PivotRoot(to, filepath.Join(to, old)); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	if err := syscall.Unmount("/"+old, syscall.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount the machine's /: %w", err)
	}
	if err := syscall.Unmount(scratch, syscall.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount %s: %w", scratch, err)
	}
	_ = os.Remove("/" + old)
	return os.Chdir(wd)
}

// beside replaces a directory of the machine by one in scratch with links to
// all it holds, and own, by name, mounted among them.
func beside(scratch, dir string, own map[string]string) error {
	before, after := filepath.Join(scratch, "machine", dir), filepath.Join(scratch, "node", dir)
	for _, d := range []string{before, after} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	if err := bind(dir, before); err != nil {
		return err
	}
	for _, e := range entries {
		if own[e.Name()] != "" {
			continue
		}
		to := filepath.Join(machineDir, dir, e.Name())
		if e.Type()&os.ModeSymlink != 0 {
			if to, err = os.Readlink(filepath.Join(before, e.Name())); err != nil {
				return err
			}
		}
		if err := os.Symlink(to, filepath.Join(after, e.Name())); err != nil {
			return err
		}
	}
	for name := range own {
		if err := os.Mkdir(filepath.Join(after, name), 0o755); err != nil {
			return err
		}
	}
	if err := bind(after, dir); err != nil {
		return err
	}
	for name, from := range own {
		if err := bind(from, filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

func bind(from, to string) error {
	if err := syscall.Mount(from, to, "", syscall.MS_BIND|syscall.MS_REC, ""); err != nil {
		return fmt.Errorf("mount %s on %s: %w", from, to, err)
	}
	return nil
}
