package manifest

import (
	"iter"
	"path"
	"time"

	corev1 "k8s.io/api/core/v1"

	"etcd-rewind/problem"
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

// Files are the certificates and keys: the setting that names each, and the path.
func (e *EtcdSettings) Files() iter.Seq2[string, *string] {
	return func(yield func(string, *string) bool) {
		_ = yield("cert-file", &e.Cert) && yield("key-file", &e.Key) && yield("trusted-ca-file", &e.TrustedCA) &&
			yield("peer-cert-file", &e.PeerCert) && yield("peer-key-file", &e.PeerKey) && yield("peer-trusted-ca-file", &e.PeerTrustedCA)
	}
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
	if err := flags.known(SettingsRead...); err != nil {
		return nil, err
	}
	e := &Etcd{
		File: f, Container: c.Name, Flags: flags,
		StartupBudget: startupBudget(c), GracePeriod: gracePeriod(pod),
	}
	settings, err := ReadSettings(flags.Get, "the manifest")
	if err != nil {
		return nil, err
	}
	e.EtcdSettings = settings
	e.Image, e.Version = c.Image, ImageVersion(c.Image)
	e.RunAsUser, e.RunAsGroup = runAs(pod, c)
	e.ProbeURLs = probeURLs(c, "127.0.0.1")
	dataDir, ok := flags.Get("data-dir")
	if !ok {
		dataDir = e.Name + ".etcd"
	}
	if err := e.readPaths(pod, c, dataDir); err != nil {
		return nil, err
	}
	return e, nil
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
	for flag, to := range e.Files() {
		v, _ := e.Flags.Get(flag)
		if v == "" {
			continue
		}
		l, err := resolveFlag(pod, c, flag, v)
		if err != nil {
			return err
		}
		*to = l.Path
		if l.Volume == e.DataDir.Volume {
			e.OnDataVolume = append(e.OnDataVolume, flag)
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
		"a manifest without --config-file, with the settings as flags, can be restored",
		"etcd reads its settings from the file %s and ignores every flag and variable in the manifest", v)
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
