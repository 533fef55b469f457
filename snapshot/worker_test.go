package snapshot

import (
	"context"
	"errors"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"etcd-rewind/problem"
	"etcd-rewind/trust"
)

func TestCrashOf(t *testing.T) {
	exitWith := func(script string) error { return exec.Command("/bin/sh", "-c", script).Run() }
	for _, c := range []struct{ name, script, stderr, want string }{
		{"SIGBUS as Go's runtime reports it", "exit 2", "unexpected fault address 0x7f\nfatal error: fault\n[signal SIGBUS: bus error code=0x2]\n\ngoroutine 5", "reading it crashed with SIGBUS"},
		{"SIGSEGV as Go's runtime reports it", "exit 2", "unexpected fault address 0x7f\nfatal error: fault\n[signal SIGSEGV: segmentation violation]", "reading it crashed with SIGSEGV"},
		{"SIGBUS from the kernel", "kill -BUS $$", "", "reading it crashed with SIGBUS"},
		{"SIGKILL", "kill -KILL $$", "", "the process that read it was killed, perhaps because memory ran out"},
		{"a panic", "exit 2", "\npanic: page 7 already freed\n\ngoroutine 1", "reading it crashed with a panic: page 7 already freed"},
		{"a stack without end", "exit 2", "runtime: goroutine stack exceeds 67108864-byte limit\n", "reading it crashed with exit status 2: runtime: goroutine stack exceeds 67108864-byte limit"},
		{"the limit of its memory", "exit 2", "fatal error: out of memory allocating heap arena metadata\n", "reading it takes more memory than a database of its size can need"},
		{"silence", "exit 0", "", "reading it crashed with an unknown error"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := crashOf(exitWith(c.script), c.stderr).Error(); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestFullDiskIsRecognisedInWhatEtcdsLibrarySays(t *testing.T) {
	err := endedEarly(&crashError{signal: "exit status 1", detail: `{"level":"fatal","msg":"failed to commit tx","error":"write: no space left on device"}`})
	wantProblem(t, err, CodeNoSpace)
	if problem.Of(endedEarly(&crashError{signal: "SIGKILL"})) != nil {
		t.Error("a killed worker isn't a full disk")
	}
}

func TestWorkerWithoutARequestSaysSo(t *testing.T) {
	exe, err := trust.SelfPath()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = []string{workerEnv + "=inspect"}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 2 || !strings.Contains(string(out), "internal use") {
		t.Errorf("%v: %s", err, out)
	}
}

func TestCallOfAnUnknownRequest(t *testing.T) {
	err := call(context.Background(), "nonsense", struct{}{}, nil, nil)
	if err == nil || !strings.Contains(err.Error(), "nonsense") {
		t.Errorf("error %v", err)
	}
}

func TestCallsLeaveNoGoroutines(t *testing.T) {
	path := file(t, "a.db", fixture(t, "before"))
	before := runtime.NumGoroutine()
	for range 3 {
		if _, err := Inspect(context.Background(), path, nil); err != nil {
			t.Fatal(err)
		}
	}
	if now := runtime.NumGoroutine(); now > before+2 {
		t.Errorf("%d goroutines before, %d now", before, now)
	}
}
