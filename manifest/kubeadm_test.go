package manifest

import (
	"strings"
	"testing"
)

const clusterConfiguration = `apiServer: {}
apiVersion: kubeadm.k8s.io/v1beta4
caCertificateValidityPeriod: 87600h0m0s
clusterName: kubernetes # ours
etcd:
  local:
    dataDir: /var/lib/etcd   # on the SSD
    extraArgs:
    - name: quota-backend-bytes
      value: "8589934592"
    imageTag: 3.6.10-0
kind: ClusterConfiguration
kubernetesVersion: v1.34.4
`

func TestKubeadmsDataDirectoryIsChangedInPlace(t *testing.T) {
	const to = "/var/lib/etcd-20261120-212605"
	for _, c := range []struct{ name, text, was, want string }{
		{"as kubeadm 1.31 and newer write it", clusterConfiguration, "/var/lib/etcd", strings.Replace(clusterConfiguration, "/var/lib/etcd ", to+" ", 1)},
		{"in quotes", "etcd:\n  local:\n    dataDir: \"/data/etcd\"\n", "/data/etcd", "etcd:\n  local:\n    dataDir: \"" + to + "\"\n"},
		{
			"arguments as a map (v1beta3)", "etcd:\n  local:\n    extraArgs:\n      quota-backend-bytes: '1'\n    dataDir: /d\nkind: ClusterConfiguration\n", "/d",
			"etcd:\n  local:\n    extraArgs:\n      quota-backend-bytes: '1'\n    dataDir: " + to + "\nkind: ClusterConfiguration\n",
		},
		{"kubeadm's default, not written", "etcd:\n  local:\n    imageTag: x\n", "/var/lib/etcd", "etcd:\n  local:\n    dataDir: \"" + to + "\"\n    imageTag: x\n"},
		{"an empty map", "etcd:\n  local: {}\n", "/var/lib/etcd", "etcd:\n  local: {dataDir: \"" + to + "\"}\n"},
		{"JSON", `{"etcd":{"local":{"dataDir":"/d"}}}`, "/d", `{"etcd":{"local":{"dataDir":"` + to + `"}}}`},
		{"as it has to be", "etcd: {local: {dataDir: " + to + "}}\n", to, "etcd: {local: {dataDir: " + to + "}}\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			have, err := ReadKubeadmEtcd([]byte(c.text))
			if err != nil || have.DataDir != c.was {
				t.Errorf("%+v, %v, want %s", have, err, c.was)
			}
			got, err := SetKubeadmDataDir([]byte(c.text), to)
			if err != nil || string(got) != c.want {
				t.Errorf("%v\n%s\nwant\n%s", err, got, c.want)
			}
		})
	}
}

func TestKubeadmsConfigurationThatCantBeChangedInPlace(t *testing.T) {
	for _, c := range []struct{ name, text, to, says string }{
		{"etcd elsewhere", "etcd:\n  external:\n    endpoints: [https://10.0.0.9:2379]\n", "/var/lib/etcd-2", "etcd.external"},
		{"no etcd in it", "kind: ClusterConfiguration\n", "/var/lib/etcd-2", "etcd is not in the file"},
		{"another kind", "kind: InitConfiguration\n", "/var/lib/etcd-2", "InitConfiguration"},
		{"no YAML", "a: [", "/var/lib/etcd-2", "ClusterConfiguration"},
		{"more than kubeadm's ever has", clusterConfiguration + strings.Repeat("#", MaxClusterConfiguration), "/var/lib/etcd-2", "bytes"},
		{"aliases of a long value", "a: &a " + strings.Repeat("x", 30_000) + "\nb: [" + strings.TrimSuffix(strings.Repeat("*a,", 10_000), ",") + "]\n" + clusterConfiguration, "/var/lib/etcd-2", "aliases"},
		{"an anchor that is used elsewhere", "etcd:\n  local:\n    dataDir: &d /d\nclusterName: *d\n", "/var/lib/etcd-2", "anchor"},
		{"a relative path", clusterConfiguration, "etcd-2", "absolute"},
		{"a line break in the path", clusterConfiguration, "/var/lib/etcd\nkind: x", "control characters"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got, err := SetKubeadmDataDir([]byte(c.text), c.to); err == nil || !strings.Contains(err.Error(), c.says) || got != nil {
				t.Errorf("%v, want %q\n%s", err, c.says, got)
			}
		})
	}
}
