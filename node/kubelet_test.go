package node

import (
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// fakeProc is a /proc with processes in it.
type fakeProc struct{ dir string }

func newProc(t *testing.T) fakeProc {
	t.Helper()
	p := fakeProc{t.TempDir()}
	mkdir(t, filepath.Join(p.dir, "self", "ns"))
	link(t, "mnt:[1]", filepath.Join(p.dir, "self", "ns", "mnt"))
	write(t, filepath.Join(p.dir, "uptime"), "1000.00 5.00\n")
	return p
}

func (p fakeProc) add(t *testing.T, pid int, mnt, cwd string, ticks int, args ...string) {
	t.Helper()
	dir := filepath.Join(p.dir, strconv.Itoa(pid))
	write(t, filepath.Join(dir, "cmdline"), strings.Join(args, "\x00")+"\x00")
	write(t, filepath.Join(dir, "stat"), strconv.Itoa(pid)+" (kube) let) S 1"+strings.Repeat(" 0", 17)+" "+strconv.Itoa(ticks)+" 0 0\n")
	mkdir(t, filepath.Join(dir, "ns"))
	link(t, mnt, filepath.Join(dir, "ns", "mnt"))
	link(t, cwd, filepath.Join(dir, "cwd"))
	p.runs(t, pid, os.Geteuid(), p.program(t, "kubelet", "#!/bin/sh\n"))
}

// runs says whose a process is, and what program it runs.
func (p fakeProc) runs(t *testing.T, pid, uid int, program string) {
	t.Helper()
	dir := filepath.Join(p.dir, strconv.Itoa(pid))
	ids := strings.Repeat("\t"+strconv.Itoa(uid), 4)
	write(t, filepath.Join(dir, "status"), "Name:\tkubelet\nUid:"+ids+"\nGid:"+ids+"\n")
	_ = os.Remove(filepath.Join(dir, "exe"))
	link(t, program, filepath.Join(dir, "exe"))
}

// program is a file that can be started.
func (p fakeProc) program(t *testing.T, name, script string) string {
	t.Helper()
	path := filepath.Join(p.dir, "bin", name)
	write(t, path, script)
	if err := os.Chmod(path, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func link(t *testing.T, to, at string) {
	t.Helper()
	if err := os.Symlink(to, at); err != nil {
		t.Fatal(err)
	}
}

const head = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n"

func find(t *testing.T, opts Options) *Kubelet {
	t.Helper()
	k, err := FindKubelet(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestKubeadmsKubeletIsReadFromItsCommandLineAndFile(t *testing.T) {
	config, err := filepath.Abs("testdata/kubelet-config.yaml")
	if err != nil {
		t.Fatal(err)
	}
	proc := newProc(t)
	proc.add(t, 7, "mnt:[1]", "/", 500, "/usr/bin/bash", "/usr/bin/kubelet", "--config=/nowhere")
	proc.add(t, 42, "mnt:[1]", "/", 90000, "/usr/bin/kubelet",
		"--kubeconfig=/etc/kubernetes/kubelet.conf", "--config", config, "--hostname-override=CP1", "--v", "2")
	proc.add(t, 77, "mnt:[2]", "/", 100, "kubelet", "--config=/nowhere")
	proc.add(t, 99, "mnt:[1]", "/", 95000, "/usr/bin/kubelet", "--version")
	k := find(t, Options{Proc: proc.dir})
	if age := time.Since(k.Started); age < 99*time.Second || age > 102*time.Second {
		t.Errorf("it started %v ago, by its stat it is 100 s", age)
	}
	k.Started, k.Version = time.Time{}, "" // a kubelet of this machine isn't the one in that /proc
	want := &Kubelet{
		ConfigPath: config, StaticPodPath: "/etc/kubernetes/manifests",
		CRIEndpoint: "unix:///run/containerd/containerd.sock", HealthzURL: "http://127.0.0.1:10248/healthz", MetricsURL: "https://127.0.0.1:10250/metrics",
		RootDir: "/var/lib/kubelet", PodLogs: "/var/log/pods", CgroupRoot: "/", CgroupMount: "/sys/fs/cgroup",
		Kubeconfig: "/etc/kubernetes/kubelet.conf", NodeName: "cp1", FileCheck: 20 * time.Second,
		PID: 42, Ticks: 90000, Elsewhere: []int{77},
		Sources: map[string]string{
			"config":                   "flag --config of kubelet, process 42",
			"staticPodPath":            config,
			"containerRuntimeEndpoint": config,
			"rootDir":                  "default",
			"podLogsDir":               "default",
			"cgroupRoot":               config,
			"healthz":                  config,
			"metrics":                  "default",
			"nodeName":                 "flag --hostname-override of kubelet, process 42",
			"fileCheckFrequency":       config,
			"kubeconfig":               "flag --kubeconfig of kubelet, process 42",
		},
	}
	if d := cmp.Diff(want, k); d != "" {
		t.Errorf("want -, got +\n%s", d)
	}
	if got := k.PodName("etcd"); got != "etcd-cp1" {
		t.Errorf("etcd's pod is called %q", got)
	}
}

func TestKubeletsOrderOfPrecedence(t *testing.T) {
	dir := t.TempDir()
	config := filepath.Join(dir, "kubelet", "config.yaml")
	write(t, config, head+"staticPodPath: /from/file\ncgroupRoot: /from-file\nhealthzPort: 1\nfileCheckFrequency: 5s\npodLogsDir: logs\n")
	write(t, filepath.Join(dir, "drop", "20-b.conf"), head+"staticPodPath: /from/20\n")
	write(t, filepath.Join(dir, "drop", "10-a.conf"), head+"staticPodPath: /from/10\ncgroupRoot: null\nhealthzPort: 2\n")
	write(t, filepath.Join(dir, "drop", "deeper", "30.conf"), head+"healthzBindAddress: 0.0.0.0\naddress: 10.0.0.7\nport: 10350\n")
	write(t, filepath.Join(dir, "drop", "99-not-read.yaml"), "staticPodPath: /wrong")

	proc := newProc(t)
	proc.add(t, 5, "mnt:[1]", dir, 1, "kubelet", "--config=kubelet/config.yaml", "--config-dir=drop")
	k := find(t, Options{Proc: proc.dir})
	for _, c := range []struct{ what, got, want string }{
		{"a relative --config counts from the kubelet's own directory", k.ConfigPath, config},
		{"the last drop-in wins", k.StaticPodPath, "/from/20"},
		{"its source is the drop-in", k.Sources["staticPodPath"], filepath.Join(dir, "drop", "20-b.conf")},
		{"null in a drop-in takes the value away", k.CgroupRoot, "/"},
		{"any address means the loopback", k.HealthzURL, "http://127.0.0.1:2/healthz"},
		{"the port of its own, and the address", k.MetricsURL, "https://10.0.0.7:10350/metrics"},
		{"a relative path in the file counts from the file", k.PodLogs, filepath.Join(dir, "kubelet", "logs")},
		{"frequency", k.FileCheck.String(), "5s"},
	} {
		if c.got != c.want {
			t.Errorf("%s: got %q, want %q", c.what, c.got, c.want)
		}
	}

	proc.add(t, 6, "mnt:[1]", dir, 0, "kubelet", "--config=kubelet/config.yaml", "--config-dir=drop",
		"--pod-manifest-path=/first", "--pod_manifest_path", "manifests", "--cgroup-root=/kubelet", "--healthz-port=0", "--port=10251",
		"--container-runtime-endpoint=/run/x.sock", "--root-dir=/data/kubelet")
	k = find(t, Options{Proc: proc.dir})
	for _, c := range []struct{ what, got, want string }{
		{"a flag wins over files, the last of its kind over the first", k.StaticPodPath, filepath.Join(dir, "manifests")},
		{"cgroup root", k.CgroupRoot, "/kubelet"},
		{"port 0 switches healthz off", k.HealthzURL, ""},
		{"port", k.MetricsURL, "https://10.0.0.7:10251/metrics"},
		{"endpoint", k.CRIEndpoint, "/run/x.sock"},
		{"root", k.RootDir, "/data/kubelet"},
	} {
		if c.got != c.want {
			t.Errorf("%s: got %q, want %q", c.what, c.got, c.want)
		}
	}
	if err := k.Healthy(t.Context()); err == nil || !strings.Contains(err.Error(), "switched off") {
		t.Errorf("health of a kubelet without healthz: %v", err)
	}

	k = find(t, Options{Proc: proc.dir, Manifests: "/mine", CRI: "unix:///mine.sock", KubeletHealthz: "http://127.0.0.1:9/healthz", PodLogs: "/logs", CgroupMount: "/cg", KubeletRoot: "/root"})
	got := []string{k.StaticPodPath, k.CRIEndpoint, k.HealthzURL, k.PodLogs, k.CgroupMount, k.RootDir, k.Sources["staticPodPath"]}
	if d := cmp.Diff([]string{"/mine", "unix:///mine.sock", "http://127.0.0.1:9/healthz", "/logs", "/cg", "/root", "given"}, got); d != "" {
		t.Errorf("what a person gives goes first: want -, got +\n%s", d)
	}
}

func TestWithoutARunningKubelet(t *testing.T) {
	proc := newProc(t)
	root := t.TempDir()
	opts := Options{Proc: proc.dir, KubeletRoot: root, envFiles: []string{filepath.Join(root, "kubeadm-flags.env"), filepath.Join(root, "extra")}}

	k := find(t, opts)
	if k.StaticPodPath != "/etc/kubernetes/manifests" || !strings.HasPrefix(k.Sources["staticPodPath"], "default") {
		t.Errorf("nothing known: %q from %q", k.StaticPodPath, k.Sources["staticPodPath"])
	}
	if k.PID != 0 || !k.Started.IsZero() {
		t.Errorf("a kubelet that doesn't run has process %d, started %v", k.PID, k.Started)
	}

	write(t, filepath.Join(root, "config.yaml"), head+"staticPodPath: /pods\n")
	write(t, filepath.Join(root, "kubeadm-flags.env"), `KUBELET_KUBEADM_ARGS="--container-runtime-endpoint=unix:///run/old.sock --hostname-override=a"`+"\n")
	write(t, filepath.Join(root, "extra"), "# a comment\nKUBELET_EXTRA_ARGS=--hostname-override=b\n")
	k = find(t, opts)
	if k.StaticPodPath != "/pods" || k.CRIEndpoint != "unix:///run/old.sock" || k.NodeName != "b" {
		t.Errorf("from kubeadm's files: %q %q %q", k.StaticPodPath, k.CRIEndpoint, k.NodeName)
	}
	if want := "flag --hostname-override in " + filepath.Join(root, "extra"); k.Sources["nodeName"] != want {
		t.Errorf("source of the name: %q, want %q", k.Sources["nodeName"], want)
	}
}

func TestConfigurationsThatCannotBeReliedOn(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"it names no static pod directory": {head + "cgroupRoot: /\n", "sets no staticPodPath"},
		"it is another kind of file":       {"kind: Pod\napiVersion: v1\n", "not KubeletConfiguration"},
		"it is of a version to come":       {"kind: KubeletConfiguration\napiVersion: kubelet.config.k8s.io/v2\n", "apiVersion"},
		"it is no YAML":                    {"a: [", "cannot decode"},
		"a path is a list":                 {head + "staticPodPath: [a]\n", "staticPodPath"},
		"it is empty":                      {"", "not KubeletConfiguration"},
	} {
		t.Run(name, func(t *testing.T) {
			config := filepath.Join(t.TempDir(), "config.yaml")
			write(t, config, c.text)
			_, err := FindKubelet(t.Context(), Options{Proc: newProc(t).dir, envFiles: []string{}, KubeletConfig: config})
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), config) {
				t.Errorf("got %v, want something about %q and the file's name", err, c.want)
			}
		})
	}
	if _, err := FindKubelet(t.Context(), Options{Proc: newProc(t).dir, envFiles: []string{}, KubeletConfig: "/does/not/exist"}); err == nil {
		t.Error("a configuration that doesn't exist was read")
	}
	proc := newProc(t)
	proc.add(t, 3, "mnt:[1]", "/", 1, "kubelet", "--kubeconfig=/x")
	if _, err := FindKubelet(t.Context(), Options{Proc: proc.dir, KubeletRoot: t.TempDir()}); err == nil || !strings.Contains(err.Error(), "its command line sets no staticPodPath") {
		t.Errorf("a kubelet without a file and a static pod directory: %v", err)
	}
}

func TestKubeletsHealth(t *testing.T) {
	code, body := 200, "ok"
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(code)
		w.Write([]byte(body))
	}))
	_ = srv.Listener.Close()
	var single net.ListenConfig
	single.SetMultipathTCP(false) // whose socket can't change hands
	var err error
	if srv.Listener, err = single.Listen(t.Context(), "tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	srv.Start()
	defer srv.Close()
	k := &Kubelet{HealthzURL: srv.URL + "/healthz"}
	if err := k.Healthy(t.Context()); err != nil {
		t.Error(err)
	}
	code, body = 500, "syncloop is stuck\nmore"
	if err := k.Healthy(t.Context()); err == nil || !strings.Contains(err.Error(), "500 syncloop is stuck") {
		t.Errorf("an ill kubelet: %v", err)
	}
	body, code = "ok", 200
	if os.Geteuid() == 0 {
		// The kernel names the owner of a server's socket, not of its process.
		asNobody(t, srv.Listener)
		if err := k.Healthy(t.Context()); err == nil || !strings.Contains(err.Error(), "belongs to user 65534") {
			t.Errorf("another user's server answers for kubelet: %v", err)
		}
	}
	k.HealthzURL = "http://" + freePort(t) + "/healthz"
	if err := k.Healthy(t.Context()); err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("no kubelet: %v", err)
	}
}

// asNobody makes a server's socket another user's, as if they had started it.
func asNobody(t *testing.T, l net.Listener) {
	t.Helper()
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Chown(65534, 65534); err != nil {
		t.Fatal(err)
	}
}
