package backup

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	minio "github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"golang.org/x/net/http/httpproxy"

	"etcd-rewind/defect"
	"etcd-rewind/problem"
	"etcd-rewind/trust"
)

// regionOr is the region to sign for. Without one Amazon's is found by asking for
// the bucket's; others mostly don't care.
func (s *S3) regionOr() string {
	region := cmp.Or(s.region, os.Getenv("AWS_REGION"), os.Getenv("AWS_DEFAULT_REGION"))
	if region == "" && !s.amazon && !strings.HasSuffix(s.endpoint.Hostname(), ".amazonaws.com") {
		return "us-east-1"
	}
	return region
}

// newTransport connects to a store, over a proxy, or with nil over the one that the
// environment names.
func newTransport(ca string, proxy *url.URL) (*http.Transport, error) {
	which := httpproxy.FromEnvironment().ProxyFunc()
	if proxy != nil {
		which = func(*url.URL) (*url.URL, error) { return proxy, nil }
	}
	t := &http.Transport{
		Proxy:                  proxyOf(which),
		DialContext:            (&net.Dialer{Timeout: 15 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout:    15 * time.Second,
		MaxIdleConnsPerHost:    4,
		IdleConnTimeout:        30 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
		DisableCompression:     true,
	}
	if ca == "" {
		return t, nil
	}
	pem, err := os.ReadFile(ca)
	if err != nil {
		return nil, problem.New("ca= names the certificate authority of the store, as PEM", "its certificate authority: %w", err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, problem.New("ca= names the certificate authority of the store, as PEM", "%s contains no certificate", ca)
	}
	t.TLSClientConfig = &tls.Config{RootCAs: pool}
	return t, nil
}

// proxyOf never leads what is asked of the machine itself elsewhere: that is where
// its credentials come from.
func proxyOf(which func(*url.URL) (*url.URL, error)) func(*http.Request) (*url.URL, error) {
	return func(r *http.Request) (*url.URL, error) {
		if ip := net.ParseIP(r.URL.Hostname()); ip != nil && (ip.IsLinkLocalUnicast() || ip.IsLoopback()) {
			return nil, nil
		}
		u, err := which(r.URL)
		if err != nil { // its text has the URL, which may hold a password
			return nil, problem.New("check HTTPS_PROXY, HTTP_PROXY and NO_PROXY", "the proxy in the environment is not a URL")
		}
		return u, nil
	}
}

type (
	// wholeObject marks a request whose answer is an object, as long as that is.
	wholeObject struct{}
	// budget is how many requests may be made for one call.
	budget struct{}
	// dateKey is where the store's time of an answer is wanted.
	dateKey struct{}
)

func newBudget(n int64) *atomic.Int64 {
	left := new(atomic.Int64)
	left.Store(n)
	return left
}

// maxAnswer bounds what a store answers that isn't an object, in bytes: a page of
// a thousand names is half of one MiB.
const maxAnswer = 8 << 20

// paced gives up a request that shows no sign of life, and an answer that is too
// long. It counts what is sent and what comes as signs of life of whoever waits.
type paced struct {
	next http.RoundTripper
	idle time.Duration
}

func (p *paced) RoundTrip(r *http.Request) (*http.Response, error) {
	parent := r.Context()
	if left, ok := parent.Value(budget{}).(*atomic.Int64); ok && left.Add(-1) < 0 {
		return nil, problem.New("give backups a prefix of their own, or check the store", "its listing doesn't end")
	}
	stalled := problem.New("check the network, the proxy and the store", "it transferred nothing for %s", p.idle)
	ctx, watch := defect.Watch(parent, p.idle, stalled)
	live := func() {
		watch.Alive()
		signOfLife(parent)
	}
	r = r.WithContext(ctx)
	if r.Body != nil {
		r.Body = struct {
			io.Reader
			io.Closer
		}{&lively{r.Body, live}, r.Body}
	}
	res, err := p.next.RoundTrip(r)
	if err != nil {
		cause := context.Cause(ctx)
		watch.Stop()
		if errors.Is(cause, stalled) {
			err = cause
		}
		return nil, err
	}
	live()
	if at, ok := parent.Value(dateKey{}).(*time.Time); ok {
		if *at, err = http.ParseTime(res.Header.Get("Date")); err != nil {
			*at = time.Now()
		}
	}
	a := &answer{ReadCloser: res.Body, ctx: ctx, live: live, end: watch.Stop, left: maxAnswer, stalled: stalled}
	if whole, _ := parent.Value(wholeObject{}).(bool); whole && res.StatusCode < 300 {
		a.left = -1
		a.live = func() {}
		watch.Pause() // its reader has a limit of its own, which pauses while nobody reads
	}
	res.Body = a
	return res, nil
}

// answer is the body of an answer.
type answer struct {
	io.ReadCloser
	ctx       context.Context
	live, end func()
	left      int64 // bytes that may still come, -1 for any number
	stalled   error
}

func (a *answer) Read(p []byte) (int, error) {
	n, err := a.ReadCloser.Read(p)
	if n > 0 {
		a.live()
	}
	if a.left >= 0 {
		if a.left -= int64(n); a.left < 0 {
			return 0, problem.New("check that it is an S3 store", "its answer is longer than %d MiB", maxAnswer>>20)
		}
	}
	if err != nil && errors.Is(context.Cause(a.ctx), a.stalled) {
		err = a.stalled
	}
	return n, err
}

func (a *answer) Close() error {
	a.end()
	return a.ReadCloser.Close()
}

// s3Credentials are those of the usual places: the file that the location names;
// or the environment, the files of Amazon's tools, the machine's role.
type s3Credentials struct {
	file, profile string
	transport     http.RoundTripper
	roleLimit     time.Duration // for each answer about the machine's role

	found credentials.Provider
}

const (
	credentialsHint = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a file of credentials in the location: &credentials=/etc/etcd-rewind/s3"
	// A machine without roles answers nothing at all.
	roleLimit = 2 * time.Second
	// A program that the file names, or a server, may take its time.
	credentialsLimit = 30 * time.Second
)

// RetrieveWithCredContext finds them. The error quotes nothing of a file.
func (c *s3Credentials) RetrieveWithCredContext(*credentials.CredContext) (credentials.Value, error) {
	ctx, cancel := context.WithTimeout(context.Background(), credentialsLimit)
	defer cancel()
	v, err := defect.Await(ctx, c.find)
	if errors.Is(err, context.DeadlineExceeded) {
		err = problem.New(credentialsHint, "its credentials didn't arrive within %s", credentialsLimit)
	}
	return v, err
}

func (c *s3Credentials) find() (credentials.Value, error) {
	var none credentials.Value
	roles := &http.Client{Transport: &paced{c.transport, c.roleLimit}}
	with := &credentials.CredContext{Client: &http.Client{Transport: &paced{c.transport, credentialsLimit}}}
	if c.file == "" && c.profile == "" {
		p := &credentials.EnvAWS{}
		if v, err := p.RetrieveWithCredContext(with); err == nil && v.AccessKeyID != "" && v.SecretAccessKey != "" {
			c.found = p
			return v, nil
		}
	}
	if name, there := c.files(); there {
		p := &credentials.FileAWSCredentials{Filename: name, Profile: c.profile}
		v, err := p.RetrieveWithCredContext(with)
		if err == nil && v.AccessKeyID != "" && v.SecretAccessKey != "" {
			c.found = p
			return v, nil
		}
		if c.file != "" || c.profile != "" {
			profile := cmp.Or(c.profile, os.Getenv("AWS_PROFILE"), "default")
			if unread := (*fs.PathError)(nil); errors.As(err, &unread) {
				return none, problem.New("name a file in the format of ~/.aws/credentials", "its credentials: %w", unread)
			}
			return none, problem.New("it needs aws_access_key_id and aws_secret_access_key, as in ~/.aws/credentials", "%s has no credentials for the profile %s", cmp.Or(name, "~/.aws/credentials"), trust.Text(profile))
		}
	}
	// What is switched off so is the machine's metadata service alone.
	if other := otherRole(); other || !strings.EqualFold(os.Getenv("AWS_EC2_METADATA_DISABLED"), "true") {
		p := &credentials.IAM{Client: roles}
		if !other {
			p.Endpoint = strings.TrimSuffix(os.Getenv("AWS_EC2_METADATA_SERVICE_ENDPOINT"), "/") // as Amazon's tools take it
		}
		if os.Getenv("AWS_WEB_IDENTITY_TOKEN_FILE") != "" {
			p.Client = with.Client
		}
		if v, err := p.RetrieveWithCredContext(with); err == nil && v.AccessKeyID != "" {
			c.found = p
			return v, nil
		}
	}
	return none, problem.New(credentialsHint, "no credentials for it: not in the environment, not in ~/.aws/credentials, and this machine has no role")
}

// otherRole says whether the environment names a role that isn't the machine's: a
// web identity's or a container's, which have addresses of their own.
func otherRole() bool {
	for _, other := range []string{"AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"} {
		if os.Getenv(other) != "" {
			return true
		}
	}
	return false
}

// files is the file to read, "" for those of Amazon's tools. A service has no
// HOME.
func (c *s3Credentials) files() (name string, there bool) {
	if c.file != "" {
		return c.file, true
	}
	if os.Getenv("HOME") != "" || os.Getenv("AWS_SHARED_CREDENTIALS_FILE") != "" {
		return "", true
	}
	if u, err := user.Current(); err == nil {
		name = filepath.Join(u.HomeDir, ".aws", "credentials")
		_, err := os.Stat(name)
		return name, err == nil
	}
	return "", false
}

// Retrieve is RetrieveWithCredContext.
func (c *s3Credentials) Retrieve() (credentials.Value, error) { return c.RetrieveWithCredContext(nil) }

// IsExpired says whether they have to be found again.
func (c *s3Credentials) IsExpired() bool { return c.found == nil || c.found.IsExpired() }

// explain says in a person's words what a store has answered. What it says
// itself is shown as text, without what only this program and the store know.
func (s *S3) explain(err error) error {
	if err == nil || problem.Of(err) != nil || errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if locked := (*Locked)(nil); errors.As(err, &locked) {
		return err
	}
	e := minio.ToErrorResponse(err)
	if e.Code == "" && e.StatusCode == 0 {
		return s.explainNetwork(err)
	}
	says := trust.Clip(trust.Text(s.withoutSecrets(strings.TrimSpace(e.Code+": "+e.Message))), 300)
	if e.StatusCode != 0 && !strings.Contains(says, fmt.Sprint(e.StatusCode)) {
		says += fmt.Sprintf(" (%d)", e.StatusCode)
	}
	hint := ""
	switch e.Code {
	case minio.NoSuchKey:
		return &fs.PathError{Op: "get", Path: e.Key, Err: fs.ErrNotExist}
	case minio.NoSuchBucket:
		hint = "create the bucket " + s.bucket + " first, or check its name, endpoint= and path-style="
	case minio.AccessDenied, "Forbidden", "AllAccessDisabled", "AccountProblem":
		hint = "it needs s3:GetObject, s3:PutObject, s3:DeleteObject, s3:ListBucket, s3:AbortMultipartUpload and s3:ListBucketMultipartUploads on the bucket and the prefix"
	case "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken", "ExpiredTokenException":
		hint = "check the credentials: whose they are, and whether they are still valid"
	case "RequestTimeTooSkewed":
		hint = "the clock of this machine or of the store is wrong: set it (chronyc tracking)"
	case "AuthorizationHeaderMalformed", "PermanentRedirect", "TemporaryRedirect", "InvalidRegion", "IllegalLocationConstraintException":
		hint = "the bucket is in another region, or elsewhere: name it with region=, or its own endpoint= (redirects aren't followed)"
	case "XMinioStorageFull", "QuotaExceeded", "InsufficientStorage", "EntityTooLarge":
		hint = "free some space there, raise the quota, or keep fewer backups"
	case "SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "Throttling":
		hint = "the store has an internal error: try again later"
	default:
		switch {
		case e.StatusCode >= 300 && e.StatusCode < 400:
			hint = "redirects aren't followed: name the store's own URL with endpoint="
		case e.StatusCode == 507:
			hint = "free some space there, raise the quota, or keep fewer backups"
		case e.StatusCode >= 500:
			hint = "the store has an internal error: try again later"
		}
	}
	return problem.New(hint, "the store answers: %s", says)
}

func (s *S3) explainNetwork(err error) error {
	without := err
	if request, ok := errors.AsType[*url.Error](err); ok { // its URL is long, and says no more than the location
		without = request.Err
	}
	says := trust.Clip(trust.Text(s.withoutSecrets(without.Error())), 300)
	var noCA x509.UnknownAuthorityError
	var otherName x509.HostnameError
	var invalid x509.CertificateInvalidError
	var resolve *net.DNSError
	var op *net.OpError
	switch {
	case errors.As(err, &noCA):
		return problem.New("name its certificate authority: ca=/path/of/ca.crt", "the store's certificate is signed by an authority unknown to this machine")
	case errors.As(err, &otherName), errors.As(err, &invalid):
		return problem.New("check endpoint=, and the clock", "the store's certificate isn't valid: %s", says)
	case strings.Contains(says, "server gave HTTP response to HTTPS client"):
		return problem.New("name it with endpoint=http://…; backups are encrypted, everything else sent is not", "the store speaks HTTP without TLS")
	case errors.As(err, &resolve):
		return problem.New("check endpoint=, the proxy and the name server", "the store's name can't be resolved: %s", says)
	case errors.As(err, &op):
		return problem.New("check endpoint=, the proxy and the firewall", "the store can't be reached: %s", says)
	}
	return problem.New("", "%s", says)
}

// withoutSecrets blots out what the store was sent and may have echoed.
func (s *S3) withoutSecrets(says string) string {
	s.mu.Lock()
	creds := s.creds
	s.mu.Unlock()
	if creds == nil || creds.IsExpired() {
		return says
	}
	v, err := creds.GetWithContext(nil) // what it has, without asking anybody
	if err != nil {
		return says
	}
	for _, secret := range []string{v.SecretAccessKey, v.SessionToken, v.AccessKeyID} {
		if secret != "" {
			says = strings.ReplaceAll(says, secret, "…")
		}
	}
	return says
}
