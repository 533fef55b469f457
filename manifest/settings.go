package manifest

import (
	"strconv"
	"strings"

	"etcd-rewind/problem"
	"etcd-rewind/trust"
)

// SettingsRead are the names of the flags that are made something of here: their values have to be known.
var SettingsRead = []string{
	"name", "data-dir", "wal-dir", "initial-advertise-peer-urls", "listen-peer-urls",
	"advertise-client-urls", "listen-client-urls", "listen-metrics-urls", "initial-cluster", "initial-cluster-token",
	"cert-file", "key-file", "trusted-ca-file", "peer-cert-file", "peer-key-file", "peer-trusted-ca-file",
}

// ReadSettings is what an etcd makes of what it is told: get gives what that is of a flag, by its name, and false where
// nothing is said. Hints name where. Where files lie on the node is left to the caller, and what it runs as.
func ReadSettings(get func(flag string) (string, bool), where string) (EtcdSettings, error) {
	one := func(name, otherwise string) string {
		if v, ok := get(name); ok {
			return v
		}
		return otherwise
	}
	list := func(name string, otherwise ...string) []string {
		v, _ := get(name)
		if l := elements(v); len(l) > 0 {
			return l
		}
		return otherwise
	}
	e := EtcdSettings{
		Name:                one("name", "default"),
		AdvertisePeerURLs:   list("initial-advertise-peer-urls", "http://localhost:2380"),
		ListenPeerURLs:      list("listen-peer-urls", "http://localhost:2380"),
		AdvertiseClientURLs: list("advertise-client-urls", "http://localhost:2379"),
		ListenClientURLs:    list("listen-client-urls", "http://localhost:2379"),
		MetricsURLs:         dialable(list("listen-metrics-urls")),
		InitialClusterState: one("initial-cluster-state", "new"),
		InitialClusterToken: one("initial-cluster-token", "etcd-cluster"),
	}
	e.Endpoints = dialable(e.ListenClientURLs)
	e.PeerURLs = dialable(e.ListenPeerURLs)
	ready := e.MetricsURLs
	if len(ready) == 0 {
		ready = e.Endpoints
	}
	for _, u := range ready {
		e.ReadyURLs = append(e.ReadyURLs, strings.TrimSuffix(u, "/")+"/readyz")
	}
	var err error
	if v, ok := get("initial-cluster"); ok && v != "" {
		if e.InitialCluster, err = parseMembers(v); err != nil {
			return e, err
		}
	} else if !discovered(get) {
		e.InitialCluster = []Member{{Name: e.Name, PeerURLs: e.AdvertisePeerURLs}}
	}
	if v, ok := get("client-cert-auth"); ok {
		if e.ClientCertAuth, err = parseBool("client-cert-auth", v); err != nil {
			return e, err
		}
	}
	if v, ok := get("quota-backend-bytes"); ok {
		if e.QuotaBytes, err = strconv.ParseInt(v, 0, 64); err != nil {
			return e, problem.Coded(CodeArgument, "correct it in "+where, "--quota-backend-bytes=%s is not a number of bytes", trust.Clip(trust.Text(v), 80))
		}
	}
	return e, e.checkNames(list("listen-metrics-urls"), "correct it in "+where)
}

func elements(v string) (list []string) {
	for e := range strings.SplitSeq(v, ",") {
		if e = strings.TrimSpace(e); e != "" {
			list = append(list, e)
		}
	}
	return list
}

// checkNames holds names and addresses against what they may be: they are shown, put into commands and dialled. It isn't
// stricter than etcd, but for a name (which etcd takes as it is) and for passwords (which it ignores).
func (e *EtcdSettings) checkNames(metrics []string, hint string) error {
	if err := trust.Name(e.Name); err != nil {
		return problem.Coded(CodeArgument, hint, "--name: %w", err)
	}
	for _, m := range e.InitialCluster {
		if err := trust.Name(m.Name); err != nil {
			return problem.Coded(CodeArgument, hint, "--initial-cluster: %w", err)
		}
		if err := checkURLs("initial-cluster", m.PeerURLs, hint); err != nil {
			return err
		}
	}
	for _, of := range []struct {
		flag string
		urls []string
	}{
		{"initial-advertise-peer-urls", e.AdvertisePeerURLs},
		{"listen-peer-urls", e.ListenPeerURLs},
		{"advertise-client-urls", e.AdvertiseClientURLs},
		{"listen-client-urls", e.ListenClientURLs},
		{"listen-metrics-urls", metrics},
	} {
		if err := checkURLs(of.flag, of.urls, hint); err != nil {
			return err
		}
	}
	return nil
}

func checkURLs(flag string, urls []string, hint string) error {
	for _, s := range dialable(urls) {
		if _, err := trust.URL(s); err != nil {
			return problem.Coded(CodeArgument, hint, "--%s: %w", flag, err)
		}
	}
	return nil
}

func discovered(get func(string) (string, bool)) bool {
	for _, name := range []string{"discovery", "discovery-srv", "discovery-endpoints"} {
		if v, _ := get(name); v != "" {
			return true
		}
	}
	return false
}

// parseMembers reads name=url,name=url. A member with several peer URLs is named once for each.
func parseMembers(s string) ([]Member, error) {
	var members []Member
	for _, pair := range strings.Split(s, ",") {
		if pair = strings.TrimSpace(pair); pair == "" {
			continue
		}
		name, peerURL, ok := strings.Cut(pair, "=")
		if !ok || name == "" || peerURL == "" {
			return nil, problem.Coded(CodeArgument, "write it as name=https://address:2380, separated by commas",
				"--initial-cluster has the element %q, which is not name=URL", pair)
		}
		known := false
		for i := range members {
			if members[i].Name == name {
				members[i].PeerURLs = append(members[i].PeerURLs, peerURL)
				known = true
			}
		}
		if !known {
			members = append(members, Member{Name: name, PeerURLs: []string{peerURL}})
		}
	}
	return members, nil
}
