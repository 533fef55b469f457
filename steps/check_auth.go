package steps

import (
	"path/filepath"
	"slices"
	"strings"

	"etcd-rewind/node"
	"etcd-rewind/trust"
)

// etcdAccess is about the running etcd.
func (k *checks) etcdAccess() Verdict {
	switch live := k.f.Live; {
	case live == nil:
		return none
	case live.Denied != nil:
		return warn("the restore works all the same; its data directory is kept, but no snapshot of it can be taken",
			"the running etcd has authentication enabled, and rejects kube-apiserver's certificate: %s", live.Denied)
	case live.Keys < 0:
		return ok("authentication is enabled; the user of kube-apiserver's certificate may read the keys below %s", k.f.Reach.Etcd.Prefix)
	}
	return ok("all keys can be read")
}

// auth asks what etcd will: the common name of kube-apiserver's certificate is
// its user. A token or a password kube-apiserver has not.
func (k *checks) auth() Verdict {
	if !k.info.AuthEnabled {
		return ok("not enabled")
	}
	const enabled = "authentication is enabled in the snapshot (etcdctl auth enable)"
	const hint = "run etcdctl auth disable where the snapshot is from and take another; or restore this one aside with etcdutl, " +
		"start an etcd on it without other nodes, disable authentication there, and save a snapshot of that"
	a, e := k.f.API, k.f.Etcd
	if !e.ClientCertAuth && e.TrustedCA == "" {
		return bad(hint, "%s, and this etcd doesn't request client certificates: it would reject every request of kube-apiserver", enabled)
	}
	if a.EtcdCert == "" {
		return bad(hint, "%s, and kube-apiserver has no --etcd-certfile: etcd would reject its every request", enabled)
	}
	cert := node.ReadCertificate(a.EtcdCert)
	if cert.Err != nil {
		return wrong(hint, "%s, and the user in kube-apiserver's certificate can't be read: %s", enabled, cert.Err)
	}
	if !slices.Contains(k.info.AuthUsers, cert.CommonName) {
		return bad(hint, "%s, and %s, the common name in %s, is not a user there that may read and write the keys below %s (%s): kube-apiserver would never be ready",
			enabled, trust.Text(cert.CommonName), filepath.Base(a.EtcdCert), k.info.Prefix, sayUsers(k.info.AuthUsers))
	}
	return ok("%s; %s, the common name in %s, is a user that may read and write the keys below %s", enabled,
		trust.Text(cert.CommonName), filepath.Base(a.EtcdCert), k.info.Prefix)
}

func sayUsers(users []string) string {
	if len(users) == 0 {
		return "nobody may"
	}
	shown := users[:min(len(users), 5)]
	if len(shown) < len(users) {
		return strings.Join(trust.Lines(shown), ", ") + " and others may"
	}
	return strings.Join(trust.Lines(shown), ", ") + " may"
}
