package print

import (
	"io"
	"time"

	"etcd-rewind/drill"
	"etcd-rewind/trust"
	"etcd-rewind/ui/text"
)

// Drill prints what a drill found.
func Drill(w io.Writer, r *drill.Report, now time.Time) error {
	return printLines(w, text.Drill(r, now, WidthOf(w)))
}

// JSONDrill prints what Drill does as one object.
func JSONDrill(w io.Writer, r *drill.Report, at time.Time) error {
	return trust.JSON(w).Encode(struct {
		Type string    `json:"type"`
		Time time.Time `json:"time"`
		*drill.Report
	}{"drill", at, r})
}
