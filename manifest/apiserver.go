package manifest

import (
	"net"
	"path"
	"time"

	"etcd-rewind/problem"

	corev1 "k8s.io/api/core/v1"
)

const apiServerBinary = "kube-apiserver"

// APISettings are what a kube-apiserver is set to, whatever holds that. Where a setting is absent, kube-apiserver's own default
// stands.
type APISettings struct {
	EtcdServers          []string
	EtcdServersOverrides []string // resources kept in another etcd, as given: group/resource#server;server
	EtcdPrefix           string   // below which everything is kept in etcd, "/registry" when not given

	// Paths on the node, "" when not given.
	EtcdCA, EtcdCert, EtcdKey string
	ServingCert, ClientCA     string
	EncryptionConfig          string
	// Its client certificate for kubelets; "" also when it isn't known where
	// on the node it is.
	KubeletCert, KubeletKey string

	SecurePort                    int
	BindAddress, AdvertiseAddress string // "" when not given
	AnonymousAuth                 bool   // false: /readyz wants a client certificate
	ServiceCIDRs                  []string

	Image   string
	Version string // from the image's tag, "" without one

	ReadyURL string // https://host:port/readyz, from the readiness probe, else from the flags
}

// APIServer is what a static pod's manifest says about its kube-apiserver.
type APIServer struct {
	APISettings
	File      *File
	Container string
	Flags     Flags

	StartupBudget time.Duration
	GracePeriod   time.Duration
	ProbeURLs     ProbeURLs
}

// ReadAPIServer reads kube-apiserver's settings from its manifest.
func ReadAPIServer(f *File) (*APIServer, error) {
	c, flags, err := ReadFlags(f, apiServerBinary)
	if err != nil {
		return nil, err
	}
	pod := f.Pod
	if err := flags.known(APISettingsRead...); err != nil {
		return nil, err
	}
	a := &APIServer{
		File: f, Container: c.Name, Flags: flags,
		StartupBudget: startupBudget(c), GracePeriod: gracePeriod(pod),
	}
	a.APISettings, err = ReadAPISettings(flags, func(flag, path string) (string, error) {
		l, err := resolveFlag(pod, c, flag, path)
		return l.Path, err
	})
	if err != nil {
		return nil, err
	}
	a.Image, a.Version = c.Image, ImageVersion(c.Image)
	a.ProbeURLs = probeURLs(c, a.host())
	a.ReadyURL = a.readyURL(c)
	return a, nil
}

// APISettingsRead are the flags of a kube-apiserver whose values have to be known.
var APISettingsRead = []string{
	"etcd-servers", "etcd-prefix", "etcd-cafile", "etcd-certfile", "etcd-keyfile", "tls-cert-file",
	"client-ca-file", "encryption-provider-config", "secure-port",
}

// ReadAPISettings is what a kube-apiserver makes of its flags. onNode finds where a path that one of them names lies on the
// node.
func ReadAPISettings(flags Flags, onNode func(flag, path string) (string, error)) (APISettings, error) {
	get := func(name, otherwise string) string {
		if v, ok := flags.Get(name); ok {
			return v
		}
		return otherwise
	}
	// An address may be filled in by kubelet from the node's: then it isn't known, which is no reason to give up.
	address := func(name string) string {
		if flags.known(name) != nil {
			return ""
		}
		return get(name, "")
	}
	a := APISettings{
		EtcdServers:          flags.List("etcd-servers"),
		EtcdServersOverrides: flags.List("etcd-servers-overrides"),
		EtcdPrefix:           path.Join("/", get("etcd-prefix", "/registry")), // as its store does (storage/etcd3)
		BindAddress:          address("bind-address"),
		AdvertiseAddress:     address("advertise-address"),
		AnonymousAuth:        true,
		ServiceCIDRs:         flags.List("service-cluster-ip-range"),
	}
	var err error
	if a.SecurePort, err = parsePort("secure-port", get("secure-port", "6443")); err != nil {
		return a, err
	}
	if v, ok := flags.Get("anonymous-auth"); ok {
		if a.AnonymousAuth, err = parseBool("anonymous-auth", v); err != nil {
			return a, err
		}
	}
	for _, file := range []struct {
		flag string
		to   *string
	}{
		{"etcd-cafile", &a.EtcdCA},
		{"etcd-certfile", &a.EtcdCert},
		{"etcd-keyfile", &a.EtcdKey},
		{"tls-cert-file", &a.ServingCert},
		{"client-ca-file", &a.ClientCA},
		{"encryption-provider-config", &a.EncryptionConfig},
	} {
		v, _ := flags.Get(file.flag)
		if v == "" {
			continue
		}
		if *file.to, err = onNode(file.flag, v); err != nil {
			return a, err
		}
	}
	for flag, to := range map[string]*string{"kubelet-client-certificate": &a.KubeletCert, "kubelet-client-key": &a.KubeletKey} {
		if v, _ := flags.Get(flag); v != "" {
			if p, err := onNode(flag, v); err == nil {
				*to = p
			}
		}
	}
	a.ReadyURL = httpsURL(a.host(), a.SecurePort, "/readyz")
	return a, nil
}

// readyURL takes the readiness probe's address if it leads to the API server itself. Some layouts probe a sidecar.
func (a *APIServer) readyURL(c *corev1.Container) string {
	host := a.host()
	if p := c.ReadinessProbe; p != nil && p.HTTPGet != nil && p.HTTPGet.Scheme == corev1.URISchemeHTTPS && p.HTTPGet.Host != "" {
		if port, ok := containerPort(c, p.HTTPGet.Port); ok && port == a.SecurePort {
			host = p.HTTPGet.Host
		}
	}
	return httpsURL(host, a.SecurePort, "/readyz")
}

// host is an address of this node on which the API server listens.
func (a *APISettings) host() string {
	if ip := net.ParseIP(a.BindAddress); ip != nil && !ip.IsUnspecified() {
		return a.BindAddress
	}
	if a.AdvertiseAddress != "" {
		return a.AdvertiseAddress
	}
	return "127.0.0.1"
}

// OnNode finds where a path that kube-apiserver sees lies on the node.
func (a *APIServer) OnNode(p string) (string, error) {
	for i := range a.File.Pod.Spec.Containers {
		if c := &a.File.Pod.Spec.Containers[i]; c.Name == a.Container {
			l, err := Resolve(a.File.Pod, c, p)
			return l.Path, err
		}
	}
	return "", problem.Coded(CodeNoContainer, "", "no container %s in the pod %s", a.Container, a.File.Key())
}
