package manifest

import (
	"path"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"etcd-rewind/problem"
	"etcd-rewind/trust"
)

const etcdBinary = "etcd"

// Member is a member of an etcd cluster as --initial-cluster names it.
type Member struct {
	Name     string
	PeerURLs []string
}

// EtcdSettings are what an etcd is set to, whatever holds that: the manifest of a static pod, or another source. Where a
// setting is absent, etcd's own default stands.
type EtcdSettings struct {
	Name    string
	DataDir Location
	WALDir  *Location // nil without --wal-dir: the WAL is inside the data directory then
	// OnDataVolume names the flags whose files lie on the data directory's volume as well, such as --wal-dir or
	// --cert-file: they move along when its hostPath is changed.
	OnDataVolume []string

	AdvertisePeerURLs, ListenPeerURLs     []string
	AdvertiseClientURLs, ListenClientURLs []string
	// Endpoints are the client URLs to connect to from this node, loopback first.
	Endpoints []string
	// PeerURLs are the peer URLs to connect to from this node.
	PeerURLs []string
	// MetricsURLs are those of --listen-metrics-urls to connect to from this node, without a path. Empty when not given.
	MetricsURLs []string
	// ReadyURLs answer /readyz: the metrics URLs, else the client URLs (which may want a client certificate).
	ReadyURLs []string

	// InitialCluster is what the manifest was written with. Kubeadm doesn't rewrite it when members join later, so one
	// member here doesn't mean one member in the cluster.
	InitialCluster      []Member
	InitialClusterState string
	InitialClusterToken string

	// Paths on the node, "" when not given.
	Cert, Key, TrustedCA             string
	PeerCert, PeerKey, PeerTrustedCA string
	ClientCertAuth                   bool
	QuotaBytes                       int64 // 0 means etcd's default, 2 GiB; less than 0 none

	Image   string
	Version string // from the image's tag, "" without one

	RunAsUser, RunAsGroup *int64
}

// Etcd is what a static pod's manifest says about its etcd.
type Etcd struct {
	EtcdSettings
	File      *File
	Container string
	Flags     Flags
	// StartupBudget is how long the probes let a slow start live; 0 means without limit.
	StartupBudget time.Duration
	GracePeriod   time.Duration
	ProbeURLs     ProbeURLs
}

// ReadEtcd reads etcd's settings from its manifest. It fails with a *problem.Problem when the manifest doesn't say where the data
// is: etcd started with a configuration file or through a shell, or with a data directory that is on no hostPath volume.
func ReadEtcd(f *File) (*Etcd, error) {
	c, flags, err := ReadFlags(f, etcdBinary)
	if err != nil {
		return nil, err
	}
	pod := f.Pod
	if err := noConfigFile(flags); err != nil {
		return nil, err
	}
	if err := flags.known("name", "data-dir", "wal-dir", "initial-advertise-peer-urls", "listen-peer-urls",
		"advertise-client-urls", "listen-client-urls", "listen-metrics-urls", "initial-cluster", "initial-cluster-token",
		"cert-file", "key-file", "trusted-ca-file", "peer-cert-file", "peer-key-file", "peer-trusted-ca-file"); err != nil {
		return nil, err
	}
	get := func(name, otherwise string) string {
		if v, ok := flags.Get(name); ok {
			return v
		}
		return otherwise
	}
	list := func(name string, otherwise ...string) []string {
		if l := flags.List(name); len(l) > 0 {
			return l
		}
		return otherwise
	}

	e := &Etcd{
		File: f, Container: c.Name, Flags: flags,
		StartupBudget: startupBudget(c), GracePeriod: gracePeriod(pod),
	}
	e.EtcdSettings = EtcdSettings{
		Name:                get("name", "default"),
		AdvertisePeerURLs:   list("initial-advertise-peer-urls", "http://localhost:2380"),
		ListenPeerURLs:      list("listen-peer-urls", "http://localhost:2380"),
		AdvertiseClientURLs: list("advertise-client-urls", "http://localhost:2379"),
		ListenClientURLs:    list("listen-client-urls", "http://localhost:2379"),
		MetricsURLs:         dialable(list("listen-metrics-urls")),
		InitialClusterState: get("initial-cluster-state", "new"),
		InitialClusterToken: get("initial-cluster-token", "etcd-cluster"),
		Image:               c.Image, Version: imageVersion(c.Image),
	}
	e.RunAsUser, e.RunAsGroup = runAs(pod, c)
	e.Endpoints = dialable(e.ListenClientURLs)
	e.PeerURLs = dialable(e.ListenPeerURLs)
	ready := e.MetricsURLs
	if len(ready) == 0 {
		ready = e.Endpoints
	}
	for _, u := range ready {
		e.ReadyURLs = append(e.ReadyURLs, strings.TrimSuffix(u, "/")+"/readyz")
	}
	e.ProbeURLs = probeURLs(c, "127.0.0.1")

	if v, ok := flags.Get("initial-cluster"); ok {
		if e.InitialCluster, err = parseMembers(v); err != nil {
			return nil, err
		}
	} else if !discovered(flags) {
		e.InitialCluster = []Member{{Name: e.Name, PeerURLs: e.AdvertisePeerURLs}}
	}
	if v, ok := flags.Get("client-cert-auth"); ok {
		if e.ClientCertAuth, err = parseBool("client-cert-auth", v); err != nil {
			return nil, err
		}
	}
	if v, ok := flags.Get("quota-backend-bytes"); ok {
		if e.QuotaBytes, err = strconv.ParseInt(v, 0, 64); err != nil {
			return nil, problem.Coded(CodeArgument, "correct it in the manifest", "--quota-backend-bytes=%s is not a number of bytes", v)
		}
	}

	if err := e.checkNames(); err != nil {
		return nil, err
	}
	if err := e.readPaths(pod, c, get("data-dir", e.Name+".etcd")); err != nil {
		return nil, err
	}
	return e, nil
}

// checkNames holds names and addresses against what they may be: they are shown, put into commands and dialled. It isn't
// stricter than etcd, but for a name (which etcd takes as it is) and for passwords (which it ignores).
func (e *Etcd) checkNames() error {
	const hint = "correct it in the manifest"
	if err := trust.Name(e.Name); err != nil {
		return problem.Coded(CodeArgument, hint, "--name: %w", err)
	}
	for _, m := range e.InitialCluster {
		if err := trust.Name(m.Name); err != nil {
			return problem.Coded(CodeArgument, hint, "--initial-cluster: %w", err)
		}
		if err := checkURLs("initial-cluster", m.PeerURLs); err != nil {
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
		{"listen-metrics-urls", e.Flags.List("listen-metrics-urls")},
	} {
		if err := checkURLs(of.flag, of.urls); err != nil {
			return err
		}
	}
	return nil
}

func checkURLs(flag string, urls []string) error {
	for _, s := range dialable(urls) {
		if _, err := trust.URL(s); err != nil {
			return problem.Coded(CodeArgument, "correct it in the manifest", "--%s: %w", flag, err)
		}
	}
	return nil
}

func (e *Etcd) readPaths(pod *corev1.Pod, c *corev1.Container, dataDir string) error {
	var err error
	if e.DataDir, err = resolveFlag(pod, c, "data-dir", dataDir); err != nil {
		return err
	}
	if v, _ := e.Flags.Get("wal-dir"); v != "" {
		l, err := resolveFlag(pod, c, "wal-dir", v)
		if err != nil {
			return err
		}
		e.WALDir = &l
		if l.Volume == e.DataDir.Volume {
			e.OnDataVolume = append(e.OnDataVolume, "wal-dir")
		}
	}
	for _, file := range []struct {
		flag string
		to   *string
	}{
		{"cert-file", &e.Cert},
		{"key-file", &e.Key},
		{"trusted-ca-file", &e.TrustedCA},
		{"peer-cert-file", &e.PeerCert},
		{"peer-key-file", &e.PeerKey},
		{"peer-trusted-ca-file", &e.PeerTrustedCA},
	} {
		v, _ := e.Flags.Get(file.flag)
		if v == "" {
			continue
		}
		l, err := resolveFlag(pod, c, file.flag, v)
		if err != nil {
			return err
		}
		*file.to = l.Path
		if l.Volume == e.DataDir.Volume {
			e.OnDataVolume = append(e.OnDataVolume, file.flag)
		}
	}
	return nil
}

// resolveFlag finds the file a flag names, and says the flag's name when it can't.
func resolveFlag(pod *corev1.Pod, c *corev1.Container, flag, value string) (Location, error) {
	if !path.IsAbs(value) && path.IsAbs(c.WorkingDir) {
		value = path.Join(c.WorkingDir, value)
	}
	l, err := Resolve(pod, c, value)
	if p := problem.Of(err); p != nil {
		return l, p.About("--" + flag)
	}
	return l, err
}

func noConfigFile(flags Flags) error {
	v, _ := flags.Get("config-file")
	if v == "" {
		// Etcd looks at the variable also when the flag is there and empty.
		v = flags.env.values["ETCD_CONFIG_FILE"]
	}
	if from := flags.env.unknown["ETCD_CONFIG_FILE"]; v == "" && from != "" {
		v = "named by " + from
	}
	if v == "" {
		return nil
	}
	return problem.Coded(CodeConfigFile,
		"a manifest without --config-file, with the settings as flags, can be restored; for RKE2 and k3s use their own "+
			"'server --cluster-reset --cluster-reset-restore-path'",
		"etcd reads its settings from the file %s and ignores every flag and variable in the manifest", v)
}

func discovered(flags Flags) bool {
	for _, name := range []string{"discovery", "discovery-srv", "discovery-endpoints"} {
		if v, _ := flags.Get(name); v != "" {
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

func runAs(pod *corev1.Pod, c *corev1.Container) (user, group *int64) {
	if s := pod.Spec.SecurityContext; s != nil {
		user, group = s.RunAsUser, s.RunAsGroup
	}
	if s := c.SecurityContext; s != nil {
		if s.RunAsUser != nil {
			user = s.RunAsUser
		}
		if s.RunAsGroup != nil {
			group = s.RunAsGroup
		}
	}
	return user, group
}
