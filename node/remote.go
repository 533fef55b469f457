package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
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
	API      PortState
	APIReady bool // /readyz answered 200
	Peer     PortState
	// ClusterID is that of the etcd that answers at the peer port; 0 when it
	// doesn't show.
	ClusterID uint64
}

// AskRemote looks at the ports of another control plane. peer holds the
// paths of this node's own peer certificate and the CA of all of them. It takes
// no longer than a second.
func AskRemote(ctx context.Context, n RemoteConfig, peer EtcdConfig) RemoteState {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	var s RemoteState
	var wg sync.WaitGroup
	wg.Go(defect.Do(func() {
		a := AskAPI(ctx, APIConfig{ReadyURL: n.ReadyURL}, time.Second)
		s.APIReady, s.API = a.Ready(), portState(a.Code != 0, a.Err)
	}))
	wg.Go(defect.Do(func() { s.Peer, s.ClusterID = askPeer(ctx, n.PeerURL, peer) }))
	wg.Wait()
	return s
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
	api := "API " + string(s.API)
	if s.APIReady {
		api = "API ready"
	}
	if s.ClusterID != 0 {
		return fmt.Sprintf("%s, etcd in cluster %x", api, s.ClusterID)
	}
	return fmt.Sprintf("%s, etcd %s", api, s.Peer)
}
