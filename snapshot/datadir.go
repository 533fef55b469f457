package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/client/pkg/v3/fileutil"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/etcd/server/v3/storage/wal/walpb"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"etcd-rewind/defect"
	"etcd-rewind/problem"
)

type dataDirRequest struct {
	DataDir string `json:"data_dir"`
	WALDir  string `json:"wal_dir,omitempty"`
}

// ReadDataDir reads what a data directory holds that no etcd runs on, without
// writing to it and without holding its lock; with one running the Problem is
// CodeInUse. walDir is "" when the WAL is inside.
//
// etcd writes its database in batches: after a crash the newest revisions may
// be in the WAL alone, and the one returned is a little behind.
func ReadDataDir(ctx context.Context, dir, walDir string) (*Restored, error) {
	req := dataDirRequest{DataDir: dir, WALDir: walDir}
	for _, p := range []*string{&req.DataDir, &req.WALDir} {
		if *p == "" {
			continue
		}
		abs, err := filepath.Abs(*p)
		if err != nil {
			return nil, err
		}
		*p = abs
	}
	var r Restored
	if err := call(ctx, workDataDir, req, &r, nil); err != nil {
		var crash *crashError
		if errors.As(err, &crash) && crash.signal != "SIGKILL" {
			return nil, problem.Coded(CodeStructure, "use a snapshot", "damaged or truncated: %v", crash)
		}
		return nil, err
	}
	return &r, nil
}

// readDataDir does the work of ReadDataDir, in the child.
func readDataDir(dir, walDir string) (*Restored, error) {
	db := dbPath(dir)
	if _, err := os.Stat(db); err != nil {
		p := openProblem(db, err)
		if p.Code == CodeMissing {
			p = problem.Coded(CodeNoData, "check the path", "not a data directory: it has no member/snap/db")
		}
		return nil, p
	}
	if _, err := Quick(db); err != nil {
		return nil, err
	}
	c, err := readBolt(db, countKeys)
	if err != nil {
		return nil, err
	}
	return c.restored(dir, walDir)
}

// restored is what a data directory holds whose database holds c.
func (c *contents) restored(dir, walDir string) (*Restored, error) {
	info, err := Quick(dbPath(dir))
	if err != nil {
		return nil, err
	}
	r := &Restored{Revision: c.revision, Keys: c.keys, Members: c.members, StorageVersion: c.storageVersion, Bytes: info.Size}
	id, err := walIdentity(walPath(dir, walDir))
	r.ClusterID, r.MemberID = id.ClusterID, id.MemberID
	return r, err
}

// walIdentity reads cluster and member ID, which every WAL file begins with,
// from the newest file that has them, and what was committed last from the rest
// of it. etcd's ReadAll would decode the lot.
func walIdentity(dir string) (id Identity, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return id, openProblem(dir, err)
	}
	err = nil
	for _, e := range slices.Backward(entries) { // sorted by name, which is by age
		if filepath.Ext(e.Name()) != ".wal" {
			continue
		}
		if id, err = identityIn(filepath.Join(dir, e.Name())); err == nil {
			return id, nil
		}
	}
	if err == nil {
		return id, problem.Coded(CodeNoData, "with --wal-dir the WAL is elsewhere", "there is no WAL in %s", dir)
	}
	return id, problem.Coded(CodeStructure, "use a snapshot", "the WAL can't be read: %v", err)
}

// mostWAL bounds how much of a WAL file is read, in bytes: etcd begins another
// at 64 MB.
const mostWAL = 256 << 20

func identityIn(name string) (id Identity, err error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a pipe isn't waited for
	if err != nil {
		return id, err
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return id, errors.Join(err, fmt.Errorf("%s is not a regular file", filepath.Base(name)))
	}
	dec := wal.NewDecoder(fileutil.NewFileReader(f))
	for known := false; ; {
		var rec walpb.Record
		if err := dec.Decode(&rec); known && (err != nil || dec.LastOffset() > mostWAL) {
			return id, nil // the end, or what an etcd is writing
		} else if err != nil {
			return id, err
		}
		switch rec.GetType() {
		case wal.CrcType: // carried over from the file before
			dec.UpdateCRC(rec.GetCrc())
		case wal.MetadataType:
			var md etcdserverpb.Metadata
			if err := proto.Unmarshal(rec.Data, &md); err != nil {
				return id, err
			}
			id.ClusterID, id.MemberID, known = md.GetClusterID(), md.GetNodeID(), true
		case wal.StateType:
			var state raftpb.HardState
			if proto.Unmarshal(rec.Data, &state) == nil {
				id.Committed = max(id.Committed, state.GetCommit())
			}
		default:
			if !known {
				return id, errors.New("it doesn't begin with the cluster's ID")
			}
		}
	}
}

// Identity is whose data a directory holds, as its files show.
type Identity struct {
	ClusterID uint64 `json:"cluster_id,omitempty"` // 0 when the WAL can't be read
	MemberID  uint64 `json:"member_id,omitempty"`
	// Committed is the raft index up to which the WAL has committed; it never
	// becomes lower. 0 when it isn't known.
	Committed uint64 `json:"committed,omitempty"`
	// WALErr says why the IDs can't be read, "" when they were.
	WALErr string `json:"wal_error,omitempty"`

	// Database is false when there is no member/snap/db that etcd could open;
	// DatabaseErr says why.
	Database    bool      `json:"database,omitempty"`
	DatabaseErr string    `json:"database_error,omitempty"`
	Inode       uint64    `json:"inode,omitempty"` // of the database, as are the rest
	Size        int64     `json:"size,omitempty"`  // bytes
	Modified    time.Time `json:"modified,omitzero"`
}

// Identify reads whose data a directory holds: the IDs that every WAL file
// begins with, how far it goes, and size and age of the database. It takes no
// lock, maps nothing into memory and reads a few pages and one WAL file, so it
// may be asked while an etcd runs on the directory, and of one that is damaged. walDir is "" when the WAL is
// inside.
//
// The error is ctx's: a disk that hangs is not waited for longer.
func Identify(ctx context.Context, dir, walDir string) (Identity, error) {
	id, err := defect.Await(ctx, func() (Identity, error) { return identify(dir, walDir), nil })
	if err != nil {
		return id, fmt.Errorf("read %s: %w", dir, ctx.Err())
	}
	return id, nil
}

func identify(dir, walDir string) Identity {
	id, walErr := walIdentity(walPath(dir, walDir))
	db := dbPath(dir)
	info, err := Quick(db)
	if st, serr := os.Stat(db); serr == nil {
		id.Size, id.Modified = st.Size(), st.ModTime()
		if sys, ok := st.Sys().(*syscall.Stat_t); ok {
			id.Inode = sys.Ino
		}
	}
	switch {
	case err != nil:
		id.DatabaseErr = err.Error()
	case info.Hash != HashMissing:
		id.DatabaseErr = "it ends with a sha256, as a snapshot does and no etcd's database"
	default:
		id.Database = true
	}
	if walErr != nil {
		id.WALErr = walErr.Error()
	} else if id.ClusterID == 0 {
		id.WALErr = "the WAL names no cluster"
	}
	return id
}
