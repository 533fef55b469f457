package snapshot

import (
	"bytes"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/auth"
)

// A snapshot keeps etcd's users. Whether one may use the API server's keys is
// decided as the etcd that wrote them decides.
func TestWhoMayUseTheKeysOfASnapshotWithAuthentication(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "etcd")
	if _, err := Restore(t.Context(), request(file(t, "s.db", fixture(t, "before")), dir), nil); err != nil {
		t.Fatal(err)
	}
	e, _ := startEtcd(t, dir, "")
	store := e.Server.AuthStore()
	const read, write, both = authpb.Permission_READ, authpb.Permission_WRITE, authpb.Permission_READWRITE
	type perm struct {
		kind     authpb.Permission_Type
		from, to string
	}
	for user, perms := range map[string][]perm{
		"root":         nil,
		"whole":        {{both, "/registry/", "/registry0"}},
		"all":          {{both, "\x00", "\x00"}},
		"in-two-parts": {{both, "/registry/", "/registry/m"}, {both, "/registry/m", "/registry0"}},
		"apart":        {{read, "/registry/", "/registry0"}, {write, "/a", "/z"}},
		"with-a-gap":   {{both, "/registry/", "/registry/m"}, {both, "/registry/n", "/registry0"}},
		"reads":        {{read, "/registry/", "/registry0"}},
		"elsewhere":    {{both, "/coreos.com/", "/coreos.com0"}},
		"one-key":      {{both, "/registry/", ""}},
		"nothing":      {},
	} {
		_, err := store.UserAdd(&pb.AuthUserAddRequest{Name: user, Options: &authpb.UserAddOptions{NoPassword: true}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := store.RoleAdd(&pb.AuthRoleAddRequest{Name: user}); err != nil {
			t.Fatal(err)
		}
		for _, p := range perms {
			grant := &pb.AuthRoleGrantPermissionRequest{Name: user, Perm: &authpb.Permission{PermType: p.kind, Key: []byte(p.from), RangeEnd: []byte(p.to)}}
			if _, err := store.RoleGrantPermission(grant); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := store.UserGrantRole(&pb.AuthUserGrantRoleRequest{User: user, Role: user}); err != nil {
			t.Fatal(err)
		}
	}
	if err := store.AuthEnable(); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	s := e.Server.Backend().Snapshot()
	if _, err := s.WriteTo(&out); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	info, err := Inspect(t.Context(), file(t, "auth.db", withTrailer(out.Bytes())), nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"all", "apart", "in-two-parts", "root", "whole"}, info.AuthUsers); diff != "" || !info.AuthEnabled {
		t.Errorf("enabled: %v, users: want -, got +\n%s", info.AuthEnabled, diff)
	}
	// The same question to the etcd itself.
	for _, user := range []string{"whole", "with-a-gap", "one-key", "apart", "all", "in-two-parts"} {
		ai := &auth.AuthInfo{Username: user, Revision: store.Revision()}
		ok := store.IsRangePermitted(ai, []byte("/registry/"), []byte("/registry0")) == nil && store.IsPutPermitted(ai, []byte("/registry/m")) == nil
		if want := bytes.Contains([]byte("all apart in-two-parts whole"), []byte(user)); ok != want {
			t.Errorf("etcd lets %s: %v", user, ok)
		}
	}
}
