package node

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestAskRelists(t *testing.T) {
	soon := time.Now().Add(time.Hour)
	own, cluster := newAuthority(t), newAuthority(t)
	cert, key := cluster.issue(t, "kube-apiserver-kubelet-client", nil, soon)
	before := strings.Repeat("kubelet_other{le=\"0.005\"} 12\n", 5000)
	for name, c := range map[string]struct {
		code int
		body string
		want int
		err  string
	}{
		"among many others":           {200, before + "kubelet_pleg_relist_duration_seconds_sum 1.5\nkubelet_pleg_relist_duration_seconds_count 4711\nmore 1\n", 4711, ""},
		"a kubelet that counts none":  {200, before, 0, "they have no kubelet_pleg_relist_duration_seconds_count"},
		"a client that may not":       {403, "Forbidden", 0, "403 Forbidden"},
		"a count that is cut off":     {200, "kubelet_pleg_relist_duration_seconds_count 47x\n", 0, "47x"},
		"a line that is far too long": {200, strings.Repeat("x", 1<<20), 0, "token too long"},
	} {
		t.Run(name, func(t *testing.T) {
			conf := own.serverTLS(t, []string{"cp1"}, soon)
			conf.ClientAuth = tls.RequireAnyClientCert
			srv := serveTLS(t, conf, func(w http.ResponseWriter, r *http.Request) {
				if name := r.TLS.PeerCertificates[0].Subject.CommonName; name != "kube-apiserver-kubelet-client" {
					t.Errorf("asked as %s", name)
				}
				w.WriteHeader(c.code)
				_, _ = fmt.Fprint(w, c.body)
			})
			n, err := AskRelists(t.Context(), MetricsConfig{URL: srv.URL + "/metrics", Cert: cert, Key: key})
			if n != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("%d, %v", n, err)
			}
		})
	}
	t.Run("nobody listens", func(t *testing.T) {
		_, err := AskRelists(t.Context(), MetricsConfig{URL: "https://" + freePort(t) + "/metrics", Cert: cert, Key: key})
		if err == nil || !strings.Contains(err.Error(), "connection refused") {
			t.Error(err)
		}
	})
	t.Run("the certificate is gone", func(t *testing.T) {
		if _, err := AskRelists(t.Context(), MetricsConfig{URL: "https://127.0.0.1:1", Cert: cert + ".gone", Key: key}); err == nil {
			t.Error("no error")
		}
	})
}
