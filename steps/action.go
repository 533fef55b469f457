package steps

import (
	"context"
	"fmt"
	"time"
)

// Action is one thing that is done to the node or waited for. It is plain
// data: the value that runs is the value that is shown and that the journal
// keeps.
//
// Every action may be run again: what is already so is left as it is. That is
// what makes a run that broke off safe to go on with and to go back from.
type Action interface {
	// Kind names the action in the journal.
	Kind() string
	// Title says what it does, in one line.
	Title() string
	// Commands do the same in a shell, ready to be pasted.
	Commands() []string

	// do runs it. Already says that the node was like this before.
	do(ctx context.Context, r *run) (State, error)
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

func newAction(kind string) (Action, error) {
	for _, a := range []Action{
		&Prepare{}, &Save{}, &Stage{}, &TakeOut{}, &WaitStopping{}, &EndPods{}, &WaitGone{}, &WaitForgotten{},
		&Rename{}, &PutIn{}, &WaitStarted{}, &WaitEtcd{}, &WaitAPI{}, &ForgetPods{}, &RestartKubelet{}, &Verify{}, &Meet{},
	} {
		if a.Kind() == kind {
			return a, nil
		}
	}
	return nil, fmt.Errorf("the journal names an action %q that this version doesn't know", kind)
}

// trouble is an error with what a person needs: cause, hint and, for waits,
// the container's log.
type trouble struct {
	cause, hint string
	ignoring    bool // kubelet seems to ignore that the manifest is gone
	log         []string
	logPath     string
	err         error
}

func (t *trouble) Error() string {
	if t.err != nil {
		return t.cause + ": " + t.err.Error()
	}
	return t.cause
}

func (t *trouble) Unwrap() error { return t.err }

// Explain gives the cause and what to do about it, for the screen.
func (t *trouble) Explain() (cause, hint string) { return t.Error(), t.hint }
