package steps

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"etcd-rewind/snapshot"
)

// CheckSnapshot is Check's part about the snapshot alone: whether this node
// can use it.
func CheckSnapshot(ctx context.Context, f *Facts, info *snapshot.Info, c Choices) []Verdict {
	k := &checks{ctx: ctx, f: f, info: info, c: f.Settle(info, c)}
	k.hash()
	if f.Etcd != nil {
		k.version()
		k.alarms()
		k.members()
		k.space()
	}
	k.nodeInSnapshot()
	k.sameServices()
	k.encryption()
	return k.out
}

// Row 23, as far as it can be seen without a running cluster.
func (k *checks) sameServices() {
	const check, title = "snapshot-services", "Service addresses"
	if k.f.API == nil || len(k.f.API.ServiceCIDRs) == 0 || len(k.info.ServiceCIDRs) == 0 {
		return
	}
	for _, c := range k.info.ServiceCIDRs {
		if slices.Contains(k.f.API.ServiceCIDRs, c) {
			k.ok(check, title, "%s, as in %s", c, k.f.API.File.Name())
			return
		}
	}
	k.wrong(check, title, "is it this cluster's snapshot?", "the snapshot's services are in %s, --service-cluster-ip-range is %s",
		strings.Join(k.info.ServiceCIDRs, ", "), strings.Join(k.f.API.ServiceCIDRs, ", "))
}

// Row 24.
func (k *checks) encryption() {
	const check, title = "snapshot-encryption", "Encryption at rest"
	if len(k.info.Encryption) == 0 {
		k.ok(check, title, "nothing in the snapshot is encrypted")
		return
	}
	if k.f.API == nil {
		k.warn(check, title, "", "%s, and no manifest of kube-apiserver to compare with", sayEncrypted(k.info.Encryption))
		return
	}
	const hint = "put the key back into the EncryptionConfiguration first, or those objects can't be read: \"no matching prefix found\""
	if k.f.API.EncryptionConfig == "" {
		k.wrong(check, title, hint, "%s, and kube-apiserver has no --encryption-provider-config", sayEncrypted(k.info.Encryption))
		return
	}
	keys, err := snapshot.ReadEncryptionConfig(k.f.API.EncryptionConfig)
	if err != nil {
		k.wrong(check, title, "", "%s, and kube-apiserver's keys can't be read: %s", sayEncrypted(k.info.Encryption), err)
		return
	}
	if missing := keys.Missing(k.info.Encryption); len(missing) > 0 {
		k.wrong(check, title, hint, "%s: %s doesn't name it, only %s", sayEncrypted(missing), filepath.Base(k.f.API.EncryptionConfig), sayKeys(keys))
		return
	}
	k.ok(check, title, "%s, which %s names", sayEncrypted(k.info.Encryption), filepath.Base(k.f.API.EncryptionConfig))
}

func sayKeys(keys snapshot.EncryptionKeys) string {
	if len(keys) == 0 {
		return "no key at all"
	}
	return strings.Join(keys, ", ")
}

func sayEncrypted(all []snapshot.Encryption) string {
	var parts []string
	for _, e := range all {
		parts = append(parts, strings.Join(e.Resources, ", ")+" with "+e.String())
	}
	return "encrypted: " + strings.Join(parts, "; ")
}

// LineageVerdict says whether a snapshot is of this cluster, by what a
// comparison found. (Row 23.)
func LineageVerdict(c *snapshot.Comparison) Verdict {
	v := Verdict{Check: "snapshot-cluster", Title: "Cluster", Level: Pass, Cause: c.Lineage.Cause}
	switch c.Lineage.Relation {
	case snapshot.OtherCluster:
		v.Level, v.Overridable, v.Hint = Error, true, "everything would start, and nothing would fit: is it the right file?"
	case snapshot.Unrelated:
		v.Level, v.Hint = Warn, "look at the node's name and the namespaces in it"
	case snapshot.Forked:
		v.Hint = "so it is after a restore of an older snapshot"
	}
	return v
}

// Other is what a snapshot is compared with on this node: the running etcd, or
// when it doesn't answer, its data directory.
func (f *Facts) Other() (snapshot.Other, error) {
	switch {
	case f.Live != nil:
		e := f.SnapshotEtcd()
		return snapshot.Other{Etcd: &e}, nil
	case f.Etcd != nil:
		return snapshot.Other{DataDir: f.Etcd.DataDir.Path}, nil
	case f.EtcdErr != nil:
		return snapshot.Other{}, f.EtcdErr
	}
	return snapshot.Other{}, errors.New("there is no etcd on this node to compare with")
}

// SnapshotEtcd is how package snapshot reaches this node's etcd.
func (f *Facts) SnapshotEtcd() snapshot.Etcd {
	return snapshot.Etcd{Endpoints: f.Reach.Etcd.Endpoints, CA: f.Reach.Etcd.CA, Cert: f.Reach.Etcd.Cert, Key: f.Reach.Etcd.Key}
}

// Compare says what restoring a snapshot would change on this node.
func (s *Session) Compare(ctx context.Context, f *Facts, path string, o snapshot.CompareOptions, progress func(snapshot.Progress)) (*snapshot.Comparison, error) {
	other, err := f.Other()
	if err != nil {
		return nil, err
	}
	return snapshot.Compare(ctx, path, other, o, progress)
}

// Save takes a snapshot of this node's etcd; see snapshot.Save.
func (s *Session) Save(ctx context.Context, f *Facts, path string, progress func(snapshot.Progress)) (*snapshot.Info, error) {
	if f.Etcd == nil {
		return nil, f.EtcdErr
	}
	return snapshot.Save(ctx, snapshot.SaveRequest{Etcd: f.SnapshotEtcd(), Path: path, Node: f.Node, Progress: progress})
}

// Unpacker decompresses packed snapshots, each once, and removes what it made.
// The zero value works; it is safe for use by several goroutines.
type Unpacker struct {
	mu   sync.Mutex
	made map[string]*snapshot.Unpacked // by the path asked for
}

// Open returns a file that can be read and restored: the one given, or what
// is packed in it. f may be nil: then it is unpacked beside the file.
func (u *Unpacker) Open(ctx context.Context, f *Facts, path string, progress func(done, total int64)) (*snapshot.Unpacked, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if had := u.made[path]; had != nil {
		if _, err := os.Stat(had.Path); err == nil {
			return had, nil
		}
	}
	dir := unpackDir(f, path)
	var keep []string
	if f != nil && f.Unfinished != nil {
		keep = append(keep, f.Unfinished.Snapshot) // resume needs it
	}
	// What can't be removed only takes space: if that is missing, Unpack tells.
	_ = snapshot.RemoveStale(dir, keep...)
	got, err := snapshot.Unpack(ctx, path, dir, progress)
	if err != nil {
		return nil, err
	}
	if u.made == nil {
		u.made = map[string]*snapshot.Unpacked{}
	}
	u.made[path] = got
	return got, nil
}

// Close removes the staging files. It is safe to call twice.
func (u *Unpacker) Close() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	var errs []error
	for path, m := range u.made {
		errs = append(errs, m.Remove())
		delete(u.made, path)
	}
	return errors.Join(errs...)
}

// unpackDir is on the file system of the data directory: what fits there can
// be restored there.
func unpackDir(f *Facts, path string) string {
	if f != nil && f.Etcd != nil {
		dir := filepath.Dir(f.Etcd.DataDir.HostPath)
		if st, err := os.Stat(dir); err == nil && st.IsDir() {
			return dir
		}
	}
	return filepath.Dir(path)
}
