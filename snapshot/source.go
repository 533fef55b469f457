package snapshot

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"etcd-rewind/defect"
	"etcd-rewind/problem"
	"etcd-rewind/trust"

	"filippo.io/age"
	"golang.org/x/sys/unix"
)

// Source is where a snapshot comes from: a file is the one kind there is.
// Packed or not is no matter of the source: Stage sees that by the content.
type Source struct {
	// Name is the one the user gave. It is what screens, reports, journals and
	// errors say, whatever file the snapshot is read from in the end.
	Name string
	// Open begins to read it. Stage gives it a deadline; the context holds for
	// reading too. An error for a bad source is a *problem.Problem.
	Open func(context.Context) (*Stored, error)
	// Identities open it, when it is encrypted.
	Identities []age.Identity
	// Doubt is what nobody can know of where it comes from, for whoever is about to
	// use it; nil for nothing.
	Doubt *problem.Problem
}

// Stored is what a source has, opened.
type Stored struct {
	io.ReadCloser
	Size    int64 // bytes
	ModTime time.Time
	// Path is where it lies on this node, "" when it is elsewhere: then its
	// bytes have to be staged to be read.
	Path string
}

// File is a snapshot in a file, packed or not.
func File(path string) Source {
	return Source{Name: path, Open: func(context.Context) (*Stored, error) {
		f, st, err := openRegular(path)
		if err != nil {
			return nil, err
		}
		return &Stored{ReadCloser: f, Size: st.Size(), ModTime: st.ModTime(), Path: path}, nil
	}}
}

// FullName is the name of a source as it is understood in any working
// directory.
func FullName(name string) string {
	if strings.Contains(name, "://") {
		return name
	}
	if abs, err := filepath.Abs(name); err == nil {
		return abs
	}
	return name
}

// BareName is a snapshot's name without what a URL has behind its path: how the
// store is reached.
func BareName(name string) string {
	if strings.Contains(name, "://") {
		name, _, _ = strings.Cut(name, "?")
	}
	return name
}

// BaseName is the last element of a snapshot's name.
func BaseName(name string) string { return filepath.Base(BareName(name)) }

// A source that doesn't open, or sends nothing, for this long has stalled.
const (
	openLimit  = 30 * time.Second
	sourceIdle = time.Minute
)

// open opens a source, and gives it up when it doesn't answer: a mount whose
// server is gone hangs in the kernel.
func (s Source) open(ctx context.Context, limit time.Duration) (*Stored, error) {
	type answer struct {
		st  *Stored
		err error
	}
	answered := make(chan answer) // unbuffered: who is too late closes it
	gone := make(chan struct{})
	defer close(gone)
	go defect.Do(func() {
		st, err := s.Open(ctx)
		select {
		case answered <- answer{st, err}:
		case <-gone:
			if err == nil {
				_ = st.Close()
			}
		}
	})()
	late := time.NewTimer(limit)
	defer late.Stop()
	select {
	case a := <-answered:
		return a.st, a.err
	case <-late.C:
		return nil, problem.Coded(CodeStalled, stalledHint, "it didn't open within %s", limit)
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

const stalledHint = "check the disk, the mount or the server that it is on, or copy it to this node"

// steady reads ahead, and gives up what sends nothing for too long. A read that
// hangs in the kernel is left behind.
type steady struct {
	ctx  context.Context
	idle time.Duration
	full chan []byte // closed at the end
	free chan []byte
	err  error // once full is closed
	rest []byte
	buf  []byte // rest is a part of it
	gone chan struct{}
}

// newSteady reads r, and closes it at its end or with close.
func newSteady(ctx context.Context, r io.ReadCloser, idle time.Duration) *steady {
	s := &steady{ctx: ctx, idle: idle, full: make(chan []byte), free: make(chan []byte, 3), gone: make(chan struct{})}
	for range cap(s.free) {
		s.free <- make([]byte, 256<<10)
	}
	go defect.Do(func() {
		defer r.Close()
		defer close(s.full)
		for {
			var buf []byte
			select {
			case buf = <-s.free:
			case <-s.gone:
				return
			}
			n, err := r.Read(buf)
			if n > 0 {
				select {
				case s.full <- buf[:n]:
				case <-s.gone:
					return
				}
			}
			if err != nil {
				s.err = err
				return
			}
		}
	})()
	return s
}

func (s *steady) close() { close(s.gone) }

func (s *steady) Read(p []byte) (int, error) {
	if len(s.rest) == 0 {
		if s.buf != nil {
			s.free <- s.buf[:cap(s.buf)]
			s.buf = nil
		}
		late := time.NewTimer(s.idle)
		defer late.Stop()
		select {
		case buf, more := <-s.full:
			if !more {
				return 0, s.err
			}
			s.buf, s.rest = buf, buf
		case <-late.C:
			return 0, problem.Coded(CodeStalled, stalledHint, "it sent nothing for %s", s.idle)
		case <-s.ctx.Done():
			return 0, context.Cause(s.ctx)
		}
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

// openRegular never waits for a pipe, and refuses what isn't a regular file.
func openRegular(path string) (*os.File, os.FileInfo, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, nil, openProblem(path, err)
	}
	if p := kindProblem(path, st); p != nil {
		return nil, nil, p
	}
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, openProblem(path, err)
	}
	if st, err = f.Stat(); err == nil {
		if p := kindProblem(path, st); p != nil {
			_ = f.Close()
			return nil, nil, p
		}
		return f, st, nil
	}
	_ = f.Close()
	return nil, nil, openProblem(path, err)
}

func kindProblem(path string, st os.FileInfo) *problem.Problem {
	switch mode := st.Mode(); {
	case mode.IsDir():
		if _, err := os.Stat(dbPath(path)); err == nil {
			return problem.Coded(CodeDirectory, "its database is "+filepath.Join("member", "snap", "db"), "a data directory, not a snapshot file")
		}
		return problem.Coded(CodeDirectory, "name the snapshot file in it", "a directory, not a file")
	case !mode.IsRegular():
		return problem.Coded(CodeNotRegular, "copy the snapshot into a file first", "%s, not a regular file", trust.Kind(mode))
	case st.Size() == 0:
		return problem.Coded(CodeEmpty, "take another snapshot; this one was never written, or the disk was full", "the file is empty")
	}
	return nil
}

// linkOfAnother says whether a path is a link that another user made: in /tmp
// it may lead anywhere, as the kernel's protected_symlinks has it.
func linkOfAnother(path string) bool {
	st, err := os.Lstat(path)
	return err == nil && st.Mode()&os.ModeSymlink != 0 && owner(st) != ""
}

// owner is whose file it is, "" for root and this user.
func owner(st os.FileInfo) string {
	if s, ok := st.Sys().(*syscall.Stat_t); ok && s.Uid != 0 && int(s.Uid) != os.Geteuid() {
		return fmt.Sprintf("uid %d", s.Uid)
	}
	return ""
}

// counter reports how much has been read.
type counter struct {
	r           io.Reader
	done, total int64
	tell        func(done, total int64)
	when        time.Time
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.done += int64(n)
	if c.tell != nil && (c.done == c.total || time.Since(c.when) > 100*time.Millisecond) {
		c.when = time.Now()
		c.tell(c.done, c.total)
	}
	return n, err
}
