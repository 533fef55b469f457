package practice

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// holdEnv makes the test binary hold a node until it is killed.
const holdEnv = "ETCD_REWIND_PRACTICE_HOLD"

func hold(home string) {
	ctx := context.Background()
	root, err := newRoot(home, "", "exam")
	if err == nil {
		_, _, err = startSession(ctx, find("exam"), Config{Root: root, Linger: time.Second}, true)
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("ready")
	select {}
}

// pids are the processes of a node's containers.
func pids(t *testing.T, n *Node) []int {
	t.Helper()
	n.rt.mu.Lock()
	defer n.rt.mu.Unlock()
	var out []int
	for _, c := range n.rt.containers {
		if c.state == running {
			out = append(out, c.pid)
		}
	}
	return out
}

func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

func allEnd(t *testing.T, pids []int) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		var left []int
		for _, p := range pids {
			if alive(p) {
				left = append(left, p)
			}
		}
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("processes %v of %v are left", left, pids)
		}
	}
}

func TestNothingRunsAfterClose(t *testing.T) {
	t.Parallel()
	n := startNode(t, Config{Seed: SnapshotBefore})
	if err := n.Ready(within(t, 20*time.Second)); err != nil {
		t.Fatal(err)
	}
	before := pids(t, n)
	if len(before) != 4 {
		t.Fatalf("%d processes run, want 4", len(before))
	}
	n.Close()
	allEnd(t, before)
	n.Close() // twice
	if _, err := os.Stat(n.Socket); err == nil {
		t.Error("the socket is left")
	}
}

func TestNothingRunsAfterAKillAndCleanRemovesIt(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), holdEnv+"="+home)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, _ := bufio.NewReader(out).ReadString('\n')
	go func() { _, _ = io.Copy(io.Discard, out) }()
	if line != "ready\n" {
		_ = cmd.Process.Kill()
		t.Fatalf("it says %q", line)
	}
	s, err := current(home, "")
	if err != nil {
		t.Fatal(err)
	}
	if removed, kept, err := clean(home, ""); err != nil || len(removed) != 0 || len(kept) != 1 {
		t.Errorf("clean of one that runs: removed %v, kept %v, %v", removed, kept, err)
	}
	children := childrenOf(t, s)
	if len(children) != 4 {
		t.Errorf("it has %d children, want 4", len(children))
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	allEnd(t, children)
	if _, err := current(home, ""); err == nil {
		t.Error("one that was killed counts as under way")
	}
	removed, _, err := clean(home, "")
	if err != nil || len(removed) != 1 {
		t.Errorf("removed %v, %v", removed, err)
	}
	if _, err := os.Stat(string(s.Root)); err == nil {
		t.Error("its directory is left")
	}
}

// startEnv makes the test binary start an exercise in that home.
const startEnv = "ETCD_REWIND_PRACTICE_START"

func TestAStartThatIsInterruptedLeavesNoDirectory(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGQUIT, syscall.SIGINT} {
		home := t.TempDir()
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), startEnv+"="+home)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		said := bufio.NewReader(out)
		if line, _ := said.ReadString('\n'); !strings.HasPrefix(line, "starting a control plane in") {
			t.Errorf("it says %q", line)
		}
		_ = cmd.Process.Signal(sig)
		_, _ = io.Copy(io.Discard, said)
		_ = cmd.Wait()
		if left, err := os.ReadDir(home); err != nil || len(left) > 0 {
			t.Errorf("%s leaves %v, %v", sig, left, err)
		}
	}
}

func TestAnEmptyPathStaysOne(t *testing.T) {
	t.Setenv("PATH", "")
	s := &session{Root: "/practice"}
	if env := s.environ(); !slices.Contains(env, "PATH="+s.Root.tools()) {
		t.Errorf("%q", env)
	}
}

// childrenOf asks the runtime, as another process can.
func childrenOf(t *testing.T, s *session) []int {
	t.Helper()
	var out bytes.Buffer
	c := newCrictl()
	c.SetOut(&out)
	c.SetArgs([]string{"-r", s.Socket, "ps", "-q"})
	if err := c.Execute(); err != nil {
		t.Fatal(err)
	}
	rt := runtimeAt(t, s.Socket)
	var pids []int
	for id := range strings.FieldsSeq(out.String()) {
		st, err := rt.ContainerStatus(t.Context(), &cri.ContainerStatusRequest{ContainerId: id, Verbose: true})
		if err != nil {
			t.Fatal(err)
		}
		_, after, _ := strings.Cut(st.Info["info"], `"pid":`)
		digits := after[:strings.IndexAny(after, ",}")]
		pid, err := strconv.Atoi(digits)
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	return pids
}

func TestALongPathGetsItsSocketElsewhereAndCloseRemovesIt(t *testing.T) {
	t.Parallel()
	root := filepath.Join(t.TempDir(), strings.Repeat("long/", 20))
	n := bare(t, Config{Root: Root(root)})
	if strings.HasPrefix(n.Socket, root) {
		t.Fatalf("the socket %s is in the root", n.Socket)
	}
	n.dial(t)
	n.Close()
	if _, err := os.Stat(filepath.Dir(n.Socket)); err == nil {
		t.Error("its directory is left")
	}
}

func TestSeveralNodesAtOnce(t *testing.T) {
	t.Parallel()
	a, b := bare(t, Config{}), bare(t, Config{})
	if a.Ports == b.Ports || a.Socket == b.Socket {
		t.Errorf("both have %+v", a.Ports)
	}
}
