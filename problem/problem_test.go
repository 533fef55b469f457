package problem

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"testing"
)

// Whatever an error went through, all that was said of it is in the cause, and
// the hint is the first that anybody had.
func TestAnErrorIsExplainedOnce(t *testing.T) {
	full := &fs.PathError{Op: "write", Path: "/x", Err: syscall.ENOSPC}
	const free = "free space there (df -h, df -i), then retry"
	for _, c := range []struct {
		name        string
		err         error
		cause, hint string
	}{
		{"plain", errors.New("no"), "no", ""},
		{"a problem", New("do this", "it is %d", 1), "it is 1", "do this"},
		{"wrapped", fmt.Errorf("while: %w", New("do this", "it is so")), "while: it is so", "do this"},
		{"joined", errors.Join(errors.New("other"), New("do this", "it is so")), "other\nit is so", "do this"},
		{"a problem about a problem", New("", "the plan: %w", New("do this", "it is so")), "the plan: it is so", "do this"},
		{"its own hint first", New("mine", "the plan: %w", New("theirs", "it is so")), "the plan: it is so", "mine"},
		{"a full disk", full, full.Error(), free},
		{"a problem about a full disk", New("", "keep it: %w", full), "keep it: " + full.Error(), free},
	} {
		t.Run(c.name, func(t *testing.T) {
			if cause, hint := Explain(c.err); cause != c.cause || hint != c.hint {
				t.Errorf("%q, %q", cause, hint)
			}
		})
	}
}

func TestAProblemCrossesAPipe(t *testing.T) {
	line, err := json.Marshal(Coded("locked", "wait", "held: %w", fs.ErrExist))
	if err != nil {
		t.Fatal(err)
	}
	var back *Problem
	if err := json.Unmarshal(line, &back); err != nil {
		t.Fatal(err)
	}
	if !HasCode(fmt.Errorf("x: %w", back), "locked") || back.Cause != "held: file already exists" || back.Hint != "wait" {
		t.Errorf("%s", line)
	}
}
