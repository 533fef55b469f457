package snapshot

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"etcd-rewind/problem"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
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
	for _, c := range Find(t.Context(), []string{filepath.Join(dir, "a"), filepath.Join(dir, "missing"), filepath.Join(dir, "b"), filepath.Join(dir, "again")}) {
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
	got := Find(t.Context(), []string{dir})
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

// bomb is a small file that expands to size zeros, in an archive behind a
// file's header when head is.
func bomb(t *testing.T, zip func(io.Writer) io.WriteCloser, head []byte, size int64) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip(&b)
	_, err := z.Write(head)
	for zeros := make([]byte, 1<<20); size > 0 && err == nil; size -= int64(len(zeros)) {
		_, err = z.Write(zeros)
	}
	if err := errors.Join(err, z.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func gzipWriter(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) }

func zstdWriter(w io.Writer) io.WriteCloser {
	z, err := zstd.NewWriter(w, zstd.WithWindowSize(1<<20))
	if err != nil {
		panic(err)
	}
	return z
}

// hugeMember is the beginning of an archive whose first file has a terabyte.
func hugeMember(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := tar.NewWriter(&b).WriteHeader(&tar.Header{Name: "x", Typeflag: tar.TypeReg, Size: 1 << 40, Mode: 0o600}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Anybody can put a megabyte into /tmp that expands to gigabytes. A quick look
// expands no more of it than an honest archive needs, and unpacking it ends.
func TestABombIsNotExpanded(t *testing.T) {
	const size = 128 << 20
	for name, data := range map[string][]byte{
		"gzip":           bomb(t, gzipWriter, nil, size),
		"zstd":           bomb(t, zstdWriter, nil, size),
		"tar in gzip":    bomb(t, gzipWriter, hugeMember(t), size),
		"tar in zstd":    bomb(t, zstdWriter, hugeMember(t), size),
		"many in a gzip": bytes.Repeat(bomb(t, gzipWriter, nil, 8<<20), 16),
	} {
		p, err := unwrap(bufio.NewReader(bytes.NewReader(data)), maxInside, 1, nil)
		if err != nil {
			t.Fatal(err)
		}
		if p.tar != nil {
			firstSnapshot(p.tar)
		}
		_, err = io.Copy(io.Discard, p.r)
		if p.close(); p.inside.read > maxInside {
			t.Errorf("%s: %d bytes came out of it", name, p.inside.read)
		}
		wantProblem(t, err, CodeStructure)

		path, dir := file(t, "bomb.db.gz", data), t.TempDir()
		if _, _, err := QuickPacked(path); problem.Of(err) == nil {
			t.Errorf("%s passes for a snapshot: %v", name, err)
		}
		if _, err := Stage(t.Context(), File(path), dir, nil); problem.Of(err) == nil {
			t.Errorf("%s is unpacked: %v", name, err)
		}
		isEmpty(t, dir)
	}
}

// A file whose pages claim more than could be in it is refused before anything
// is written.
func TestAFileThatClaimsMoreThanItCanHoldIsNotUnpacked(t *testing.T) {
	huge := fixture(t, "before")
	claim := func(pages uint64) []byte {
		for page := range 2 {
			meta := huge[page*4096+metaOffset:]
			binary.NativeEndian.PutUint64(meta[40:], pages)
			h := fnv.New64a()
			_, _ = h.Write(meta[:56])
			binary.NativeEndian.PutUint64(meta[56:], h.Sum64())
		}
		return huge
	}
	dir := t.TempDir()
	_, err := Stage(t.Context(), File(file(t, "huge.db.gz", gzipped(t, claim(1<<20)))), dir, nil) // 4 GB
	if p := wantProblem(t, err, CodeStructure); !strings.Contains(p.Cause, "4294 MB") {
		t.Error(p.Cause)
	}
	// A size that doesn't fit 63 bits is none.
	for _, pages := range []uint64{1 << 52, 1<<51 - 1, 1 << 40} {
		if _, err := Stage(t.Context(), File(file(t, "endless.db.gz", gzipped(t, claim(pages)))), dir, nil); problem.Of(err) == nil {
			t.Errorf("%d pages: %v", pages, err)
		}
		if _, err := Quick(file(t, "endless.db", claim(pages))); problem.Of(err) == nil {
			t.Errorf("%d pages: %v", pages, err)
		}
	}
	isEmpty(t, dir)
}

// The search ends when its time is up, and shows what it has and what it didn't
// get to.
func TestASearchThatIsCutShortShowsWhatItHas(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "good.db"), fixture(t, "before"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	got := Find(ctx, []string{dir})
	if len(got) != 1 || got[0].Path != dir || got[0].Err == nil || got[0].Err.Hint == "" {
		t.Errorf("a search that was over before it began: %+v", got)
	}
	if got := Find(t.Context(), []string{dir}); len(got) != 1 || got[0].Err != nil {
		t.Errorf("a whole search: %+v", got)
	}
}

// What is no snapshot is never opened, and what another user made is no link to
// follow: whatever lies in /tmp.
func TestTheSearchOpensFilesOnly(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	err := errors.Join(
		unix.Mkfifo(at("pipe.db"), 0o600),
		os.Symlink("/dev/zero", at("zero.db")),
		os.Symlink("/proc/kmsg", at("kmsg.db")), // whose reader waits
		os.Symlink("/proc/self/mem", at("mem.db")),
		os.Symlink(dir, at("dir.db")),
		os.Symlink("loop.db", at("loop.db")),
		os.WriteFile(at("sparse.db"), nil, 0o600),
		os.Truncate(at("sparse.db"), 1<<42),
	)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range Find(t.Context(), []string{dir}) {
		if c.Err == nil || c.Path == dir {
			t.Errorf("%+v", c)
		}
	}
}

// An earlier run's safety copy is the newest file there is, and the last that
// somebody wants to go back to.
func TestTheUsersBackupsComeBeforeSafetyCopies(t *testing.T) {
	dir := t.TempDir()
	for i, name := range []string{"nightly.db", SafetyCopy("20261120-120000"), "etcd-before-upgrade.db", SafetyCopy("20261121-120000-2")} {
		path := filepath.Join(dir, name)
		when := time.Now().Add(time.Duration(i-10) * time.Minute)
		if err := errors.Join(os.WriteFile(path, fixture(t, "before"), 0o600), os.Chtimes(path, when, when)); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for _, c := range Find(t.Context(), []string{dir}) {
		got = append(got, fmt.Sprintf("%s %v", filepath.Base(c.Path), c.Safety))
	}
	want := []string{"etcd-before-upgrade.db false", "nightly.db false", "etcd-before-20261121-120000-2.db true", "etcd-before-20261120-120000.db true"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

type ofUser struct {
	os.FileInfo
	uid uint32
}

func (f ofUser) Sys() any { return &syscall.Stat_t{Uid: f.uid} }

// Whose file it is, is said where it isn't root's: its name proves nothing.
func TestAFileOfAnotherUserIsMarked(t *testing.T) {
	other := uint32(os.Geteuid()) + 1234
	for uid, want := range map[uint32]string{0: "", uint32(os.Geteuid()): "", other: fmt.Sprintf("uid %d", other)} {
		if got := owner(ofUser{uid: uid}); got != want {
			t.Errorf("%d: %q", uid, got)
		}
	}
}
