package steps

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"etcd-rewind/node"
	"etcd-rewind/problem"
)

// What a run writes and moves is its own: files and directories, never links.
// A link in their place was put there by somebody else while the run was under
// way, and is not followed.

// realFile fails unless path is a regular file itself.
func realFile(path string) error { return real(path, fs.FileMode.IsRegular, "a file") }

// realDir fails unless path is a directory itself.
func realDir(path string) error { return real(path, fs.FileMode.IsDir, "a directory") }

func real(path string, is func(fs.FileMode) bool, want string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if is(info.Mode()) {
		return nil
	}
	what := "something else"
	if info.Mode()&fs.ModeSymlink != 0 {
		what = "a symbolic link"
	}
	return problem.New("somebody else put it there, nothing was done with it: check where it leads, remove it, then retry", "%s should be %s, and is %s", path, want, what)
}

// ownSubdir makes a directory of the run's own.
func ownSubdir(path string) error {
	if err := os.Mkdir(path, 0o700); err == nil || !errors.Is(err, fs.ErrExist) {
		return err
	}
	return realDir(path)
}

// samePath says whether two paths are one place, links resolved.
func samePath(a, b string) bool {
	if filepath.Clean(a) == filepath.Clean(b) {
		return true
	}
	one, err := node.Resolve(a)
	if err != nil {
		return false
	}
	other, err := node.Resolve(b)
	return err == nil && one == other
}

func isLink(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.Mode()&fs.ModeSymlink != 0
}
