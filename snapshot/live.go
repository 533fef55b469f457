package snapshot

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"etcd-rewind/problem"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

// Etcd says where a running etcd is and how to talk to it.
type Etcd struct {
	Endpoints []string `json:"endpoints"` // client URLs, tried in order
	// Paths of files; all three may be empty for http.
	CA   string `json:"ca,omitempty"`
	Cert string `json:"cert,omitempty"`
	Key  string `json:"key,omitempty"`
}

// live is a connection to the first endpoint that answered.
type live struct {
	conn     *grpc.ClientConn
	endpoint string
	status   *pb.StatusResponse
}

// dialLimit is for one endpoint to answer at all.
const dialLimit = 3 * time.Second

func dial(ctx context.Context, e Etcd, opts ...grpc.DialOption) (*live, error) {
	if len(e.Endpoints) == 0 {
		return nil, errors.New("no endpoint known to ask etcd at")
	}
	var errs []error
	for _, endpoint := range e.Endpoints {
		l, err := dialOne(ctx, e, endpoint, opts)
		if err == nil {
			return l, nil
		}
		errs = append(errs, fmt.Errorf("etcd at %s: %w", endpoint, err))
	}
	return nil, errors.Join(errs...)
}

func dialOne(ctx context.Context, e Etcd, endpoint string, opts []grpc.DialOption) (*live, error) {
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" {
		return nil, errors.New("not a URL like https://127.0.0.1:2379")
	}
	creds := insecure.NewCredentials()
	if u.Scheme == "https" {
		conf := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: u.Hostname()}
		if e.CA != "" {
			data, err := os.ReadFile(e.CA)
			if err != nil {
				return nil, err
			}
			conf.RootCAs = x509.NewCertPool()
			if !conf.RootCAs.AppendCertsFromPEM(data) {
				return nil, fmt.Errorf("no certificate in the CA file %s", e.CA)
			}
		}
		if e.Cert != "" {
			pair, err := tls.LoadX509KeyPair(e.Cert, e.Key)
			if err != nil {
				return nil, fmt.Errorf("cannot use client certificate %s: %w", e.Cert, err)
			}
			conf.Certificates = []tls.Certificate{pair}
		}
		creds = credentials.NewTLS(conf)
	}
	conn, err := grpc.NewClient("passthrough:///"+u.Host, append(opts, grpc.WithTransportCredentials(creds), grpc.WithNoProxy(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<30)))...)
	if err != nil {
		return nil, err
	}
	l := &live{conn: conn, endpoint: endpoint}
	ask, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	if l.status, err = pb.NewMaintenanceClient(conn).Status(ask, &pb.StatusRequest{}); err != nil {
		_ = conn.Close()
		return nil, grpcError(err)
	}
	return l, nil
}

func (l *live) close() { _ = l.conn.Close() }

// grpcError leaves gRPC's frame out.
func grpcError(err error) error {
	if err == nil {
		return nil
	}
	msg := status.Convert(err).Message()
	if _, cause, ok := strings.Cut(msg, `desc = "transport: `); ok {
		msg = strings.TrimSuffix(cause, `"`)
	}
	switch {
	case strings.Contains(msg, "connection refused"):
		msg = "connection refused"
	case status.Code(err) == codes.DeadlineExceeded:
		msg = "no answer in time"
	}
	return errors.New(msg)
}

// pageKeys is how many keys are asked for at once. etcd reads the values of
// all of them, also when it is asked for the keys alone.
const pageKeys = 1000

// eachKey visits all keys without their values, all of one revision. Asked of
// this member alone, so that it works without a leader too.
func (l *live) eachKey(ctx context.Context, visit func(kv *mvccpb.KeyValue), progress func(done, total int64)) (revision int64, err error) {
	from := []byte{0}
	var done int64
	for {
		resp, err := l.ask(ctx, &pb.RangeRequest{
			Key: from, RangeEnd: []byte{0}, Limit: pageKeys, KeysOnly: true, Serializable: true, Revision: revision,
		})
		if errors.Is(rpctypes.Error(err), rpctypes.ErrCompacted) {
			return 0, problem.Coded(CodeOther, "try again", "etcd compacted its history while it was read")
		}
		if err != nil {
			return 0, fmt.Errorf("reading keys from %s: %w", l.endpoint, grpcError(err))
		}
		if revision == 0 {
			revision = resp.GetHeader().GetRevision()
		}
		for _, kv := range resp.Kvs {
			visit(kv)
		}
		done += int64(len(resp.Kvs))
		if progress != nil {
			progress(done, done+resp.Count-int64(len(resp.Kvs)))
		}
		if !resp.More || len(resp.Kvs) == 0 {
			return revision, nil
		}
		from = append(bytes.Clone(resp.Kvs[len(resp.Kvs)-1].Key), 0)
	}
}

// askLimit is for one answer: an etcd that hangs must not hang us.
const askLimit = 30 * time.Second

func (l *live) ask(ctx context.Context, r *pb.RangeRequest) (*pb.RangeResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	return pb.NewKVClient(l.conn).Range(ctx, r)
}

// value is nil when there is none at that revision.
func (l *live) value(ctx context.Context, key []byte, revision int64) ([]byte, error) {
	resp, err := l.ask(ctx, &pb.RangeRequest{Key: key, Serializable: true, Revision: revision})
	if err != nil {
		return nil, fmt.Errorf("reading from %s: %w", l.endpoint, grpcError(err))
	}
	if len(resp.Kvs) == 0 {
		return nil, nil
	}
	return resp.Kvs[0].Value, nil
}
