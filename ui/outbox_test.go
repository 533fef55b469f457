package ui

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"etcd-rewind/outbox"
	"etcd-rewind/restore"
	"etcd-rewind/steps"
	"etcd-rewind/ui/print"
)

// fullPipe is a pipe that takes nothing more: Ctrl-S, a pager that waits.
func fullPipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = r.Close(), w.Close() })
	raw, err := w.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	// Asked of the pipe itself: a deadline may pass before it is full.
	for _, piece := range []string{strings.Repeat(".", 512), "."} {
		for full := false; !full; {
			if err := raw.Write(func(fd uintptr) bool {
				_, err := syscall.Write(int(fd), []byte(piece))
				full = errors.Is(err, syscall.EAGAIN)
				if err != nil && !full && !errors.Is(err, syscall.EINTR) {
					t.Fatal(err)
				}
				return true
			}); err != nil {
				t.Fatal(err)
			}
		}
	}
	return r, w
}

// alone is the run of a node alone.
func alone(p *print.Printer) func(steps.Event) {
	return func(ev steps.Event) { p.Event(restore.NodeEvent{Event: ev}) }
}

// Each way to tell a run, as a fake engine's sink.
var printers = map[string]func(w io.Writer) (*print.Printer, func(steps.Event)){
	"text": func(w io.Writer) (*print.Printer, func(steps.Event)) {
		p := print.NewText(w, print.Options{Commands: true})
		return p, alone(p)
	},
	"JSON": func(w io.Writer) (*print.Printer, func(steps.Event)) {
		p := print.NewJSON(w)
		return p, alone(p)
	},
	"text of several nodes": func(w io.Writer) (*print.Printer, func(steps.Event)) {
		p := print.NewText(w, print.Options{Nodes: []string{"cp1", "cp2"}})
		return p, func(ev steps.Event) { p.Event(restore.NodeEvent{Node: "cp2", Event: ev}) }
	},
	"JSON of several nodes": func(w io.Writer) (*print.Printer, func(steps.Event)) {
		p := print.NewJSON(w)
		return p, func(ev steps.Event) { p.Event(restore.NodeEvent{Node: "cp2", Event: ev}) }
	},
}

// whole plays a restore that fails on its way and is undone, and says whether
// the engine came to its end.
func whole(sink func(steps.Event), ask steps.Asker) <-chan *steps.Result {
	ended := make(chan *steps.Result, 1)
	go func() {
		f := newFake()
		f.failAt = "start-etcd.4"
		res, _ := f.Run(context.Background(), restorePlan(), sink, ask)
		ended <- res
	}()
	return ended
}

func passes(t *testing.T, ended <-chan *steps.Result) {
	t.Helper()
	select {
	case res := <-ended:
		if res.OutageSeconds == 0 {
			t.Errorf("it had no outage: %+v", res)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("a reader that reads nothing holds up the engine in the outage")
	}
}

func TestAReaderThatReadsNothingDoesNotHoldUpTheRun(t *testing.T) {
	for name, make := range printers {
		t.Run(name, func(t *testing.T) {
			r, w := fullPipe(t)
			p, sink := make(w)
			passes(t, whole(sink, steps.Unattended))

			// It reads on: nothing but waits is missing.
			said := read(r)
			if err := p.Close(); err != nil {
				t.Error(err)
			}
			_ = w.Close()
			text := <-said
			for _, want := range []string{"Rename the restored data", "Move kube-apiserver.yaml in"} {
				if !strings.Contains(text, want) {
					t.Errorf("%q isn't in the output:\n%s", want, text)
				}
			}
		})
	}
}

func TestAReaderThatNeverReadsIsGivenUpAtTheEnd(t *testing.T) {
	for name, make := range printers {
		t.Run(name, func(t *testing.T) {
			_, w := fullPipe(t)
			p, sink := make(w)
			passes(t, whole(sink, steps.Unattended))
			if err := p.CloseWithin(50 * time.Millisecond); !errors.Is(err, outbox.ErrUnread) {
				t.Errorf("the end says %v", err)
			}
		})
	}
}

func TestAClosedOutputDoesNotEndTheRun(t *testing.T) {
	for name, make := range printers {
		t.Run(name, func(t *testing.T) {
			r, w := fullPipe(t)
			_ = r.Close() // EPIPE from here on
			p, sink := make(w)
			passes(t, whole(sink, steps.Unattended))
			if err := p.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// With Ctrl-S the question waits on the screen too, but nothing else does.
func TestAQuestionBehindAFullPipeIsAnsweredOnTheInput(t *testing.T) {
	r, w := fullPipe(t)
	p := print.NewText(w, print.Options{})
	in, keys := io.Pipe()
	ask := p.Asker(print.NewAnswers(in))
	ended := whole(alone(p), func(f steps.Failure) steps.Choice { return ask(restore.Trouble{Failure: f}) })
	if _, err := io.WriteString(keys, "w\n"); err != nil {
		t.Fatal(err)
	}
	passes(t, ended)
	said := read(r)
	_ = p.Close()
	_ = w.Close()
	if text := <-said; strings.Count(text, "Your choice: ") != 1 || strings.Index(text, "permission denied") > strings.Index(text, "Your choice: ") {
		t.Errorf("the question comes before what it is about:\n%s", text)
	}
}

func TestTheScreenThatBrokeTellsTheRestWithoutHoldingUpTheRun(t *testing.T) {
	_, w := fullPipe(t)
	f := newFake()
	e := newRunner(t.Context(), newMailbox())
	f.hold, f.holdAt = make(chan struct{}), "stop-etcd.1"
	var nodes sessions
	nodes.open(t.Context(), func() (restore.Nodes, error) { return &restore.Local{Engine: f}, nil })
	_ = nodes.do(func(ctx context.Context, n restore.Nodes) error {
		_, err := n.PlanAgain(ctx, restore.Resume)
		return err
	})
	e.start(restorePlan(), nil, nodes.session)
	e.leave(w)
	close(f.hold)
	passes(t, func() <-chan *steps.Result {
		ended := make(chan *steps.Result, 1)
		go func() { e.running.Wait(); ended <- e.last.Nodes[0].Result }()
		return ended
	}())
	_ = e.instead.CloseWithin(50 * time.Millisecond)
}

func TestALineOfStatusKeepsOnlyTheLatest(t *testing.T) {
	r, w := fullPipe(t)
	s := print.NewStatus(w)
	told := make(chan struct{})
	go func() {
		defer close(told)
		for range 10_000 {
			s.Say("reading etcd.db")
		}
		s.Say("")
	}()
	select {
	case <-told:
	case <-time.After(20 * time.Second):
		t.Fatal("a terminal that takes nothing holds up what is done")
	}
	said := read(r)
	s.Close()
	_ = w.Close()
	if n := strings.Count(<-said, "reading"); n > 2 {
		t.Errorf("%d stale lines are shown", n)
	}
}

func read(r io.Reader) <-chan string {
	said := make(chan string, 1)
	go func() {
		b, _ := io.ReadAll(r)
		said <- string(b)
	}()
	return said
}
