package snapshot

import (
	"fmt"
	"testing"

	"go.etcd.io/etcd/server/v3/storage/mvcc"
)

func TestIndexFindsWhatWasPutIn(t *testing.T) {
	x := newIndex()
	key := func(i int) []byte { return fmt.Appendf(nil, "/registry/pods/a/%d", i) }
	const n = blockSize + 1000
	for i := range n {
		x.see(record{at: mvcc.Revision{Main: int64(i), Sub: int64(i % 7)}, value: key(i)}, x.hash(key(i)))
	}
	x.build()
	for i := range n {
		got := x.find(x.hash(key(i)))
		if got != i || placeRevision(x.entry(got).at) != (mvcc.Revision{Main: int64(i), Sub: int64(i % 7)}) {
			t.Fatalf("key %d found at %d", i, got)
		}
	}
	for i := n; i < 2*n; i++ {
		if got := x.find(x.hash(key(i))); got != -1 {
			t.Fatalf("key %d, which isn't there, found at %d", i, got)
		}
	}
	empty := newIndex()
	empty.build()
	if empty.find(1) != -1 {
		t.Error("something found in an empty index")
	}
}

func TestHashSet(t *testing.T) {
	var s hashSet
	for _, again := range []bool{false, true} {
		for i := range uint64(20_000) {
			h := i * 0x9e3779b97f4a7c15
			if s.add(h) == again {
				t.Fatalf("hash %d new: %t", i, !again)
			}
		}
	}
	if s.n != 20_000 {
		t.Errorf("%d in it", s.n)
	}
}
