package defect

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	if story := os.Getenv("DEFECT_TEST"); story != "" {
		Terminal(func() { fmt.Println("terminal given back") })
		over := During("etcd-rewind undo 20261121-030000")
		if story == "after the run" {
			over()
		}
		var all sync.WaitGroup
		switch story {
		case "the main goroutine":
			defer Recover()
			panic("of the test")
		case "a group":
			all.Go(Do(func() { panic("of the test") }))
			all.Go(Do(func() { panic("of the test") }))
		case "a timer":
			time.AfterFunc(0, Do(func() { panic("of the test") }))
		default:
			go Do(func() { var p *int; fmt.Println(*p) })()
		}
		all.Wait()
		time.Sleep(time.Minute)
	}
	os.Exit(m.Run())
}

func TestAPanicInARunEndsWithItsWayBack(t *testing.T) {
	for _, story := range []string{"a goroutine", "the main goroutine", "a group", "a timer", "after the run"} {
		t.Run(story, func(t *testing.T) {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), "DEFECT_TEST="+story)
			out, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) {
				t.Fatalf("%v\n%s", err, out)
			}
			status, undo := Status, true
			if story == "after the run" {
				status, undo = 2, false
			}
			if exit.ExitCode() != status || strings.Contains(string(out), "To undo it: etcd-rewind undo 20261121-030000\n") != undo {
				t.Errorf("exit status %d\n%s", exit.ExitCode(), out)
			}
			if strings.Count(string(out), "terminal given back") != 1 {
				t.Errorf("the terminal was given back %d times", strings.Count(string(out), "terminal given back"))
			}
		})
	}
}
