package steps

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A pod that ended again and again is not judged by that once more: tried
// again, or gone on with, it gets a fresh UID, which kubelet starts at once.
func TestAPodThatCrashedIsTriedAgainOnceItsTroubleIsOver(t *testing.T) {
	for _, pod := range []string{"etcd-cp1", "kube-apiserver-cp1"} {
		for _, resumed := range []bool{false, true} {
			name := pod + ", retried"
			if resumed {
				name = pod + ", gone on with"
			}
			t.Run(name, inFakeTime(func(t *testing.T) {
				n := newFakeNode(t)
				n.grace = 50 * time.Millisecond // nothing runs that would take longer
				before := n.picture()
				p := n.plan(Choices{})
				asked := 0
				mend := func() {
					n.mu.Lock()
					defer n.mu.Unlock()
					n.broken = map[string]bool{}
				}
				e, _ := n.engine(func(f Failure) Choice {
					if asked++; asked > 1 {
						t.Errorf("asked again: %s: %s", f.Action, f.Cause)
						return Leave
					}
					if resumed {
						return Leave
					}
					mend()
					return Retry
				})
				sink := e.Sink
				e.Sink = func(ev Event) {
					sink(ev)
					if ev.Type == TypeStep && ev.State == Started && asked == 0 {
						n.mu.Lock()
						n.broken[pod] = ev.Step == "start-"+pod[:len(pod)-len("-cp1")]
						n.mu.Unlock()
					}
				}
				res := e.Run(t.Context(), p)
				if resumed {
					mend()
					again, err := NewResume(filepath.Join(n.root, "etcd-rewind"), "", Terms{})
					if err != nil {
						t.Fatal(err)
					}
					res = e.Run(t.Context(), again)
				}
				if !res.OK || asked != 1 {
					t.Fatalf("asked %d times, %+v", asked, res.Error)
				}
				undo := n.undo()
				if res := e.Run(t.Context(), undo); !res.OK {
					t.Fatal(res.Error)
				}
				if diff := cmp.Diff(before, n.picture()); diff != "" {
					t.Error(diff)
				}
			}))
		}
	}
}
