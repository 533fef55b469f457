package snapshot

import (
	"encoding/binary"
	"errors"
	"hash/maphash"
	"time"

	"etcd-rewind/problem"

	bolt "go.etcd.io/bbolt"
	"go.etcd.io/etcd/server/v3/storage/mvcc"
	"google.golang.org/protobuf/encoding/protowire"
)

// record is the newest state of one key. Its slices are parts of the memory
// map: they end with the transaction.
type record struct {
	at         mvcc.Revision // of the last change
	key, value []byte
	created    int64 // revision
	version    int64
}

// eachLive goes once through all revisions, newest first, and visits the
// newest state of each key that isn't deleted. Of each key seen a 64-bit hash is
// kept instead of the name: 11 to 22 bytes a key, and among ten million keys two
// share one with a probability of 3 in a million. first says whether a hash
// wasn't seen before.
func eachLive(b *bolt.Bucket, hash func([]byte) uint64, first func(uint64) bool, visit func(r record, hash uint64) error) (newest mvcc.Revision, err error) {
	c := b.Cursor()
	for k, v := c.Last(); k != nil; k, v = c.Prev() {
		r := record{at: mvcc.BytesToRev(k)} // panics on what isn't a revision; guard turns it into a Problem
		if newest.Main == 0 {
			newest = r.at
		}
		if r.at.Main < 0 || r.at.Sub < 0 {
			return newest, problem.Coded(CodeStructure, useAnother, "damaged: a record has the revision %d/%d", r.at.Main, r.at.Sub)
		}
		if err := r.split(v); err != nil {
			return newest, problem.Coded(CodeStructure, useAnother, "damaged: the record of revision %d can't be decoded: %v", r.at.Main, err)
		}
		h := hash(r.key)
		if !first(h) || mvcc.IsTombstone(k) {
			continue
		}
		if err := visit(r, h); err != nil {
			return newest, err
		}
	}
	return newest, nil
}

func newHash() func([]byte) uint64 {
	seed := maphash.MakeSeed()
	return func(b []byte) uint64 { return maphash.Bytes(seed, b) }
}

// watcher is shown every live record while a database is read. The hash is of
// its key.
type watcher interface {
	hash([]byte) uint64
	first(hash uint64) bool // see eachLive
	see(r record, hash uint64)
}

// allKeys reads what is in the live keys, and shows them to w unless it is
// nil.
// tell, which may be nil, gets the part of the revisions that is done.
func allKeys(w watcher, tell func(part float64)) readKeys {
	return func(c *contents, b *bolt.Bucket) error { return c.readKeys(b, w, tell) }
}

// countKeys reads the newest revision and the number of live keys alone.
func countKeys(c *contents, b *bolt.Bucket) error {
	newest, err := eachLive(b, newHash(), new(hashSet).add, func(r record, _ uint64) error {
		c.count(r)
		return nil
	})
	c.revision = newest.Main
	return err
}

func (c *contents) count(r record) {
	if len(r.key) == 0 {
		c.emptyKey = true
		return
	}
	c.keys++
}

func (c *contents) readKeys(b *bolt.Bucket, w watcher, tell func(part float64)) error {
	hash, first := newHash(), new(hashSet).add
	if w != nil {
		hash, first = w.hash, w.first
	}
	var (
		objects = finder{below: map[string]*below{}}
		kinds   = newTally()
	)
	var oldest, latest float64
	if k, _ := b.Cursor().First(); len(k) >= 8 {
		oldest = float64(binary.BigEndian.Uint64(k))
	}
	newest, err := eachLive(b, hash, first, func(r record, h uint64) error {
		if latest == 0 {
			latest = float64(r.at.Main)
		}
		if c.count(r); tell != nil && c.keys%1000 == 0 && latest > oldest {
			tell((latest - float64(r.at.Main)) / (latest - oldest))
		}
		if len(r.key) > maxKey {
			c.longKeys++
		}
		objects.put(r.key, r.value)
		kinds.put(r.key, r.value)
		if w != nil {
			w.see(r, h)
		}
		return nil
	})
	if werr := kinds.wait(); err == nil {
		err = werr
	}
	if err != nil {
		return err
	}
	c.revision = newest.Main
	c.kube = objects.result()
	c.beyond("namespaces", c.kube.moreNamespaces)
	c.beyond("nodes", c.kube.moreNodes)
	c.beyond("prefixes", objects.lost)
	kinds.result(c)
	c.stored = kinds.atRest(c.kube.prefix)
	for _, e := range c.encryption {
		c.encrypted = append(c.encrypted, e.String())
	}
	c.lastWrite = lastWrite(b.Cursor())
	return nil
}

// split finds the parts of an encoded mvccpb.KeyValue without copying them,
// and checks that the rest decodes. Unmarshal would copy every value.
func (r *record) split(b []byte) error {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		switch {
		case num == 1 && typ == protowire.BytesType:
			r.key, n = protowire.ConsumeBytes(b)
		case num == 5 && typ == protowire.BytesType:
			r.value, n = protowire.ConsumeBytes(b)
		case num == 1 || num == 5:
			return errors.New("key or value isn't a string of bytes")
		case num == 2 && typ == protowire.VarintType, num == 4 && typ == protowire.VarintType:
			var v uint64
			v, n = protowire.ConsumeVarint(b)
			if num == 2 {
				r.created = int64(v)
			} else {
				r.version = int64(v)
			}
		default:
			n = protowire.ConsumeFieldValue(num, typ, b)
		}
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
	}
	return nil
}

// lastWrite looks at the last revisions, newest first, for times in Kubernetes
// objects. Leases are renewed every few seconds, so a few are enough; how many
// is bounded for an etcd that holds something else.
func lastWrite(c *bolt.Cursor) time.Time {
	var newest time.Time
	dated := 0
	k, v := c.Last()
	for range 5000 {
		if k == nil || dated == 200 {
			break
		}
		var r record
		if r.split(v) == nil {
			if t := newestTime(r.value); !t.IsZero() {
				dated++
				if t.After(newest) {
					newest = t
				}
			}
		}
		k, v = c.Prev()
	}
	return newest
}
