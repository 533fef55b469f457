package cli

import (
	"bytes"
	"context"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"etcd-rewind/steps"
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

// hanging is a command whose run doesn't stop.
func hanging(t *testing.T) (ctx context.Context, out *said, ended chan int) {
	out, ended = &said{}, make(chan int, 1)
	a := &app{err: out}
	endProcess = func(status int) { ended <- status }
	plan := &steps.Plan{Run: "20260101-000000", Kind: steps.KindRestore, Flags: []string{"--state-dir", "/elsewhere"}}
	ctx, stop := a.interruptible(context.Background(), "Stopping.", func() { a.left(plan) })
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
