package manifest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"etcd-rewind/problem"
)

// WriteAside writes a new file with the mode, owner and SELinux label of the one at like, as cp -a does, and syncs it and its
// directory to disk. In the manifest directory path must begin with a dot, or kubelet sees the file half written; the way in is
// Move. With like "" the mode is 0600. It refuses to replace anything (an error that is fs.ErrExist), and leaves nothing behind when it fails.
func WriteAside(path string, data []byte, like string) error {
	return writeAside(path, func(file *os.File) error { return fill(file, data, like) })
}

func writeAside(path string, fill func(*os.File) error) (err error) {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return problem.Coded(CodeExists, "check what it is and move it away", "%s exists already, nothing was written: %w", path, err)
	}
	if err != nil {
		return fmt.Errorf("write aside: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("write aside: %w", err), os.Remove(path))
		}
	}()
	if err := fill(file); err != nil {
		_ = file.Close()
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
}

func fill(file *os.File, data []byte, like string) error {
	if _, err := file.Write(data); err != nil {
		return err
	}
	if like != "" {
		info, err := os.Stat(like)
		if err != nil {
			return err
		}
		if s, ok := info.Sys().(*syscall.Stat_t); ok {
			if err := file.Chown(int(s.Uid), int(s.Gid)); err != nil {
				return err
			}
		}
		// After the owner: a change of owner takes bits away.
		if err := file.Chmod(info.Mode().Perm()); err != nil {
			return err
		}
		if err := KeepLabel(like, file.Name()); err != nil {
			return err
		}
	}
	return file.Sync()
}

const selinuxLabel = "security.selinux"

// KeepLabel gives the file or directory at to the SELinux label of the one at from, if that has one. A file system that keeps
// no labels is no error: its files have its mount's. Safe to call twice.
func KeepLabel(from, to string) error {
	if err := keepAttribute(selinuxLabel, from, to); err != nil {
		return fmt.Errorf("give %s the SELinux label of %s: %w", to, from, err)
	}
	return nil
}

// Move renames a file or directory, and syncs both directories to disk. It never replaces anything: when the target exists
// there is an error that is fs.ErrExist, and nothing has changed. It can't move to another file system. After an error that
// is a *MoveNotSynced the move has been done.
func Move(from, to string) error { return move(from, to, renameNoReplace) }

func move(from, to string, rename func(from, to string) error) error {
	err := rename(from, to)
	switch {
	case errors.Is(err, fs.ErrExist) || errors.Is(err, syscall.ENOTEMPTY):
		return problem.Coded(CodeExists, "check what it is and move it away", "%s exists already, %s was not moved: %w", to, from, fs.ErrExist)
	case errors.Is(err, syscall.EXDEV):
		return problem.Coded(CodeOtherDisk, "choose a place on the same file system as "+filepath.Dir(from),
			"%s and %s are on different file systems, a rename is not possible: %w", from, to, err)
	case err != nil:
		return fmt.Errorf("move %s to %s: %w", from, to, err)
	}
	err = SyncDir(filepath.Dir(to))
	if filepath.Dir(from) != filepath.Dir(to) {
		err = errors.Join(err, SyncDir(filepath.Dir(from)))
	}
	if err != nil {
		return &MoveNotSynced{From: from, To: to, Err: err}
	}
	return nil
}

// ErrNoExchange is the error of a file system that can't exchange two names.
var ErrNoExchange = errors.New("this file system can't exchange two directories")

// Exchange gives each of two directories the other's path, at once: at no time is
// either path without one. Both have to be on one file system. It fails with
// ErrNoExchange where that isn't possible, and nothing has changed then.
func Exchange(a, b string) error {
	if err := renameExchange(a, b); err != nil {
		return err
	}
	err := SyncDir(filepath.Dir(a))
	if filepath.Dir(a) != filepath.Dir(b) {
		err = errors.Join(err, SyncDir(filepath.Dir(b)))
	}
	if err != nil {
		return &MoveNotSynced{From: a, To: b, Err: err}
	}
	return nil
}

// MoveNotSynced says that a move has been done, but may not survive a loss of power.
type MoveNotSynced struct {
	From, To string
	Err      error
}

func (e *MoveNotSynced) Error() string {
	return fmt.Sprintf("%s was moved to %s, but the directory could not be synced to disk: %v", e.From, e.To, e.Err)
}

// Unwrap gives the error of the sync.
func (e *MoveNotSynced) Unwrap() error { return e.Err }

// SyncDir brings the names in a directory to the disk, where the file system
// can. Safe to call twice.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP) {
		err = nil // some file systems can't sync a directory
	}
	return errors.Join(err, d.Close())
}

// renameOrLink is for file systems whose rename can't spare the target. For a file a hard link does the same; a
// directory is looked for first, which leaves a moment for somebody else to come between.
func renameOrLink(from, to string) error {
	info, err := os.Lstat(from)
	if err != nil {
		return err
	}
	if info.Mode().IsRegular() {
		err := os.Link(from, to)
		if err == nil {
			return os.Remove(from)
		}
		if errors.Is(err, fs.ErrExist) || errors.Is(err, syscall.EXDEV) {
			return err
		}
	}
	if _, err := os.Lstat(to); !errors.Is(err, fs.ErrNotExist) {
		if err == nil {
			err = fs.ErrExist
		}
		return err
	}
	return os.Rename(from, to)
}
