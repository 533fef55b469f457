package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"etcd-rewind/defect"
	"etcd-rewind/problem"
)

// pace is how patient one is with a server.
type pace struct {
	idle  time.Duration // without a sign of life
	tries int           // of a request
	pause time.Duration // before the second try, longer before each further one
}

var defaultPace = pace{idle: 30 * time.Second, tries: 5, pause: time.Second}

// maxCuts is how often a file may be cut on its way, however much came in
// between.
const maxCuts = 50

// resumed is a file that comes over a network: when it is cut, or stalls, it is
// gone on with where it was.
type resumed struct {
	ctx   context.Context
	open  opener
	again func() bool // whether the rest can be asked for
	pace  pace

	r        io.ReadCloser
	with     context.Context // of r
	watch    *defect.Watchdog
	at, size int64
	failed   int // times since something came
	cuts     int
}

// opener opens a file at an offset, and says how much there is from there; -1 for
// not known.
type opener func(ctx context.Context, at int64) (r io.ReadCloser, size int64, err error)

func newResumed(ctx context.Context, open opener, again func() bool, p pace) (*resumed, error) {
	f := &resumed{ctx: ctx, open: open, again: again, pace: p}
	if err := f.start(); err != nil {
		return nil, err
	}
	return f, nil
}

func (f *resumed) start() error {
	ctx, watch := defect.Watch(f.ctx, f.pace.idle, problem.New("check the network and the store", "it sent nothing for %s", f.pace.idle))
	watch.Pause() // opening has a limit of its own
	r, size, err := f.open(ctx, f.at)
	if err != nil {
		watch.Stop()
		return err
	}
	if size >= 0 {
		size += f.at
	}
	if f.at > 0 && size != f.size {
		_ = r.Close()
		watch.Stop()
		return problem.New("try again", "it was replaced by another file while it was read: %d bytes long, and now %d", f.size, size)
	}
	f.r, f.with, f.watch, f.size = r, ctx, watch, size
	return nil
}

// stop closes what is open; safe to call twice.
func (f *resumed) stop() error {
	if f.r == nil {
		return nil
	}
	f.watch.Pause()
	err := f.r.Close()
	f.watch.Stop()
	f.r = nil
	return err
}

// Close closes the file.
func (f *resumed) Close() error { return f.stop() }

// Read reads on, over cuts.
func (f *resumed) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		err := f.ctx.Err()
		if err != nil {
			return 0, context.Cause(f.ctx)
		}
		if f.r == nil {
			if err = f.start(); err != nil && !passing(err) {
				return 0, err
			}
		}
		if err == nil {
			var n int
			f.watch.Alive()
			n, err = f.r.Read(p)
			f.watch.Pause() // who reads may take their time
			f.at += int64(n)
			if f.size >= 0 && f.at > f.size {
				return 0, problem.New("check the store for errors", "it sends more than the %d bytes that it announced", f.size)
			}
			if n > 0 {
				f.failed = 0
				signOfLife(f.ctx)
				return n, nil // an error comes again with the next call
			}
			if err == nil {
				continue
			}
			if errors.Is(err, io.EOF) && (f.size < 0 || f.at == f.size) {
				return 0, io.EOF
			}
			if f.with.Err() != nil {
				err = context.Cause(f.with)
			}
		}
		if f.ctx.Err() != nil {
			return 0, context.Cause(f.ctx)
		}
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		_ = f.stop()
		f.failed++
		f.cuts++
		if !f.again() || f.failed >= f.pace.tries || f.cuts > maxCuts {
			return 0, fmt.Errorf("it was cut after %d bytes: %w", f.at, err)
		}
		select {
		case <-time.After(f.pace.pause << (f.failed - 1)):
		case <-f.ctx.Done():
			return 0, context.Cause(f.ctx)
		}
	}
}

// passing says whether it may be otherwise when it is tried again.
func passing(err error) bool {
	return !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission)
}

type lifeKey struct{}

// signOfLife shows whoever waits with this context that work continues, also
// where nothing is read or written that they see.
func signOfLife(ctx context.Context) {
	if live, ok := ctx.Value(lifeKey{}).(func()); ok {
		live()
	}
}

// Limits of what is tidied up after a failure.
const (
	tidyLimit = 20 * time.Second
	tidyWait  = 2 * time.Second // when nobody waits any more
)

// tidy throws away what a failure has left elsewhere. It goes on by itself when
// ctx has ended and it takes its time: what it doesn't get done is thrown away by
// a later backup.
func tidy(ctx context.Context, f func(ctx context.Context)) {
	with, cancel := context.WithTimeout(context.WithoutCancel(ctx), tidyLimit)
	wait, enough := context.WithCancel(context.Background())
	defer enough()
	if ctx.Err() != nil {
		wait, enough = context.WithTimeout(wait, tidyWait)
		defer enough()
	}
	_, _ = defect.Await(wait, func() (none struct{}, err error) {
		defer cancel()
		f(with)
		return none, nil
	})
}
