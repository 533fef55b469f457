package steps

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"etcd-rewind/manifest"
	"etcd-rewind/snapshot"
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

func newAction(kind string) (Action, error) {
	for _, a := range allActions() {
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
	ignoring    bool   // kubelet seems to ignore that the manifest is gone
	slow        bool   // nothing has failed, it only takes long
	known       string // what a line of the log is known to mean
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

// explain gives an error's cause and what to do about it. The hint is empty
// where nothing is known that helps.
func explain(err error) (cause, hint string) {
	var t *trouble
	var m *manifest.Problem
	var s *snapshot.Problem
	switch {
	case errors.As(err, &t):
		cause, hint = t.Error(), t.hint
	case errors.As(err, &m):
		cause, hint = m.Cause, m.Hint
	case errors.As(err, &s):
		cause, hint = s.Cause, s.Hint
	default:
		cause = err.Error()
	}
	if hint != "" {
		return cause, hint
	}
	for _, k := range faults {
		if errors.Is(err, k.errno) {
			return cause, k.hint
		}
	}
	return cause, ""
}

// faults are what a disk says, and what a person can do then.
var faults = []struct {
	errno syscall.Errno
	hint  string
}{
	{syscall.ENOSPC, "free space there (df -h, df -i), then retry"},
	{syscall.EDQUOT, "free space there, or raise the quota, then retry"},
	{syscall.EROFS, "the file system is read-only, perhaps after an error of the disk: look at dmesg, remount it, then retry"},
	{syscall.EIO, "the disk has errors: look at dmesg"},
	{syscall.EACCES, "see who may write there: ls -ld, lsattr -d, SELinux's audit log"},
	{syscall.EPERM, "see who may write there: ls -ld, lsattr -d, SELinux's audit log"},
}

// allActions are one of each kind, empty.
func allActions() []Action {
	return []Action{
		&Prepare{}, &Save{}, &Stage{}, &WaitRelist{}, &TakeOut{}, &WaitStopping{}, &EndPods{}, &WaitGone{}, &WaitForgotten{},
		&Rename{}, &Ready{}, &PutIn{}, &WaitStarted{}, &WaitData{}, &WaitEtcd{}, &WaitAPI{}, &ForgetPods{}, &RestartKubelet{}, &Verify{}, &WaitNodes{},
		&SetKubeadmConfig{}, &SeeKubeadmConfig{}, &Adopt{},
	}
}
