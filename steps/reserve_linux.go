package steps

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// reserveBeyond takes disk space for a file from an offset on, and leaves its
// size as it is. Some file systems can't; that is no error.
func reserveBeyond(f *os.File, from, size int64) error {
	for {
		err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, from, size)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS):
			return nil
		case err != nil:
			return &os.PathError{Op: "reserve space for", Path: f.Name(), Err: err}
		}
		return nil
	}
}

// nameless is a new file that is in no directory.
func nameless(dir string) (*os.File, error) {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, &os.PathError{Op: "make a file in", Path: dir, Err: err}
	}
	return os.NewFile(uintptr(fd), dir), nil
}
