package snapshot

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/authpb"
	"go.etcd.io/etcd/server/v3/storage/schema"
	"google.golang.org/protobuf/proto"
)

// withAuth changes a snapshot's buckets of users and roles.
func withAuth(t *testing.T, change func(users, roles *bolt.Bucket)) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "auth.db")
	data := fixture(t, "before")
	if err := os.WriteFile(path, data[:len(data)-32], 0o600); err != nil {
		t.Fatal(err)
	}
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		if err := tx.Bucket(schema.Auth.Name()).Put([]byte("authEnabled"), []byte{1}); err != nil {
			return err
		}
		change(tx.Bucket(schema.AuthUsers.Name()), tx.Bucket(schema.AuthRoles.Name()))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if data, err = os.ReadFile(path); err != nil {
		t.Fatal(err)
	}
	return file(t, "auth.db", withTrailer(data))
}

func enroll(t *testing.T, b *bolt.Bucket, name string, m proto.Message) {
	t.Helper()
	value, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Put([]byte(name), value); err != nil {
		t.Fatal(err)
	}
}

// Who may use the keys is asked of as many users, roles and permissions as a
// cluster could have, not of as many as fit into a file.
func TestUsersAndRolesWithoutEndCostLittle(t *testing.T) {
	role := func(perms int) *authpb.Role {
		r := &authpb.Role{Name: []byte("r")}
		for i := range perms {
			r.KeyPermission = append(r.KeyPermission, &authpb.Permission{PermType: authpb.Permission_READWRITE, Key: fmt.Appendf(nil, "/a/%d", i), RangeEnd: fmt.Appendf(nil, "/a/%d0", i)})
		}
		return r
	}
	for _, c := range []struct {
		name   string
		change func(users, roles *bolt.Bucket)
	}{
		{"a million users", func(users, roles *bolt.Bucket) {
			enroll(t, roles, "r", role(20))
			for i := range 300_000 {
				name := fmt.Sprintf("u%07d", i)
				enroll(t, users, name, &authpb.User{Name: []byte(name), Roles: []string{"r"}})
			}
		}},
		{"a role many times", func(users, roles *bolt.Bucket) {
			enroll(t, roles, "r", role(10_000))
			u := &authpb.User{Name: []byte("u")}
			for range 100_000 {
				u.Roles = append(u.Roles, "r")
			}
			enroll(t, users, "u", u)
		}},
		{"many roles of many permissions", func(users, roles *bolt.Bucket) {
			u := &authpb.User{}
			for i := range 100 {
				r := role(5_000)
				r.Name = fmt.Appendf(nil, "r%d", i)
				enroll(t, roles, string(r.Name), r)
				u.Roles = append(u.Roles, string(r.Name))
			}
			for i := range 1_000 {
				u.Name = fmt.Appendf(nil, "u%d", i)
				enroll(t, users, string(u.Name), u)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := withAuth(t, c.change)
			start := time.Now()
			info, err := Inspect(t.Context(), path, nil)
			if err != nil || !info.AuthEnabled {
				t.Fatalf("%+v, %v", info, err)
			}
			if took := time.Since(start); took > 20*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
}
