package snapshot

import (
	"archive/tar"
	"bufio"
	"bytes"
	"encoding/binary"
	"hash/fnv"
	"io"
	"os"
	"path/filepath"
	"testing"

	"etcd-rewind/problem"
)

// FuzzPacked: whatever bytes a file in /tmp begins with, a quick look at it ends,
// expands a bounded number of them, and says what the file is or isn't.
func FuzzPacked(f *testing.F) {
	whole := fixtures()["before"]
	head := whole[:16<<10]
	for page := range 2 { // a snapshot that claims more than there is
		claim := bytes.Clone(head)
		meta := claim[page*4096+metaOffset:]
		binary.NativeEndian.PutUint64(meta[40:], 1<<60)
		h := fnv.New64a()
		_, _ = h.Write(meta[:56])
		binary.NativeEndian.PutUint64(meta[56:], h.Sum64())
		f.Add(claim)
	}
	var sparse bytes.Buffer
	w := tar.NewWriter(&sparse)
	_ = w.WriteHeader(&tar.Header{Name: "x", Typeflag: tar.TypeReg, Size: 1 << 50, Format: tar.FormatPAX, PAXRecords: map[string]string{"comment": "x"}})
	for _, seed := range [][]byte{
		head, whole[:600], nil, sparse.Bytes(),
		gzipped(f, head), zstandard(f, head), gzipped(f, tarred(f, member{"a/etcd.db", head})), zstandard(f, tarred(f, member{"b", head})),
		[]byte("\x1f\x8b\x08\xff\xff\xff\xff\xff"), []byte("\x28\xb5\x2f\xfd\xff\xff\xff\xff\xff\xff"), []byte("PK\x03\x04"), []byte("\xfd7zXZ\x00"),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if p, err := unwrap(bufio.NewReader(bytes.NewReader(data)), maxInside, 1, nil); err == nil {
			if p.tar != nil {
				firstSnapshot(p.tar)
			}
			_, _ = io.Copy(io.Discard, p.r)
			if p.close(); p.inside != nil && p.inside.read > maxInside {
				t.Errorf("%d bytes came out", p.inside.read)
			}
		} else if problem.Of(err) == nil {
			t.Errorf("no problem, but %v", err)
		}
		path := filepath.Join(t.TempDir(), "x")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		info, _, err := QuickPacked(path)
		if err != nil {
			if p := problem.Of(err); p == nil || len(p.Cause) > 1000 {
				t.Errorf("%v", err)
			}
			return
		}
		if info.TotalSize <= 0 || info.TotalSize > maxDatabase {
			t.Errorf("%d bytes are said to be in it", info.TotalSize)
		}
	})
}
