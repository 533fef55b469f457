package steps

import (
	"time"

	"etcd-rewind/problem"
)

// Drills is what drills on this node have come to, in a file beside that of the
// backups. Field names are a format: they stay.
type Drills struct {
	// Seconds is how long the last proven one took, of whatever snapshot.
	Seconds float64 `json:"seconds,omitempty"`
	// Latest is the last one of the latest backup; nil before the first.
	Latest *DrillResult `json:"latest,omitempty"`
}

// DrillResult is how a drill of the latest backup went.
type DrillResult struct {
	Time     time.Time        `json:"time"` // when it ended
	Snapshot string           `json:"snapshot"`
	Taken    time.Time        `json:"taken,omitzero"` // the snapshot
	Proven   bool             `json:"proven"`
	Error    *problem.Problem `json:"error,omitempty"` // of the backup, or why the drill couldn't run
	// RecoverySeconds is from the fetch until the API was ready.
	RecoverySeconds float64 `json:"recovery_seconds,omitempty"`
	Seconds         float64 `json:"seconds,omitempty"` // all of it
}

const drillsFile = "drill.json"

// ReadDrills reads it from the directory of the backups; empty when there was no
// drill. The error is a *problem.Problem.
func ReadDrills(dir string) (Drills, error) {
	var d Drills
	if _, err := readJSON(dir, drillsFile, &d, "remove it: the next drill writes it again"); err != nil {
		return Drills{}, err
	}
	return d, nil
}

// Write replaces the file in the directory of the backups, which is made when it
// isn't there.
func (d Drills) Write(dir string) error { return replaceJSON(dir, drillsFile, d) }
