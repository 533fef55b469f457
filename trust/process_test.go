package trust

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

func TestAProcessOfThisUsersIsTrusted(t *testing.T) {
	sleep := exec.Command("/bin/sleep", "60")
	if err := sleep.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sleep.Process.Kill(); _ = sleep.Wait() }()
	if err := Process(filepath.Join("/proc", strconv.Itoa(sleep.Process.Pid))); err != nil {
		t.Error(err)
	}
	if err := Process("/proc/0"); err == nil {
		t.Error("a process that doesn't exist is trusted")
	}
}

func TestAServerOfAnotherUsersIsNotTrusted(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	if err := Listener(port); err != nil {
		t.Error("one's own server:", err)
	}
	dir := t.TempDir()
	table := "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n" +
		"   0: 0100007F:2808 00000000:0000 0A 00000000:00000000 00:00000000 00000000 65534        0 1234 1\n" +
		"   1: 0100007F:2809 0100007F:9999 01 00000000:00000000 00:00000000 00000000 65534        0 1235 1\n"
	if err := os.WriteFile(filepath.Join(dir, "tcp"), []byte(table), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := listener(dir, 10248); err == nil || !strings.Contains(err.Error(), "belongs to user 65534") {
		t.Errorf("another user's server: %v", err)
	}
	if err := listener(dir, 10249); err != nil {
		t.Errorf("a connection is taken for a server: %v", err)
	}
}

func TestASocketIsItsServersOwner(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := os.Chmod(path, 0o666); err != nil { // who may connect is not the question
		t.Fatal(err)
	}
	if err := Socket(path); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if Socket(filepath.Join(dir, "file")) == nil {
		t.Error("a file is taken for a socket")
	}
	if os.Geteuid() != 0 {
		return // another user's can't be made
	}
	if err := os.Lchown(path, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	if err := Socket(path); err == nil || !strings.Contains(err.Error(), "belongs to user 65534") {
		t.Errorf("another user's socket: %v", err)
	}
}
