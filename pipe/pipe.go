// Package pipe is for processes that are used over their standard input
// and output: those that carry a connection to another host (Start), and
// children that serve one request (Ask). What passes there, and which program
// it is, is the caller's.
package pipe

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"etcd-rewind/defect"
	"etcd-rewind/trust"
)

const (
	keptWords   = 4096 // bytes of what a process writes to stderr
	shownLines  = 3
	longestLine = 300 // bytes
	endLimit    = time.Second
)

// Conn is a connection that a process carries.
type Conn struct {
	In  io.WriteCloser
	Out io.Reader
	// Close ends the connection, and the process as [Ends] says. It is safe to
	// call twice.
	Close func() error
	// Said is the last of what the process wrote to stderr, as one line for a
	// person. Where the process ends, its words are waited for, at most 1 s.
	Said func() string
}

// Ends says how a process ends whose connection is closed.
type Ends struct {
	After time.Duration // that it has to end by itself
	Kill  bool          // then; otherwise it is left to run on alone
}

// Start starts a process that carries a connection. It gets a session of its
// own: Ctrl-C and a hangup are for this program to handle. Once ctx has ended none
// is started; one that runs outlives it. A line that repeats omit is shown without it.
func Start(ctx context.Context, cmd *exec.Cmd, ends Ends, omit string) (*Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	// Not StdoutPipe: Wait would close it under its reader.
	out, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	said := &trust.Tail{Most: keptWords}
	cmd.Stdout, cmd.Stderr = w, said
	cmd.WaitDelay = endLimit
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(err, out.Close(), w.Close())
	}
	_ = w.Close()
	ended := make(chan struct{})
	go defect.Do(func() {
		defer close(ended)
		_ = cmd.Wait()
	})()
	within := func(limit time.Duration) bool {
		select {
		case <-ended:
			return true
		case <-time.After(limit):
			return false
		}
	}
	return &Conn{
		In: in, Out: out,
		Close: sync.OnceValue(func() error {
			_ = in.Close()
			if !within(ends.After) && ends.Kill {
				_ = cmd.Process.Kill()
				within(2 * endLimit) // one that hangs in the kernel stays
			}
			return out.Close()
		}),
		Said: func() string {
			within(endLimit)
			return lastLines(said.String(), omit)
		},
	}, nil
}

func lastLines(said, omit string) string {
	var lines []string
	for _, l := range strings.FieldsFunc(said, func(c rune) bool { return c == '\n' || c == '\r' }) {
		if omit != "" {
			l = strings.ReplaceAll(l, omit, "…")
		}
		if l = strings.TrimSpace(l); l != "" {
			lines = append(lines, trust.Clip(trust.Text(l), longestLine))
		}
	}
	return strings.Join(lines[max(0, len(lines)-shownLines):], "; ")
}

// StartError says that Ask could not start the process.
type StartError struct{ Err error }

func (e StartError) Error() string { return e.Err.Error() }
func (e StartError) Unwrap() error { return e.Err }

// Ask starts a process, writes the request to it and passes on its answers, a
// JSON value each, until hear says that one was the last. Then its input is
// closed, and its end waited for. It reports whether the last answer came, and
// the error of the process's end. The process may be tied to the thread that
// started it (PR_SET_PDEATHSIG, prctl(2)): that lives as long.
func Ask[T any](cmd *exec.Cmd, request []byte, hear func(T) (last bool)) (whole bool, err error) {
	done := make(chan struct{})
	go defect.Do(func() {
		defer close(done)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		whole, err = ask(cmd, request, hear)
	})()
	<-done
	return whole, err
}

func ask[T any](cmd *exec.Cmd, request []byte, hear func(T) (last bool)) (whole bool, err error) {
	in, err := cmd.StdinPipe()
	if err != nil {
		return false, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return false, err
	}
	if err := cmd.Start(); err != nil {
		return false, StartError{err}
	}
	_, _ = in.Write(append(request, '\n')) // where it fails the child ends without an answer
	for dec := json.NewDecoder(out); !whole; {
		var answer T
		if dec.Decode(&answer) != nil {
			break
		}
		whole = hear(answer)
	}
	_ = in.Close()
	return whole, cmd.Wait()
}
