package ui

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"etcd-rewind/defect"
	"etcd-rewind/restore"
	"etcd-rewind/steps"
)

// outbox carries what is to be printed to a writer that may be slow, stopped
// (Ctrl-S), full or gone: putting something in never waits, and while nobody
// reads, news of a wait takes the place of older news.
type outbox struct {
	box   *mailbox
	print func(any)
	ended chan struct{}
	beat  atomic.Int64 // goes up with everything that was printed
}

// drainFor is how long the end of a run waits for a reader that takes nothing.
const drainFor = 5 * time.Second

// errUnread says that the reader of an output stopped reading.
var errUnread = errors.New("nobody reads the output: the rest of it is lost")

func newOutbox(print func(any)) *outbox {
	o := &outbox{box: newMailbox(), print: print, ended: make(chan struct{})}
	go defect.Do(o.carry)()
	return o
}

func (o *outbox) carry() {
	defer close(o.ended)
	for {
		mail, open := o.box.take()
		for _, one := range mail {
			o.print(one)
			o.beat.Add(1)
		}
		if !open {
			return
		}
	}
}

func (o *outbox) put(what any) { o.box.put(what) }

// close prints what is left. It gives up when nothing could be printed for as
// long as patience; what is printing then is abandoned.
func (o *outbox) close(patience time.Duration) error {
	o.box.close()
	for last := o.beat.Load(); ; {
		select {
		case <-o.ended:
			return nil
		case <-time.After(patience):
			now := o.beat.Load()
			if now == last {
				return errUnread
			}
			last = now
		}
	}
}

// Printer prints a run on one or more nodes, as text or as JSON. None of its
// methods but Close waits for the writer, and errors of the writer are ignored:
// the run matters more than its words.
type Printer struct {
	out  *outbox
	one  bool // node
	once sync.Once
	err  error
}

// textMsg is printed as it is.
type textMsg string

// Event prints an event of a run on one node.
func (p *Printer) Event(ev steps.Event) { p.out.put(eventMsg{ev}) }

// NodeEvent prints an event of a run on several nodes.
func (p *Printer) NodeEvent(ev restore.NodeEvent) { p.out.put(nodeEventMsg{ev}) }

// Close prints what is left. It waits as long as somebody reads; the error
// says that nobody does any more.
func (p *Printer) Close() error {
	p.once.Do(func() { p.err = p.out.close(drainFor) })
	return p.err
}

// Status shows what is being done on one line of a terminal, which goes away
// with the next. A terminal that takes nothing holds up nobody. Its methods may
// be called from several goroutines.
type Status struct {
	out   *outbox
	stuck atomic.Bool // it took nothing for statusFor
}

// statusFor is how long the end of a line of status is waited for.
const statusFor = time.Second

// statusMsg is a text, and who waits for it to be shown.
type statusMsg struct {
	text  string
	shown chan struct{}
}

// NewStatus makes a Status on a terminal.
func NewStatus(w io.Writer) *Status {
	return &Status{out: newOutbox(func(what any) {
		m := what.(statusMsg)
		_, _ = io.WriteString(w, "\r\x1b[K"+m.text)
		if m.shown != nil {
			close(m.shown)
		}
	})}
}

// Say shows a text in place of the last one. "" leaves none, so that something
// else can be printed.
func (s *Status) Say(what string) {
	if what != "" || s.stuck.Load() {
		s.out.put(statusMsg{text: what})
		return
	}
	shown := make(chan struct{})
	s.out.put(statusMsg{shown: shown})
	select {
	case <-shown:
	case <-time.After(statusFor):
		s.stuck.Store(true)
	}
}

// Close leaves the line as it is.
func (s *Status) Close() { _ = s.out.close(statusFor) }
