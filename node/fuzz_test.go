package node

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// Whatever a process says of itself: it is taken for kubelet only when the
// kernel says that it is root's, or this user's.
func FuzzProcess(f *testing.F) {
	own := "Uid:\t" + strings.Repeat(strconv.Itoa(os.Geteuid())+"\t", 4)
	for _, status := range []string{
		own, "Name:\tkubelet\n" + own + "\nGid:\t0\t0\t0\t0\n", "Uid:\t65534\t65534\t65534\t65534\n", "Uid:\t65534\t0\t0\t0\n",
		"Name:\tx\\nUid:\t0\t0\t0\t0\nUid:\t65534\t65534\t65534\t65534\n", "Uid:\t0\t0\t0\n", "Uid:\t0\t0\t0\t0\t65534\n", "Uid:\t-0\t+0\t00\t0\n", "Uid:\t4294967296\t0\t0\t0\n", "",
	} {
		f.Add([]byte("kubelet\x00--config=/x\x00"), []byte(status), []byte("7 (kubelet) S 1"+strings.Repeat(" 0", 17)+" 100 0\n"))
	}
	for _, cmdline := range []string{"kubelet", "/usr/bin/hyperkube\x00kubelet\x00--v", "hyperkube", "\x00\x00", "kubelet\x00--version", "kubelet\x00--\x00--config=/x", "kubelet\x00--config\x00", strings.Repeat("kubelet\x00", 1000)} {
		f.Add([]byte(cmdline), []byte(own), []byte("7 (a) b) S"))
	}
	f.Fuzz(func(t *testing.T, cmdline, status, stat []byte) {
		proc := newProc(t)
		proc.add(t, 7, "mnt:[1]", "/", 1, "kubelet")
		for name, content := range map[string][]byte{"cmdline": cmdline, "status": status, "stat": stat} {
			write(t, filepath.Join(proc.dir, "7", name), string(content))
		}
		found := findProcess(proc.dir, 7)
		if found.own == nil {
			return
		}
		ids := 0
		for line := range strings.Lines(string(status)) {
			if rest, ok := strings.CutPrefix(line, "Uid:"); ok {
				for _, id := range strings.Fields(rest) {
					if n, err := strconv.ParseInt(id, 10, 64); err != nil || n != 0 && n != int64(os.Geteuid()) {
						t.Errorf("taken for kubelet with the status %q", status)
					}
					ids++
				}
				break
			}
		}
		if ids != 4 {
			t.Errorf("taken for kubelet with the user IDs of %q", status)
		}
	})
}

// Whatever kubelet's command line, configuration and files of flags hold: what
// is read is of use, or an error.
func FuzzKubeletSetup(f *testing.F) {
	f.Add("--pod-manifest-path=/pods\x00--healthz-port=10248", head+"staticPodPath: /pods\n", "KUBELET_EXTRA_ARGS=--hostname-override=b\n", true)
	f.Add("--pod_manifest_path\x00manifests\x00--hostname-override=../../x\x00--healthz-bind-address=a b", head+"staticPodPath: ../x\npodLogsDir: logs\n", `KUBELET_KUBEADM_ARGS="--root-dir=x`, true)
	f.Add("--healthz-port=99999999999999999999\x00--address=::\x00--port=-1", head+"healthzPort: 1e400\nstaticPodPath: null\nfileCheckFrequency: -1s\n", "", false)
	f.Add("--container-runtime-endpoint=tcp://1.2.3.4:5\x00--node-ip\x00--config", head+"staticPodPath: {a: b}\n", "=\n==\nKUBELET_EXTRA_ARGS=\"\n", false)
	f.Add("--root-dir=\x1b[2J\x00--kubeconfig=\n", "kind: KubeletConfiguration\napiVersion: kubelet.config.k8s.io/v1beta1\nstaticPodPath: \"\\u0000\"\n", "\x00", true)
	f.Fuzz(func(t *testing.T, args, config, env string, runs bool) {
		proc, dir := newProc(t), t.TempDir()
		opts := Options{Proc: proc.dir, KubeletConfig: filepath.Join(dir, "config.yaml"), envFiles: []string{filepath.Join(dir, "env")}}
		write(t, opts.KubeletConfig, config)
		write(t, opts.envFiles[0], env)
		if runs {
			proc.add(t, 7, "mnt:[1]", dir, 1, append([]string{"kubelet"}, strings.Split(args, "\x00")...)...)
		}
		k, err := FindKubelet(t.Context(), opts)
		if err != nil {
			if err.Error() == "" || k != nil {
				t.Errorf("%+v, %v", k, err)
			}
			return
		}
		for what, path := range map[string]string{"static pods": k.StaticPodPath, "root": k.RootDir, "logs": k.PodLogs} {
			if !filepath.IsAbs(path) || filepath.Clean(path) != path {
				t.Errorf("%s: %q is no whole path", what, path)
			}
		}
		if k.FileCheck <= 0 || k.NodeName == "" {
			t.Errorf("%+v", k)
		}
		_ = kubeletsOwn(k.HealthzURL)
	})
}
