package snapshot

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"

	"etcd-rewind/problem"
)

// sector is what a bolt file's size is always a multiple of. A snapshot has a
// sha256 trailer after that, so its size modulo 512 is 32; etcd's own tools
// distinguish the two by the same rule.
const sector = 512

// Quick reads what can be known in milliseconds: size, age, whether there is a
// trailer, and whether the file is as long as bolt's meta pages say. It uses
// plain reads, so a damaged file can't crash it, and never waits for a pipe.
// The error is a *problem.Problem. Hash is HashUnchecked or HashMissing; what only
// Inspect can know is left zero.
func Quick(path string) (*Info, error) {
	f, st, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info := &Info{Name: path, Path: path, Size: st.Size(), ModTime: st.ModTime()}

	metas, err := readMetas(f)
	if err != nil {
		return nil, openProblem(path, err)
	}
	if len(metas) == 0 {
		return nil, foreignProblem(f)
	}
	var need, txid int64
	for _, m := range metas {
		need = max(need, m.size())
		if int64(m.txid) >= txid {
			txid, info.TotalSize = int64(m.txid), m.size()
		}
	}
	const again = "copy it again from where it was taken, and compare the sizes"
	if info.Size < need {
		return nil, problem.Coded(CodeTruncated, again, "truncated: it has %d of at least %d bytes", info.Size, need)
	}
	switch rest := info.Size % sector; {
	case rest == sha256.Size && info.Size-sha256.Size >= need:
		info.Hash = HashUnchecked
	case rest == 0:
		info.Hash = HashMissing
	case info.Size-need < sha256.Size:
		return nil, problem.Coded(CodeTruncated, again, "truncated: %d of the 32 bytes of its sha256 trailer are there", info.Size-need)
	default:
		return nil, problem.Coded(CodeTruncated, again, "its size, %d bytes, is neither a snapshot's nor a data file's", info.Size)
	}
	return info, nil
}

// meta is the part of bolt's meta page that says how long the file must be.
// bbolt keeps its own type internal and reads it through a memory map only.
type meta struct {
	pageSize uint32
	pages    uint64 // high water mark
	txid     uint64
}

// maxDatabase is more than any etcd holds, and no file on a disk of today is as
// long: a size beyond it is no size.
const maxDatabase = 1 << 50

func (m meta) size() int64 { return int64(m.pages) * int64(m.pageSize) }

// Layout of a meta page: 16 bytes of page header, then these fields in the
// machine's byte order (bbolt's internal/common/meta.go).
const (
	metaOffset  = 16
	metaLength  = 64
	boltMagic   = 0xED0CDAED
	boltVersion = 2
)

func parseMeta(b []byte) (meta, bool) {
	o := binary.NativeEndian
	h := fnv.New64a()
	_, _ = h.Write(b[:56])
	m := meta{pageSize: o.Uint32(b[8:]), pages: o.Uint64(b[40:]), txid: o.Uint64(b[48:])}
	ok := o.Uint32(b) == boltMagic && o.Uint32(b[4:]) == boltVersion && o.Uint64(b[56:]) == h.Sum64()
	return m, ok && m.pageSize >= sector && m.pageSize <= 1<<24 && m.pages <= maxDatabase/uint64(m.pageSize)
}

// readMetas returns the valid ones of the two meta pages. The second is at an
// unknown place when the first is damaged; bolt tries the same page sizes.
func readMetas(r io.ReaderAt) ([]meta, error) {
	at := func(off int64) (meta, bool, error) {
		b := make([]byte, metaLength)
		if _, err := r.ReadAt(b, off+metaOffset); errors.Is(err, io.EOF) {
			return meta{}, false, nil
		} else if err != nil {
			return meta{}, false, err
		}
		m, ok := parseMeta(b)
		return m, ok, nil
	}
	first, ok, err := at(0)
	if err != nil {
		return nil, err
	}
	if ok {
		second, ok, err := at(int64(first.pageSize))
		if err != nil {
			return nil, err
		}
		if ok {
			return []meta{first, second}, nil
		}
		return []meta{first}, nil
	}
	for size := int64(1024); size <= 1<<24; size *= 2 {
		m, ok, err := at(size)
		if err != nil {
			return nil, err
		}
		if ok && int64(m.pageSize) == size {
			return []meta{m}, nil
		}
	}
	return nil, nil
}

// foreignProblem names what a file is that isn't a bolt database.
func foreignProblem(r io.ReaderAt) *problem.Problem {
	head := make([]byte, 512)
	n, err := r.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return openProblem("", err)
	}
	head = head[:n]
	for _, f := range []struct{ magic, what, tool string }{
		{"\x1f\x8b", "gzip", "gunzip -k"},
		{"\x28\xb5\x2f\xfd", "zstd", "zstd -d"},
		{"\xfd7zXZ\x00", "xz", "unxz -k"},
		{"BZh", "bzip2", "bunzip2 -k"},
		{"PK\x03\x04", "zip", "unzip"},
	} {
		if bytes.HasPrefix(head, []byte(f.magic)) {
			return problem.Coded(CodeCompressed, fmt.Sprintf("decompress it first: %s FILE", f.tool), "compressed with %s, despite its name", f.what)
		}
	}
	switch {
	case isAge(head):
		return problem.Coded(CodeEncrypted, "decrypt it first, with age -d -o FILE, or name the identity: --identity FILE", "encrypted with age")
	case len(head) > 262 && string(head[257:262]) == "ustar":
		return problem.Coded(CodeCompressed, "unpack it first: tar -xf FILE", "a tar archive, despite its name")
	case len(head) >= metaOffset+4 && binary.NativeEndian.Uint32(head[metaOffset:]) == boltMagic:
		return problem.Coded(CodeStructure, "copy it again from where it was taken, or use another snapshot", "damaged: neither of the two meta pages is valid")
	case len(bytes.Trim(head, "\x00")) == 0:
		return problem.Coded(CodeNotBolt, "use another snapshot; this one was lost on disk or while it was copied", "not a snapshot: it begins with zeros")
	}
	return problem.Coded(CodeNotBolt, "a snapshot is what etcdctl snapshot save writes", "not a snapshot: it isn't a bolt database")
}
