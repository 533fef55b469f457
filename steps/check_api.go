package steps

import (
	"context"
	"strings"

	"etcd-rewind/node"
	"etcd-rewind/trust"
)

func (k *checks) apiManifest() Verdict {
	if k.f.lacks(RoleAPI) {
		return ok("none: kube-apiserver runs on other nodes")
	}
	if k.f.APIErr != nil {
		return failed(k.f.APIErr)
	}
	a := k.f.API
	if !a.AnonymousAuth && k.f.Reach.API.Kubeconfig == "" {
		return wrong("put a kubeconfig at "+k.f.Layout.Admin(), "--anonymous-auth=false and no kubeconfig: cannot probe its readiness (row 37)")
	}
	if u, is := a.Source.(unitAPI); is {
		return ok("started by %s, now: %s", trust.Text(u.unit.Name), k.f.APIState)
	}
	return ok("%s, now: %s", a.Image, k.f.APIState)
}

// etcdServers follows --etcd-servers as kube-apiserver does. Where the address
// isn't one that etcd names, the etcd that answers there is asked who it is.
// (Row 36.)
func (k *checks) etcdServers() Verdict {
	servers := k.f.API.EtcdServers
	for _, s := range servers {
		if k.f.leadsTo(k.ctx, s, &k.f.Etcd.EtcdSettings) {
			return ok("--etcd-servers %s is this etcd", s)
		}
	}
	if k.f.Live != nil {
		there := k.f.Reach.Etcd
		for _, s := range servers {
			ctx, cancel := context.WithTimeout(k.ctx, resolveLimit)
			there.Endpoints = []string{s}
			st, err := node.AskEtcd(ctx, there, false)
			cancel()
			if err == nil && st.MemberID == k.f.Live.MemberID && st.ClusterID == k.f.Live.ClusterID {
				return ok("--etcd-servers %s is this etcd: the member that answers there is %x", s, st.MemberID)
			}
		}
	}
	return wrong("correct --etcd-servers in "+k.f.API.Source.Name(), "--etcd-servers %s leads to none of this etcd's client URLs: %s",
		strings.Join(servers, ","), strings.Join(k.f.Etcd.ListenClientURLs, ","))
}
