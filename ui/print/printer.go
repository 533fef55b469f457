package print

import (
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/charmbracelet/x/ansi"
	"golang.org/x/term"

	"etcd-rewind/outbox"
	"etcd-rewind/restore"
)

// drainFor is how long the end of a run waits for a reader that takes nothing.
const drainFor = 5 * time.Second

// Printer prints a run on one or more nodes, as text or as JSON. None of its
// methods but Close waits for the writer, and errors of the writer are ignored:
// the run matters more than its words.
type Printer struct {
	out  *outbox.Outbox[any]
	one  bool // node
	once sync.Once
	err  error
}

// NewText returns a printer of events as lines of text: a line when a step
// starts, one for each action when it ends, and every five seconds what a long
// wait sees. With several nodes the node's name goes before each, and one line
// says what all have reached. It prints the summary at the end.
func NewText(w io.Writer, o Options) *Printer {
	p := NewLines(w, o)
	return &Printer{one: len(o.Nodes) == 0, out: outbox.New(func(what any) {
		switch what := what.(type) {
		case restore.NodeEvent:
			p.Event(what)
		case textMsg:
			_, _ = io.WriteString(w, p.look.Finish(string(what)))
		}
	}, outbox.Post)}
}

// textMsg is printed as it is.
type textMsg string

// Event prints an event of a run.
func (p *Printer) Event(ev restore.NodeEvent) { p.out.Put(ev) }

// Close prints what is left. It waits as long as somebody reads; the error
// says that nobody does any more.
func (p *Printer) Close() error { return p.CloseWithin(drainFor) }

// CloseWithin is Close for a reader that is given up when it takes nothing for
// as long as patience. What is called first counts.
func (p *Printer) CloseWithin(patience time.Duration) error {
	p.once.Do(func() { p.err = p.out.Close(patience) })
	return p.err
}

// Status shows what is being done on one line of a terminal, which goes away
// with the next. A terminal that takes nothing holds up nobody. Its methods may
// be called from several goroutines.
type Status struct {
	out   *outbox.Outbox[statusMsg]
	stuck atomic.Bool // it took nothing for statusFor
}

// statusFor is how long the end of a line of status is waited for.
const statusFor = time.Second

// statusMsg is a text, and who waits for it to be shown.
type statusMsg struct {
	text  string
	shown chan struct{}
}

// Replaces is for a terminal that takes nothing.
func (m statusMsg) Replaces(older any) (yes, further bool) {
	return older.(statusMsg).shown == nil, false
}

// NewStatus makes a Status on a terminal.
func NewStatus(w io.Writer) *Status {
	return &Status{out: outbox.New(func(m statusMsg) {
		_, _ = io.WriteString(w, "\r\x1b[K"+oneLine(w, m.text))
		if m.shown != nil {
			close(m.shown)
		}
	}, outbox.Post)}
}

// oneLine is a text that a terminal has room for in one of its lines: of more
// than that it couldn't be cleared again.
func oneLine(w io.Writer, text string) string {
	if f, ok := w.(*os.File); ok {
		if width, _, err := term.GetSize(int(f.Fd())); err == nil && width > 1 {
			return ansi.Truncate(text, width-1, "…")
		}
	}
	return text
}

// Say shows a text in place of the last one. "" leaves none, so that something
// else can be printed.
func (s *Status) Say(what string) {
	if what != "" || s.stuck.Load() {
		s.out.Put(statusMsg{text: what})
		return
	}
	shown := make(chan struct{})
	s.out.Put(statusMsg{shown: shown})
	select {
	case <-shown:
	case <-time.After(statusFor):
		s.stuck.Store(true)
	}
}

// Close leaves the line as it is.
func (s *Status) Close() { _ = s.out.Close(statusFor) }
