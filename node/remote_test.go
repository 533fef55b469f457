package node

import (
	"crypto/tls"
	"net"
	"net/http"
	"net/url"
	"testing"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

// An API server may be started on what it says: so it has to say it early, and
// nothing but its data may decide what it says.
func TestAnEtcdWithoutALeaderTellsItsCluster(t *testing.T) {
	dir := t.TempDir()
	peer := url.URL{Scheme: "http", Host: freePort(t)}
	cluster := func(token string) uint64 {
		cfg := embed.NewConfig()
		cfg.Dir, cfg.Name, cfg.InitialClusterToken = dir, "cp1", token
		cfg.InitialCluster = "cp1=" + peer.String() + ",cp2=http://127.0.0.1:1"
		cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
		cfg.ListenClientUrls = []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
		cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
		e, err := embed.StartEtcd(cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		defer e.Server.HardStop() // else Close waits for it to serve clients
		id := EtcdCluster(t.Context(), EtcdConfig{Endpoints: []string{"http://" + freePort(t), peer.String()}})
		if want := uint64(e.Server.Cluster().ID()); id != want || id == 0 {
			t.Errorf("it answers with cluster %x, is in %x", id, want)
		}
		select {
		case <-e.Server.ReadyNotify():
			t.Error("it is ready, although the other half of its cluster never started")
		default:
		}
		return id
	}
	first := cluster("a restore")
	if again := cluster("a manifest says something else"); again != first {
		t.Errorf("the same data is cluster %x, and then %x", first, again)
	}
	dir = t.TempDir()
	if blank := cluster("a manifest says something else"); blank == first {
		t.Errorf("a blank directory is cluster %x, too", blank)
	}
	if id := EtcdCluster(t.Context(), EtcdConfig{Endpoints: []string{"http://" + freePort(t)}}); id != 0 {
		t.Errorf("nobody answered with cluster %x", id)
	}
}

func TestAskRemote(t *testing.T) {
	ca := newAuthority(t)
	cert, key := ca.issue(t, "cp1", []string{"127.0.0.1"}, time.Now().Add(time.Hour))
	mine := EtcdConfig{CA: ca.path, Cert: cert, Key: key}
	peerTLS := ca.serverTLS(t, []string{"127.0.0.1"}, time.Now().Add(time.Hour))
	peerTLS.ClientAuth = tls.RequireAndVerifyClientCert // as etcd has it for its peers
	peer := serveTLS(t, peerTLS, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/members" {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("X-Etcd-Cluster-ID", "64379f200b7692a4")
		_, _ = w.Write([]byte(`[]`))
	}).URL
	api := func(code int) string {
		return serveTLS(t, ca.serverTLS(t, apiNames, time.Now().Add(time.Hour)), func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(code)
		}).URL + "/readyz"
	}
	ready, starts := api(http.StatusOK), api(http.StatusInternalServerError)
	free := func() string { // a port with nobody behind it
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		return "https://" + l.Addr().String()
	}
	// It takes connections and says nothing, as far as can be seen from here.
	deaf, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { deaf.Close() })
	silent := "https://" + deaf.Addr().String()

	for _, tt := range []struct {
		story string
		at    RemoteConfig
		as    EtcdConfig
		want  RemoteState
		says  string
	}{
		{
			"both run",
			RemoteConfig{ReadyURL: ready, PeerURL: peer},
			mine,
			RemoteState{API: PortAnswers, APIReady: true, Peer: PortAnswers, ClusterID: 0x64379f200b7692a4},
			"API ready, etcd in cluster 64379f200b7692a4",
		},
		{
			"the API server starts",
			RemoteConfig{ReadyURL: starts, PeerURL: peer},
			mine,
			RemoteState{API: PortAnswers, Peer: PortAnswers, ClusterID: 0x64379f200b7692a4},
			"API answers, etcd in cluster 64379f200b7692a4",
		},
		{
			"neither runs",
			RemoteConfig{ReadyURL: free() + "/readyz", PeerURL: free()},
			mine,
			RemoteState{API: PortRefuses, Peer: PortRefuses},
			"API refuses, etcd refuses",
		},
		{
			"the network says nothing",
			RemoteConfig{ReadyURL: silent + "/readyz", PeerURL: silent},
			mine,
			RemoteState{API: PortSilent, Peer: PortSilent},
			"API silent, etcd silent",
		},
		{
			"without a certificate etcd's peers say nothing",
			RemoteConfig{ReadyURL: ready, PeerURL: peer},
			EtcdConfig{CA: ca.path},
			RemoteState{API: PortAnswers, APIReady: true, Peer: PortSilent},
			"API ready, etcd silent",
		},
		{
			"this node's certificate is gone",
			RemoteConfig{ReadyURL: ready, PeerURL: peer},
			EtcdConfig{CA: ca.path, Cert: "/nonexistent", Key: "/nonexistent"},
			RemoteState{API: PortAnswers, APIReady: true, Peer: PortSilent},
			"API ready, etcd silent",
		},
		{
			"another authority's etcd",
			RemoteConfig{ReadyURL: ready, PeerURL: peer},
			EtcdConfig{CA: newAuthority(t).path, Cert: cert, Key: key},
			RemoteState{API: PortAnswers, APIReady: true, Peer: PortSilent},
			"API ready, etcd silent",
		},
	} {
		t.Run(tt.story, func(t *testing.T) {
			began := time.Now()
			got := AskRemote(t.Context(), tt.at, tt.as)
			if got != tt.want || got.String() != tt.says {
				t.Errorf("%+v, %s; want %+v, %s", got, got, tt.want, tt.says)
			}
			if took := time.Since(began); took > 3*time.Second {
				t.Errorf("it took %s", took)
			}
		})
	}
}
