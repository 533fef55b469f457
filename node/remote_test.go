package node

import (
	"crypto/tls"
	"net"
	"net/http"
	"net/url"
	"strings"
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
	// Two members, as clients see them: one has gone to another cluster.
	named := func(url string) string { return strings.Replace(url, "127.0.0.1", "localhost", 1) }
	here, gone := startEtcd(t, ca, &fakeEtcd{leader: memberID}), startEtcd(t, ca, &fakeEtcd{leader: memberID, cluster: 0xb1})
	both, elsewhere, one := here, here, here
	both.Endpoints = []string{here.Endpoints[0], named(gone.Endpoints[0])}
	elsewhere.Endpoints = []string{named(here.Endpoints[0]), named(gone.Endpoints[0])}
	one.Endpoints = elsewhere.Endpoints[:1]

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

		client EtcdConfig // as who asks it, where this node has no etcd
	}{
		{
			"both run",
			RemoteConfig{ReadyURL: ready, PeerURL: peer},
			mine,
			RemoteState{API: PortAnswers, APIReady: true, Peer: PortAnswers, ClusterID: 0x64379f200b7692a4},
			"API ready, etcd in cluster 64379f200b7692a4",
			EtcdConfig{},
		},
		{
			"the API server starts",
			RemoteConfig{ReadyURL: starts, PeerURL: peer},
			mine,
			RemoteState{API: PortAnswers, Peer: PortAnswers, ClusterID: 0x64379f200b7692a4},
			"API answers, etcd in cluster 64379f200b7692a4",
			EtcdConfig{},
		},
		{
			"neither runs",
			RemoteConfig{ReadyURL: free() + "/readyz", PeerURL: free()},
			mine,
			RemoteState{API: PortRefuses, Peer: PortRefuses},
			"API refuses, etcd refuses",
			EtcdConfig{},
		},
		{
			"the network says nothing",
			RemoteConfig{ReadyURL: silent + "/readyz", PeerURL: silent},
			mine,
			RemoteState{API: PortSilent, Peer: PortSilent},
			"API silent, etcd silent",
			EtcdConfig{},
		},
		{
			"without a certificate etcd's peers say nothing",
			RemoteConfig{ReadyURL: ready, PeerURL: peer},
			EtcdConfig{CA: ca.path},
			RemoteState{API: PortAnswers, APIReady: true, Peer: PortSilent},
			"API ready, etcd silent",
			EtcdConfig{},
		},
		{
			"this node's certificate is gone",
			RemoteConfig{ReadyURL: ready, PeerURL: peer},
			EtcdConfig{CA: ca.path, Cert: "/nonexistent", Key: "/nonexistent"},
			RemoteState{API: PortAnswers, APIReady: true, Peer: PortSilent},
			"API ready, etcd silent",
			EtcdConfig{},
		},
		{
			"another authority's etcd",
			RemoteConfig{ReadyURL: ready, PeerURL: peer},
			EtcdConfig{CA: newAuthority(t).path, Cert: cert, Key: key},
			RemoteState{API: PortAnswers, APIReady: true, Peer: PortSilent},
			"API ready, etcd silent",
			EtcdConfig{},
		},
		{
			"a node without an API server",
			RemoteConfig{PeerURL: peer},
			mine,
			RemoteState{Peer: PortAnswers, ClusterID: 0x64379f200b7692a4},
			"etcd in cluster 64379f200b7692a4",
			EtcdConfig{},
		},
		{
			"without etcd here, its clients' port is asked, on its own host",
			RemoteConfig{PeerURL: named(peer)},
			EtcdConfig{},
			RemoteState{Peer: PortSilent, ClusterID: 0xb1},
			"etcd in cluster b1", both,
		},
		{
			"none of the endpoints is on that host, and they serve two clusters",
			RemoteConfig{PeerURL: peer},
			EtcdConfig{},
			RemoteState{Peer: PortSilent},
			"etcd silent", elsewhere,
		},
		{
			"none of the endpoints is on that host, and they serve one",
			RemoteConfig{PeerURL: peer},
			EtcdConfig{},
			RemoteState{Peer: PortSilent, ClusterID: clusterID},
			"etcd in cluster c1", one,
		},
		{
			"its peers' port refuses: then it isn't there, whoever answers clients",
			RemoteConfig{PeerURL: free()},
			EtcdConfig{},
			RemoteState{Peer: PortRefuses},
			"etcd refuses", here,
		},
	} {
		t.Run(tt.story, func(t *testing.T) {
			began := time.Now()
			got := AskRemote(t.Context(), tt.at, tt.as, tt.client)
			if got != tt.want || got.String() != tt.says {
				t.Errorf("%+v, %s; want %+v, %s", got, got, tt.want, tt.says)
			}
			if took := time.Since(began); took > 3*time.Second {
				t.Errorf("it took %s", took)
			}
		})
	}
}
