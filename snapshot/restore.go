package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"

	bolt "go.etcd.io/bbolt"
	etcdutl "go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"etcd-rewind/defect"
	"etcd-rewind/problem"
	"etcd-rewind/trust"
)

// RestoreRequest says what to restore, and where.
type RestoreRequest struct {
	Snapshot string `json:"snapshot"`
	// DataDir is made, or must be empty. Its parent must exist.
	DataDir string `json:"data_dir"`
	// WALDir is for an etcd with --wal-dir; "" is inside DataDir. It must not
	// exist, its parent must.
	WALDir string `json:"wal_dir,omitempty"`

	Name     string   `json:"name"`
	PeerURLs []string `json:"peer_urls"`
	// InitialCluster is "name=url,name=url", as etcd's flag; the member
	// itself must be in it. "" means this member alone.
	InitialCluster string `json:"initial_cluster,omitempty"`
	// Token goes into the new cluster's ID; "" means etcd's "etcd-cluster".
	Token string `json:"token,omitempty"`

	// RevisionBump is added to the snapshot's revision; all before it is then
	// marked compacted, so that clients which saw later revisions list again.
	// 0 leaves both.
	RevisionBump uint64 `json:"revision_bump,omitempty"`
	// SkipHashCheck allows a file without a trailer. A wrong hash is never
	// allowed.
	SkipHashCheck bool `json:"skip_hash_check,omitempty"`
	// ExpectSHA256 is Info.SHA256 of a file that was inspected: the same bytes
	// have the same structure, which isn't checked a second time. "" is for
	// any file.
	ExpectSHA256 string `json:"expect_sha256,omitempty"`

	// Of the old data directory: owner of every file, and mode of the
	// directory itself. nil and 0 leave them as etcd makes them.
	UID  *int        `json:"uid,omitempty"`
	GID  *int        `json:"gid,omitempty"`
	Mode os.FileMode `json:"mode,omitempty"`
	// SELinuxLabel of every file, for example
	// "system_u:object_r:container_file_t:s0"; "" sets none.
	SELinuxLabel string `json:"selinux_label,omitempty"`
}

// Restored is what a data directory holds, read back from it.
type Restored struct {
	ClusterID uint64 `json:"cluster_id"` // of its WAL
	MemberID  uint64 `json:"member_id"`  // of its WAL
	Revision  int64  `json:"revision"`   // after the bump
	// Keys is what etcd answers when asked for the number of all keys: without
	// the empty key of a revision bump, which Info.Keys counts.
	Keys           int      `json:"keys"`
	Members        []Member `json:"members"`
	StorageVersion string   `json:"storage_version,omitempty"`
	Bytes          int64    `json:"bytes"` // size of member/snap/db
}

const defaultToken = "etcd-cluster"

// dbPath is the database in a data directory.
func dbPath(dataDir string) string { return filepath.Join(dataDir, "member", "snap", "db") }

func walPath(dataDir, walDir string) string {
	if walDir != "" {
		return walDir
	}
	return filepath.Join(dataDir, "member", "wal")
}

// Restore makes a data directory from a snapshot, the same that etcdutl makes:
// it copies while it checks the hash, has etcdutl's library change the copy,
// gives owner, mode and label, syncs to disk, checks the structure, reads back,
// and compares. The snapshot itself is only read. It gives way to what else
// runs on the node: at low priority for CPU and disk, and in small pieces.
// progress may be nil; it is called from another goroutine, never after Restore
// has returned.
//
// The error is a *problem.Problem where a person can do something. A call that fails
// or is cancelled leaves nothing behind of what it made, and never touches
// what was there before. It isn't safe to call twice for the same place: the
// second call is refused.
func Restore(ctx context.Context, req RestoreRequest, progress func(Progress)) (*Restored, error) {
	return restore(ctx, req, nil, progress)
}

// restoreWork is what a worker is asked for.
type restoreWork struct {
	RestoreRequest
	// Own says that the snapshot isn't to be copied: it lies where its copy would,
	// and was inspected.
	Own bool `json:"own,omitempty"`
}

func restore(ctx context.Context, req RestoreRequest, from *Staged, progress func(Progress)) (*Restored, error) {
	if err := req.settle(); err != nil {
		return nil, err
	}
	if _, err := Quick(req.Snapshot); err != nil {
		return nil, err
	}
	remove, err := claim(req.DataDir, req.WALDir)
	if err != nil {
		return nil, err
	}
	work := restoreWork{RestoreRequest: req}
	var done Restored
	if err = os.Mkdir(scratchDir(req.DataDir), 0o700); err != nil {
		err = targetProblem(err)
	} else {
		work.Own = from != nil && from.Path == req.Snapshot && from.becomes(scratchDB(req.DataDir), req.ExpectSHA256)
		// That a copy has no trailer is because it was compared when it was made.
		work.SkipHashCheck = work.SkipHashCheck || from != nil && from.content != "" && from.content == req.ExpectSHA256
		release := reads(req.Snapshot)
		err = call(ctx, workRestore, work, &done, progress)
		release()
	}
	if err != nil {
		var crash *crashError
		if errors.As(err, &crash) {
			err = endedEarly(crash)
		}
		if rerr := remove(); rerr != nil {
			err = errors.Join(err, fmt.Errorf("cannot remove what it left behind: %w", rerr))
		}
		return nil, err
	}
	return &done, nil
}

// endedEarly explains a worker that etcd's library ended: it does that when it
// can't write.
func endedEarly(crash *crashError) error {
	for _, full := range []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT} {
		if strings.Contains(crash.detail, full.Error()) {
			return targetProblem(full)
		}
	}
	if crash.signal == "SIGKILL" {
		return fmt.Errorf("the restore ended early: %w", crash)
	}
	return problem.Coded(CodeRestore, "inspect the snapshot, and look for disk and memory errors in the kernel's log", "the restore ended early: %v", crash)
}

// settle fills in defaults and refuses what can't be right.
func (r *RestoreRequest) settle() error {
	for _, p := range []*string{&r.Snapshot, &r.DataDir, &r.WALDir} {
		if *p == "" {
			continue
		}
		abs, err := filepath.Abs(*p)
		if err != nil {
			return err
		}
		*p = abs
	}
	switch {
	case r.Snapshot == "" || r.DataDir == "":
		return problem.Coded(CodeRequest, "", "snapshot and data directory must be given")
	case r.Name == "" || len(r.PeerURLs) == 0:
		return problem.Coded(CodeRequest, "they are --name and --initial-advertise-peer-urls of etcd's manifest", "the member's name and peer URLs must be given")
	case r.WALDir != "" && (r.WALDir == r.DataDir || r.WALDir == filepath.Join(r.DataDir, "member") || strings.HasPrefix(r.DataDir, r.WALDir+"/")):
		return problem.Coded(CodeRequest, "", "the data directory can't be inside the WAL directory")
	case r.WALDir != "" && strings.HasPrefix(r.WALDir, filepath.Join(r.DataDir, "member", "snap")+"/"):
		return problem.Coded(CodeRequest, "", "the WAL directory can't be beside the database")
	case r.RevisionBump > math.MaxInt64/2:
		return problem.Coded(CodeRequest, "1000000000 is far enough", "a revision bump of %d is too big", r.RevisionBump)
	}
	if r.Token == "" {
		r.Token = defaultToken
	}
	if r.InitialCluster == "" {
		var pairs []string
		for _, u := range r.PeerURLs {
			pairs = append(pairs, r.Name+"="+u)
		}
		r.InitialCluster = strings.Join(pairs, ",")
	}
	return nil
}

// scratchDir is where a data directory is put together: in it, so that the
// parts get to their places by renames, and whoever removes the one has removed
// the other.
func scratchDir(dataDir string) string { return filepath.Join(dataDir, ".restoring") }

// scratchDB is the new database in it.
func scratchDB(dataDir string) string { return filepath.Join(scratchDir(dataDir), "db") }

// claim makes the data directory, or takes an empty one, and returns how to
// remove what the restore makes from here on, and nothing else.
func claim(dataDir, walDir string) (remove func() error, err error) {
	if walDir != "" {
		// etcd writes the WAL into .tmp first and would remove an older one.
		for _, p := range []string{walDir, walDir + ".tmp"} {
			if _, err := os.Lstat(p); err == nil {
				return nil, problem.Coded(CodeTarget, "choose a new one; it is made by the restore", "the WAL directory %s exists", p)
			} else if !errors.Is(err, fs.ErrNotExist) {
				return nil, targetProblem(err)
			}
		}
		if !trust.Within(dataDir, walDir) {
			if st, err := os.Stat(filepath.Dir(walDir)); err != nil || !st.IsDir() {
				return nil, problem.Coded(CodeTarget, "create it first, or check the path", "%s, in which the WAL directory should be, doesn't exist", filepath.Dir(walDir))
			}
		}
	}
	var mine []string
	switch err := os.Mkdir(dataDir, 0o700); {
	case err == nil:
		mine = []string{dataDir}
	case errors.Is(err, fs.ErrExist):
		if st, err := os.Lstat(dataDir); err == nil && st.Mode()&fs.ModeSymlink != 0 {
			return nil, problem.Coded(CodeTarget, "check where it leads; name a directory", "%s is a symbolic link", dataDir)
		}
		if p := emptyDir(dataDir); p != nil {
			return nil, p
		}
		mine = []string{filepath.Join(dataDir, "member"), scratchDir(dataDir)}
		if rest, ok := strings.CutPrefix(walDir, dataDir+"/"); ok {
			first, _, _ := strings.Cut(rest, "/")
			mine = append(mine, filepath.Join(dataDir, first))
		}
	case errors.Is(err, fs.ErrNotExist):
		return nil, problem.Coded(CodeTarget, "create it first, or check the path", "%s, in which the data directory should be, doesn't exist", filepath.Dir(dataDir))
	default:
		return nil, targetProblem(err)
	}
	if walDir != "" {
		mine = append(mine, walDir, walDir+".tmp")
	}
	return func() error {
		var errs []error
		for _, p := range mine {
			errs = append(errs, os.RemoveAll(p))
		}
		return errors.Join(errs...)
	}, nil
}

func emptyDir(dir string) *problem.Problem {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, syscall.ENOTDIR):
		return problem.Coded(CodeTarget, "choose another path", "%s exists and isn't a directory", dir)
	case err != nil:
		return targetProblem(err)
	case len(entries) == 0:
		return nil
	}
	hint := "choose a new one; it is made by the restore"
	if entries[0].Name() == "lost+found" && len(entries) == 1 {
		hint = "it is the root of a file system: choose a directory below it"
	}
	return problem.Coded(CodeTarget, hint, "%s isn't empty: it holds %s", dir, entries[0].Name())
}

func targetProblem(err error) *problem.Problem {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return problem.Coded(CodeNoSpace, "free some space there, or restore to another disk", "%v", err)
	case errors.Is(err, fs.ErrPermission) && os.Geteuid() == 0:
		return problem.Coded(CodeTarget, "root can't write there either; check who can: ls -ld, lsattr -d, SELinux's audit log", "%v", err)
	case errors.Is(err, fs.ErrPermission):
		return problem.Coded(CodeTarget, "run as root", "%v", err)
	case errors.Is(err, syscall.EROFS):
		return problem.Coded(CodeTarget, "the disk is mounted read-only, perhaps after an error: check the kernel's log", "%v", err)
	}
	return problem.Coded(CodeTarget, "", "%v", err)
}

// restoreInto does the work of Restore, in the child.
func restoreInto(work restoreWork, progress func(Progress)) (*Restored, error) {
	req, scratch, db := work.RestoreRequest, scratchDir(work.DataDir), scratchDB(work.DataDir)
	from := req.Snapshot
	if work.Own {
		from = db
	}
	info, err := Quick(from)
	if err != nil {
		return nil, err
	}
	if info.Hash == HashMissing && !req.SkipHashCheck {
		return nil, problem.Coded(CodeNoHash, "it is a copied data file, or it was truncated; override the missing checksum, or use another snapshot",
			"it has no sha256 trailer")
	}
	if work.Own {
		if err := os.Truncate(db, info.content()); err != nil {
			return nil, targetProblem(err)
		}
	} else if err := req.copies(db, info, progress); err != nil {
		return nil, err
	}
	progress(Progress{Phase: "wal"})
	whole, src, err := openTransferred(db, req.ExpectSHA256 != "")
	if err != nil {
		return nil, err
	}
	revision, err := raised(src.revision, req.RevisionBump)
	if err != nil {
		_ = whole.Close()
		return nil, err
	}
	holds, err := asEtcdutl(req, whole, db, scratch)
	if err != nil {
		return nil, err
	}
	if err := finish(req, progress); err != nil {
		return nil, err
	}
	progress(Progress{Phase: "verify"})
	held, err := holds()
	if err != nil {
		return nil, err
	}
	got, err := held.restored(req.DataDir, req.WALDir)
	if err != nil {
		return nil, fmt.Errorf("reading back what was restored: %w", err)
	}
	want := Restored{Revision: revision, Keys: src.keys}
	switch {
	case got.Revision != want.Revision:
		return nil, problem.Coded(CodeVerify, verifyHint, "the restored data is at revision %d, not at %d", got.Revision, want.Revision)
	case got.Keys != want.Keys:
		return nil, problem.Coded(CodeVerify, verifyHint, "the restored data has %d keys, the snapshot %d", got.Keys, want.Keys)
	case !hasMember(got, req.Name):
		return nil, problem.Coded(CodeVerify, verifyHint, "the restored data has no member %q", req.Name)
	}
	return got, nil
}

// copies makes db, with the content of the snapshot.
func (r *RestoreRequest) copies(db string, info *Info, progress func(Progress)) error {
	before, err := os.Stat(r.Snapshot)
	if err != nil {
		return openProblem(r.Snapshot, err)
	}
	progress(Progress{Phase: "copy", Total: info.content()})
	sum, err := transfer(r.Snapshot, db, info, progress)
	if err != nil {
		return err
	}
	if r.ExpectSHA256 != "" && sum != r.ExpectSHA256 {
		return problem.Coded(CodeChanged, "inspect it again", "this isn't the file that was inspected: its sha256 differs")
	}
	if p := changedSince(r.Snapshot, before); p != nil {
		return p
	}
	return nil
}

// raised adds a bump to a revision. Half of what fits is left to the cluster, and
// no snapshot says more.
func raised(revision int64, bump uint64) (int64, error) {
	if revision < 0 || revision > math.MaxInt64/2 || bump > uint64(math.MaxInt64/2-revision) {
		return 0, problem.Coded(CodeRequest, "1000000000 is far enough", "revision %d can't be raised by %d", revision, bump)
	}
	return revision + int64(bump), nil
}

// openTransferred opens a new file, which has the bytes of the snapshot, to
// change it, and reads what it holds meanwhile. Inspect has checked the
// structure of a file whose sha256 is known.
func openTransferred(db string, known bool) (whole *bolt.DB, src *contents, err error) {
	open := openChecked
	if known {
		open = openBolt
	}
	reader, err := open(db)
	if err != nil {
		return nil, nil, err
	}
	debug.FreeOSMemory() // what the structure check needed; bolt needs as much again
	read := make(chan error, 1)
	go defect.Do(func() {
		var err error
		src, err = readChecked(reader, countKeys)
		read <- err
	})()
	err = guard(func() error {
		whole, err = openToChange(db)
		return err
	})
	if rerr := <-read; rerr != nil {
		if err == nil {
			_ = whole.Close()
		}
		return nil, nil, rerr
	}
	return whole, src, err
}

const verifyHint = "look for disk errors in the kernel's log, then try again"

func hasMember(r *Restored, name string) bool {
	for _, m := range r.Members {
		if m.ID == r.MemberID {
			return m.Name == name
		}
	}
	return false
}

// runEtcdutl calls etcdutl's library, which logs to stderr what it dies of.
// The hash is checked by now, and the file may be one that never had any.
func runEtcdutl(req RestoreRequest) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = problem.Coded(CodeRestore, "", "etcd's library gave up: %v", r)
		}
	}()
	core := zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.AddSync(os.Stderr), zapcore.DPanicLevel)
	err = etcdutl.NewV3(zap.New(core)).Restore(etcdutl.RestoreConfig{
		SnapshotPath:        req.Snapshot,
		Name:                req.Name,
		OutputDataDir:       req.DataDir,
		OutputWALDir:        req.WALDir,
		PeerURLs:            req.PeerURLs,
		InitialCluster:      req.InitialCluster,
		InitialClusterToken: req.Token,
		SkipHashCheck:       true,
		RevisionBump:        req.RevisionBump,
		MarkCompacted:       req.RevisionBump > 0, // one without the other is silently ignored
	})
	var perr *fs.PathError
	var errno syscall.Errno
	switch {
	case err == nil:
		return nil
	case errors.As(err, &perr), errors.As(err, &errno):
		return targetProblem(err)
	}
	return problem.Coded(CodeRestore, "", "etcd's library refused: %v", err)
}

// finish gives owner, mode and label, and brings everything to the disk.
func finish(req RestoreRequest, progress func(Progress)) error {
	roots := []string{req.DataDir}
	if req.WALDir != "" && !trust.Within(req.DataDir, req.WALDir) {
		roots = append(roots, req.WALDir)
	}
	var paths []string
	var total int64
	for _, root := range roots {
		err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			st, err := d.Info()
			if err != nil {
				return err
			}
			if st.Mode().IsRegular() {
				total += st.Size()
			}
			paths = append(paths, p)
			return nil
		})
		if err != nil {
			return targetProblem(err)
		}
	}
	uid, gid := -1, -1
	if req.UID != nil {
		uid = *req.UID
	}
	if req.GID != nil {
		gid = *req.GID
	}
	var done int64
	for _, p := range paths {
		if err := os.Lchown(p, uid, gid); err != nil {
			return targetProblem(err)
		}
		if req.SELinuxLabel != "" {
			if err := setLabel(p, req.SELinuxLabel); err != nil {
				return problem.Coded(CodeTarget, "restore to a file system that keeps labels, or without a label",
					"the SELinux label %s can't be set: %v", req.SELinuxLabel, err)
			}
		}
		n, err := syncPath(p)
		if err != nil {
			return targetProblem(err)
		}
		done += n
		progress(Progress{Phase: "sync", Done: done, Total: total})
	}
	for _, root := range roots {
		if req.Mode != 0 {
			if err := os.Chmod(root, req.Mode.Perm()|req.Mode&(os.ModeSetgid|os.ModeSticky)); err != nil {
				return targetProblem(err)
			}
		}
		for _, p := range []string{root, filepath.Dir(root)} {
			if _, err := syncPath(p); err != nil {
				return targetProblem(err)
			}
		}
	}
	return nil
}

// syncPath returns the size of a regular file.
func syncPath(path string) (int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if err := f.Sync(); err != nil {
		return 0, err
	}
	if st.Mode().IsRegular() {
		return st.Size(), nil
	}
	return 0, nil
}
