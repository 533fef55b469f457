package print

import (
	"io"
	"time"

	"etcd-rewind/outbox"
	"etcd-rewind/restore"
	"etcd-rewind/settle"
	"etcd-rewind/snapshot"
	"etcd-rewind/steps"
	"etcd-rewind/trust"
	"etcd-rewind/ui/text"
)

// JSONComparison prints what Comparison does as one object.
func JSONComparison(w io.Writer, c *snapshot.Comparison, at time.Time) error {
	return trust.JSON(w).Encode(struct {
		Type string    `json:"type"`
		Time time.Time `json:"time"`
		*snapshot.Comparison
		Owed []settle.Coming `json:"owed,omitempty"` // after the restore
	}{"comparison", at, c, settle.Foretell(c)})
}

// JSONInspected prints what Inspected does as one object.
func JSONInspected(w io.Writer, i text.Inspected, at time.Time) error {
	out := struct {
		Type string    `json:"type"`
		Time time.Time `json:"time"`
		*snapshot.Info
		Node     string          `json:"node,omitempty"`
		Verdicts []steps.Verdict `json:"verdicts,omitempty"`
		NoNode   string          `json:"no_verdict,omitempty"`
	}{"snapshot", at, i.Info, i.Node, i.Verdicts, i.NoNode}
	return trust.JSON(w).Encode(out)
}

// NewJSON returns a printer of events as JSON, one object a line; those of
// several nodes each with its node.
func NewJSON(w io.Writer) *Printer {
	enc := trust.JSON(w)
	return &Printer{out: outbox.New(func(what any) {
		if ev, ok := what.(restore.NodeEvent); ok {
			_ = enc.Encode(ev)
		}
	}, outbox.Post)}
}

// JSONChecked prints the checks as JSON, a line each, with their node where there
// are several. last adds the result of checks that nothing follows: ok when
// nothing blocks a restore.
func JSONChecked(w io.Writer, all []restore.Checked, last bool, at time.Time) error {
	enc := trust.JSON(w)
	var verdicts []steps.Verdict
	for _, c := range all {
		verdicts = append(verdicts, c.Verdicts...)
		for _, v := range c.Verdicts {
			line := struct {
				Type string    `json:"type"`
				Time time.Time `json:"time"`
				Node string    `json:"node,omitempty"`
				steps.Verdict
			}{"check", at, c.Node, v}
			if err := enc.Encode(line); err != nil {
				return err
			}
		}
	}
	if !last {
		return nil
	}
	r := &steps.Result{OK: true}
	state := steps.Done
	if s := text.Blocked(verdicts); s != "" {
		r.OK, state = false, steps.Failed
		b := steps.Blocking(verdicts)[0]
		r.Error = &steps.Failure{Title: "Check", Cause: s, Hint: b.Hint}
	}
	return enc.Encode(steps.Event{Type: steps.TypeResult, Time: at, State: state, Result: r})
}

// JSONFailure prints the result of something that failed before it could run.
func JSONFailure(w io.Writer, err error, at time.Time) error {
	cause, advice := text.Explain(err)
	r := &steps.Result{Reverted: true, Error: &steps.Failure{Cause: cause, Hint: advice}}
	return trust.JSON(w).Encode(steps.Event{Type: steps.TypeResult, Time: at, State: steps.Failed, Result: r})
}
