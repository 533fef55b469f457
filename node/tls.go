package node

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"sync"
)

// clientTLS makes a TLS configuration from files; empty paths are left out. It
// is the caller's own; what was parsed for it is kept until a file changes.
func clientTLS(ca, cert, key string) (*tls.Config, error) {
	return parsedTLS.get(keyFiles{ca, cert, key})
}

// keyFiles are the CA, the certificate and the key that a client has.
type keyFiles [3]string

// parsedTLS keeps what clientTLS has parsed: a wait asks up to fifty times a
// second, and to parse a key and its certificates costs more than to ask.
var parsedTLS parsed

type parsed struct {
	mu  sync.Mutex
	all map[keyFiles]ofFiles
}

type ofFiles struct {
	files [3]os.FileInfo // as they were before they were read
	conf  *tls.Config
}

// maxParsed bounds how many are kept: a node's own client has three.
const maxParsed = 16

func (p *parsed) get(paths keyFiles) (*tls.Config, error) {
	var files [3]os.FileInfo
	seen := true
	for i, path := range paths {
		if path == "" {
			continue
		}
		var err error
		files[i], err = os.Stat(path)
		seen = seen && err == nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if kept, ok := p.all[paths]; ok && seen && kept.unchanged(files) {
		return kept.conf.Clone(), nil
	}
	conf, err := parse(paths)
	if err != nil {
		return nil, err
	}
	if p.all == nil || len(p.all) >= maxParsed {
		p.all = map[keyFiles]ofFiles{}
	}
	if seen {
		p.all[paths] = ofFiles{files, conf}
	}
	return conf.Clone(), nil
}

func (o ofFiles) unchanged(now [3]os.FileInfo) bool {
	for i, f := range now {
		was := o.files[i]
		if f != nil && (!os.SameFile(f, was) || f.Size() != was.Size() || !f.ModTime().Equal(was.ModTime())) {
			return false
		}
	}
	return true
}

func parse(paths keyFiles) (*tls.Config, error) {
	ca, cert, key := paths[0], paths[1], paths[2]
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if ca != "" {
		pool, err := caPool(ca)
		if err != nil {
			return nil, err
		}
		conf.RootCAs = pool
	}
	if cert != "" || key != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("cannot use client certificate %s with key %s: %w", cert, key, err)
		}
		conf.Certificates = []tls.Certificate{pair}
	}
	return conf, nil
}

func caPool(path string) (*x509.CertPool, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read the CA: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("no certificate in the CA file %s", path)
	}
	return pool, nil
}
