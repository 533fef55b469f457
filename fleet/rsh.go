package fleet

import (
	"bufio"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"etcd-rewind/defect"
	"etcd-rewind/pipe"
	"etcd-rewind/problem"
	"etcd-rewind/trust"
)

// Dialer starts agents.
type Dialer interface {
	// Local starts one on this node.
	Local(ctx context.Context) (*Conn, error)
	// Dial starts one on another node.
	Dial(ctx context.Context, host string) (*Conn, error)
}

// DefaultRsh is the user's own ssh.
var DefaultRsh = append([]string{"ssh"}, trust.SSH()...)

// Rsh starts agents through a remote shell, as rsync does: Command HOST 'remote
// command line'.
type Rsh struct {
	Command []string // nil means DefaultRsh

	once sync.Once
	self binary
	err  error
}

// binary is this program's own.
type binary struct {
	path, sha256 string
	size         int64
	uname        string // "Linux x86_64"
}

func (r *Rsh) own() (binary, error) {
	r.once.Do(func() { r.self, r.err = ownBinary() })
	return r.self, r.err
}

func ownBinary() (binary, error) {
	var b binary
	var err error
	if b.path, err = trust.SelfPath(); err != nil {
		return b, err
	}
	f, err := os.Open(b.path)
	if err != nil {
		return b, err
	}
	defer func() { _ = f.Close() }()
	sum := sha256.New()
	if b.size, err = io.Copy(sum, f); err != nil {
		return b, err
	}
	b.sha256 = hex.EncodeToString(sum.Sum(nil))
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return b, err
	}
	b.uname = unix.ByteSliceToString(u.Sysname[:]) + " " + unix.ByteSliceToString(u.Machine[:])
	return b, nil
}

// Local starts an agent on this node.
func (r *Rsh) Local(ctx context.Context) (*Conn, error) {
	cmd, err := trust.Self(context.WithoutCancel(ctx), "agent")
	if err != nil {
		return nil, err
	}
	return pipe.Start(ctx, cmd, pipe.Ends{After: endsWithin}, "") // never killed: it ends when its node may be left
}

// endsWithin is how long an agent and a remote shell have to end.
const endsWithin = 2 * time.Second

const shellMark = "etcd-rewind-shell|"

// shell runs on the other node, in whatever shell its user has. It prints what
// machine it is on and whether this program is there, takes a copy on request,
// and starts the agent. read takes no more than a line of its input,
// so that what follows reaches the agent. There is no single quote in it.
const shell = `s=; u=$(id -u); [ "$u" = 0 ] || s="sudo -n"; p=$(command -v etcd-rewind) || p=; h=; ` +
	`[ -z "$p" ] || h=$(sha256sum <"$p" | cut -c1-64); echo; echo "` + shellMark + `$(uname -sm)|$u|$h|$p"; ` +
	`read -r o n w || exit 0; case $o in ` +
	`run) exec $s "$p" agent;; ` +
	`take) umask 077; for t in "${TMPDIR:-/tmp}" "$HOME" /var/tmp /run; do ` +
	`d=$(mktemp -d "$t/etcd-rewind.XXXXXX" 2>/dev/null) || { d=; continue; }; ` +
	`printf "#!/bin/sh\n" >"$d/try"; chmod 700 "$d/try"; "$d/try" 2>/dev/null && rm "$d/try" && break; rm -rf "$d"; d=; done; ` + // noexec
	`[ -n "$d" ] || { echo "no directory in which a copy of etcd-rewind may run: tried the temporary one, $HOME, /var/tmp and /run" >&2; exit 41; }; trap "rm -rf \"$d\"" EXIT; trap "exit 1" HUP INT TERM; ` +
	`head -c "$n" >"$d/etcd-rewind" || exit 41; ` +
	`g=$(sha256sum <"$d/etcd-rewind" | cut -c1-64); [ "$g" = "$w" ] || { echo "the copy of etcd-rewind was altered on its way: $g" >&2; exit 42; }; ` +
	`chmod 700 "$d/etcd-rewind"; $s "$d/etcd-rewind" agent; r=$?; exit $r;; esac`

// Dial starts an agent on another node, with a copy of this program where it
// has none.
func (r *Rsh) Dial(ctx context.Context, host string) (*Conn, error) {
	if err := validHost(host); err != nil {
		return nil, problem.New("name the host with --host NAME=HOST", "%s", err)
	}
	self, err := r.own()
	if err != nil {
		return nil, err
	}
	command := r.Command
	if len(command) == 0 {
		command = DefaultRsh
	}
	args := append(append([]string{}, command[1:]...), host, "exec /bin/sh -c '"+shell+"'")
	cmd, err := trust.Command(context.WithoutCancel(ctx), command[0], args...)
	if err != nil {
		return nil, problem.New("check that it is installed; --rsh names another command, with its full path if it isn't in the PATH; a ticket needs none: etcd-rewind ticket", "%s", err)
	}
	// A shell that complains of the command line may say it all again.
	c, err := pipe.Start(ctx, cmd, pipe.Ends{After: endsWithin, Kill: true}, shell)
	if err != nil {
		return nil, problem.New("check that it is installed; --rsh names another command", "%s", err)
	}
	// What the other end doesn't read would hold up the copy for ever.
	defer context.AfterFunc(ctx, defect.Do(func() { _ = c.Close() }))()
	if err := r.boot(ctx, c, self); err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("no agent could be started in time: %w", context.Cause(ctx))
		}
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

// validHost is a host that a remote shell may be called with: a DNS name or an
// IP address, with a user before it where the person at the terminal gave one.
func validHost(s string) error {
	user, host, has := strings.Cut(s, "@")
	if !has {
		return trust.Host(s)
	}
	if trust.Name(user) != nil || strings.ContainsRune(user, ':') {
		return fmt.Errorf("%q is not a user's name", trust.Clip(trust.Text(user), 80))
	}
	return trust.Host(host)
}

// boot talks to the shell until an agent starts.
func (r *Rsh) boot(ctx context.Context, c *Conn, self binary) error {
	in := bufio.NewReaderSize(c.Out, 64<<10)
	c.Out = in
	type first struct {
		line string
		err  error
	}
	told := make(chan first, 1)
	go defect.Do(func() {
		for noise := 0; noise < 1<<20; {
			line, err := readLine(in)
			if err != nil {
				told <- first{err: err}
				return
			}
			noise += len(line) + 1
			if rest, ok := strings.CutPrefix(string(line), shellMark); ok {
				told <- first{line: rest}
				return
			}
		}
		told <- first{err: errors.New("unexpected output; no shell found")}
	})()
	var f first
	select {
	case f = <-told:
	case <-ctx.Done():
		return ctx.Err()
	}
	if f.err != nil {
		_ = c.Close() // its last words have arrived then
		said := c.Said()
		if said == "" && !errors.Is(f.err, io.EOF) {
			said = f.err.Error()
		}
		return problem.New("it has to work without a prompt: try ssh -o BatchMode=yes HOST true; --rsh names another command", "%s", cmp.Or(said, "the remote shell exited without a message"))
	}
	parts := strings.SplitN(f.line, "|", 4)
	if len(parts) != 4 {
		return fmt.Errorf("not what was asked for: %q", clip([]byte(f.line)))
	}
	uname, sum, path := parts[0], parts[2], parts[3]
	switch {
	case sum == self.sha256, path != "" && uname != self.uname:
		// On another architecture it can't be the same file; its hello says
		// whether it is the same version.
		_, err := io.WriteString(c.In, "run\n")
		return err
	case uname != self.uname:
		return problem.New("install the same version of etcd-rewind there, or set --rsh to a command that reaches it",
			"its platform differs (%s, this one %s): this program can't be copied there", uname, self.uname)
	}
	if _, err := fmt.Fprintf(c.In, "take %d %s\n", self.size, self.sha256); err != nil {
		return err
	}
	f2, err := os.Open(self.path)
	if err != nil {
		return err
	}
	defer func() { _ = f2.Close() }()
	if _, err = io.Copy(c.In, f2); err != nil {
		_ = c.Close() // the shell has ended before the copy was whole, and says why
		if said := c.Said(); said != "" {
			return problem.New("free space, or install etcd-rewind on that node", "%s", said)
		}
	}
	return err
}
