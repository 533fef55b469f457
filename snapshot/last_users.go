package snapshot

import (
	"bytes"
	"context"
	"net/netip"
	"path/filepath"
	"slices"

	bolt "go.etcd.io/bbolt"
	"go.etcd.io/etcd/server/v3/storage/mvcc"
)

// LastUsers are those who took part when an etcd wrote its data last: its members,
// and the API servers that had a lease.
type LastUsers struct {
	Members    []Member `json:"members,omitempty"`
	APIServers []string `json:"api_servers,omitempty"` // addresses, sorted
	// StorageVersion is "3.6.0" for data of etcd 3.6 or newer: that etcd can read what
	// another of this version wrote. "" is older, or not known.
	StorageVersion string `json:"storage_version,omitempty"`
}

// ReadLastUsers reads them from a data directory that no etcd runs on; with one
// running the Problem is CodeInUse. It holds no lock, and reads the newest revisions
// alone: an API server writes its lease every 10 s.
func ReadLastUsers(ctx context.Context, dir string) (*LastUsers, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	var u LastUsers
	if err := call(ctx, workLastUsers, dataDirRequest{DataDir: dir}, &u, nil); err != nil {
		return nil, err
	}
	return &u, nil
}

// readLastUsers does the work of ReadLastUsers, in the child. The pages aren't
// checked: a circle ends with the child.
func readLastUsers(dir string) (*LastUsers, error) {
	var db *bolt.DB
	err := guard(func() (err error) {
		db, err = openBolt(dbPath(dir))
		return err
	})
	if err != nil {
		return nil, err
	}
	c, err := readChecked(db, lastLeases)
	if err != nil {
		return nil, err
	}
	return &LastUsers{c.members, c.kube.apiServers, c.storageVersion}, nil
}

// lastRevisions is in how many of the newest revisions leases are looked for: a
// cluster with 2,000 writes a second makes as many in 10 s.
const lastRevisions = 20_000

// lastLeases reads whose lease was written last, and not deleted since.
func lastLeases(c *contents, b *bolt.Bucket) error {
	seen, cur := map[string]bool{}, b.Cursor()
	left := lastRevisions
	for k, v := cur.Last(); k != nil && left > 0 && len(seen) < maxFew; k, v = cur.Prev() {
		left--
		var r record
		if r.split(v) != nil {
			continue // what of the rest can be read is worth more than an error
		}
		_, name, is := bytes.Cut(r.key, []byte("/masterleases/"))
		ip, err := netip.ParseAddr(string(name))
		if !is || err != nil || seen[ip.String()] {
			continue
		}
		seen[ip.String()] = true
		if !mvcc.IsTombstone(k) {
			c.kube.apiServers = append(c.kube.apiServers, ip.String())
		}
	}
	slices.Sort(c.kube.apiServers)
	return nil
}
