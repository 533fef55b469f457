package steps

import (
	"maps"
	"testing"
	"time"
)

// containerd kills what is in a sandbox at once; CRI-O sends SIGTERM, and kills
// after 10 s (stopPodSandbox in its server/sandbox_stop.go), as an API server that
// drains its watches may take. It is waited for, and costs no more than that.
func TestARuntimeThatLetsContainersEndByThemselvesIsWaitedFor(t *testing.T) {
	t.Run("", inFakeTime(func(t *testing.T) {
		n := newFakeNode(t)
		plan := n.plan(Choices{})
		e, _ := n.engine(nil)
		before := n.picture()
		at := time.Now()
		if res := e.Run(t.Context(), plan); !res.OK {
			t.Fatal(res.Error)
		}
		usual := time.Since(at)
		if res := e.Run(t.Context(), n.undo()); !res.OK {
			t.Fatal(res.Error)
		}

		time.Sleep(time.Minute) // fake time; an API server that has just begun has no clients to wait for
		n.gentle = 10 * time.Second
		at = time.Now()
		if res := e.Run(t.Context(), n.plan(Choices{})); !res.OK {
			t.Fatal(res.Error)
		}
		// The API server's and etcd's sandbox.
		if took := time.Since(at); took < 10*time.Second || took > 25*time.Second {
			t.Errorf("it took %s, and %s with containerd", took, usual)
		}
		if res := e.Run(t.Context(), n.undo()); !res.OK {
			t.Fatal(res.Error)
		}
		if after := n.picture(); !maps.Equal(before, after) {
			t.Errorf("the undo left the node otherwise: %v\n%v", before, after)
		}
	}))
}
