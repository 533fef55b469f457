package trust

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Path is where programs are looked for, whatever the caller's PATH says.
const Path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// kept are the variables of this process that a program gets, if they are set:
// who the user is, how their ssh finds its agent, their terminal and language.
var kept = []string{"HOME", "USER", "LOGNAME", "SSH_AUTH_SOCK", "KRB5CCNAME", "TERM", "LANG", "LC_ALL", "TZ"}

// Env is the whole environment of every program that is started.
func Env() []string {
	env := []string{"PATH=" + Path}
	for _, name := range kept {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}

// Command is a program to be started: one named by the program's own code, by
// the person at the terminal, or by root's files; never one that a process, a
// manifest, a snapshot or another node named. A bare name is looked for in
// Path. The environment is Env; when ctx ends it is killed, and Wait comes back
// a second later even when a child of it holds the pipes.
func Command(ctx context.Context, name string, args ...string) (*exec.Cmd, error) {
	path, err := find(name)
	if err != nil {
		return nil, err
	}
	return command(ctx, path, name, args), nil
}

// Self is a second process of this program, as Command would start one: on
// Linux of the very file that runs, also when it was replaced or deleted since.
func Self(ctx context.Context, args ...string) (*exec.Cmd, error) {
	path, err := SelfPath()
	if err != nil {
		return nil, err
	}
	return command(ctx, path, os.Args[0], args), nil
}

// SelfPath is where Self finds this program's own file.
func SelfPath() (string, error) {
	const link = "/proc/self/exe"
	if _, err := os.Stat(link); err == nil {
		return link, nil
	}
	path, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("cannot find this program's own file: %w", err)
	}
	return path, nil
}

func command(ctx context.Context, path, name string, args []string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Args[0] = name
	cmd.Env = Env()
	cmd.WaitDelay = time.Second
	return cmd
}

func find(name string) (string, error) {
	if filepath.IsAbs(name) {
		return name, nil
	}
	if strings.ContainsRune(name, '/') || name == "" {
		return "", fmt.Errorf("%q: a program is named by its absolute path, or by its name alone", name)
	}
	for dir := range strings.SplitSeq(Path, ":") {
		p := filepath.Join(dir, name)
		if info, err := os.Stat(p); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return p, nil
		}
	}
	return "", fmt.Errorf("%s: %w (in %s)", name, exec.ErrNotFound, Path)
}
