package ui

import (
	"io"
	"time"

	"etcd-rewind/snapshot"
	"etcd-rewind/trust"
	"etcd-rewind/ui/text"
)

// PrintComparison prints what restoring a snapshot would bring back, take away
// and turn back.
func PrintComparison(w io.Writer, c *snapshot.Comparison, o text.DiffOptions) error {
	return printLines(w, text.Comparison(c, o, time.Now(), textWidth(w)))
}

// JSONComparison prints the same as one object.
func JSONComparison(w io.Writer, c *snapshot.Comparison, at time.Time) error {
	return trust.JSON(w).Encode(struct {
		Type string    `json:"type"`
		Time time.Time `json:"time"`
		*snapshot.Comparison
	}{"comparison", at, c})
}
