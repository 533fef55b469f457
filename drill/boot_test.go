package drill

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"etcd-rewind/manifest"
	"etcd-rewind/steps"
)

func apiServer(t *testing.T, flags ...string) *manifest.APIServer {
	t.Helper()
	dir := t.TempDir()
	text := "apiVersion: v1\nkind: Pod\nmetadata: {name: kube-apiserver, namespace: kube-system}\nspec:\n  containers:\n  - name: kube-apiserver\n    image: registry.k8s.io/kube-apiserver:v1.34.4\n" +
		"    volumeMounts: [{name: enc, mountPath: /etc/enc}]\n    command:\n    - kube-apiserver\n"
	for _, f := range flags {
		text += "    - " + f + "\n"
	}
	text += "  volumes: [{name: enc, hostPath: {path: " + dir + "}}]\n"
	if err := os.WriteFile(filepath.Join(dir, "kube-apiserver.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	all, err := manifest.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	file, _ := all.Component("kube-apiserver")
	if file == nil {
		t.Fatal("no kube-apiserver in it")
	}
	a, err := manifest.ReadAPIServer(file)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func value(flags []string, name string) string {
	for _, f := range slices.Backward(flags) {
		if v, ok := strings.CutPrefix(f, "--"+name+"="); ok {
			return v
		}
	}
	return ""
}

// What says how objects are stored is the cluster's; whom it listens to and
// whom it calls isn't.
func TestTheAPIServerIsTheClustersAndReachesNobody(t *testing.T) {
	a := apiServer(
		t, "--etcd-servers=https://10.0.0.1:2379", "--etcd-prefix=/other", "--advertise-address=10.0.0.1", "--secure-port=6443",
		"--feature-gates=A=true", "--feature-gates=B=false", "--runtime-config=api/beta=true", "--service-cluster-ip-range=10.96.0.0/12,fd00::/108",
		"--enable-admission-plugins=ImagePolicyWebhook", "--authorization-mode=Webhook", "--authorization-webhook-config-file=/x", "--oidc-issuer-url=https://id.example.com",
		"--audit-webhook-config-file=/y", "--egress-selector-config-file=/z", "--service-account-issuer=https://one", "--service-account-issuer=https://two",
		"--encryption-provider-config=/etc/enc/e.yaml", "--kubelet-client-certificate=/k",
	)
	flags := apiFlags(clusterFlags(a.APISettings, a), "/encryption.yaml")
	for name, want := range map[string]string{
		"etcd-servers": etcdURL, "etcd-prefix": "/other", "advertise-address": "127.0.0.1", "bind-address": "127.0.0.1", "feature-gates": "A=true,B=false",
		"runtime-config": "api/beta=true", "service-cluster-ip-range": "10.96.0.0/12,fd00::/108", "authorization-mode": "RBAC", "anonymous-auth": "false",
		"service-account-issuer": "https://one", "encryption-provider-config": "/encryption.yaml", "watch-cache": "false", "endpoint-reconciler-type": "none",
		"etcd-compaction-interval": "0", "disable-admission-plugins": "MutatingAdmissionWebhook,ValidatingAdmissionWebhook",
	} {
		if got := value(flags, name); got != want {
			t.Errorf("--%s=%s, want %s", name, got, want)
		}
	}
	for _, f := range flags {
		name, v, _ := strings.Cut(f, "=")
		if strings.Contains(name, "webhook-config") || strings.Contains(name, "oidc") || strings.Contains(name, "egress") || strings.Contains(name, "kubelet") || strings.Contains(v, "10.0.0.1") {
			t.Errorf("%s is taken over", f)
		}
	}
}

func TestEtcdHasTheClustersQuotaAndALoopbackOfItsOwn(t *testing.T) {
	flags := etcdFlags("", 8<<30)
	if value(flags, "quota-backend-bytes") != "8589934592" || value(etcdFlags("", 0), "quota-backend-bytes") != "" {
		t.Error(flags)
	}
	for _, f := range flags {
		if name, v, _ := strings.Cut(f, "="); strings.HasSuffix(name, "-urls") && !strings.HasPrefix(v, "https://127.0.0.1:") {
			t.Error(f)
		}
	}
}

// The API server of a drill finds the configuration and the sockets in it where
// the cluster's does.
func TestTheEncryptionConfigurationIsTheClusters(t *testing.T) {
	a := apiServer(t, "--encryption-provider-config=/etc/enc/e.yaml")
	text := `kind: EncryptionConfiguration
apiVersion: apiserver.config.k8s.io/v1
resources:
- resources: [secrets]
  providers:
  - kms: {apiVersion: v2, name: vault, endpoint: "unix:///etc/enc/kms.sock"}
  - kms: {apiVersion: v2, name: abstract, endpoint: "unix:///@kms"}
  - identity: {}
`
	if err := os.WriteFile(a.EncryptionConfig, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	inside, files, err := encryption(steps.APIOfPod(a), a, "")
	want := []bound{{a.EncryptionConfig, "/encryption.yaml"}, {filepath.Join(filepath.Dir(a.EncryptionConfig), "kms.sock"), "/etc/enc/kms.sock"}}
	if err != nil || inside != "/encryption.yaml" || !slices.Equal(files, want) {
		t.Errorf("%s %v %v, want %v", inside, files, err, want)
	}
	if err := os.WriteFile(a.EncryptionConfig, []byte("kind: Secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := encryption(steps.APIOfPod(a), a, ""); err == nil {
		t.Error("a file that kube-apiserver refuses was taken")
	}
	if inside, files, err := encryption(nil, nil, ""); inside != "" || files != nil || err != nil {
		t.Error(inside, files, err)
	}
}
