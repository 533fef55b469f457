package ui

import (
	"io"
	"time"

	"etcd-rewind/snapshot"
	"etcd-rewind/steps"
	"etcd-rewind/trust"
	"etcd-rewind/ui/text"
)

// PrintInspected prints what is in a snapshot.
func PrintInspected(w io.Writer, i text.Inspected) error {
	return printLines(w, text.Inspection(i, time.Now(), textWidth(w)))
}

// JSONInspected prints the same as one object.
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

// PrintSaved prints where a snapshot was saved.
func PrintSaved(w io.Writer, info *snapshot.Info) error {
	return printLines(w, append(
		[]string{text.SymDone + " " + trust.Text(info.Name)},
		text.FactsWhole([]steps.Fact{
			{Name: "revision", Value: text.Number(info.Revision)},
			{Name: "keys", Value: text.Number(int64(info.Keys))},
			{Name: "size", Value: text.Size(info.Size)},
			{Name: "sha256", Value: info.SHA256},
		}, textWidth(w))...,
	))
}
