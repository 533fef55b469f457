package steps

import (
	"context"
	"fmt"

	"etcd-rewind/problem"
	"etcd-rewind/snapshot"
)

// Level is how bad a verdict is.
type Level string

// The levels. An error blocks the restore, a warning has to be accepted by
// name unless it is advisory, a pass is shown and nothing more.
const (
	Pass  Level = "ok"
	Warn  Level = "warning"
	Error Level = "error"
)

// Verdict is the outcome of one named check.
type Verdict struct {
	Check string `json:"check"` // "disk-space": the name for --override
	Title string `json:"title"` // what was looked at, "Disk space"
	Level Level  `json:"level"`
	Cause string `json:"cause"` // one line, for a pass too: what was seen
	Hint  string `json:"hint,omitempty"`
	// Overridable says that an error may be overridden by name; warnings always
	// may.
	Overridable bool `json:"overridable,omitempty"`
	Accepted    bool `json:"accepted,omitempty"`
	// Advisory is a warning that blocks nothing: to know it is enough.
	Advisory bool `json:"advisory,omitempty"`
}

// Blocks says whether the restore may not continue because of this verdict.
func (v Verdict) Blocks() bool { return v.Level != Pass && !v.Accepted && !v.Advisory }

// Acceptable says whether the user may accept it by name.
func (v Verdict) Acceptable() bool {
	return v.Level == Warn || (v.Level == Error && v.Overridable)
}

// Accept marks the verdicts named as accepted, where they may be. It returns
// the names that fit no verdict or one that can't be accepted.
func Accept(verdicts []Verdict, names []string) (refused []string) {
	for _, name := range names {
		found := false
		for i := range verdicts {
			v := &verdicts[i]
			if v.Check != name {
				continue
			}
			if v.Level == Pass {
				found = true
			} else if v.Acceptable() {
				v.Accepted, found = true, true
			}
		}
		if !found {
			refused = append(refused, name)
		}
	}
	return refused
}

// Blocking returns the verdicts that block a run.
func Blocking(verdicts []Verdict) []Verdict {
	var b []Verdict
	for _, v := range verdicts {
		if v.Blocks() {
			b = append(b, v)
		}
	}
	return b
}

// checks is what the functions of checks work on.
type checks struct {
	ctx  context.Context
	f    *Facts
	info *snapshot.Info
	c    Choices

	locked bool // another run is under way
}

// none is the verdict of a check that has nothing to look at.
var none Verdict

func ok(format string, args ...any) Verdict {
	return Verdict{Level: Pass, Cause: fmt.Sprintf(format, args...)}
}

func warn(hint, format string, args ...any) Verdict {
	return Verdict{Level: Warn, Cause: fmt.Sprintf(format, args...), Hint: hint}
}

// advise is a warning that blocks nothing.
func advise(hint, format string, args ...any) Verdict {
	v := warn(hint, format, args...)
	v.Advisory = true
	return v
}

// bad is an error that can't be overridden; wrong is one that an
// engineer may override by name.
func bad(hint, format string, args ...any) Verdict {
	return Verdict{Level: Error, Cause: fmt.Sprintf(format, args...), Hint: hint}
}

// failed is bad with what an error says.
func failed(err error) Verdict {
	cause, hint := problem.Explain(err)
	return bad(hint, "%s", cause)
}

func wrong(hint, format string, args ...any) Verdict {
	return Verdict{Level: Error, Cause: fmt.Sprintf(format, args...), Hint: hint, Overridable: true}
}
