package steps

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"etcd-rewind/snapshot"
)

// A packed snapshot is listed with the others, unpacked when it is looked into,
// and nothing of that is left in the end.
func TestAPackedSnapshotIsACandidate(t *testing.T) {
	dir := t.TempDir()
	packed := filepath.Join(dir, "nightly.db.gz")
	data, err := os.ReadFile("../snapshot/testdata/before.db.gz")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(packed, data, 0o600); err != nil {
		t.Fatal(err)
	}
	when := time.Now().Add(-26 * time.Hour).Truncate(time.Second)
	if err := os.Chtimes(packed, when, when); err != nil {
		t.Fatal(err)
	}
	s := &Session{Options: Options{Snapshots: []string{dir}}}
	list := s.Candidates(t.Context(), nil)
	if len(list) != 1 || list[0].Path != packed || list[0].Format != snapshot.Gzip || list[0].Err != nil || list[0].Inside < list[0].Size {
		t.Fatalf("found %+v", list)
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("listing it has unpacked it: %v", left)
	}
	info, err := s.Inspect(t.Context(), packed, nil)
	if err != nil {
		t.Fatal(err)
	}
	if info.Path == packed || info.Hash != snapshot.HashOK || !info.ModTime.Equal(when) {
		t.Errorf("looked into %s of %v, hash %s", info.Path, info.ModTime, info.Hash)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
}
