//go:build e2e && linux

package e2e

import (
	"os"
	"strings"
	"testing"
)

// What goes wrong after the swap, with nobody there to ask, ends in a node that
// is as it was, and exit status 1.
func TestARestoreThatFailsPutsTheNodeBack(t *testing.T) {
	for _, c := range []struct {
		name string
		at   string // once this action is done
		harm func(t *testing.T, run string)
		mend func(t *testing.T)
		says string // in the cause
	}{
		{
			name: "etcd doesn't start on the restored data", at: "stage.1",
			harm: func(t *testing.T, run string) {
				if err := os.Remove(node.HostPath("/var/lib/etcd-" + run + ".staging/member/snap/db")); err != nil {
					t.Error(err)
				}
			},
			says: "starts and ends again",
		},
		{
			name: "kube-apiserver doesn't start", at: "stop-etcd.1",
			harm: func(t *testing.T, _ string) {
				inside(t, "mv /etc/kubernetes/pki/sa.pub /etc/kubernetes/pki/sa.pub.away")
			},
			mend: func(t *testing.T) {
				inside(t, "mv /etc/kubernetes/pki/sa.pub.away /etc/kubernetes/pki/sa.pub")
			},
			says: "kube-apiserver",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			begin(t)
			s := aStory(t)
			before, old := pictureOf(t, manifests), dataDir(t)
			harmed, mended := false, false
			o := call{
				args: []string{"restore", s.snapshot, "--yes", "--output", "json"},
				on: func(e event, _ process) {
					if e.Action == c.at && e.State == "done" && !harmed {
						harmed = true
						c.harm(t, e.Run)
					}
					// What ails the API server would ail it on the old data too.
					if e.Type == "answer" && c.mend != nil && !mended {
						mended = true
						c.mend(t)
					}
				},
			}.run(t)
			if harmed && !mended && c.mend != nil {
				c.mend(t)
			}
			last := o.last(t)
			if o.code != 1 || last.OK || !last.Reverted {
				t.Errorf("exit status %d, want 1 and a reverted node: %+v", o.code, last)
			}
			if last.Error == nil || !strings.Contains(last.Error.Cause, c.says) {
				t.Errorf("the cause says nothing of %q: %+v", c.says, last.Error)
			} else {
				t.Logf("after %.1f s: %s / %s", o.took.Seconds(), last.Error.Cause, last.Error.Hint)
			}
			s.isNow(t)
			same(t, "the node is not reverted byte for byte", before, pictureOf(t, manifests))
			if now := dataDir(t); now != old {
				t.Errorf("etcd's data is at %s, was at %s", now, old)
			}
		})
	}
}
