// Package outbox decouples the engine from the outputs that it writes to: a
// terminal, a pipe, a file of events. The reader may be slow, stopped (Ctrl-S),
// full, or on a dead disk; the engine never waits for it.
package outbox

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"etcd-rewind/defect"
)

// ErrUnread says that what was to be written stopped being taken.
var ErrUnread = errors.New("the output isn't being read: the rest of it is lost")

// Outbox writes what is put into it in its order, from a goroutine of its own.
type Outbox[T any] struct {
	write func(T)
	add   func(waiting []T, one T) []T
	ended chan struct{}
	beat  atomic.Int64 // goes up with everything that was written

	mu      sync.Mutex
	waiting []T
	filled  chan struct{} // holds a token while something waits
	closed  chan struct{}
	once    sync.Once
}

// New makes an outbox. add is append, or puts something in the place of older
// news, so that not everything piles up while nothing is taken.
func New[T any](write func(T), add func(waiting []T, one T) []T) *Outbox[T] {
	o := &Outbox[T]{
		write: write, add: add, ended: make(chan struct{}),
		filled: make(chan struct{}, 1), closed: make(chan struct{}),
	}
	go defect.Do(o.carry)()
	return o
}

// News may take the place of older news that nobody has taken yet.
type News interface {
	// Replaces says whether it takes the place of older, and if not whether it
	// may take that of what is before older.
	Replaces(older any) (yes, further bool)
}

// Post adds one, or puts it in the place of what it replaces.
func Post[T any](waiting []T, one T) []T {
	news, more := any(one).(News)
	for i := len(waiting) - 1; more && i >= 0; i-- {
		var yes bool
		if yes, more = news.Replaces(waiting[i]); yes {
			waiting[i] = one
			return waiting
		}
	}
	return append(waiting, one)
}

// Put never waits. After Close what is put in may be lost.
func (o *Outbox[T]) Put(one T) {
	o.mu.Lock()
	o.waiting = o.add(o.waiting, one)
	o.mu.Unlock()
	select {
	case o.filled <- struct{}{}:
	default:
	}
}

func (o *Outbox[T]) carry() {
	defer close(o.ended)
	for open := true; open; {
		select {
		case <-o.filled:
		case <-o.closed:
			open = false
		}
		o.mu.Lock()
		all := o.waiting
		o.waiting = nil
		o.mu.Unlock()
		for _, one := range all {
			o.write(one)
			o.beat.Add(1)
		}
	}
}

// Close writes what is left. It gives up with ErrUnread when nothing could be
// written for as long as patience; what is being written then is abandoned.
func (o *Outbox[T]) Close(patience time.Duration) error {
	o.once.Do(func() { close(o.closed) })
	for last := o.beat.Load(); ; {
		select {
		case <-o.ended:
			return nil
		case <-time.After(patience):
			now := o.beat.Load()
			if now == last {
				return ErrUnread
			}
			last = now
		}
	}
}
