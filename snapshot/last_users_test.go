package snapshot

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"

	bolt "go.etcd.io/bbolt"
)

// stopped is a data directory of an etcd that doesn't run.
func stopped(t *testing.T, db []byte) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Dir(dbPath(dir)), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dbPath(dir), db, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Who used an etcd that is dead is in its data: whose lease was written last and not
// deleted.
func TestADeadEtcdTellsWhoUsedIt(t *testing.T) {
	dir := stopped(t, withoutTrailer(makeSnapshot(t, func(db *database) {
		for _, ip := range []string{"10.0.0.1", "10.0.0.2", "10.0.0.3"} {
			db.put("/registry/masterleases/"+ip, "lease")
		}
		db.put("/registry/configmaps/default/masterleases", "none")
		db.put("/registry/masterleases/../../etc", "none")
		db.delete("/registry/masterleases/10.0.0.2")
		db.put("/prefix/masterleases/fd00::1", "lease")
		db.delete("/registry/masterleases/10.0.0.3")
		db.put("/registry/masterleases/10.0.0.3", "again")
	})))
	u, err := ReadLastUsers(context.Background(), dir)
	if err != nil || !slices.Equal(u.APIServers, []string{"10.0.0.1", "10.0.0.3", "fd00::1"}) {
		t.Errorf("%+v %v", u, err)
	}

	u, err = ReadLastUsers(context.Background(), stopped(t, withoutTrailer(fixture(t, "before"))))
	if err != nil || len(u.Members) != 1 || !slices.Equal(u.APIServers, []string{"10.77.0.11"}) {
		t.Errorf("of a real one: %+v %v", u, err)
	}
}

func TestAnEtcdThatRunsOrIsDamagedIsNotReadForWhoUsedIt(t *testing.T) {
	whole := withoutTrailer(fixture(t, "before"))
	dir := stopped(t, whole)
	db, err := bolt.Open(dbPath(dir), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = ReadLastUsers(context.Background(), dir)
	wantProblem(t, err, CodeInUse)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	for _, damaged := range [][]byte{nil, whole[:5000], append(bytes.Clone(whole[:8192]), bytes.Repeat([]byte{0xff}, len(whole)-8192)...)} {
		if u, err := ReadLastUsers(context.Background(), stopped(t, damaged)); err == nil {
			t.Errorf("of %d damaged bytes: %+v", len(damaged), u)
		}
	}
}
