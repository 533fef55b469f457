package steps

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// deadNode is a node whose etcd ends again and again, and whose API server takes
// requests and answers none.
func deadNode(t *testing.T) (*fakeNode, *Plan) {
	n := newFakeNode(t)
	n.mu.Lock()
	n.held = true
	n.broken["etcd-cp1"] = true
	n.endBox(&n.boxes[n.pods["etcd-cp1"].box])
	n.mu.Unlock()
	n.until("the API is down", func() bool { return !n.apiReady() })
	p, err := NewRestore(n.facts(), snapshotOfTheTests, Choices{})
	if err != nil {
		t.Fatal(err)
	}
	return n, p
}

// mendEtcd has etcd work as soon as it is stopped.
func mendEtcd(n *fakeNode, e *Engine) {
	sink := e.Sink
	e.Sink = func(ev Event) {
		if sink(ev); ev.Step == "start-etcd" {
			n.mu.Lock()
			n.broken["etcd-cp1"] = false
			n.mu.Unlock()
		}
	}
}

// Kubelet creates a mirror pod before it syncs a pod, and waits for the API server
// that it is to end.
func TestADeadAPIServerThatHoldsUpKubeletIsEnded(t *testing.T) {
	inFakeTime(func(t *testing.T) {
		n, p := deadNode(t)
		e, _ := n.engine(nil)
		mendEtcd(n, e)
		begun := time.Now()
		if res := e.Run(t.Context(), p); !res.OK || !res.DownBefore || n.restarts > 0 {
			t.Fatalf("%+v, %v, kubelet was restarted %d times", res, res.Error, n.restarts)
		}
		if took := time.Since(begun); took > 2*time.Second {
			t.Errorf("it took %s", took)
		}
	})(t)
}

// A kubelet that ignores removed manifests starts the dead API server once more:
// that is seen at once.
func TestAKubeletThatStartsADeadAPIServerAgainIsRestarted(t *testing.T) {
	inFakeTime(func(t *testing.T) {
		n, p := deadNode(t)
		n.mu.Lock()
		n.held, n.ignoring = false, true
		n.mu.Unlock()
		begun := time.Now()
		var asked []Choice
		var after time.Duration
		e, _ := n.engine(func(f Failure) Choice {
			asked, after = append(asked, f.Choices[0]), time.Since(begun)
			return f.Choices[0]
		})
		mendEtcd(n, e)
		if res := e.Run(t.Context(), p); !res.OK {
			t.Fatalf("%+v, %v", res, res.Error)
		}
		if !slices.Equal(asked, []Choice{RestartStuck}) || after > time.Second || n.restarts != 1 {
			t.Errorf("asked %v after %s, kubelet was restarted %d times", asked, after, n.restarts)
		}
	})(t)
}

// One that waits before it starts a container again leaves the pod as it is: it gets
// no longer than a kubelet that doesn't begin to stop a pod, and once it was
// restarted nothing is expected of it.
func TestAKubeletThatLeavesADeadAPIServerIsRestarted(t *testing.T) {
	inFakeTime(func(t *testing.T) {
		n, p := deadNode(t)
		n.mu.Lock()
		n.held, n.ignoring = false, true
		n.mu.Unlock()
		begun := time.Now()
		var after time.Duration
		backsOff := func(yes bool) {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.paused = yes
		}
		e, _ := n.engine(func(f Failure) Choice {
			after = time.Since(begun)
			backsOff(false)
			return f.Choices[0]
		})
		mendEtcd(n, e)
		sink := e.Sink
		e.Sink = func(ev Event) {
			if sink(ev); ev.Action == "stop-kube-apiserver.3" && ev.State == Started && after == 0 {
				backsOff(true)
			}
		}
		if res := e.Run(t.Context(), p); !res.OK {
			t.Fatalf("%+v, %v", res, res.Error)
		}
		if took := time.Since(begun) - after; after > 11*time.Second || took > 5*time.Second || n.restarts != 1 {
			t.Errorf("asked after %s, then it took %s, kubelet was restarted %d times", after, took, n.restarts)
		}
	})(t)
}

// The way back from there doesn't wait for them either.
func TestAnUndoAfterADeadAPIServerWasEnded(t *testing.T) {
	inFakeTime(func(t *testing.T) {
		n, p := deadNode(t)
		before := n.picture()
		e, _ := n.engine(func(Failure) Choice { return Leave })
		if res := e.Run(t.Context(), p); res.OK { // etcd doesn't start on the restored data
			t.Fatal("it worked")
		}
		begun := time.Now()
		e, _ = n.engine(nil)
		if res := e.Run(t.Context(), n.undo()); !res.OK {
			t.Fatal(res.Error)
		}
		if took := time.Since(begun); took > 5*time.Second {
			t.Errorf("it took %s", took)
		}
		if diff := cmp.Diff(before, n.picture()); diff != "" {
			t.Error(diff)
		}
	})(t)
}

// A kubelet that ignores removed manifests, and waits before it starts a container
// again, cleans up nothing. The manifest that an undo puts back is that of the pod
// which it has: there is nothing to wait for.
func TestAnUndoFromTheMiddleWithAStuckKubelet(t *testing.T) {
	inFakeTime(func(t *testing.T) {
		n, p := deadNode(t)
		before := n.picture()
		n.mu.Lock()
		n.held, n.ignoring = false, true
		n.mu.Unlock()
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		e, _ := n.engine(nil)
		sink := e.Sink
		e.Sink = func(ev Event) {
			if sink(ev); ev.Action == "stop-kube-apiserver.1" && ev.State == Done {
				stop()
				n.mu.Lock()
				n.paused = true
				n.mu.Unlock()
			}
		}
		if res := e.Run(ctx, p); res.OK {
			t.Fatal("it was not stopped")
		}
		begun := time.Now()
		e, _ = n.engine(nil)
		if res := e.Run(t.Context(), n.undo()); !res.OK || n.restarts > 0 {
			t.Fatalf("%v, kubelet was restarted %d times", res.Error, n.restarts)
		}
		if took := time.Since(begun); took > 3*time.Second {
			t.Errorf("it took %s", took)
		}
		if diff := cmp.Diff(before, n.picture()); diff != "" {
			t.Error(diff)
		}
		n.mu.Lock()
		n.paused = false
		n.broken["etcd-cp1"] = false
		n.newBox(n.pods["etcd-cp1"])
		n.mu.Unlock()
		n.until("the old cluster runs", func() bool { return n.works(0xaaaa) == nil })
	})(t)
}
