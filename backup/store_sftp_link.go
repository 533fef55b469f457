package backup

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pkg/sftp"

	"etcd-rewind/defect"
	"etcd-rewind/pipe"
	"etcd-rewind/problem"
)

// links are connections to one host. Each is for one thing at a time: what hangs
// is ended with its connection, and nothing else with it.
type links struct {
	dial func(context.Context) (*pipe.Conn, error)
	pace pace

	mu   sync.Mutex
	idle []*link
	held int
	free chan struct{} // signalled when one is given back
}

// Limits of connections: sshd refuses some beyond ten that aren't let in yet.
const (
	maxLinks   = 4
	idleFor    = 20 * time.Second // then an unused one ends
	trustFor   = 5 * time.Second  // then an unused one is asked first
	dialLimit  = 30 * time.Second
	maxListing = 128 << 20 // bytes that a directory's listing may have
)

// link is one connection.
type link struct {
	all    *links
	c      *pipe.Conn
	sftp   *sftp.Client
	broken atomic.Bool
	ended  atomic.Bool            // by the other host, or by what lies between
	live   atomic.Pointer[func()] // called when something comes or goes
	left   atomic.Int64           // bytes that may still come, 0 for any number
	used   time.Time
	unused *time.Timer
}

// take is a connection for the caller alone, until done.
func (p *links) take(ctx context.Context) (*link, error) {
	for {
		p.mu.Lock()
		if p.free == nil {
			p.free = make(chan struct{}, maxLinks)
		}
		if n := len(p.idle); n > 0 {
			l := p.idle[n-1]
			p.idle = p.idle[:n-1]
			p.held++
			p.mu.Unlock()
			l.unused.Stop()
			if !l.broken.Load() && time.Since(l.used) > trustFor {
				if _, err := on(ctx, l, func(_ context.Context, c *sftp.Client) (string, error) { return c.RealPath(".") }); err != nil {
					l.broken.Store(true)
				}
			}
			if !l.broken.Load() {
				return l, nil
			}
			l.done()
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			continue
		}
		if p.held < maxLinks {
			p.held++
			p.mu.Unlock()
			l, err := p.open(ctx)
			if err != nil {
				p.giveBack()
				return nil, err
			}
			return l, nil
		}
		p.mu.Unlock()
		select {
		case <-p.free:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func (p *links) giveBack() {
	p.mu.Lock()
	p.held--
	p.mu.Unlock()
	select {
	case p.free <- struct{}{}:
	default:
	}
}

// open makes a connection.
func (p *links) open(ctx context.Context) (*link, error) {
	with, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	c, err := p.dial(with)
	if err != nil {
		return nil, err
	}
	l := &link{all: p, c: c}
	client, err := defect.Await(with, func() (*sftp.Client, error) {
		return sftp.NewClientPipe(l, &toldWriter{c.In, l})
	})
	if err != nil {
		said := ""
		if with.Err() == nil {
			said = c.Said()
		}
		_ = c.Close()
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if with.Err() != nil {
			return nil, problem.New("check the network and the other host", "no connection within %s", dialLimit)
		}
		return nil, refusal(said)
	}
	l.sftp = client
	return l, nil
}

// refusal explains why ssh came to no connection, by what it said.
func refusal(said string) error {
	const try = "; it has to work without a prompt, as this user: ssh -o BatchMode=yes HOST true"
	switch {
	case strings.Contains(said, "Host key verification failed"), strings.Contains(said, "host key is known"):
		return problem.New("connect once by hand and compare the key, or put it into known_hosts: ssh-keyscan HOST, after comparing it", "the other host's key is unknown: %s", said)
	case strings.Contains(said, "Permission denied"):
		return problem.New("put the public key of this user into its authorized_keys"+try, "the other host refuses the login: %s", said)
	case strings.Contains(said, "subsystem request failed"):
		return problem.New("sshd_config there needs: Subsystem sftp internal-sftp", "the other host has no SFTP: %s", said)
	case said == "":
		said = "ssh exited without a message"
	}
	return problem.New("check the host, the port and ssh's configuration"+try, "no connection: %s", said)
}

type toldWriter struct {
	io.WriteCloser
	l *link
}

func (t *toldWriter) Write(p []byte) (int, error) {
	n, err := t.WriteCloser.Write(p)
	if err != nil {
		t.l.ended.Store(true)
	}
	t.l.alive()
	return n, err
}

// Read reads what comes from the other host.
func (l *link) Read(p []byte) (int, error) {
	n, err := l.c.Out.Read(p)
	if err != nil {
		l.ended.Store(true)
		l.broken.Store(true)
	}
	l.alive()
	if l.left.Load() > 0 && l.left.Add(-int64(n)) <= 0 {
		l.left.Store(0)
		l.broken.Store(true)
		return 0, errors.New("its answer is too long")
	}
	return n, err
}

func (l *link) alive() {
	if f := l.live.Load(); f != nil {
		(*f)()
	}
}

// saw marks a connection broken by an error that isn't an answer.
func (l *link) saw(err error) error {
	if err != nil && !errors.Is(err, io.EOF) && !isAnswer(err) {
		l.broken.Store(true)
	}
	return err
}

// isAnswer says whether an error is what the other host answers, or found about that.
func isAnswer(err error) bool {
	var status *sftp.StatusError
	return errors.As(err, &status) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrPermission) || problem.Of(err) != nil
}

// cut explains an error by the end of its connection.
func (l *link) cut(err error) error {
	if err == nil || !l.ended.Load() || isAnswer(err) {
		return err
	}
	said := l.c.Said()
	if said == "" {
		said = "ssh exited without a message"
	}
	return problem.New("check the network and the other host", "the connection to the other host ended: %s", said)
}

// done gives a connection to others, or ends a broken one.
func (l *link) done() {
	if l.broken.Load() {
		_ = l.c.Close()
	} else {
		l.used = time.Now()
		l.all.mu.Lock()
		l.unused = time.AfterFunc(idleFor, defect.Do(l.drop))
		l.all.idle = append(l.all.idle, l)
		l.all.mu.Unlock()
	}
	l.all.giveBack()
}

// drop ends a connection that nobody uses.
func (l *link) drop() {
	l.all.mu.Lock()
	defer l.all.mu.Unlock()
	for i, x := range l.all.idle {
		if x == l {
			l.all.idle = append(l.all.idle[:i:i], l.all.idle[i+1:]...)
			_ = l.c.Close()
			return
		}
	}
}

// close ends what is unused.
func (p *links) close() {
	p.mu.Lock()
	idle := append([]*link(nil), p.idle...)
	p.mu.Unlock()
	for _, l := range idle {
		l.unused.Stop()
		l.drop()
	}
}

// over does something over a connection.
func over[T any](ctx context.Context, p *links, f func(ctx context.Context, c *sftp.Client) (T, error)) (T, error) {
	l, err := p.take(ctx)
	if err != nil {
		var none T
		return none, err
	}
	defer l.done()
	return on(ctx, l, f)
}

// on does something on a connection, and ends that when it shows no sign of life
// or the context ends.
func on[T any](ctx context.Context, l *link, f func(ctx context.Context, c *sftp.Client) (T, error)) (T, error) {
	idle := l.all.pace.idle
	with, watch := defect.Watch(ctx, idle, problem.New("check the network and the other host", "it transferred nothing for %s", idle))
	defer watch.Stop()
	live := func() {
		watch.Alive()
		signOfLife(ctx)
	}
	l.live.Store(&live)
	defer l.live.Store(nil)
	v, err := defect.Await(with, func() (T, error) { return f(with, l.sftp) })
	if with.Err() != nil { // f may still be at it
		l.broken.Store(true)
		_ = l.c.Close()
		return v, err
	}
	return v, l.cut(l.saw(err))
}
