package fleet

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"etcd-rewind/restore"
	"etcd-rewind/steps"
)

// recordName is the file in the run's directory on every node that says whom
// the run is made with.
const recordName = "fleet.json"

// writeRecord writes the record into a run's directory, which has to be there.
func writeRecord(runDir string, r restore.Record) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	tmp := filepath.Join(runDir, recordName+".tmp")
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_EXCL|os.O_WRONLY|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(data, '\n'))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(runDir, recordName))
}

// ReadRecord reads with whom a run was made. The error is fs.ErrNotExist for a
// run of a single node.
func ReadRecord(runDir string) (*restore.Record, error) {
	if err := steps.Trusted(runDir, recordName); err != nil { // it names the command that is run as root to reach the others
		return nil, err
	}
	data, err := os.ReadFile(filepath.Join(runDir, recordName))
	if err != nil {
		return nil, err
	}
	var r restore.Record
	if err := decode(data, &r); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(runDir, recordName), err)
	}
	if r.Run != filepath.Base(runDir) || r.Me == "" || len(r.Nodes) == 0 {
		return nil, fmt.Errorf("%s is not that of run %s", filepath.Join(runDir, recordName), filepath.Base(runDir))
	}
	// Its hosts are dialled.
	if err := validRecord(r); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(runDir, recordName), err)
	}
	return &r, nil
}
