package ui

import (
	"sync"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"etcd-rewind/restore"
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

// eventMsg is an event of a node, or of all nodes.
type eventMsg struct{ restore.NodeEvent }

func newMailbox() *mailbox {
	return &mailbox{filled: make(chan struct{}, 1), closed: make(chan struct{})}
}

// put adds a message.
func (b *mailbox) put(m tea.Msg) {
	b.mu.Lock()
	b.mail = post(b.mail, m)
	b.mu.Unlock()
	select {
	case b.filled <- struct{}{}:
	default:
	}
}

// post adds a message. News of a wait takes the place of older news of the same
// wait that nobody has collected, so that the mail doesn't pile up.
func post(mail []tea.Msg, m tea.Msg) []tea.Msg {
	if n := last(mail, m); n >= 0 && supersedes(m, mail[n]) {
		mail[n] = m
		return mail
	}
	return append(mail, m)
}

// last is the message that m may take the place of: the last one, and with
// several nodes the last one of m's node, unless one about all nodes came since.
func last(mail []tea.Msg, m tea.Msg) int {
	ev, ok := m.(eventMsg)
	if !ok {
		return len(mail) - 1
	}
	for i := len(mail) - 1; i >= 0; i-- {
		before, ok := mail[i].(eventMsg)
		if !ok || before.Node == "" || before.Node == ev.Node {
			return i
		}
	}
	return -1
}

func supersedes(m, last tea.Msg) bool {
	switch m := m.(type) {
	case eventMsg:
		l, ok := last.(eventMsg)
		return ok && m.Node == l.Node && m.Supersedes(l.Event)
	case sendProgressMsg:
		l, ok := last.(sendProgressMsg)
		return ok && m.turn == l.turn && m.node == l.node
	case compareProgressMsg:
		l, ok := last.(compareProgressMsg)
		return ok && m.turn == l.turn
	case lookProgressMsg:
		l, ok := last.(lookProgressMsg)
		return ok && m.path == l.path
	case statusMsg: // of a terminal that takes nothing
		l, ok := last.(statusMsg)
		return ok && l.shown == nil
	}
	return false
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
