package trust

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"etcd-rewind/problem"
)

// Dir says whether what lies in a directory may be obeyed: it is a directory
// and no link, it belongs to this user or to root, others can't write to it, and
// nobody else can put another one in its place, or in that of one above it. The
// error is a *problem.Problem, or why it can't be looked at.
func Dir(dir string) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return &problem.Problem{Cause: dir + " is not a directory but a link or a file"}
	}
	if err := owned(dir, info, false); err != nil {
		return err
	}
	// As it is named, for whoever changes a link on the way, and as it is.
	abs, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	real, err := filepath.EvalSymlinks(abs)
	if err != nil {
		return err
	}
	if err := dirs(filepath.Dir(abs)); err != nil {
		return err
	}
	return dirs(filepath.Dir(real))
}

// File says the same of a regular file that is read or started as root: the
// file and every directory above it, links resolved.
func File(path string) error {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	info, err := os.Lstat(real)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return &problem.Problem{Cause: path + " is not a regular file"}
	}
	if err := owned(real, info, false); err != nil {
		return err
	}
	return dirs(filepath.Dir(real))
}

// dirs says whether nobody else can replace what lies in a directory, or in one
// above it.
func dirs(dir string) error {
	for p := dir; ; p = filepath.Dir(p) {
		info, err := os.Lstat(p)
		if err != nil {
			return err
		}
		if err := owned(p, info, true); err != nil {
			return err
		}
		if p == filepath.Dir(p) {
			return nil
		}
	}
}

// Own says the same as Dir of a regular file that lies in such a directory and
// is no link.
func Own(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return &problem.Problem{Cause: path + " is not a regular file"}
	}
	return owned(path, info, false)
}

// owned says whether only this user or root can change what path names. In a
// directory with the sticky bit others can't replace what isn't theirs.
func owned(path string, info os.FileInfo, sticky bool) error {
	if err := ours(path, info); err != nil {
		return err
	}
	if link := info.Mode()&os.ModeSymlink != 0; link {
		return nil // its mode says nothing: what counts is the directory that it is in
	}
	if info.Mode().Perm()&0o022 != 0 && (!sticky || info.Mode()&os.ModeSticky == 0) {
		return &problem.Problem{
			Cause: fmt.Sprintf("others can write to %s (mode %04o)", path, info.Mode().Perm()),
			Hint:  "chmod go-w " + Quote(path) + ", once you know what is in it",
		}
	}
	return nil
}

// ours says whether what path names belongs to root or to this user.
func ours(path string, info os.FileInfo) error {
	if s, ok := info.Sys().(*syscall.Stat_t); ok && s.Uid != 0 && int(s.Uid) != os.Geteuid() {
		return &problem.Problem{Cause: fmt.Sprintf("%s belongs to user %d", path, s.Uid)}
	}
	return nil
}

// Within says whether path is dir or below it. Both are clean; links aren't
// looked at.
func Within(dir, path string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}

// Kind says what a file is that isn't a regular one or a directory: "a named pipe".
func Kind(mode os.FileMode) string {
	switch {
	case mode&os.ModeNamedPipe != 0:
		return "a named pipe"
	case mode&os.ModeSocket != 0:
		return "a socket"
	case mode&os.ModeDevice != 0:
		return "a device"
	}
	return "a special file"
}
