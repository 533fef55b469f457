package node

import (
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRemains(t *testing.T) {
	const uid = "6f3c-aa"
	for name, c := range map[string]struct {
		root    string
		v2      bool
		cgroups []string // that exist
		want    []string // of them, what counts
	}{
		"nothing is left":                    {"/", true, nil, nil},
		"cgroup v2, cgroupfs, burstable":     {"/", true, []string{"kubepods/burstable/pod" + uid}, []string{"kubepods/burstable/pod" + uid}},
		"cgroup v2, cgroupfs, guaranteed":    {"/", true, []string{"kubepods/pod" + uid}, []string{"kubepods/pod" + uid}},
		"cgroup v2, systemd, best effort":    {"/", true, []string{"kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod6f3c_aa.slice"}, []string{"kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod6f3c_aa.slice"}},
		"cgroup v2, systemd, below a root":   {"/kubelet", true, []string{"kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod6f3c_aa.slice"}, []string{"kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod6f3c_aa.slice"}},
		"cgroup v1, some controllers":        {"/", false, []string{"memory/kubepods/burstable/pod" + uid, "pids/kubepods/burstable/pod" + uid, "cpuset"}, []string{"memory/kubepods/burstable/pod" + uid, "pids/kubepods/burstable/pod" + uid}},
		"cgroup v1, below a root":            {"/a/b", false, []string{"memory/a/b/kubepods/burstable/pod" + uid}, []string{"memory/a/b/kubepods/burstable/pod" + uid}},
		"hybrid, systemd":                    {"/", false, []string{"systemd/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod6f3c_aa.slice"}, []string{"systemd/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod6f3c_aa.slice"}},
		"another pod's, and one's beginning": {"/", true, []string{"kubepods/burstable/pod" + uid + "b", "kubepods/burstable/podother"}, nil},
		"another kubelet's on this machine":  {"/", true, []string{"kubelet/kubepods/burstable/pod" + uid}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			mount := t.TempDir()
			if c.v2 {
				write(t, filepath.Join(mount, "cgroup.controllers"), "cpu memory\n")
			}
			for _, p := range c.cgroups {
				mkdir(t, filepath.Join(mount, p))
			}
			if !c.v2 {
				mkdir(t, filepath.Join(mount, "memory"))
				link(t, "memory", filepath.Join(mount, "memory-alias"))
			}
			k := &Kubelet{RootDir: t.TempDir(), CgroupRoot: c.root, CgroupMount: mount}
			got := k.Remains(uid)
			var want []string
			for _, p := range c.want {
				want = append(want, filepath.Join(mount, p))
			}
			if d := cmp.Diff(Remains{Cgroups: want}, got); d != "" {
				t.Errorf("want -, got +\n%s", d)
			}
			if got.None() != (len(want) == 0) {
				t.Errorf("None says %v", got.None())
			}
			if _, err := k.PodsBegun(); err == nil {
				t.Error("pods are seen where kubelet's directory isn't")
			}
			mkdir(t, filepath.Join(k.RootDir, "pods"))
			beganBefore, err := k.PodsBegun()
			if err != nil {
				t.Fatal(err)
			}
			mkdir(t, filepath.Join(k.RootDir, "pods", uid))
			begun, err := k.PodsBegun()
			if err != nil || !begun[uid] || len(want) > 0 != beganBefore[uid] {
				t.Errorf("begun %v, before its directory was there %v, %v", begun, beganBefore, err)
			}
			if got := k.Remains(uid); !got.PodDir || got.None() {
				t.Errorf("with the pod's directory: %+v", got)
			}
		})
	}
}

func TestRemainsOfNoPod(t *testing.T) {
	k := &Kubelet{RootDir: t.TempDir(), CgroupMount: t.TempDir()}
	mkdir(t, filepath.Join(k.RootDir, "pods"))
	for _, uid := range []string{"", ".", "..", "a/b", "../pods"} {
		if got := k.Remains(uid); !got.None() {
			t.Errorf("UID %q: %+v", uid, got)
		}
	}
}
