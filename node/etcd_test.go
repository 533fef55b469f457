package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
)

func TestEtcdReady(t *testing.T) {
	answers := func(paths map[string]string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			a, ok := paths[r.URL.Path]
			if !ok {
				http.NotFound(w, r)
				return
			}
			var code int
			fmt.Sscanf(a, "%d", &code)
			w.WriteHeader(code)
			w.Write([]byte(a[4:]))
		})
	}
	for name, c := range map[string]struct {
		paths map[string]string
		ready bool
		want  string
	}{
		"it is ready":                       {map[string]string{"/readyz": "200 ok"}, true, "/readyz ok"},
		"it isn't, and says why":            {map[string]string{"/readyz": "503 [+]data_corruption ok\n[-]serializable_read failed: no leader\n"}, false, "/readyz: 503 [-]serializable_read failed: no leader"},
		"before 3.5.11":                     {map[string]string{"/health": `200 {"health":"true"}`}, true, "/health ok"},
		"before 3.5.11, with an alarm":      {map[string]string{"/health": `503 {"health":"false","reason":"ALARM NOSPACE"}`}, false, `/health: 503 {"health":"false","reason":"ALARM NOSPACE"}`},
		"200, but not healthy":              {map[string]string{"/health": `200 {"health": "false"}`}, false, `/health: {"health": "false"}`},
		"something else listens there":      {map[string]string{}, false, "/health: 404 404 page not found"},
		"/readyz counts when there is both": {map[string]string{"/readyz": "503 no", "/health": `200 {"health":"true"}`}, false, "/readyz: 503 no"},
	} {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewServer(answers(c.paths))
			defer srv.Close()
			ready, detail := etcdReady(t, EtcdConfig{MetricsURLs: []string{srv.URL + "/"}, Endpoints: []string{"http://" + freePort(t)}})
			if ready != c.ready || detail != c.want || !there(t, EtcdConfig{MetricsURLs: []string{srv.URL}}) {
				t.Errorf("got %v, %q; want %v, %q", ready, detail, c.ready, c.want)
			}
		})
	}

	t.Run("nobody listens", func(t *testing.T) {
		ready, detail := etcdReady(t, EtcdConfig{MetricsURLs: []string{"http://" + freePort(t)}})
		if ready || !strings.HasSuffix(detail, "connection refused") {
			t.Errorf("got %v, %q", ready, detail)
		}
		if there(t, EtcdConfig{MetricsURLs: []string{"http://" + freePort(t)}}) {
			t.Error("it would count as there")
		}
	})
	t.Run("it hangs", func(t *testing.T) {
		start := time.Now()
		ready, detail := etcdReady(t, EtcdConfig{MetricsURLs: []string{"http://" + hangingPort(t)}})
		if ready || !strings.HasSuffix(detail, "no answer in time") {
			t.Errorf("got %v, %q", ready, detail)
		}
		if !there(t, EtcdConfig{MetricsURLs: []string{"http://" + hangingPort(t)}}) {
			t.Error("one without a quorum would not count as there")
		}
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("it took %v", took)
		}
	})
	t.Run("the second URL answers", func(t *testing.T) {
		srv := httptest.NewServer(answers(map[string]string{"/readyz": "200 ok"}))
		defer srv.Close()
		if ready, detail := etcdReady(t, EtcdConfig{MetricsURLs: []string{"http://" + freePort(t), srv.URL}}); !ready {
			t.Error(detail)
		}
	})
	t.Run("no URL is known", func(t *testing.T) {
		if ready, detail := etcdReady(t, EtcdConfig{}); ready || detail == "" {
			t.Errorf("got %v, %q", ready, detail)
		}
	})
}

// there says whether an etcd is there, ready or not.
func there(t *testing.T, cfg EtcdConfig) bool {
	_, err := EtcdReady(t.Context(), cfg)
	return err == nil || errors.As(err, new(*NotReadyError))
}

// etcdReady is what a screen shows.
func etcdReady(t *testing.T, cfg EtcdConfig) (bool, string) {
	answer, err := EtcdReady(t.Context(), cfg)
	if err != nil {
		return false, err.Error()
	}
	return true, answer
}

// fakeEtcd answers as etcd does, over gRPC.
type fakeEtcd struct {
	pb.UnimplementedMaintenanceServer
	pb.UnimplementedClusterServer
	pb.UnimplementedKVServer

	leader  uint64
	cluster uint64 // another than clusterID
	errors  []string
	keys    int64
	stuck   bool // it counts for ever
	asked   []string
}

const clusterID, memberID = 0xc1, 0xa1

func (f *fakeEtcd) header(revision int64) *pb.ResponseHeader {
	if f.cluster != 0 {
		return &pb.ResponseHeader{ClusterId: f.cluster, MemberId: memberID, Revision: revision}
	}
	return &pb.ResponseHeader{ClusterId: clusterID, MemberId: memberID, Revision: revision}
}

func (f *fakeEtcd) Status(context.Context, *pb.StatusRequest) (*pb.StatusResponse, error) {
	f.asked = append(f.asked, "status")
	return &pb.StatusResponse{
		Header: f.header(1000000408), Version: "3.6.10", StorageVersion: "3.6.0", DbSize: 900, DbSizeInUse: 800,
		DbSizeQuota: 2 << 30, Leader: f.leader, Errors: f.errors, IsLearner: true,
	}, nil
}

func (f *fakeEtcd) MemberList(_ context.Context, r *pb.MemberListRequest) (*pb.MemberListResponse, error) {
	f.asked = append(f.asked, "members")
	if r.Linearizable && f.leader == 0 {
		return nil, status.Error(codes.Unavailable, "etcdserver: no leader")
	}
	return &pb.MemberListResponse{Header: f.header(1000000408), Members: []*pb.Member{
		{ID: memberID, Name: "cp1", PeerURLs: []string{"https://10.77.0.11:2380"}, ClientURLs: []string{"https://10.77.0.11:2379"}},
		{ID: 0xa2, PeerURLs: []string{"https://10.77.0.12:2380"}, IsLearner: true},
	}}, nil
}

func (f *fakeEtcd) Range(ctx context.Context, r *pb.RangeRequest) (*pb.RangeResponse, error) {
	f.asked = append(f.asked, "range")
	if f.stuck {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if r.KeysOnly {
		if !r.Serializable && f.leader == 0 {
			return nil, status.Error(codes.Unavailable, "etcdserver: no leader")
		}
		return &pb.RangeResponse{Kvs: []*mvccpb.KeyValue{{Key: []byte("/registry/masterleases/10.77.0.11")}, {Key: []byte("/registry/masterleases/stray")}}}, nil
	}
	if !r.CountOnly || r.Serializable || string(r.Key) != "\x00" || string(r.RangeEnd) != "\x00" {
		return nil, status.Errorf(codes.InvalidArgument, "not a count of all keys: %v", r)
	}
	return &pb.RangeResponse{Header: f.header(1000000410), Count: f.keys}, nil
}

// startEtcd serves f with TLS as kubeadm sets it up: client certificates needed.
func startEtcd(t *testing.T, ca *authority, f *fakeEtcd) EtcdConfig {
	t.Helper()
	conf := ca.serverTLS(t, []string{"127.0.0.1", "localhost"}, time.Now().Add(time.Hour))
	conf.ClientAuth = tls.RequireAndVerifyClientCert
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer(grpc.Creds(credentials.NewTLS(conf)))
	pb.RegisterMaintenanceServer(srv, f)
	pb.RegisterClusterServer(srv, f)
	pb.RegisterKVServer(srv, f)
	go srv.Serve(l)
	t.Cleanup(srv.Stop)
	out := EtcdConfig{Endpoints: []string{"https://" + l.Addr().String()}, CA: ca.path}
	out.Cert, out.Key = ca.issue(t, "client", nil, time.Now().Add(time.Hour))
	return out
}

// With and without a quorum: the API servers run in both cases.
func TestAskLeases(t *testing.T) {
	ca := newAuthority(t)
	for _, leader := range []uint64{memberID, 0} {
		got, err := AskLeases(t.Context(), startEtcd(t, ca, &fakeEtcd{leader: leader}))
		if err != nil || !slices.Equal(got, []string{"10.77.0.11"}) {
			t.Errorf("with leader %x: %q %v", leader, got, err)
		}
	}
	if got, err := AskLeases(t.Context(), EtcdConfig{Endpoints: []string{"http://" + freePort(t)}}); err == nil {
		t.Errorf("of nobody: %q", got)
	}
}

func TestAskEtcd(t *testing.T) {
	ca := newAuthority(t)
	f := &fakeEtcd{leader: memberID, keys: 328}
	cfg := startEtcd(t, ca, f)

	t.Run("says what it is", func(t *testing.T) {
		defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
		st, err := AskEtcd(t.Context(), cfg, true)
		if err != nil {
			t.Fatal(err)
		}
		want := &EtcdStatus{
			Endpoint: cfg.Endpoints[0], ClusterID: clusterID, MemberID: memberID, Leader: memberID,
			Revision: 1000000410, Keys: 328, // of one moment
			Version: "3.6.10", StorageVersion: "3.6.0", DBSize: 900, DBInUse: 800, Quota: 2 << 30, Learner: true,
			Members: []EtcdMember{
				{ID: memberID, Name: "cp1", PeerURLs: []string{"https://10.77.0.11:2380"}, ClientURLs: []string{"https://10.77.0.11:2379"}},
				{ID: 0xa2, PeerURLs: []string{"https://10.77.0.12:2380"}, Learner: true},
			},
		}
		if d := cmp.Diff(want, st); d != "" {
			t.Errorf("want -, got +\n%s", d)
		}
	})

	t.Run("its keys are not counted unasked", func(t *testing.T) {
		f.asked = nil
		st, err := AskEtcd(t.Context(), cfg, false)
		if err != nil || st.Keys != -1 || st.Revision != 1000000408 {
			t.Errorf("got %+v, %v", st, err)
		}
		if d := cmp.Diff([]string{"status", "members"}, f.asked); d != "" {
			t.Errorf("asked: want -, got +\n%s", d)
		}
	})

	t.Run("the first endpoint that answers counts", func(t *testing.T) {
		c := cfg
		c.Endpoints = append([]string{"https://" + freePort(t)}, cfg.Endpoints...)
		st, err := AskEtcd(t.Context(), c, false)
		if err != nil || st.Endpoint != cfg.Endpoints[0] {
			t.Errorf("got %+v, %v", st, err)
		}
	})

	t.Run("an endpoint that hangs leaves time for the next", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		c := cfg
		c.Endpoints = append([]string{"https://" + hangingPort(t)}, cfg.Endpoints...)
		if _, err := AskEtcd(ctx, c, false); err != nil {
			t.Error(err)
		}
	})

	t.Run("turns away who has no certificate", func(t *testing.T) {
		c := cfg
		c.Cert, c.Key = "", ""
		if _, err := AskEtcd(t.Context(), c, false); err == nil {
			t.Error("it answered")
		}
	})

	t.Run("of another CA is not trusted", func(t *testing.T) {
		c := cfg
		c.CA = newAuthority(t).path
		_, err := AskEtcd(t.Context(), c, false)
		if err == nil || !strings.Contains(err.Error(), "x509: certificate signed by unknown authority") || strings.Contains(err.Error(), "rpc error") {
			t.Errorf("got %v", err)
		}
	})

	t.Run("has alarms and no leader", func(t *testing.T) {
		f.leader, f.errors = 0, []string{"etcdserver: no leader", "memberID:161 alarm:NOSPACE "}
		st, err := AskEtcd(t.Context(), cfg, false)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff([][]string{{"NOSPACE"}, {"etcdserver: no leader"}}, [][]string{st.Alarms, st.Errors}); d != "" || len(st.Members) != 2 {
			t.Errorf("%d members, want -, got +\n%s", len(st.Members), d)
		}
		st, err = AskEtcd(t.Context(), cfg, true)
		if err == nil || !strings.Contains(err.Error(), "no leader") || st == nil || st.Version != "3.6.10" || st.Keys != -1 {
			t.Errorf("its keys: %+v, %v", st, err)
		}
	})

	t.Run("what it said before it fell silent is there", func(t *testing.T) {
		f.leader, f.stuck = memberID, true // and hasn't noticed yet that its others are gone
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		c := cfg
		c.Endpoints = append(c.Endpoints, "https://"+freePort(t))
		st, err := AskEtcd(ctx, c, true)
		if err == nil || Refused(err) || st == nil || st.Version != "3.6.10" || len(st.Members) != 2 || st.Keys != -1 {
			t.Errorf("got %+v, %v", st, err)
		}
	})
}

func TestAnEtcdThatDoesNotAnswer(t *testing.T) {
	t.Run("nobody listening is said at once", func(t *testing.T) {
		start := time.Now()
		_, err := AskEtcd(t.Context(), EtcdConfig{Endpoints: []string{"http://" + freePort(t), "http://" + freePort(t)}}, false)
		if err == nil || strings.Count(err.Error(), "connection refused") != 2 {
			t.Errorf("got %v", err)
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("it took %v", took)
		}
	})
	t.Run("one that hangs is left at the deadline", func(t *testing.T) {
		defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		start := time.Now()
		_, err := AskEtcd(ctx, EtcdConfig{Endpoints: []string{"http://" + hangingPort(t)}}, false)
		if took := time.Since(start); err == nil || took > time.Second {
			t.Errorf("got %v after %v", err, took)
		}
	})
	for name, c := range map[string]struct {
		cfg  EtcdConfig
		want string
	}{
		"no endpoint":           {EtcdConfig{}, "no endpoint"},
		"an address, no URL":    {EtcdConfig{Endpoints: []string{"127.0.0.1:2379"}}, "not a URL"},
		"a CA that isn't there": {EtcdConfig{Endpoints: []string{"https://127.0.0.1:1"}, CA: "/no/ca.crt"}, "/no/ca.crt"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := AskEtcd(t.Context(), c.cfg, false); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestAlarmsOfOldAndNewText(t *testing.T) {
	alarms, rest := sortErrors([]string{
		"etcdserver: no leader", "memberID:10276657743932975437 alarm:NOSPACE ", "memberID:1  alarm:CORRUPT",
	})
	if d := cmp.Diff([][]string{{"NOSPACE", "CORRUPT"}, {"etcdserver: no leader"}}, [][]string{alarms, rest}); d != "" {
		t.Errorf("want -, got +\n%s", d)
	}
}
