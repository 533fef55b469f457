//go:build e2e && linux

package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestTheWizard(t *testing.T) {
	begin(t)
	s := aStory(t)
	w := startWizard(t, tool+`; echo "exit status $?"; exec sleep 600`)
	w.toTheRun(s)

	// Ctrl-C asks, and the run goes on meanwhile.
	w.sees("API down")
	w.press("C-c")
	w.sees("Stop the run?", "don't stop")
	w.answers("n")
	w.sees("Stop kube-apiserver")

	w.sees("✓ Restored", "API down", "old data", "etcd-rewind undo ")
	s.isThen(t)

	// The summary stays in the scrollback.
	w.press("q")
	w.sees("exit status 0")
	left := w.capture("-S", "-")
	for _, want := range []string{"Restored", "API down", "etcd runs from", dataDir(t), "old data", "etcd-rewind undo "} {
		if !strings.Contains(left, want) {
			t.Errorf("the scrollback doesn't say %q:\n%s", want, left)
		}
	}
}

// Who stops the run by Ctrl-C can have the node reverted in the wizard itself.
func TestTheWizardPutsTheNodeBack(t *testing.T) {
	begin(t)
	s := aStory(t)
	before := pictureOf(t, manifests)
	w := startWizard(t, tool+`; echo "exit status $?"; exec sleep 600`)
	w.toTheRun(s)
	w.sees("▸ Stop etcd")
	w.press("u")
	w.sees("Stop the run and undo it?")
	w.answers("y")
	w.sees("as before", "q quit")
	w.press("q")
	w.sees("exit status 1")
	s.isNow(t)
	same(t, "the node is not reverted byte for byte", before, pictureOf(t, manifests))
}

// A connection that drops in the middle of a run takes the terminal with it and
// not the run.
func TestTheWizardsTerminalGoesAway(t *testing.T) {
	begin(t)
	s := aStory(t)
	w := startWizard(t, "exec "+tool)
	w.toTheRun(s)
	w.sees("API down")
	pid := w.program()
	w.tmux("kill-server") // its panes get a SIGHUP
	eventually(t, "the run to end", func() bool { return ended(pid) })
	s.isThen(t)
	if text := run(t, "runs").stdout; !strings.Contains(text, "restored") {
		t.Errorf("the run is not shown as restored:\n%s", text)
	}
}

// After a kill the wizard shows first where the node stands, and goes on or
// back from there.
func TestTheWizardShowsARunThatBrokeOff(t *testing.T) {
	begin(t)
	s := aStory(t)
	before := pictureOf(t, manifests)
	for _, c := range []struct{ key, says, status string }{
		{"u", "as before", "exit status 0"},
		{"g", "✓ Restored", "exit status 0"},
	} {
		s.breakOff(t, "stop-etcd.1", func(p process) error { return p.killAll() })
		w := startWizard(t, tool+`; echo "exit status $?"; exec sleep 600`)
		w.sees("was interrupted", "done last", "API", "g  resume", "u  undo")
		t.Log(w.capture())
		w.press(c.key)
		w.sees("enter confirm")
		w.press("Enter")
		w.confirm()
		w.sees(c.says, "q quit")
		w.press("q")
		w.sees(c.status)
		if c.key == "u" {
			s.isNow(t)
			same(t, "the node is not reverted byte for byte", before, pictureOf(t, manifests))
		}
	}
	s.isThen(t)
	undo(t)
	s.isNow(t)
}

// ended says whether a process has ended. Nobody may have waited for it.
func ended(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(stat), ") Z ")
}

// wizard is the program in a terminal of its own, inside the node.
type wizard struct {
	t      *testing.T
	socket string
}

const session = "wizard"

func startWizard(t *testing.T, command string) wizard {
	t.Helper()
	// Not in t.TempDir: a socket's path is short, unix(7).
	dir, err := os.MkdirTemp("", "tmux")
	if err != nil {
		t.Fatal(err)
	}
	w := wizard{t, filepath.Join(dir, "socket")}
	t.Cleanup(func() {
		_ = w.command(afterwards(t), "kill-server").Run()
		_ = os.RemoveAll(dir)
	})
	if node.Systemd { // it has no tmux: the machine's shows what runs inside
		enter := node.Command(t.Context(), "sh", "-c", command)
		command = `"` + enter.Path + `" sh -c '` + strings.ReplaceAll(command, `'`, `'\''`) + `'; exec sleep 600`
	}
	w.tmux("-f", "/dev/null", "-u", "new-session", "-d", "-s", session, "-x", "80", "-y", "24", command)
	return w
}

func (w wizard) command(ctx context.Context, args ...string) *exec.Cmd {
	args = append([]string{"-S", w.socket}, args...)
	if node.Systemd {
		return exec.CommandContext(ctx, "tmux", args...)
	}
	return node.Command(ctx, "tmux", args...)
}

func (w wizard) tmux(args ...string) string {
	w.t.Helper()
	out, err := w.command(w.t.Context(), args...).CombinedOutput()
	if err != nil {
		w.t.Fatalf("tmux %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func (w wizard) capture(args ...string) string {
	w.t.Helper()
	return w.tmux(append([]string{"capture-pane", "-p", "-t", session}, args...)...)
}

// answers answers a question that was seen. It takes no key when it is new, and looks
// the same when it does: only time goes by.
func (w wizard) answers(key string) {
	time.Sleep(time.Second)
	w.press(key)
}

func (w wizard) press(keys ...string) {
	w.t.Helper()
	w.tmux(append([]string{"send-keys", "-t", session}, keys...)...)
}

// kill ends the program, and not its terminal.
func (w wizard) kill(s syscall.Signal) {
	w.t.Helper()
	if err := syscall.Kill(w.program(), s); err != nil {
		w.t.Fatal(err)
	}
}

// program is the process id of the program: that of the terminal's process or, where
// shells and the way into a host are between them, of one that descends from it.
func (w wizard) program() int {
	w.t.Helper()
	next := []string{strings.TrimSpace(w.tmux("display-message", "-p", "-t", session, "#{pane_pid}"))}
	for len(next) > 0 {
		pid, err := strconv.Atoi(next[0])
		if err != nil {
			w.t.Fatal(err)
		}
		if name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)); strings.TrimSpace(string(name)) == filepath.Base(tool) {
			return pid
		}
		children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", pid))
		next = append(next[1:], strings.Fields(string(children))...)
	}
	w.t.Fatal("the program doesn't run")
	return 0
}

// sees waits until the screen shows all of it at once. On a busy machine a drill or
// a restore takes minutes: how long is nothing that the screen is asked.
func (w wizard) sees(all ...string) {
	w.t.Helper()
	for began := time.Now(); ; {
		asked := time.Now()
		screen := w.capture()
		missing := ""
		for _, text := range all {
			if !strings.Contains(screen, text) {
				missing = text
			}
		}
		if missing == "" {
			return
		}
		if time.Since(began) > limit {
			w.t.Fatalf("the screen doesn't show %q:\n%s", missing, screen)
		}
		time.Sleep(max(50*time.Millisecond, time.Since(asked)))
	}
}

// toTheRun goes through all screens until the run begins. The snapshot is the
// newest in one of the usual places, and so the one that is marked.
func (w wizard) toTheRun(s story) {
	w.t.Helper()
	path := w.offers(s)
	w.sees("enter choose the snapshot", node.Hostname)
	w.finds(path)
	w.press("Enter")
	w.sees("The restore re-creates", "enter checks")
	w.press("Enter")
	w.sees("nothing blocks the restore")
	w.press("Enter")
	w.sees("enter confirm", "data directory", "the commands do the same by hand")
	w.press("Enter")
	w.confirm()
}

// finds goes to the list of snapshots, where one is the newest.
func (w wizard) finds(path string) {
	w.t.Helper()
	w.press("Enter")
	w.sees("r search again")
	// The wizard may have searched before the snapshot was there. Where it has found
	// it, another search would take it off the list for a moment.
	for began := time.Now(); !strings.Contains(w.capture(), "   "+path); time.Sleep(5 * time.Second) {
		if time.Since(began) > limit {
			w.t.Fatalf("%s isn't found:\n%s", path, w.capture())
		}
		w.press("r")
	}
	w.sees("▸✓ ", "   "+path, "verified")
}

// offers puts the snapshot in one of the usual places.
func (w wizard) offers(s story) (path string) {
	w.t.Helper()
	path = fmt.Sprintf("/var/lib/etcd-backup/%s.db", strings.TrimPrefix(s.label, "story="))
	inside(w.t, fmt.Sprintf("mkdir -p /var/lib/etcd-backup && cp %s %s", s.snapshot, path))
	w.t.Cleanup(func() { insideLater(w.t, "rm "+path) })
	return path
}

// confirm types the node's name.
func (w wizard) confirm() {
	w.t.Helper()
	w.sees("Type the node's name, " + node.Hostname)
	w.press("-l", node.Hostname)
	w.sees("> " + node.Hostname)
	w.press("Enter")
}
