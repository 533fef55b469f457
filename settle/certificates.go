package settle

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"etcd-rewind/node"
	"etcd-rewind/trust"
)

// tlsSecret has of a Secret the certificate. Its key is not looked at.
type tlsSecret struct {
	Metadata metav1.ObjectMeta `json:"metadata"`
	Type     corev1.SecretType `json:"type"`
	Data     struct {
		Certificate []byte `json:"tls.crt"`
	} `json:"data"`
}

// expiresSoon is when a certificate is named that is still good.
const expiresSoon = 7 * 24 * time.Hour

// certificates are those in Secrets that are over or soon will be, those that the
// restore has probably replaced by earlier ones, and the authority that is published
// for kubeadm join.
func certificates(ctx context.Context, c *Cluster) ([]Debt, error) {
	out, err := c.published(ctx)
	now := time.Now()
	changed := map[string]time.Time{} // newest change of a Secret, by namespace
	held := map[string][]string{}
	err = errors.Join(err, list(ctx, c, "api/v1/secrets?fieldSelector=type%3Dkubernetes.io%2Ftls", func(s *tlsSecret) {
		if s.Type != corev1.SecretTypeTLS {
			return
		}
		m := s.Metadata
		name := m.Namespace + "/" + m.Name
		if at := lastChange(&m); at.After(changed[m.Namespace]) {
			changed[m.Namespace] = at
		}
		block, _ := pem.Decode(s.Data.Certificate)
		if block == nil {
			return
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return // not one that this program can read; its users say so
		}
		until := cert.NotAfter.UTC().Format(time.DateTime)
		held[m.Namespace] = append(held[m.Namespace], fmt.Sprintf("%s (%s to %s)", m.Name, cert.NotBefore.UTC().Format(time.DateOnly), cert.NotAfter.UTC().Format(time.DateOnly)))
		d := Debt{Object: name, Commands: []string{trust.Shell("kubectl -n %s describe secret %s", m.Namespace, m.Name)}}
		switch {
		case now.After(cert.NotAfter):
			d.Is, d.Means = "its certificate expired at "+until, "clients refuse whatever serves it"
		case now.Add(expiresSoon).After(cert.NotAfter):
			d.Is, d.Means = "its certificate expires at "+until, "clients refuse whatever serves it from then on"
		default:
			return
		}
		d.Means += "; if it was renewed after the snapshot, that is gone: have its issuer renew it again"
		out = append(out, d)
	}))
	return append(few(out), c.renewedSince(changed, held)...), err
}

// lastChange is when an object was written last, as far as it says.
func lastChange(m *metav1.ObjectMeta) time.Time {
	at := m.CreationTimestamp.Time
	for _, f := range m.ManagedFields {
		if f.Time != nil && f.Time.After(at) {
			at = f.Time.Time
		}
	}
	return at
}

// renewedSince are the namespaces in which a Secret was written later before the
// restore than any certificate now says.
func (c *Cluster) renewedSince(changed map[string]time.Time, held map[string][]string) (out []Debt) {
	if c.Before == nil {
		return nil
	}
	before := map[string]time.Time{}
	for _, k := range c.Before.Kinds {
		if k.Resource != "secrets" {
			continue
		}
		for _, ns := range k.Namespaces {
			before[ns.Namespace] = ns.Created
			if ns.Changed.After(ns.Created) {
				before[ns.Namespace] = ns.Changed
			}
		}
	}
	for _, ns := range slices.Sorted(maps.Keys(held)) {
		then := before[ns]
		if then.IsZero() || !then.After(changed[ns]) {
			continue
		}
		out = append(out, Debt{
			Object: ns, Is: fmt.Sprintf("a Secret of this namespace was written at %s, which the restore has undone; these certificates are there: %s", then.UTC().Format(time.DateTime), some(held[ns])),
			Means:    "a certificate that was renewed after the snapshot is the earlier one again: who pins the newer one, or has its key, doesn't fit it",
			Commands: []string{trust.Shell("kubectl -n %s get secrets --field-selector type=kubernetes.io/tls", ns)},
		})
	}
	return few(out)
}

// published compares the authority that kubeadm join is told of with the one that
// this node's kubeconfig has: a cluster whose authority was replaced after the
// snapshot publishes the earlier one again.
func (c *Cluster) published(ctx context.Context) ([]Debt, error) {
	f := c.Facts
	const namespace, name = metav1.NamespacePublic, "cluster-info"
	at := node.ConfigMapClient{Kubeconfig: f.Reach.API.Kubeconfig, Server: f.Reach.Server, Namespace: namespace, Name: name}
	read, err := at.Get(ctx)
	if errors.Is(err, node.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	own, err := node.Authority(f.Reach.API.Kubeconfig)
	if err != nil || own == nil {
		return nil, nil // a kubeconfig without one is asked about elsewhere
	}
	told := authorityOf(read.Data["kubeconfig"])
	if told == nil || bytes.Equal(bytes.TrimSpace(told), bytes.TrimSpace(own)) {
		return nil, nil
	}
	return []Debt{{
		Object: namespace + "/" + name, Is: "it publishes another certificate authority than the one of " + f.Reach.API.Kubeconfig,
		Means:    "kubeadm join doesn't trust the API server: the authority was replaced after the snapshot",
		Commands: []string{trust.Shell("kubectl -n %s get configmap %s -o yaml", namespace, name), "kubeadm init phase bootstrap-token   " + trust.Comment("publishes that of "+f.Reach.API.Kubeconfig)},
	}}, nil
}

// authorityOf is the first certificate-authority-data of a kubeconfig, nil where none
// can be read.
func authorityOf(kubeconfig string) []byte {
	for line := range bytes.Lines([]byte(kubeconfig)) {
		if _, value, ok := bytes.Cut(line, []byte("certificate-authority-data:")); ok {
			ca, err := base64.StdEncoding.DecodeString(string(bytes.Trim(bytes.TrimSpace(value), `"'`)))
			if err != nil {
				return nil
			}
			return ca
		}
	}
	return nil
}
