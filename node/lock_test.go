package node

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestLockIsHeldByOne(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	release, err := Lock(path)
	if err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(path)
	if err != nil || st.Mode() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	_, err = Lock(path)
	var locked *LockedError
	if !errors.As(err, &locked) || locked.Path != path || !strings.HasPrefix(locked.Holder, fmt.Sprintf("process %d on ", os.Getpid())) {
		t.Errorf("the second: %v", err)
	}
	for range 2 {
		if err := release(); err != nil {
			t.Errorf("release: %v", err)
		}
	}
	release, err = Lock(path)
	if err != nil {
		t.Fatalf("after the release: %v", err)
	}
	if err := release(); err != nil {
		t.Error(err)
	}
}

func TestLockEndsWithItsProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), envLock+"="+path)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "locked\n" {
		t.Fatalf("the other process says %q, %v", line, err)
	}
	_, err = Lock(path)
	var locked *LockedError
	if !errors.As(err, &locked) || !strings.Contains(locked.Holder, fmt.Sprintf("process %d on ", cmd.Process.Pid)) {
		t.Errorf("held by the other: %v", err)
	}
	if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	release, err := Lock(path)
	if err != nil {
		t.Fatalf("after the other was killed: %v", err)
	}
	if err := release(); err != nil {
		t.Error(err)
	}
}

func TestLockEndsThoughAForkedChildHasItsDescriptorStill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	release, err := Lock(path)
	if err != nil {
		t.Fatal(err)
	}
	var lock syscall.Stat_t
	if err := syscall.Stat(path, &lock); err != nil {
		t.Fatal(err)
	}
	dup := -1
	for fd := range 256 {
		var st syscall.Stat_t
		if syscall.Fstat(fd, &st) == nil && st.Ino == lock.Ino && st.Dev == lock.Dev {
			dup, err = syscall.Dup(fd)
			break
		}
	}
	if dup < 0 || err != nil {
		t.Fatal("no descriptor of the lock was found")
	}
	defer syscall.Close(dup)
	if err := release(); err != nil {
		t.Fatal(err)
	}
	release, err = Lock(path)
	if err != nil {
		t.Fatalf("after the release: %v", err)
	}
	if err := release(); err != nil {
		t.Error(err)
	}
}

func TestLockWhereThereIsNoPlaceForOne(t *testing.T) {
	dir := t.TempDir()
	target := filepath.Join(dir, "target")
	write(t, target, "precious")
	link(t, target, filepath.Join(dir, "link"))
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		filepath.Join(dir, "link"):        "symbolic link",
		fifo:                              "not a regular file",
		dir:                               "directory",
		filepath.Join(dir, "no", "place"): "no such file",
	} {
		if _, err := Lock(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want something about %q", path, err, want)
		}
	}
	if data, _ := os.ReadFile(target); string(data) != "precious" {
		t.Errorf("what the link points at now holds %q", data)
	}
}
