//go:build unix

package ui

import (
	"slices"
	"strings"
	"syscall"
	"testing"

	"etcd-rewind/steps"
)

// toRunAll goes through all screens to a run on three nodes.
func (p *terminal) toRunAll() {
	p.t.Helper()
	p.until(0, "choose the snapshot")
	p.until(p.press("\r"), "1000000802")
	p.until(p.press("\r"), "3 control planes restored as one")
	p.until(p.press("\r"), "nothing blocks the restore")
	p.until(p.press("\r"), "stop API server")
	p.until(p.press("\r"), "start on all of them")
	p.press("cp1\r")
}

func TestARunOnSeveralNodesOnATerminal(t *testing.T) {
	p := startOnPTY(t, "UI_PLAY=5ms", "UI_FLEET=cp1,cp2,cp3")
	p.toRunAll()
	p.until(0, "API down")
	p.until(0, "Restored: all 3 nodes")
	p.press("q")
	left, code := p.ended()
	if code != 0 || left.Result == nil || !left.Result.OK || left.Open != 0 {
		t.Errorf("exit %d, %+v, %d connections left", code, left.Result, left.Open)
	}
	_, scrollback, _ := strings.Cut(p.sent(), "\x1b[?1049l")
	for _, want := range []string{"Restored: all 3 nodes", "cp2     restored: etcd runs from", "etcd-rewind undo --fleet 20261120-120000"} {
		if !strings.Contains(scrollback, want) {
			t.Errorf("%q isn't in the scrollback: %q", want, scrollback)
		}
	}
}

func TestARunOnSeveralNodesGoesOnWhenTheTerminalIsGone(t *testing.T) {
	for _, tc := range []struct {
		name, fail string
		code       int
		chosen     []steps.Choice
	}{
		{name: "to its end", code: 0},
		{name: "and all go back when one fails", fail: "cp2/start-etcd.4", code: 1, chosen: []steps.Choice{steps.Revert}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := startOnPTY(t, "UI_PLAY=5ms", "UI_FLEET=cp1,cp2,cp3", "UI_FAIL="+tc.fail)
			p.toRunAll()
			p.until(0, "API down")
			_ = p.tty.Close() // the kernel sends SIGHUP
			left, code := p.ended()
			if code != tc.code || left.Result == nil || left.Open != 0 {
				t.Errorf("exit %d, result %+v, %d connections left", code, left.Result, left.Open)
			}
			if !slices.Equal(left.Chosen, tc.chosen) {
				t.Errorf("chosen %v, want %v", left.Chosen, tc.chosen)
			}
		})
	}
}

func TestSignalsDuringARunOnSeveralNodes(t *testing.T) {
	p := startOnPTY(t, "UI_PLAY=20ms", "UI_FLEET=cp1,cp2,cp3")
	p.toRunAll()
	p.until(0, "API down")
	_ = p.cmd.Process.Signal(syscall.SIGINT)
	p.until(0, "Stop the run?")
	p.until(p.answer("n"), "etcd down")
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	left, code := p.ended()
	if code != 3 || left.Result == nil || left.Result.Error == nil || left.Result.Error.Cause != "you stopped the run" || left.Open != 0 {
		t.Errorf("exit %d, %+v, %d connections left", code, left.Result, left.Open)
	}
}

func TestQuittingWhileNodesAreReachedLeavesNoConnection(t *testing.T) {
	p := startOnPTY(t, "UI_PLAY=20ms", "UI_FLEET=cp1,cp2,cp3")
	p.until(0, "choose the snapshot")
	p.until(p.press("\r"), "1000000802")
	p.until(p.press("\r"), "Reaching the nodes")
	p.press("q")
	if left, code := p.ended(); code != 0 || left.Result != nil || left.Open != 0 {
		t.Errorf("exit %d, %+v, %d connections left", code, left.Result, left.Open)
	}
}
