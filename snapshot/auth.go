package snapshot

import (
	"slices"

	bolt "go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/authpb"
	"go.etcd.io/etcd/pkg/v3/adt"
	"go.etcd.io/etcd/server/v3/auth"
	"go.etcd.io/etcd/server/v3/storage/schema"
	"go.uber.org/zap"
)

// Bounds of what a snapshot's users may take: those that are shown, and the
// roles and permissions that are looked at for all of them together.
const (
	maxAuthUsers = 1000
	maxAuthLooks = 200_000
)

// readAuth reads whether etcd's authentication is enabled in a database, and if
// so, who may read and write all that is below prefix.
func readAuth(tx *bolt.Tx, prefix string) (enabled bool, users []string) {
	read := schema.NewAuthBackend(zap.NewNop(), readOnly{tx: tx}).ReadTx()
	if enabled = read.UnsafeReadAuthEnabled(); !enabled || prefix == "" {
		return enabled, nil
	}
	looks := maxAuthLooks
	err := boltTx{tx}.UnsafeForEach(schema.AuthUsers, func(name, _ []byte) error {
		if len(users) < maxAuthUsers && len(name) <= 256 && looks > 0 && mayUse(read, string(name), prefix, &looks) {
			users = append(users, string(name))
		}
		return nil
	})
	if err != nil {
		return enabled, nil
	}
	slices.Sort(users)
	return enabled, users
}

// mayUse decides as etcd's auth store does (isOpPermitted, getMergedPerms and
// checkKeyInterval in server/auth): one with the role root may do all, others
// what the ranges of their roles cover together. It counts looks down by what it
// looks at, and knows of nothing more at 0.
func mayUse(read auth.UnsafeAuthReader, name, prefix string, looks *int) bool {
	*looks--
	user := read.UnsafeGetUser(name)
	if user == nil {
		return false
	}
	if slices.Contains(user.Roles, "root") {
		return true
	}
	reads, writes := adt.NewIntervalTree(), adt.NewIntervalTree()
	roles := slices.Clone(user.Roles)
	slices.Sort(roles)
	for _, r := range slices.Compact(roles) {
		role := read.UnsafeGetRole(r)
		if *looks--; *looks <= 0 {
			return false
		}
		if role == nil {
			continue
		}
		for _, p := range role.KeyPermission {
			if *looks--; *looks <= 0 {
				return false
			}
			ivl := adt.NewBytesAffinePoint(p.Key)
			switch {
			case len(p.RangeEnd) == 1 && p.RangeEnd[0] == 0:
				ivl = adt.NewBytesAffineInterval(p.Key, nil) // to the end of all keys
			case len(p.RangeEnd) > 0:
				ivl = adt.NewBytesAffineInterval(p.Key, p.RangeEnd)
			}
			if p.PermType != authpb.Permission_WRITE {
				reads.Insert(ivl, nil)
			}
			if p.PermType != authpb.Permission_READ {
				writes.Insert(ivl, nil)
			}
		}
	}
	// All keys that begin with prefix/: '0' follows '/'.
	below := adt.NewBytesAffineInterval([]byte(prefix+"/"), []byte(prefix+"0"))
	return reads.Contains(below) && writes.Contains(below)
}
