// Package problem has the one error that a user can act on, with a cause and a
// hint, and the one function that explains an error. The package where an error
// occurs words it; ui shows it.
package problem

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// Problem says what is wrong, and what can be done about it. It is plain data,
// and crosses to other processes and nodes as it is.
type Problem struct {
	// Code names the kind, for code that decides by it, tests and machine
	// output; "" where nobody asks. The packages have their codes as constants.
	Code  string `json:"code,omitempty"`
	Cause string `json:"cause"` // one line, with the words of the error underneath
	Hint  string `json:"hint,omitempty"`

	err error
}

// Error is the cause without the hint.
func (p *Problem) Error() string { return p.Cause }

// Unwrap is the error underneath, nil when there is none.
func (p *Problem) Unwrap() error { return p.err }

// New makes a Problem of a hint and a cause as fmt.Errorf takes it, %w included.
func New(hint, cause string, args ...any) *Problem { return Coded("", hint, cause, args...) }

// Coded is New with a code.
func Coded(code, hint, cause string, args ...any) *Problem {
	err := fmt.Errorf(cause, args...)
	return &Problem{Code: code, Cause: err.Error(), Hint: hint, err: errors.Unwrap(err)}
}

// About is the same problem with what it is about before its cause.
func (p *Problem) About(what string) *Problem {
	return &Problem{Code: p.Code, Cause: what + ": " + p.Cause, Hint: p.Hint, err: p}
}

// Of is the outermost Problem in err, nil when there is none.
func Of(err error) *Problem {
	p, _ := errors.AsType[*Problem](err)
	return p
}

// From is err as a Problem, explained.
func From(err error) *Problem {
	out := &Problem{err: err}
	out.Cause, out.Hint = Explain(err)
	if p := Of(err); p != nil {
		out.Code = p.Code
	}
	return out
}

// HasCode says whether err is a Problem of this kind.
func HasCode(err error, code string) bool {
	p := Of(err)
	return p != nil && p.Code == code
}

// Explain gives an error's cause, with all that was said of it on its way, and
// what to do about it: the first hint that anybody had, "" where nothing is
// known that helps.
func Explain(err error) (cause, hint string) {
	for p := Of(err); p != nil; p = Of(p.err) {
		if p.Hint != "" {
			return err.Error(), p.Hint
		}
	}
	return err.Error(), ofSystem(err)
}

// Line is cause and hint on one line, for where there is but one.
func Line(err error) string {
	cause, hint := Explain(err)
	if hint == "" {
		return cause
	}
	return cause + "; " + hint
}

// ofSystem is what a person can do about what a disk says.
func ofSystem(err error) string {
	if errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 {
		return "it has to run as root"
	}
	for _, f := range faults {
		if errors.Is(err, f.errno) {
			return f.hint
		}
	}
	return ""
}

var faults = []struct {
	errno syscall.Errno
	hint  string
}{
	{syscall.ENOSPC, "free space there (df -h, df -i), then retry"},
	{syscall.EDQUOT, "free space there, or raise the quota, then retry"},
	{syscall.EROFS, "the file system is read-only, perhaps after a disk error: check dmesg, remount it, then retry"},
	{syscall.EIO, "the disk has errors: check dmesg"},
	{syscall.EACCES, "check who can write there: ls -ld, lsattr -d, SELinux's audit log"},
	{syscall.EPERM, "check who can write there: ls -ld, lsattr -d, SELinux's audit log"},
}
