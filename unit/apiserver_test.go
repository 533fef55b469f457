package unit

import (
	"slices"
	"strings"
	"testing"

	"etcd-rewind/problem"
)

// kubeAPIServer reads a kube-apiserver from its unit's files.
func kubeAPIServer(t *testing.T, files map[string]string) (*APIServer, error) {
	t.Helper()
	const name = "/etc/systemd/system/kube-apiserver.service"
	s, err := Read(Loaded{Name: "kube-apiserver.service", Fragment: name}, disk(files))
	if err != nil {
		t.Fatal(err)
	}
	return ReadAPIServer(s)
}

const apiUnit = "/etc/systemd/system/kube-apiserver.service"

// A kube-apiserver that systemd runs is read in the forms in which people have it.
func TestEveryWayToSetAnAPIServerUpIsRead(t *testing.T) {
	for _, c := range []struct {
		name             string
		files            map[string]string
		servers          []string
		cert, enc, ready string
		cidrs            []string
	}{
		{
			name: "the hard way",
			files: map[string]string{apiUnit: `[Unit]
Description=Kubernetes API Server

[Service]
ExecStart=/usr/local/bin/kube-apiserver \
  --advertise-address=10.240.0.10 \
  --allow-privileged=true \
  --bind-address=0.0.0.0 \
  --client-ca-file=/var/lib/kubernetes/ca.crt \
  --encryption-provider-config=/var/lib/kubernetes/encryption-config.yaml \
  --etcd-servers=http://127.0.0.1:2379 \
  --service-account-issuer=https://server.kubernetes.local:6443 \
  --service-cluster-ip-range=10.32.0.0/24 \
  --tls-cert-file=/var/lib/kubernetes/kube-api-server.crt \
  --v=2
Restart=on-failure
RestartSec=5
`},
			servers: []string{"http://127.0.0.1:2379"}, enc: "/var/lib/kubernetes/encryption-config.yaml", ready: "https://10.240.0.10:6443/readyz", cidrs: []string{"10.32.0.0/24"},
		},
		{
			name: "kubeasz",
			files: map[string]string{apiUnit: `[Service]
ExecStart=/opt/kube/bin/kube-apiserver \
  --bind-address=192.168.1.1 \
  --etcd-cafile=/etc/kubernetes/ssl/ca.pem \
  --etcd-certfile=/etc/kubernetes/ssl/kubernetes.pem \
  --etcd-keyfile=/etc/kubernetes/ssl/kubernetes-key.pem \
  --etcd-servers=https://192.168.1.1:2379,https://192.168.1.2:2379 \
  --secure-port=6443 \
  --service-cluster-ip-range=10.68.0.0/16
Restart=always
Type=notify
`},
			servers: []string{"https://192.168.1.1:2379", "https://192.168.1.2:2379"}, cert: "/etc/kubernetes/ssl/kubernetes.pem", ready: "https://192.168.1.1:6443/readyz", cidrs: []string{"10.68.0.0/16"},
		},
		{
			name: "a package's, with variables",
			files: map[string]string{
				apiUnit:                     "[Service]\nEnvironmentFile=-/etc/kubernetes/config\nEnvironmentFile=-/etc/kubernetes/apiserver\nUser=kube\nExecStart=/usr/bin/kube-apiserver \\\n\t$KUBE_LOGTOSTDERR \\\n\t$KUBE_ETCD_SERVERS \\\n\t$KUBE_API_ARGS\n",
				"/etc/kubernetes/config":    "KUBE_LOGTOSTDERR=\"--logtostderr=true\"\n",
				"/etc/kubernetes/apiserver": "KUBE_ETCD_SERVERS=\"--etcd-servers=http://127.0.0.1:2379\"\nKUBE_API_ARGS=\"--secure-port 8443\"\n",
			},
			servers: []string{"http://127.0.0.1:2379"}, ready: "https://127.0.0.1:8443/readyz",
		},
		{
			name: "in a container",
			files: map[string]string{apiUnit: "[Service]\nExecStart=/usr/bin/docker run --rm --net=host -v /srv/pki:/pki:ro registry.k8s.io/kube-apiserver:v1.34.1 " +
				"kube-apiserver --etcd-servers=https://10.0.0.1:2379 --etcd-certfile=/pki/etcd.crt\n"},
			servers: []string{"https://10.0.0.1:2379"}, cert: "/srv/pki/etcd.crt", ready: "https://127.0.0.1:6443/readyz",
		},
		{
			name:    "an address that only the start knows",
			files:   map[string]string{apiUnit: "[Service]\nExecStart=/bin/sh -c 'exec /usr/local/bin/kube-apiserver --advertise-address=$(hostname -i) --etcd-servers=http://127.0.0.1:2379'\n"},
			servers: []string{"http://127.0.0.1:2379"}, ready: "https://127.0.0.1:6443/readyz",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, err := kubeAPIServer(t, c.files)
			if err != nil {
				t.Fatal(problem.Line(err))
			}
			if !slices.Equal(a.EtcdServers, c.servers) || a.EtcdCert != c.cert || a.EncryptionConfig != c.enc || a.ReadyURL != c.ready || !slices.Equal(a.ServiceCIDRs, c.cidrs) {
				t.Errorf("%+v", a.APISettings)
			}
		})
	}
	for says, command := range map[string]string{
		"no kube-apiserver that can be read": "/usr/bin/hyperkube kube-apiserver --etcd-servers=http://127.0.0.1:2379",
		"no --etcd-servers":                  "/usr/bin/kube-apiserver --secure-port=6443",
		"is known only when it starts":       "/bin/sh -c '/usr/bin/kube-apiserver --etcd-servers=$(cat /etc/servers)'",
		"which is in the container":          "/usr/bin/docker run kube-apiserver kube-apiserver --etcd-servers=http://127.0.0.1:2379 --etcd-cafile=/pki/ca.crt",
	} {
		if _, err := kubeAPIServer(t, map[string]string{apiUnit: "[Service]\nExecStart=" + command + "\n"}); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", command, err, says)
		}
	}
}
