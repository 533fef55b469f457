//go:build e2e && linux

package e2e

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"
)

// A restore is killed with its whole process group, at a random moment. The
// user then goes on, or goes back: each ends where it should, with every
// manifest in its place and etcd on the right directory.
//
// ETCD_REWIND_KILLS says how many times; make e2e-kills does it 40 times.
func TestARestoreThatIsKilledAtARandomMoment(t *testing.T) {
	begin(t)
	s := aStory(t)
	before := pictureOf(t, manifests)
	kills := 4
	if v := os.Getenv("ETCD_REWIND_KILLS"); v != "" {
		var err error
		if kills, err = strconv.Atoi(v); err != nil {
			t.Fatal(err)
		}
	}
	for i := range kills {
		moment := time.Duration(rand.Int64N(int64(10 * time.Second)))
		choice := []string{"resume", "undo"}[i%2]
		t.Run("killed, then "+choice, func(t *testing.T) {
			armed := false
			o := call{
				args: []string{"restore", s.snapshot, "--yes", "--output", "json"},
				on: func(e event, p process) {
					if e.Type == "plan" && !armed {
						armed = true
						time.AfterFunc(moment, func() { _ = p.killAll() })
					}
				},
			}.run(t)
			t.Logf("killed after %s: %s", moment.Round(time.Millisecond), o.events[len(o.events)-1].brief())

			after := run(t, choice, "--yes", "--output", "json")
			switch {
			case after.code == 4 && o.code == 0 && choice == "resume": // it was quicker than the kill
				s.isThen(t)
			case after.code == 4: // nothing had been touched yet
				s.isNow(t)
			default:
				after.succeeded(t)
				if choice == "resume" {
					s.isThen(t)
				} else {
					s.isNow(t)
				}
			}
			if n := len(pictureOf(t, manifests)); n != len(before) {
				t.Errorf("%d entries in the manifest directory, there were %d", n, len(before))
			}
			if o := run(t, "undo", "--yes", "--output", "json"); o.code != 0 && o.code != 4 {
				t.Errorf("undo afterwards: exit status %d", o.code)
			}
			s.isNow(t)
			same(t, "undo is not byte for byte", before, pictureOf(t, manifests))
		})
	}
}
