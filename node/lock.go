package node

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// LockedError says that another process holds a lock.
type LockedError struct {
	Path   string
	Holder string // "process 123 on cp1 since 2026-01-02T15:04:05Z"
}

func (e *LockedError) Error() string {
	return fmt.Sprintf("%s is held by %s: wait for it, or stop it", e.Path, e.Holder)
}

// Lock takes the lock at path, whose directory must exist. The kernel holds it:
// it ends with release or with the process, however that ends, and a file left
// behind means nothing. release is safe to call twice. When another process has
// the lock the error is a [*LockedError].
func Lock(path string) (release func() error, err error) {
	for range 10 {
		f, err := lockFile(path)
		if err != nil {
			return nil, err
		}
		if f == nil {
			continue
		}
		// The kernel holds the lock; the words are for others. A full disk must
		// not block an undo.
		if err := describe(f); err != nil && !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EDQUOT) {
			f.Close()
			return nil, fmt.Errorf("cannot write lock %s: %w", path, err)
		}
		return sync.OnceValue(func() error {
			// The file stays, so that two who wait can't end up with locks on two
			// files of one name. Closing is not enough to end the lock: a child
			// that was just forked has the descriptor until its exec.
			return errors.Join(f.Truncate(0), unix.Flock(int(f.Fd()), unix.LOCK_UN), f.Close())
		}), nil
	}
	return nil, fmt.Errorf("cannot lock %s: the file is replaced again and again", path)
}

// lockFile returns nil without an error when the file was replaced meanwhile.
func lockFile(path string) (*os.File, error) {
	// O_NONBLOCK: a FIFO must not hold up the opening.
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if errors.Is(err, unix.ELOOP) {
		return nil, fmt.Errorf("cannot lock %s: it is a symbolic link", path)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot lock: %w", err)
	}
	have, err := f.Stat()
	if err == nil && !have.Mode().IsRegular() {
		err = errors.New("it is not a regular file")
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("cannot lock %s: %w", path, err)
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if errors.Is(err, unix.EWOULDBLOCK) {
		defer f.Close()
		text, _ := io.ReadAll(io.LimitReader(f, 256))
		holder := printable(strings.TrimSpace(string(text)))
		return nil, &LockedError{Path: path, Holder: cmp.Or(holder, "another process")}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("cannot lock %s: %w", path, err)
	}
	if now, err := os.Lstat(path); err != nil || !os.SameFile(have, now) {
		f.Close()
		return nil, nil
	}
	return f, nil
}

func describe(f *os.File) error {
	host, err := os.Hostname()
	if err != nil {
		host = "an unknown host"
	}
	text := fmt.Sprintf("process %d on %s since %s\n", os.Getpid(), host, time.Now().UTC().Format(time.RFC3339))
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err = f.WriteAt([]byte(text), 0)
	return err
}
