//go:build unix

package ui

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/charmbracelet/x/ansi"
	"github.com/creack/pty"

	"etcd-rewind/steps"
	"etcd-rewind/ui/print"
)

// terminal is the wizard of TestMain on a terminal that never answers a query.
type terminal struct {
	t      *testing.T
	cmd    *exec.Cmd
	tty    *os.File
	result string
	read   chan struct{}
	stall  atomic.Bool // nothing more is read from it

	mu  sync.Mutex
	out strings.Builder
}

func startOnPTY(t *testing.T, vars ...string) *terminal {
	t.Helper()
	return startOnPTYOf(t, pty.Winsize{Rows: 24, Cols: 80}, vars...)
}

func startOnPTYOf(t *testing.T, size pty.Winsize, vars ...string) *terminal {
	t.Helper()
	p := &terminal{t: t, result: filepath.Join(t.TempDir(), "result.json"), read: make(chan struct{})}
	p.cmd = exec.Command(os.Args[0])
	p.cmd.Env = append([]string{"TERM=xterm-256color", "LANG=C.UTF-8", "HOME=/", "UI_PLAY=1ms", "UI_RESULT=" + p.result}, vars...)
	tty, err := pty.StartWithSize(p.cmd, &size)
	if err != nil {
		t.Fatal(err)
	}
	p.tty = tty
	go func() {
		defer close(p.read)
		buf := make([]byte, 4096)
		for {
			n, err := tty.Read(buf)
			p.mu.Lock()
			p.out.Write(buf[:n])
			p.mu.Unlock()
			for p.stall.Load() && err == nil {
				time.Sleep(time.Millisecond)
			}
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		p.stall.Store(false)
		_ = tty.Close()
		<-p.read
	})
	return p
}

func (p *terminal) raw() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

// until waits until the terminal was shown the text after the first from bytes.
func (p *terminal) until(from int, text string) {
	p.t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if strings.Contains(ansi.Strip(p.raw()[from:]), text) {
			return
		}
	}
	p.t.Fatalf("%q was not shown:\n%s", text, ansi.Strip(p.raw()))
}

func (p *terminal) press(keys string) int {
	from := len(p.raw())
	if _, err := p.tty.WriteString(keys); err != nil {
		p.t.Fatal(err)
	}
	return from
}

// answer answers a question that was read first.
func (p *terminal) answer(key string) int {
	time.Sleep(print.QuestionPause + 100*time.Millisecond)
	return p.press(key)
}

// toRun goes through all screens to the run.
func (p *terminal) toRun() {
	p.t.Helper()
	p.until(0, "choose the snapshot")
	p.until(p.press("\r"), "1000000802")
	p.until(p.press("\r"), "nothing blocks the restore")
	p.until(p.press("\r"), "stop API server")
	p.until(p.press("\r"), "Type the node's name")
	p.press("cp1\r")
}

// Ended waiting for the process and reads what it has left.
func (p *terminal) ended() (left struct {
	Result *steps.Result
	Ran    []string
	Chosen []steps.Choice
	Open   int // conductors that were not closed
}, code int,
) {
	p.t.Helper()
	done := make(chan error, 1)
	go func() { done <- p.cmd.Wait() }()
	select {
	case <-done:
	case <-time.After(time.Minute):
		p.t.Fatalf("the wizard doesn't end:\n%s", ansi.Strip(p.raw()))
	}
	data, err := os.ReadFile(p.result)
	if err != nil {
		p.t.Fatal(err)
	}
	if err := json.Unmarshal(data, &left); err != nil {
		p.t.Fatal(err)
	}
	return left, p.cmd.ProcessState.ExitCode()
}

// sent is all that a wizard which has ended has sent. What it sent last may come after
// its end.
func (p *terminal) sent() string {
	<-p.read
	return p.raw()
}

// Bubbletea's init asks the terminal for its background and waits 5 s for one
// that is silent; package term has to be there before it.
func TestTheFirstFrameDoesNotWaitForASilentTerminal(t *testing.T) {
	best := time.Hour
	for range 3 { // the machine may be busy
		begun := time.Now()
		p := startOnPTY(t)
		p.until(0, "etcd-rewind")
		best = min(best, time.Since(begun))
		if raw := p.raw(); strings.Contains(raw, "\x1b]11;?") || strings.Contains(raw, "\x1b[6n") {
			t.Fatalf("the terminal is asked something: %q", raw)
		}
		p.press("\x03")
	}
	if best > 2*time.Second {
		t.Errorf("the first frame took %v", best)
	}
}

func TestAWholeRunOnATerminal(t *testing.T) {
	p := startOnPTY(t)
	p.toRun()
	p.until(0, "Restored: the API server answers")
	p.press("q")
	left, code := p.ended()
	if code != 0 || left.Result == nil || !left.Result.OK {
		t.Errorf("exit %d, %+v", code, left.Result)
	}
	_, scrollback, found := strings.Cut(p.sent(), "\x1b[?1049l")
	if !found {
		t.Fatal("the alternate screen was not left")
	}
	for _, want := range []string{"run 20261120-120000", "Restored:", "etcd-rewind undo 20261120-120000", "report.md"} {
		if !strings.Contains(scrollback, want) {
			t.Errorf("%q isn't in the scrollback: %q", want, scrollback)
		}
	}
	if strings.Contains(p.raw(), "\x1b[?1000h") || strings.Contains(p.raw(), "\x1b[?1002h") {
		t.Error("the mouse was taken, so text can't be selected")
	}
}

func TestTheRunGoesOnWhenTheTerminalIsGone(t *testing.T) {
	for _, tc := range []struct {
		name, fail string
		code       int
		chosen     []steps.Choice
	}{
		{name: "to its end", code: 0},
		{name: "and goes back when it fails", fail: "start-etcd.4", code: 1, chosen: []steps.Choice{steps.Revert}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := startOnPTY(t, "UI_PLAY=5ms", "UI_FAIL="+tc.fail)
			p.toRun()
			p.until(0, "Wait until kubelet stops")
			_ = p.tty.Close() // the kernel sends SIGHUP
			left, code := p.ended()
			if code != tc.code || left.Result == nil {
				t.Errorf("exit %d, result %+v", code, left.Result)
			}
			if !slices.Equal(left.Chosen, tc.chosen) {
				t.Errorf("chosen %v, want %v", left.Chosen, tc.chosen)
			}
			if !slices.Contains(left.Ran, "stop-etcd.2") {
				t.Errorf("it stopped at %v", left.Ran)
			}
		})
	}
}

func TestSignalsDuringARun(t *testing.T) {
	p := startOnPTY(t, "UI_PLAY=30ms")
	p.toRun()
	p.until(0, "Wait until kubelet stops")
	_ = p.cmd.Process.Signal(syscall.SIGINT)
	p.until(0, "Stop the run?")
	p.until(p.answer("n"), "Stop kube-apiserver")
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	left, code := p.ended()
	if code != 3 || left.Result == nil || left.Result.Error == nil || left.Result.Error.Cause != "you stopped the run" {
		t.Errorf("exit %d, %+v", code, left.Result)
	}
	if slices.Contains(left.Ran, "verify.1") || len(left.Ran) == 0 {
		t.Errorf("ran %v", left.Ran)
	}
}

func TestQuittingBeforeARunLeavesNothing(t *testing.T) {
	p := startOnPTY(t)
	p.until(0, "choose the snapshot")
	p.press("q")
	if left, code := p.ended(); code != 0 || left.Result != nil || len(left.Ran) > 0 {
		t.Errorf("exit %d, %+v, ran %v", code, left.Result, left.Ran)
	}
}

func TestLeavingAnotherProcessesRunLeavesNothing(t *testing.T) {
	for name, leave := range map[string]func(p *terminal){
		"q":                func(p *terminal) { p.press("q") },
		"ctrl-c":           func(p *terminal) { p.press("\x03") },
		"SIGTERM":          func(p *terminal) { _ = p.cmd.Process.Signal(syscall.SIGTERM) },
		"no more terminal": func(p *terminal) { _ = p.tty.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			p := startOnPTY(t, "UI_PLAY=20ms", "UI_EARLIER=live")
			p.until(0, "this screen is read-only")
			p.until(0, "Wait until kubelet stops")
			leave(p)
			if left, code := p.ended(); code != 0 || left.Result != nil || len(left.Ran) > 0 {
				t.Errorf("exit %d, %+v, ran %v", code, left.Result, left.Ran)
			}
		})
	}
}

func TestAnotherProcessesRunLeavesItsSummary(t *testing.T) {
	p := startOnPTY(t, "UI_EARLIER=live")
	p.until(0, "Restored: the API server answers")
	p.press("q")
	if left, code := p.ended(); code != 0 || left.Result != nil {
		t.Errorf("exit %d, %+v", code, left.Result)
	}
	_, scrollback, _ := strings.Cut(p.sent(), "\x1b[?1049l")
	if !strings.Contains(scrollback, "Restored:") || !strings.Contains(scrollback, "etcd-rewind undo 20261120-120000") {
		t.Errorf("the scrollback holds %q", scrollback)
	}
}

func TestARunWhoseProcessDiedIsGoneOnWithOnATerminal(t *testing.T) {
	p := startOnPTY(t, "UI_EARLIER=dies")
	p.until(0, "A run on this node was interrupted")
	p.until(p.press("g"), "Go on: Restore")
	p.until(p.press("\r"), "Type the node's name")
	p.until(p.press("cp1\r"), "Restored: the API server answers")
	p.press("q")
	if left, code := p.ended(); code != 0 || left.Result == nil || !left.Result.OK {
		t.Errorf("exit %d, %+v", code, left.Result)
	}
}

// What a serial console, a console without a Unicode font and a locale of the
// last century get: the same wizard, in what they can show.
func TestTheWizardOnTerminalsThatShowLess(t *testing.T) {
	for _, tt := range []struct {
		name string
		vars []string
		size pty.Winsize
		not  []string // what the terminal is never sent
		see  string
	}{
		{"a serial console doesn't know its size", []string{"TERM=vt220"}, pty.Winsize{}, nil, "80×24 assumed"},
		{"a vt100", []string{"TERM=vt100", "LANG=C"}, pty.Winsize{Rows: 24, Cols: 80}, nil, "nothing blocks the restore"},
		{"Linux' own console", []string{"TERM=linux"}, pty.Winsize{Rows: 25, Cols: 80}, nil, "nothing blocks the restore"},
		{"a locale without UTF-8", []string{"LANG=de_DE.ISO-8859-1"}, pty.Winsize{Rows: 24, Cols: 80}, nil, "nothing blocks the restore"},
		{"no colours are wanted", []string{"NO_COLOR=1"}, pty.Winsize{Rows: 24, Cols: 80}, []string{"\x1b[31", "\x1b[32", "\x1b[33"}, "nothing blocks the restore"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := startOnPTYOf(t, tt.size, tt.vars...)
			p.until(0, "choose the snapshot")
			p.until(p.press("\r"), "1000000802")
			p.until(p.press("\r"), "nothing blocks the restore")
			p.until(0, tt.see)
			p.press("q")
			if _, code := p.ended(); code != 0 {
				t.Errorf("exit status %d", code)
			}
			raw := p.sent()
			for _, not := range tt.not {
				if strings.Contains(raw, not) {
					t.Errorf("it was sent %q", not)
				}
			}
			unicode := !slices.ContainsFunc(tt.vars, func(v string) bool { return v == "TERM=linux" || strings.HasPrefix(v, "LANG=") })
			if ascii := !strings.ContainsFunc(raw, func(r rune) bool { return r > '~' }); ascii == unicode {
				t.Errorf("it is ASCII only: %v", ascii)
			}
			if i := strings.Index(raw, "\x1b[?1049h"); i < 0 || !strings.Contains(raw[i:], "\x1b[?1049l") {
				t.Error("the alternate screen is not left")
			}
		})
	}
}
