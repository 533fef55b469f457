package ui

import (
	"encoding/json"
	"io"
	"time"

	"etcd-rewind/steps"
	"etcd-rewind/trust"
)

// NewJSON returns a printer of events as JSON, one object a line; those of
// several nodes each with its node.
func NewJSON(w io.Writer) *Printer {
	enc := newEncoder(w)
	return &Printer{out: newOutbox(func(what any) {
		switch what := what.(type) {
		case eventMsg:
			_ = enc.Encode(what.Event)
		case nodeEventMsg:
			_ = enc.Encode(what.NodeEvent)
		}
	})}
}

func newEncoder(w io.Writer) *json.Encoder { return trust.JSON(w) }

// JSONVerdicts prints the checks as JSON, a line each.
func JSONVerdicts(w io.Writer, verdicts []steps.Verdict, at time.Time) error {
	enc := newEncoder(w)
	for _, v := range verdicts {
		line := struct {
			Type string    `json:"type"`
			Time time.Time `json:"time"`
			steps.Verdict
		}{"check", at, v}
		if err := enc.Encode(line); err != nil {
			return err
		}
	}
	return nil
}

// JSONChecked prints the result of checks that nothing follows: ok when nothing
// stands in the way.
func JSONChecked(w io.Writer, verdicts []steps.Verdict, at time.Time) error {
	r := &steps.Result{OK: true}
	state := steps.Done
	if s := standing(verdicts); s != "" {
		r.OK, state = false, steps.Failed
		b := steps.Blocking(verdicts)[0]
		r.Error = &steps.Failure{Title: "Check", Cause: s, Hint: b.Hint}
	}
	return newEncoder(w).Encode(steps.Event{Type: steps.TypeResult, Time: at, State: state, Result: r})
}

// JSONFailure prints the result of something that failed before it could run.
func JSONFailure(w io.Writer, err error, at time.Time) error {
	cause, advice := explain(err)
	r := &steps.Result{PutBack: true, Error: &steps.Failure{Cause: cause, Hint: advice}}
	return newEncoder(w).Encode(steps.Event{Type: steps.TypeResult, Time: at, State: steps.Failed, Result: r})
}
