package steps

import (
	"path/filepath"

	"etcd-rewind/node"
)

// sickDisk names a disk that explains why a wait was in vain: full or
// read-only, and something that is waited for has to write there. A full disk
// takes a container's log with it, so nobody else can report it.
func (r *run) sickDisk() (cause, hint string) {
	paths := []string{r.plan.RunDir, r.plan.Reach.Kubelet.RootDir, r.plan.Reach.Kubelet.PodLogs}
	if f := r.plan.Restore; f != nil {
		paths = append(paths, filepath.Dir(f.DataDir), f.oldAt())
	}
	for _, path := range paths {
		if path == "" {
			continue
		}
		switch d, err := node.DiskOf(path); {
		case err != nil:
		case d.ReadOnly:
			return "the disk of " + path + " is read-only", "check dmesg, remount it, then retry"
		case d.FreeBytes < 64<<10:
			return "no space left on the disk of " + path, "free space there, then retry"
		case d.FreeInodes == 0:
			return "no inodes left on the disk of " + path, "remove files there, then retry"
		}
	}
	return "", ""
}
