package manifest

import (
	"path/filepath"
	"testing"
	"time"

	"etcd-rewind/problem"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func manifestFile(t testing.TB, data []byte) *File {
	t.Helper()
	f, err := ReadFile(write(t, filepath.Join(t.TempDir(), "pod.yaml"), data))
	if err != nil {
		t.Fatal(err)
	}
	if f.Err != nil {
		t.Fatal(f.Err)
	}
	return f
}

func kubeadmEtcd() *Etcd {
	return &Etcd{
		Container: "etcd",
		EtcdSettings: EtcdSettings{
			Name: "cp1",
			DataDir: Location{
				Flag: "/var/lib/etcd", Volume: "etcd-data", VolumeIndex: 1, MountPath: "/var/lib/etcd",
				HostPath: "/var/lib/etcd", HostPathType: "DirectoryOrCreate", Path: "/var/lib/etcd",
			},
			AdvertisePeerURLs:   []string{"https://10.77.0.11:2380"},
			ListenPeerURLs:      []string{"https://10.77.0.11:2380"},
			AdvertiseClientURLs: []string{"https://10.77.0.11:2379"},
			ListenClientURLs:    []string{"https://127.0.0.1:2379", "https://10.77.0.11:2379"},
			PeerURLs:            []string{"https://10.77.0.11:2380"},
			Endpoints:           []string{"https://127.0.0.1:2379", "https://10.77.0.11:2379"},
			MetricsURLs:         []string{"http://127.0.0.1:2381"},
			ReadyURLs:           []string{"http://127.0.0.1:2381/readyz"},
			InitialCluster:      []Member{{Name: "cp1", PeerURLs: []string{"https://10.77.0.11:2380"}}},
			InitialClusterState: "new",
			InitialClusterToken: "etcd-cluster",
			Cert:                "/etc/kubernetes/pki/etcd/server.crt",
			Key:                 "/etc/kubernetes/pki/etcd/server.key",
			TrustedCA:           "/etc/kubernetes/pki/etcd/ca.crt",
			PeerCert:            "/etc/kubernetes/pki/etcd/peer.crt",
			PeerKey:             "/etc/kubernetes/pki/etcd/peer.key",
			PeerTrustedCA:       "/etc/kubernetes/pki/etcd/ca.crt",
			ClientCertAuth:      true,
			Image:               "registry.k8s.io/etcd:3.6.10-0",
			Version:             "3.6.10",
		},
		StartupBudget: 240 * time.Second,
		GracePeriod:   30 * time.Second,
		ProbeURLs: ProbeURLs{
			Startup:   "http://127.0.0.1:2381/readyz",
			Liveness:  "http://127.0.0.1:2381/livez",
			Readiness: "http://127.0.0.1:2381/readyz",
		},
	}
}

var withoutSource = cmpopts.IgnoreFields(Etcd{}, "File", "Flags")

func TestReadEtcdOfKubeadm(t *testing.T) {
	for _, name := range []string{"kubeadm-1.34/etcd.yaml", "etcd.json"} {
		e, err := ReadEtcd(manifestFile(t, fixture(t, name)))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(kubeadmEtcd(), e, withoutSource); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestReadEtcdFollowsTheManifest(t *testing.T) {
	base := fixture(t, "kubeadm-1.34/etcd.yaml")
	tests := []struct {
		name string
		edit []string
		want func(*Etcd)
	}{
		{"data on another disk", []string{"path: /var/lib/etcd\n", "path: /mnt/ssd/etcd\n"}, func(e *Etcd) {
			e.DataDir.HostPath, e.DataDir.Path = "/mnt/ssd/etcd", "/mnt/ssd/etcd"
		}},
		{"data below the mount", []string{"--data-dir=/var/lib/etcd", "--data-dir=/var/lib/etcd/data"}, func(e *Etcd) {
			e.DataDir.Flag, e.DataDir.Inside, e.DataDir.Path = "/var/lib/etcd/data", "data", "/var/lib/etcd/data"
		}},
		{"the data directory as two words", []string{"- --data-dir=/var/lib/etcd", "- --data-dir\n    - /var/lib/etcd"}, func(*Etcd) {}},
		{"flags with one dash", []string{"- --", "- -"}, func(*Etcd) {}},
		{"the flags in args", []string{"    - etcd\n", "    - etcd\n    args:\n"}, func(*Etcd) {}},
		{"the data directory in the environment", []string{"    - --data-dir=/var/lib/etcd\n", "", "    image:", "    env:\n    - name: ETCD_DATA_DIR\n      value: /var/lib/etcd\n    image:"}, func(*Etcd) {}},
		{"a WAL directory on the same volume", []string{"    - --name=cp1\n", "    - --name=cp1\n    - --wal-dir=/var/lib/etcd/wal\n"}, func(e *Etcd) {
			l := e.DataDir
			l.Flag, l.Inside, l.Path = "/var/lib/etcd/wal", "wal", "/var/lib/etcd/wal"
			e.WALDir, e.OnDataVolume = &l, []string{"wal-dir"}
		}},
		{"several members, one with two peer URLs", []string{
			"--initial-cluster=cp1=https://10.77.0.11:2380",
			"--initial-cluster=cp1=https://10.77.0.11:2380,cp2=https://10.77.0.12:2380,cp1=https://10.78.0.11:2380",
		}, func(e *Etcd) {
			e.InitialCluster = []Member{
				{"cp1", []string{"https://10.77.0.11:2380", "https://10.78.0.11:2380"}},
				{"cp2", []string{"https://10.77.0.12:2380"}},
			}
		}},
		{"joined later", []string{"    - --name=cp1\n", "    - --name=cp1\n    - --initial-cluster-state=existing\n    - --initial-cluster-token=t\n"}, func(e *Etcd) {
			e.InitialClusterState, e.InitialClusterToken = "existing", "t"
		}},
		{"no initial cluster, no name", []string{"    - --initial-cluster=cp1=https://10.77.0.11:2380\n", "", "    - --name=cp1\n", ""}, func(e *Etcd) {
			e.Name = "default"
			e.InitialCluster = []Member{{"default", e.AdvertisePeerURLs}}
		}},
		{"discovery instead of an initial cluster", []string{"    - --initial-cluster=cp1=https://10.77.0.11:2380\n", "    - --discovery-srv=example.com\n"}, func(e *Etcd) {
			e.InitialCluster = nil
		}},
		{"listening everywhere", []string{
			"--listen-client-urls=https://127.0.0.1:2379,https://10.77.0.11:2379", "--listen-client-urls=https://10.77.0.11:2379,https://0.0.0.0:2379",
			"--listen-metrics-urls=http://127.0.0.1:2381", "--listen-metrics-urls=http://[::]:2381/",
		}, func(e *Etcd) {
			e.ListenClientURLs = []string{"https://10.77.0.11:2379", "https://0.0.0.0:2379"}
			e.Endpoints = []string{"https://127.0.0.1:2379", "https://10.77.0.11:2379"}
			e.MetricsURLs, e.ReadyURLs = []string{"http://[::1]:2381/"}, []string{"http://[::1]:2381/readyz"}
		}},
		{"listening everywhere, as etcd writes it, and on a socket", []string{
			"--listen-client-urls=https://127.0.0.1:2379,https://10.77.0.11:2379", "--listen-client-urls=https://:2379,unix:///var/lib/etcd/etcd.sock",
		}, func(e *Etcd) {
			e.ListenClientURLs = []string{"https://:2379", "unix:///var/lib/etcd/etcd.sock"}
			e.Endpoints = []string{"https://127.0.0.1:2379"}
		}},
		{"no metrics URL", []string{"    - --listen-metrics-urls=http://127.0.0.1:2381\n", ""}, func(e *Etcd) {
			e.MetricsURLs, e.ReadyURLs = nil, []string{"https://127.0.0.1:2379/readyz", "https://10.77.0.11:2379/readyz"}
		}},
		{"no TLS", []string{"    - --cert-file=/etc/kubernetes/pki/etcd/server.crt\n", "", "    - --client-cert-auth=true\n", ""}, func(e *Etcd) {
			e.Cert, e.ClientCertAuth = "", false
		}},
		{"certificates elsewhere on the node", []string{"      path: /etc/kubernetes/pki/etcd\n", "      path: /opt/certs\n", "- --key-file=", "- --key-file=/etc/kubernetes/pki/etcd/../etcd"}, func(e *Etcd) {
			e.Cert, e.TrustedCA, e.PeerCert, e.PeerKey, e.PeerTrustedCA = "/opt/certs/server.crt", "/opt/certs/ca.crt", "/opt/certs/peer.crt", "/opt/certs/peer.key", "/opt/certs/ca.crt"
			e.Key = "/opt/certs/etc/kubernetes/pki/etcd/server.key"
		}},
		{"certificates on the data volume", []string{"--cert-file=/etc/kubernetes/pki/etcd/server.crt", "--cert-file=/var/lib/etcd/server.crt"}, func(e *Etcd) {
			e.Cert, e.OnDataVolume = "/var/lib/etcd/server.crt", []string{"cert-file"}
		}},
		{"a quota", []string{"    - --name=cp1\n", "    - --name=cp1\n    - --quota-backend-bytes=8589934592\n"}, func(e *Etcd) { e.QuotaBytes = 8 << 30 }},
		{"an image by digest", []string{"registry.k8s.io/etcd:3.6.10-0", "registry.k8s.io/etcd@sha256:00"}, func(e *Etcd) {
			e.Image, e.Version = "registry.k8s.io/etcd@sha256:00", ""
		}},
		{"a user for the pod, another for the container", []string{
			"  securityContext:\n", "  securityContext:\n    runAsUser: 5\n    runAsGroup: 6\n",
			"    resources:", "    securityContext:\n      runAsUser: 7\n    resources:",
		}, func(e *Etcd) {
			user, group := int64(7), int64(6)
			e.RunAsUser, e.RunAsGroup = &user, &group
		}},
		{"a longer grace period, a shorter startup probe", []string{"  priority:", "  terminationGracePeriodSeconds: 90\n  priority:", "failureThreshold: 24", "failureThreshold: 3"}, func(e *Etcd) {
			e.GracePeriod, e.StartupBudget = 90*time.Second, 30*time.Second
		}},
		{"no startup probe", []string{"startupProbe:", "startupProbeGone:"}, func(e *Etcd) {
			e.StartupBudget, e.ProbeURLs.Startup = 80*time.Second, ""
		}},
		{"a probe on a port by number, without a host", []string{"        host: 127.0.0.1\n", "", "port: probe-port", "port: 2399"}, func(e *Etcd) {
			e.ProbeURLs = ProbeURLs{"http://127.0.0.1:2399/readyz", "http://127.0.0.1:2399/livez", "http://127.0.0.1:2399/readyz"}
		}},
		{"a probe of a port name that isn't there", []string{"port: probe-port", "port: nope"}, func(e *Etcd) { e.ProbeURLs = ProbeURLs{} }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			want := kubeadmEtcd()
			tt.want(want)
			e, err := ReadEtcd(manifestFile(t, replaced(t, base, tt.edit...)))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, e, withoutSource); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestReadEtcdRefusesWhatItCantKnow(t *testing.T) {
	base := fixture(t, "kubeadm-1.34/etcd.yaml")
	tests := []struct {
		name  string
		edit  []string
		code  string
		cause string
	}{
		{"a configuration file", []string{"    - --name=cp1\n", "    - --config-file=/etc/etcd.yaml\n"}, CodeConfigFile, "/etc/etcd.yaml"},
		{"a configuration file in the environment", []string{"    image:", "    env:\n    - name: ETCD_CONFIG_FILE\n      value: /etc/etcd.yaml\n    image:"}, CodeConfigFile, "/etc/etcd.yaml"},
		{"an empty flag doesn't hide the variable", []string{"    - --name=cp1\n", "    - --config-file=\n", "    image:", "    env:\n    - name: ETCD_CONFIG_FILE\n      value: /etc/etcd.yaml\n    image:"}, CodeConfigFile, "/etc/etcd.yaml"},
		{"a shell", []string{"    - etcd\n", "    - sh\n    - -c\n    - exec etcd \"$@\"\n"}, CodeShell, "through sh"},
		{"data in the image", []string{"--data-dir=/var/lib/etcd", "--data-dir=/var/lib/etcd2"}, CodeNotHostPath, "--data-dir: /var/lib/etcd2"},
		{"no data directory", []string{"    - --data-dir=/var/lib/etcd\n", ""}, CodeNotHostPath, `"cp1.etcd" is relative`},
		{"no data directory, with a working directory", []string{"    - --data-dir=/var/lib/etcd\n", "", "    image:", "    workingDir: /srv\n    image:"}, CodeNotHostPath, "/srv/cp1.etcd"},
		{"data in an emptyDir", []string{"  - hostPath:\n      path: /var/lib/etcd\n      type: DirectoryOrCreate\n", "  - emptyDir: {}\n"}, CodeNotHostPath, "emptyDir"},
		{"a WAL that isn't on the node", []string{"    - --name=cp1\n", "    - --wal-dir=/wal\n"}, CodeNotHostPath, "--wal-dir"},
		{"a name kubelet fills in", []string{"--name=cp1", "--name=$(NODE)", "    image:", "    env:\n    - name: NODE\n      valueFrom: {fieldRef: {fieldPath: spec.nodeName}}\n    image:"}, CodeUnknownValue, "fieldRef spec.nodeName"},
		{"a name kubelet fills in, as a variable", []string{"    - --name=cp1\n", "", "    image:", "    env:\n    - name: ETCD_NAME\n      valueFrom: {fieldRef: {fieldPath: spec.nodeName}}\n    image:"}, CodeUnknownValue, "ETCD_NAME"},
		{"an initial cluster that is none", []string{"--initial-cluster=cp1=https", "--initial-cluster=https"}, CodeArgument, "https://10.77.0.11:2380"},
		{"a quota in words", []string{"    - --name=cp1\n", "    - --quota-backend-bytes=8Gi\n"}, CodeArgument, "8Gi"},
		{"a boolean that is none", []string{"--client-cert-auth=true", "--client-cert-auth=yes"}, CodeArgument, "yes"},
		{"a name that is a command", []string{"--name=cp1", "--name=cp1;reboot"}, CodeArgument, "--name"},
		{"a name on two lines", []string{"    - --name=cp1\n", "    - \"--name=cp1\\nreboot\"\n"}, CodeArgument, "--name"},
		{"a name that is an option", []string{"--name=cp1", "--name=-oProxyCommand"}, CodeArgument, "--name"},
		{"a member that is a command", []string{"--initial-cluster=cp1=https", "--initial-cluster=$(reboot)=https"}, CodeArgument, "--initial-cluster"},
		{"a member's address that is an option", []string{"--initial-cluster=cp1=https://10.77.0.11:2380", "--initial-cluster=cp1=https://-oProxyCommand=x:2380"}, CodeArgument, "--initial-cluster"},
		{"an address with a password", []string{"--advertise-client-urls=https://10.77", "--advertise-client-urls=https://a:b@10.77"}, CodeArgument, "--advertise-client-urls"},
		{"an address that is none", []string{"--listen-client-urls=https://127.0.0.1:2379", "--listen-client-urls=127.0.0.1:2379"}, CodeArgument, "--listen-client-urls"},
		{"an address on two lines", []string{"    - --listen-peer-urls=https://10.77.0.11:2380\n", "    - \"--listen-peer-urls=https://10.77.0.11\\n:2380\"\n"}, CodeArgument, "--listen-peer-urls"},
		{"an address of another kind", []string{"--listen-metrics-urls=http:", "--listen-metrics-urls=file:"}, CodeArgument, "--listen-metrics-urls"},
		{"a peer's address with a space", []string{"--initial-advertise-peer-urls=https://10", "--initial-advertise-peer-urls=https://x y10"}, CodeArgument, "--initial-advertise-peer-urls"},
		{"another pod", []string{"    - etcd\n", "    - kube-scheduler\n"}, CodeNoContainer, "runs etcd"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ReadEtcd(manifestFile(t, replaced(t, base, tt.edit...)))
			wantProblem(t, err, tt.code, tt.cause)
			if problem.Of(err).Hint == "" {
				t.Error("no hint")
			}
		})
	}
}

func TestRKE2IsRefusedWithAHint(t *testing.T) {
	_, err := ReadEtcd(manifestFile(t, fixture(t, "rke2-etcd.yaml")))
	wantProblem(t, err, CodeConfigFile, "/var/lib/rancher/rke2/server/db/etcd/config")
	wantProblem(t, err, CodeConfigFile, "with the settings as flags")
}

func TestReadEtcdEditedByHand(t *testing.T) {
	e, err := ReadEtcd(manifestFile(t, fixture(t, "by-hand.yaml")))
	if err != nil {
		t.Fatal(err)
	}
	if e.DataDir.Path != "/mnt/ssd/etcd" || e.Name != "cp1" || e.Version != "3.5.21" || !cmp.Equal(e.AdvertisePeerURLs, []string{"https://10.0.0.5:2380"}) {
		t.Errorf("got %+v", e)
	}
}

func TestReadEtcdHandsOnWhyTheFileIsRefused(t *testing.T) {
	f, err := ReadFile(write(t, filepath.Join(t.TempDir(), "etcd.yaml"), nil))
	if err != nil {
		t.Fatal(err)
	}
	_, err = ReadEtcd(f)
	wantProblem(t, err, CodeEmpty, "empty")
	_, err = ReadAPIServer(f)
	wantProblem(t, err, CodeEmpty, "empty")
}

func TestWorkingDirectoryHoldsRelativeData(t *testing.T) {
	e, err := ReadEtcd(manifestFile(t, replaced(t, fixture(t, "kubeadm-1.34/etcd.yaml"),
		"    - --data-dir=/var/lib/etcd\n", "", "    image:", "    workingDir: /var/lib/etcd\n    image:")))
	if err != nil || e.DataDir.Path != "/var/lib/etcd/cp1.etcd" {
		t.Errorf("got %+v, %v", e, err)
	}
}

func TestImageVersion(t *testing.T) {
	for image, want := range map[string]string{
		"registry.k8s.io/etcd:3.6.10-0":                            "3.6.10",
		"registry.k8s.io/etcd:3.6.10-0@sha256:abc":                 "3.6.10",
		"registry.k8s.io/etcd@sha256:abc":                          "",
		"quay.io/coreos/etcd:v3.5.21":                              "3.5.21",
		"localhost:5000/etcd":                                      "",
		"localhost:5000/etcd:3.4.23":                               "3.4.23",
		"etcd:latest":                                              "",
		"etcd:3.6":                                                 "",
		"rancher/hardened-etcd:v3.5.16-k3s1-build20241106":         "3.5.16",
		"rancher/hardened-kubernetes:v1.31.1-rke2r1-build20240912": "1.31.1",
		"etcd:3.6.0-rc.4":                                          "3.6.0",
		"etcd:3.6.10x":                                             "",
		"":                                                         "",
	} {
		if got := ImageVersion(image); got != want {
			t.Errorf("%s: got %q, want %q", image, got, want)
		}
	}
}

func TestStartupBudget(t *testing.T) {
	probe := func(delay, period, failures int32) *corev1.Probe {
		return &corev1.Probe{InitialDelaySeconds: delay, PeriodSeconds: period, FailureThreshold: failures}
	}
	for name, tt := range map[string]struct {
		c    corev1.Container
		want time.Duration
	}{
		"no probe":           {corev1.Container{ReadinessProbe: probe(1, 1, 1)}, 0},
		"kubelet's defaults": {corev1.Container{LivenessProbe: probe(0, 0, 0)}, 20 * time.Second},
		"only liveness":      {corev1.Container{LivenessProbe: probe(10, 10, 8)}, 80 * time.Second},
		"startup goes first": {corev1.Container{LivenessProbe: probe(10, 10, 8), StartupProbe: probe(0, 5, 2)}, 5 * time.Second},
	} {
		if got := startupBudget(&tt.c); got != tt.want {
			t.Errorf("%s: got %s, want %s", name, got, tt.want)
		}
	}
}

func TestProbeURL(t *testing.T) {
	get := func(h corev1.HTTPGetAction) *corev1.Probe {
		return &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &h}}
	}
	c := &corev1.Container{Ports: []corev1.ContainerPort{{Name: "probe", ContainerPort: 2381}}}
	for name, tt := range map[string]struct {
		p    *corev1.Probe
		want string
	}{
		"none":                         {nil, ""},
		"a command":                    {&corev1.Probe{}, ""},
		"by name":                      {get(corev1.HTTPGetAction{Path: "/readyz", Port: intstr.FromString("probe")}), "http://[::1]:2381/readyz"},
		"a number as a string":         {get(corev1.HTTPGetAction{Path: "/readyz", Port: intstr.FromString("99")}), "http://[::1]:99/readyz"},
		"https, its own host, a query": {get(corev1.HTTPGetAction{Scheme: "HTTPS", Host: "h", Path: "health?serializable=true", Port: intstr.FromInt32(1)}), "https://h:1/health?serializable=true"},
		"no such port":                 {get(corev1.HTTPGetAction{Port: intstr.FromInt32(70000)}), ""},
	} {
		if got := probeURL(c, tt.p, "::1"); got != tt.want {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
	}
}
