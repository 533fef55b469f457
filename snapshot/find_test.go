package snapshot

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestFind(t *testing.T) {
	dir := t.TempDir()
	whole := fixture(t, "before")
	now := time.Now()
	write := func(name string, data []byte, minutes int) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		when := now.Add(-time.Duration(minutes) * time.Minute)
		if err := os.Chtimes(path, when, when); err != nil {
			t.Fatal(err)
		}
	}
	write("a/old.db", whole, 60)
	write("a/no-name-to-tell", whole, 30)
	write("a/cut-short", whole[:300*512], 31)
	write("a/copied.snapshot", withoutTrailer(whole), 20)
	write("a/truncated.db", whole[:4096*50], 10)
	write("a/packed.db.gz", gzipped(t, whole), 5)
	write("a/also-packed", zstandard(t, whole), 6)
	write("a/cut-off.db.gz", []byte("\x1f\x8b..."), 7)
	write("a/syslog.1.gz", gzipped(t, []byte("hello")), 7)
	write("a/syslog.2.gz", []byte("\x1f\x8b..."), 7)
	write("a/notes.txt", []byte("hello"), 1)
	write("a/my-backup", []byte("hello"), 2)
	write("a/below/deep.db", whole, 1)
	write("b/newest.db", whole, 0)
	if err := os.Symlink("nowhere", filepath.Join(dir, "b", "dangling.db")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(dir, "a"), filepath.Join(dir, "again")); err != nil {
		t.Fatal(err)
	}

	var got []string
	for _, c := range Find([]string{filepath.Join(dir, "a"), filepath.Join(dir, "missing"), filepath.Join(dir, "b"), filepath.Join(dir, "again")}) {
		what := string(c.Hash)
		if c.Err != nil {
			what = c.Err.Code
		}
		if c.Err == nil && c.Format != Raw {
			what += " " + string(c.Format)
		}
		if packed, told := c.Err == nil && c.Format != Raw, c.Inside > 0; packed != told || packed && c.Inside > int64(len(whole)) {
			t.Errorf("%s: %d bytes inside, the snapshot has %d", c.Path, c.Inside, len(whole))
		}
		got = append(got, filepath.Base(c.Path)+" "+what)
	}
	want := []string{
		"newest.db unchecked", "my-backup not-bolt", "packed.db.gz unchecked gzip", "also-packed unchecked zstd", "cut-off.db.gz truncated", "truncated.db truncated",
		"copied.snapshot missing", "no-name-to-tell unchecked", "cut-short truncated", "old.db unchecked", "dangling.db missing",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestFindInACrowdKeepsTheNewestSnapshots(t *testing.T) {
	dir := t.TempDir()
	for i := range maxOpen + 100 {
		name := filepath.Join(dir, fmt.Sprintf("etcd-%04d.db", i))
		if err := os.WriteFile(name, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		when := time.Now().Add(time.Duration(i-1000) * time.Minute)
		if err := os.Chtimes(name, when, when); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("a%04d", i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got := Find([]string{dir})
	if len(got) != maxOpen || filepath.Base(got[0].Path) != fmt.Sprintf("etcd-%04d.db", maxOpen+99) {
		t.Errorf("%d candidates, the first %v", len(got), got[0].Path)
	}
}

func TestUsualPlacesExist(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	places := UsualPlaces()
	if len(places) == 0 || places[0] != dir {
		t.Errorf("the working directory isn't first in %v", places)
	}
	for _, p := range places {
		if st, err := os.Stat(p); err != nil || !st.IsDir() {
			t.Errorf("%s: %v", p, err)
		}
	}
}
