package settle

import (
	"errors"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"etcd-rewind/trust"
)

// Record is the file below a state directory that has what was settled, a line
// of JSON each, oldest first.
const Record = "settled.jsonl"

// Settled is a debt that was settled, or wasn't.
type Settled struct {
	Time time.Time `json:"time"`
	Debt
	Done  bool   `json:"done"`            // false before it is done, and when it failed
	Error string `json:"error,omitempty"` // why it failed
}

// Note writes a line into the record, on the disk before it returns: one before
// a debt is settled, one after.
func Note(stateDir string, s Settled) (err error) {
	if err := os.MkdirAll(stateDir, 0o700); err != nil {
		return err
	}
	if err := trust.Dir(stateDir); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(stateDir, Record), os.O_WRONLY|os.O_APPEND|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := trust.JSON(f).Encode(s); err != nil {
		return err
	}
	return f.Sync()
}
