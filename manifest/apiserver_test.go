package manifest

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func kubeadmAPIServer() *APIServer {
	return &APIServer{
		APISettings: APISettings{
			EtcdServers:      []string{"https://127.0.0.1:2379"},
			EtcdPrefix:       "/registry",
			EtcdCA:           "/etc/kubernetes/pki/etcd/ca.crt",
			EtcdCert:         "/etc/kubernetes/pki/apiserver-etcd-client.crt",
			EtcdKey:          "/etc/kubernetes/pki/apiserver-etcd-client.key",
			ServingCert:      "/etc/kubernetes/pki/apiserver.crt",
			ClientCA:         "/etc/kubernetes/pki/ca.crt",
			KubeletCert:      "/etc/kubernetes/pki/apiserver-kubelet-client.crt",
			KubeletKey:       "/etc/kubernetes/pki/apiserver-kubelet-client.key",
			SecurePort:       6443,
			AdvertiseAddress: "10.77.0.11",
			AnonymousAuth:    true,
			ServiceCIDRs:     []string{"10.96.0.0/12"},
			Image:            "registry.k8s.io/kube-apiserver:v1.34.4",
			Version:          "1.34.4",
			ReadyURL:         "https://10.77.0.11:6443/readyz",
		},
		Container:     "kube-apiserver",
		StartupBudget: 240 * time.Second,
		GracePeriod:   30 * time.Second,
		ProbeURLs: ProbeURLs{
			Startup:   "https://10.77.0.11:6443/livez",
			Liveness:  "https://10.77.0.11:6443/livez",
			Readiness: "https://10.77.0.11:6443/readyz",
		},
	}
}

func TestReadAPIServer(t *testing.T) {
	base := fixture(t, "kubeadm-1.34/kube-apiserver.yaml")
	tests := []struct {
		name string
		edit []string
		want func(*APIServer)
	}{
		{"kubeadm's", nil, func(*APIServer) {}},
		{"two stacks, anonymous off, several etcds", []string{
			"--service-cluster-ip-range=10.96.0.0/12", "--service-cluster-ip-range=10.96.0.0/12,fd00::/108",
			"    - --allow-privileged=true\n", "    - --anonymous-auth=false\n",
			"--etcd-servers=https://127.0.0.1:2379", "--etcd-servers=https://a:2379,https://b:2379",
		}, func(a *APIServer) {
			a.ServiceCIDRs = []string{"10.96.0.0/12", "fd00::/108"}
			a.AnonymousAuth = false
			a.EtcdServers = []string{"https://a:2379", "https://b:2379"}
		}},
		{"encryption at rest, another prefix, events elsewhere", []string{
			"    - --allow-privileged=true\n",
			"    - --encryption-provider-config=/etc/kubernetes/pki/enc.yaml\n    - --etcd-prefix=/k8s\n    - --etcd-servers-overrides=/events#https://c:2379;https://d:2379\n",
		}, func(a *APIServer) {
			a.EncryptionConfig, a.EtcdPrefix = "/etc/kubernetes/pki/enc.yaml", "/k8s"
			a.EtcdServersOverrides = []string{"/events#https://c:2379;https://d:2379"}
		}},
		{"a prefix as OpenShift writes it", []string{"    - --allow-privileged=true\n", "    - --etcd-prefix=kubernetes.io/\n"}, func(a *APIServer) {
			a.EtcdPrefix = "/kubernetes.io"
		}},
		{"certificates elsewhere on the node", []string{"      path: /etc/kubernetes/pki\n", "      path: /opt/pki\n"}, func(a *APIServer) {
			a.EtcdCA, a.EtcdCert, a.EtcdKey = "/opt/pki/etcd/ca.crt", "/opt/pki/apiserver-etcd-client.crt", "/opt/pki/apiserver-etcd-client.key"
			a.KubeletCert, a.KubeletKey = "/opt/pki/apiserver-kubelet-client.crt", "/opt/pki/apiserver-kubelet-client.key"
			a.ServingCert, a.ClientCA = "/opt/pki/apiserver.crt", "/opt/pki/ca.crt"
		}},
		{"another port, in both places", []string{"6443", "443", "endpoint: 10.77.0.11:443", "endpoint: x"}, func(a *APIServer) {
			a.SecurePort = 443
			a.ReadyURL = "https://10.77.0.11:443/readyz"
			a.ProbeURLs = ProbeURLs{"https://10.77.0.11:443/livez", "https://10.77.0.11:443/livez", "https://10.77.0.11:443/readyz"}
		}},
		{"a probe that asks a sidecar", []string{"        scheme: HTTPS\n", "", "containerPort: 6443", "containerPort: 3990", "        host: 10.77.0.11\n", "        host: 127.0.0.1\n"}, func(a *APIServer) {
			a.ProbeURLs = ProbeURLs{"http://127.0.0.1:3990/livez", "http://127.0.0.1:3990/livez", "http://127.0.0.1:3990/readyz"}
		}},
		{"a probe that asks a sidecar over HTTPS", []string{"containerPort: 6443", "containerPort: 3990", "        host: 10.77.0.11\n", "        host: 127.0.0.1\n"}, func(a *APIServer) {
			a.ProbeURLs = ProbeURLs{"https://127.0.0.1:3990/livez", "https://127.0.0.1:3990/livez", "https://127.0.0.1:3990/readyz"}
		}},
		{"a probe at an address of its own", []string{"        host: 10.77.0.11\n", "        host: 127.0.0.1\n"}, func(a *APIServer) {
			a.ReadyURL = "https://127.0.0.1:6443/readyz"
			a.ProbeURLs = ProbeURLs{"https://127.0.0.1:6443/livez", "https://127.0.0.1:6443/livez", "https://127.0.0.1:6443/readyz"}
		}},
		{"probes without a host", []string{"        host: 10.77.0.11\n", ""}, func(*APIServer) {}},
		{"bound to one address, no readiness probe", []string{"    - --allow-privileged=true\n", "    - --bind-address=10.0.0.9\n", "readinessProbe:", "readinessProbeGone:"}, func(a *APIServer) {
			a.BindAddress, a.ReadyURL, a.ProbeURLs.Readiness = "10.0.0.9", "https://10.0.0.9:6443/readyz", ""
		}},
		{"no address at all", []string{"    - --advertise-address=10.77.0.11\n", "", "        host: 10.77.0.11\n", ""}, func(a *APIServer) {
			a.AdvertiseAddress, a.ReadyURL = "", "https://127.0.0.1:6443/readyz"
			a.ProbeURLs = ProbeURLs{"https://127.0.0.1:6443/livez", "https://127.0.0.1:6443/livez", "https://127.0.0.1:6443/readyz"}
		}},
		{"an address kubelet fills in", []string{
			"--advertise-address=10.77.0.11", "--advertise-address=$(IP)", "        host: 10.77.0.11\n", "",
			"    image:", "    env:\n    - name: IP\n      valueFrom: {fieldRef: {fieldPath: status.hostIP}}\n    image:",
		}, func(a *APIServer) {
			a.AdvertiseAddress, a.ReadyURL = "", "https://127.0.0.1:6443/readyz"
			a.ProbeURLs = ProbeURLs{"https://127.0.0.1:6443/livez", "https://127.0.0.1:6443/livez", "https://127.0.0.1:6443/readyz"}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			want := kubeadmAPIServer()
			tt.want(want)
			a, err := ReadAPIServer(manifestFile(t, replaced(t, base, tt.edit...)))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, a, cmpopts.IgnoreFields(APIServer{}, "File", "Flags")); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestReadAPIServerRefusesWhatItCantKnow(t *testing.T) {
	base := fixture(t, "kubeadm-1.34/kube-apiserver.yaml")
	tests := []struct {
		name  string
		edit  []string
		code  string
		cause string
	}{
		{"a port that is none", []string{"--secure-port=6443", "--secure-port=644300"}, CodeArgument, "644300"},
		{"a boolean that is none", []string{"--allow-privileged=true", "--anonymous-auth=perhaps"}, CodeArgument, "perhaps"},
		{"a certificate that isn't on the node", []string{"--etcd-cafile=/etc/kubernetes/pki/etcd/ca.crt", "--etcd-cafile=/opt/ca.crt"}, CodeNotHostPath, "--etcd-cafile"},
		{"a shell", []string{"    - kube-apiserver\n", "    - /bin/sh\n    - -c\n    - exec kube-apiserver\n"}, CodeShell, "/bin/sh"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ReadAPIServer(manifestFile(t, replaced(t, base, tt.edit...)))
			wantProblem(t, err, tt.code, tt.cause)
		})
	}
}

func TestFlagsOfTheControllers(t *testing.T) {
	for _, name := range []string{"kube-controller-manager", "kube-scheduler"} {
		_, flags, err := ReadFlags(manifestFile(t, fixture(t, "kubeadm-1.34/"+name+".yaml")), name)
		if err != nil {
			t.Fatal(err)
		}
		if v, _ := flags.Get("leader-elect"); v != "true" {
			t.Errorf("%s: --leader-elect is %q", name, v)
		}
	}
}
