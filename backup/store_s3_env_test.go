package backup

import (
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"etcd-rewind/problem"
)

// aProxy leads whatever it is asked for to one server, and counts.
func aProxy(t *testing.T, to *httptest.Server) (*httptest.Server, *atomic.Int64) {
	t.Helper()
	var asked atomic.Int64
	p := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if r.Method != http.MethodConnect {
			to.Config.Handler.ServeHTTP(w, r)
			return
		}
		there, err := net.Dial("tcp", to.Listener.Addr().String())
		if err != nil {
			t.Error(err)
			return
		}
		here, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = io.WriteString(here, "HTTP/1.1 200 OK\r\n\r\n")
		go func() { _, _ = io.Copy(there, here); _ = there.Close() }()
		go func() { _, _ = io.Copy(here, there); _ = here.Close() }()
	}))
	t.Cleanup(p.Close)
	return p, &asked
}

// A store behind a proxy is reached over it, with TLS and without, whether the
// environment or the location names it; a machine's own role is asked for directly.
func TestAProxyIsUsed(t *testing.T) {
	f, _ := newFakeS3(t, "")
	secure := httptest.NewTLSServer(f)
	t.Cleanup(secure.Close)
	ca := filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, env, location string
		server              *httptest.Server
		parameter           bool
	}{
		{"HTTPS_PROXY", "HTTPS_PROXY", "s3://bucket/p?endpoint=https://example.com&path-style=true&ca=" + ca, secure, false},
		{"HTTP_PROXY", "HTTP_PROXY", "s3://bucket/p?endpoint=http://store.test", f.Server, false},
		{"the location", "", "s3://bucket/p?endpoint=https://example.com&path-style=true&ca=" + ca, secure, true},
	} {
		p, asked := aProxy(t, c.server)
		location := c.location
		if c.parameter {
			location += "&proxy=" + p.URL
		} else {
			t.Setenv(c.env, p.URL)
		}
		s, err := Open(location)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := Open(s.Location()); err != nil || again.Location() != s.Location() {
			t.Errorf("%s: %v %v", c.name, again, err)
		}
		name := "c1/" + strings.ReplaceAll(c.name, " ", "-")
		store(t, s, name, "content")
		if o, err := s.Stat(t.Context(), name); err != nil || o.Size != 7 || asked.Load() == 0 {
			t.Errorf("%s: %+v %v, the proxy was asked %d times", c.name, o, err, asked.Load())
		}
		s.(*S3).transport.CloseIdleConnections()
	}
	transport, err := newTransport("", nil)
	if err != nil {
		t.Fatal(err)
	}
	if u, err := transport.Proxy(httptest.NewRequest(http.MethodGet, "http://169.254.169.254/latest", nil)); u != nil || err != nil {
		t.Errorf("the machine's own credentials are asked for over %v %v", u, err)
	}
}

// aMachine has a role, as its metadata service says.
func aMachine(t *testing.T, answer func(w http.ResponseWriter, r *http.Request) bool) *httptest.Server {
	t.Helper()
	m := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case answer != nil && answer(w, r):
		case r.Method == http.MethodPut && r.URL.Path == "/latest/api/token":
			_, _ = io.WriteString(w, "token-of-the-session")
		case r.Header.Get("X-aws-ec2-metadata-token") != "token-of-the-session":
			w.WriteHeader(http.StatusUnauthorized)
		case r.URL.Path == "/latest/meta-data/iam/security-credentials/":
			_, _ = io.WriteString(w, "etcd-backup\n")
		case r.URL.Path == "/latest/meta-data/iam/security-credentials/etcd-backup":
			_, _ = fmt.Fprintf(w, `{"Code":"Success","AccessKeyId":"AKIAIOSFODNN7EXAMPLE","SecretAccessKey":%q,"Token":"the-token","Expiration":%q}`, fakeSecret, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	t.Cleanup(m.Close)
	t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", m.URL+"/")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", filepath.Join(t.TempDir(), "none"))
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	return m
}

func TestTheRoleOfTheMachineIsUsed(t *testing.T) {
	f, s := newFakeS3(t, "")
	aMachine(t, nil)
	var with atomic.Value
	f.fault = func(_ http.ResponseWriter, r *http.Request) bool {
		with.Store(r.Header.Get("X-Amz-Security-Token"))
		return false
	}
	store(t, s, "c1/a", "content")
	if with.Load() != "the-token" {
		t.Errorf("it was signed with %v", with.Load())
	}
}

// through is a transport whose other end is a function.
type through func(r *http.Request) (int, string)

func (f through) RoundTrip(r *http.Request) (*http.Response, error) {
	status, body := f(r)
	return &http.Response{StatusCode: status, Status: http.StatusText(status), Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
}

// A container's role is asked for with its token, where the environment says, and a
// web identity's token is exchanged at Amazon's token service of the region. That
// the machine's metadata service is switched off is no matter of theirs.
func TestTheRolesOfContainersAndOfWebIdentitiesAreUsed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("token-of-a-file"), 0o600); err != nil {
		t.Fatal(err)
	}
	until := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	given := fmt.Sprintf(`{"AccessKeyId":"AKIAIOSFODNN7EXAMPLE","SecretAccessKey":%q,"Token":"the-token","Expiration":%q}`, fakeSecret, until)
	exchanged := fmt.Sprintf(`<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleWithWebIdentityResult><Credentials>
<AccessKeyId>AKIAIOSFODNN7EXAMPLE</AccessKeyId><SecretAccessKey>%s</SecretAccessKey><SessionToken>the-token</SessionToken><Expiration>%s</Expiration>
</Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`, fakeSecret, until)
	for name, c := range map[string]struct {
		env    map[string]string
		at     string
		header string // Authorization
		form   string
		answer string
	}{
		"a task of ECS": {
			map[string]string{"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/v2/credentials/abc"}, "GET http://169.254.170.2/v2/credentials/abc", "", "", given,
		},
		"a container, with a token": {
			map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:4711/creds", "AWS_CONTAINER_AUTHORIZATION_TOKEN": "Basic abc"}, "GET http://127.0.0.1:4711/creds", "Basic abc", "", given,
		},
		"a pod of EKS": {
			map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://169.254.170.23/v1/credentials", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": file}, "GET http://169.254.170.23/v1/credentials", "token-of-a-file", "", given,
		},
		"a web identity": {
			map[string]string{"AWS_WEB_IDENTITY_TOKEN_FILE": file, "AWS_ROLE_ARN": "arn:aws:iam::1:role/backup", "AWS_ROLE_SESSION_NAME": "cp1", "AWS_REGION": "eu-test-1"},
			"POST https://sts.eu-test-1.amazonaws.com", "", "Action=AssumeRoleWithWebIdentity&RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fbackup&RoleSessionName=cp1&Version=2011-06-15&WebIdentityToken=token-of-a-file", exchanged,
		},
		"a container, where somebody else is to be asked": {
			map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://example.com/creds", "AWS_CONTAINER_AUTHORIZATION_TOKEN": "Basic abc"}, "", "", "", "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, name := range []string{
				"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN", "AWS_ROLE_SESSION_NAME", "AWS_REGION", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
				"AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "AWS_EC2_METADATA_SERVICE_ENDPOINT",
			} {
				t.Setenv(name, c.env[name])
			}
			t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
			t.Setenv("AWS_SHARED_CREDENTIALS_FILE", filepath.Join(t.TempDir(), "none"))
			asked := ""
			v, err := (&s3Credentials{roleLimit: roleLimit, transport: through(func(r *http.Request) (int, string) {
				asked = r.Method + " " + r.URL.String()
				var body []byte
				if r.Body != nil {
					body, _ = io.ReadAll(r.Body)
				}
				if string(body) != c.form || r.Header.Get("Authorization") != c.header {
					return http.StatusForbidden, ""
				}
				return http.StatusOK, c.answer
			})}).Retrieve()
			if asked != c.at {
				t.Errorf("asked %q", asked)
			}
			if given := v.AccessKeyID == "AKIAIOSFODNN7EXAMPLE" && v.SecretAccessKey == fakeSecret && v.SessionToken == "the-token" && err == nil; given != (c.at != "") {
				t.Errorf("%+v %v", v.AccessKeyID, err)
			}
		})
	}
	transport, err := newTransport("", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	for _, at := range []string{"http://169.254.170.2/v2/credentials/abc", "http://169.254.170.23/v1/credentials"} {
		if u, err := transport.Proxy(httptest.NewRequest(http.MethodGet, at, nil)); u != nil || err != nil {
			t.Errorf("%s is asked over %v %v", at, u, err)
		}
	}
}

// What a machine answers that has no role, or no such service, or that hangs, ends
// in time, and says what to do.
func TestAMachineWithoutARoleSaysSoInTime(t *testing.T) {
	for name, answer := range map[string]func(w http.ResponseWriter, r *http.Request) bool{
		"hangs":       func(_ http.ResponseWriter, r *http.Request) bool { <-r.Context().Done(); return true },
		"has no role": func(w http.ResponseWriter, r *http.Request) bool { w.WriteHeader(404); return true },
		"is something else": func(w http.ResponseWriter, r *http.Request) bool {
			_, _ = io.WriteString(w, strings.Repeat("<html>", 1000))
			return true
		},
		"never stops talking": func(w http.ResponseWriter, r *http.Request) bool {
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 64<<10)); err != nil {
					break
				}
			}
			return true
		},
	} {
		t.Run(name, func(t *testing.T) {
			aMachine(t, answer)
			transport, err := newTransport("", nil)
			if err != nil {
				t.Fatal(err)
			}
			defer transport.CloseIdleConnections()
			c := &s3Credentials{transport: transport, roleLimit: 50 * time.Millisecond}
			began := time.Now()
			v, err := c.Retrieve()
			if p := problem.Of(err); p == nil || !strings.Contains(p.Cause, "no role") || !strings.Contains(p.Hint, "AWS_ACCESS_KEY_ID") || v.AccessKeyID != "" {
				t.Errorf("%+v %v", v, err)
			}
			if took := time.Since(began); took > credentialsLimit/2 {
				t.Errorf("after %s", took)
			}
		})
	}
}
