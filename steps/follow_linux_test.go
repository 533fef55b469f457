package steps

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// A file of events that takes nothing, as on a dead disk or NFS server, costs a
// run nothing but the wait at its end; and what is taken later is in order.
func TestADeadDiskUnderTheEventsHoldsUpNoRun(t *testing.T) {
	for _, reads := range []bool{false, true} {
		n := newFakeNode(t)
		p := n.plan(Choices{})
		if err := os.MkdirAll(p.RunDir, 0o700); err != nil {
			t.Fatal(err)
		}
		pipe := filepath.Join(p.RunDir, eventsName)
		if err := syscall.Mkfifo(pipe, 0o600); err != nil {
			t.Fatal(err)
		}
		disk, err := os.OpenFile(pipe, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = disk.Close() })
		if _, err := unix.FcntlInt(disk.Fd(), unix.F_SETPIPE_SZ, 4096); err != nil {
			t.Fatal(err)
		}
		e, events := n.engine(nil)
		sink, written := e.Sink, make(chan []string, 1)
		e.Sink = func(ev Event) {
			sink(ev)
			if ev.Type == TypeResult && reads { // the disk comes back when all is done
				go func() {
					var lines []string
					in := bufio.NewScanner(disk)
					in.Buffer(nil, 1<<20)
					for in.Scan() {
						var ev Event
						if err := json.Unmarshal(in.Bytes(), &ev); err != nil {
							t.Errorf("%v: %.200s", err, in.Text())
						}
						if lines = append(lines, line(ev)); ev.Type == TypeResult {
							break
						}
					}
					written <- lines
				}()
			}
		}
		ended := make(chan *Result, 1)
		go func() { ended <- e.Run(t.Context(), p) }()
		select {
		case res := <-ended:
			if !res.OK {
				t.Errorf("the run failed: %+v", res.Error)
			}
		case <-time.After(time.Minute):
			_ = disk.Close()
			t.Fatal("the run hangs on its file of events")
		}
		if !reads {
			continue
		}
		var want []string
		for _, ev := range *events {
			want = append(want, line(ev))
		}
		if diff := cmp.Diff(want, <-written); diff != "" {
			t.Error(diff)
		}
	}
}
