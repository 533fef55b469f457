package steps

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"etcd-rewind/node"
	"etcd-rewind/problem"
	"etcd-rewind/trust"
)

// Row 9.
func (k *checks) data() Verdict {
	d := k.f.Etcd.DataDir
	db := filepath.Join(d.Path, "member", "snap", "db")
	if _, err := os.Stat(db); err != nil {
		if errors.Is(err, fs.ErrPermission) {
			return bad("run it as root", "%s can't be read", d.Path)
		}
		return warn("a typo in the path boots a blank cluster, silently; the restore itself needs nothing from there",
			"%s holds no etcd data now", d.Path)
	}
	if k.c.Swap {
		return ok("%s is renamed, and stays as it is", d.Path)
	}
	return ok("%s stays as it is", d.Path)
}

func (k *checks) onDataVolume() Verdict {
	if k.c.Swap {
		return ok("no volume is changed")
	}
	if flags := k.f.Etcd.OnDataVolume; len(flags) > 0 {
		flags = slices.DeleteFunc(slices.Clone(flags), func(f string) bool { return f == "wal-dir" || f == "--wal-dir" })
		if len(flags) > 0 {
			return bad("move those files to a volume of their own first", "the data volume also holds the files of %s: a new hostPath would lose them", strings.Join(flags, ", "))
		}
	}
	return ok("only data is on the volume %s", k.f.Etcd.DataDir.Volume)
}

// Row 13.
func (k *checks) target() Verdict {
	if k.c.InPlace {
		return k.inPlace()
	}
	if k.c.Home {
		return k.home()
	}
	run := k.f.runName(k.c)
	l := k.f.layOut(k.c, run)
	if err := k.f.swapClash(k.c); err != nil {
		cause, hint := problem.Explain(err)
		return bad(hint, "%s", cause)
	}
	if l.swap {
		if cause, hint := l.unswappable(); cause != "" {
			return bad(hint, "%s", cause)
		}
	}
	for _, v := range l.moved() {
		if !filepath.IsAbs(v.new) {
			return bad("name it by its absolute path", "%s is not an absolute path", v.new)
		}
		if cause, hint := l.collides(k.f, run); cause != "" {
			return bad(hint, "%s", cause)
		}
		if _, err := os.Lstat(v.new); l.swap {
			// Its path is freed.
		} else if err == nil {
			return bad("choose a name that isn't taken; on a mount of its own choose a directory below its root (lost+found is there)", "%s exists already", v.new)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return bad("", "%s: %s", v.new, err)
		}
		if parent, err := os.Stat(filepath.Dir(v.new)); err != nil || !parent.IsDir() {
			return bad("create it, or choose another directory", "%s is not a directory", filepath.Dir(v.new))
		}
		if d, err := node.DiskOf(filepath.Dir(v.new)); err == nil && d.NetworkFS {
			return warn("etcd needs a local disk", "%s is on a network file system (%s)", v.new, d.FSType)
		}
	}
	if says := l.elsewhere(); says != "" {
		return wrong("name a directory on that disk with --data-dir; or override, if the other disk is good enough for etcd", "%s", says)
	}
	if l.swap {
		why := ""
		if because := k.f.SwapBecause(); because != "" {
			why = ", since " + trust.Text(because)
		}
		return ok("%s, swapped: no file is edited%s", k.c.DataDir, why)
	}
	return ok("%s", k.c.DataDir)
}

// home is the check of a directory that etcd's data is to be moved to.
func (k *checks) home() Verdict {
	e, to := k.f.Etcd, k.c.DataDir
	from := filepath.Clean(e.DataDir.HostPath)
	const instead = "update kubeadm-config instead: etcd-rewind settle --only kubeadm-config"
	switch {
	case !clean(to):
		return bad(instead, "%s is not an absolute path", to)
	case unlinked(to) == unlinked(from):
		return bad("", "etcd's data is at %s already", to)
	case k.f.Live == nil || len(k.f.Live.Members) != 1:
		return bad("set etcd.local.dataDir in kubeadm-config to the directory that etcd uses on every control plane",
			"only the data of a single member is moved; kubeadm-config names one directory for all")
	case e.WALDir != nil:
		return bad(instead, "etcd has a separate --wal-dir")
	case e.DataDir.Inside != "":
		return bad(instead, "etcd's data is in %s below the hostPath", e.DataDir.Inside)
	case trust.Within(from, to) || trust.Within(to, from):
		return bad(instead, "%s and %s are inside each other", from, to)
	case isLink(from) || isLink(to):
		return bad(instead, "one of %s and %s is a link", from, to)
	}
	for _, dir := range []string{from, to} {
		if isMountRoot(dir) {
			return bad(instead, "%s is a mount of its own: it can't be renamed", dir)
		}
		if member := filepath.Join(dir, memberDir); isMountRoot(member) {
			return bad(instead, "%s is a mount of its own, and wouldn't move", member)
		}
	}
	if err := realDir(from); err != nil {
		return bad(instead, "%s", err)
	}
	if err := realDir(to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return bad(instead, "%s", err)
	}
	now, errNow := node.DiskOf(from)
	then, errThen := node.DiskOf(filepath.Dir(to))
	switch {
	case errNow != nil || errThen != nil:
		return bad(instead, "the disks can't be compared: %v", errors.Join(errNow, errThen))
	case now.Device != then.Device:
		return bad(instead, "%s is on the disk mounted at %s, and %s would be on the one at %s", from, now.MountPoint, to, then.MountPoint)
	}
	if aside := asideFor(to, k.f.runName(k.c)); isThere(aside) {
		return bad("check what it is and move it away", "%s exists already", aside)
	}
	if !isThere(to) {
		return ok("%s, where nothing lies", to)
	}
	return ok("%s; what lies there is renamed aside", to)
}

func (k *checks) renames() Verdict {
	man, err := node.DiskOf(k.f.Manifests.Path)
	if err != nil {
		return bad("", "%s", err)
	}
	state, err := node.DiskOf(k.f.StateDir)
	if err != nil {
		return bad("", "%s", err)
	}
	if !man.SameFileSystem(state) {
		return bad("name a directory on the same file system with --state-dir", "%s and %s are on different file systems: a manifest can't be moved by a rename", k.f.Manifests.Path, k.f.StateDir)
	}
	if man.ReadOnly || state.ReadOnly {
		return bad("remount it read-write; dmesg shows why the kernel made it read-only", "%s is on a read-only file system", k.f.Manifests.Path)
	}
	return ok("each is on one file system")
}

// Row 15. Room is judged on the disk on which each file will lie.
func (k *checks) space() Verdict {
	l := k.f.layOut(k.c, k.f.runName(k.c))
	type file struct {
		what, path string
		bytes      uint64
	}
	files := []file{{"the restored data", l.volumes[0].new, uint64(k.info.Size)}, {"its WAL", l.volumes[len(l.volumes)-1].new, walBytes}}
	if k.f.Live != nil {
		files = append(files, file{"a snapshot of the current cluster", filepath.Join(k.f.BesideData(), "x"), uint64(k.f.Live.DBSize)})
	}
	type disk struct {
		node.Disk
		need uint64
		what []string
	}
	var disks []*disk
	for _, f := range files {
		d, err := node.DiskOf(filepath.Dir(f.path))
		if err != nil {
			return bad("", "%s", err)
		}
		i := slices.IndexFunc(disks, func(o *disk) bool { return o.Device == d.Device })
		if i < 0 {
			i, disks = len(disks), append(disks, &disk{Disk: d})
		}
		disks[i].need += f.bytes
		disks[i].what = append(disks[i].what, f.what)
	}
	var fits []string
	for _, d := range disks {
		if d.ReadOnly {
			return bad("remount it read-write", "%s is mounted read-only", d.MountPoint)
		}
		what := strings.Join(d.what, ", ")
		if d.FreeBytes < d.need {
			return bad("free space, or choose a directory on another disk with --data-dir", "%s needs %s for %s, and has %s left",
				d.MountPoint, Bytes(int64(d.need)), what, Bytes(int64(d.FreeBytes)))
		}
		if d.FreeInodes < 64 {
			return bad("remove files", "%s has no inodes left", d.MountPoint)
		}
		fits = append(fits, fmt.Sprintf("%s needed, %s free on %s", Bytes(int64(d.need)), Bytes(int64(d.FreeBytes)), d.MountPoint))
	}
	return ok("%s", strings.Join(fits, "; "))
}

// Bytes says a size as people do, in powers of 1000.
func Bytes(n int64) string {
	const unit = 1000
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	f, i := float64(n)/unit, 0
	for f >= unit && i < 4 {
		f, i = f/unit, i+1
	}
	return fmt.Sprintf("%.1f %cB", f, "kMGTP"[i])
}

// walBytes is what a fresh WAL and the raft snapshot take: etcd preallocates
// segments of 64 MB (SegmentSizeBytes, server/storage/wal), two of them while
// it runs.
const walBytes = 128 << 20
