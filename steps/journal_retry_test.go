package steps

import (
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
)

// The disk fills up in the middle of a record; somebody makes room, and the
// record is written again: the cut one swallows nothing that comes after it.
// The limit on files is that of a whole process, for which go test writes a log:
// so it has one of its own.
func TestARecordThatIsCutOffAndWrittenAgainIsRead(t *testing.T) {
	const alone = "STEPS_TEST_FULL_DISK"
	if os.Getenv(alone) == "" {
		self := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
		self.Env = append(os.Environ(), alone+"=yes")
		out, err := self.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	dir, _ := journalOfARun(t)
	path := filepath.Join(dir, journalName)
	signal.Ignore(syscall.SIGXFSZ)
	defer signal.Reset(syscall.SIGXFSZ)
	var was syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &was); err != nil {
		t.Fatal(err)
	}
	h, err := readHistory(dir)
	if err != nil {
		t.Fatal(err)
	}
	j, err := openJournal(dir, leastRoom)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = j.close() }()
	undo := *h.restore
	undo.Kind = KindUndo
	for _, rec := range []record{
		{Type: recPlan, Plan: &undo},
		{Type: recIntent, Action: "undo-start-etcd.1"},
		{Type: recEnd, Result: &Result{OK: true, Reverted: true}},
	} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, fits := range []uint64{20, 21} { // twice in a row, too
			full := syscall.Rlimit{Cur: uint64(info.Size()) + fits, Max: was.Max}
			_ = syscall.Setrlimit(syscall.RLIMIT_FSIZE, &full)
			err = j.write(rec)
			_ = syscall.Setrlimit(syscall.RLIMIT_FSIZE, &was)
			if !errors.Is(err, syscall.EFBIG) {
				t.Fatalf("on a full disk: %v", err)
			}
		}
		if err := j.write(rec); err != nil {
			t.Fatal(err)
		}
	}
	if h, err = readHistory(dir); err != nil || h.last.Kind != KindUndo || h.end == nil || !h.end.Result.Reverted {
		t.Errorf("%+v %v", h, err)
	}
}

// An intent that can't be written is written when the action is tried again:
// else a crash would leave a moved manifest that no undo knows of.
func TestAnActionThatIsTriedAgainBeginsWithItsIntent(t *testing.T) {
	for _, action := range []string{"stop-kube-apiserver.1", "stop-etcd.1", "start-etcd.2"} {
		t.Run(action, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newFakeNode(t)
				p := n.plan(Choices{})
				asked := 0
				e, _ := n.engine(func(f Failure) Choice {
					if asked++; asked > 2 {
						return Leave
					}
					return Retry
				})
				full := 2
				e.fail = func(a string) error {
					if a == action && full > 0 {
						full--
						return syscall.ENOSPC
					}
					return nil
				}
				sink := e.Sink
				e.Sink = func(ev Event) {
					sink(ev)
					if ev.Type == TypeAction && ev.State == Started {
						if h, err := readHistory(p.RunDir); err != nil || !h.began[ev.Action] {
							t.Errorf("%s starts without its intent in the journal (%v)", ev.Action, err)
						}
					}
				}
				if res := e.Run(t.Context(), p); !res.OK || asked != 2 {
					t.Fatalf("%v, asked %d times", res.Error, asked)
				}
			})
		})
	}
}
