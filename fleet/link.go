package fleet

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"sync"
	"time"

	"etcd-rewind/defect"
	"etcd-rewind/pipe"
	"etcd-rewind/problem"
	"etcd-rewind/trust"
)

// Conn is a connection to an agent whose hello has not been read yet.
type Conn = pipe.Conn

// link is the conductor's end of a connection to an agent.
type link struct {
	conn  *Conn
	host  string // "" for this node
	hello hello

	write sync.Mutex // of conn.In
	out   *outbox[request]

	mu      sync.Mutex
	note    func(message) // events, meetings, questions; from the reader's goroutine
	next    int64
	pending map[int64]chan message
	err     error
	done    chan struct{} // closed when the connection has ended; err says why
	heard   time.Time     // a whole line
	stirred time.Time     // progress of what was asked for
	there   int64         // bytes of the snapshot
	pace    Pace

	second time.Time // in which so many lines have come
	lines  int
	bytes  int
}

// What an agent may send within a second. A snapshot's progress is reported in
// megabytes, each look of a wait once; the longest message is a plan.
const (
	mostLines = 5000
	mostBytes = 4 * longestLine
)

// errGone is a connection that has ended.
type errGone struct {
	why  error
	said string
}

func (e *errGone) Error() string {
	s := "the connection ended"
	if e.why != nil && !errors.Is(e.why, io.EOF) {
		s += ": " + e.why.Error()
	}
	if e.said != "" {
		s += ": " + e.said
	}
	return s
}

func (e *errGone) Unwrap() error { return e.why }

// newLink reads the hello, skips what a login shell says before it, and keeps
// the connection alive.
func newLink(ctx context.Context, c *Conn, pace Pace, note func(message)) (*link, error) {
	l := &link{conn: c, note: note, pending: map[int64]chan message{}, done: make(chan struct{}), heard: time.Now(), pace: pace}
	l.out = newOutbox[request](writer{l}, "")
	in := bufio.NewReaderSize(c.Out, 64<<10)
	greeted := make(chan error, 1)
	go defect.Do(func() {
		err := l.greet(in)
		greeted <- err
		if err == nil {
			err = l.listen(in)
		}
		l.end(err)
	})()
	limit := time.NewTimer(pace.Hello)
	defer limit.Stop()
	var err error
	select {
	case err = <-greeted:
		if err == nil && l.hello.Protocol != protocolVersion {
			err = problem.New("use the same version on all nodes", "the agent is of another version: %s speaks protocol %d, this one %d", l.hello.Version, l.hello.Protocol, protocolVersion)
		}
	case <-limit.C:
		err = fmt.Errorf("no agent answered within %s", pace.Hello)
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		l.end(err)
		_ = c.Close()
		if said := c.Said(); said != "" {
			err = fmt.Errorf("%w: %s", err, said)
		}
		return nil, err
	}
	go defect.Do(func() { l.keep(pace) })()
	return l, nil
}

// greet reads up to the agent's first line.
func (l *link) greet(in *bufio.Reader) error {
	for noise := 0; noise < 1<<20; {
		line, err := readLine(in)
		if errors.Is(err, io.EOF) {
			return errors.New("the agent did not start")
		}
		if err != nil {
			return err
		}
		noise += len(line) + 1
		if len(line) >= len(helloMark) && string(line[:len(helloMark)]) == helloMark {
			var m message
			if err := decode(line, &m); err != nil || m.Hello == nil {
				return fmt.Errorf("not an agent's hello: %q", clip(line))
			}
			l.hello = *m.Hello
			l.hello.Version = trust.Clip(trust.Text(l.hello.Version), 80)
			return nil
		}
	}
	return errors.New("unexpected output; no agent found")
}

func (l *link) listen(in *bufio.Reader) error {
	for {
		line, err := readLine(in)
		if err != nil {
			return err
		}
		if len(line) == 0 {
			continue
		}
		var m message
		err = decode(line, &m)
		if err == nil {
			err = valid(m)
		}
		if err != nil {
			return fmt.Errorf("not an agent's message: %q: %w", clip(line), err)
		}
		if m.No != nil {
			m.No = clipped(m.No)
		}
		l.mu.Lock()
		l.heard = time.Now()
		if l.heard.Sub(l.second) >= time.Second {
			l.second, l.lines, l.bytes = l.heard, 0, 0
		}
		l.lines, l.bytes = l.lines+1, l.bytes+len(line)
		if l.lines > mostLines || l.bytes > mostBytes {
			l.mu.Unlock()
			return fmt.Errorf("more than %d messages or %d MB within a second", mostLines, mostBytes>>20)
		}
		if m.Busy || m.Put > l.there || m.Send != nil {
			l.stirred, l.there = l.heard, max(m.Put, 0)
		}
		var reply chan message
		if m.ID != 0 {
			reply = l.pending[m.ID]
			delete(l.pending, m.ID)
		}
		note := l.note
		l.mu.Unlock()
		switch {
		case reply != nil:
			reply <- m
		case m.ID == 0 && !m.Pong && note != nil:
			note(m)
		}
	}
}

// keep sends a word every two seconds, and ends a connection that has been
// silent for too long.
func (l *link) keep(pace Pace) {
	t := time.NewTicker(pace.Ping)
	defer t.Stop()
	for {
		select {
		case <-l.done:
			return
		case <-t.C:
		}
		l.say(request{Do: doPing})
		l.mu.Lock()
		quiet := time.Since(l.heard)
		l.mu.Unlock()
		if quiet > pace.Silence {
			l.end(fmt.Errorf("no message from the agent for %s", quiet.Round(time.Second)))
			return
		}
	}
}

// end notes why the connection has ended, once.
func (l *link) end(why error) {
	l.mu.Lock()
	first := l.err == nil
	if first {
		l.err = &errGone{why: why, said: l.conn.Said()}
		close(l.done)
	}
	l.mu.Unlock()
	if first {
		_ = l.conn.Close() // ends a write that hangs
		l.out.shut()
	}
}

// abandon ends the connection without waiting for what carries it.
func (l *link) abandon(why error) {
	go defect.Do(func() { l.end(why) })()
}

// say sends a line, and waits for nothing: a write may hang when the network is
// gone. Lines arrive in the order in which they are said.
func (l *link) say(r request) { l.out.put(r) }

// writer writes lines and pieces, each whole.
type writer struct{ *link }

func (w writer) Write(p []byte) (int, error) {
	w.write.Lock()
	defer w.write.Unlock()
	n, err := w.conn.In.Write(p)
	if err != nil {
		w.end(err)
	}
	return n, err
}

func (l *link) setNote(note func(message)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.note = note
}

// begin sends a request. What is said after it arrives after it.
func (l *link) begin(do string, with any) (<-chan message, error) {
	w, err := json.Marshal(with)
	if err != nil {
		return nil, err
	}
	reply := make(chan message, 1)
	l.mu.Lock()
	l.next++
	id := l.next
	l.pending[id] = reply
	l.mu.Unlock()
	l.say(request{ID: id, Do: do, W: w})
	return reply, nil
}

// finish waits for the answer to a request: no longer than limit since it last
// made progress, nor than Pace.Most in all. An agent that doesn't answer counts
// as gone, whatever else it says. 0 waits as long as the connection lasts.
func finish[T any](ctx context.Context, l *link, do string, reply <-chan message, limit time.Duration) (T, error) {
	var v T
	m, err := l.await(ctx, do, reply, limit)
	if err != nil {
		return v, err
	}
	switch {
	case m.No != nil:
		return v, m.No
	case len(m.W) > 0:
		if err := decode(m.W, &v); err != nil {
			return v, l.wrong(do, err)
		}
	}
	if err := valid(v); err != nil {
		return v, l.wrong(do, err)
	}
	return v, nil
}

func (l *link) await(ctx context.Context, do string, reply <-chan message, limit time.Duration) (message, error) {
	begun := time.Now()
	over := time.NewTimer(cmp.Or(limit, math.MaxInt64))
	defer over.Stop()
	for {
		select {
		case m := <-reply:
			return m, nil
		case <-ctx.Done():
			return message{}, ctx.Err()
		case <-l.done:
			select {
			case m := <-reply: // its last word
				return m, nil
			default:
				return message{}, l.err
			}
		case <-over.C:
			l.mu.Lock()
			left := limit - time.Since(latest(begun, l.stirred))
			l.mu.Unlock()
			if left <= 0 || do != doPut && time.Since(begun) > l.pace.Most {
				l.end(fmt.Errorf("no answer to %q within %s", do, time.Since(begun).Round(time.Second)))
				return message{}, l.err
			}
			over.Reset(left)
		}
	}
}

// wrong ends a connection to an agent whose answer can't be used.
func (l *link) wrong(do string, err error) error {
	l.end(fmt.Errorf("the answer to %q can't be used: %w", do, err))
	return l.err
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func call[T any](ctx context.Context, l *link, do string, with any) (T, error) {
	reply, err := l.begin(do, with)
	if err != nil {
		var v T
		return v, err
	}
	limit := l.pace.Answer
	if do == doCheck || do == doPut {
		limit = l.pace.Still
	}
	return finish[T](ctx, l, do, reply, limit)
}

// put sends a snapshot, or what a node doesn't have of it yet, and returns its
// path there.
func (l *link) put(ctx context.Context, from *outgoing, o putOrder, progress func(done, total int64)) (string, error) {
	begin := make(chan wanted, 1)
	l.mu.Lock()
	before := l.note
	l.note = func(m message) {
		switch {
		case m.Send != nil:
			select {
			case begin <- *m.Send:
			default: // once is enough
			}
		case m.Put > 0 && progress != nil:
			progress(m.Put, o.Size)
		}
	}
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		l.note = before
		l.mu.Unlock()
	}()
	type end struct {
		reply putReply
		err   error
	}
	asking, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, defect.Do(func() { l.end(ctx.Err()) }))() // a write may hang
	ended := make(chan end, 1)
	go defect.Do(func() {
		r, err := call[putReply](asking, l, doPut, o)
		ended <- end{r, err}
	})()
	var sent error
	select {
	case e := <-ended:
		return e.reply.Path, e.err
	case w := <-begin:
		sent = from.send(asking, l, w)
	}
	if sent != nil {
		cancel()
		<-ended
		gone := l.why()
		// The agent waits for the rest: only a new connection can be used again.
		l.end(sent)
		return "", cmp.Or(ctx.Err(), gone, sent)
	}
	e := <-ended
	return e.reply.Path, e.err
}

// why is why the connection has ended; nil as long as it lasts.
func (l *link) why() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// bye ends the connection: nothing is under way.
func (l *link) bye() {
	l.say(request{Do: doBye})
	select {
	case <-l.done:
	case <-time.After(2 * time.Second):
	}
	l.end(io.EOF)
	_ = l.conn.Close()
}
