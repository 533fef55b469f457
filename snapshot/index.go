package snapshot

import (
	"math/bits"

	"go.etcd.io/etcd/server/v3/storage/mvcc"
)

// index is all live keys of a database, 40 bytes each, whatever the length of
// keys and values: a comparison of two large snapshots fits into memory.
type index struct {
	hashFunc func([]byte) uint64
	blocks   [][]entry
	n        int
	// A hash table without a table of its own for collisions: heads is the
	// newest entry of a slot, next the one after it. Both count from 1.
	heads, next []uint32
	seen        hashSet // while it is filled
	guess       int     // see find
}

type entry struct {
	key   uint64 // hash of the key
	value uint64 // of the whole value
	at    uint64 // position in the database: see place
	state uint64 // of create revision and version, see stateOf
}

// blockSize is how many entries are allocated at once: a slice that grows
// would be copied, and the old one would be in memory beside it.
const blockSize = 1 << 15

func newIndex() *index { return &index{hashFunc: newHash()} }

func (x *index) hash(b []byte) uint64 { return x.hashFunc(b) }

func (x *index) first(key uint64) bool { return x.seen.add(key) }

func (x *index) see(r record, key uint64) {
	if x.n%blockSize == 0 {
		x.blocks = append(x.blocks, make([]entry, 0, blockSize))
	}
	last := &x.blocks[len(x.blocks)-1]
	*last = append(*last, entry{key: key, value: x.hash(r.value), at: place(r.at), state: stateOf(r.created, r.version)})
	x.n++
}

// stateOf mixes create revision and version into one number.
func stateOf(created, version int64) uint64 {
	return uint64(created)*0x9e3779b97f4a7c15 ^ bits.RotateLeft64(uint64(version)*0xff51afd7ed558ccd, 32)
}

func (x *index) entry(i int) *entry { return &x.blocks[i/blockSize][i%blockSize] }

// build makes find work, once all is in.
func (x *index) build() {
	x.seen = hashSet{}
	x.heads = make([]uint32, 1<<bits.Len(uint(x.n)))
	x.next = make([]uint32, x.n+1)
	for i := range x.n {
		slot := x.slot(x.entry(i).key)
		x.next[i+1], *slot = *slot, uint32(i+1)
	}
}

func (x *index) slot(key uint64) *uint32 { return &x.heads[key&uint64(len(x.heads)-1)] }

// find is the number of a key's entry, -1 when it isn't there. What was not
// changed comes in the same order on both sides: so it looks first at the entry
// after the last one found.
func (x *index) find(key uint64) int {
	if g := x.guess; g < x.n && x.entry(g).key == key {
		x.guess++
		return g
	}
	for i := *x.slot(key); i != 0; i = x.next[i] {
		if x.entry(int(i-1)).key == key {
			x.guess = int(i)
			return int(i - 1)
		}
	}
	return -1
}

// maxRevision is the first that place has no room for. An etcd that writes a
// hundred thousand times a second gets there in 44 years.
const maxRevision = 1 << 47

// place packs a revision into 64 bits: Kubernetes writes one key a revision,
// and etcd allows 128 by default.
func place(r mvcc.Revision) uint64 { return uint64(r.Main)<<16 | uint64(min(r.Sub, 1<<16-1)) }

func placeRevision(at uint64) mvcc.Revision {
	return mvcc.Revision{Main: int64(at >> 16), Sub: int64(at & (1<<16 - 1))}
}

// hashSet is a set of hashes in half the memory of a map and a third of its
// time: what is in it is as random as a hash of it would be.
type hashSet struct {
	slots []uint64 // 0 is free; the hash 0 is kept as 1
	n     int
}

// add says whether the hash is new.
func (s *hashSet) add(h uint64) bool {
	if s.n >= len(s.slots)/4*3 {
		s.grow()
	}
	h = max(h, 1)
	for i := h & uint64(len(s.slots)-1); ; i = (i + 1) & uint64(len(s.slots)-1) {
		switch s.slots[i] {
		case h:
			return false
		case 0:
			s.slots[i] = h
			s.n++
			return true
		}
	}
}

func (s *hashSet) grow() {
	old := s.slots
	s.slots, s.n = make([]uint64, max(1<<12, 2*len(old))), 0
	for _, h := range old {
		if h != 0 {
			s.add(h)
		}
	}
}
