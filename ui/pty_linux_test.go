package ui

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// fill stops reading the terminal, and fills what it holds for a reader.
func (p *terminal) fill() {
	p.t.Helper()
	p.stall.Store(true)
	out, err := os.OpenFile(fmt.Sprintf("/proc/%d/fd/1", p.cmd.Process.Pid), os.O_WRONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = out.Close() }()
	for full := 0; full < 5; {
		if n, err := syscall.Write(int(out.Fd()), make([]byte, 512)); n <= 0 || err != nil {
			full++
			time.Sleep(10 * time.Millisecond)
		}
	}
}

// lists waits until a file lists a name.
func (p *terminal) lists(path, name string) {
	p.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if b, _ := os.ReadFile(path); strings.Contains(string(b), name+"\n") {
			return
		}
	}
	p.t.Fatalf("the run doesn't come to %s", name)
}

// An ssh connection that stalls: the terminal is there, and takes nothing.
func TestATerminalThatTakesNothingDoesNotHoldUpTheRunNorItsEnd(t *testing.T) {
	for name, tc := range map[string]struct {
		pace   string
		signal os.Signal
		code   int
	}{
		"it is told to end": {"50ms", syscall.SIGTERM, 3},
		"it is not":         {"5ms", nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			ran := filepath.Join(t.TempDir(), "ran")
			p := startOnPTY(t, "UI_PLAY="+tc.pace, "UI_RAN="+ran)
			p.toRun()
			p.until(0, "Wait until kubelet stops")
			p.fill()
			if tc.signal != nil {
				_ = p.cmd.Process.Signal(tc.signal)
			} else {
				p.lists(ran, "verify.1")
				p.stall.Store(false)
				p.until(0, "Restored: the API server answers")
				p.press("q")
			}
			left, code := p.ended()
			if code != tc.code || left.Result == nil {
				t.Errorf("exit %d, %+v", code, left.Result)
			}
		})
	}
}
