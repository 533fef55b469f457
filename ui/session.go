package ui

import (
	"context"
	"sync"
	"time"

	"etcd-rewind/defect"
	"etcd-rewind/restore"
)

// session is the nodes of a restore in the wizard's hands: they do one thing at
// a time, and are closed when others take their place.
type session struct {
	open   func() (restore.Nodes, error)
	ctx    context.Context // of all but a run
	cancel context.CancelFunc

	mu    sync.Mutex    // held while something is done
	nodes restore.Nodes // nil before the first
}

// do calls the nodes; what was under way before has to end first.
func (s *session) do(what func(ctx context.Context, n restore.Nodes) error) (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.nodes == nil {
		if s.nodes, err = s.open(); err != nil {
			return err
		}
	}
	return what(s.ctx, s.nodes)
}

// leave makes what is under way on other nodes return at once.
func (s *session) leave() { s.nodes.Leave() }

// close ends the connections, once nothing is under way any more.
func (s *session) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.nodes != nil {
		_ = s.nodes.Close()
	}
}

// sessions is the session that the wizard has, and those that are being closed.
type sessions struct {
	*session
	closing sync.WaitGroup
}

// open takes other nodes; those before are closed.
func (s *sessions) open(ctx context.Context, nodes func() (restore.Nodes, error)) {
	s.close()
	ctx, cancel := context.WithCancel(ctx)
	s.session = &session{open: nodes, ctx: ctx, cancel: cancel}
}

// close ends the connections, without waiting for it: wait does.
func (s *sessions) close() {
	was := s.session
	if was == nil {
		return
	}
	s.session = nil
	was.cancel()
	s.closing.Go(defect.Do(was.close))
}

// leaveAfter is how long the nodes of a run that was left may take.
const leaveAfter = 2 * time.Second

// abandon ends the connections after Leave, so that no remote shell stays
// behind; it waits no longer than that.
func (s *sessions) abandon(patience time.Duration) {
	over := make(chan struct{})
	s.close()
	go defect.Do(func() { s.closing.Wait(); close(over) })()
	select {
	case <-over:
	case <-time.After(patience):
	}
}
