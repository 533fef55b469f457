package backup

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestCertificatesAreWhereTheControlPlaneHasThem(t *testing.T) {
	root := t.TempDir()
	kubeadms, none := filepath.Join(root, "pki"), filepath.Join(root, "none")
	if err := os.Mkdir(kubeadms, 0o700); err != nil {
		t.Fatal(err)
	}
	const minikubes = "/var/lib/minikube/certs"
	for _, tt := range []struct {
		name  string
		own   string
		files []string
		want  []string
	}{
		{"kubeadm", kubeadms, []string{kubeadms + "/ca.crt", kubeadms + "/etcd/ca.crt"}, []string{kubeadms}},
		{"etcd's are elsewhere", kubeadms, []string{kubeadms + "/ca.crt", "/etc/ssl/etcd/ca.pem"}, []string{kubeadms, "/etc/ssl/etcd"}},
		{"minikube", none, []string{minikubes + "/ca.crt", minikubes + "/etcd/ca.crt"}, []string{minikubes}},
		{"an etcd host", none, []string{"", "/etc/ssl/etcd/ca.pem"}, []string{"/etc/ssl/etcd"}},
		{"nothing is known, and the backup will say so", none, []string{"", ""}, []string{none}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := pkiDirs(tt.own, tt.files...); !slices.Equal(got, tt.want) {
				t.Errorf("%v, want %v", got, tt.want)
			}
		})
	}
}
