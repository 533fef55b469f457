package snapshot

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"etcd-rewind/problem"
)

const pageSize = 4096

// Layout of a page: 16 bytes of header (id, flags, count, overflow), then its
// elements of 16 bytes each (bbolt's internal/common/page.go).
type page []byte

var order = binary.NativeEndian

func (p page) isLeaf() bool     { return order.Uint16(p[8:]) == 2 }
func (p page) isBranch() bool   { return order.Uint16(p[8:]) == 1 }
func (p page) isFreelist() bool { return order.Uint16(p[8:]) == 16 }
func (p page) count() int       { return min(int(order.Uint16(p[10:])), (pageSize-16)/16) }

// mutated is a database with a few of its pages changed where they say what they
// are, and where they lead; whoever made it made the checksums fit.
func mutated(seed uint64, db []byte) []byte {
	r := rand.New(rand.NewPCG(seed, 14))
	db = bytes.Clone(db)
	pages := uint64(len(db) / pageSize)
	number := func() uint64 {
		return []uint64{
			0, 1, 2, 3, r.Uint64N(pages), r.Uint64N(pages), r.Uint64N(pages), pages - 1, pages, pages + 1, 16, 4080, 4096,
			math.MaxUint16, 1 << 28, math.MaxInt32, math.MaxUint32, 1 << 40, math.MaxInt64, math.MaxUint64, r.Uint64(),
		}[r.IntN(21)]
	}
	any := func() page { at := r.Uint64N(pages) * pageSize; return db[at : at+pageSize] }
	that := func(is func(page) bool) page {
		for range 50 * pages {
			if p := any(); is(p) {
				return p
			}
		}
		return any()
	}
	element := func(p page) []byte { return p[16+16*r.IntN(max(1, p.count())):] }
	for range 1 + r.IntN(3) {
		switch r.IntN(14) {
		case 0:
			order.PutUint64(any(), number())
		case 1:
			order.PutUint16(any()[8:], []uint16{0, 1, 2, 4, 16, 3, math.MaxUint16}[r.IntN(7)])
		case 2:
			order.PutUint16(that(page.isLeaf)[10:], uint16(number()))
		case 3:
			order.PutUint16(any()[10:], uint16(number()))
		case 4:
			order.PutUint32(any()[12:], uint32(number()))
		case 5: // of a record: flags, position, sizes of key and value
			order.PutUint32(element(that(page.isLeaf))[4*r.IntN(4):], uint32(number()))
		case 6: // of a branch: position, size of the key
			order.PutUint32(element(that(page.isBranch))[4*r.IntN(2):], uint32(number()))
		case 7: // and the page that it leads to
			order.PutUint64(element(that(page.isBranch))[8:], number())
		case 8: // a bucket's root and sequence are a record's value
			for range 200 {
				p := that(page.isLeaf)
				if e := element(p); order.Uint32(e) == 1 {
					at := uint64(order.Uint32(e[4:])) + uint64(order.Uint32(e[8:]))
					if v := at + uint64(cap(p)-cap(e)); v+16 < uint64(cap(p)) {
						order.PutUint64(p[:cap(p)][v+8*r.Uint64N(2):], number())
					}
					break
				}
			}
		case 9:
			copy(any(), any())
		case 10:
			p := any()
			p[r.IntN(len(p))] ^= 1 << r.IntN(8)
		case 11: // of the list of free pages: how many, where the real number is, and the first
			p := that(page.isFreelist)
			order.PutUint16(p[10:], []uint16{math.MaxUint16, uint16(number())}[r.IntN(2)])
			order.PutUint64(p[16+8*r.IntN(2):], number())
		case 12:
			size := []uint32{512, 1024, 1 << 16, 1 << 24}[r.IntN(4)]
			for meta := range 2 {
				order.PutUint32(db[meta*pageSize+metaOffset+8:], size)
			}
		case 13: // flags, root, its sequence, list of free pages, high water mark, transaction
			at := []int{12, 16, 24, 32, 40, 48}[r.IntN(6)]
			n := number()
			for meta := range 2 {
				order.PutUint64(db[meta*pageSize+metaOffset+at:], n)
			}
		}
	}
	for meta := range 2 {
		m := db[meta*pageSize+metaOffset:]
		h := fnv.New64a()
		_, _ = h.Write(m[:56])
		order.PutUint64(m[56:], h.Sum64())
	}
	return withTrailer(db)
}

// hostile does with a file all that is done with a snapshot. Each step ends, with
// a problem or without one.
func hostile(t *testing.T, seed uint64, data []byte, good string) {
	dir := t.TempDir()
	path := filepath.Join(dir, "etcd.db")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	makeOld(t, path)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	told := func(what string, err error) {
		var p *problem.Problem
		if err != nil && !errors.As(err, &p) {
			t.Errorf("seed %d: %s: no problem, but %v", seed, what, err)
		}
	}
	_, err := Quick(path)
	told("quick", err)
	if found := Find(ctx, []string{dir}); len(found) != 1 {
		t.Errorf("seed %d: found %+v", seed, found)
	}
	info, err := Inspect(ctx, path, nil)
	told("inspect", err)
	_, err = Compare(ctx, path, Other{Snapshot: good}, CompareOptions{}, nil)
	told("compare", err)
	_, err = Compare(ctx, good, Other{Snapshot: path}, CompareOptions{}, nil)
	told("compare with", err)
	req := request(path, filepath.Join(dir, "etcd"))
	req.RevisionBump = 1000
	if info != nil {
		req.ExpectSHA256 = info.SHA256
	}
	_, err = Restore(ctx, req, nil)
	told("restore", err)
}

// Whoever makes a snapshot can make its checksum fit any content. What the pages
// say is never believed so far that reading them doesn't end, or takes the
// node's memory.
func TestPagesThatLieAreAProblemAndNoMore(t *testing.T) {
	db, good := withoutTrailer(fixture(t, "before")), file(t, "after.db", fixture(t, "after"))
	for seed := range uint64(20) {
		hostile(t, seed, mutated(seed, db), good)
	}
}

// A page may say that billions of others belong to it, and bbolt keeps a note of
// each that it checks: 6 GB of them, before this was bounded.
func TestAPageWithBillionsOfOthersDoesNotTakeTheNodesMemory(t *testing.T) {
	db := withoutTrailer(fixture(t, "before"))
	last := len(db) / pageSize
	for inUse := false; !inUse; last-- {
		p := page(db[(last-1)*pageSize:])
		inUse = p.isLeaf() || p.isBranch()
	}
	order.PutUint32(db[last*pageSize+12:], math.MaxUint32)
	_, err := Inspect(t.Context(), file(t, "billions.db", withTrailer(db)), nil)
	if p := wantProblem(t, err, CodeStructure); !strings.Contains(p.Cause, "more memory than") {
		t.Errorf("cause %q", p.Cause)
	}
	_, err = Restore(t.Context(), request(file(t, "billions.db", withTrailer(db)), filepath.Join(t.TempDir(), "etcd")), nil)
	wantProblem(t, err, CodeRestore)
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_CHILDREN, &used); err != nil {
		t.Fatal(err)
	}
	if mb := used.Maxrss >> 10; mb > 600 {
		t.Errorf("a worker used %d MB", mb)
	}
}

// FuzzPages has more of them.
func FuzzPages(f *testing.F) {
	db, good := withoutTrailer(fixture(f, "before")), file(f, "after.db", fixture(f, "after"))
	f.Add(uint64(1))
	f.Fuzz(func(t *testing.T, seed uint64) { hostile(t, seed, mutated(seed, db), good) })
}

// Somebody's cleanup cuts the file off while it is read through a memory map: the
// kernel ends the process that reads on, which is a worker.
func TestAFileThatIsCutOffWhileItIsReadIsAProblem(t *testing.T) {
	big := func(value byte) []byte {
		return makeSnapshot(t, func(db *database) {
			for i := range 1500 {
				db.put(fmt.Sprintf("/registry/configmaps/default/c%04d", i), string(bytes.Repeat([]byte{value}, 4000)))
			}
		})
	}
	whole, other := big('a'), file(t, "other.db", big('b'))
	for name, c := range map[string]struct {
		phase string
		do    func(path string, tell func(Progress)) error
	}{
		"compared, at the beginning": {"snapshot", func(path string, tell func(Progress)) error {
			_, err := Compare(t.Context(), path, Other{Snapshot: other}, CompareOptions{}, tell)
			return err
		}},
		"compared, when values are looked at": {"other", func(path string, tell func(Progress)) error {
			_, err := Compare(t.Context(), path, Other{Snapshot: other}, CompareOptions{}, tell)
			return err
		}},
		"compared with": {"other", func(path string, tell func(Progress)) error {
			_, err := Compare(t.Context(), other, Other{Snapshot: path}, CompareOptions{}, tell)
			return err
		}},
		"restored, at the beginning": {"copy", func(path string, tell func(Progress)) error {
			_, err := Restore(t.Context(), request(path, filepath.Join(t.TempDir(), "etcd")), tell)
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			path, cut := file(t, "cut.db", whole), false
			err := c.do(path, func(p Progress) {
				if p.Phase == c.phase && !cut {
					cut = true
					if err := os.Truncate(path, 3*pageSize); err != nil {
						t.Error(err)
					}
				}
			})
			if !cut {
				t.Fatalf("no phase %q was reported: %v", c.phase, err)
			}
			p := problem.Of(err)
			if p == nil {
				t.Fatalf("no problem, but %v", err)
			}
			if !slices.Contains([]string{CodeGrowing, CodeTruncated, CodeStructure}, p.Code) || p.Hint == "" {
				t.Errorf("%s: %s (%s)", p.Code, p.Cause, p.Hint)
			}
		})
	}
}
