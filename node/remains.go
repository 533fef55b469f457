package node

import (
	"cmp"
	"iter"
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
	if _, err := os.Lstat(filepath.Join(k.podsDir(), uid)); err == nil {
		r.PodDir = true
	}
	for top, dir := range k.podCgroups() {
		p := filepath.Join(top, dir.of(uid))
		if _, err := os.Lstat(p); err == nil {
			r.Cgroups = append(r.Cgroups, p)
		}
	}
	return r
}

// podsDir is where each pod has a directory, named by its UID.
func (k *Kubelet) podsDir() string {
	return filepath.Join(cmp.Or(k.RootDir, Kubeadm.KubeletRoot), "pods")
}

// podCgroups are all places in which pods may have their cgroups, with the
// hierarchy that each is below. Most don't exist.
func (k *Kubelet) podCgroups() iter.Seq2[string, podCgroupDir] {
	return func(yield func(string, podCgroupDir) bool) {
		dirs := podCgroupDirs(k.CgroupRoot)
		for _, top := range hierarchies(cmp.Or(k.CgroupMount, Kubeadm.Cgroups)) {
			for _, dir := range dirs {
				if !yield(top, dir) {
					return
				}
			}
		}
	}
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

// PodsBegun are the UIDs of all pods that have a directory or a cgroup here:
// kubelet makes both before it asks the runtime for a sandbox (SyncPod,
// kubelet.go 1.34), a few milliseconds after it has accepted a pod. A pod that
// it refuses for now gets neither. The error is for a node on which neither can
// be seen.
func (k *Kubelet) PodsBegun() (map[string]bool, error) {
	entries, err := os.ReadDir(k.podsDir())
	if err != nil {
		return nil, err
	}
	uids := map[string]bool{}
	for _, e := range entries {
		uids[e.Name()] = true
	}
	for top, dir := range k.podCgroups() {
		entries, err := os.ReadDir(filepath.Join(top, dir.path))
		if err != nil {
			continue
		}
		for _, e := range entries {
			if uid, ok := dir.uid(e.Name()); ok {
				uids[uid] = true
			}
		}
	}
	return uids, nil
}

// podCgroupDir is a directory that pods of one QoS class have their cgroups in,
// below a hierarchy.
type podCgroupDir struct {
	path           string
	prefix, suffix string // of a pod's cgroup, around its UID
	systemd        bool
}

func (d podCgroupDir) of(uid string) string {
	if d.systemd {
		uid = strings.ReplaceAll(uid, "-", "_")
	}
	return path.Join(d.path, d.prefix+uid+d.suffix)
}

func (d podCgroupDir) uid(name string) (string, bool) {
	uid, ok := strings.CutPrefix(name, d.prefix)
	if !ok {
		return "", false
	}
	if uid, ok = strings.CutSuffix(uid, d.suffix); !ok {
		return "", false
	}
	if d.systemd {
		uid = strings.ReplaceAll(uid, "_", "-")
	}
	return uid, true
}

// podCgroupDirs are all places a pod's cgroup can have, for both drivers and
// every QoS class (pkg/kubelet/cm/cgroup_manager_linux.go, ToCgroupfs and
// ToSystemd).
func podCgroupDirs(root string) []podCgroupDir {
	var base []string
	if r := strings.Trim(path.Clean("/"+root), "/"); r != "" {
		base = strings.Split(r, "/")
	}
	base = append(base, "kubepods")
	var out []podCgroupDir
	for _, qos := range []string{"burstable", "", "besteffort"} {
		parts := append([]string{}, base...)
		if qos != "" {
			parts = append(parts, qos)
		}
		dir := slice(parts)
		out = append(
			out,
			podCgroupDir{path: path.Join(parts...), prefix: "pod"},
			podCgroupDir{path: dir, prefix: strings.TrimSuffix(path.Base(dir), ".slice") + "-pod", suffix: ".slice", systemd: true},
		)
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
