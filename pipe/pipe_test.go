package pipe

import (
	"bufio"
	"context"
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"
)

func sh(script string) *exec.Cmd { return exec.Command("/bin/sh", "-c", script) }

func TestAConnectionEndsWithItsInput(t *testing.T) {
	c, err := Start(t.Context(), sh(`while read -r l; do echo "got $l"; done; echo over >&2`), Ends{After: time.Minute}, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.In.Write([]byte("hello\n")); err != nil {
		t.Fatal(err)
	}
	if l, err := bufio.NewReader(c.Out).ReadString('\n'); l != "got hello\n" {
		t.Fatal(l, err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := c.Close(); err != nil {
		t.Error("closed twice:", err)
	}
	if said := c.Said(); said != "over" {
		t.Errorf("%q", said)
	}
}

func TestNothingIsStartedOnceTheContextHasEnded(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	cmd := sh("exit 0")
	if _, err := Start(ctx, cmd, Ends{}, ""); !errors.Is(err, context.Canceled) || cmd.Process != nil {
		t.Errorf("%v, process %v", err, cmd.Process)
	}
}

func TestAProcessThatStaysIsKilled(t *testing.T) {
	c, err := Start(t.Context(), sh(`trap '' TERM HUP; exec sleep 1000`), Ends{Kill: true}, "")
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	_ = c.Close()
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("after %s", took)
	}
}

// What another host's programs write is no more than three lines, without
// control characters, and without the script that a shell repeats.
func TestWhatAProcessSaidIsOneSafeLine(t *testing.T) {
	c, err := Start(t.Context(), sh(`printf 'first\nsecond\n\n\033[31mred: SCRIPT\r\n`+strings.Repeat("x", 5000)+`\n' >&2`), Ends{After: time.Minute}, "SCRIPT")
	if err != nil {
		t.Fatal(err)
	}
	said := c.Said()
	if len(said) > 3*(longestLine+5) || strings.Contains(said, "\033") || strings.Contains(said, "SCRIPT") || strings.Contains(said, "first") {
		t.Errorf("%q", said)
	}
}

func TestAskingEndsWithTheLastAnswer(t *testing.T) {
	type answer struct{ N int }
	for script, want := range map[string]bool{
		`read -r _; echo '{"N":1}{"N":2}'; cat >/dev/null`: true, // ends when its input does
		`read -r _; echo '{"N":1}'; exit 3`:                false,
		`echo no JSON`:                                     false,
	} {
		whole, err := Ask(sh(script), []byte("a request"), func(a answer) bool { return a.N == 2 })
		if whole != want || want && err != nil {
			t.Errorf("%s: %v, %v", script, whole, err)
		}
	}
	_, err := Ask(exec.Command("/nowhere"), nil, func(answer) bool { return true })
	if start := (StartError{}); !errors.As(err, &start) {
		t.Errorf("a program that isn't there: %v", err)
	}
}
