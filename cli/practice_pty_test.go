//go:build linux && !nopractice

package cli

import (
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/charmbracelet/x/ansi"
	"github.com/creack/pty"
)

// The README's first command, as somebody uses it who has read nothing else:
// enter, enter, the node's name, q.
func TestTheTourIsSolvedWithTheKeyboard(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// testscript.Main runs main when the program is called by its name.
	dir := t.TempDir()
	if err := os.Symlink(self, dir+"/etcd-rewind"); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(dir+"/etcd-rewind", "practice", "--home", dir+"/home")
	cmd.Env = append(os.Environ(), "TERM=xterm-256color", "LANG=C.UTF-8")
	begun := time.Now()
	tty, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 24, Cols: 80})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGKILL)
		_ = tty.Close()
	})

	var mu sync.Mutex
	var told strings.Builder
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := tty.Read(buf)
			mu.Lock()
			told.Write(buf[:n])
			mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	screen := func() string {
		mu.Lock()
		defer mu.Unlock()
		return ansi.Strip(told.String())
	}
	seen := 0
	see := func(what string, limit time.Duration) {
		t.Helper()
		for deadline := time.Now().Add(limit); ; time.Sleep(20 * time.Millisecond) {
			if i := strings.Index(screen()[seen:], what); i >= 0 {
				seen += i + len(what)
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("not seen: %q. The screen so far:\n%s", what, screen())
			}
		}
	}
	press := func(keys string) {
		t.Helper()
		if _, err := io.WriteString(tty, keys); err != nil {
			t.Fatal(err)
		}
	}

	see("A control plane with one etcd member", 30*time.Second)
	t.Logf("first frame on a broken cluster after %.1f s", time.Since(begun).Seconds())
	press("\r")
	see("71eb1f51", 10*time.Second) // its hash: it has been read
	press("\r")
	see("The restore re-creates", 10*time.Second)
	press("\r")
	see("nothing blocks the restore", 10*time.Second)
	press("\r")
	see("Restore etcd-nightly.db on cp1", 10*time.Second)
	press("\r")
	see("Type the node's name", 10*time.Second)
	press("cp1\r")
	see("Restored: the API server answers", 60*time.Second)
	press("q")
	see("passed, 100 of 100 points", 30*time.Second)
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(30 * time.Second):
		t.Error("it doesn't end")
	}
}
