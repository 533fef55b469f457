package steps

// Level is how bad a verdict is.
type Level string

// The levels. An error blocks the restore, a warning has to be accepted by
// name, a pass is shown and nothing more.
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
}

// Blocks says whether the restore may not continue because of this verdict.
func (v Verdict) Blocks() bool { return v.Level != Pass && !v.Accepted }

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
