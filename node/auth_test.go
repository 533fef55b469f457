package node

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/auth"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// With etcd's authentication enabled, the name in a client's certificate is its
// user, and the questions of discovery and of waits depend on what that may.
func TestAnEtcdWithAuthenticationEnabled(t *testing.T) {
	ca := newAuthority(t)
	cfg := embed.NewConfig()
	cfg.Dir, cfg.Name = t.TempDir(), "cp1"
	client, peer := url.URL{Scheme: "https", Host: freePort(t)}, url.URL{Scheme: "http", Host: freePort(t)}
	cfg.InitialCluster = "cp1=" + peer.String()
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	cfg.ClientTLSInfo.CertFile, cfg.ClientTLSInfo.KeyFile = ca.issue(t, "server", []string{"127.0.0.1"}, time.Now().Add(time.Hour))
	cfg.ClientTLSInfo.TrustedCAFile, cfg.ClientTLSInfo.ClientCertAuth = ca.path, true
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	<-e.Server.ReadyNotify()

	as := func(user string) EtcdConfig {
		c := EtcdConfig{Endpoints: []string{client.String()}, CA: ca.path, Prefix: "/registry"}
		c.Cert, c.Key = ca.issue(t, user, nil, time.Now().Add(time.Hour))
		return c
	}
	before, err := AskEtcd(t.Context(), as("kube-apiserver-etcd-client"), true)
	if err != nil || before.Denied != nil {
		t.Fatal(err, before)
	}

	store := e.Server.AuthStore()
	for _, err := range []error{
		add(store, "root", "root", "", ""),
		add(store, "kube-apiserver-etcd-client", "kubernetes", "/registry/", "/registry0"),
		add(store, "flannel", "network", "/coreos.com/", "/coreos.com0"),
		store.AuthEnable(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	defer store.AuthDisable()

	for user, c := range map[string]struct {
		denied string // "" may read
		keys   int64
	}{
		"root":                       {"", before.Keys},
		"kube-apiserver-etcd-client": {"", -1}, // what is below the prefix, and no more
		"flannel":                    {"permission denied", -1},
		"nobody-etcd-knows":          {"permission denied", -1},
	} {
		t.Run(user, func(t *testing.T) {
			st, err := AskEtcd(t.Context(), as(user), true)
			if err != nil {
				t.Fatal(err)
			}
			if st.ClusterID != before.ClusterID || len(st.Members) != 1 {
				t.Errorf("its cluster and members are shown to all: %+v", st)
			}
			if st.Keys != c.keys || (st.Denied == nil) != (c.denied == "") {
				t.Errorf("got %+v", st)
			}
			if c.denied != "" && (!strings.Contains(st.Denied.Error(), c.denied) || !Permanent(st.Denied)) {
				t.Errorf("denied: %v, permanent: %v", st.Denied, Permanent(st.Denied))
			}
		})
	}
}

// add makes a user with a role for a range of keys.
func add(store auth.AuthStore, user, role, from, to string) error {
	_, err := store.UserAdd(&pb.AuthUserAddRequest{Name: user, Options: &authpb.UserAddOptions{NoPassword: true}})
	if err == nil {
		_, err = store.RoleAdd(&pb.AuthRoleAddRequest{Name: role})
	}
	if err == nil && from != "" {
		_, err = store.RoleGrantPermission(&pb.AuthRoleGrantPermissionRequest{Name: role, Perm: &authpb.Permission{
			PermType: authpb.Permission_READWRITE, Key: []byte(from), RangeEnd: []byte(to),
		}})
	}
	if err == nil {
		_, err = store.UserGrantRole(&pb.AuthUserGrantRoleRequest{User: user, Role: role})
	}
	return err
}

// A wait continues while a server starts, and ends at a permanent error.
func TestWhatWaitingDoesNotMend(t *testing.T) {
	ca := newAuthority(t)
	etcd := startEtcd(t, ca, &fakeEtcd{leader: memberID})
	expired, other, plain := etcd, etcd, etcd
	expired.Cert, expired.Key = ca.issue(t, "expired", nil, time.Now().Add(-time.Hour))
	other.Cert, other.Key = newAuthority(t).issue(t, "other", nil, time.Now().Add(time.Hour))
	distrusted := etcd
	distrusted.CA = newAuthority(t).path
	missing := etcd
	missing.Key = "/no/such.key"
	spoken := httptest.NewServer(http.NotFoundHandler())
	defer spoken.Close()
	plain.Endpoints = []string{strings.Replace(spoken.URL, "http", "https", 1)}
	for name, cfg := range map[string]EtcdConfig{
		"the client's certificate has expired": expired, "it is another CA's": other, "the server's is another CA's": distrusted,
		"a key can't be read": missing, "https where http is spoken": plain, "no endpoint": {},
	} {
		// A server that turns a certificate away may close before its reason is
		// read: a wait asks again, and gets it.
		_, err := AskEtcd(t.Context(), cfg, false)
		for end := time.Now().Add(20 * time.Second); !Permanent(err) && time.Now().Before(end); {
			_, err = AskEtcd(t.Context(), cfg, false)
		}
		if !Permanent(err) {
			t.Errorf("%s: %v isn't permanent", name, err)
		}
	}
	down, hangs, both := etcd, etcd, distrusted
	down.Endpoints, hangs.Endpoints = []string{"https://" + freePort(t)}, []string{"https://" + hangingPort(t)}
	both.Endpoints = append([]string{"https://" + freePort(t)}, etcd.Endpoints...)
	for name, cfg := range map[string]EtcdConfig{"nobody listens": down, "it hangs": hangs, "one endpoint is down": both} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		_, err := AskEtcd(ctx, cfg, false)
		cancel()
		if err == nil || Permanent(err) {
			t.Errorf("%s: %v is permanent", name, err)
		}
	}
	for _, c := range []struct {
		err  error
		want bool
	}{
		{nil, false},
		{status.Error(codes.Unavailable, "etcdserver: no leader"), false},
		{status.Error(codes.InvalidArgument, "etcdserver: user name is empty"), true},
		{status.Error(codes.InvalidArgument, "etcdserver: revision of auth store is old"), false},
		{status.Error(codes.Unauthenticated, "etcdserver: invalid auth token"), true},
		{status.Error(codes.DataLoss, "etcdserver: corrupt cluster"), true},
		{status.Error(codes.ResourceExhausted, "etcdserver: too many requests"), false},
		{fmt.Errorf("counting keys: %w", status.Error(codes.PermissionDenied, "etcdserver: permission denied")), true},
		{fmt.Errorf("open: %w", os.ErrNotExist), false},
		{errors.New("it has no leader, so its keys cannot be counted"), false},
		{context.DeadlineExceeded, false},
		{http.ErrHandlerTimeout, false},
	} {
		if got := Permanent(c.err); got != c.want {
			t.Errorf("%v: permanent %v", c.err, got)
		}
	}
}
