package settle

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"etcd-rewind/problem"
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
	Said  string `json:"said,omitempty"`  // what came of it
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
	f, err := os.OpenFile(filepath.Join(stateDir, Record), os.O_RDWR|os.O_APPEND|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := endLine(f); err != nil {
		return err
	}
	if err := trust.JSON(f).Encode(s); err != nil {
		return err
	}
	return f.Sync()
}

// endLine ends a line that a crash has cut off: what comes after it would be lost
// with it.
func endLine(f *os.File) error {
	st, err := f.Stat()
	if err != nil || st.Size() == 0 {
		return err
	}
	last := make([]byte, 1)
	if _, err := f.ReadAt(last, st.Size()-1); err != nil || last[0] == '\n' {
		return err
	}
	_, err = f.Write([]byte("\n"))
	return err
}

// Do settles a debt, with a line in the record before it and one after. A debt
// whose line can't be written isn't settled. It is safe to call twice.
func Do(ctx context.Context, stateDir string, d Debt) (Settled, error) {
	s := Settled{Time: time.Now().UTC(), Debt: d}
	if d.settle == nil {
		return s, errors.New("this has to be done by hand")
	}
	if err := Note(stateDir, s); err != nil {
		s.Error = problem.Line(err)
		return s, fmt.Errorf("nothing was done: the record can't be written: %w", err)
	}
	said, err := d.Settle(ctx)
	s.Time, s.Done = time.Now().UTC(), err == nil
	if s.Said = said; err != nil {
		s.Said = ""
		s.Error, _ = problem.Explain(err)
	}
	return s, errors.Join(err, Note(stateDir, s))
}

// mostRead bounds what is read of a record, its end.
const mostRead = 1 << 20

// Read is what was settled, oldest first, and what was meant to be and wasn't
// finished; none where nothing was. Of a long record it is the end.
func Read(stateDir string) ([]Settled, error) {
	path := filepath.Join(stateDir, Record)
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err := trust.File(path); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if from := st.Size() - mostRead; from > 0 {
		if _, err := f.Seek(from, io.SeekStart); err != nil {
			return nil, err
		}
	}
	data, err := io.ReadAll(io.LimitReader(f, mostRead))
	if err != nil {
		return nil, err
	}
	var out []Settled
	for line := range bytes.Lines(data) {
		var s Settled
		if json.Unmarshal(line, &s) != nil || s.Kind == "" {
			continue // the end of a line that was cut, by a crash or by mostRead
		}
		// A line after it was done takes the place of the one before.
		if n := len(out) - 1; n >= 0 && !out[n].Done && out[n].Error == "" && out[n].Kind == s.Kind && out[n].Object == s.Object {
			out = out[:n]
		}
		out = append(out, s)
	}
	return out, nil
}
