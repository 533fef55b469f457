package snapshot

import (
	"bytes"
	"errors"
	"hash/maphash"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"
	"go.etcd.io/etcd/server/v3/storage/mvcc"
	"google.golang.org/protobuf/encoding/protowire"
)

// readKeys goes once through all revisions, oldest first. Of each live key it
// keeps a 64-bit hash instead of the name: 16 to 40 bytes a key, and among ten
// million keys two share one with a probability of 3 in a million.
func (c *contents) readKeys(b *bolt.Bucket) error {
	var (
		seed    = maphash.MakeSeed()
		live    = map[uint64]uint8{} // to the index of how the value is encrypted
		enc     = encryptions{names: []string{""}}
		objects = finder{}
	)
	err := b.ForEach(func(k, v []byte) error {
		rev := mvcc.BytesToRev(k) // panics on what isn't a revision; guard turns it into a Problem
		c.revision = rev.Main
		key, value, err := splitKeyValue(v)
		if err != nil {
			return problem(CodeStructure, useAnother, "damaged: the record of revision %d can't be decoded: %v", rev.Main, err)
		}
		h := maphash.Bytes(seed, key)
		if mvcc.IsTombstone(k) {
			delete(live, h)
			objects.deleted(key)
			c.emptyKey = c.emptyKey && len(key) > 0
			return nil
		}
		c.emptyKey = c.emptyKey || len(key) == 0
		live[h] = enc.of(value)
		objects.put(key, value)
		return nil
	})
	if err != nil {
		return err
	}
	c.keys = len(live)
	used := make([]bool, len(enc.names))
	for _, i := range live {
		used[i] = true
	}
	for i, name := range enc.names {
		if i > 0 && used[i] {
			c.encrypted = append(c.encrypted, name)
		}
	}
	slices.Sort(c.encrypted)
	c.kube = objects.result()
	c.lastWrite = lastWrite(b.Cursor())
	return nil
}

// splitKeyValue finds key and value in an encoded mvccpb.KeyValue without
// copying them, and checks that the rest decodes. Unmarshal would copy every
// value.
func splitKeyValue(b []byte) (key, value []byte, err error) {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return nil, nil, protowire.ParseError(n)
		}
		b = b[n:]
		switch {
		case num == 1 && typ == protowire.BytesType:
			key, n = protowire.ConsumeBytes(b)
		case num == 5 && typ == protowire.BytesType:
			value, n = protowire.ConsumeBytes(b)
		case num == 1 || num == 5:
			return nil, nil, errors.New("key or value isn't a string of bytes")
		default:
			n = protowire.ConsumeFieldValue(num, typ, b)
		}
		if n < 0 {
			return nil, nil, protowire.ParseError(n)
		}
		b = b[n:]
	}
	return key, value, nil
}

// encryptions gives a small number to each way in which values are encrypted.
type encryptions struct {
	names []string // names[0] is "": in the clear
}

// of reads the prefix k8s:enc:<provider>:<version>:<key name>: of a value
// (k8s.io/apiserver, storage/value/encrypt).
func (e *encryptions) of(value []byte) uint8 {
	rest, ok := bytes.CutPrefix(value, []byte("k8s:enc:"))
	if !ok {
		return 0
	}
	provider, rest, ok1 := bytes.Cut(rest, []byte(":"))
	_, rest, ok2 := bytes.Cut(rest, []byte(":"))
	name, _, ok3 := bytes.Cut(rest[:min(len(rest), 512)], []byte(":"))
	if !ok1 || !ok2 || !ok3 {
		return 0
	}
	full := string(provider) + ":" + string(name)
	i := slices.Index(e.names, full)
	if i < 0 {
		if len(e.names) == 256 {
			return 255
		}
		i = len(e.names)
		e.names = append(e.names, full)
	}
	return uint8(i)
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
		if _, value, err := splitKeyValue(v); err == nil {
			if t := newestTime(value); !t.IsZero() {
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
