package snapshot

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"runtime/debug"
	"slices"
	"syscall"
	"time"

	"etcd-rewind/problem"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
	"go.etcd.io/etcd/server/v3/storage/backend"
	"go.etcd.io/etcd/server/v3/storage/schema"
	"go.uber.org/zap"
)

// contents is what a database holds.
type contents struct {
	revision       int64
	keys           int
	emptyKey       bool
	size           int64
	storageVersion string
	members        []Member
	alarms         []string
	auth           bool
	authUsers      []string
	encrypted      []string
	kube           kube
	lastWrite      time.Time
	kinds          []Kind
	crds           []string
	encryption     []Encryption
	stored         []storedValues
	more           map[string]int
	longKeys       int
}

func (c *contents) fill(info *Info) {
	info.Revision, info.Keys, info.EmptyKey = c.revision, c.keys, c.emptyKey
	info.TotalSize, info.StorageVersion = c.size, c.storageVersion
	info.Members, info.Alarms, info.AuthEnabled, info.AuthUsers = c.members, c.alarms, c.auth, c.authUsers
	info.EncryptedPrefixes, info.LastWrite = c.encrypted, c.lastWrite
	k := c.kube
	info.Prefix, info.Prefixes, info.KubeSystemUID = k.prefix, k.prefixes, k.kubeSystemUID
	info.Namespaces, info.Nodes = k.namespaces, k.nodes
	info.stored = c.stored
	info.Kinds, info.CRDs, info.Encryption = c.kinds, c.crds, c.encryption
	info.KubeletVersions = k.kubelets
	info.ServiceCIDRs, info.ServiceIP, info.APIServers = k.serviceCIDRs, k.serviceIP, k.apiServers
	info.Kubeadm = k.kubeadm
	info.More, info.LongKeys = c.more, c.longKeys
}

// readKeys reads the bucket of keys into contents: allKeys or countKeys.
type readKeys func(*contents, *bolt.Bucket) error

// readBolt checks the structure of a database and reads what it holds. It may
// end the process: only a worker calls it.
func readBolt(path string, keys readKeys) (*contents, error) {
	db, err := openChecked(path)
	if err != nil {
		return nil, err
	}
	return readChecked(db, keys)
}

// openChecked opens a database and checks its structure.
func openChecked(path string) (db *bolt.DB, err error) {
	err = guard(func() error {
		if db, err = openBolt(path); err != nil {
			return err
		}
		return db.View(checkPages)
	})
	return db, err
}

func checkPages(tx *bolt.Tx) error {
	for err := range tx.Check() {
		// The first is enough: with pages in a circle there would be no
		// end. What is left goes with the process.
		return problem.Coded(CodeStructure, useAnother, "damaged: %s", shorten(err.Error(), 200))
	}
	return nil
}

// readChecked reads what a database holds, and closes it.
func readChecked(db *bolt.DB, keys readKeys) (c *contents, err error) {
	err = guard(func() error {
		defer db.Close()
		return db.View(func(tx *bolt.Tx) error {
			c, err = readTx(tx, keys)
			return err
		})
	})
	return c, err
}

// guard turns a panic, and a fault in memory that this goroutine touches, into
// a Problem.
func guard(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = problem.Coded(CodeStructure, useAnother, "damaged: reading it failed: %v", r)
		}
	}()
	return f()
}

// openBolt opens for reading only and gives the lock back at once: it must not
// keep an etcd from starting. Taken it must be, because bbolt knows no other
// way, and it shows whether an etcd has the file open.
func openBolt(path string) (*bolt.DB, error) {
	var file *os.File
	db, err := bolt.Open(path, 0, &bolt.Options{
		ReadOnly:     true,
		Timeout:      200 * time.Millisecond,
		FreelistType: bolt.FreelistMapType,
		NoStatistics: true,
		OpenFile: func(name string, flag int, mode os.FileMode) (f *os.File, err error) {
			file, err = os.OpenFile(name, flag, mode)
			return file, err
		},
	})
	var perr *fs.PathError
	switch {
	case err == nil:
	case errors.Is(err, berrors.ErrTimeout):
		return nil, problem.Coded(CodeInUse, "take a snapshot of that etcd instead, or stop it first", "an etcd has this file open")
	case errors.As(err, &perr):
		return nil, openProblem(path, err)
	default:
		return nil, problem.Coded(CodeStructure, useAnother, "damaged: %v", err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_UN); err != nil {
		_ = db.Close()
		return nil, err
	}
	return db, nil
}

func readTx(tx *bolt.Tx, keys readKeys) (*contents, error) {
	for _, b := range []backend.Bucket{schema.Key, schema.Meta} {
		if tx.Bucket(b.Name()) == nil {
			return nil, problem.Coded(CodeNotEtcd, "a snapshot is what etcdctl snapshot save writes",
				"a bolt database, but not etcd's: it has no bucket %q", b.Name())
		}
	}
	c := &contents{size: tx.Size()}
	if v := schema.ReadStorageVersionFromSnapshot(tx); v != nil {
		c.storageVersion = v.String()
	}
	be := readOnly{tx: tx}
	members, _ := schema.NewMembershipBackend(zap.NewNop(), be).MustReadMembersFromBackend()
	for id, m := range members {
		c.members = append(c.members, Member{ID: uint64(id), Name: name(m.Name), PeerURLs: m.PeerURLs, Learner: m.IsLearner})
	}
	slices.SortFunc(c.members, func(a, b Member) int {
		if a.ID < b.ID {
			return -1
		}
		return 1
	})
	if len(c.members) > maxFew {
		c.beyond("members", len(c.members)-maxFew)
		c.members = c.members[:maxFew]
	}
	for i := range c.members {
		c.members[i].PeerURLs = c.few(c.members[i].PeerURLs, "peer URLs", maxFew)
	}
	alarms, err := schema.NewAlarmBackend(zap.NewNop(), be).GetAllAlarms()
	if err != nil {
		return nil, problem.Coded(CodeStructure, useAnother, "damaged: its alarms can't be read: %v", err)
	}
	for _, a := range alarms {
		c.alarms = append(c.alarms, a.GetAlarm().String())
	}
	slices.Sort(c.alarms)
	c.alarms = c.few(slices.Compact(c.alarms), "alarms", maxFew)
	if err := keys(c, tx.Bucket(schema.Key.Name())); err != nil {
		return nil, err
	}
	c.auth, c.authUsers = readAuth(tx, c.kube.prefix)
	return c, nil
}

// readOnly lets etcd's own readers of members, alarms and auth work on a bolt
// transaction. They want a backend, and a real one would write to the file.
type readOnly struct {
	backend.Backend // nil: whatever else is called must not be
	tx              *bolt.Tx
}

func (r readOnly) ReadTx() backend.ReadTx { return boltTx{r.tx} }

// boltTx stops after maxRecords of a bucket: what etcd's readers collect is in
// memory, and a cluster has few members, users and roles.
type boltTx struct{ tx *bolt.Tx }

func (boltTx) RLock()   {}
func (boltTx) RUnlock() {}

func (t boltTx) UnsafeForEach(bucket backend.Bucket, visit func(k, v []byte) error) error {
	b := t.tx.Bucket(bucket.Name())
	if b == nil {
		return nil
	}
	c, n := b.Cursor(), 0
	for k, v := c.First(); k != nil && n < maxRecords; k, v = c.Next() {
		if err := visit(k, v); err != nil {
			return err
		}
		n++
	}
	return nil
}

func (t boltTx) UnsafeRange(bucket backend.Bucket, key, end []byte, limit int64) (keys, values [][]byte) {
	b := t.tx.Bucket(bucket.Name())
	if b == nil {
		return nil, nil
	}
	if end == nil {
		if v := b.Get(key); v != nil {
			return [][]byte{key}, [][]byte{v}
		}
		return nil, nil
	}
	c := b.Cursor()
	for k, v := c.Seek(key); k != nil && bytes.Compare(k, end) < 0; k, v = c.Next() {
		keys, values = append(keys, k), append(values, v)
		if limit > 0 && int64(len(keys)) == limit || len(keys) == maxRecords {
			break
		}
	}
	return keys, values
}
