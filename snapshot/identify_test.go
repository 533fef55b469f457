package snapshot

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	bolt "go.etcd.io/bbolt"
)

// Whose data a directory holds is known from its files, also while an etcd has
// the database open, and also when the database is damaged.
func TestIdentifyNamesTheCluster(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "etcd")
	made, err := Restore(t.Context(), request(file(t, "s.db", fixture(t, "before")), dir), nil)
	if err != nil {
		t.Fatal(err)
	}
	running, err := bolt.Open(dbPath(dir), 0o600, nil) // an etcd's lock
	if err != nil {
		t.Fatal(err)
	}
	id, err := Identify(t.Context(), dir, "")
	if err != nil || id.ClusterID != made.ClusterID || id.MemberID != made.MemberID || !id.Database || id.Size != made.Bytes || id.Inode == 0 || id.Committed == 0 {
		t.Errorf("%+v %v, made %+v", id, err, made)
	}
	if err := running.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(dbPath(dir), 4096); err != nil {
		t.Fatal(err)
	}
	if id, err := Identify(t.Context(), dir, ""); err != nil || id.ClusterID != made.ClusterID || id.Database || id.DatabaseErr == "" || id.Size != 4096 {
		t.Errorf("damaged: %+v %v", id, err)
	}
}

// What isn't there names nothing, and a pipe or a disk that hangs isn't waited
// for.
func TestIdentifyOfWhatIsNone(t *testing.T) {
	dir := t.TempDir()
	if id, err := Identify(t.Context(), dir, ""); err != nil || id.Database || id.Size != 0 || id.ClusterID != 0 || id.WALErr == "" {
		t.Errorf("nothing: %+v %v", id, err)
	}
	for _, name := range []string{dbPath(dir), filepath.Join(walPath(dir, ""), "0000000000000000-0000000000000000.wal")} {
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mkfifo(name, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if id, err := Identify(t.Context(), dir, ""); err != nil || id.Database || id.ClusterID != 0 {
		t.Errorf("pipes: %+v %v", id, err)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Identify(over, dir, ""); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
