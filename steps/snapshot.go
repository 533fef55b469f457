package steps

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"

	"etcd-rewind/snapshot"
)

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
		dir := f.BesideData()
		if st, err := os.Stat(dir); err == nil && st.IsDir() {
			return dir
		}
	}
	return filepath.Dir(path)
}
