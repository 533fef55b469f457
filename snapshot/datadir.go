package snapshot

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/client/pkg/v3/fileutil"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/etcd/server/v3/storage/wal/walpb"
	"google.golang.org/protobuf/proto"
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
			return nil, problem(CodeStructure, "use a snapshot", "damaged or truncated: %v", crash)
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
			p = problem(CodeNoData, "check the path", "not a data directory: it has no member/snap/db")
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
	if c.emptyKey {
		r.Keys--
	}
	r.ClusterID, r.MemberID, err = walIdentity(walPath(dir, walDir))
	return r, err
}

// walIdentity reads cluster and member ID, which every WAL file begins with,
// from the newest file that has them. etcd's ReadAll would decode the lot.
func walIdentity(dir string) (clusterID, memberID uint64, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, 0, openProblem(dir, err)
	}
	err = nil
	for _, e := range slices.Backward(entries) { // sorted by name, which is by age
		if filepath.Ext(e.Name()) != ".wal" {
			continue
		}
		if clusterID, memberID, err = identityIn(filepath.Join(dir, e.Name())); err == nil {
			return clusterID, memberID, nil
		}
	}
	if err == nil {
		return 0, 0, problem(CodeNoData, "with --wal-dir the WAL lies elsewhere", "there is no WAL in %s", dir)
	}
	return 0, 0, problem(CodeStructure, "use a snapshot", "the WAL can't be read: %v", err)
}

func identityIn(name string) (clusterID, memberID uint64, err error) {
	f, err := os.Open(name)
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	dec := wal.NewDecoder(fileutil.NewFileReader(f))
	for {
		var rec walpb.Record
		if err := dec.Decode(&rec); err != nil {
			return 0, 0, err
		}
		switch rec.GetType() {
		case wal.CrcType: // carried over from the file before
			dec.UpdateCRC(rec.GetCrc())
		case wal.MetadataType:
			var md etcdserverpb.Metadata
			if err := proto.Unmarshal(rec.Data, &md); err != nil {
				return 0, 0, err
			}
			return md.GetClusterID(), md.GetNodeID(), nil
		default:
			return 0, 0, errors.New("it doesn't begin with the cluster's ID")
		}
	}
}
