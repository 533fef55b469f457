//go:build e2e && linux

package e2e

import (
	"strings"
	"syscall"
	"testing"
)

// toTheFleetsRun goes through all screens until the run on three nodes begins.
func (w wizard) toTheFleetsRun(s story) {
	w.t.Helper()
	path := w.offers(s)
	w.sees("One of 3 control planes", "cp1, cp2 and cp3", "enter choose the snapshot")
	w.finds(path)
	w.press("Enter")
	w.sees("The restore re-creates", "enter checks")
	w.press("Enter")
	w.sees("3 control planes restored as one", "✓ cp1  this node", "✓ cp2  cp2", "✓ cp3  cp3")
	w.press("Enter")
	w.sees("nothing blocks the restore", "All nodes")
	w.press("Enter")
	w.sees("enter confirm", " etcd-rewind-", "cp3=https://")
	w.press("Tab", "Tab")
	w.sees(".db on cp2", "old data ") // the steps are further down
	w.press("Enter")
	w.confirmAll()
}

// confirmAll types this node's name for all nodes.
func (w wizard) confirmAll() {
	w.t.Helper()
	w.sees("Type this node's name, " + node.Hostname + ", to start on all of them")
	w.press("-l", node.Hostname)
	w.sees("> " + node.Hostname)
	w.press("Enter")
}

func wizardRestoresThree(t *testing.T) {
	c, s := leader(t)
	w := startWizard(t, tool+`; echo "exit status $?"; exec sleep 600`)
	w.toTheFleetsRun(s)

	// One screen has all nodes and all phases, and Ctrl-C asks meanwhile.
	w.sees("cp1", "cp2", "cp3", "staged", "etcd down", "placed", "etcd ready", "API ready", "verified", "API down")
	t.Log(w.capture())
	w.press("C-c")
	w.sees("Stop the run?", "undo the run on all nodes", "don't stop")
	w.answers("n")
	w.press("2", "Enter")
	w.sees("cp2  one of cp1, cp2 and cp3", "Start etcd")
	t.Log(w.capture())
	w.press("Escape")

	w.sees("✓ Restored: all 3 nodes", "cp3     restored: etcd runs from /var/lib/etcd-", "etcd-rewind undo --fleet ", "q quit")
	t.Log(w.capture())
	w.press("Escape")
	w.sees("verified", "cp3  ✓ restored")
	t.Log(w.capture())
	allAre(t, c, s.isThen)

	// From its summary all nodes go back.
	w.press("Escape")
	w.sees("u undo")
	w.press("u")
	w.sees("Undo on cp1, cp2 and cp3", "cp2  restored", "enter confirm")
	w.press("Enter")
	w.confirmAll()
	w.sees("✓ Undone: all 3 nodes", "q quit")
	w.press("q")
	w.sees("exit status 0")
	if left := w.capture("-S", "-"); !strings.Contains(left, "Undone: all 3 nodes") || !strings.Contains(left, "cp2") {
		t.Errorf("the scrollback doesn't tell it:\n%s", left)
	}
	allAre(t, c, s.isNow)
}

func TestTheWizardOverThreeControlPlanes(t *testing.T) {
	for _, c := range some([]struct {
		story string
		run   func(t *testing.T)
	}{
		{"restores them, and puts them back from its summary", wizardRestoresThree},
		{"puts them back when it is stopped by Ctrl-C", wizardPutsThreeBack},
		{"shows a node whose cable is pulled until it is back", wizardReachesANodeAgain},
		{"goes on from another node after a kill", wizardGoesOnWithThree},
	}, 0, 3) {
		t.Run(c.story, c.run)
	}
}

func wizardPutsThreeBack(t *testing.T) {
	c, s := leader(t)
	w := startWizard(t, tool+`; echo "exit status $?"; exec sleep 600`)
	w.toTheFleetsRun(s)
	w.sees("✓", "etcd down", "Wait for the cleanup of")
	w.press("C-c")
	w.sees("Stop the run?")
	w.answers("u")
	w.sees("Undone: all 3 nodes", "q quit")
	t.Log(w.capture())
	w.press("q")
	w.sees("exit status 1")
	allAre(t, c, s.isNow)
}

func wizardReachesANodeAgain(t *testing.T) {
	c, s := leader(t)
	w := startWizard(t, tool+`; echo "exit status $?"; exec sleep 600`)
	w.toTheFleetsRun(s)
	w.sees("API down")
	if err := c.Nodes[2].LinkDown(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.sees("cp3  ! reconnecting…")
	t.Log(w.capture())
	if err := c.Nodes[2].LinkUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.sees("✓ Restored: all 3 nodes", "q quit")
	w.press("q")
	w.sees("exit status 0")
	allAre(t, c, s.isThen)
}

func wizardGoesOnWithThree(t *testing.T) {
	c, s := leader(t)
	w := startWizard(t, tool)
	w.toTheFleetsRun(s)
	w.sees("API down   ✓") // the phase, on all nodes
	w.kill(syscall.SIGKILL)
	settles(t, c)
	use(t, c.Nodes[1])
	w = startWizard(t, tool+`; echo "exit status $?"; exec sleep 600`)
	w.sees("was interrupted", "cp1, cp2 and cp3, restored as one", "on all nodes")
	t.Log(w.capture())
	w.press("g")
	w.sees("Resume the restore on cp1, cp2 and cp3", "enter confirm")
	t.Log(w.capture())
	w.press("Enter")
	w.confirmAll()
	w.sees("✓ Restored: all 3 nodes", "q quit")
	w.press("q")
	w.sees("exit status 0")
	allAre(t, c, s.isThen)
}
