package snapshot

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	bolt "go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/mvccpb"
	etcdutl "go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"
)

// generate writes a snapshot of so many keys with values of so many bytes.
func generate(b *testing.B, keys, valueSize int) string {
	b.Helper()
	path := filepath.Join(b.TempDir(), "generated.db")
	db, err := bolt.Open(path, 0o600, &bolt.Options{NoSync: true, NoGrowSync: true, NoFreelistSync: true})
	if err != nil {
		b.Fatal(err)
	}
	value := make([]byte, valueSize)
	for i := range value {
		value[i] = byte(i * 7)
	}
	for done := 0; done < keys && err == nil; {
		err = db.Update(func(tx *bolt.Tx) error {
			_, err := tx.CreateBucketIfNotExists([]byte("meta"))
			bucket, kerr := tx.CreateBucketIfNotExists([]byte("key"))
			if err := errors.Join(err, kerr); err != nil {
				return err
			}
			bucket.FillPercent = 0.95
			for range min(20_000, keys-done) {
				done++
				k := binary.BigEndian.AppendUint64(nil, uint64(done+1))
				k = append(k, "_\x00\x00\x00\x00\x00\x00\x00\x00"...)
				v, err := proto.Marshal(&mvccpb.KeyValue{
					Key:   fmt.Appendf(nil, "/registry/pods/namespace-%d/pod-%d", done%500, done),
					Value: value, CreateRevision: int64(done + 1), ModRevision: int64(done + 1), Version: 1,
				})
				if err != nil {
					return err
				}
				if err := bucket.Put(k, v); err != nil {
					return err
				}
			}
			return nil
		})
	}
	out := path + ".snapshot"
	f, ferr := os.Create(out)
	if err := errors.Join(err, ferr); err != nil {
		b.Fatal(err)
	}
	h, w := sha256.New(), bufio.NewWriterSize(f, 1<<20)
	err = db.View(func(tx *bolt.Tx) error {
		_, err := tx.WriteTo(io.MultiWriter(w, h))
		return err
	})
	_, werr := w.Write(h.Sum(nil))
	if err := errors.Join(err, werr, w.Flush(), f.Close(), db.Close(), os.Remove(path)); err != nil {
		b.Fatal(err)
	}
	return out
}

var sizes = []struct {
	name            string
	keys, valueSize int
}{
	{"many-small-keys", 200_000, 100},
	{"4KiB-values", 25_000, 4096},
}

// BenchmarkInspect runs beside what an engineer would run instead.
func BenchmarkInspect(b *testing.B) {
	for _, s := range sizes {
		path := generate(b, s.keys, s.valueSize)
		st, err := os.Stat(path)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(s.name+"/inspect", func(b *testing.B) {
			b.SetBytes(st.Size())
			for b.Loop() {
				if _, err := Inspect(context.Background(), path, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(s.name+"/etcdutl-status-and-sha256", func(b *testing.B) {
			b.SetBytes(st.Size())
			for b.Loop() {
				if _, err := etcdutl.NewV3(zap.NewNop()).Status(path); err != nil {
					b.Fatal(err)
				}
				f, err := os.Open(path)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := io.Copy(sha256.New(), f); err != nil {
					b.Fatal(err)
				}
				f.Close()
			}
		})
	}
}

func BenchmarkRestore(b *testing.B) {
	path := generate(b, 25_000, 4096)
	st, err := os.Stat(path)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(st.Size())
	dir := b.TempDir()
	for i := 0; b.Loop(); i++ {
		req := request(path, filepath.Join(dir, fmt.Sprint(i)))
		req.RevisionBump = 1_000_000_000
		if _, err := Restore(context.Background(), req, nil); err != nil {
			b.Fatal(err)
		}
	}
}
