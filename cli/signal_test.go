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
	out := &said{}
	a := &app{err: out}
	ended := make(chan int, 1)
	endProcess = func(status int) { ended <- status }
	defer func() { endProcess = os.Exit }()
	plan := &steps.Plan{Run: "20260101-000000", Kind: steps.KindRestore, Flags: []string{"--state-dir", "/elsewhere"}}
	ctx, stop := a.interruptible(context.Background(), "Stopping.", func() { a.left(plan) })
	defer stop()

	interrupt := func() {
		if err := syscall.Kill(os.Getpid(), syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
	}
	interrupt()
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
	interrupt()
	select {
	case status := <-ended:
		if status != 3 {
			t.Errorf("status %d", status)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the second one ended nothing")
	}
	for _, way := range []string{"etcd-rewind resume 20260101-000000 --state-dir /elsewhere", "etcd-rewind undo 20260101-000000 --state-dir /elsewhere"} {
		if !out.has(way) {
			t.Errorf("%q is not said:\n%s", way, out.buf.String())
		}
	}
}
