package steps

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"etcd-rewind/node"
	"etcd-rewind/problem"
	"etcd-rewind/trust"
)

// Backups is what the backups of this node have come to, as the last of them has
// left it in a file: nobody has to ask a store to know how old the last good one
// is. Field names are a format: they stay.
type Backups struct {
	Config string `json:"config"` // path
	// EverySeconds is the time between two rounds, and Enabled since when a timer
	// takes them; zero without one.
	EverySeconds int64     `json:"every_seconds,omitempty"`
	Enabled      time.Time `json:"enabled,omitzero"`

	Cluster string        `json:"cluster,omitempty"` // kube-system's UID
	Last    *BackupResult `json:"last,omitempty"`    // nil before the first
	// Locations are those of the last one.
	Locations []BackupLocation `json:"locations,omitempty"`
}

// BackupResult is how the last backup of this node went.
type BackupResult struct {
	Time  time.Time        `json:"time"`
	Round string           `json:"round,omitempty"`
	OK    bool             `json:"ok"`
	Error *problem.Problem `json:"error,omitempty"`
	// Seconds are how long it took; Bytes and Revision those of the snapshot that
	// it made, zero when it made none.
	Seconds  float64 `json:"seconds,omitempty"`
	Bytes    int64   `json:"bytes,omitempty"`
	Revision int64   `json:"revision,omitempty"`
}

// BackupLocation is how a location stands.
type BackupLocation struct {
	Location string `json:"location"`
	// Good is when the last good backup there was taken, and who took it; zero
	// when there is none that is known.
	Good     time.Time `json:"good,omitzero"`
	Round    string    `json:"round,omitempty"`
	Node     string    `json:"node,omitempty"`
	Revision int64     `json:"revision,omitempty"`
	// Failures are those since, the last of them at Failed.
	Failures int              `json:"failures,omitempty"`
	Failed   time.Time        `json:"failed,omitzero"`
	Error    *problem.Problem `json:"error,omitempty"`
	// Sending are the records of backups that are, or were, on their way: what
	// lies there without its record is half a one. Claims, too.
	Sending []string `json:"sending,omitempty"`
	// Swept is when uploads that nobody finishes were last looked for there.
	Swept time.Time `json:"swept,omitzero"`
	// Locked are rounds that couldn't be removed yet, and when that was tried.
	Locked      []string  `json:"locked,omitempty"`
	LockedTried time.Time `json:"locked_tried,omitzero"`
}

// BackupDir is where the backups of this node keep what they have to know.
func BackupDir(ctx context.Context, opts Options) (string, error) {
	dir := cmp.Or(opts.StateDir, node.Kubeadm.StateDir)
	if opts.Own && opts.StateDir == "" { // this machine's backups are none of its
		var err error
		if dir, err = StateDir(ctx, opts); err != nil {
			return "", err
		}
	}
	return filepath.Join(dir, backupDir), nil
}

const (
	backupDir   = "backup"
	backupsFile = "state.json"
	maxBackups  = 1 << 20
)

// ReadBackups reads it from its directory; nil without an error when no backup
// was set up here. The error is a *problem.Problem.
func ReadBackups(dir string) (*Backups, error) {
	var b Backups
	found, err := readJSON(dir, backupsFile, &b, "remove it: the next backup re-creates it")
	if err != nil || !found {
		return nil, err
	}
	return &b, nil
}

// readJSON reads a file that replaceJSON has written, and says whether it is
// there. The hint is for one that can't be understood. The error is a
// *problem.Problem.
func readJSON(dir, file string, into any, hint string) (found bool, err error) {
	path := filepath.Join(dir, file)
	st, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err == nil && st.Size() > maxBackups {
		err = fmt.Errorf("%s is too long", path)
	}
	if err == nil {
		if err = trust.Dir(dir); err == nil {
			err = trust.Own(path)
		}
	}
	var data []byte
	if err == nil {
		data, err = os.ReadFile(path)
	}
	if err == nil {
		if err = json.Unmarshal(data, into); err != nil {
			err = problem.New(hint, "%s can't be read: %w", path, err)
		}
	}
	if err != nil {
		return false, problem.From(err)
	}
	return true, nil
}

// Write replaces the file in its directory, which is made when it isn't there:
// the old one is there until the new one is on the disk.
func (b *Backups) Write(dir string) error { return replaceJSON(dir, backupsFile, b) }

// replaceJSON replaces a file in a directory that is made when it isn't there.
func replaceJSON(dir, file string, value any) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	data, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, "."+file+"-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // renamed, or not worth keeping
	_, err = f.Write(append(data, '\n'))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), filepath.Join(dir, file))
}

// At is how a location stands, made when it isn't known yet.
func (b *Backups) At(location string) *BackupLocation {
	for i := range b.Locations {
		if b.Locations[i].Location == location {
			return &b.Locations[i]
		}
	}
	b.Locations = append(b.Locations, BackupLocation{Location: location})
	return &b.Locations[len(b.Locations)-1]
}

// Every is the time between two rounds, zero without a timer.
func (b *Backups) Every() time.Duration {
	if b.Enabled.IsZero() {
		return 0
	}
	return time.Duration(b.EverySeconds) * time.Second
}

// Good is when the last good backup was taken, wherever it lies; zero when none is
// known.
func (b *Backups) Good() time.Time {
	var last time.Time
	for _, l := range b.Locations {
		if l.Good.After(last) {
			last = l.Good
		}
	}
	return last
}

// TooOld says whether the last good backup is older than twice the time between
// two; never without a schedule.
func TooOld(good time.Time, every time.Duration, now time.Time) bool {
	return every > 0 && now.Sub(good) > 2*every
}
