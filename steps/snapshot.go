package steps

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"filippo.io/age"

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
func (s *Session) Compare(ctx context.Context, f *Facts, info *snapshot.Info, o snapshot.CompareOptions, progress func(snapshot.Progress)) (*snapshot.Comparison, error) {
	other, err := f.Other()
	if err != nil {
		return nil, err
	}
	c, err := snapshot.Compare(ctx, info.Path, other, o, progress)
	if err == nil {
		c.Snapshot.From, c.Snapshot.Doubt = info.Name, info.Doubt
	}
	return c, err
}

// Save takes a snapshot of this node's etcd; see snapshot.Save.
func (s *Session) Save(ctx context.Context, f *Facts, path string, progress func(snapshot.Progress)) (*snapshot.Info, error) {
	if f.Etcd == nil && f.Live == nil {
		return nil, f.EtcdErr
	}
	return snapshot.Save(ctx, snapshot.SaveRequest{Etcd: f.SnapshotEtcd(), Path: path, Node: f.Node, Progress: progress})
}

// Stage makes a snapshot, which the user named, readable as a file on this node:
// beside the data directory, when the node was discovered, for as long as the
// session lasts. What was staged before is taken again.
func (s *Session) Stage(ctx context.Context, name string, progress func(done, total int64)) (*snapshot.Staged, error) {
	src, err := s.source(ctx, name)
	if err != nil {
		return nil, err
	}
	if src.Identities, err = s.identities(ctx); err != nil {
		return nil, err
	}
	return s.files.stage(ctx, s.facts.Load(), src, progress)
}

// source is what a name means; what isn't a file is found once.
func (s *Session) source(ctx context.Context, name string) (snapshot.Source, error) {
	s.elsewhere.Lock()
	defer s.elsewhere.Unlock()
	if src, had := s.elsewhere.found[name]; had {
		return src, nil
	}
	if s.Elsewhere == nil {
		return snapshot.File(name), nil
	}
	src, is, err := s.Elsewhere(ctx, s.facts.Load(), name)
	if err != nil || !is {
		return snapshot.File(name), err
	}
	if s.elsewhere.found == nil {
		s.elsewhere.found = map[string]snapshot.Source{}
	}
	s.elsewhere.found[name] = src
	return src, nil
}

// identities are those that were named, and what asks for a passphrase. Files are
// read once: they may be pipes.
func (s *Session) identities(ctx context.Context) ([]age.Identity, error) {
	s.ids.Lock()
	defer s.ids.Unlock()
	for _, path := range s.Options.Identities[s.ids.files:] {
		ids, err := snapshot.ReadIdentities(ctx, path, s.Ask)
		if err != nil {
			return nil, err
		}
		s.ids.read = append(s.ids.read, ids...)
		s.ids.files++
	}
	switch {
	case s.ids.passphrase != nil:
	case s.Options.PassphraseFile != "":
		said, err := snapshot.ReadPassphrase(ctx, s.Options.PassphraseFile)
		if err != nil {
			return nil, err
		}
		s.ids.passphrase = snapshot.NewPassphrase(func() (string, error) { return said, nil })
	case s.Ask != nil:
		s.ids.passphrase = snapshot.NewPassphrase(func() (string, error) { return s.Ask("the snapshot") })
	}
	all := slices.Clone(s.ids.read)
	if s.ids.passphrase != nil {
		all = append(all, s.ids.passphrase)
	}
	return all, nil
}

// Unlock adds an identity for snapshots that are encrypted, as a person names it:
// a file of identities or an SSH key, with its passphrase where it has one; or
// with path "" a passphrase alone. The error is a *problem.Problem.
func (s *Session) Unlock(ctx context.Context, path, passphrase string) error {
	say := func(string) (string, error) { return passphrase, nil }
	if path == "" {
		s.ids.Lock()
		defer s.ids.Unlock()
		s.ids.passphrase = snapshot.NewPassphrase(func() (string, error) { return passphrase, nil })
		return nil
	}
	if passphrase == "" {
		say = nil
	}
	ids, err := snapshot.ReadIdentities(ctx, path, say)
	if err != nil {
		return err
	}
	s.ids.Lock()
	defer s.ids.Unlock()
	s.ids.read = append(ids, s.ids.read...)
	return nil
}

// stagings are the snapshots that were staged, each once, until they are removed.
// The zero value works; it is safe for use by several goroutines.
type stagings struct {
	mu    sync.Mutex
	made  map[string]*snapshot.Staged // by the source's name
	ahead struct {                    // the copy of a snapshot that can be read as it is
		of   string // its path
		file *snapshot.Staged
	}
}

// stage returns a file that can be read and restored. f may be nil: then it is
// staged beside the source, or where temporary files are when it is encrypted or
// comes from elsewhere.
func (u *stagings) stage(ctx context.Context, f *Facts, src snapshot.Source, progress func(done, total int64)) (*snapshot.Staged, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if had := u.made[src.Name]; had != nil {
		if _, err := os.Stat(had.Path); err == nil {
			return had, nil
		}
	}
	dir := stageDir(ctx, f, src)
	// What can't be removed only takes space: if that is missing, Stage fails.
	_ = snapshot.RemoveStale(dir, f.stagedBefore()...)
	if f != nil && f.Etcd != nil { // what was copied ahead
		_ = snapshot.RemoveStale(f.stagedIn(Choices{}), f.stagedBefore()...)
	}
	got, err := snapshot.Stage(ctx, src, dir, progress)
	if err != nil {
		return nil, err
	}
	if u.made == nil {
		u.made = map[string]*snapshot.Staged{}
	}
	u.made[src.Name] = got
	return got, nil
}

// stagedBefore are the staging files of an unfinished run, which resume needs. f may
// be nil.
func (f *Facts) stagedBefore() []string {
	if f == nil || f.Unfinished == nil {
		return nil
	}
	return []string{f.Unfinished.file}
}

// copied keeps a copy of a snapshot, which is a file of the user's, for the restore
// of it, and removes the one before.
func (u *stagings) copied(file *snapshot.Staged, path string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	_ = u.ahead.file.Remove()                                // it only takes space
	u.ahead.of, u.ahead.file = snapshot.FullName(path), file // as the plan has it
}

// at is what was staged at a path, or copied of the file there; nil when nothing was,
// or when it isn't there any more.
func (u *stagings) at(path string) *snapshot.Staged {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.ahead.file != nil && u.ahead.of == path && isThere(u.ahead.file.Path) {
		return u.ahead.file
	}
	for _, file := range u.made {
		if file.Path == path && file.Copied() && isThere(path) {
			return file
		}
	}
	return nil
}

// staged is the staging file of a snapshot, which was at path when the restore of it
// was planned; nil where that is a file of the user's. A try before may have used it
// up, and a process before may have removed it at its end: then it is staged again.
func (s *Session) staged(ctx context.Context, name, path string, progress func(done, total int64)) (*snapshot.Staged, error) {
	if file := s.files.at(path); file != nil || !snapshot.IsStaging(path) || isThere(path) {
		return file, nil
	}
	return s.Stage(ctx, name, progress)
}

// close removes the staging files. It is safe to call twice.
func (u *stagings) close() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	var errs []error
	for name, file := range u.made {
		errs = append(errs, file.Remove())
		delete(u.made, name)
	}
	errs = append(errs, u.ahead.file.Remove())
	u.ahead.file = nil
	return errors.Join(errs...)
}

// stageDir is on the file system of the data directory: what fits there can
// be restored there.
func stageDir(ctx context.Context, f *Facts, src snapshot.Source) string {
	if f != nil && f.Etcd != nil {
		dir := f.BesideData()
		if st, err := os.Stat(dir); err == nil && st.IsDir() {
			return dir
		}
	}
	if strings.Contains(src.Name, "://") || len(src.Identities) > 0 && snapshot.Encrypted(ctx, src.Name) {
		return os.TempDir() // what was encrypted stays encrypted on the disk it lies on
	}
	return filepath.Dir(src.Name)
}
