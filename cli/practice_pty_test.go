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

// terminal is this program on a terminal of its own, practising below dir.
type terminal struct {
	t     *testing.T
	tty   *os.File
	ended chan error
	seen  int

	mu   sync.Mutex
	told strings.Builder
}

func onTerminal(t *testing.T, dir string, args ...string) *terminal {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// testscript.Main runs main when the program is called by its name.
	if err := os.Symlink(self, dir+"/etcd-rewind"); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(dir+"/etcd-rewind", append([]string{"practice", "--home", dir + "/home"}, args...)...)
	cmd.Env = append(os.Environ(), "TERM=xterm-256color", "LANG=C.UTF-8")
	p := &terminal{t: t, ended: make(chan error, 1)}
	if p.tty, err = pty.StartWithSize(cmd, &pty.Winsize{Rows: 24, Cols: 80}); err != nil {
		t.Fatal(err)
	}
	go func() { p.ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGKILL)
		_ = p.tty.Close()
	})
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := p.tty.Read(buf)
			p.mu.Lock()
			p.told.Write(buf[:n])
			p.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return p
}

func (p *terminal) screen() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return ansi.Strip(p.told.String())
}

// see waits for a text after the one that was waited for last.
func (p *terminal) see(what string) {
	p.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if i := strings.Index(p.screen()[p.seen:], what); i >= 0 {
			p.seen += i + len(what)
			return
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("not seen: %q. The screen so far:\n%s", what, p.screen())
		}
	}
}

func (p *terminal) press(keys string) {
	p.t.Helper()
	if _, err := io.WriteString(p.tty, keys); err != nil {
		p.t.Fatal(err)
	}
}

func (p *terminal) ends() error {
	p.t.Helper()
	select {
	case err := <-p.ended:
		return err
	case <-time.After(2 * time.Minute):
		p.t.Fatal("it doesn't end")
		return nil
	}
}

// The README's first command, as somebody uses it who has read nothing else:
// enter, enter, the node's name, q.
func TestTheTourIsSolvedWithTheKeyboard(t *testing.T) {
	begun := time.Now()
	p := onTerminal(t, t.TempDir())
	p.see("A control plane with one etcd member")
	t.Logf("first frame on a broken cluster after %.1f s", time.Since(begun).Seconds())
	p.press("\r")
	p.see("71eb1f51") // its hash: it has been read
	p.press("\r")
	p.see("The restore re-creates")
	p.press("\r")
	p.see("nothing blocks the restore")
	p.press("\r")
	p.see("Restore etcd-nightly.db on cp1")
	p.press("\r")
	p.see("Type the node's name")
	p.press("cp1\r")
	p.see("Restored: the API server answers")
	p.press("q")
	p.see("passed, 100 of 100 points")
	if err := p.ends(); err != nil {
		t.Error(err)
	}
}

// The shell of an exercise is one as in an exam: Ctrl-C ends what runs in it and
// not the shell, and what is called there is for the practice node, never for
// the machine.
func TestTheShellOfAnExerciseIsAnOrdinaryOne(t *testing.T) {
	p := onTerminal(t, t.TempDir(), "exam", "--by-hand")
	p.see("exit ends it all and grades")
	p.press("echo beg''un; sleep 1000\r")
	p.see("begun")
	p.press("\x03")
	p.press("echo interr''upted\r")
	p.see("interrupted")
	p.press("etcd-rewind check; echo the node: $?\r")
	p.see("cp1 at https://127.0.0.1:")
	p.see("the node: 0")
	p.press("exit\r")
	p.see("exam: not passed, 0 of 100 points")
	if err := p.ends(); err == nil {
		t.Error("an exam that isn't passed ends with status 0")
	}
}
