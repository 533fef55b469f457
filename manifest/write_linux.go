package manifest

import (
	"bytes"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

func renameNoReplace(from, to string) error {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	// EINVAL is what a file system answers that doesn't know the flag.
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		return renameOrLink(from, to)
	}
	return err
}

func renameExchange(a, b string) error {
	err := unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, errors.ErrUnsupported) {
		return ErrNoExchange
	}
	if err != nil {
		return fmt.Errorf("exchange %s and %s: %w", a, b, err)
	}
	return nil
}

// keepAttribute gives what is at to an extended attribute of what is at from, if
// that has it.
func keepAttribute(name, from, to string) error {
	want, err := attribute(name, from)
	if err != nil || want == nil {
		return err
	}
	have, err := attribute(name, to)
	if err != nil || bytes.Equal(have, want) {
		return err
	}
	if err := unix.Lsetxattr(to, name, want, 0); !errors.Is(err, unix.ENOTSUP) {
		return err
	}
	return nil
}

// attribute is nil where there is none.
func attribute(name, path string) ([]byte, error) {
	value := make([]byte, 4096) // a label has some dozens
	n, err := unix.Getxattr(path, name, value)
	if errors.Is(err, unix.ENODATA) || errors.Is(err, unix.ENOTSUP) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return value[:n], nil
}
