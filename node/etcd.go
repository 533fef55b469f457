package node

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

// EtcdConfig says where etcd is and how to talk to it.
type EtcdConfig struct {
	Endpoints   []string // client URLs, tried in order
	MetricsURLs []string // --listen-metrics-urls; when empty, health is asked at the client URLs
	CA          string   // paths on this node; all three may be empty for http
	Cert, Key   string
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
}

// No single question about health takes longer than this.
const healthTimeout = 500 * time.Millisecond

// EtcdReady asks etcd whether it is ready, over plain HTTP at its metrics URLs:
// /readyz (3.5.11 and newer), else /health. The detail says in a few words what
// was seen, also when the answer is yes. /readyz takes no notice of alarms.
func EtcdReady(ctx context.Context, cfg EtcdConfig) (ready bool, detail string) {
	urls := cfg.MetricsURLs
	if len(urls) == 0 {
		urls = cfg.Endpoints
	}
	if len(urls) == 0 {
		return false, "no URL known to ask etcd at"
	}
	for _, u := range urls {
		var answered bool
		if ready, answered, detail = etcdHealth(ctx, u, cfg); answered {
			return ready, detail
		}
	}
	return false, detail
}

func etcdHealth(ctx context.Context, base string, cfg EtcdConfig) (ready, answered bool, detail string) {
	conf, err := clientTLS(cfg.CA, cfg.Cert, cfg.Key)
	if err != nil {
		if strings.HasPrefix(base, "https:") {
			return false, false, err.Error()
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
			return false, true, path + ": " + firstLine(body)
		}
	}
	switch {
	case err != nil:
		return false, false, base + path + ": " + plain(err).Error()
	case code == http.StatusOK:
		return true, true, path + " ok"
	}
	return false, true, fmt.Sprintf("%s: %d %s", path, code, printable(failedCheck(body)))
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
// for the number of its keys, which only a member with a leader can tell. It
// writes nothing to etcd, fails at once when nobody listens, and never takes
// longer than ctx or 5 seconds.
func AskEtcd(ctx context.Context, cfg EtcdConfig, countKeys bool) (*EtcdStatus, error) {
	if len(cfg.Endpoints) == 0 {
		return nil, errors.New("no endpoint known to ask etcd at")
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
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
		errs = append(errs, fmt.Errorf("etcd at %s: %w", e, err))
	}
	return nil, errors.Join(errs...)
}

// askEndpoint speaks to etcd's services directly: the etcd client would go on
// trying until the context ends, where nobody listening is an answer.
func askEndpoint(ctx context.Context, endpoint string, cfg EtcdConfig, countKeys bool) (*EtcdStatus, error) {
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" {
		return nil, fmt.Errorf("not a URL like https://127.0.0.1:2379")
	}
	creds := insecure.NewCredentials()
	if u.Scheme == "https" {
		conf, err := clientTLS(cfg.CA, cfg.Cert, cfg.Key)
		if err != nil {
			return nil, err
		}
		conf.ServerName = u.Hostname()
		creds = credentials.NewTLS(conf)
	}
	conn, err := grpc.NewClient("passthrough:///"+u.Host, grpc.WithTransportCredentials(creds), grpc.WithNoProxy())
	if err != nil {
		return nil, err
	}
	defer conn.Close()

	st, err := pb.NewMaintenanceClient(conn).Status(ctx, &pb.StatusRequest{})
	if err != nil {
		return nil, etcdError("status", err)
	}
	out := &EtcdStatus{
		Endpoint:       endpoint,
		ClusterID:      st.GetHeader().GetClusterId(),
		MemberID:       st.GetHeader().GetMemberId(),
		Revision:       st.GetHeader().GetRevision(),
		Version:        st.Version,
		StorageVersion: st.StorageVersion,
		DBSize:         st.DbSize,
		DBInUse:        st.DbSizeInUse,
		Quota:          st.DbSizeQuota,
		Leader:         st.Leader,
		Learner:        st.IsLearner,
		Keys:           -1,
	}
	out.Alarms, out.Errors = sortErrors(st.Errors)

	// Not linearizable: without a quorum the member's own list is still true of it.
	list, err := pb.NewClusterClient(conn).MemberList(ctx, &pb.MemberListRequest{})
	if err != nil {
		return nil, etcdError("member list", err)
	}
	for _, m := range list.Members {
		out.Members = append(out.Members, EtcdMember{m.ID, m.Name, m.PeerURLs, m.ClientURLs, m.IsLearner})
	}

	if countKeys {
		if out.Leader == 0 {
			return nil, errors.New("it has no leader, so its keys cannot be counted")
		}
		all, err := pb.NewKVClient(conn).Range(ctx, &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}, CountOnly: true})
		if err != nil {
			return nil, etcdError("counting keys", err)
		}
		// Of one moment with the count.
		out.Keys, out.Revision = all.Count, all.GetHeader().GetRevision()
	}
	return out, nil
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
	if strings.Contains(msg, "connection refused") {
		msg = "connection refused"
	}
	return fmt.Errorf("%s: %w", doing, inWords{msg, err})
}
