package trust

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"etcd-rewind/problem"
)

// Process says whether the word of a process may be taken: its name, its flags,
// its directory. dir is its place in /proc. All four of its user IDs are root's
// (a program with the setuid bit keeps its caller's), or this user's where this
// process isn't root; and nobody else can change the program it runs. One that
// was replaced on the disk since is judged by its file as it runs. The error is
// a *problem.Problem, or why it can't be looked at.
//
// A process can change between two looks: who reads more of it than this does
// reads it all twice, and compares.
func Process(dir string) error {
	if err := ProcessUser(dir); err != nil {
		return err
	}
	return program(filepath.Join(dir, "exe"))
}

// ProcessUser says whether a process is root's, or this user's. It reads nothing
// of the process's own memory, which may take for ever.
func ProcessUser(dir string) error {
	status, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		return err
	}
	_, rest, ok := strings.Cut("\n"+string(status), "\nUid:")
	line, _, _ := strings.Cut(rest, "\n")
	ids := strings.Fields(line)
	if !ok || len(ids) != 4 {
		return errors.New("the owner of the process can't be read")
	}
	for _, id := range ids {
		if uid, err := strconv.Atoi(id); err != nil || uid != 0 && uid != os.Geteuid() {
			return &problem.Problem{Cause: "it belongs to user " + id}
		}
	}
	return nil
}

// program judges what a link like /proc/PID/exe leads to, without opening it.
func program(link string) error {
	path, err := os.Readlink(link)
	if errors.Is(err, os.ErrPermission) && os.Geteuid() != 0 {
		return nil // root's, and root is trusted by who isn't root
	}
	if err != nil {
		return err
	}
	gone, deleted := strings.CutSuffix(path, " (deleted)")
	info, err := os.Stat(link) // the file itself, as long as it runs
	if err != nil {
		return err
	}
	if info.Mode()&(os.ModeSetuid|os.ModeSetgid) != 0 {
		return &problem.Problem{Cause: "its program can be started as another user: " + path}
	}
	if !deleted {
		return File(path)
	}
	if err := owned(gone, info, false); err != nil {
		return err
	}
	return dirs(filepath.Dir(gone))
}

// Listener says whether the server at a port of this machine's loopback is
// root's or this user's: any user may listen at a port that is free. It takes
// the kernel's table, and can't say anything where there is none (nil).
func Listener(port int) error { return listener("/proc/self/net", port) }

func listener(net string, port int) error {
	for _, table := range []string{"tcp", "tcp6"} {
		data, err := os.ReadFile(filepath.Join(net, table))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(data)) {
			// sl local_address rem_address st queues timer retransmits uid ...
			f := strings.Fields(line)
			if len(f) < 8 || f[3] != "0A" {
				continue
			}
			_, hex, _ := strings.Cut(f[1], ":")
			if p, err := strconv.ParseUint(hex, 16, 16); err != nil || int(p) != port {
				continue
			}
			if uid, err := strconv.Atoi(f[7]); err == nil && uid != 0 && uid != os.Geteuid() {
				return &problem.Problem{
					Cause: fmt.Sprintf("the server at port %d belongs to user %d", port, uid),
					Hint:  fmt.Sprintf("find it with ss -ltnp 'sport = :%d', and stop it", port),
				}
			}
		}
	}
	return nil
}

// Socket says whether the server behind a unix socket is root's or this user's.
// Who may connect doesn't matter. For root nobody else may replace it either.
func Socket(path string) error {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	info, err := os.Lstat(real)
	if err != nil {
		return err
	}
	if info.Mode().Type() != os.ModeSocket {
		return &problem.Problem{Cause: path + " is not a socket"}
	}
	if err := ours(path, info); err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return nil
	}
	return dirs(filepath.Dir(real))
}
