package node

import (
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

// serveTLS starts a server with the certificates of ca.
func serveTLS(t *testing.T, conf *tls.Config, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	srv := httptest.NewUnstartedServer(h)
	srv.TLS = conf
	// What it says of broken handshakes is expected.
	srv.Config.ErrorLog = silent
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return srv
}

func kubeconfig(t *testing.T, ca *authority, server string) string {
	t.Helper()
	cert, key := ca.issue(t, "kubernetes-admin", nil, time.Now().Add(time.Hour))
	b64 := func(path string) string {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return base64.StdEncoding.EncodeToString(data)
	}
	path := filepath.Join(t.TempDir(), "admin.conf")
	write(t, path, fmt.Sprintf(`apiVersion: v1
kind: Config
clusters:
- {name: kubernetes, cluster: {server: %q, certificate-authority-data: %s}}
contexts:
- {name: admin@kubernetes, context: {cluster: kubernetes, user: admin}}
current-context: admin@kubernetes
users:
- {name: admin, user: {client-certificate-data: %s, client-key-data: %s}}
`, server, b64(ca.path), b64(cert), b64(key)))
	return path
}

// Names as kubeadm gives them: without 127.0.0.1.
var apiNames = []string{"cp1", "kubernetes", "10.96.0.1"}

func TestAskAPI(t *testing.T) {
	ca := newAuthority(t)
	soon := time.Now().Add(time.Hour)
	cert, key := ca.issue(t, "admin", nil, soon)
	const starting = "[+]ping ok\n[-]etcd failed: reason withheld\n[-]poststarthook/rbac/bootstrap-roles failed: reason withheld\nreadyz check failed\n"
	for name, c := range map[string]struct {
		code     int
		body     string
		want     APIAnswer
		ready    bool
		inWords  string
		checking []string
	}{
		"it is ready":         {code: 200, body: "[+]ping ok\nreadyz check passed\n", want: APIAnswer{Code: 200}, ready: true, inWords: "ready"},
		"it starts":           {code: 500, body: starting, want: APIAnswer{Code: 500}, inWords: "500, not ready: etcd, poststarthook/rbac/bootstrap-roles", checking: []string{"etcd", "poststarthook/rbac/bootstrap-roles"}},
		"it shuts down":       {code: 500, body: "[+]ping ok\n[-]shutdown failed: reason withheld\n", want: APIAnswer{Code: 500, ShuttingDown: true}, inWords: "shutting down", checking: []string{"shutdown"}},
		"it has no such path": {code: 404, body: "no", want: APIAnswer{Code: 404}, inWords: "404 Not Found"},
	} {
		t.Run(name, func(t *testing.T) {
			srv := serveTLS(t, ca.serverTLS(t, apiNames, soon), func(w http.ResponseWriter, r *http.Request) {
				if r.URL.String() != "/readyz?verbose" || len(r.TLS.PeerCertificates) != 0 {
					t.Errorf("asked for %s with %d certificates", r.URL, len(r.TLS.PeerCertificates))
				}
				w.WriteHeader(c.code)
				w.Write([]byte(c.body))
			})
			defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
			a := AskAPI(t.Context(), APIConfig{ReadyURL: srv.URL + "/readyz", CA: ca.path, ClientCert: cert, ClientKey: key}, 5*time.Second)
			if a.Took <= 0 {
				t.Error("it took no time")
			}
			if a.Ready() != c.ready || a.String() != c.inWords {
				t.Errorf("ready %v, %q; want %v, %q", a.Ready(), a, c.ready, c.inWords)
			}
			if d := cmp.Diff(c.checking, a.Failing()); d != "" {
				t.Errorf("failing checks: want -, got +\n%s", d)
			}
			c.want.Body, a.Took = c.body, 0
			if a.Err != nil || a.Untrusted != nil {
				t.Errorf("errors %v, %v", a.Err, a.Untrusted)
			}
			if d := cmp.Diff(c.want, a); d != "" {
				t.Errorf("want -, got +\n%s", d)
			}
		})
	}
}

func TestAskAPIWhereTheUnauthenticatedAreTurnedAway(t *testing.T) {
	ca := newAuthority(t)
	soon := time.Now().Add(time.Hour)
	cert, key := ca.issue(t, "admin", nil, soon)
	for _, code := range []int{http.StatusUnauthorized, http.StatusForbidden} {
		srv := serveTLS(t, ca.serverTLS(t, apiNames, soon), func(w http.ResponseWriter, r *http.Request) {
			if len(r.TLS.PeerCertificates) == 0 {
				w.WriteHeader(code)
				return
			}
			w.Write([]byte("ok"))
		})
		base := APIConfig{ReadyURL: srv.URL + "/readyz", CA: ca.path}
		withCert, withConf, broken := base, base, base
		withCert.ClientCert, withCert.ClientKey = cert, key
		withConf.Kubeconfig = kubeconfig(t, ca, srv.URL)
		broken.ClientCert, broken.ClientKey = "/no.crt", "/no.key"
		for name, cfg := range map[string]APIConfig{"a client certificate": withCert, "a kubeconfig": withConf} {
			if a := AskAPI(t.Context(), cfg, 5*time.Second); !a.Ready() || !a.NeedsCertificate || a.Err != nil {
				t.Errorf("%d with %s: %+v", code, name, a)
			}
		}
		if a := AskAPI(t.Context(), base, 5*time.Second); a.Code != code || !a.NeedsCertificate || a.Err != nil {
			t.Errorf("%d with nothing to show: %+v", code, a)
		}
		if a := AskAPI(t.Context(), broken, 5*time.Second); a.Code != code || a.Err == nil || !strings.Contains(a.Err.Error(), "/no.crt") {
			t.Errorf("%d with a certificate that isn't there: %+v", code, a)
		}
	}
}

func TestAskAPIOfACertificateThatIsNoGood(t *testing.T) {
	ca := newAuthority(t)
	ok := func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("ok")) }
	expired := serveTLS(t, ca.serverTLS(t, apiNames, time.Now().Add(-time.Minute)), ok)
	a := AskAPI(t.Context(), APIConfig{ReadyURL: expired.URL + "/readyz", CA: ca.path}, 5*time.Second)
	if !a.Ready() || a.Untrusted == nil || !strings.Contains(a.Untrusted.Error(), "expired") {
		t.Errorf("expired: it serves, and clients will fail; got %+v", a)
	}
	fine := serveTLS(t, ca.serverTLS(t, apiNames, time.Now().Add(time.Hour)), ok)
	a = AskAPI(t.Context(), APIConfig{ReadyURL: fine.URL + "/readyz", CA: newAuthority(t).path}, 5*time.Second)
	if !a.Ready() || a.Untrusted == nil || !strings.Contains(a.Untrusted.Error(), "unknown authority") {
		t.Errorf("of another CA: %+v", a)
	}
	if a = AskAPI(t.Context(), APIConfig{ReadyURL: fine.URL + "/readyz"}, 5*time.Second); !a.Ready() || a.Untrusted != nil {
		t.Errorf("without a CA any will do: %+v", a)
	}
	if a = AskAPI(t.Context(), APIConfig{ReadyURL: fine.URL + "/readyz", CA: "/no/ca.crt"}, 5*time.Second); a.Err == nil {
		t.Errorf("a CA that isn't there: %+v", a)
	}
}

func TestAskAPIOfAServerThatDoesNotAnswer(t *testing.T) {
	a := AskAPI(t.Context(), APIConfig{ReadyURL: "https://" + freePort(t) + "/readyz"}, 5*time.Second)
	if a.Code != 0 || a.String() != "connection refused" || a.Took > time.Second {
		t.Errorf("refused: %+v", a)
	}
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	a = AskAPI(t.Context(), APIConfig{ReadyURL: "https://" + hangingPort(t) + "/readyz"}, 100*time.Millisecond)
	if a.Code != 0 || a.String() != "no answer in time" || a.Took < 90*time.Millisecond || a.Took > time.Second {
		t.Errorf("hanging in the handshake: %+v", a)
	}

	ca := newAuthority(t)
	release := make(chan struct{})
	srv := serveTLS(t, ca.serverTLS(t, apiNames, time.Now().Add(time.Hour)), func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(200)
		w.(http.Flusher).Flush()
		<-release
	})
	a = AskAPI(t.Context(), APIConfig{ReadyURL: srv.URL + "/readyz"}, 100*time.Millisecond)
	close(release)
	if a.Ready() || a.Err == nil || a.Took > time.Second {
		t.Errorf("hanging in the answer: %+v", a)
	}
	srv.Close()
}

func TestAnAskerKeepsItsConnectionWhileItIsAnswered(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	ca := newAuthority(t)
	soon := time.Now().Add(time.Hour)
	cert, key := ca.issue(t, "admin", nil, soon)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	from := map[string]bool{}
	serve := func(l net.Listener, anonymous bool) *httptest.Server {
		srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			from[r.RemoteAddr] = true
			if !anonymous && len(r.TLS.PeerCertificates) == 0 {
				w.WriteHeader(http.StatusForbidden)
			}
			_, _ = w.Write([]byte("ok"))
		}))
		_ = srv.Listener.Close()
		srv.Listener, srv.TLS, srv.Config.ErrorLog = l, ca.serverTLS(t, apiNames, soon), silent
		srv.StartTLS()
		return srv
	}
	first := serve(l, true)
	q := NewAPIAsker(APIConfig{ReadyURL: first.URL + "/readyz", CA: ca.path, ClientCert: cert, ClientKey: key})
	defer q.Close()
	for range 5 {
		if a := q.Ask(t.Context(), 5*time.Second); !a.Ready() || a.Untrusted != nil || a.NeedsCertificate {
			t.Fatalf("%+v", a)
		}
	}
	if len(from) != 1 {
		t.Errorf("five questions came over %d connections", len(from))
	}

	first.Close()
	if a := q.Ask(t.Context(), 5*time.Second); a.String() != "connection refused" {
		t.Errorf("of a server that has ended: %+v", a)
	}
	if l, err = net.Listen("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	clear(from)
	second := serve(l, false)
	defer second.Close()
	for range 5 {
		if a := q.Ask(t.Context(), 5*time.Second); !a.Ready() || !a.NeedsCertificate {
			t.Fatalf("of the next one, which wants a certificate: %+v", a)
		}
	}
	if len(from) != 2 {
		t.Errorf("the certificate was shown over %d connections", len(from)-1)
	}
}

func TestListMeta(t *testing.T) {
	ca := newAuthority(t)
	created := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	item := func(name string) string {
		return fmt.Sprintf(`{"metadata":{"name":%q,"uid":"uid-%s","creationTimestamp":"2026-01-02T03:04:05Z"}}`, name, name)
	}
	var deny int
	srv := serveTLS(t, ca.serverTLS(t, append(apiNames, "lb.example"), time.Now().Add(time.Hour)), func(w http.ResponseWriter, r *http.Request) {
		switch {
		case len(r.TLS.PeerCertificates) == 0:
			w.WriteHeader(http.StatusUnauthorized)
			return
		case deny != 0:
			w.Header().Set("Warning", `299 - "over the screen"`)
			w.WriteHeader(deny)
			return
		case !strings.Contains(r.Header.Get("Accept"), "PartialObjectMetadataList"):
			t.Errorf("asked for whole objects: %s", r.Header.Get("Accept"))
		}
		w.Header().Set("Content-Type", "application/json")
		meta, items := `{"continue":"more"}`, item("default")+","+item("kube-system")
		if r.URL.Query().Get("continue") == "more" {
			meta, items = `{}`, item("shop")
		}
		if r.URL.Path == "/api/v1/nodes" {
			meta, items = `{}`, item("cp1")
		}
		fmt.Fprintf(w, `{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1","metadata":%s,"items":[%s]}`, meta, items)
	})
	objects := func(names ...string) []Object {
		var out []Object
		for _, n := range names {
			out = append(out, Object{n, "uid-" + n, created})
		}
		return out
	}

	t.Run("all pages, at a server that isn't the kubeconfig's", func(t *testing.T) {
		defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
		// The name lb.example leads nowhere, but the certificate must be good for it.
		conf := kubeconfig(t, ca, "https://lb.example:6443")
		got, err := ListMeta(t.Context(), conf, srv.URL, "namespaces")
		if d := cmp.Diff(objects("default", "kube-system", "shop"), got); d != "" || err != nil {
			t.Errorf("%v, want -, got +\n%s", err, d)
		}
		got, err = ListMeta(t.Context(), conf, srv.URL, "nodes")
		if d := cmp.Diff(objects("cp1"), got); d != "" || err != nil {
			t.Errorf("%v, want -, got +\n%s", err, d)
		}
	})
	t.Run("a server with another name is not trusted", func(t *testing.T) {
		_, err := ListMeta(t.Context(), kubeconfig(t, ca, "https://elsewhere.example:6443"), srv.URL, "nodes")
		if err == nil || !strings.Contains(err.Error(), "elsewhere.example") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("it is forbidden", func(t *testing.T) {
		deny = http.StatusForbidden
		defer func() { deny = 0 }()
		if _, err := ListMeta(t.Context(), kubeconfig(t, ca, "https://lb.example"), srv.URL, "nodes"); err == nil || !strings.Contains(err.Error(), "cannot list nodes") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("nobody listens", func(t *testing.T) {
		if _, err := ListMeta(t.Context(), kubeconfig(t, ca, "https://"+freePort(t)), "", "nodes"); err == nil || !strings.HasSuffix(err.Error(), "connection refused") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("nothing but namespaces and nodes", func(t *testing.T) {
		if _, err := ListMeta(t.Context(), kubeconfig(t, ca, srv.URL), "", "secrets"); err == nil {
			t.Error("secrets were listed")
		}
	})
	t.Run("a plugin is not run", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "conf")
		write(t, path, `{apiVersion: v1, kind: Config, current-context: a, contexts: [{name: a, context: {cluster: a, user: a}}],
clusters: [{name: a, cluster: {server: "https://x"}}],
users: [{name: a, user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: sh, interactiveMode: Never}}}]}`)
		if _, err := ListMeta(t.Context(), path, "", "nodes"); err == nil || !strings.Contains(err.Error(), "plugin") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("no kubeconfig", func(t *testing.T) {
		if _, err := ListMeta(t.Context(), "/no/admin.conf", "", "nodes"); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("got %v", err)
		}
		if _, err := ListMeta(t.Context(), "", "", "nodes"); err == nil {
			t.Error("it worked without one")
		}
	})
}

func TestUsualKubeconfigsExist(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	write(t, a, "")
	write(t, b, "")
	t.Setenv("KUBECONFIG", strings.Join([]string{b, filepath.Join(dir, "missing"), dir, a, b}, string(os.PathListSeparator)))
	var got []string
	for _, p := range Kubeadm.UsualKubeconfigs() {
		if strings.HasPrefix(p, dir) {
			got = append(got, p)
		}
	}
	if d := cmp.Diff([]string{b, a}, got); d != "" {
		t.Errorf("want -, got +\n%s", d)
	}
}
