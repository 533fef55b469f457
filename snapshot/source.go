package snapshot

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"etcd-rewind/problem"

	"golang.org/x/sys/unix"
)

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
		kind := "a special file"
		switch {
		case mode&os.ModeNamedPipe != 0:
			kind = "a pipe"
		case mode&os.ModeSocket != 0:
			kind = "a socket"
		case mode&os.ModeDevice != 0:
			kind = "a device"
		}
		return problem.Coded(CodeNotRegular, "copy the snapshot into a file first", "%s, not a regular file", kind)
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

// counter tells how much of a file has been read, and stops when ctx ends.
type counter struct {
	ctx         context.Context
	r           io.Reader
	done, total int64
	tell        func(done, total int64)
	when        time.Time
}

func (c *counter) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	n, err := c.r.Read(p)
	c.done += int64(n)
	if c.tell != nil && (c.done == c.total || time.Since(c.when) > 100*time.Millisecond) {
		c.when = time.Now()
		c.tell(c.done, c.total)
	}
	return n, err
}
