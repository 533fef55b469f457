package node

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"time"
)

// Certificate is what matters of one certificate.
type Certificate struct {
	Path                string
	Subject, Issuer     string
	CommonName          string // the subject's: etcd's user, with its authentication enabled
	NotBefore, NotAfter time.Time
	Err                 error // why the rest is empty
}

// ReadCertificate reads the first certificate of a PEM file, or the client
// certificate of a kubeconfig's current context. It never fails: what went wrong
// is in Err.
func ReadCertificate(path string) Certificate {
	out := Certificate{Path: path}
	cert, err := loadCertificate(path)
	if err != nil {
		out.Err = err
		return out
	}
	out.CommonName = cert.Subject.CommonName
	out.Subject, out.Issuer = cert.Subject.String(), cert.Issuer.String()
	out.NotBefore, out.NotAfter = cert.NotBefore, cert.NotAfter
	return out
}

func loadCertificate(path string) (*x509.Certificate, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if cert, err := firstCertificate(data); cert != nil || err != nil {
		return cert, wrap(path, err)
	}
	if !bytes.Contains(data, []byte("clusters:")) && !bytes.Contains(data, []byte(`"clusters"`)) {
		return nil, fmt.Errorf("%s: no certificate in it", path)
	}
	conf, err := loadKubeconfig(path)
	if err != nil {
		return nil, err
	}
	context := conf.Contexts[conf.CurrentContext]
	if context == nil {
		return nil, fmt.Errorf("%s: its current context %q does not exist", path, conf.CurrentContext)
	}
	user := conf.AuthInfos[context.AuthInfo]
	if user == nil {
		return nil, fmt.Errorf("%s: its user %q does not exist", path, context.AuthInfo)
	}
	data = user.ClientCertificateData
	if len(data) == 0 && user.ClientCertificate != "" {
		if data, err = os.ReadFile(user.ClientCertificate); err != nil {
			return nil, wrap(path, err)
		}
	}
	cert, err := firstCertificate(data)
	if cert == nil && err == nil {
		err = errors.New("its user has no client certificate")
	}
	return cert, wrap(path, err)
}

// firstCertificate is nil without an error when there is no certificate at all.
func firstCertificate(data []byte) (*x509.Certificate, error) {
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			return nil, nil
		}
		if block.Type == "CERTIFICATE" {
			return x509.ParseCertificate(block.Bytes)
		}
	}
}

func wrap(path string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", path, err)
}
