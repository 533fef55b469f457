package node

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestReadCertificate(t *testing.T) {
	ca := newAuthority(t)
	end := time.Now().Add(36 * time.Hour).Truncate(time.Second)
	cert, key := ca.issue(t, "kube-apiserver", []string{"cp1", "10.77.0.11"}, end)
	c := ReadCertificate(cert)
	if c.Err != nil || !strings.Contains(c.Subject, "CN=kube-apiserver") || !strings.Contains(c.Issuer, "CN=test-ca") || !c.NotAfter.Equal(end) || c.NotBefore.IsZero() || c.Path != cert {
		t.Errorf("got %+v", c)
	}

	both := filepath.Join(t.TempDir(), "kubelet-client-current.pem")
	k, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	p, err := os.ReadFile(cert)
	if err != nil {
		t.Fatal(err)
	}
	write(t, both, string(k)+string(p))
	if c := ReadCertificate(both); c.Err != nil || !c.NotAfter.Equal(end) {
		t.Errorf("a key and a certificate in one file: %+v", c)
	}

	if c := ReadCertificate(kubeconfig(t, ca, "https://x")); c.Err != nil || !strings.Contains(c.Subject, "CN=kubernetes-admin") {
		t.Errorf("in a kubeconfig: %+v", c)
	}
	rel := filepath.Join(filepath.Dir(both), "kubelet.conf")
	write(t, rel, "apiVersion: v1\nkind: Config\nclusters: []\ncurrent-context: a\ncontexts: [{name: a, context: {user: u}}]\nusers: [{name: u, user: {client-certificate: kubelet-client-current.pem}}]\n")
	if c := ReadCertificate(rel); c.Err != nil || !c.NotAfter.Equal(end) {
		t.Errorf("a file named by a kubeconfig: %+v", c)
	}
}

func TestReadCertificateThatIsNone(t *testing.T) {
	dir := t.TempDir()
	_, key := newAuthority(t).issue(t, "x", nil, time.Now().Add(time.Hour))
	for name, c := range map[string]struct{ text, want string }{
		"empty":                      {"", "no certificate"},
		"a broken one":               {"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "x509"},
		"kubeconfig without context": {"clusters: []\ncurrent-context: a\n", `"a" does not exist`},
		"kubeconfig without user":    {"clusters: []\ncurrent-context: a\ncontexts: [{name: a, context: {user: u}}]\n", `"u" does not exist`},
		"kubeconfig with a token":    {"clusters: []\ncurrent-context: a\ncontexts: [{name: a, context: {user: u}}]\nusers: [{name: u, user: {token: t}}]\n", "no client certificate"},
		"kubeconfig of a lost file":  {"clusters: []\ncurrent-context: a\ncontexts: [{name: a, context: {user: u}}]\nusers: [{name: u, user: {client-certificate: lost.crt}}]\n", "lost.crt"},
	} {
		path := filepath.Join(dir, strings.ReplaceAll(name, " ", "-"))
		write(t, path, c.text)
		if got := ReadCertificate(path); got.Err == nil || !strings.Contains(got.Err.Error(), c.want) || !strings.Contains(got.Err.Error(), path) {
			t.Errorf("%s: %v", name, got.Err)
		}
	}
	for _, path := range []string{key, "/no/such.crt", dir} {
		if got := ReadCertificate(path); got.Err == nil {
			t.Errorf("%s: %+v", path, got)
		}
	}
}
