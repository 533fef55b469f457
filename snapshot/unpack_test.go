package snapshot

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/klauspost/compress/zstd"

	"etcd-rewind/problem"
	"etcd-rewind/trust"
)

func gzipped(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err := w.Write(data)
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func zstandard(t testing.TB, data []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	return w.EncodeAll(data, nil)
}

type member struct {
	name string
	data []byte
}

func tarred(t testing.TB, entries ...member) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	err := w.WriteHeader(&tar.Header{Name: "backup/", Typeflag: tar.TypeDir, Mode: 0o700})
	for _, e := range entries {
		err = errors.Join(err, w.WriteHeader(&tar.Header{Name: e.name, Typeflag: tar.TypeReg, Size: int64(len(e.data)), Mode: 0o644}))
		_, werr := w.Write(e.data)
		err = errors.Join(err, werr)
	}
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestUnpackKnowsTheFormatByContent(t *testing.T) {
	whole := fixture(t, "before")
	archive := tarred(t, member{"backup/readme.txt", []byte("of last night")}, member{"backup/etcd.db", whole}, member{"backup/pki.tar", make([]byte, 4000)})
	for _, c := range []struct {
		name, inside string
		format       Format
		data         []byte
	}{
		{"gzip named .db", "", Gzip, gzipped(t, whole)},
		{"gzip of two members", "", Gzip, append(gzipped(t, whole[:5000]), gzipped(t, whole[5000:])...)},
		{"zstd named .db", "", Zstd, zstandard(t, whole)},
		{"tar", "backup/etcd.db", Tar, archive},
		{"tar.gz", "backup/etcd.db", TarGzip, gzipped(t, archive)},
		{"tar.zst", "backup/etcd.db", TarZstd, zstandard(t, archive)},
	} {
		t.Run(c.name, func(t *testing.T) {
			path, dir := file(t, "snapshot.db", c.data), t.TempDir()
			var last, total int64
			u, err := Stage(context.Background(), File(path), dir, func(d, n int64) { last, total = d, n })
			if err != nil {
				t.Fatal(err)
			}
			if u.Format != c.format || u.Inside != c.inside || u.Name != path || u.Size != int64(len(whole)) {
				t.Errorf("%+v", u)
			}
			got, err := os.ReadFile(u.Path)
			if err != nil || !bytes.Equal(got, whole) {
				t.Errorf("another content, error %v", err)
			}
			if st, _ := os.Stat(u.Path); st.Mode().Perm() != 0o600 || filepath.Dir(u.Path) != dir {
				t.Errorf("%s has mode %v", u.Path, st.Mode())
			}
			if last != int64(len(c.data)) || total != last {
				t.Errorf("progress ended at %d of %d", last, total)
			}
			info, err := Inspect(context.Background(), u.Path, nil)
			if err != nil || info.Hash != HashOK {
				t.Errorf("inspected: %v", err)
			}
			quick, format, err := QuickPacked(path)
			if err != nil || format != c.format || quick.Size != int64(len(c.data)) || quick.TotalSize == 0 {
				t.Errorf("at a quick look: %+v, %s, %v", quick, format, err)
			}
			if err := errors.Join(u.Remove(), u.Remove()); err != nil {
				t.Error(err)
			}
			isEmpty(t, dir)
		})
	}
	t.Run("raw stays where it is", func(t *testing.T) {
		path, dir := file(t, "snapshot.gz", whole), t.TempDir()
		u, err := Stage(context.Background(), File(path), dir, nil)
		if err != nil || u.Path != path || u.Format != Raw {
			t.Fatalf("%+v, %v", u, err)
		}
		if err := u.Remove(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(path); err != nil {
			t.Error("the file itself was removed")
		}
		isEmpty(t, dir)
	})
}

func isEmpty(t *testing.T, dir string) {
	t.Helper()
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

func TestUnpackRefusesWhatIsDamagedAndLeavesNothing(t *testing.T) {
	whole := fixture(t, "before")
	z, zs := gzipped(t, whole), zstandard(t, whole)
	archive := tarred(t, member{"a.db", whole})
	two := tarred(t, member{"a.db", whole}, member{"b.db", fixture(t, "after")})
	sum := bytes.Clone(z)
	sum[len(sum)-6] ^= 1
	for _, c := range []struct {
		name string
		data []byte
		code string
	}{
		{"gzip cut off in the middle", z[:len(z)/2], CodeTruncated},
		{"gzip cut off in its first pages", z[:300], CodeTruncated},
		{"gzip without its checksum", z[:len(z)-8], CodeTruncated},
		{"gzip with a wrong checksum", sum, CodeDamagedHash},
		{"gzip with a flipped bit", flip(z, len(z)/2), ""},
		{"gzip of nothing", gzipped(t, nil), CodeEmpty},
		{"gzip of a text", gzipped(t, []byte("a dump of a database, but another one")), CodeNotBolt},
		{"a bomb of zeros", gzipped(t, make([]byte, 64<<20)), CodeNotBolt},
		{"a snapshot with a bomb behind it", append(bytes.Clone(z), gzipped(t, make([]byte, aheadOnly+1<<20))...), CodeStructure},
		{"zstd cut off", zs[:len(zs)/2], CodeTruncated},
		{"zstd with a flipped bit", flip(zs, len(zs)-10), ""},
		{"tar.gz without a snapshot", gzipped(t, tarred(t, member{"a.txt", []byte("a")})), CodeNotBolt},
		{"tar.gz with two snapshots", gzipped(t, two), CodeCompressed},
		{"tar cut off in the snapshot", archive[:len(archive)/2], CodeTruncated},
		{"tar.gz cut off behind the snapshot", gzipped(t, archive)[:len(gzipped(t, archive))-7], CodeTruncated},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			_, err := Stage(context.Background(), File(file(t, "a.db.gz", c.data)), dir, nil)
			var p *problem.Problem
			switch {
			case !errors.As(err, &p):
				t.Errorf("error %v, want a problem", err)
			case c.code != "" && p.Code != c.code:
				t.Errorf("%s (%s), want %s", p.Code, p.Cause, c.code)
			case p.Hint == "":
				t.Errorf("%s has no hint", p.Cause)
			}
			isEmpty(t, dir)
		})
	}
}

func TestUnpackCanBeCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	dir := t.TempDir()
	_, err := Stage(ctx, File(file(t, "a.gz", gzipped(t, fixture(t, "before")))), dir, func(int64, int64) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want cancelled", err)
	}
	isEmpty(t, dir)
}

func TestUnpackOfThingsThatAreNotFiles(t *testing.T) {
	_, err := Stage(context.Background(), File(t.TempDir()), t.TempDir(), nil)
	wantProblem(t, err, CodeDirectory)
	_, err = Stage(context.Background(), File("missing.gz"), t.TempDir(), nil)
	wantProblem(t, err, CodeMissing)
	_, err = Stage(context.Background(), File(file(t, "a.gz", gzipped(t, fixture(t, "before")))), "/nowhere", nil)
	if err == nil {
		t.Error("unpacked into a directory that isn't there")
	}
}

const unpackEnv = "SNAPSHOT_TEST_UNPACK"

// unpackAndWait is the process that a test kills: it unpacks a snapshot beside
// itself, names the file that it made, and waits.
func unpackAndWait(path string) {
	u, err := Stage(context.Background(), File(path), filepath.Dir(path), nil)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(u.Path)
	_, _ = io.Copy(io.Discard, os.Stdin)
	_ = u.Remove()
	os.Exit(0)
}

func TestWhatAKilledProcessHasUnpackedIsRemovedByALaterOne(t *testing.T) {
	path := file(t, "a.gz", gzipped(t, fixture(t, "before")))
	dir := filepath.Dir(path)
	exe, err := trust.SelfPath()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), unpackEnv+"="+path)
	stdin, err := cmd.StdinPipe()
	stdout, oerr := cmd.StdoutPipe()
	if err := errors.Join(err, oerr, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	line, err := bufio.NewReader(stdout).ReadString('\n')
	made := line[:max(0, len(line)-1)]
	if _, serr := os.Stat(made); err != nil || serr != nil {
		t.Fatalf("it unpacked %q: %v, %v", line, err, serr)
	}
	left := func(path string) bool {
		t.Helper()
		_, err := os.Lstat(path)
		return err == nil
	}
	if err := RemoveStale(dir); err != nil || !left(made) {
		t.Errorf("while it runs: %v, still there: %v", err, left(made))
	}
	if _, err := Inspect(context.Background(), made, nil); err != nil {
		t.Errorf("its lock is in a reader's way: %v", err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	// Not ours to remove, whatever the name.
	if err := os.Symlink(path, filepath.Join(dir, unpackedPrefix+"link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, unpackedPrefix+"dir"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := RemoveStale(dir, made); err != nil || !left(made) {
		t.Errorf("to be kept: %v, still there: %v", err, left(made))
	}
	for range 2 {
		if err := RemoveStale(dir); err != nil || left(made) {
			t.Errorf("after its end: %v, still there: %v", err, left(made))
		}
	}
	if all := everything(t, dir); len(all) != 4 { // the directory itself, the snapshot, the link, the directory
		t.Errorf("left are %.200q", all)
	}
	if err := RemoveStale(filepath.Join(dir, "nowhere")); err != nil {
		t.Error(err)
	}
}
