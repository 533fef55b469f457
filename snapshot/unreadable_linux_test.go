package snapshot

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

func TestFileThatMayNotBeRead(t *testing.T) {
	dir, err := os.MkdirTemp("", "unreadable")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "a.db")
	if err := os.WriteFile(path, fixture(t, "before"), 0o000); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	// Root may read everything: become somebody else for the file system, on
	// this thread alone.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if os.Geteuid() == 0 {
		if err := unix.Setfsuid(65534); err != nil {
			t.Fatal(err)
		}
		defer unix.Setfsuid(0)
	}
	_, err = Quick(path)
	wantProblem(t, err, CodeUnreadable)
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the file itself should have been reachable: %v", err)
	}
}
