package cli

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"etcd-rewind/snapshot"
	"etcd-rewind/steps"
	"etcd-rewind/ui/print"
	"etcd-rewind/ui/text"
)

// said is a terminal that several write to.
type said struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.Write(p)
}

func (s *said) has(text string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Contains(s.buf.String(), text)
}

// A run that doesn't even stop: its journal's disk hangs. The first Ctrl-C asks
// it to, the second one leaves, with status 3 and the ways to go on from there.
func TestASecondCtrlCLeavesARunThatHangs(t *testing.T) {
	ctx, out, ended := hanging(t)
	signalMe(t, syscall.SIGINT)
	<-ctx.Done()
	for end := time.Now().Add(20 * time.Second); !out.has("Stopping."); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("nobody is told that it stops")
		}
	}
	select {
	case status := <-ended:
		t.Fatalf("the first one ended the process with %d", status)
	default:
	}
	signalMe(t, syscall.SIGINT)
	leftInOrder(t, out, ended)
}

// Go would end the process with status 2 and the stacks of all goroutines.
func TestCtrlBackslashLeavesARunAtOnce(t *testing.T) {
	ctx, out, ended := hanging(t)
	signalMe(t, syscall.SIGQUIT)
	leftInOrder(t, out, ended)
	if ctx.Err() == nil {
		t.Error("the run isn't asked to stop")
	}
}

// The process ends without its deferred functions, and what it has decrypted
// holds every Secret.
func TestARunThatIsLeftLeavesNoStagingFile(t *testing.T) {
	a := &app{}
	ctx, out, ended := hangs(t, a)
	packed, err := os.ReadFile("../snapshot/testdata/before.db.gz")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	name := filepath.Join(dir, "packed.db.gz")
	if err := os.WriteFile(name, packed, 0o600); err != nil {
		t.Fatal(err)
	}
	staged, err := a.session.Stage(ctx, name, nil)
	if err != nil || filepath.Dir(staged.Path) != dir || !staged.Copied() {
		t.Fatalf("%+v, %v", staged, err)
	}
	signalMe(t, syscall.SIGQUIT)
	leftInOrder(t, out, ended)
	if _, err := os.Stat(staged.Path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the staging file is left: %v", err)
	}
}

// Ended by Go, such a command would leave what it has decrypted on the disk.
func TestACommandThatReadsEndsInOrderWhateverEndsIt(t *testing.T) {
	staged := func() []string {
		found, err := filepath.Glob(filepath.Join(os.Getenv(readsEnv), ".etcd-rewind-unpacked-*"))
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	if dir := os.Getenv(readsEnv); dir != "" {
		ctx, stop := interruptible(t.Context())
		defer stop()
		made, err := snapshot.Stage(ctx, snapshot.File(filepath.Join(dir, "packed.db.gz")), dir, nil)
		if err != nil || len(staged()) != 1 {
			t.Fatal(err, staged())
		}
		defer func() { _ = made.Remove() }()
		fmt.Println("staged")
		<-ctx.Done()
		return
	}
	packed, err := os.ReadFile("../snapshot/testdata/before.db.gz")
	if err != nil {
		t.Fatal(err)
	}
	// The commands of other tests have it ignored, and that would be inherited.
	taken := make(chan os.Signal, 1)
	signal.Notify(taken, syscall.SIGHUP)
	defer signal.Stop(taken)
	for _, s := range []syscall.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM} {
		dir := t.TempDir()
		t.Setenv(readsEnv, dir)
		if err := os.WriteFile(filepath.Join(dir, "packed.db.gz"), packed, 0o600); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^"+t.Name()+"$")
		out, err := cmd.StdoutPipe()
		if err := errors.Join(err, cmd.Start()); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for lines.Scan() && lines.Text() != "staged" {
		}
		if err := cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() {
		}
		_ = cmd.Wait()
		if left := staged(); len(left) > 0 {
			t.Errorf("%s leaves %s", s, left)
		}
	}
}

// readsEnv makes the test above the command, in the directory that it names.
const readsEnv = "ETCD_REWIND_TEST_READS"

// hanging is a command whose run doesn't stop.
func hanging(t *testing.T) (ctx context.Context, out *said, ended chan int) {
	return hangs(t, &app{})
}

func hangs(t *testing.T, a *app) (ctx context.Context, out *said, ended chan int) {
	out, ended = &said{}, make(chan int, 1)
	a.err = out
	endProcess = func(status int) { ended <- status }
	plan := &steps.Plan{Run: "20260101-000000", Kind: steps.KindRestore, Flags: []string{"--state-dir", "/elsewhere"}}
	ctx, stop := a.interruptible(context.Background(), "Stopping.", func() { _ = print.Failure(a.err, text.Left(plan, false)) })
	t.Cleanup(func() { stop(); endProcess = os.Exit })
	return ctx, out, ended
}

func signalMe(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(os.Getpid(), s); err != nil {
		t.Fatal(err)
	}
}

func leftInOrder(t *testing.T, out *said, ended chan int) {
	t.Helper()
	select {
	case status := <-ended:
		if status != 3 {
			t.Errorf("status %d", status)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("nothing ended the process")
	}
	for _, way := range []string{"etcd-rewind resume 20260101-000000 --state-dir /elsewhere", "etcd-rewind undo 20260101-000000 --state-dir /elsewhere"} {
		if !out.has(way) {
			t.Errorf("%q is not said:\n%s", way, out.buf.String())
		}
	}
}
