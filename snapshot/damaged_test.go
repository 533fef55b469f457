package snapshot

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"etcd-rewind/problem"

	bolt "go.etcd.io/bbolt"
)

// flip changes one bit.
func flip(b []byte, offset int) []byte {
	b = bytes.Clone(b)
	b[offset] ^= 1 << (offset % 8)
	return b
}

func TestDamagedSnapshotNeverPasses(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, name := range fixtureNames {
		whole := fixture(t, name)
		other := fixtures()["before"]
		if name == "before" {
			other = fixtures()["after"]
		}
		type variant struct {
			data  []byte
			codes string // those that fit
		}
		variants := map[string]variant{}
		for region, at := range map[string]int{
			"page header of meta 0": 3, "magic of meta 0": 17, "meta 0": 40, "meta 1": 4096 + 40, "magic of meta 1": 4096 + 17,
			"a free or leaf page": 3 * 4096, "the middle": len(whole) / 2, "the last page": len(whole) - 100,
			"the trailer": len(whole) - 1, "the trailer's first byte": len(whole) - 32,
		} {
			variants["flipped bit in "+region] = variant{flip(whole, at), CodeDamagedHash}
		}
		for range 8 {
			at := random.IntN(len(whole))
			variants[fmt.Sprintf("flipped bit at %d", at)] = variant{flip(whole, at), CodeDamagedHash}
		}
		for at := 4096; at < len(whole); at += 4096 {
			if at == len(whole)-32 {
				continue // only the trailer is gone: see the next test
			}
			variants[fmt.Sprintf("truncated to %d", at)] = variant{whole[:at], CodeTruncated}
		}
		for range 100 {
			at := 1 + random.IntN(len(whole)-33)
			variants[fmt.Sprintf("truncated to %d", at)] = variant{whole[:at], CodeTruncated + " " + CodeNotBolt}
		}
		for cut := 1; cut < 32; cut += 6 {
			variants[fmt.Sprintf("trailer short of %d bytes", cut)] = variant{whole[:len(whole)-cut], CodeTruncated}
		}
		for _, from := range []int{4096, len(whole) / 3, len(whole) - 4096, len(whole) - 32, len(whole) - 1} {
			zeroed := bytes.Clone(whole)
			clear(zeroed[from:])
			variants[fmt.Sprintf("zeros from %d", from)] = variant{zeroed, CodeDamagedHash}
		}
		variants["another file's trailer"] = variant{append(withoutTrailer(whole), other[len(other)-32:]...), CodeDamagedHash}
		variants["bytes appended"] = variant{append(bytes.Clone(whole), "abc"...), CodeTruncated}
		variants["a page appended"] = variant{append(bytes.Clone(whole), make([]byte, 4096)...), CodeDamagedHash}
		variants["both meta pages damaged"] = variant{flip(flip(whole, 40), 4096+40), CodeStructure}
		variants["zeros only"] = variant{make([]byte, len(whole)), CodeNotBolt}

		for what, v := range variants {
			t.Run(name+" with "+what, func(t *testing.T) {
				if bytes.Equal(v.data, whole) {
					t.Fatal("the variant isn't damaged")
				}
				path := file(t, "damaged.db", v.data)
				_, err := Inspect(context.Background(), path, nil)
				var p *problem.Problem
				if !errors.As(err, &p) {
					t.Fatalf("error %v, want a problem", err)
				}
				if !strings.Contains(v.codes, p.Code) {
					t.Errorf("%q (%s), want %s", p.Code, p.Cause, v.codes)
				}
				if p.Hint == "" {
					t.Errorf("%q (%s) has no hint", p.Code, p.Cause)
				}
			})
		}
	}
}

// Without the trailer nothing can prove damage, but it must neither crash nor
// be called good.
func TestDamagedFileWithoutTrailerIsNeverCalledGood(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for _, name := range fixtureNames {
		bare := withoutTrailer(fixture(t, name))
		info, err := Inspect(context.Background(), file(t, "copied.db", bare), nil)
		if err != nil {
			t.Fatalf("%s without its trailer: %v", name, err)
		}
		if info.Hash != HashMissing || info.Revision == 0 {
			t.Errorf("%s without its trailer: hash %q, revision %d", name, info.Hash, info.Revision)
		}
		found := 0
		for i := range 30 {
			data := bytes.Clone(bare)
			if i < 20 {
				// Where pages say what they are and what is in them.
				page := 2 + random.IntN(len(data)/4096-2)
				data = flip(data, page*4096+random.IntN(64))
			} else {
				from := random.IntN(len(data))
				clear(data[from:])
			}
			info, err := Inspect(context.Background(), file(t, "copied.db", data), nil)
			var p *problem.Problem
			switch {
			case errors.As(err, &p):
				found++
			case err != nil:
				t.Errorf("%s, variant %d: %v", name, i, err)
			case info.Hash != HashMissing:
				t.Errorf("%s, variant %d: hash %q", name, i, info.Hash)
			}
		}
		if found < 10 {
			t.Errorf("%s: structure showed the damage of only %d of 30 variants", name, found)
		}
	}
}

// withRoot is a snapshot with a good hash whose meta pages name another root
// page.
func withRoot(snapshot []byte, root uint64) []byte {
	b := withoutTrailer(snapshot)
	for _, page := range []int{0, 4096} {
		m := b[page+metaOffset:]
		binary.NativeEndian.PutUint64(m[16:], root)
		h := fnv.New64a()
		h.Write(m[:56])
		binary.NativeEndian.PutUint64(m[56:], h.Sum64())
	}
	return withTrailer(b)
}

func TestCrashOfTheReaderIsExplained(t *testing.T) {
	whole := fixture(t, "before")
	pages := uint64(len(whole) / 4096)

	t.Run("a page behind the end of the file", func(t *testing.T) {
		_, err := Inspect(context.Background(), file(t, "a.db", withRoot(whole, pages+10)), nil)
		if p := wantProblem(t, err, CodeStructure); !strings.Contains(p.Cause, "SIGBUS") {
			t.Errorf("cause %q, want SIGBUS named", p.Cause)
		}
	})
	t.Run("a page far behind the end of the file", func(t *testing.T) {
		_, err := Inspect(context.Background(), file(t, "a.db", withRoot(whole, 1<<30)), nil)
		wantProblem(t, err, CodeStructure)
	})
	t.Run("with a hash that doesn't fit either", func(t *testing.T) {
		_, err := Inspect(context.Background(), file(t, "a.db", flip(withRoot(whole, pages+10), 5*4096)), nil)
		wantProblem(t, err, CodeDamagedHash)
	})
	t.Run("pages in a circle", func(t *testing.T) {
		data := withoutTrailer(whole)
		branch := branchPage(t, data)
		// The first element of a branch page: position, key size, page.
		binary.NativeEndian.PutUint64(data[branch*4096+16+8:], uint64(branch))
		_, err := Inspect(context.Background(), file(t, "a.db", withTrailer(data)), nil)
		wantProblem(t, err, CodeStructure)
	})
}

func branchPage(t *testing.T, db []byte) int {
	t.Helper()
	for page := 2; page < len(db)/4096; page++ {
		h := db[page*4096:]
		if binary.NativeEndian.Uint64(h) == uint64(page) && binary.NativeEndian.Uint16(h[8:]) == 1 {
			return page
		}
	}
	t.Fatal("no branch page in the fixture")
	return 0
}

func TestBoltDatabasesThatAreNotEtcds(t *testing.T) {
	write := func(fill func(*bolt.Tx) error) []byte {
		path := filepath.Join(t.TempDir(), "db")
		db, err := bolt.Open(path, 0o600, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(db.Update(fill), db.Close()); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	record := func(k, v string) func(*bolt.Tx) error {
		return func(tx *bolt.Tx) error {
			_, err := tx.CreateBucket([]byte("meta"))
			b, kerr := tx.CreateBucket([]byte("key"))
			return errors.Join(err, kerr, b.Put([]byte(k), []byte(v)))
		}
	}
	for _, c := range []struct {
		name, code string
		fill       func(*bolt.Tx) error
	}{
		{"another program's", CodeNotEtcd, func(tx *bolt.Tx) error { _, err := tx.CreateBucket([]byte("v1")); return err }},
		{"with keys that aren't revisions", CodeStructure, record("abc", "")},
		{"with records that don't decode", CodeStructure, record("\x00\x00\x00\x00\x00\x00\x00\x01_\x00\x00\x00\x00\x00\x00\x00\x00", "\x0a\xff")},
		{"with records filled up with zeros", CodeStructure, record("\x00\x00\x00\x00\x00\x00\x00\x01_\x00\x00\x00\x00\x00\x00\x00\x00", "\x0a\x01a\x00\x00")},
	} {
		t.Run(c.name, func(t *testing.T) {
			data := write(c.fill)
			for _, data := range [][]byte{data, withTrailer(data)} {
				_, err := Inspect(context.Background(), file(t, "meta.db", data), nil)
				wantProblem(t, err, c.code)
			}
		})
	}
}

func TestThingsThatAreNotSnapshotFiles(t *testing.T) {
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	write := func(name, data string) {
		t.Helper()
		must(os.WriteFile(in(name), []byte(data), 0o600))
		makeOld(t, in(name))
	}
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	_, err := w.Write(fixture(t, "before"))
	must(errors.Join(err, w.Close()))

	write("empty.db", "")
	write("text.db", "this is not a snapshot\n")
	write("short.db", "x")
	write("gzip.db", z.String())
	write("zstd.db", "\x28\xb5\x2f\xfd and more")
	write("tar.db", strings.Repeat("\x01", 257)+"ustar\x0000"+strings.Repeat("\x00", 300))
	write("elf.db", "\x7fELF"+strings.Repeat("\x02", 5000))
	must(os.Mkdir(in("dir.db"), 0o700))
	must(os.MkdirAll(in("data/member/snap"), 0o700))
	write("data/member/snap/db", "x")
	must(syscall.Mkfifo(in("pipe.db"), 0o600))
	must(os.Symlink("loop2.db", in("loop1.db")))
	must(os.Symlink("loop1.db", in("loop2.db")))
	must(os.Symlink("nowhere", in("dangling.db")))
	l, err := net.Listen("unix", in("s.db"))
	must(err)
	defer l.Close()

	for name, code := range map[string]string{
		"empty.db": CodeEmpty, "text.db": CodeNotBolt, "short.db": CodeNotBolt, "elf.db": CodeNotBolt,
		"gzip.db": CodeCompressed, "zstd.db": CodeCompressed, "tar.db": CodeCompressed,
		"dir.db": CodeDirectory, "data": CodeDirectory, "pipe.db": CodeNotRegular, "s.db": CodeNotRegular,
		"loop1.db": CodeSymlinkLoop, "dangling.db": CodeMissing, "missing.db": CodeMissing,
		"text.db/below": CodeMissing,
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			_, err := Inspect(context.Background(), in(name), nil)
			if p := wantProblem(t, err, code); p.Hint == "" {
				t.Error("no hint")
			}
			_, err = Quick(in(name))
			wantProblem(t, err, code)
			_, err = Restore(context.Background(), request(in(name), filepath.Join(dir, "restored")), nil)
			wantProblem(t, err, code)
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("took %v", took)
			}
			if _, err := os.Lstat(in("restored")); err == nil {
				t.Error("a directory was left behind")
			}
		})
	}
}
