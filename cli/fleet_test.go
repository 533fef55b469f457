package cli

import (
	"bytes"
	"context"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"etcd-rewind/fleet"
	"etcd-rewind/restore"
	"etcd-rewind/steps"
)

// The user is asked for the node they are on, whichever name comes first.
func TestSeveralNodesAreConfirmedByThisNodesName(t *testing.T) {
	plans := []*steps.Plan{{Node: "cp1"}, {Node: "cp2"}}
	for typed, ok := range map[string]bool{"cp2\n": true, "cp1\n": false, "": false} {
		in, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		_, _ = w.WriteString(typed)
		_ = w.Close()
		var out, errs bytes.Buffer
		a := &app{in: in, out: &out, err: &errs}
		answers, err := a.confirm(here{name: "cp2"}, plans)
		if (err == nil) != ok || (answers != nil) != ok {
			t.Errorf("typed %q: %v", typed, err)
		}
		if !strings.Contains(out.String(), "Type the node's name, cp2,") {
			t.Error(out.String())
		}
	}
}

// The first Ctrl-C stops; the second makes the conductor return at once.
func TestASecondCtrlCLeaves(t *testing.T) {
	c := &fleet.Conductor{}
	ctx, stop := (&app{err: &bytes.Buffer{}}).leads(t.Context(), c)
	defer stop()
	me, err := os.FindProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if err := me.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	<-ctx.Done()
	if got := stopped(ctx, context.Canceled); got == nil || !strings.Contains(got.Error(), "interrupted before anything was changed") {
		t.Error(got)
	}
	if c.Left() {
		t.Fatal("the first one leaves already")
	}
	if err := me.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(leaveAfter / 2); !c.Left(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the second one doesn't leave")
		}
	}
}

// here is one of several nodes.
type here struct {
	restore.Nodes
	name string
}

func (h here) Names() []string { return []string{"cp1", "cp2"} }

func (h here) Here() string { return h.name }
