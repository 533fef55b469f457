package node

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestChangesAreToldForWhatKubeletMakesAndRemoves(t *testing.T) {
	const uid = "0b1c0de0-0000-4000-8000-000000000001"
	for _, tt := range []struct{ name, path string }{
		{"a manifest", "manifests/etcd.yaml"},
		{"a pod's directory", "kubelet/pods/" + uid},
		{"a cgroup of version 2, by systemd", "cgroup/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod0b1c0de0_0000_4000_8000_000000000001.slice"},
		{"a cgroup of version 1, by cgroupfs", "cgroup/memory/kubepods/burstable/pod" + uid},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			path := filepath.Join(root, tt.path)
			for _, dir := range []string{filepath.Join(root, "manifests"), filepath.Join(root, "kubelet/pods"), filepath.Dir(path)} {
				if err := os.MkdirAll(dir, 0o700); err != nil {
					t.Fatal(err)
				}
			}
			k := &Kubelet{StaticPodPath: filepath.Join(root, "manifests"), RootDir: filepath.Join(root, "kubelet"), CgroupMount: filepath.Join(root, "cgroup")}
			c, err := k.Changes()
			if err != nil {
				t.Fatal(err)
			}
			told := func(what string) {
				t.Helper()
				select {
				case <-c.C:
				case <-time.After(10 * time.Second):
					t.Fatalf("no sign that it was %s", what)
				}
			}
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
			told("made")
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			told("removed")
			for range 2 {
				if err := c.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestNothingToWatchIsAnError(t *testing.T) {
	root := filepath.Join(t.TempDir(), "none")
	if _, err := (&Kubelet{StaticPodPath: root, RootDir: root, CgroupMount: root}).Changes(); err == nil {
		t.Error("changes of nothing are watched")
	}
}
