package drill

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// The files of a drill's own certificates, in their directory.
const (
	caFile                   = "ca.crt"
	serverFile, serverKey    = "server.crt", "server.key"
	clientFile, clientKey    = "client.crt", "client.key" // of the drill, to the API
	etcdFile, etcdKey        = "etcd.crt", "etcd.key"     // of the API server, to etcd
	accountsFile, accountKey = "accounts.pub", "accounts.key"
)

// certificates makes certificates for one drill. They are good for a day, and
// for 127.0.0.1 alone; nobody else trusts their authority, whose key is written
// nowhere. etcdUser is whom etcd takes the API server for, which counts when its
// authentication is enabled.
func certificates(dir, etcdUser string) error {
	ca, caKey, err := authority()
	if err != nil {
		return err
	}
	write := func(name, kind string, der []byte) error {
		return os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
	}
	key := func(name string) (*ecdsa.PrivateKey, error) {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, err
		}
		der, err := x509.MarshalECPrivateKey(k)
		if err != nil {
			return nil, err
		}
		return k, write(name, "EC PRIVATE KEY", der)
	}
	errs := []error{write(caFile, "CERTIFICATE", ca.Raw)}
	for i, c := range []struct {
		cert, key string
		subject   pkix.Name
	}{
		{serverFile, serverKey, pkix.Name{CommonName: "etcd-rewind drill"}},
		{clientFile, clientKey, pkix.Name{CommonName: "etcd-rewind drill", Organization: []string{"system:masters"}}},
		{etcdFile, etcdKey, pkix.Name{CommonName: etcdUser}},
	} {
		k, err := key(c.key)
		if err != nil {
			return err
		}
		t := template(int64(i+2), c.subject)
		t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
		if c.cert == serverFile { // etcd is a client of itself with it
			t.ExtKeyUsage = append(t.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
			t.DNSNames, t.IPAddresses = []string{"localhost"}, []net.IP{net.IPv4(127, 0, 0, 1)}
		}
		der, err := x509.CreateCertificate(rand.Reader, t, ca, k.Public(), caKey)
		if err != nil {
			return err
		}
		errs = append(errs, write(c.cert, "CERTIFICATE", der))
	}
	k, err := key(accountKey)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(k.Public())
	if err != nil {
		return err
	}
	return errors.Join(append(errs, write(accountsFile, "PUBLIC KEY", public))...)
}

func authority() (*x509.Certificate, crypto.Signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	t := template(1, pkix.Name{CommonName: "etcd-rewind drill CA"})
	t.IsCA, t.BasicConstraintsValid, t.KeyUsage = true, true, x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, nil, err
	}
	ca, err := x509.ParseCertificate(der)
	return ca, key, err
}

func template(serial int64, subject pkix.Name) *x509.Certificate {
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: subject, KeyUsage: x509.KeyUsageDigitalSignature,
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
	}
}

// subjectOf is whom a certificate on this node is for; "" when it can't be read.
func subjectOf(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return ""
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return ""
	}
	return c.Subject.CommonName
}
