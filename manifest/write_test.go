package manifest

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

func TestWriteAsideTakesModeAndOwner(t *testing.T) {
	dir := t.TempDir()
	model := write(t, filepath.Join(dir, "etcd.yaml"), []byte("old"))
	if err := os.Chmod(model, 0o640); err != nil {
		t.Fatal(err)
	}
	uid, gid := os.Getuid(), os.Getgid()
	if uid == 0 { // only root can give files away
		uid, gid = 4242, 4343
		if err := os.Chown(model, uid, gid); err != nil {
			t.Fatal(err)
		}
	}
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	path := filepath.Join(dir, ".etcd.yaml.new")
	if err := WriteAside(path, []byte("new"), model); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	s := info.Sys().(*syscall.Stat_t)
	if info.Mode() != 0o640 || int(s.Uid) != uid || int(s.Gid) != gid {
		t.Errorf("got %s %d:%d", info.Mode(), s.Uid, s.Gid)
	}
	if data, _ := os.ReadFile(path); string(data) != "new" {
		t.Errorf("got %q", data)
	}
	if data, _ := os.ReadFile(model); string(data) != "old" {
		t.Errorf("the model is %q", data)
	}
}

func TestWriteAsideWithoutAModelIsPrivate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x")
	if err := WriteAside(path, nil, ""); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("got %v, %v", info.Mode(), err)
	}
}

func TestWriteAsideReplacesNothing(t *testing.T) {
	dir := t.TempDir()
	taken := write(t, filepath.Join(dir, "taken"), []byte("old"))
	link := filepath.Join(dir, "link")
	if err := os.Symlink(filepath.Join(dir, "target"), link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{taken, link, dir} {
		err := WriteAside(path, []byte("new"), "")
		wantProblem(t, err, CodeExists, "nothing was written")
		if !errors.Is(err, fs.ErrExist) {
			t.Errorf("%v is not fs.ErrExist", err)
		}
	}
	if data, _ := os.ReadFile(taken); string(data) != "old" {
		t.Errorf("got %q", data)
	}
	if _, err := os.Stat(filepath.Join(dir, "target")); !errors.Is(err, fs.ErrNotExist) {
		t.Error("wrote through a dangling symlink")
	}
	if err := WriteAside(filepath.Join(dir, "no", "such"), nil, ""); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestWriteAsideLeavesNothingBehindWhenItFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x")
	err := writeAside(path, func(file *os.File) error {
		if _, err := file.WriteString("half"); err != nil {
			t.Error(err)
		}
		return syscall.ENOSPC
	})
	if !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("got %v", err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Error("left a file behind")
	}
}

func TestMove(t *testing.T) {
	for name, rename := range map[string]func(string, string) error{
		"as the system does it":       renameNoReplace,
		"on a file system that can't": renameOrLink,
	} {
		t.Run(name, func(t *testing.T) {
			move := func(from, to string) error { return move(from, to, rename) }
			dir := t.TempDir()
			at := func(name string) string { return filepath.Join(dir, name) }
			write(t, at("a"), []byte("a"))
			if err := os.Mkdir(at("sub"), 0o755); err != nil {
				t.Fatal(err)
			}

			if err := move(at("a"), at("sub/b")); err != nil {
				t.Fatal(err)
			}
			if data, err := os.ReadFile(at("sub/b")); err != nil || string(data) != "a" {
				t.Errorf("got %q, %v", data, err)
			}
			if _, err := os.Lstat(at("a")); !errors.Is(err, fs.ErrNotExist) {
				t.Error("it is still at its old place")
			}
			if err := move(at("a"), at("c")); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("a second time: %v", err)
			}

			// Nothing is replaced: not a file, an empty directory, a symlink to nowhere, nor itself.
			write(t, at("from"), []byte("from"))
			write(t, at("file"), []byte("file"))
			if err := os.Mkdir(at("empty"), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(at("nowhere"), at("link")); err != nil {
				t.Fatal(err)
			}
			for _, from := range []string{"from", "sub"} {
				for _, to := range []string{"file", "empty", "link", from} {
					if err := move(at(from), at(to)); !errors.Is(err, fs.ErrExist) {
						t.Errorf("%s to %s: %v", from, to, err)
					}
				}
			}
			if data, _ := os.ReadFile(at("file")); string(data) != "file" {
				t.Errorf("the target is %q now", data)
			}

			// A directory, and a symlink as itself.
			if err := move(at("sub"), at("sub2")); err != nil {
				t.Error(err)
			}
			if err := move(at("link"), at("link2")); err != nil {
				t.Error(err)
			}
			if target, err := os.Readlink(at("link2")); err != nil || target != at("nowhere") {
				t.Errorf("the symlink is %q, %v", target, err)
			}
			if _, err := os.Stat(at("sub2/b")); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestMoveSaysWhatStandsInTheWay(t *testing.T) {
	dir := t.TempDir()
	from, to := write(t, filepath.Join(dir, "from"), nil), write(t, filepath.Join(dir, "to"), nil)
	wantProblem(t, Move(from, to), CodeExists, "was not moved")
	if err := Move(from, filepath.Join(dir, "no", "such")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	err := move(from, filepath.Join(dir, "c"), func(from, to string) error {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: syscall.EXDEV}
	})
	wantProblem(t, err, CodeOtherDisk, "same file system as "+dir)
	if !errors.Is(err, syscall.EXDEV) {
		t.Errorf("%v is not EXDEV", err)
	}
	if err := Move(dir, filepath.Join(dir, "inside")); err == nil {
		t.Error("moved a directory into itself")
	}
}

func TestMoveSaysWhenItIsDoneButNotSynced(t *testing.T) {
	dir := t.TempDir()
	err := move(filepath.Join(dir, "a"), filepath.Join(dir, "gone", "b"), func(string, string) error { return nil })
	var done *MoveNotSynced
	if !errors.As(err, &done) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestMoveLetsOnlyOneWin(t *testing.T) {
	dir := t.TempDir()
	to := filepath.Join(dir, "to")
	var won atomic.Int32
	var group sync.WaitGroup
	for _, name := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
		from := write(t, filepath.Join(dir, name), []byte(name))
		group.Go(func() {
			err := Move(from, to)
			switch {
			case err == nil:
				won.Add(1)
			case !errors.Is(err, fs.ErrExist):
				t.Error(err)
			}
		})
	}
	group.Wait()
	if won.Load() != 1 {
		t.Errorf("%d moves to the same place succeeded", won.Load())
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 8 {
		t.Errorf("%d files are left of 8", len(entries))
	}
}
