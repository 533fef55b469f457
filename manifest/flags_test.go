package manifest

import (
	"testing"

	"etcd-rewind/problem"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

func file(containers ...corev1.Container) *File {
	pod := &corev1.Pod{}
	pod.Name, pod.Namespace = "etcd", SystemNamespace
	pod.Spec.Containers = containers
	return &File{Path: "/manifests/etcd.yaml", Pod: pod}
}

func TestFlagsInAllTheirSpellings(t *testing.T) {
	field := func(path string) *corev1.EnvVarSource {
		return &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}}
	}
	tests := []struct {
		name   string
		binary string
		c      corev1.Container
		want   map[string]string
		absent []string
	}{
		{"--flag=value in command", "etcd", corev1.Container{Command: []string{"etcd", "--name=a"}}, map[string]string{"name": "a"}, []string{"data-dir"}},
		{"--flag value", "etcd", corev1.Container{Command: []string{"etcd", "--name", "a", "--data-dir", "/d"}}, map[string]string{"name": "a", "data-dir": "/d"}, nil},
		{"in args behind the command", "etcd", corev1.Container{Command: []string{"etcd"}, Args: []string{"--name=a"}}, map[string]string{"name": "a"}, nil},
		{"half in command, half in args", "etcd", corev1.Container{Command: []string{"etcd", "--name"}, Args: []string{"a"}}, map[string]string{"name": "a"}, nil},
		{"only args, the binary first", "etcd", corev1.Container{Args: []string{"/usr/local/bin/etcd", "--name=a"}}, map[string]string{"name": "a"}, nil},
		{"only args, the image's entrypoint runs", "etcd", corev1.Container{Image: "localhost:5000/x/etcd:3.6.10-0", Args: []string{"--name=a"}}, map[string]string{"name": "a"}, nil},
		{"one dash", "etcd", corev1.Container{Command: []string{"etcd", "-name=a", "-data-dir", "/d"}}, map[string]string{"name": "a", "data-dir": "/d"}, nil},
		{"a flag without a value", "etcd", corev1.Container{Command: []string{"etcd", "--client-cert-auth", "--name=a"}}, map[string]string{"client-cert-auth": "true", "name": "a"}, nil},
		{"a flag without a value at the end", "etcd", corev1.Container{Command: []string{"etcd", "--client-cert-auth"}}, map[string]string{"client-cert-auth": "true"}, nil},
		{"a boolean with =false", "etcd", corev1.Container{Command: []string{"etcd", "--client-cert-auth=false"}}, map[string]string{"client-cert-auth": "false"}, nil},
		{"a value with = in it", "etcd", corev1.Container{Command: []string{"etcd", "--initial-cluster", "a=https://x:2380"}}, map[string]string{"initial-cluster": "a=https://x:2380"}, nil},
		{"an empty value", "etcd", corev1.Container{Command: []string{"etcd", "--name=", "--data-dir=/d"}}, map[string]string{"name": "", "data-dir": "/d"}, nil},
		{"a value that is a dash or negative", "etcd", corev1.Container{Command: []string{"etcd", "--log-outputs", "-", "--quota-backend-bytes", "-1"}}, map[string]string{"log-outputs": "-", "quota-backend-bytes": "-1"}, nil},
		{"given twice, the last wins", "etcd", corev1.Container{Command: []string{"etcd", "--name=a"}, Args: []string{"--name=b"}}, map[string]string{"name": "b"}, nil},
		{"a final --", "etcd", corev1.Container{Command: []string{"etcd", "--name=a", "--"}}, map[string]string{"name": "a"}, nil},
		{
			"ETCD_ variables for what isn't on the line", "etcd",
			corev1.Container{
				Command: []string{"etcd", "--name=a"},
				Env:     []corev1.EnvVar{{Name: "ETCD_DATA_DIR", Value: "/d"}, {Name: "ETCD_NAME", Value: "b"}, {Name: "ETCD_WAL_DIR"}},
			},
			map[string]string{"name": "a", "data-dir": "/d"},
			[]string{"wal-dir"},
		},
		{
			"variables in arguments and in variables", "etcd",
			corev1.Container{
				Command: []string{"etcd", "--name=$(NODE)", "--data-dir=$(ROOT)/$$(NODE)/$(NOPE)"},
				Env: []corev1.EnvVar{
					{Name: "NODE", Value: "cp1"},
					{Name: "BASE", Value: "/var"},
					{Name: "ROOT", Value: "$(BASE)/lib"},
				},
			},
			map[string]string{"name": "cp1", "data-dir": "/var/lib/$(NODE)/$(NOPE)"},
			nil,
		},
		{
			"a variable kubelet fills in stays visible", "etcd",
			corev1.Container{Command: []string{"etcd", "--name=$(IP)"}, Env: []corev1.EnvVar{{Name: "IP", ValueFrom: field("status.podIP")}}},
			map[string]string{"name": "$(IP)"},
			nil,
		},
		{"behind nice and ionice", "etcd", corev1.Container{Command: []string{"nice", "-n", "-19", "ionice", "-c2", "-n0", "etcd", "--name=a"}}, map[string]string{"name": "a"}, []string{"n"}},
		{"behind go-runner", "kube-apiserver", corev1.Container{Command: []string{"/go-runner", "--log-file=/x", "/usr/local/bin/kube-apiserver", "--secure-port=443"}}, map[string]string{"secure-port": "443"}, []string{"log-file"}},
		{"underscores for Kubernetes' components", "kube-apiserver", corev1.Container{Command: []string{"kube-apiserver", "--etcd_servers=x"}}, map[string]string{"etcd-servers": "x"}, nil},
		{"shorthands of Kubernetes' components", "kube-apiserver", corev1.Container{Command: []string{"kube-apiserver", "-v=2", "--etcd-servers", "x"}}, map[string]string{"v": "2", "etcd-servers": "x"}, nil},
		{"a shorthand joined to its value", "kube-apiserver", corev1.Container{Command: []string{"kube-apiserver", "-v4"}}, map[string]string{"v": "4"}, nil},
		{"no ETCD_ variables for the API server", "kube-apiserver", corev1.Container{Command: []string{"kube-apiserver"}, Env: []corev1.EnvVar{{Name: "ETCD_NAME", Value: "b"}}}, nil, []string{"name"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, flags, err := ReadFlags(file(tt.c), tt.binary)
			if err != nil {
				t.Fatal(err)
			}
			for name, want := range tt.want {
				if got, ok := flags.Get(name); !ok || got != want {
					t.Errorf("--%s: got %q, %v, want %q", name, got, ok, want)
				}
			}
			for _, name := range tt.absent {
				if got, ok := flags.Get(name); ok {
					t.Errorf("--%s: got %q, want none", name, got)
				}
			}
		})
	}
}

func TestListsAddUpInKubernetesAndReplaceInEtcd(t *testing.T) {
	words := []string{"--etcd-servers=https://a:2379, https://b:2379,", "--etcd-servers=https://c:2379"}
	for binary, want := range map[string][]string{
		"kube-apiserver": {"https://a:2379", "https://b:2379", "https://c:2379"},
		"etcd":           {"https://c:2379"},
	} {
		_, flags, err := ReadFlags(file(corev1.Container{Command: append([]string{binary}, words...)}), binary)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, flags.List("etcd-servers")); diff != "" {
			t.Errorf("%s: %s", binary, diff)
		}
		if got := flags.List("other"); got != nil {
			t.Errorf("%s: got %v for an absent flag", binary, got)
		}
	}
}

func TestTheContainerThatRunsTheBinary(t *testing.T) {
	etcd := corev1.Container{Name: "etcd", Command: []string{"etcd", "--name=a"}}
	tests := []struct {
		name       string
		containers []corev1.Container
		want       string
		code       string
		cause      string
	}{
		{"the only one", []corev1.Container{etcd}, "etcd", "", ""},
		{"behind a proxy that is etcd too", []corev1.Container{{Name: "proxy", Command: []string{"etcd", "grpc-proxy", "start", "--endpoints=https://127.0.0.1:2379"}}, etcd}, "etcd", "", ""},
		{"behind a gateway that a starter starts", []corev1.Container{{Name: "gateway", Command: []string{"tini", "--", "etcd", "gateway", "start"}}, etcd}, "etcd", "", ""},
		{"beside a sidecar", []corev1.Container{{Name: "metrics", Command: []string{"etcd-metrics-proxy"}}, etcd}, "etcd", "", ""},
		{"beside a sidecar that only talks to it through a shell", []corev1.Container{{Name: "backup", Command: []string{"/bin/sh", "-c", "etcd --version; sleep 1d"}}, etcd}, "etcd", "", ""},
		{"none", []corev1.Container{{Name: "manager", Command: []string{"etcd-manager"}}}, "", CodeNoContainer, "runs etcd"},
		{"an entrypoint that can't be known", []corev1.Container{{Name: "x", Image: "example.com/thing"}}, "", CodeNoContainer, "runs etcd"},
		{"through a shell", []corev1.Container{{Name: "etcd", Command: []string{"/bin/sh", "-ec", "exec etcd --name=$HOSTNAME"}}}, "", CodeShell, "/bin/sh"},
		{"through a shell, by another name", []corev1.Container{{Name: "server", Command: []string{"bash"}, Args: []string{"-c", "/usr/local/bin/etcd --name a"}}}, "", CodeShell, "bash"},
		{"through a script", []corev1.Container{{Name: "etcd", Command: []string{"/scripts/run.sh"}}}, "", CodeShell, "run.sh"},
		{"through env", []corev1.Container{{Name: "etcd", Command: []string{"/usr/bin/env", "A=b", "etcd"}}}, "", CodeShell, "env"},
		{"a shell that runs something else", []corev1.Container{{Name: "x", Command: []string{"sh", "-c", "cat /etcd.txt"}}}, "", CodeNoContainer, "runs etcd"},
		{"nothing but a proxy", []corev1.Container{{Name: "etcd", Command: []string{"etcd", "gateway", "start"}}}, "", CodeProxy, `"gateway"`},
		{"a value that came loose", []corev1.Container{{Name: "etcd", Command: []string{"etcd", "--name=a", "b"}}}, "", CodeArgument, `"b"`},
		{"three dashes", []corev1.Container{{Name: "etcd", Command: []string{"etcd", "---name=a"}}}, "", CodeArgument, `"---name=a"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, _, err := ReadFlags(file(tt.containers...), "etcd")
			if tt.code != "" {
				wantProblem(t, err, tt.code, tt.cause)
				if p := problem.Of(err); p.Hint == "" {
					t.Error("no hint")
				}
				return
			}
			if err != nil || c.Name != tt.want {
				t.Errorf("got %+v, %v", c, err)
			}
		})
	}
}
