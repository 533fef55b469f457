package snapshot

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/iotest"

	"etcd-rewind/problem"
)

func growing(t *testing.T) *Growing {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return Grow(f)
}

// Each reader gets all of it, whenever it begins, and its end not before the end.
func TestAGrowingFileIsReadWhileItGrows(t *testing.T) {
	g := growing(t)
	want := bytes.Repeat([]byte("0123456789"), 50_000)
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() {
			if got, err := io.ReadAll(g.Reader(nil)); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
		})
	}
	r, half := g.Reader(nil), make([]byte, 10)
	for rest := want; len(rest) > 0; rest = rest[min(len(rest), 7001):] {
		if _, err := g.Write(rest[:min(len(rest), 7001)]); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(r, half); err != nil { // what is there is read at once
			t.Fatal(err)
		}
	}
	g.End(nil)
	all.Wait()
	if _, err := io.ReadAll(r); err != nil {
		t.Error(err)
	}
}

// What failed is no shorter file: readers get the error, also those who had read
// all that was there, and also when it turns out after the end.
func TestAGrowingFileThatFailedHasNoEnd(t *testing.T) {
	bad := errors.New("bad")
	g := growing(t)
	if _, err := g.Write([]byte("half")); err != nil {
		t.Fatal(err)
	}
	got := make(chan error, 1)
	r := g.Reader(nil)
	go func() {
		_, err := io.ReadAll(r)
		got <- err
	}()
	g.End(bad)
	if err := <-got; !errors.Is(err, bad) {
		t.Error(err)
	}
	g = growing(t)
	g.End(nil)
	g.End(bad)
	g.End(errors.New("worse"))
	if _, err := io.ReadAll(g.Reader(nil)); !errors.Is(err, bad) {
		t.Error(err)
	}
}

// Who follows a snapshot comes to its end only when its hash is right.
func TestASnapshotThatIsFollowedIsHashedAtTheSameTime(t *testing.T) {
	content := bytes.Repeat([]byte("etcd"), 10_000)
	sum := sha256.Sum256(content)
	whole := append(bytes.Clone(content), sum[:]...)
	all := sha256.Sum256(whole)
	for name, r := range map[string]io.Reader{
		"at once": bytes.NewReader(whole), "a byte at a time": iotest.OneByteReader(bytes.NewReader(whole)), "half": iotest.HalfReader(bytes.NewReader(whole)),
		"the end with the data": iotest.DataErrReader(bytes.NewReader(whole)),
	} {
		h := newHashed(r)
		got, err := io.ReadAll(h)
		if err != nil || !h.all || !bytes.Equal(got, whole) || h.content() != hex.EncodeToString(sum[:]) || h.PlainSHA256() != hex.EncodeToString(all[:]) {
			t.Errorf("%s: %d bytes, %v %s %s", name, len(got), err, h.content(), h.PlainSHA256())
		}
	}
	for name, data := range map[string][]byte{
		"nothing": nil, "less than a trailer": whole[:20], "a byte is missing": whole[:len(whole)-1], "a byte more": append(bytes.Clone(whole), 0),
		"another byte": append([]byte{'x'}, whole[1:]...), "no trailer": content,
	} {
		h := newHashed(bytes.NewReader(data))
		if _, err := io.ReadAll(h); !problem.HasCode(err, CodeDamagedHash) || h.all {
			t.Errorf("%s: %v", name, err)
		}
	}
}
