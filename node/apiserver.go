package node

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// APIConfig says where the API server's readiness is asked.
type APIConfig struct {
	ReadyURL string // https://host:port/readyz
	CA       string // path of the CA of its serving certificate; "" takes any
	// Used when the unauthenticated are turned away: a client certificate, or a
	// kubeconfig that holds one.
	ClientCert, ClientKey string
	Kubeconfig            string
}

// APIAnswer is one answer of the API server, or why there was none.
type APIAnswer struct {
	Code int    // HTTP status, 0 without an answer
	Body string // of /readyz?verbose
	Err  error  // no answer: refused, timed out, interrupted
	Took time.Duration
	// ShuttingDown is true when the answer says so: the server has its signal
	// and lets its clients finish.
	ShuttingDown bool
	// Untrusted says what is wrong with the serving certificate: expired, or of
	// another CA. The question is asked all the same, as kubelet's probe does;
	// clients will fail. Its names aren't compared.
	Untrusted error
	// NeedsCertificate is true when the unauthenticated are turned away
	// (--anonymous-auth=false).
	NeedsCertificate bool
}

// Ready reports whether the API server says that it is.
func (a APIAnswer) Ready() bool { return a.Code == http.StatusOK }

// Failing lists the names of the checks that the answer says have failed.
func (a APIAnswer) Failing() []string {
	var out []string
	for line := range strings.Lines(a.Body) {
		if rest, ok := strings.CutPrefix(line, "[-]"); ok {
			name, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
			out = append(out, name)
		}
	}
	return out
}

// String says the answer in a few words.
func (a APIAnswer) String() string {
	switch {
	case a.Err != nil:
		return plain(a.Err).Error()
	case a.ShuttingDown:
		return "shutting down"
	case a.Ready():
		return "ready"
	}
	if f := a.Failing(); len(f) > 0 {
		return fmt.Sprintf("%d, not ready: %s", a.Code, strings.Join(f, ", "))
	}
	return fmt.Sprintf("%d %s", a.Code, http.StatusText(a.Code))
}

// Untransformable says of what an API server answers or logs that it can't decrypt or
// decode what it has stored: a key isn't in its EncryptionConfiguration. From Kubernetes
// 1.37 on lists say so in other words: by default they name corrupt objects
// (AllowUnsafeMalformedObjectDeletion, corrupt_obj_deleter.go).
func Untransformable(words string) bool {
	return strings.Contains(words, "unable to transform key") || strings.Contains(words, "data from the storage is not transformable")
}

// AskAPI asks the API server's /readyz once. It takes no longer than timeout.
func AskAPI(ctx context.Context, cfg APIConfig, timeout time.Duration) APIAnswer {
	q := NewAPIAsker(cfg)
	defer q.Close()
	return q.Ask(ctx, timeout)
}

// APIAsker asks an API server's /readyz again and again, over the same
// connection as long as it answers: handshakes cost a server that is starting
// CPU, and it is asked every 20 ms.
type APIAsker struct {
	cfg       APIConfig
	ctx       context.Context // its life
	stop      context.CancelFunc
	untrusted atomic.Pointer[error]

	mu        sync.Mutex
	transport *http.Transport // nil before the first question
	certified bool            // it shows its client certificate
}

// NewAPIAsker must be followed by Close.
func NewAPIAsker(cfg APIConfig) *APIAsker {
	q := &APIAsker{cfg: cfg}
	q.ctx, q.stop = context.WithCancel(context.Background())
	return q
}

// Close ends the connection. Safe to call twice.
func (q *APIAsker) Close() {
	q.stop()
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.transport != nil {
		q.transport.CloseIdleConnections()
	}
}

// Ask takes no longer than timeout. A 401 or 403 is asked again with the client
// certificate, when there is one. It is safe to call from several goroutines,
// one of which asks at a time.
func (q *APIAsker) Ask(ctx context.Context, timeout time.Duration) (a APIAnswer) {
	start := time.Now()
	defer func() { a.Took = time.Since(start) }()
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	q.mu.Lock()
	defer q.mu.Unlock()

	if q.transport == nil {
		if a.Err = q.open(nil); a.Err != nil {
			return a
		}
	}
	q.ask(ctx, &a)
	refused := a.Code == http.StatusUnauthorized || a.Code == http.StatusForbidden
	a.NeedsCertificate = refused || q.certified
	if refused && !q.certified {
		switch pair, err := q.cfg.certificate(); {
		case err != nil:
			a.Err = fmt.Errorf("the API server rejects anonymous requests (%d): %w", a.Code, err)
		case pair != nil:
			if a.Err = q.open(pair); a.Err == nil {
				q.ask(ctx, &a)
			}
		}
	}
	a.ShuttingDown = strings.Contains(a.Body, "[-]shutdown")
	return a
}

func (q *APIAsker) ask(ctx context.Context, a *APIAnswer) {
	a.Code, a.Body, a.Err = getOver(ctx, q.transport, q.cfg.ReadyURL+"?verbose")
	if a.Err != nil {
		a.Err = plain(a.Err)
	}
	if problem := q.untrusted.Load(); problem != nil {
		a.Untrusted = *problem
	}
}

// open makes the transport, with what shows who asks.
func (q *APIAsker) open(pair *tls.Certificate) error {
	conf, err := trusting(q.cfg.CA, func(problem error) { q.untrusted.Store(&problem) })
	if err != nil {
		return err
	}
	if pair != nil {
		conf.Certificates = []tls.Certificate{*pair}
	}
	if q.transport != nil {
		q.transport.CloseIdleConnections()
	}
	q.transport, q.certified = newKeepingTransport(q.ctx, conf), pair != nil
	return nil
}

// trusting makes a TLS configuration that completes every handshake and reports
// what is wrong with the other side's certificate, or nil. A readiness URL
// often has 127.0.0.1 in it, which isn't in kubeadm's certificates, so names
// don't count.
func trusting(ca string, tell func(problem error)) (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: true}
	if ca == "" {
		return conf, nil
	}
	pool, err := caPool(ca)
	if err != nil {
		return nil, err
	}
	conf.VerifyConnection = func(cs tls.ConnectionState) error {
		opts := x509.VerifyOptions{Roots: pool, Intermediates: x509.NewCertPool()}
		for _, c := range cs.PeerCertificates[1:] {
			opts.Intermediates.AddCert(c)
		}
		_, err := cs.PeerCertificates[0].Verify(opts)
		tell(err)
		return nil
	}
	return conf, nil
}

// certificate is nil without an error when none was named.
func (c APIConfig) certificate() (*tls.Certificate, error) {
	if c.ClientCert != "" {
		pair, err := tls.LoadX509KeyPair(c.ClientCert, c.ClientKey)
		if err != nil {
			return nil, fmt.Errorf("cannot use client certificate %s: %w", c.ClientCert, err)
		}
		return &pair, nil
	}
	if c.Kubeconfig == "" {
		return nil, nil
	}
	conf, err := restConfig(c.Kubeconfig, "")
	if err != nil {
		return nil, err
	}
	t := conf.TLSClientConfig
	var pair tls.Certificate
	switch {
	case len(t.CertData) > 0 && len(t.KeyData) > 0:
		pair, err = tls.X509KeyPair(t.CertData, t.KeyData)
	case t.CertFile != "" && t.KeyFile != "":
		pair, err = tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
	default:
		err = errors.New("it holds no client certificate")
	}
	if err != nil {
		return nil, fmt.Errorf("kubeconfig %s: %w", c.Kubeconfig, err)
	}
	return &pair, nil
}
