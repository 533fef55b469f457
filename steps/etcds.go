package steps

import (
	"context"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"etcd-rewind/defect"
	"etcd-rewind/manifest"
	"etcd-rewind/node"
	"etcd-rewind/trust"
)

// OtherEtcd is an etcd on this node that isn't kube-apiserver's: one for events
// (--etcd-servers-overrides), or of something else. It is left alone.
type OtherEtcd struct {
	*Etcd
	Holds []string // resources that kube-apiserver keeps there, "events"
	// SameData and SameAddress say of a service that it can't run beside
	// kube-apiserver's etcd.
	SameData, SameAddress bool
}

// name is that of its manifest or service.
func (o OtherEtcd) name() string {
	if u, is := o.unit(); is {
		return u.unit.Name
	}
	return o.Source.Name()
}

// resolveLimit is for one name to be looked up.
const resolveLimit = 2 * time.Second

// chooseEtcd finds which of this node's etcds kube-apiserver's --etcd-servers
// names. The others are lawful beside it when they share neither addresses nor
// data with it.
func (f *Facts) chooseEtcd(ctx context.Context) {
	file, _ := f.Manifests.Component(f.Layout.Etcd)
	var all []*manifest.Etcd
	for _, other := range f.Manifests.Running(f.Layout.Etcd) {
		if e, err := manifest.ReadEtcd(other); err == nil {
			all = append(all, e)
		} else if file == nil {
			file = other
		}
	}
	named := slices.DeleteFunc(slices.Clone(all), func(e *manifest.Etcd) bool {
		return f.API == nil || !slices.ContainsFunc(f.API.EtcdServers, func(s string) bool { return f.leadsTo(ctx, s, &e.EtcdSettings) })
	})
	switch {
	case len(named) == 1:
		f.Etcd = EtcdOfPod(named[0])
	case file == nil:
		return
	default:
		e, err := manifest.ReadEtcd(file)
		if err != nil {
			f.EtcdErr = err
			return
		}
		f.Etcd = EtcdOfPod(e)
	}
	own := f.Etcd.pod()
	for _, e := range all {
		switch {
		case e.File.Key() == own.File.Key():
			continue
		case sameData(EtcdOfPod(e), f.Etcd) || sameAddress(EtcdOfPod(e), f.Etcd):
			f.clashing = append(f.clashing, e.File)
			continue
		}
		f.OtherEtcds = append(f.OtherEtcds, OtherEtcd{Etcd: EtcdOfPod(e), Holds: f.keptIn(ctx, &e.EtcdSettings)})
	}
}

// keptIn are the resources that --etcd-servers-overrides keeps in an etcd.
func (f *Facts) keptIn(ctx context.Context, e *manifest.EtcdSettings) []string {
	var held []string
	if f.API == nil {
		return nil
	}
	for _, o := range f.API.EtcdServersOverrides {
		resource, servers, _ := strings.Cut(o, "#")
		for s := range strings.SplitSeq(servers, ";") {
			if f.leadsTo(ctx, s, e) {
				held = append(held, strings.TrimPrefix(resource, "/"))
				break
			}
		}
	}
	return held
}

// sameData and sameAddress say why two etcds can't both run on this node as they
// are written.
func sameData(a, b *Etcd) bool {
	return trust.Within(a.DataDir.Path, b.DataDir.Path) || trust.Within(b.DataDir.Path, a.DataDir.Path)
}

func sameAddress(a, b *Etcd) bool {
	if !a.onHostNetwork() || !b.onHostNetwork() {
		return false
	}
	for _, x := range slices.Concat(a.ListenClientURLs, a.ListenPeerURLs) {
		for _, y := range slices.Concat(b.ListenClientURLs, b.ListenPeerURLs) {
			u, err1 := url.Parse(x)
			v, err2 := url.Parse(y)
			if err1 != nil || err2 != nil || u.Port() != v.Port() {
				continue
			}
			p, q := address(u.Hostname()), address(v.Hostname())
			if p == q || p.IsUnspecified() || q.IsUnspecified() || !p.IsValid() || !q.IsValid() {
				return true
			}
		}
	}
	return false
}

// onHostNetwork is false where that isn't known.
func (e *Etcd) onHostNetwork() bool {
	if p := e.pod(); p != nil {
		return p.File.Pod.Spec.HostNetwork
	}
	u, is := e.unit()
	return is && u.Container == nil
}

// address is invalid for a name; localhost is 127.0.0.1.
func address(host string) netip.Addr {
	if host == "localhost" {
		host = "127.0.0.1"
	}
	a, _ := netip.ParseAddr(host)
	return a.Unmap()
}

// leadsTo says whether a URL of --etcd-servers is an etcd of this node, as
// kube-apiserver would get there: names are looked up, in the pod's hostAliases
// first.
func (f *Facts) leadsTo(ctx context.Context, server string, e *manifest.EtcdSettings) bool {
	return leadsTo(server, e, func(host string) []netip.Addr { return f.lookUp(ctx, host) })
}

// leadsTo looks a name up once, and only one that isn't etcd's own word for itself:
// with a name server that is down it takes as long as it may.
func leadsTo(server string, e *manifest.EtcdSettings, lookUp func(host string) []netip.Addr) bool {
	u, err := url.Parse(server)
	if err != nil {
		return false
	}
	var mine []netip.Addr
	for _, l := range slices.Concat(e.ListenClientURLs, e.AdvertiseClientURLs) {
		at, err := url.Parse(l)
		if err != nil || at.Port() != u.Port() {
			continue
		}
		if strings.EqualFold(at.Hostname(), u.Hostname()) {
			return true
		}
		if m := address(at.Hostname()); m.IsValid() {
			mine = append(mine, m)
		}
	}
	if len(mine) == 0 {
		return false
	}
	for _, a := range lookUp(u.Hostname()) {
		if slices.ContainsFunc(mine, func(m netip.Addr) bool { return a == m || m.IsUnspecified() && ofThisNode(a) }) {
			return true
		}
	}
	return false
}

func (f *Facts) lookUp(ctx context.Context, host string) []netip.Addr {
	if a := address(host); a.IsValid() {
		return []netip.Addr{a}
	}
	if a := f.API.pod(); a != nil {
		for _, alias := range a.File.Pod.Spec.HostAliases {
			if slices.Contains(alias.Hostnames, host) {
				return []netip.Addr{address(alias.IP)}
			}
		}
	}
	ctx, cancel := context.WithTimeout(ctx, resolveLimit)
	defer cancel()
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil
	}
	for i := range found {
		found[i] = found[i].Unmap()
	}
	return found
}

// ofThisNode says whether one of the node's interfaces has an address.
func ofThisNode(a netip.Addr) bool {
	if a.IsLoopback() {
		return true
	}
	all, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	return slices.ContainsFunc(all, func(n net.Addr) bool {
		p, err := netip.ParsePrefix(n.String())
		return err == nil && p.Addr().Unmap() == a
	})
}

// otherAPIServers finds those that use the cluster's etcd by their leases, aren't this
// node's or another member's, and answer: a lease may outlive an address, as after a restore. They are
// looked for at the port of the API server here. One that advertises itself on
// loopback has no others.
func (f *Facts) otherAPIServers(ctx context.Context, ask func(ctx context.Context, url string) bool) (answer []string) {
	if f.Own || f.API == nil || f.API.AdvertiseAddress == "localhost" { // a practice node's snapshots name hosts of nobody's
		return nil
	}
	own, _ := netip.ParseAddr(f.API.AdvertiseAddress)
	ready, err := url.Parse(f.Reach.API.ReadyURL)
	if err != nil || own.IsLoopback() {
		return nil
	}
	var others []string
	for _, s := range f.Users() {
		if ip, err := netip.ParseAddr(s); err == nil && ip != own && !f.ofAMember(ip.Unmap()) && !ofThisNode(ip.Unmap()) && len(others) < mostOthers {
			others = append(others, s)
		}
	}
	answers := make([]bool, len(others))
	var all sync.WaitGroup
	for i, ip := range others {
		at := *ready
		at.Host = net.JoinHostPort(ip, ready.Port())
		all.Go(defect.Do(func() {
			answers[i] = ask(ctx, at.String())
		}))
	}
	all.Wait()
	for i, ip := range others {
		if answers[i] {
			answer = append(answer, ip)
		}
	}
	return answer
}

// ofAMember says whether an address is a member's of this etcd: where etcd is
// stacked, the other members' nodes have the other API servers, and are restored
// with them.
func (f *Facts) ofAMember(ip netip.Addr) bool {
	var urls []string
	if f.Live != nil {
		for _, m := range f.Live.Members {
			urls = append(urls, m.PeerURLs...)
		}
	} else if f.LastUsers != nil {
		for _, m := range f.LastUsers.Members {
			urls = append(urls, m.PeerURLs...)
		}
	}
	return slices.ContainsFunc(urls, func(s string) bool {
		u, err := url.Parse(s)
		if err != nil {
			return false
		}
		host, err := netip.ParseAddr(u.Hostname())
		return err == nil && host.Unmap() == ip
	})
}

// apiAnswers says whether an API server, or anything, answers at a URL.
func apiAnswers(ctx context.Context, url string) bool {
	return node.AskRemote(ctx, node.RemoteConfig{ReadyURL: url}, node.EtcdConfig{}, node.EtcdConfig{}).API == node.PortAnswers
}

// mostOthers bounds how many other API servers are looked for.
const mostOthers = 16

// apart are the resources that kube-apiserver keeps in another etcd.
func (f *Facts) apart() []string {
	var all []string
	if f.API == nil {
		return nil
	}
	for _, o := range f.API.EtcdServersOverrides {
		resource, _, _ := strings.Cut(o, "#")
		all = append(all, strings.TrimPrefix(resource, "/"))
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// lawful says whether a file is another etcd that may run beside ours.
func (f *Facts) lawful(file *manifest.File) bool {
	return slices.ContainsFunc(f.OtherEtcds, func(o OtherEtcd) bool {
		return o.pod() != nil && filepath.Clean(o.Source.Path()) == filepath.Clean(file.Path)
	})
}
