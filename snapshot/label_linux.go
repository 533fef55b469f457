package snapshot

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

func setLabel(path, label string) error {
	err := unix.Lsetxattr(path, "security.selinux", append([]byte(label), 0), 0)
	if errors.Is(err, unix.ENOTSUP) {
		return fmt.Errorf("%s: the file system doesn't keep labels", path)
	}
	return err
}
