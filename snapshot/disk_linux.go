package snapshot

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// clone makes dst, which is empty, share the bytes of src, as XFS and Btrfs
// can.
func clone(dst, src *os.File) error {
	return unix.IoctlFileClone(int(dst.Fd()), int(src.Fd()))
}

// allocate reserves the space before anything is written, where the file
// system can: a full disk shows at once, and an etcd's fsync doesn't have to
// wait for data that has no place yet.
func allocate(f *os.File, size int64) error {
	err := unix.Fallocate(int(f.Fd()), 0, 0, size)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		return nil
	}
	return err
}

// startFlush sends a part of a file to the disk, waitFlush waits until it is
// there. They don't replace a sync.
func startFlush(f *os.File, at, n int64) error {
	return syncRange(f, at, n, unix.SYNC_FILE_RANGE_WRITE)
}

func waitFlush(f *os.File, at, n int64) error {
	return syncRange(f, at, n, unix.SYNC_FILE_RANGE_WAIT_BEFORE|unix.SYNC_FILE_RANGE_WRITE|unix.SYNC_FILE_RANGE_WAIT_AFTER)
}

func syncRange(f *os.File, at, n int64, how int) error {
	for {
		err := unix.SyncFileRange(int(f.Fd()), at, n, how)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EINVAL):
			return nil // the sync at the end does it all
		default:
			return err
		}
	}
}
