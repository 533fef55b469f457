package snapshot

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"runtime/debug"

	bolt "go.etcd.io/bbolt"
	"go.etcd.io/etcd/server/v3/storage/schema"

	"etcd-rewind/defect"
	"etcd-rewind/problem"
)

// asEtcdutl makes a data directory of whole, the verified content of a snapshot
// in the file db, which becomes its database. It closes whole.
//
// etcdutl knows no other way than to copy the whole file, and goes through all
// its pages four times. What it changes is a few records outside the keys, and one after
// the last key. So it restores a twin of the snapshot: all of it, but of the
// keys the last revision alone. WAL and raft snapshot are what it made for the
// twin, and what it changed in the twin is then changed in db.
//
// The database's structure is then checked again: holds waits for that, and
// says what it holds.
func asEtcdutl(req RestoreRequest, whole *bolt.DB, db, scratch string) (holds func() (*contents, error), err error) {
	defer func() {
		if err != nil {
			_ = whole.Close()
		}
	}()
	twin := req
	twin.Snapshot, twin.DataDir = filepath.Join(scratch, "twin"), filepath.Join(scratch, "etcd")
	err = guard(func() error {
		if err := writeTwin(whole, twin.Snapshot); err != nil {
			return err
		}
		if err := runEtcdutl(twin); err != nil {
			return err
		}
		return repeatChanges(whole, twin.Snapshot, dbPath(twin.DataDir))
	})
	if err != nil {
		return nil, err
	}
	// A WAL directory of its own may lie in member.
	if err := os.Mkdir(filepath.Join(req.DataDir, "member"), 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, targetProblem(err)
	}
	moves := [][2]string{
		{db, dbPath(twin.DataDir)},
		{filepath.Dir(dbPath(twin.DataDir)), filepath.Dir(dbPath(req.DataDir))},
	}
	if req.WALDir == "" {
		moves = append(moves, [2]string{walPath(twin.DataDir, ""), walPath(req.DataDir, "")})
	}
	for _, m := range moves {
		if err := os.Rename(m[0], m[1]); err != nil {
			return nil, targetProblem(err)
		}
	}
	if err := os.RemoveAll(scratch); err != nil {
		return nil, targetProblem(err)
	}
	return startCheck(whole), nil
}

// startCheck checks a database and reads what it holds, on a goroutine of its
// own. It closes one that it finds sound.
func startCheck(db *bolt.DB) (wait func() (*contents, error)) {
	var held *contents
	done := make(chan error, 1)
	go defect.Do(func() {
		debug.FreeOSMemory() // bolt's map of all pages; the check makes another
		err := guard(func() error { return db.View(checkPages) })
		if err == nil {
			held, err = readChecked(db, countKeys)
		}
		done <- err
	})()
	return func() (*contents, error) {
		err := <-done
		return held, err
	}
}

// openToChange opens a database as etcd does, but for its large memory map.
func openToChange(path string) (*bolt.DB, error) {
	db, err := bolt.Open(path, 0o600, &bolt.Options{FreelistType: bolt.FreelistMapType, NoFreelistSync: true})
	if err != nil {
		return nil, targetProblem(err)
	}
	return db, nil
}

func writeTwin(whole *bolt.DB, path string) error {
	twin, err := openToChange(path)
	if err != nil {
		return err
	}
	err = whole.View(func(from *bolt.Tx) error {
		return twin.Update(func(to *bolt.Tx) error {
			return from.ForEach(func(name []byte, b *bolt.Bucket) error {
				into, err := to.CreateBucket(name)
				if err != nil {
					return err
				}
				if bytes.Equal(name, schema.Key.Name()) {
					if k, v := b.Cursor().Last(); k != nil {
						return into.Put(k, v)
					}
					return nil
				}
				return b.ForEach(into.Put)
			})
		})
	})
	if cerr := twin.Close(); err == nil {
		err = cerr
	}
	if err != nil && problem.Of(err) == nil {
		err = targetProblem(err)
	}
	return err
}

// repeatChanges does to whole what was done to the database before to make it
// the one after.
func repeatChanges(whole *bolt.DB, before, after string) error {
	was, err := openBolt(before)
	if err != nil {
		return err
	}
	defer was.Close()
	is, err := openBolt(after)
	if err != nil {
		return err
	}
	defer is.Close()
	err = was.View(func(was *bolt.Tx) error {
		return is.View(func(is *bolt.Tx) error {
			return whole.Update(func(tx *bolt.Tx) error { return repeatIn(tx, was, is) })
		})
	})
	if err != nil && problem.Of(err) == nil {
		err = targetProblem(err)
	}
	return err
}

func repeatIn(tx, was, is *bolt.Tx) error {
	err := was.ForEach(func(name []byte, _ *bolt.Bucket) error {
		if is.Bucket(name) == nil {
			return tx.DeleteBucket(name)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return is.ForEach(func(name []byte, now *bolt.Bucket) error {
		b, err := tx.CreateBucketIfNotExists(name)
		if err != nil {
			return err
		}
		before := was.Bucket(name)
		if before != nil {
			err = before.ForEach(func(k, _ []byte) error {
				if now.Get(k) == nil {
					return b.Delete(k)
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
		return now.ForEach(func(k, v []byte) error {
			if before != nil {
				if old := before.Get(k); old != nil && bytes.Equal(old, v) {
					return nil
				}
			}
			return b.Put(k, v)
		})
	})
}
