package snapshot

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"etcd-rewind/problem"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/server/v3/storage/backend"
	"go.etcd.io/etcd/server/v3/storage/mvcc"
	"go.etcd.io/etcd/server/v3/storage/schema"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"
)

func TestMain(m *testing.M) {
	Worker()
	if limit := os.Getenv(limitEnv); limit != "" {
		limitedRestore(limit)
	}
	if path := os.Getenv(unpackEnv); path != "" {
		unpackAndWait(path)
	}
	if dir := os.Getenv(probeEnv); dir != "" {
		probed(dir)
	}
	os.Exit(m.Run())
}

// The fixtures are three snapshots of one real kubeadm cluster, in this order.
var fixtureNames = []string{"before", "after", "encrypted"}

var fixtures = sync.OnceValue(func() map[string][]byte {
	all := map[string][]byte{}
	for _, name := range fixtureNames {
		f, err := os.Open(filepath.Join("testdata", name+".db.gz"))
		if err != nil {
			panic(err)
		}
		z, err := gzip.NewReader(f)
		if err != nil {
			panic(err)
		}
		if all[name], err = io.ReadAll(z); err != nil {
			panic(err)
		}
		f.Close()
	}
	return all
})

// fixture is a copy that may be changed.
func fixture(t testing.TB, name string) []byte {
	t.Helper()
	b := fixtures()[name]
	if b == nil {
		t.Fatalf("no fixture %q", name)
	}
	return bytes.Clone(b)
}

// file writes a file that looks an hour old, so that nobody waits to see
// whether it still grows.
func file(t testing.TB, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	makeOld(t, path)
	return path
}

func makeOld(t testing.TB, path string) {
	t.Helper()
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
}

func withTrailer(content []byte) []byte {
	sum := sha256.Sum256(content)
	return append(bytes.Clone(content), sum[:]...)
}

func withoutTrailer(snapshot []byte) []byte {
	return bytes.Clone(snapshot[:len(snapshot)-sha256.Size])
}

// wantProblem fails unless err is a Problem with that code.
func wantProblem(t *testing.T, err error, code string) *problem.Problem {
	t.Helper()
	var p *problem.Problem
	if !errors.As(err, &p) {
		t.Fatalf("error %v, want a problem %q", err, code)
	}
	if p.Code != code {
		t.Fatalf("problem %q (%s), want %q", p.Code, p.Cause, code)
	}
	if p.Cause == "" {
		t.Errorf("problem %q has no cause", code)
	}
	return p
}

// database makes an etcd database with etcd's own backend and returns its
// bytes as a snapshot.
type database struct {
	backend.Backend
	rev int64
}

func makeSnapshot(t *testing.T, write func(*database)) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "db")
	db := &database{Backend: backend.NewDefaultBackend(zap.NewNop(), path), rev: 1}
	tx := db.BatchTx()
	tx.LockOutsideApply()
	for _, b := range schema.AllBuckets {
		tx.UnsafeCreateBucket(b)
	}
	tx.Unlock()
	write(db)
	db.ForceCommit()
	var out bytes.Buffer
	s := db.Snapshot()
	if _, err := s.WriteTo(&out); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Close(), db.Close()); err != nil {
		t.Fatal(err)
	}
	return withTrailer(out.Bytes())
}

func (db *database) put(key, value string) {
	db.rev++
	db.record(mvcc.RevToBytes(mvcc.Revision{Main: db.rev}, mvcc.NewRevBytes()), key, value)
}

func (db *database) delete(key string) {
	db.rev++
	k := mvcc.RevToBytes(mvcc.Revision{Main: db.rev}, mvcc.NewRevBytes())
	db.record(append(k, 't'), key, "")
}

func (db *database) record(k []byte, key, value string) {
	v, err := proto.Marshal(&mvccpb.KeyValue{Key: []byte(key), Value: []byte(value), ModRevision: db.rev})
	if err != nil {
		panic(err)
	}
	tx := db.BatchTx()
	tx.LockOutsideApply()
	tx.UnsafePut(schema.Key, k, v)
	tx.Unlock()
}
