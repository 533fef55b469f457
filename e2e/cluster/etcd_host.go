//go:build linux

package cluster

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Form is how an etcd outside of the cluster's pods is set up.
type Form string

const (
	// Kubespray is kubespray's default: etcd.service reads /etc/etcd.env, runs as the
	// user etcd, and finds its certificates in /etc/ssl/etcd/ssl.
	Kubespray Form = "kubespray"
	// ByHand is "the hard way": all flags are in the unit's ExecStart, on many
	// lines, and certificates in /etc/etcd.
	ByHand Form = "by-hand"
	// Docker is kubespray's etcd_deployment_type docker: etcd.service starts a script,
	// which runs a container.
	Docker Form = "docker"
	// Podman is a unit whose ExecStart runs a container itself, made by hand.
	Podman Form = "podman"
	// Standalone is an etcd-only host of kubeadm's: a kubelet without an API server
	// runs etcd as a static pod.
	Standalone Form = "standalone"
)

// engine is what runs a form's container, "" where etcd runs as a program.
func (f Form) engine() string {
	if f == Docker || f == Podman {
		return string(f)
	}
	return ""
}

// kubespray says of a form that it has kubespray's certificates and /etc/etcd.env.
func (f Form) kubespray() bool { return f == Kubespray || f.engine() != "" }

var forms = []Form{Kubespray, ByHand, Docker, Podman, Standalone}

// etcdUser is the id of the user etcd on hosts of kubespray's form.
const etcdUser = 990

// UpExternal brings up a cluster whose etcd is on systemd hosts of its own, a
// member on each, set up in form, and returns as UpCluster does. kubeadm knows
// that etcd as etcd.external. The etcd hosts have no kubelet, the control planes
// no member; Config's Systemd says what the control planes are. `ssh HOSTNAME`
// leads from each to all.
func UpExternal(ctx context.Context, config Config, form Form, etcdHosts []string, controlPlanes ...string) (*Cluster, error) {
	if len(etcdHosts) == 0 || !slices.Contains(forms, form) || form == Standalone && len(etcdHosts) > 1 {
		return nil, errors.New("an external etcd has a form, and hosts; that of a standalone kubelet has one")
	}
	return upCluster(ctx, config, &founding{name: config.Name, hostnames: controlPlanes, form: form}, etcdHosts)
}

// EtcdUnit is the name of etcd's unit on an etcd host.
const EtcdUnit = "etcd.service"

// certificates are where an etcd host has what.
type certificates struct {
	dir, ca, cert, key  string // of the member, for clients and for peers
	adminCert, adminKey string // of who asks it
}

func (n *Node) etcdCertificates() certificates {
	pki := n.pki() + "/"
	switch f := n.record.Form; {
	case f.kubespray():
		dir := "/etc/ssl/etcd/ssl/"
		return certificates{
			dir: dir, ca: dir + "ca.pem",
			cert: dir + "member-" + n.Hostname + ".pem", key: dir + "member-" + n.Hostname + "-key.pem",
			adminCert: dir + "admin-" + n.Hostname + ".pem", adminKey: dir + "admin-" + n.Hostname + "-key.pem",
		}
	case f == ByHand:
		dir := "/etc/etcd/"
		return certificates{
			dir: dir, ca: dir + "ca.crt", cert: dir + "etcd-server.crt", key: dir + "etcd-server.key",
			// The hard way asks etcd with the server's own.
			adminCert: dir + "etcd-server.crt", adminKey: dir + "etcd-server.key",
		}
	}
	if n.record.External && n.record.Form == "" {
		return certificates{
			dir: pki, ca: pki + "etcd-ca.crt",
			adminCert: pki + "apiserver-etcd-client.crt", adminKey: pki + "apiserver-etcd-client.key",
		}
	}
	return certificates{
		ca: pki + "etcd/ca.crt", cert: pki + "etcd/server.crt", key: pki + "etcd/server.key",
		adminCert: pki + "etcd/healthcheck-client.crt", adminKey: pki + "etcd/healthcheck-client.key",
	}
}

// EtcdKey is the path of the member's private key on an etcd host.
func (n *Node) EtcdKey() string { return n.etcdCertificates().key }

// etcdEndpoint is where Etcdctl asks: the node's own member, or all of them on a
// control plane that has none.
func (n *Node) etcdEndpoint() (string, error) {
	if !n.record.External || n.record.Form != "" {
		return "https://127.0.0.1:2379", nil
	}
	c, err := OpenCluster(n.record.Cluster)
	if err != nil {
		return "", err
	}
	return strings.Join(clientURLs(c.Etcd), ","), nil
}

func clientURLs(nodes []*Node) []string {
	var urls []string
	for _, n := range nodes {
		urls = append(urls, "https://"+n.Address+":2379")
	}
	return urls
}

// externalYAML is what kubeadm's etcd is then.
func externalYAML(hosts []*Node) string {
	pki := "/etc/kubernetes/pki/"
	return "  external:\n    endpoints:\n    - " + strings.Join(clientURLs(hosts), "\n    - ") + "\n" +
		"    caFile: " + pki + "etcd-ca.crt\n" +
		"    certFile: " + pki + "apiserver-etcd-client.crt\n" +
		"    keyFile: " + pki + "apiserver-etcd-client.key\n"
}

// authority signs the certificates of an etcd.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority() (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	cert := template("etcd-ca")
	cert.IsCA, cert.BasicConstraintsValid, cert.KeyUsage = true, true, x509.KeyUsageCertSign|x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	cert, err = x509.ParseCertificate(der)
	return &authority{cert, key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}, err
}

func template(name string) *x509.Certificate {
	serial, _ := rand.Int(rand.Reader, big.NewInt(1<<62))
	return &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
	}
}

// issue makes a certificate and its key for a name, and for hosts' servers.
func (a *authority) issue(name string, hosts ...*Node) (cert, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	t := template(name)
	t.KeyUsage = x509.KeyUsageDigitalSignature
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	if len(hosts) > 0 {
		t.DNSNames, t.IPAddresses = []string{"localhost"}, []net.IP{net.IPv4(127, 0, 0, 1)}
	}
	for _, n := range hosts {
		t.DNSNames = append(t.DNSNames, n.Hostname)
		t.IPAddresses = append(t.IPAddresses, net.ParseIP(n.Address))
	}
	der, err := x509.CreateCertificate(rand.Reader, t, a.cert, &private.PublicKey, a.key)
	if err != nil {
		return nil, nil, err
	}
	private8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private8}), nil
}

// makeEtcdCertificates decides what each node of the cluster gets of its etcd's
// certificates: by the node's name, then by their path in it.
func (f *founding) makeEtcdCertificates() error {
	a, err := newAuthority()
	if err != nil {
		return err
	}
	f.certificates = map[string]map[string][]byte{}
	for _, n := range f.nodes {
		own := map[string][]byte{}
		f.certificates[n.Name] = own
		put := func(certPath, keyPath, name string, hosts ...*Node) error {
			cert, key, err := a.issue(name, hosts...)
			own[certPath], own[keyPath] = cert, key
			return err
		}
		c := n.etcdCertificates()
		own[c.ca] = a.pem
		switch form := n.record.Form; {
		case form == "":
			err = put(c.adminCert, c.adminKey, "kube-apiserver-etcd-client")
		case form == Standalone:
			const pki = "/etc/kubernetes/pki/etcd/"
			err = errors.Join(
				put(c.cert, c.key, "etcd-server", f.etcd...),
				put(pki+"peer.crt", pki+"peer.key", "etcd-peer", f.etcd...),
				put(c.adminCert, c.adminKey, "etcd-healthcheck-client"))
		case form.kubespray():
			// On its etcd hosts kubespray has the API servers' certificates, too, by
			// the names of their hosts.
			for _, other := range f.nodes {
				if other.record.Form == "" {
					at := c.dir + "node-" + other.Hostname
					err = errors.Join(err, put(at+".pem", at+"-key.pem", "etcd-node-"+other.Hostname, other))
				}
			}
			err = errors.Join(err,
				put(c.cert, c.key, "etcd-member-"+n.Hostname, f.etcd...),
				put(c.adminCert, c.adminKey, "etcd-admin-"+n.Hostname, f.etcd...))
		default:
			err = put(c.cert, c.key, "etcd-server", f.etcd...)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// writeEtcdCertificates writes what makeEtcdCertificates has made for the node.
func (n *Node) writeEtcdCertificates(f *founding) error {
	owner := 0
	if n.record.Form == Kubespray {
		owner = etcdUser
	}
	for path, data := range f.certificates[n.Name] {
		path = n.HostPath(path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		mode := os.FileMode(0o644)
		if strings.HasSuffix(path, "key.pem") || strings.HasSuffix(path, ".key") {
			mode = 0o600
		}
		if err := os.WriteFile(path, data, mode); err != nil {
			return err
		}
		if err := os.Chown(path, owner, owner); err != nil {
			return err
		}
	}
	return nil
}

// EtcdSettings are the paths of the files by which a host's etcd is started.
func (n *Node) EtcdSettings() []string {
	if n.record.Form == Standalone {
		return []string{"/etc/kubernetes/manifests/etcd.yaml"}
	}
	paths := []string{"/etc/systemd/system/" + EtcdUnit}
	if n.record.Form.kubespray() {
		paths = append(paths, "/etc/etcd.env")
	}
	if n.record.Form == Docker {
		paths = append(paths, "/usr/local/bin/etcd")
	}
	return paths
}

// etcdFiles are what a host's etcd is started by, in its form, by their path.
func (n *Node) etcdFiles(hosts []*Node) map[string]string {
	c := n.etcdCertificates()
	cluster := initialCluster(hosts)
	if n.record.Form == ByHand {
		return map[string]string{"/etc/systemd/system/" + EtcdUnit: fmt.Sprintf(etcdUnitByHand,
			n.Hostname, c.cert, c.key, c.cert, c.key, c.ca, c.ca, n.Address, n.Address, n.Address, n.Address, cluster)}
	}
	number := 0
	for i, host := range hosts {
		if host.Name == n.Name {
			number = i + 1
		}
	}
	members := strings.Split(cluster, ",")
	for i := range members { // kubespray numbers the members
		_, url, _ := strings.Cut(members[i], "=")
		members[i] = fmt.Sprintf("etcd%d=%s", i+1, url)
	}
	files := map[string]string{
		"/etc/systemd/system/" + EtcdUnit: etcdUnitKubespray,
		"/etc/etcd.env": fmt.Sprintf(etcdEnvKubespray, n.Address, n.Address, n.Address, n.Address, number,
			strings.Join(members, ","), c.ca, c.cert, c.key, c.ca, c.cert, c.key),
		"/etc/sysusers.d/etcd.conf": fmt.Sprintf("u etcd %d - /var/lib/etcd\n", etcdUser),
		"/etc/tmpfiles.d/etcd.conf": "d /var/lib/etcd 0700 etcd etcd\n",
	}
	if n.record.Form.engine() == "" {
		return files
	}
	files["/etc/tmpfiles.d/etcd.conf"] = "d /var/lib/etcd 0700 root root\n"
	files["/etc/systemd/system/load-etcd.service"] = fmt.Sprintf(loadUnit, n.record.Form)
	files["/etc/containers/storage.conf"] = "[storage]\ndriver = \"overlay\"\nrunroot = \"/run/containers/storage\"\ngraphroot = \"/var/lib/containers/storage\"\n"
	files["/etc/systemd/system/docker.service"] = dockerUnit
	files["/etc/sysusers.d/docker.conf"] = "g docker -\n" // as the package's script makes it
	if n.record.Form == Podman {
		files["/etc/systemd/system/"+EtcdUnit] = etcdUnitPodman
		return files
	}
	files["/etc/systemd/system/"+EtcdUnit] = fmt.Sprintf(etcdUnitDocker, number, number)
	files["/usr/local/bin/etcd"] = fmt.Sprintf(etcdScriptDocker, number)
	return files
}

// etcdImage is what the hosts' engines have.
const etcdImage = "registry.k8s.io/etcd:3.6"

// etcdArchive is where a host finds it before it boots.
const etcdArchive = "/var/lib/etcd-image.tar"

// RenderEtcd writes the settings of a host's etcd as its form has them, as the
// next run of kubespray does, and restarts nothing.
func (n *Node) RenderEtcd() error {
	c, err := OpenCluster(n.record.Cluster)
	if err != nil {
		return err
	}
	return n.writeInside(n.etcdFiles(c.Etcd))
}

// After kubespray's etcd-host.service.j2 and etcd.env.j2.
const (
	etcdUnitKubespray = `[Unit]
Description=etcd
After=network.target

[Service]
Type=notify
User=etcd
EnvironmentFile=/etc/etcd.env
ExecStart=/usr/local/bin/etcd
NotifyAccess=all
Restart=always
RestartSec=10s
LimitNOFILE=40000

[Install]
WantedBy=multi-user.target
`
	etcdEnvKubespray = `# Environment file for etcd 3.6
ETCD_DATA_DIR=/var/lib/etcd
ETCD_ADVERTISE_CLIENT_URLS=https://%s:2379
ETCD_INITIAL_ADVERTISE_PEER_URLS=https://%s:2380
ETCD_INITIAL_CLUSTER_STATE=new

ETCD_METRICS=basic
ETCD_LISTEN_CLIENT_URLS=https://%s:2379,https://127.0.0.1:2379
ETCD_ELECTION_TIMEOUT=5000
ETCD_HEARTBEAT_INTERVAL=250
ETCD_INITIAL_CLUSTER_TOKEN=k8s_etcd
ETCD_LISTEN_PEER_URLS=https://%s:2380
ETCD_NAME=etcd%d
ETCD_PROXY=off
ETCD_INITIAL_CLUSTER=%s
ETCD_AUTO_COMPACTION_RETENTION=8

# TLS settings
ETCD_TRUSTED_CA_FILE=%s
ETCD_CERT_FILE=%s
ETCD_KEY_FILE=%s
ETCD_CLIENT_CERT_AUTH=true

ETCD_PEER_TRUSTED_CA_FILE=%s
ETCD_PEER_CERT_FILE=%s
ETCD_PEER_KEY_FILE=%s
ETCD_PEER_CLIENT_CERT_AUTH=true
`
	// After "Kubernetes The Hard Way".
	etcdUnitByHand = `[Unit]
Description=etcd
Documentation=https://github.com/etcd-io/etcd

[Service]
Type=notify
ExecStart=/usr/local/bin/etcd \
  --name %s \
  --cert-file=%s \
  --key-file=%s \
  --peer-cert-file=%s \
  --peer-key-file=%s \
  --trusted-ca-file=%s \
  --peer-trusted-ca-file=%s \
  --peer-client-cert-auth \
  --client-cert-auth \
  --initial-advertise-peer-urls https://%s:2380 \
  --listen-peer-urls https://%s:2380 \
  --listen-client-urls https://%s:2379,https://127.0.0.1:2379 \
  --advertise-client-urls https://%s:2379 \
  --initial-cluster-token etcd-cluster-0 \
  --initial-cluster %s \
  --initial-cluster-state new \
  --data-dir=/var/lib/etcd
Restart=on-failure
RestartSec=5

[Install]
WantedBy=multi-user.target
`
)

// After kubespray's etcd-docker.service.j2 and etcd.j2.
const (
	etcdUnitDocker = `[Unit]
Description=etcd docker wrapper
Wants=docker.socket
After=docker.service load-etcd.service

[Service]
User=root
PermissionsStartOnly=true
EnvironmentFile=-/etc/etcd.env
ExecStart=/usr/local/bin/etcd
ExecStartPre=-/usr/bin/docker rm -f etcd%d
ExecStop=/usr/bin/docker stop etcd%d
Restart=always
RestartSec=15s
TimeoutStartSec=30s

[Install]
WantedBy=multi-user.target
`
	etcdScriptDocker = `#!/bin/bash
/usr/bin/docker run \
  --restart=on-failure:5 \
  --env-file=/etc/etcd.env \
  --net=host \
  -v /etc/ssl/certs:/etc/ssl/certs:ro \
  -v /etc/ssl/etcd/ssl:/etc/ssl/etcd/ssl:ro \
  -v /var/lib/etcd:/var/lib/etcd:rw \
  --name=etcd%d \
  ` + etcdImage + ` \
  /usr/local/bin/etcd \
  "$@"
`
	// Without cgroups and limits of its own: what this test machine can't give.
	etcdUnitPodman = `[Unit]
Description=etcd in a container
After=network.target load-etcd.service

[Service]
ExecStartPre=-/usr/bin/podman rm --force etcd
ExecStart=/usr/bin/podman run --rm --name etcd --net host --cgroups disabled --ulimit host \
  -v /etc/ssl/etcd/ssl:/etc/ssl/etcd/ssl:ro \
  -v /var/lib/etcd:/var/lib/etcd \
  --env-file /etc/etcd.env \
  ` + etcdImage + ` etcd
Restart=always
RestartSec=5

[Install]
WantedBy=multi-user.target
`
	// Where others pull an image.
	loadUnit = `[Unit]
After=docker.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/bin/%s load --input ` + etcdArchive + `

[Install]
WantedBy=multi-user.target
`
	dockerUnit = `[Unit]
After=network.target containerd.service prepare-containers.service docker.socket
Wants=containerd.service
Requires=docker.socket

[Service]
Type=notify
ExecStart=/usr/sbin/dockerd -H fd:// --containerd=/run/containerd/containerd.sock --iptables=false --ip6tables=false --bridge=none --storage-driver=overlay2
Delegate=yes
KillMode=process
`
)

// upEtcd brings up an etcd host.
func (n *Node) upEtcd(ctx context.Context) error {
	if err := n.createNetwork(ctx); err != nil {
		return err
	}
	// The first of three members is only started once there is a second.
	if err := n.boot(ctx); err != nil {
		return err
	}
	return n.startSSH(ctx)
}

// upStandalone starts what runs etcd as a static pod, once its host is up.
func (n *Node) upStandalone(ctx context.Context, images []string, p parts, store string, found bool) error {
	if err := n.startContainerd(ctx, images, p, store, found); err != nil {
		return err
	}
	if err := n.kubeadmPhase(ctx, "etcd local"); err != nil {
		return err
	}
	if err := n.startSSH(ctx); err != nil {
		return err
	}
	return n.kubelet(ctx, "start")
}

// writeEngine gives a host what runs its container, and the container's image.
func (n *Node) writeEngine(p parts) error {
	prepare, err := scripts.ReadFile("host/prepare")
	if err != nil {
		return err
	}
	err = n.writeInside(map[string]string{
		prepareScript: string(prepare),
		"/etc/systemd/system/prepare-containers.service": fmt.Sprintf(prepareUnit, prepareScript),
	})
	if err != nil {
		return err
	}
	archive, err := os.Create(n.HostPath(etcdArchive))
	if err != nil {
		return err
	}
	defer archive.Close()
	if err := writeImages(archive, []string{etcdImage}, p); err != nil {
		return err
	}
	units := []string{"prepare-containers.service", "load-etcd.service"}
	if n.record.Form == Docker {
		if err := os.Chmod(n.HostPath("/usr/local/bin/etcd"), 0o755); err != nil {
			return err
		}
		if err := n.enable("/usr/lib/systemd/system/containerd.service"); err != nil {
			return err
		}
		units = append(units, "docker.service")
	}
	for _, unit := range units {
		if err := n.enable("/etc/systemd/system/" + unit); err != nil {
			return err
		}
	}
	return nil
}
