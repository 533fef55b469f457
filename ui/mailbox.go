package ui

import (
	"sync"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"etcd-rewind/outbox"
)

// frameTime is how long the screen waits before it looks at news again: 12
// times a second is live enough, and cheap on a node that has work to do.
const frameTime = time.Second / 12

// mailbox carries messages from the engine to the screen. put never waits: a
// terminal that hangs must not hold up the engine while the API is away. The
// screen collects with listen.
type mailbox struct {
	mu     sync.Mutex
	mail   []tea.Msg
	filled chan struct{} // holds a token while there is mail
	closed chan struct{}
	once   sync.Once
}

// mailMsg is what listen brings: messages in the order they were put.
type mailMsg []tea.Msg

func newMailbox() *mailbox {
	return &mailbox{filled: make(chan struct{}, 1), closed: make(chan struct{})}
}

// put adds a message. News of a wait takes the place of older news of the same
// wait that nobody has collected, so that the mail doesn't pile up.
func (b *mailbox) put(m tea.Msg) {
	b.mu.Lock()
	b.mail = outbox.Post(b.mail, m)
	b.mu.Unlock()
	select {
	case b.filled <- struct{}{}:
	default:
	}
}

// listen is a tea.Cmd: it waits for mail, gathers what comes within one frame,
// and ends when the mailbox is closed.
func (b *mailbox) listen() tea.Msg {
	select {
	case <-b.filled:
	case <-b.closed:
		return nil
	}
	gather := time.NewTimer(frameTime)
	defer gather.Stop()
	select {
	case <-gather.C:
	case <-b.closed:
		return nil
	}
	return mailMsg(b.collect())
}

func (b *mailbox) collect() []tea.Msg {
	b.mu.Lock()
	defer b.mu.Unlock()
	mail := b.mail
	b.mail = nil
	return mail
}

func (b *mailbox) close() { b.once.Do(func() { close(b.closed) }) }
