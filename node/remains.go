package node

import (
	"os"
	"path"
	"path/filepath"
	"strings"
)

// Remains is what kubelet has not cleared away of a pod.
type Remains struct {
	PodDir  bool     // <root>/pods/<uid>, where volumes are mounted
	Cgroups []string // the pod's cgroups that still exist, as paths
}

// None reports that nothing is left. That alone does not prove that kubelet has
// finished with the pod: housekeeping often clears both away earlier.
func (r Remains) None() bool { return !r.PodDir && len(r.Cgroups) == 0 }

// Remains looks for what is left of the pod with this UID: its directory and
// its cgroup, for both cgroup versions, both drivers and every QoS class.
// It costs some dozens of stat calls and can be polled.
func (k *Kubelet) Remains(uid string) Remains {
	if uid == "" || uid == "." || uid == ".." || uid != filepath.Base(uid) {
		return Remains{}
	}
	var r Remains
	if _, err := os.Lstat(filepath.Join(or(k.RootDir, defaultRootDir), "pods", uid)); err == nil {
		r.PodDir = true
	}
	names := podCgroups(k.CgroupRoot, uid)
	for _, top := range hierarchies(or(k.CgroupMount, defaultCgroups)) {
		for _, n := range names {
			p := filepath.Join(top, n)
			if _, err := os.Lstat(p); err == nil {
				r.Cgroups = append(r.Cgroups, p)
			}
		}
	}
	return r
}

// hierarchies are the directories that cgroup trees begin at: the mount itself
// with cgroup v2, one a controller with v1, both on a hybrid.
func hierarchies(mount string) []string {
	tops := []string{mount}
	if _, err := os.Stat(filepath.Join(mount, "cgroup.controllers")); err == nil {
		return tops
	}
	entries, err := os.ReadDir(mount)
	if err != nil {
		return tops
	}
	for _, e := range entries {
		// cpu is a symbolic link to cpu,cpuacct: the same tree twice.
		if e.IsDir() {
			tops = append(tops, filepath.Join(mount, e.Name()))
		}
	}
	return tops
}

// podCgroups are the paths a pod's cgroup can have below a hierarchy
// (pkg/kubelet/cm/cgroup_manager_linux.go, ToCgroupfs and ToSystemd).
func podCgroups(root, uid string) []string {
	var base []string
	if r := strings.Trim(path.Clean("/"+root), "/"); r != "" {
		base = strings.Split(r, "/")
	}
	base = append(base, "kubepods")
	var out []string
	for _, qos := range []string{"burstable", "", "besteffort"} {
		parts := append([]string{}, base...)
		if qos != "" {
			parts = append(parts, qos)
		}
		parts = append(parts, "pod"+uid)
		out = append(out, path.Join(parts...), slice(parts))
	}
	return out
}

// slice is the path systemd has for a nested slice: each level's name begins
// with its parent's, and a dash within a part becomes an underscore.
func slice(parts []string) string {
	var dir, name string
	for i, p := range parts {
		if i > 0 {
			name += "-"
		}
		name += strings.ReplaceAll(p, "-", "_")
		dir = path.Join(dir, name+".slice")
	}
	return dir
}
