package steps

import (
	"context"
	"time"

	"etcd-rewind/problem"
)

// Action is one thing that is done to the node or waited for. It is plain
// data: the value that runs is the value that is shown and that the journal
// keeps.
//
// Every action may be run again: what is already so is left as it is. That is
// what makes an interrupted run safe to resume and to undo.
type Action interface {
	// Kind names the action in the journal.
	Kind() string
	// Title says what it does, in one line.
	Title() string
	// Commands do the same in a shell, ready to be pasted.
	Commands() []string

	// do runs it. Already says that the node was like this before.
	do(ctx context.Context, r *run) (State, error)
	// places shows every path that is moved, written or given to kubelet, and
	// every pod, to the one that holds a journal's words against where it lies.
	places(v *vetter)
	// undo returns the actions that take it back, first one first, after a
	// look at the node: nothing when there is nothing to take back.
	undo() []Action
}

// waiter is an action that only looks: it may end between two looks when the
// user stops the run. All others run to their end.
type waiter interface {
	Action
	limit(pace) time.Duration
}

// retrier is an action with more to do on a retry than to run again.
type retrier interface {
	retry(ctx context.Context, r *run) error
}

// trouble is a problem that ends a wait: looking again doesn't mend it.
type trouble struct {
	*problem.Problem
	ignoring bool   // kubelet seems to ignore that the manifest is gone
	slow     bool   // nothing has failed, it only takes long
	known    string // what a line of the log is known to mean
	log      []string
	logPath  string
}

func (t *trouble) Unwrap() error { return t.Problem }

func stuck(hint, cause string, args ...any) *trouble {
	return &trouble{Problem: problem.New(hint, cause, args...)}
}

// ignores is a kubelet that doesn't end what has no manifest any more.
func ignores(cause string, args ...any) *trouble {
	t := stuck(ignoringHint, cause, args...)
	t.ignoring = true
	return t
}
