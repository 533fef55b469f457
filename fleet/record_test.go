package fleet

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The record of a run names the command by which root reaches the other nodes:
// one that others could have written is not read.
func TestARecordThatOthersCouldHaveWrittenIsNotObeyed(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state")
	dir := filepath.Join(state, "20261120-212605")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := writeRecord(dir, Record{Run: filepath.Base(dir), Me: "cp1", Nodes: []Host{{Name: "cp1"}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadRecord(dir); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{state, dir, filepath.Join(dir, recordName)} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, 0o777); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadRecord(dir); err == nil || !strings.Contains(err.Error(), "isn't obeyed") {
			t.Errorf("%s may be written by others: %v", path, err)
		}
		if err := os.Chmod(path, info.Mode()); err != nil {
			t.Fatal(err)
		}
	}
}
