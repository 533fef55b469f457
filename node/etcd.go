package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"etcd-rewind/trust"
)

// EtcdConfig says where etcd is and how to talk to it.
type EtcdConfig struct {
	Endpoints   []string // client URLs, tried in order
	MetricsURLs []string // --listen-metrics-urls; when empty, health is asked at the client URLs
	CA          string   // paths on this node; all three may be empty for http
	Cert, Key   string
	// Prefix is where the API server's keys lie, "/registry". With etcd's
	// authentication a user may have no right to others.
	Prefix string `json:",omitempty"`
}

// EtcdMember is one entry of etcd's member list.
type EtcdMember struct {
	ID         uint64
	Name       string // "" when it never started
	PeerURLs   []string
	ClientURLs []string
	Learner    bool
}

// EtcdStatus is what a running etcd says of itself.
type EtcdStatus struct {
	Endpoint            string // the one that answered
	ClusterID, MemberID uint64
	Revision            int64
	Version             string // of the server, "3.6.10"
	StorageVersion      string // of its file, "3.6.0"; "" before 3.6
	DBSize, DBInUse     int64  // bytes
	Quota               int64  // bytes; 0 before 3.6
	Leader              uint64 // 0 when there is none
	Learner             bool
	Alarms              []string // NOSPACE, CORRUPT
	Errors              []string // what else it complains of
	Members             []EtcdMember
	Keys                int64 // at Revision; -1 when they weren't counted
	// Denied is why etcd, with its authentication enabled, doesn't show this
	// node's certificate what is asked here; nil when it does. Then Revision and
	// all that comes after it are unknown, but for the members.
	Denied error `json:"-"`
}

// No single question about health takes longer than this.
const healthTimeout = 500 * time.Millisecond

// NotReadyError is an etcd that is there: it answered that it isn't ready, or
// took the question and said nothing in time, as one without a quorum may.
type NotReadyError struct{ Err error }

func (e *NotReadyError) Error() string { return e.Err.Error() }

// Unwrap is what it answered, or that it didn't.
func (e *NotReadyError) Unwrap() error { return e.Err }

// EtcdReady asks etcd whether it is ready, over plain HTTP at its metrics URLs:
// /readyz (3.5.11 and newer), else /health. The answer says in a few words how
// it said yes; the error says why it isn't ready ([*NotReadyError]), or can't be
// asked. /readyz takes no notice of alarms.
func EtcdReady(ctx context.Context, cfg EtcdConfig) (answer string, err error) {
	urls := cfg.MetricsURLs
	if len(urls) == 0 {
		urls = cfg.Endpoints
	}
	if len(urls) == 0 {
		return "", &setupError{error: errors.New("no URL known to ask etcd at")}
	}
	for _, u := range urls {
		var answered bool
		if answer, answered, err = etcdHealth(ctx, u, cfg); answered {
			return answer, err
		}
	}
	return "", err
}

func etcdHealth(ctx context.Context, base string, cfg EtcdConfig) (answer string, answered bool, err error) {
	conf, err := clientTLS(cfg.CA, cfg.Cert, cfg.Key)
	if err != nil {
		if strings.HasPrefix(base, "https:") {
			return "", false, &setupError{error: err}
		}
		conf = nil
	}
	ask := func(path string) (int, string, error) {
		ctx, cancel := context.WithTimeout(ctx, healthTimeout)
		defer cancel()
		return get(ctx, conf, strings.TrimRight(base, "/")+path)
	}
	path := "/readyz"
	code, body, err := ask(path)
	if err == nil && code == http.StatusNotFound {
		path = "/health"
		code, body, err = ask(path)
		if err == nil && code == http.StatusOK && !strings.Contains(strings.ReplaceAll(body, " ", ""), `"health":"true"`) {
			return "", true, &NotReadyError{errors.New(path + ": " + firstLine(body))}
		}
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return "", false, &NotReadyError{fmt.Errorf("%s%s: %w", base, path, plain(err))}
	case err != nil:
		return "", false, fmt.Errorf("%s%s: %w", base, path, plain(err))
	case code == http.StatusOK:
		return path + " ok", true, nil
	}
	return "", true, &NotReadyError{fmt.Errorf("%s: %d %s", path, code, printable(failedCheck(body)))}
}

// failedCheck picks the line that names what failed out of a verbose answer.
func failedCheck(body string) string {
	for line := range strings.Lines(body) {
		if strings.HasPrefix(line, "[-]") {
			return strings.TrimSpace(line)
		}
	}
	return firstLine(body)
}

// AskEtcd asks a running etcd for its status and members, and with countKeys
// for the number of its keys, which only a member with a leader knows, and
// only to a user who may read them all: one who may read what is below
// cfg.Prefix gets -1. With the error of keys that can't be counted comes the rest of
// the status; with all other errors comes none. It writes nothing to etcd, fails at
// once when nobody listens, and never takes longer than ctx or 5 seconds.
func AskEtcd(ctx context.Context, cfg EtcdConfig, countKeys bool) (*EtcdStatus, error) {
	if len(cfg.Endpoints) == 0 {
		return nil, &setupError{error: errors.New("no endpoint known to ask etcd at")}
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var uncounted *EtcdStatus
	var errs []error
	for i, e := range cfg.Endpoints {
		// One that hangs must leave time for the others.
		end, _ := ctx.Deadline()
		share, cancel := context.WithTimeout(ctx, time.Until(end)/time.Duration(len(cfg.Endpoints)-i))
		st, err := askEndpoint(share, e, cfg, countKeys)
		cancel()
		if err == nil {
			return st, nil
		}
		if own, ok := errors.AsType[*setupError](err); ok && own.ofAll {
			return nil, err
		}
		uncounted = cmp.Or(uncounted, st)
		errs = append(errs, fmt.Errorf("etcd at %s: %w", e, err))
	}
	return uncounted, several(errs)
}

// several are the errors of several endpoints, on one line.
type several []error

func (s several) Error() string {
	words := make([]string, len(s))
	for i, err := range s {
		words[i] = err.Error()
	}
	return strings.Join(words, "; ")
}

func (s several) Unwrap() []error { return s }

// askEndpoint speaks to etcd's services directly: the etcd client would keep
// trying until the context ends, where nobody listening is an answer.
func askEndpoint(ctx context.Context, endpoint string, cfg EtcdConfig, countKeys bool) (*EtcdStatus, error) {
	conn, err := dialEtcd(endpoint, cfg)
	if err != nil {
		return nil, err
	}
	defer conn.Close()

	st, err := pb.NewMaintenanceClient(conn).Status(ctx, &pb.StatusRequest{})
	if err != nil && !Denied(err) {
		return nil, etcdError("status", err)
	}
	out := &EtcdStatus{
		Endpoint:       endpoint,
		ClusterID:      st.GetHeader().GetClusterId(),
		MemberID:       st.GetHeader().GetMemberId(),
		Revision:       st.GetHeader().GetRevision(),
		Version:        st.GetVersion(),
		StorageVersion: st.GetStorageVersion(),
		DBSize:         st.GetDbSize(),
		DBInUse:        st.GetDbSizeInUse(),
		Quota:          st.GetDbSizeQuota(),
		Leader:         st.GetLeader(),
		Learner:        st.GetIsLearner(),
		Keys:           -1,
	}
	out.Alarms, out.Errors = sortErrors(st.GetErrors())
	if err != nil {
		out.Denied = etcdError("status", err)
	}

	// Not linearizable: without a quorum the member's own list is still true of it.
	list, err := pb.NewClusterClient(conn).MemberList(ctx, &pb.MemberListRequest{})
	if err != nil {
		return nil, etcdError("member list", err)
	}
	out.ClusterID, out.MemberID = list.GetHeader().GetClusterId(), list.GetHeader().GetMemberId()
	for _, m := range list.Members {
		out.Members = append(out.Members, EtcdMember{m.ID, m.Name, m.PeerURLs, m.ClientURLs, m.IsLearner})
	}
	if out.Denied != nil || !countKeys {
		return out, nil
	}
	if out.Leader == 0 {
		return out, errors.New("it has no leader, so its keys cannot be counted")
	}
	return out, out.count(ctx, pb.NewKVClient(conn), cfg.Prefix)
}

// dialEtcd prepares a connection to an endpoint; it is made with the first call.
func dialEtcd(endpoint string, cfg EtcdConfig) (*grpc.ClientConn, error) {
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" {
		return nil, &setupError{error: errors.New("not a URL like https://127.0.0.1:2379")}
	}
	creds := insecure.NewCredentials()
	if u.Scheme == "https" {
		conf, err := clientTLS(cfg.CA, cfg.Cert, cfg.Key)
		if err != nil {
			return nil, &setupError{error: err, ofAll: true}
		}
		conf.ServerName = u.Hostname()
		creds = credentials.NewTLS(conf)
	}
	return grpc.NewClient("passthrough:///"+u.Host, grpc.WithTransportCredentials(creds), grpc.WithNoProxy())
}

// AskLeases are the addresses of the kube-apiservers that have etcd's word for it
// that they run: each renews a key with a lease of 15 s (--endpoint-reconciler-type=lease,
// the default). A member without a quorum says what it knows: then no lease ends any
// more. It never takes longer than ctx or 5 seconds.
func AskLeases(ctx context.Context, cfg EtcdConfig) (addresses []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for i, e := range cfg.Endpoints {
		// One that hangs must leave time for the others.
		end, _ := ctx.Deadline()
		share, cancel := context.WithTimeout(ctx, time.Until(end)/time.Duration(len(cfg.Endpoints)-i))
		addresses, err = askLeases(share, e, cfg)
		cancel()
		if err == nil {
			return addresses, nil
		}
	}
	return nil, err
}

func askLeases(ctx context.Context, endpoint string, cfg EtcdConfig) (addresses []string, err error) {
	conn, err := dialEtcd(endpoint, cfg)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	below := strings.TrimSuffix(cmp.Or(cfg.Prefix, "/registry"), "/") + "/masterleases"
	ask := pb.RangeRequest{Key: []byte(below + "/"), RangeEnd: []byte(below + "0"), KeysOnly: true, Limit: mostLeases}
	end, _ := ctx.Deadline()
	agreed, cancel := context.WithTimeout(ctx, time.Until(end)/2)
	defer cancel()
	got, err := pb.NewKVClient(conn).Range(agreed, &ask)
	if err != nil && !Denied(err) && !Refused(etcdError("", err)) {
		ask.Serializable = true
		got, err = pb.NewKVClient(conn).Range(ctx, &ask)
	}
	if err != nil {
		return nil, etcdError("reading the API servers' leases", err)
	}
	for _, kv := range got.Kvs {
		if ip, err := netip.ParseAddr(strings.TrimPrefix(string(kv.Key), below+"/")); err == nil {
			addresses = append(addresses, ip.String())
		}
	}
	return addresses, nil
}

// mostLeases bounds what is believed of them.
const mostLeases = 64

// count counts all keys, or sees that those below prefix may be read.
func (out *EtcdStatus) count(ctx context.Context, kv pb.KVClient, prefix string) error {
	all, err := kv.Range(ctx, &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}, CountOnly: true})
	if err == nil {
		// Of one moment with the count.
		out.Keys, out.Revision = all.Count, all.GetHeader().GetRevision()
		return nil
	}
	if Denied(err) && prefix != "" {
		below := &pb.RangeRequest{Key: []byte(prefix + "/"), RangeEnd: []byte(prefix + "0"), CountOnly: true} // '0' follows '/'
		if all, below := kv.Range(ctx, below); below == nil {
			out.Revision = all.GetHeader().GetRevision()
			return nil
		}
	}
	if Denied(err) {
		out.Denied = etcdError("reading keys", err)
		return nil
	}
	return etcdError("counting keys", err)
}

var alarmName = regexp.MustCompile(`alarm:\s*([A-Z]+)`)

// sortErrors takes the alarms out of the status' errors. Asking for the alarms
// themselves would go through raft, as a write does.
func sortErrors(lines []string) (alarms, rest []string) {
	for _, l := range lines {
		if m := alarmName.FindStringSubmatch(l); m != nil {
			alarms = append(alarms, m[1])
		} else {
			rest = append(rest, l)
		}
	}
	return alarms, rest
}

// etcdError drops gRPC's frame and keeps its own error types in the chain.
func etcdError(doing string, err error) error {
	s := status.Convert(err)
	msg := s.Message()
	if _, cause, ok := strings.Cut(msg, `desc = "transport: `); ok {
		msg = strings.TrimSuffix(cause, `"`)
	}
	if strings.Contains(msg, refused) {
		msg = refused
	}
	return fmt.Errorf("%s: %w", doing, inWords{trust.Clip(msg, longestError), err})
}

const refused = "connection refused"

// Refused says of an error of AskEtcd whether nobody listens at any endpoint.
func Refused(err error) bool {
	if many, ok := errors.AsType[several](err); ok {
		return len(many) > 0 && !slices.ContainsFunc(many, func(err error) bool { return !Refused(err) })
	}
	said, ok := errors.AsType[inWords](err)
	return ok && said.text == refused
}
