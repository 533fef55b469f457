package steps

import (
	"compress/gzip"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"math"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"etcd-rewind/manifest"
	"etcd-rewind/node"
	"etcd-rewind/problem"
	"etcd-rewind/snapshot"
)

func TestChecksSeeWhatWouldGoWrong(t *testing.T) {
	bump := uint64(0)
	cases := []struct {
		name  string
		spoil func(n *fakeNode, f *Facts, s *snapshot.Info, c *Choices)
		check string
		level Level
		says  string
	}{
		{"a sound node passes: manifests", nil, "stray-manifests", Pass, "defined once"},
		{"a sound node passes: etcd's manifest", nil, "etcd-manifest", Pass, "etcd-data"},
		{"a sound node passes: members", nil, "topology", Pass, "one member"},
		{"a sound node passes: target", nil, "target", Pass, "lib/etcd-"},
		{"a sound node passes: servers", nil, "etcd-servers", Pass, "is this etcd"},
		{"a sound node passes: snapshot", nil, "snapshot-hash", Pass, "intact"},
		{"a sound node passes: node", nil, "snapshot-node", Pass, "cp1"},
		{"a sound node passes: renames", nil, "same-file-system", Pass, "one file system"},
		{"row 1: a copy of etcd.yaml in the manifest directory", func(n *fakeNode, f *Facts, _ *snapshot.Info, _ *Choices) {
			data, _ := os.ReadFile(filepath.Join(n.root, "manifests/etcd.yaml"))
			n.write("manifests/etcd.yaml.bak", data)
			*f = *n.facts()
		}, "stray-manifests", Error, "etcd.yaml.bak wins"},
		{"row 2: an editor's file that kubelet can't use", func(n *fakeNode, f *Facts, _ *snapshot.Info, _ *Choices) {
			n.write("manifests/4913", []byte("not a pod"))
			*f = *n.facts()
		}, "stray-manifests", Warn, "4913"},
		{"a member's name that would be a command on the screen", func(n *fakeNode, f *Facts, _ *snapshot.Info, _ *Choices) {
			data, _ := os.ReadFile(filepath.Join(n.root, "manifests/etcd.yaml"))
			n.write("manifests/etcd.yaml", []byte(strings.Replace(string(data), "--name=cp1", "--name=cp1;reboot", 1)))
			file, err := manifest.ReadFile(filepath.Join(n.root, "manifests/etcd.yaml"))
			if err != nil {
				panic(err)
			}
			_, f.EtcdErr = manifest.ReadEtcd(file)
		}, "etcd-manifest", Error, "--name"},
		{"row 8: no etcd manifest at all", func(_ *fakeNode, f *Facts, _ *snapshot.Info, _ *Choices) {
			f.Etcd, f.EtcdErr = nil, errors.New("there is no manifest of etcd")
		}, "etcd-manifest", Error, "no manifest of etcd"},
		{"row 9: the old data directory is blank", func(n *fakeNode, _ *Facts, _ *snapshot.Info, _ *Choices) {
			_ = os.Remove(filepath.Join(n.root, "lib/etcd/member/snap/db"))
		}, "old-data", Warn, "no etcd data"},
		{"row 11: etcd runs as another user", func(_ *fakeNode, f *Facts, _ *snapshot.Info, _ *Choices) {
			uid := int64(31337)
			f.Etcd.RunAsUser = &uid
		}, "owner", Error, "31337"},
		{"row 13: the target exists", func(n *fakeNode, _ *Facts, _ *snapshot.Info, c *Choices) {
			c.DataDir = filepath.Join(n.root, "pki")
		}, "target", Error, "exists already"},
		{"the target is the old data directory", func(_ *fakeNode, f *Facts, _ *snapshot.Info, c *Choices) {
			c.DataDir = f.Etcd.DataDir.HostPath
		}, "target", Error, "stays untouched"},
		{"the target's parent is missing", func(n *fakeNode, _ *Facts, _ *snapshot.Info, c *Choices) {
			c.DataDir = filepath.Join(n.root, "nowhere/new")
		}, "target", Error, "not a directory"},
		{"a relative target", func(_ *fakeNode, _ *Facts, _ *snapshot.Info, c *Choices) { c.DataDir = "new" }, "target", Error, "absolute"},
		{"row 14: the WAL on a volume of its own", func(_ *fakeNode, f *Facts, _ *snapshot.Info, _ *Choices) {
			f.Etcd.WALDir = &manifest.Location{Flag: "/wal", Volume: "wal"}
		}, "wal-dir", Pass, "restored too"},
		{"row 15: not enough space", func(_ *fakeNode, _ *Facts, s *snapshot.Info, _ *Choices) { s.Size = 1 << 60 }, "disk-space", Error, "needs"},
		{"a backup that anybody may have made", func(_ *fakeNode, _ *Facts, s *snapshot.Info, _ *Choices) {
			s.Doubt = problem.New("copy backup.key", "without backup.key nobody knows who made it")
		}, "snapshot-record", Warn, "nobody knows who made it"},
		{"row 16: no hash", func(_ *fakeNode, _ *Facts, s *snapshot.Info, _ *Choices) { s.Hash = snapshot.HashMissing }, "snapshot-hash", Warn, "no checksum to verify"},
		{"row 20: a newer etcd's snapshot", func(_ *fakeNode, _ *Facts, s *snapshot.Info, _ *Choices) { s.StorageVersion = "3.7.0" }, "snapshot-version", Error, "3.7"},
		{"etcd is down and only its data says its version", func(_ *fakeNode, f *Facts, s *snapshot.Info, _ *Choices) {
			f.EtcdVersion, f.LastUsers, s.StorageVersion = "", &snapshot.LastUsers{StorageVersion: "3.6.0"}, "3.6.0"
		}, "snapshot-version", Pass, "this node's data is of etcd 3.6"},
		{"etcd is down and its data is older", func(_ *fakeNode, f *Facts, s *snapshot.Info, _ *Choices) {
			f.EtcdVersion, f.LastUsers, s.StorageVersion = "", &snapshot.LastUsers{StorageVersion: "3.6.0"}, "3.7.0"
		}, "snapshot-version", Error, "this node's data is of etcd 3.6"},
		{"an older etcd's snapshot", func(_ *fakeNode, _ *Facts, s *snapshot.Info, _ *Choices) { s.StorageVersion = "" }, "snapshot-version", Pass, "before etcd 3.6"},
		{"row 22: an alarm inside", func(_ *fakeNode, _ *Facts, s *snapshot.Info, _ *Choices) { s.Alarms = []string{"NOSPACE"} }, "snapshot-alarms", Warn, "NOSPACE"},
		{"row 22: over the quota", func(_ *fakeNode, _ *Facts, s *snapshot.Info, _ *Choices) { s.TotalSize = 3 << 30 }, "snapshot-alarms", Error, "quota"},
		{"authentication is enabled in the snapshot, and the API server's certificate is no user's", func(n *fakeNode, f *Facts, s *snapshot.Info, _ *Choices) {
			s.AuthEnabled, s.AuthUsers, f.API.EtcdCert = true, []string{"root"}, n.certificate("kube-apiserver-etcd-client")
		}, "snapshot-auth", Error, "not a user there"},
		{"authentication is enabled in the snapshot for the API server's certificate", func(n *fakeNode, f *Facts, s *snapshot.Info, _ *Choices) {
			s.AuthEnabled, s.AuthUsers, f.API.EtcdCert = true, []string{"kube-apiserver-etcd-client", "root"}, n.certificate("kube-apiserver-etcd-client")
		}, "snapshot-auth", Pass, "is a user"},
		{"authentication is enabled in the snapshot, and the certificate can't be read", func(n *fakeNode, f *Facts, s *snapshot.Info, _ *Choices) {
			s.AuthEnabled, f.API.EtcdCert = true, filepath.Join(n.root, "missing.crt")
		}, "snapshot-auth", Error, "can't be read"},
		{"authentication is enabled in the snapshot, and etcd speaks http", func(_ *fakeNode, f *Facts, s *snapshot.Info, _ *Choices) {
			s.AuthEnabled, f.Etcd.ClientCertAuth, f.Etcd.TrustedCA = true, false, ""
		}, "snapshot-auth", Error, "request client certificates"},
		{"no authentication", nil, "snapshot-auth", Pass, "not enabled"},
		{"the running etcd refuses this node", func(_ *fakeNode, f *Facts, _ *snapshot.Info, _ *Choices) {
			f.Live.Denied = errors.New("etcdserver: permission denied")
		}, "etcd-access", Warn, "authentication enabled"},
		{"kube-apiserver looks elsewhere", func(_ *fakeNode, f *Facts, _ *snapshot.Info, _ *Choices) { f.API.EtcdPrefix = "/kubernetes.io" }, "snapshot-prefix", Error, "blank cluster"},
		{"OpenShift's prefix on both sides", func(_ *fakeNode, f *Facts, s *snapshot.Info, _ *Choices) {
			f.API.EtcdPrefix, s.Prefix = "/kubernetes.io", "/kubernetes.io"
		}, "snapshot-prefix", Pass, "/kubernetes.io"},
		{"keys of before kube-apiserver was moved to another prefix", func(_ *fakeNode, f *Facts, s *snapshot.Info, _ *Choices) {
			f.API.EtcdPrefix, s.Prefixes = "/kubernetes.io", []string{"/kubernetes.io", "/registry"}
		}, "snapshot-prefix", Warn, "several"},
		{"a second etcd for events", func(n *fakeNode, f *Facts, _ *snapshot.Info, _ *Choices) {
			n.secondEtcd("etcd-events", "4", "lib/etcd-events", "/events#https://127.0.0.1:4379")
			*f = *n.facts()
		}, "stray-manifests", Pass, "defined once"},
		{"a second etcd for events is named, and what it holds", func(n *fakeNode, f *Facts, _ *snapshot.Info, _ *Choices) {
			n.secondEtcd("etcd-events", "4", "lib/etcd-events", "/events#https://127.0.0.1:4379")
			*f = *n.facts()
		}, "other-etcds", Pass, "etcd-events.yaml is another etcd"},
		{"a second etcd whose name comes first isn't the one", func(n *fakeNode, f *Facts, _ *snapshot.Info, _ *Choices) {
			n.secondEtcd("a-etcd", "4", "lib/etcd-events", "")
			*f = *n.facts()
		}, "etcd-servers", Pass, "is this etcd"},
		{"more than events is kept in another etcd", func(_ *fakeNode, f *Facts, _ *snapshot.Info, _ *Choices) {
			f.API.EtcdServersOverrides = []string{"/events#https://10.0.0.9:2379", "/secrets#https://10.0.0.9:2379"}
		}, "other-etcds", Warn, "not restored: events, secrets"},
		{"a second etcd on the same data", func(n *fakeNode, f *Facts, _ *snapshot.Info, _ *Choices) {
			n.secondEtcd("etcd-events", "4", "lib/etcd", "")
			*f = *n.facts()
		}, "stray-manifests", Error, "etcd-events.yaml is a second etcd"},
		{"a second etcd on the same ports", func(n *fakeNode, f *Facts, _ *snapshot.Info, _ *Choices) {
			n.secondEtcd("etcd-events", "2", "lib/etcd-events", "")
			*f = *n.facts()
		}, "stray-manifests", Error, "etcd-events.yaml is a second etcd"},
		{"no quota, as etcd reads it", func(_ *fakeNode, f *Facts, s *snapshot.Info, _ *Choices) { s.TotalSize, f.Etcd.QuotaBytes = 3<<30, -1 }, "snapshot-alarms", Pass, "no quota"},
		{"a quota of 0 is etcd's default", func(_ *fakeNode, f *Facts, s *snapshot.Info, _ *Choices) { s.TotalSize, f.Etcd.QuotaBytes = 3<<30, 0 }, "snapshot-alarms", Error, "2.1 GB"},
		{"a service range that isn't masked", func(_ *fakeNode, f *Facts, s *snapshot.Info, _ *Choices) {
			f.API.ServiceCIDRs, s.ServiceCIDRs = []string{"10.97.0.0/12"}, []string{"10.96.0.0/12"}
		}, "snapshot-services", Pass, "10.96.0.0/12"},
		{"two stacks, the second in another spelling", func(_ *fakeNode, f *Facts, s *snapshot.Info, _ *Choices) {
			f.API.ServiceCIDRs, s.ServiceCIDRs = []string{"10.200.0.0/16", "FD00:0::1/108"}, []string{"fd00::/108"}
		}, "snapshot-services", Pass, "fd00::/108"},
		{"another service range", func(_ *fakeNode, f *Facts, s *snapshot.Info, _ *Choices) {
			f.API.ServiceCIDRs, s.ServiceCIDRs = []string{"10.97.0.0/16"}, []string{"10.96.0.0/12"}
		}, "snapshot-services", Error, "10.97.0.0/16"},
		{"another service range, before Kubernetes 1.33", func(_ *fakeNode, f *Facts, s *snapshot.Info, _ *Choices) {
			f.API.ServiceCIDRs, s.ServiceIP = []string{"10.97.0.0/16"}, "10.96.0.1"
		}, "snapshot-services", Error, "10.96.0.1"},
		{"the service's address is in the range, before Kubernetes 1.33", func(_ *fakeNode, f *Facts, s *snapshot.Info, _ *Choices) {
			f.API.ServiceCIDRs, s.ServiceIP = []string{"10.97.0.0/12"}, "10.96.0.1"
		}, "snapshot-services", Pass, "10.96.0.1"},
		{"row 36: localhost is this etcd", func(_ *fakeNode, f *Facts, _ *snapshot.Info, _ *Choices) {
			f.API.EtcdServers = []string{"https://localhost:2379"}
		}, "etcd-servers", Pass, "is this etcd"},
		{"row 36: a name in the pod's hostAliases is this etcd", func(_ *fakeNode, f *Facts, _ *snapshot.Info, _ *Choices) {
			f.API.EtcdServers = []string{"https://etcd.example.internal:2379"}
			f.API.pod().File.Pod.Spec.HostAliases = []corev1.HostAlias{{IP: "10.77.0.11", Hostnames: []string{"etcd.example.internal"}}}
		}, "etcd-servers", Pass, "is this etcd"},
		{"row 36: a name that leads nowhere", func(_ *fakeNode, f *Facts, _ *snapshot.Info, _ *Choices) {
			f.API.EtcdServers = []string{"https://etcd.invalid:2379"}
		}, "etcd-servers", Error, "etcd.invalid"},
		{"row 36: etcd listens everywhere, and the API server asks another machine", func(_ *fakeNode, f *Facts, _ *snapshot.Info, _ *Choices) {
			f.Etcd.ListenClientURLs, f.API.EtcdServers = []string{"https://0.0.0.0:2379"}, []string{"https://198.51.100.9:2379"}
		}, "etcd-servers", Error, "198.51.100.9"},
		{"row 36: etcd listens everywhere, and the API server asks this machine", func(_ *fakeNode, f *Facts, _ *snapshot.Info, _ *Choices) {
			f.Etcd.ListenClientURLs, f.API.EtcdServers = []string{"https://0.0.0.0:2379"}, []string{"https://127.0.0.1:2379"}
		}, "etcd-servers", Pass, "is this etcd"},
		{"a node of the snapshot ran a newer kubelet", func(_ *fakeNode, _ *Facts, s *snapshot.Info, _ *Choices) {
			s.KubeletVersions = map[string]int{"v1.33.1": 1, "v1.34.9": 4, "v1.35.0": 2}
		}, "snapshot-kubelets", Warn, "2 of the snapshot's nodes ran a newer kubelet than this kube-apiserver, 1.34.4: v1.35.0 (2)"},
		{"no node of the snapshot ran a newer kubelet", func(_ *fakeNode, _ *Facts, s *snapshot.Info, _ *Choices) {
			s.KubeletVersions = map[string]int{"v1.33.1": 1, "v1.34.9": 4}
		}, "snapshot-kubelets", Pass, "none is newer"},
		{"row 24: encrypted, and kube-apiserver has no keys", func(n *fakeNode, _ *Facts, s *snapshot.Info, _ *Choices) {
			*s = *n.fixture("encrypted")
		}, "snapshot-encryption", Error, "which has no --encryption-provider-config, can't read secrets encrypted with aescbc:key1 (1): no matching prefix found"},
		{"row 24: encrypted with a key that kube-apiserver doesn't have", func(n *fakeNode, f *Facts, s *snapshot.Info, _ *Choices) {
			*s, f.API.EncryptionConfig = *n.fixture("encrypted"), n.encryption("key2", "  - identity: {}\n")
		}, "snapshot-encryption", Error, "no matching key"},
		{"row 24: the same key name has another secret", func(n *fakeNode, f *Facts, s *snapshot.Info, _ *Choices) {
			*s, f.API.EncryptionConfig = *n.fixture("encrypted"), n.encryption("key1", "  - identity: {}\n")
		}, "snapshot-encryption", Error, "encryption.yaml can't read secrets encrypted with aescbc:key1 (1): invalid"},
		{"row 24: plain text, and no identity", func(n *fakeNode, f *Facts, s *snapshot.Info, _ *Choices) {
			*s, f.API.EncryptionConfig = *n.fixture("before"), n.encryption("key1", "")
		}, "snapshot-encryption", Error, "encryption.yaml can't read secrets in plain text"},
		{"row 24: plain text, and identity", func(n *fakeNode, f *Facts, s *snapshot.Info, _ *Choices) {
			*s, f.API.EncryptionConfig = *n.fixture("before"), n.encryption("key1", "  - identity: {}\n")
		}, "snapshot-encryption", Pass, "nothing in the snapshot is encrypted"},
		{"row 24: a configuration that kube-apiserver refuses", func(n *fakeNode, f *Facts, s *snapshot.Info, _ *Choices) {
			*s, f.API.EncryptionConfig = *n.fixture("before"), n.encryption("key1", "  - identitty: {}\n")
		}, "snapshot-encryption", Error, "can't be used"},
		{"a KMS plugin's socket is missing", func(n *fakeNode, f *Facts, _ *snapshot.Info, _ *Choices) {
			f.API.EncryptionConfig = n.encryption("key1", "  - kms: {apiVersion: v2, name: vault, endpoint: unix:///etc/kubernetes/pki/no-such.sock}\n")
			f.APIReady = false
		}, "kms-plugin", Error, "vault at /etc/kubernetes/pki/no-such.sock"},
		{"a KMS plugin's socket isn't on the node, and kube-apiserver is ready", func(n *fakeNode, f *Facts, _ *snapshot.Info, _ *Choices) {
			f.API.EncryptionConfig = n.encryption("key1", "  - kms: {apiVersion: v1, name: vault, endpoint: unix:///in/the/image.sock}\n")
		}, "kms-plugin", Warn, "none of the volumes"},
		{"more nodes in the snapshot than are listed", func(_ *fakeNode, _ *Facts, s *snapshot.Info, _ *Choices) {
			s.Nodes, s.More = []snapshot.Object{{Name: "other"}}, map[string]int{"nodes": 990_000}
		}, "snapshot-node", Warn, "990001 nodes"},
		{"a crowd of other nodes, with names of their own", func(_ *fakeNode, _ *Facts, s *snapshot.Info, _ *Choices) {
			s.Nodes = nil
			for range 10_000 {
				s.Nodes = append(s.Nodes, snapshot.Object{Name: "x\x1b]0;"})
			}
		}, "snapshot-node", Error, "x]0;, x]0;, x]0;, x]0;, x]0;, x]0;, x]0;, x]0; and 9992 more"},
		{"row 25: another cluster's snapshot", func(_ *fakeNode, _ *Facts, s *snapshot.Info, _ *Choices) {
			s.Nodes = []snapshot.Object{{Name: "other"}}
		}, "snapshot-node", Error, "other"},
		{"no Kubernetes in the snapshot", func(_ *fakeNode, _ *Facts, s *snapshot.Info, _ *Choices) { s.Prefix, s.Namespaces = "", nil }, "snapshot-node", Error, "no Kubernetes"},
		{"row 39: nobody else is known to say where the data is", nil, "data-directory", Pass, "lib/etcd"},
		{"row 39: all three agree", func(n *fakeNode, f *Facts, _ *snapshot.Info, _ *Choices) {
			f.Mounts, f.Kubeadm = mounted(f.Etcd.DataDir.HostPath), KubeadmFacts{DataDir: f.Etcd.DataDir.HostPath + "/"}
		}, "data-directory", Pass, "and kubeadm-config"},
		{"row 39: all three agree, through a link", func(n *fakeNode, f *Facts, _ *snapshot.Info, _ *Choices) {
			link := filepath.Join(n.root, "link")
			n.must(os.Symlink(f.Etcd.DataDir.HostPath, link))
			f.Mounts, f.Kubeadm = mounted(link), KubeadmFacts{DataDir: link}
		}, "data-directory", Pass, "and kubeadm-config"},
		{"row 39: kubeadm-config is out of step, and the restore sets it", func(n *fakeNode, f *Facts, _ *snapshot.Info, _ *Choices) {
			f.Mounts, f.Kubeadm = mounted(f.Etcd.DataDir.HostPath), KubeadmFacts{DataDir: "/var/lib/etcd"}
		}, "data-directory", Pass, "the restore sets it"},
		{"row 39: kubeadm-config is out of step", func(n *fakeNode, f *Facts, s *snapshot.Info, _ *Choices) {
			f.Mounts, f.Kubeadm, s.Kubeadm = mounted(f.Etcd.DataDir.HostPath), KubeadmFacts{DataDir: "/var/lib/etcd"}, nil
		}, "data-directory", Warn, "kubeadm-config is out of step: it names /var/lib/etcd"},
		{"row 39: the running etcd is out of step", func(n *fakeNode, f *Facts, _ *snapshot.Info, _ *Choices) {
			f.Mounts, f.Kubeadm = mounted("/var/lib/etcd-before"), KubeadmFacts{DataDir: f.Etcd.DataDir.HostPath}
		}, "data-directory", Warn, "the running etcd is out of step with both"},
		{"row 39: etcd.yaml is out of step", func(n *fakeNode, f *Facts, _ *snapshot.Info, _ *Choices) {
			f.Mounts, f.Kubeadm = mounted("/var/lib/etcd-before"), KubeadmFacts{DataDir: "/var/lib/etcd-before"}
		}, "data-directory", Warn, "etcd.yaml is out of step"},
		{"row 39: kubeadm has rendered etcd.yaml, and kubelet hasn't taken it up", func(n *fakeNode, f *Facts, _ *snapshot.Info, _ *Choices) {
			live := filepath.Join(n.root, "lib/etcd-live")
			n.must(os.MkdirAll(filepath.Join(live, "member"), 0o700))
			f.Mounts = append(mounted("/etc/kubernetes/pki/etcd"), node.Mount{Host: live, Container: live})
			f.Mounts[0].Container = "/etc/kubernetes/pki/etcd"
		}, "data-directory", Warn, "lib/etcd-live"},
		{"row 40: a node joined after the snapshot", func(_ *fakeNode, f *Facts, _ *snapshot.Info, _ *Choices) {
			f.Nodes = []node.Object{{Name: "cp1"}, {Name: "worker-9"}}
		}, "snapshot-nodes", Warn, "worker-9"},
		{"row 40: all nodes are in it", func(_ *fakeNode, f *Facts, _ *snapshot.Info, _ *Choices) {
			f.Nodes = []node.Object{{Name: "cp1"}}
		}, "snapshot-nodes", Pass, "all 1"},
		{"row 26: a peer URL on localhost", func(_ *fakeNode, f *Facts, _ *snapshot.Info, _ *Choices) {
			f.Etcd.AdvertisePeerURLs = []string{"http://localhost:2380"}
		}, "member-name", Warn, "no other node"},
		{"row 27: several members run", func(_ *fakeNode, f *Facts, _ *snapshot.Info, _ *Choices) {
			f.Live.Members = append(f.Live.Members, node.EtcdMember{Name: "cp2"})
		}, "topology", Error, "cp2"},
		{"row 27: several members in the manifest, etcd is down", func(_ *fakeNode, f *Facts, _ *snapshot.Info, _ *Choices) {
			f.Live = nil
			f.Etcd.InitialCluster = append(f.Etcd.InitialCluster, manifest.Member{Name: "cp2"})
		}, "topology", Error, "cp2"},
		{"row 27: a member that joined, etcd is down", func(_ *fakeNode, f *Facts, _ *snapshot.Info, _ *Choices) {
			f.Live, f.Etcd.InitialClusterState = nil, "existing"
		}, "topology", Error, "existing"},
		{"row 27: several members in the snapshot", func(_ *fakeNode, _ *Facts, s *snapshot.Info, _ *Choices) {
			s.Members = append(s.Members, snapshot.Member{Name: "cp2"})
		}, "snapshot-members", Error, "cp2"},
		{"row 34: a certificate that can't be read", func(n *fakeNode, f *Facts, _ *snapshot.Info, _ *Choices) {
			f.Etcd.Cert = filepath.Join(n.root, "pki/missing.crt")
		}, "certificates", Error, "missing.crt"},
		{"row 34: no certificate can be read, for one reason", func(n *fakeNode, f *Facts, _ *snapshot.Info, _ *Choices) {
			for i, p := range []*string{&f.Etcd.Cert, &f.Etcd.PeerCert, &f.Etcd.TrustedCA, &f.API.ServingCert, &f.API.EtcdCert, &f.API.ClientCA} {
				*p = fmt.Sprintf("/no/%d.crt", i)
			}
		}, "certificates", Error, "6 of 6 missing: /no/0.crt, /no/1.crt and 4 more"},
		{"row 36: the API server asks another etcd", func(_ *fakeNode, f *Facts, _ *snapshot.Info, _ *Choices) {
			f.API.EtcdServers = []string{"https://10.0.0.9:2379"}
		}, "etcd-servers", Error, "10.0.0.9"},
		{"row 37: nobody may ask for readiness", func(_ *fakeNode, f *Facts, _ *snapshot.Info, _ *Choices) {
			f.API.AnonymousAuth, f.Reach.API.Kubeconfig = false, ""
		}, "api-manifest", Error, "anonymous"},
		{"kubelet is down", func(_ *fakeNode, f *Facts, _ *snapshot.Info, _ *Choices) { f.KubeletErr = errors.New("refused") }, "kubelet", Error, "refused"},
		{"another user's process calls itself kubelet, and no other does", func(_ *fakeNode, f *Facts, _ *snapshot.Info, _ *Choices) {
			f.Kubelet.Ignored = []string{"process 13 is named kubelet, but it belongs to user 65534"}
		}, "kubelet-process", Warn, "process 13 is named kubelet, but it belongs to user 65534: ignored"},
		{"another user's process calls itself kubelet beside kubelet", func(_ *fakeNode, f *Facts, _ *snapshot.Info, _ *Choices) {
			f.Kubelet.PID, f.Kubelet.Ignored = 42, []string{"process 13 is named kubelet, but it belongs to user 65534"}
		}, "kubelet-process", Pass, "process 42; process 13 is named kubelet, but it belongs to user 65534: ignored"},
		{"the container runtime is down", func(_ *fakeNode, f *Facts, _ *snapshot.Info, _ *Choices) { f.RuntimeErr = errors.New("no socket") }, "container-runtime", Error, "no socket"},
		{"files of other flags lie on the data volume", func(_ *fakeNode, f *Facts, _ *snapshot.Info, _ *Choices) {
			f.Etcd.OnDataVolume = []string{"--cert-file"}
		}, "data-volume", Error, "--cert-file"},
		{"an earlier run is unfinished", func(_ *fakeNode, f *Facts, _ *snapshot.Info, _ *Choices) {
			f.Unfinished = &RunInfo{Run: "20260101-000000", State: RunUnfinished}
		}, "earlier-run", Error, "20260101-000000"},
		{"no bump is the user's choice", func(_ *fakeNode, _ *Facts, _ *snapshot.Info, c *Choices) { c.Bump = &bump }, "target", Pass, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			n := newFakeNode(t)
			f, s, ch := n.facts(), *snapshotOfTheTests, Choices{}
			if c.spoil != nil {
				c.spoil(n, f, &s, &ch)
			}
			verdicts := Check(t.Context(), f, &s, ch)
			for _, v := range verdicts {
				if v.Check != c.check {
					continue
				}
				if v.Level != c.level || !strings.Contains(v.Cause, c.says) {
					t.Errorf("%+v, want %s with %q", v, c.level, c.says)
				}
				if v.Level == Error && v.Hint == "" && c.check != "certificates" {
					t.Errorf("no hint: %+v", v)
				}
				return
			}
			t.Errorf("no verdict %s in %+v", c.check, verdicts)
		})
	}
}

func TestAnErrorIsAcceptedByNameOnlyWhereSomebodyMayKnowBetter(t *testing.T) {
	vs := []Verdict{
		{Check: "a", Level: Pass},
		{Check: "b", Level: Warn},
		{Check: "c", Level: Error, Overridable: true},
		{Check: "d", Level: Error},
	}
	refused := Accept(vs, []string{"a", "b", "c", "d", "e"})
	if got := strings.Join(refused, ","); got != "d,e" {
		t.Errorf("refused %s", got)
	}
	if b := Blocking(vs); len(b) != 1 || b[0].Check != "d" {
		t.Errorf("blocking: %+v", b)
	}
}

func TestTheBumpGoesBeyondTheLiveRevision(t *testing.T) {
	for _, c := range []struct {
		name     string
		revision int64
		live     *node.EtcdStatus
		want     uint64
	}{
		{"etcd can't be asked", 500, nil, 1_000_000_000},
		{"a young cluster gets a million", 500, &node.EtcdStatus{Revision: 900}, 900 + 1_000_000 - 500},
		{"an old one a fifth", 50_000_000, &node.EtcdStatus{Revision: 60_000_000}, 60_000_000 + 12_000_000 - 50_000_000},
		{"the live one is at the end of what an int64 holds", 500, &node.EtcdStatus{Revision: math.MaxInt64 - 7}, math.MaxInt64 - 500},
		{"so is the snapshot's", math.MaxInt64, &node.EtcdStatus{Revision: math.MaxInt64}, 1},
		{"the snapshot's is below zero", math.MinInt64, &node.EtcdStatus{Revision: 900}, 900 + 1_000_000},
		{"a snapshot from the future needs none", 9_000_000, &node.EtcdStatus{Revision: 10}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := bumpBeyond(c.revision, c.live); got != c.want {
				t.Errorf("%d, want %d", got, c.want)
			}
		})
	}
}

func TestTheNewDataDirectoryIsASiblingWithTheRunsName(t *testing.T) {
	dir := t.TempDir()
	for old, want := range map[string]string{
		"etcd":                   "etcd-20261120-212605",
		"etcd/":                  "etcd-20261120-212605",
		"etcd-20260101-000000":   "etcd-20261120-212605",
		"etcd-20260101-000000-2": "etcd-20261120-212605",
		"etcd-data":              "etcd-data-20261120-212605",
	} {
		if got := newDataDir(filepath.Join(dir, old), "20261120-212605"); got != filepath.Join(dir, want) {
			t.Errorf("%s → %s, want %s", old, got, want)
		}
	}
}

// certificate is one with that common name.
func (n *fakeNode) certificate(name string) string {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		n.t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		n.t.Fatal(err)
	}
	n.write("pki/"+name+".crt", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return filepath.Join(n.root, "pki", name+".crt")
}

// mounted is an etcd container as kubeadm's manifest has it, with its data at a
// place on the node.
func mounted(dataDir string) []node.Mount {
	return []node.Mount{{Host: dataDir, Container: "/var/lib/etcd"}}
}

// encryption is an EncryptionConfiguration for secrets with one key of aescbc,
// and more.
func (n *fakeNode) encryption(key, more string) string {
	n.write("pki/encryption.yaml", []byte("apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [secrets]\n"+
		"  providers:\n  - aescbc: {keys: [{name: "+key+", secret: MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=}]}\n"+more))
	return filepath.Join(n.root, "pki/encryption.yaml")
}

// secondEtcd puts another etcd into the manifest directory, whose ports begin
// with a digit, and what kube-apiserver keeps there.
func (n *fakeNode) secondEtcd(name, digit, dir, override string) {
	data, err := os.ReadFile(filepath.Join("testdata", "manifests", "etcd.yaml"))
	if err != nil {
		n.t.Fatal(err)
	}
	text := strings.NewReplacer("  name: etcd\n  namespace", "  name: "+name+"\n  namespace", ":238", ":"+digit+"38", ":2379", ":"+digit+"379",
		"path: /var/lib/etcd\n", "path: "+filepath.Join(n.root, dir)+"\n").Replace(string(data))
	n.write("manifests/"+name+".yaml", []byte(text))
	if override == "" {
		return
	}
	if data, err = os.ReadFile(filepath.Join(n.root, "manifests/kube-apiserver.yaml")); err != nil {
		n.t.Fatal(err)
	}
	n.write("manifests/kube-apiserver.yaml", []byte(strings.Replace(string(data), "    - --etcd-servers=", "    - --etcd-servers-overrides="+override+"\n    - --etcd-servers=", 1)))
}

// fixture is one of the snapshots of a real cluster.
func (n *fakeNode) fixture(name string) *snapshot.Info {
	packed, err := os.Open(filepath.Join("..", "snapshot", "testdata", name+".db.gz"))
	if err != nil {
		n.t.Fatal(err)
	}
	defer packed.Close()
	z, err := gzip.NewReader(packed)
	if err != nil {
		n.t.Fatal(err)
	}
	data, err := io.ReadAll(z)
	if err != nil {
		n.t.Fatal(err)
	}
	n.write(name+".db", data)
	info, err := snapshot.Inspect(n.t.Context(), filepath.Join(n.root, name+".db"), nil)
	if err != nil {
		n.t.Fatal(err)
	}
	return info
}

// What --override takes is what verdicts are called.
func TestEveryCheckHasANameOfItsOwn(t *testing.T) {
	titles := map[string]string{}
	for _, c := range Checks() {
		if titles[c.Name] != "" || c.Title == "" {
			t.Errorf("%q is there twice, or has no title", c.Name)
		}
		titles[c.Name] = c.Title
	}
	n := newFakeNode(t)
	for _, v := range Check(t.Context(), n.facts(), snapshotOfTheTests, Choices{}) {
		if titles[v.Check] == "" || v.Title == "" {
			t.Errorf("%+v is none of %s", v, titles)
		}
	}
}

// A function that checks and isn't in the table checks nothing.
func TestEveryCheckIsInTheTable(t *testing.T) {
	files, err := filepath.Glob("check*.go")
	if err != nil {
		t.Fatal(err)
	}
	defined, used := map[string]bool{}, map[string]bool{}
	for _, f := range append(files, "etcds.go", "older.go") {
		if strings.HasSuffix(f, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), f, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				if r := n.Type.Results; n.Recv != nil && r != nil && len(r.List) == 1 && len(n.Type.Params.List) == 0 {
					if is, ok := r.List[0].Type.(*ast.Ident); ok && is.Name == "Verdict" {
						defined[n.Name.Name] = true
					}
				}
			case *ast.SelectorExpr:
				used[n.Sel.Name] = true
			}
			return true
		})
	}
	for name := range defined {
		if !used[name] {
			t.Errorf("%s is in no table", name)
		}
	}
	if len(defined) < 30 {
		t.Errorf("%d are found: the test sees too little", len(defined))
	}
}
