package steps

import (
	"errors"
	"net"
	"net/url"
	"slices"
	"strings"

	"etcd-rewind/manifest"
)

func (k *checks) apiManifest() Verdict {
	if k.f.APIErr != nil {
		return bad(hintOf(k.f.APIErr), "%s", k.f.APIErr)
	}
	a := k.f.API
	if !a.AnonymousAuth && k.f.Reach.API.Kubeconfig == "" {
		return wrong("put a kubeconfig at /etc/kubernetes/admin.conf", "--anonymous-auth=false and no kubeconfig: its readiness can't be asked (row 37)")
	}
	return ok("%s, now: %s", a.Image, k.f.APIState)
}

func hintOf(err error) string {
	var p *manifest.Problem
	if errors.As(err, &p) {
		return p.Hint
	}
	return ""
}

// Row 36.
func (k *checks) etcdServers() Verdict {
	reach := map[string]bool{}
	for _, l := range slices.Concat(k.f.Etcd.ListenClientURLs, k.f.Etcd.AdvertiseClientURLs) {
		if u, err := url.Parse(l); err == nil {
			reach[u.Port()] = true
			reach[u.Host] = true
			if ip := net.ParseIP(u.Hostname()); ip != nil && ip.IsUnspecified() {
				reach["any:"+u.Port()] = true
			}
		}
	}
	for _, s := range k.f.API.EtcdServers {
		u, err := url.Parse(s)
		if err != nil {
			continue
		}
		local := u.Hostname() == "localhost" && reach["127.0.0.1:"+u.Port()]
		if reach[u.Host] || local || reach["any:"+u.Port()] {
			return ok("--etcd-servers %s is this etcd", s)
		}
	}
	return wrong("correct --etcd-servers in "+k.f.API.File.Name(), "--etcd-servers %s is none of this etcd's client URLs: %s",
		strings.Join(k.f.API.EtcdServers, ","), strings.Join(k.f.Etcd.ListenClientURLs, ","))
}
