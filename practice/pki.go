package practice

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// authority signs certificates. kubeadm makes three of them: for Kubernetes,
// for etcd, and for the front proxy.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
	pem  []byte
}

const year = 365 * 24 * time.Hour

func newAuthority(name string) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(0), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-5 * time.Minute), NotAfter: time.Now().Add(10 * year),
		KeyUsage: x509.KeyUsageKeyEncipherment | x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		IsCA:     true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return &authority{cert: cert, key: key, pem: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}, err
}

// request is one certificate to be signed.
type request struct {
	name, organization string
	names              []string
	server, client     bool
}

func (a *authority) sign(q request) (cert, key []byte, err error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 62))
	if err != nil {
		return nil, nil, err
	}
	tmpl := &x509.Certificate{
		SerialNumber: serial.Add(serial, big.NewInt(1)), Subject: pkix.Name{CommonName: q.name},
		NotBefore: a.cert.NotBefore, NotAfter: time.Now().Add(year),
		KeyUsage:              x509.KeyUsageKeyEncipherment | x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
	}
	if q.organization != "" {
		tmpl.Subject.Organization = []string{q.organization}
	}
	if q.server {
		tmpl.ExtKeyUsage = append(tmpl.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
		tmpl.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1), net.IPv4(10, 96, 0, 1), net.IPv6loopback}
		tmpl.DNSNames = append([]string{"localhost", nodeName}, q.names...)
	}
	if q.client {
		tmpl.ExtKeyUsage = append(tmpl.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, k.Public(), a.key)
	if err != nil {
		return nil, nil, err
	}
	key, err = keyPEM(k)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), key, err
}

func keyPEM(k crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(k)
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), err
}

// writePKI makes certificates and kubeconfigs in the layout that kubeadm init
// leaves in /etc/kubernetes.
func writePKI(kubernetes, server string) error {
	pki := filepath.Join(kubernetes, "pki")
	if err := os.MkdirAll(filepath.Join(pki, "etcd"), 0o700); err != nil {
		return err
	}
	put := func(name string, cert, key []byte) error {
		if err := os.WriteFile(filepath.Join(pki, name+".crt"), cert, 0o644); err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(pki, name+".key"), key, 0o600)
	}
	authorities := map[string]*authority{}
	for file, name := range map[string]string{"ca": "kubernetes", "etcd/ca": "etcd-ca", "front-proxy-ca": "front-proxy-ca"} {
		ca, err := newAuthority(name)
		if err != nil {
			return err
		}
		key, err := keyPEM(ca.key)
		if err != nil {
			return err
		}
		if err := put(file, ca.pem, key); err != nil {
			return err
		}
		authorities[file] = ca
	}
	for _, c := range []struct {
		file, ca string
		request
	}{
		{"apiserver", "ca", request{name: "kube-apiserver", server: true, names: []string{"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"}}},
		{"apiserver-kubelet-client", "ca", request{name: "kube-apiserver-kubelet-client", organization: "kubeadm:cluster-admins", client: true}},
		{"apiserver-etcd-client", "etcd/ca", request{name: "kube-apiserver-etcd-client", client: true}},
		{"front-proxy-client", "front-proxy-ca", request{name: "front-proxy-client", client: true}},
		{"etcd/server", "etcd/ca", request{name: nodeName, server: true, client: true}},
		{"etcd/peer", "etcd/ca", request{name: nodeName, server: true, client: true}},
		{"etcd/healthcheck-client", "etcd/ca", request{name: "kube-etcd-healthcheck-client", client: true}},
	} {
		cert, key, err := authorities[c.ca].sign(c.request)
		if err != nil {
			return fmt.Errorf("certificate %s: %w", c.file, err)
		}
		if err := put(c.file, cert, key); err != nil {
			return err
		}
	}
	if err := writeServiceAccountKey(pki); err != nil {
		return err
	}
	for _, k := range []struct{ file, user, organization string }{
		{"admin.conf", "kubernetes-admin", "kubeadm:cluster-admins"},
		{"super-admin.conf", "kubernetes-super-admin", "system:masters"},
		{"controller-manager.conf", "system:kube-controller-manager", ""},
		{"scheduler.conf", "system:kube-scheduler", ""},
		{"kubelet.conf", "system:node:" + nodeName, "system:nodes"},
	} {
		cert, key, err := authorities["ca"].sign(request{name: k.user, organization: k.organization, client: true})
		if err != nil {
			return err
		}
		if err := writeKubeconfig(filepath.Join(kubernetes, k.file), server, k.user, authorities["ca"].pem, cert, key); err != nil {
			return err
		}
	}
	return nil
}

func writeServiceAccountKey(pki string) error {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	key, err := keyPEM(k)
	if err != nil {
		return err
	}
	pub, err := x509.MarshalPKIXPublicKey(k.Public())
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(pki, "sa.key"), key, 0o600); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(pki, "sa.pub"), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: pub}), 0o600)
}

func writeKubeconfig(path, server, user string, ca, cert, key []byte) error {
	c := clientcmdapi.NewConfig()
	c.Clusters["kubernetes"] = &clientcmdapi.Cluster{Server: server, CertificateAuthorityData: ca}
	c.AuthInfos[user] = &clientcmdapi.AuthInfo{ClientCertificateData: cert, ClientKeyData: key}
	c.Contexts[user+"@kubernetes"] = &clientcmdapi.Context{Cluster: "kubernetes", AuthInfo: user}
	c.CurrentContext = user + "@kubernetes"
	return clientcmd.WriteToFile(*c, path)
}
