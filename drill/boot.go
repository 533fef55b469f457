package drill

import (
	"cmp"
	"fmt"
	"path"
	"path/filepath"
	"strings"

	"etcd-rewind/manifest"
	"etcd-rewind/snapshot"
	"etcd-rewind/steps"
)

// Inside its namespaces a drill has the whole loopback to itself.
const (
	member  = "drill"
	peerURL = "https://127.0.0.1:2380"
	etcdURL = "https://127.0.0.1:2379"
	apiURL  = "https://127.0.0.1:6443"
)

// Where things lie for the programs of a drill, below its root.
const (
	dataDir = "/data"
	certDir = "/certificates"
)

// etcdFlags start etcd on the restored data: on the loopback alone, and with the
// cluster's quota, without which a database beyond the default is refused writes.
func etcdFlags(root string, quota int64) []string {
	at := func(name string) string { return filepath.Join(root, certDir, name) }
	flags := []string{
		"--name=" + member, "--data-dir=" + filepath.Join(root, dataDir),
		"--listen-client-urls=" + etcdURL, "--advertise-client-urls=" + etcdURL,
		"--listen-peer-urls=" + peerURL, "--initial-advertise-peer-urls=" + peerURL,
		"--client-cert-auth=true", "--trusted-ca-file=" + at(caFile), "--cert-file=" + at(serverFile), "--key-file=" + at(serverKey),
		"--peer-client-cert-auth=true", "--peer-trusted-ca-file=" + at(caFile), "--peer-cert-file=" + at(serverFile), "--peer-key-file=" + at(serverKey),
	}
	if quota != 0 {
		flags = append(flags, fmt.Sprintf("--quota-backend-bytes=%d", quota))
	}
	return flags
}

// taken are the flags of the cluster's API server that say how objects are
// stored and which kinds there are.
var taken = []string{
	"feature-gates", "runtime-config", "storage-media-type", "emulated-version", "emulation-forward-compatible", "runtime-config-emulation-forward-compatible",
	"service-account-issuer",
}

// clusterFlags are those of the cluster's API server that a drill takes over. pod
// may be nil: then its flags aren't known.
func clusterFlags(a manifest.APISettings, pod *manifest.APIServer) []string {
	flags := []string{"--etcd-prefix=" + a.EtcdPrefix}
	if len(a.ServiceCIDRs) > 0 {
		flags = append(flags, "--service-cluster-ip-range="+strings.Join(a.ServiceCIDRs, ","))
	}
	if pod == nil {
		return flags
	}
	for _, name := range taken {
		values := pod.Flags.List(name)
		if name == "service-account-issuer" && len(values) > 1 {
			values = values[:1] // each is given by a flag of its own; the first one signs
		}
		if v := strings.Join(values, ","); v != "" && !strings.Contains(v, "$(") {
			flags = append(flags, "--"+name+"="+v)
		}
	}
	return flags
}

// apiFlags start an API server on that etcd which nobody but the drill reaches,
// and which calls nobody: no webhooks, no endpoints of its own, and in a network
// that has nothing but a loopback. It keeps no caches, which would cost as much
// memory as the live one's, and compacts nothing: what the snapshot holds is
// listed at its revision.
func apiFlags(cluster []string, encryption string) []string {
	at := func(name string) string { return path.Join(certDir, name) }
	flags := []string{
		"--etcd-servers=" + etcdURL, "--etcd-cafile=" + at(caFile), "--etcd-certfile=" + at(etcdFile), "--etcd-keyfile=" + at(etcdKey),
		"--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--secure-port=6443",
		"--tls-cert-file=" + at(serverFile), "--tls-private-key-file=" + at(serverKey), "--client-ca-file=" + at(caFile),
		"--service-account-key-file=" + at(accountsFile), "--service-account-signing-key-file=" + at(accountKey),
		"--authorization-mode=RBAC", "--anonymous-auth=false",
		"--disable-admission-plugins=MutatingAdmissionWebhook,ValidatingAdmissionWebhook",
		"--endpoint-reconciler-type=none", "--watch-cache=false", "--etcd-compaction-interval=0", "--profiling=false",
	}
	given := false
	for _, f := range cluster {
		given = given || strings.HasPrefix(f, "--service-account-issuer=")
	}
	if !given {
		flags = append(flags, "--service-account-issuer=https://kubernetes.default.svc")
	}
	if encryption != "" {
		flags = append(flags, "--encryption-provider-config="+encryption)
	}
	return append(flags, cluster...)
}

// bound is a file of the node that the API server of a drill has, too, where the
// cluster's has it: read-only.
type bound struct{ Host, Inside string }

// encryption is the cluster's EncryptionConfiguration as its API server sees it,
// with the sockets of the plugins that it names. given is one of the person's
// choice.
func encryption(a *steps.API, pod *manifest.APIServer, given string) (inside string, files []bound, err error) {
	host := given
	if host == "" && a != nil {
		host = a.EncryptionConfig
	}
	if host == "" {
		return "", nil, nil
	}
	inside = "/encryption.yaml"
	config, err := snapshot.ReadEncryptionConfig(host)
	if err != nil {
		return "", nil, fmt.Errorf("EncryptionConfiguration: %w", err)
	}
	files = []bound{{host, inside}}
	for _, k := range config.KMS() {
		if strings.HasPrefix(k.Socket, "@") {
			continue // in no directory, and in no other network namespace
		}
		at := k.Socket
		if pod != nil && given == "" {
			if at, err = pod.OnNode(k.Socket); err != nil {
				return "", nil, err
			}
		}
		files = append(files, bound{at, k.Socket})
	}
	return inside, files, nil
}

// etcdUser is whom the cluster's etcd takes its API server for.
func etcdUser(f *steps.Facts) string {
	if f != nil && f.API != nil {
		return cmp.Or(subjectOf(f.API.EtcdCert), "kube-apiserver-etcd-client")
	}
	return "root"
}
