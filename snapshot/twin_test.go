package snapshot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"etcd-rewind/problem"

	"github.com/google/go-cmp/cmp"
	bolt "go.etcd.io/bbolt"
	etcdutl "go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.etcd.io/etcd/server/v3/etcdserver/api/snap"
	"go.etcd.io/etcd/server/v3/storage/schema"
	"go.uber.org/zap"
)

// A data directory has to be the one that etcdutl makes: the same files with
// the same modes, byte for byte; but the database record for record, and the
// raft snapshot, to which etcdutl adds several members in any order, by what it
// says.
func TestRestoreMakesWhatEtcdutlMakes(t *testing.T) {
	removed := makeSnapshot(t, func(db *database) {
		db.put("a", "1")
		db.put("b", "2")
		db.delete("a")
		tx := db.BatchTx()
		tx.LockOutsideApply()
		tx.UnsafePut(schema.Members, []byte("8e9e05c52164694d"), []byte(`{"id":10276657743932975437,"peerURLs":["http://10.77.0.9:2380"],"name":"gone"}`))
		tx.UnsafePut(schema.MembersRemoved, []byte("8e9e05c52164694e"), []byte("removed"))
		tx.UnsafePut(schema.Lease, []byte("12345678"), []byte("a lease"))
		tx.UnsafePut(schema.Meta, schema.MetaConfStateName, []byte(`{"voters":[1]}`))
		tx.Unlock()
	})
	for _, c := range []struct {
		name     string
		snapshot []byte
		request  func(*RestoreRequest)
	}{
		{"as it is", fixture(t, "before"), func(*RestoreRequest) {}},
		{"with a bump", fixture(t, "after"), func(r *RestoreRequest) { r.RevisionBump, r.Token = 1_000_000_000, "etcd-rewind-1" }},
		{"of three members", fixture(t, "encrypted"), func(r *RestoreRequest) {
			r.RevisionBump = 5000
			r.InitialCluster = "cp1=https://10.77.0.11:2380,cp2=https://10.77.0.12:2380,cp3=https://10.77.0.13:2380"
		}},
		{"without a trailer", withoutTrailer(fixture(t, "before")), func(r *RestoreRequest) { r.SkipHashCheck, r.RevisionBump = true, 1 }},
		{"with the WAL beside the database", fixture(t, "before"), func(r *RestoreRequest) { r.WALDir = filepath.Join(r.DataDir, "member", "log") }},
		{"with a deleted key last and members to forget", removed, func(r *RestoreRequest) { r.RevisionBump = 100 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			ours, theirs := filepath.Join(t.TempDir(), "etcd"), filepath.Join(t.TempDir(), "etcd")
			req := request(file(t, "s.db", c.snapshot), ours)
			c.request(&req)
			if _, err := Restore(context.Background(), req, nil); err != nil {
				t.Fatal(err)
			}
			if err := req.settle(); err != nil {
				t.Fatal(err)
			}
			err := etcdutl.NewV3(zap.NewNop()).Restore(etcdutl.RestoreConfig{
				SnapshotPath: req.Snapshot, Name: req.Name, PeerURLs: req.PeerURLs,
				OutputDataDir: theirs, OutputWALDir: strings.Replace(req.WALDir, ours, theirs, 1),
				InitialCluster: req.InitialCluster, InitialClusterToken: req.Token, SkipHashCheck: req.SkipHashCheck,
				RevisionBump: req.RevisionBump, MarkCompacted: req.RevisionBump > 0,
			})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(records(t, dbPath(theirs)), records(t, dbPath(ours))); diff != "" {
				t.Errorf("the database: %s", diff)
			}
			status := func(dir string) etcdutl.Status {
				s, err := etcdutl.NewV3(zap.NewNop()).Status(dbPath(dir))
				if err != nil {
					t.Fatal(err)
				}
				s.TotalSize = 0 // etcdutl writes in four transactions, each of which takes pages
				return s
			}
			if diff := cmp.Diff(status(theirs), status(ours)); diff != "" {
				t.Errorf("etcdutl's status: %s", diff)
			}
			if diff := cmp.Diff(raftSnapshot(t, theirs), raftSnapshot(t, ours)); diff != "" {
				t.Errorf("the raft snapshot: %s", diff)
			}
			for _, dir := range []string{ours, theirs} {
				if err := os.Truncate(dbPath(dir), 0); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(everything(t, theirs), everything(t, ours)); diff != "" {
				t.Errorf("the files: %s", diff)
			}
			if got, err := os.ReadFile(req.Snapshot); err != nil || string(got) != string(c.snapshot) {
				t.Errorf("the snapshot was changed, or %v", err)
			}
		})
	}
}

// raftSnapshot empties the file, once it is read: its bytes are compared by
// what they say.
func raftSnapshot(t *testing.T, dataDir string) []any {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(dataDir, "member", "snap", "*.snap"))
	if err != nil || len(all) != 1 {
		t.Fatalf("raft snapshots %v, %v", all, err)
	}
	s, err := snap.Read(zap.NewNop(), all[0])
	if err != nil {
		t.Fatal(err)
	}
	var store struct{ Root any }
	inAnyOrder := regexp.MustCompile(`"(Created|Modified)Index":\d+`).ReplaceAll(s.Data, []byte(`"$1":0`))
	if err := errors.Join(json.Unmarshal(inAnyOrder, &store), os.Truncate(all[0], 0)); err != nil {
		t.Fatal(err)
	}
	return []any{s.GetMetadata().String(), store.Root}
}

// records are all records of all buckets.
func records(t *testing.T, path string) []string {
	t.Helper()
	db, err := bolt.Open(path, 0, &bolt.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	err = db.View(func(tx *bolt.Tx) error {
		return tx.ForEach(func(name []byte, b *bolt.Bucket) error {
			all = append(all, string(name))
			return b.ForEach(func(k, v []byte) error {
				all = append(all, fmt.Sprintf("%s %q = %q", name, k, v))
				return nil
			})
		})
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	return all
}

// The bytes that are checked are those that were copied: of several pieces,
// and of an end that doesn't fill one.
func TestTransferCopiesAndHashesTheSameBytes(t *testing.T) {
	content := make([]byte, 3*pieceSize+4096)
	for i := range content {
		content[i] = byte(i * i >> 7)
	}
	for _, c := range []struct {
		name string
		data []byte
		hash Hash
		code string
	}{
		{"with a trailer", withTrailer(content), HashUnchecked, ""},
		{"without one", content, HashMissing, ""},
		{"with a flipped bit", flip(withTrailer(content), 2*pieceSize+77), HashUnchecked, CodeDamagedHash},
		{"shorter than it was", withTrailer(content)[:pieceSize], HashUnchecked, CodeTruncated},
	} {
		t.Run(c.name, func(t *testing.T) {
			path, to := file(t, "s.db", c.data), filepath.Join(t.TempDir(), "db")
			info := &Info{Path: path, Size: int64(len(c.data)), Hash: c.hash}
			if c.code == CodeTruncated {
				info.Size = int64(len(content) + 32)
			}
			var last Progress
			sum, err := transfer(path, to, info, func(p Progress) {
				if p.Done < last.Done || p.Phase != "copy" || p.Total != int64(len(content)) {
					t.Errorf("%+v after %+v", p, last)
				}
				last = p
			})
			if c.code != "" {
				wantProblem(t, err, c.code)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			trailer := withTrailer(content)[len(content):]
			if want := fmt.Sprintf("%x", trailer); sum != want {
				t.Errorf("sha256 %s, want %s", sum, want)
			}
			got, err := os.ReadFile(to)
			if err != nil || string(got) != string(content) {
				t.Errorf("another content (%d bytes), or %v", len(got), err)
			}
			if last.Done != int64(len(content)) {
				t.Errorf("progress ended with %+v", last)
			}
			if st, err := os.Stat(to); err != nil || st.Mode() != 0o600 {
				t.Errorf("mode %v, %v", st.Mode(), err)
			}
			if _, err := transfer(path, to, info, func(Progress) {}); !errors.Is(err, fs.ErrExist) && problem.Of(err) == nil {
				t.Errorf("over a file that is there: %v", err)
			}
		})
	}
}
