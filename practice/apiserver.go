package practice

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// lingerEnv is how long the API server takes to stop: the real one waits for
// its clients' watches, up to the grace period.
const lingerEnv = "ETCD_REWIND_PRACTICE_LINGER"

const (
	kubernetesVersion = "v1.34.4"
	storageTimeout    = 20 * time.Second // kube-apiserver gives up on etcd after that long at its start
)

// apiServer stands in for kube-apiserver: it answers readiness, reads from etcd,
// and changes ConfigMaps.
type apiServer struct {
	etcd      *clientv3.Client
	prefix    string
	anonymous bool

	mu       sync.Mutex
	etcdErr  error
	stopping bool
}

func apiServerMain(args []string) int {
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM, syscall.SIGINT)
	if err := runAPIServer(parseFlags(args), term); err != nil {
		fmt.Fprintf(os.Stderr, "F%s 1 instance.go:233] %s\n", time.Now().Format("0102 15:04:05.000000"), err)
		return 1
	}
	return 0
}

// parseFlags takes --name=value and --name value; what isn't known is of no
// use here and no error.
func parseFlags(args []string) map[string]string {
	out := map[string]string{}
	for i, a := range args {
		name, ok := strings.CutPrefix(a, "--")
		if !ok {
			continue
		}
		name, value, eq := strings.Cut(name, "=")
		if !eq && i+1 < len(args) && !strings.HasPrefix(args[i+1], "-") {
			value = args[i+1]
		}
		out[name] = value
	}
	return out
}

func runAPIServer(flags map[string]string, term <-chan os.Signal) error {
	say := func(format string, args ...any) {
		fmt.Fprintf(os.Stderr, "I%s 1 practice.go:1] %s\n", time.Now().Format("0102 15:04:05.000000"), fmt.Sprintf(format, args...))
	}
	say("a stand-in for kube-apiserver; version %s", kubernetesVersion)
	s := &apiServer{prefix: strings.TrimSuffix(cmp.Or(flags["etcd-prefix"], "/registry"), "/"), anonymous: flags["anonymous-auth"] != "false"}
	serving, err := servingTLS(flags)
	if err != nil {
		return err
	}
	if s.etcd, err = etcdClient(flags); err != nil {
		return err
	}
	defer func() { _ = s.etcd.Close() }()

	begun := time.Now()
	var told time.Time
	for {
		err := s.ping(time.Second)
		if err == nil {
			break
		}
		if time.Since(begun) > storageTimeout {
			return errors.New("error creating leases: error creating storage factory: context deadline exceeded")
		}
		if time.Since(told) > 2*time.Second {
			told = time.Now()
			say("waiting for etcd at %s: %s", flags["etcd-servers"], err)
		}
		select {
		case <-term:
			return nil
		case <-time.After(100 * time.Millisecond):
		}
	}
	l, err := net.Listen("tcp", net.JoinHostPort(cmp.Or(flags["bind-address"], "127.0.0.1"), cmp.Or(flags["secure-port"], "6443")))
	if err != nil {
		return fmt.Errorf("failed to create listener: %w", err)
	}
	server := &http.Server{Handler: s, TLSConfig: serving, ReadHeaderTimeout: 10 * time.Second}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go every(ctx, 200*time.Millisecond, func() {
		err := s.ping(2 * time.Second)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.etcdErr = err
	})
	go func() { _ = server.ServeTLS(l, "", "") }()
	say("serving securely on %s", l.Addr())
	<-term
	s.mu.Lock()
	s.stopping = true
	s.mu.Unlock()
	linger, _ := time.ParseDuration(os.Getenv(lingerEnv))
	say("received signal to terminate, becoming unready, but serving for %s while clients finish", linger)
	time.Sleep(linger)
	return nil
}

func servingTLS(flags map[string]string) (*tls.Config, error) {
	conf, pool, err := loadTLS(flags["tls-cert-file"], flags["tls-private-key-file"], flags["client-ca-file"])
	if err != nil {
		return nil, fmt.Errorf("serving certificate: %w", err)
	}
	conf.ClientCAs, conf.ClientAuth = pool, tls.VerifyClientCertIfGiven
	return conf, nil
}

// loadTLS reads a certificate with its key, and the authorities of the other
// side.
func loadTLS(cert, key, ca string) (*tls.Config, *x509.CertPool, error) {
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, nil, err
	}
	raw, err := os.ReadFile(ca)
	if err != nil {
		return nil, nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(raw) {
		return nil, nil, fmt.Errorf("%s contains no certificate", ca)
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}}, pool, nil
}

func etcdClient(flags map[string]string) (*clientv3.Client, error) {
	var conf *tls.Config
	if flags["etcd-certfile"] != "" {
		var pool *x509.CertPool
		var err error
		if conf, pool, err = loadTLS(flags["etcd-certfile"], flags["etcd-keyfile"], flags["etcd-cafile"]); err != nil {
			return nil, fmt.Errorf("etcd client certificate: %w", err)
		}
		conf.RootCAs = pool
	}
	if flags["etcd-servers"] == "" {
		return nil, errors.New("--etcd-servers must be specified")
	}
	return clientv3.New(clientv3.Config{Endpoints: strings.Split(flags["etcd-servers"], ","), TLS: conf, Logger: zap.NewNop(), DialTimeout: time.Second})
}

func (s *apiServer) ping(timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	_, err := s.etcd.Get(ctx, s.prefix+"/health")
	return err
}

func (s *apiServer) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	w.Header().Set("Server", "etcd-rewind practice, a stand-in for kube-apiserver")
	known := q.TLS != nil && len(q.TLS.VerifiedChains) > 0
	path := strings.TrimSuffix(q.URL.Path, "/")
	open := slices.Contains([]string{"/readyz", "/livez", "/healthz", "/version"}, path)
	switch {
	case !known && !s.anonymous:
		failure(w, http.StatusUnauthorized, metav1.StatusReasonUnauthorized, "Unauthorized")
	case path == "/readyz", path == "/livez", path == "/healthz":
		s.health(w, q, path[1:])
	case path == "/version":
		answer(w, map[string]string{
			"major": "1", "minor": "34", "gitVersion": kubernetesVersion + "+practice", "gitCommit": "", "gitTreeState": "",
			"buildDate": "", "goVersion": "", "compiler": "gc", "platform": "practice",
		})
	case !known && !open:
		failure(w, http.StatusForbidden, metav1.StatusReasonForbidden, fmt.Sprintf("forbidden: User \"system:anonymous\" cannot get path %q", q.URL.Path))
	default:
		s.serve(w, q, path)
	}
}

func (s *apiServer) health(w http.ResponseWriter, q *http.Request, name string) {
	s.mu.Lock()
	etcdErr, stopping := s.etcdErr, s.stopping
	s.mu.Unlock()
	var b strings.Builder
	failed := false
	check := func(check string, ok bool) {
		if ok {
			fmt.Fprintf(&b, "[+]%s ok\n", check)
			return
		}
		failed = true
		fmt.Fprintf(&b, "[-]%s failed: reason withheld\n", check)
	}
	check("ping", true)
	check("log", true)
	check("etcd", etcdErr == nil)
	if name == "readyz" {
		check("etcd-readiness", etcdErr == nil)
		check("shutdown", !stopping)
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	switch _, verbose := q.URL.Query()["verbose"]; {
	case failed:
		w.WriteHeader(http.StatusInternalServerError)
		fmt.Fprintf(w, "%s%s check failed\n", b.String(), name)
	case verbose:
		fmt.Fprintf(w, "%s%s check passed\n", b.String(), name)
	default:
		fmt.Fprint(w, "ok")
	}
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

func failure(w http.ResponseWriter, code int, reason metav1.StatusReason, message string) {
	refuse(w, &apierrors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure, Code: int32(code), Reason: reason, Message: message}})
}

// refuse answers with an error: the API's own, or that something is broken.
func refuse(w http.ResponseWriter, err error) {
	var status *apierrors.StatusError
	if !errors.As(err, &status) {
		status = apierrors.NewInternalError(err)
	}
	status.ErrStatus.TypeMeta = metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(int(status.ErrStatus.Code))
	_ = json.NewEncoder(w).Encode(status.ErrStatus)
}
