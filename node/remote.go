package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"etcd-rewind/defect"
)

// RemoteConfig says where another control plane's ports are.
type RemoteConfig struct {
	ReadyURL string `json:"ready_url"` // its API server's, https://host:port/readyz
	PeerURL  string `json:"peer_url"`  // its etcd's, https://host:2380
}

// PortState is how a port of another node takes a connection.
type PortState string

// A port that refuses has a node behind it and no server. One that is silent
// says nothing about either: a cut link looks like that, too.
const (
	PortRefuses PortState = "refuses"
	PortAnswers PortState = "answers"
	PortSilent  PortState = "silent"
)

// RemoteState is what another control plane shows to the network.
type RemoteState struct {
	API      PortState // "" where it has none
	APIReady bool      // /readyz answered 200
	Peer     PortState // "" where it has no etcd
	// ClusterID is that of the etcd that answers; 0 when it doesn't show.
	ClusterID uint64
}

// AskRemote looks at the ports of another control plane, those that it has a URL
// of. peer holds the paths of this node's own peer certificate and the CA of all
// of them. On a node without etcd it has no endpoints: etcd is asked there as
// clients ask it, at the endpoints of client, and shows its cluster once it
// serves. It takes no longer than a second.
func AskRemote(ctx context.Context, n RemoteConfig, peer, client EtcdConfig) RemoteState {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	var s RemoteState
	var served uint64
	var wg sync.WaitGroup
	if n.ReadyURL != "" {
		wg.Go(defect.Do(func() {
			a := AskAPI(ctx, APIConfig{ReadyURL: n.ReadyURL}, time.Second)
			s.APIReady, s.API = a.Ready(), portState(a.Code != 0, a.Err)
		}))
	}
	if n.PeerURL != "" {
		wg.Go(defect.Do(func() { s.Peer, s.ClusterID = askPeer(ctx, n.PeerURL, peer) }))
		if len(peer.Endpoints) == 0 {
			wg.Go(defect.Do(func() { served = servedAt(ctx, n.PeerURL, client) }))
		}
	}
	wg.Wait()
	if s.ClusterID == 0 && s.Peer != PortRefuses {
		s.ClusterID = served
	}
	return s
}

// servedAt is the ID of the cluster that the member at a peer URL serves its
// clients; 0 when it doesn't show. The endpoint on its host is asked. Where none
// is known by that host, all are, and one that serves another cluster than the
// rest counts: who it is isn't known.
func servedAt(ctx context.Context, peerURL string, client EtcdConfig) uint64 {
	endpoints := client.Endpoints
	if on := onHostOf(peerURL, endpoints); len(on) > 0 {
		endpoints = on
	}
	ids := make([]uint64, len(endpoints))
	var wg sync.WaitGroup
	for i, e := range endpoints {
		wg.Go(defect.Do(func() {
			one := client
			one.Endpoints = []string{e}
			if st, err := AskEtcd(ctx, one, false); err == nil {
				ids[i] = st.ClusterID
			}
		}))
	}
	wg.Wait()
	var served uint64
	for _, id := range ids {
		switch {
		case id == 0 || id == served:
		case served != 0:
			return 0
		default:
			served = id
		}
	}
	return served
}

// onHostOf are those endpoints that are on the host of a URL.
func onHostOf(of string, endpoints []string) (on []string) {
	u, err := url.Parse(of)
	if err != nil {
		return nil
	}
	for _, e := range endpoints {
		if at, err := url.Parse(e); err == nil && strings.EqualFold(at.Hostname(), u.Hostname()) {
			on = append(on, e)
		}
	}
	return on
}

// EtcdCluster asks an etcd at its peer URLs, the endpoints of cfg, for the ID of
// its cluster; 0 when none of them answers. It answers as soon as it has opened
// its data and read its WAL, before there is a leader: embed.StartEtcd serves
// peers at once and clients when it is ready (3.4 to 3.7). It takes no longer
// than half a second for each URL.
func EtcdCluster(ctx context.Context, cfg EtcdConfig) uint64 {
	for _, u := range cfg.Endpoints {
		ctx, cancel := context.WithTimeout(ctx, healthTimeout)
		_, id := askPeer(ctx, u, cfg)
		cancel()
		if id != 0 {
			return id
		}
	}
	return 0
}

// askPeer asks for /members, which every etcd since 3.0 serves to its peers;
// the header with the cluster's ID is on it (peerMembersHandler, etcdhttp).
func askPeer(ctx context.Context, url string, cfg EtcdConfig) (PortState, uint64) {
	var conf *tls.Config
	if strings.HasPrefix(url, "https:") {
		var err error
		if conf, err = clientTLS(cfg.CA, cfg.Cert, cfg.Key); err != nil {
			return PortSilent, 0
		}
	}
	resp, err := askOnce(ctx, conf, strings.TrimRight(url, "/")+"/members")
	if err != nil {
		return portState(false, err), 0
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	id, _ := strconv.ParseUint(resp.Header.Get("X-Etcd-Cluster-ID"), 16, 64)
	return PortAnswers, id
}

func portState(answered bool, err error) PortState {
	switch {
	case answered:
		return PortAnswers
	case errors.Is(err, syscall.ECONNREFUSED):
		return PortRefuses
	}
	// A handshake that fails has somebody behind it, but who is not known.
	return PortSilent
}

// String says it in a few words.
func (s RemoteState) String() string {
	var words []string
	switch {
	case s.APIReady:
		words = append(words, "API ready")
	case s.API != "":
		words = append(words, "API "+string(s.API))
	}
	switch {
	case s.ClusterID != 0:
		words = append(words, fmt.Sprintf("etcd in cluster %x", s.ClusterID))
	case s.Peer != "":
		words = append(words, "etcd "+string(s.Peer))
	}
	return strings.Join(words, ", ")
}
