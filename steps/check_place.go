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
)

// Row 9.
func (k *checks) data() Verdict {
	d := k.f.Etcd.DataDir
	db := filepath.Join(d.Path, "member", "snap", "db")
	if _, err := os.Stat(db); err != nil {
		if errors.Is(err, fs.ErrPermission) {
			return bad("run it as root", "%s can't be read", d.Path)
		}
		return warn("a typo in the hostPath of etcd.yaml makes a blank cluster boot without a word; the restore itself needs nothing from there",
			"%s holds no etcd data now", d.Path)
	}
	return ok("%s stays as it is", d.Path)
}

func (k *checks) onDataVolume() Verdict {
	if flags := k.f.Etcd.OnDataVolume; len(flags) > 0 {
		flags = slices.DeleteFunc(slices.Clone(flags), func(f string) bool { return f == "wal-dir" || f == "--wal-dir" })
		if len(flags) > 0 {
			return bad("move those files to a volume of their own first", "the data volume also holds the files of %s: a new hostPath would lose them", strings.Join(flags, ", "))
		}
	}
	return ok("only data lies on the volume %s", k.f.Etcd.DataDir.Volume)
}

// Row 13.
func (k *checks) target() Verdict {
	if k.c.InPlace {
		return k.inPlace()
	}
	for _, v := range layOut(k.f.Etcd, k.c.DataDir, k.f.runName(k.c)).volumes {
		if !filepath.IsAbs(v.new) {
			return bad("name it with its whole path", "%s is not an absolute path", v.new)
		}
		if within(v.new, v.old) {
			return bad("choose a directory beside the old one", "%s is, or contains, the old data directory, which stays untouched", v.new)
		}
		if _, err := os.Lstat(v.new); err == nil {
			return bad("choose a name that isn't taken; on a mount of its own choose a directory below its root (lost+found is there)", "%s exists already", v.new)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return bad("", "%s: %s", v.new, err)
		}
		if parent, err := os.Stat(filepath.Dir(v.new)); err != nil || !parent.IsDir() {
			return bad("make it, or choose another place", "%s is not a directory", filepath.Dir(v.new))
		}
		if d, err := node.DiskOf(filepath.Dir(v.new)); err == nil && d.NetworkFS {
			return warn("etcd needs a local disk", "%s is on a network file system (%s)", v.new, d.FSType)
		}
	}
	return ok("%s", k.c.DataDir)
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
		return bad("remount it read-write; dmesg tells why the kernel made it read-only", "%s is on a read-only file system", k.f.Manifests.Path)
	}
	return ok("each is on one file system")
}

// Row 15.
func (k *checks) space() Verdict {
	d, err := node.DiskOf(filepath.Dir(k.c.DataDir))
	if err != nil {
		return bad("", "%s", err)
	}
	if d.ReadOnly {
		return bad("remount it read-write", "%s is mounted read-only", d.MountPoint)
	}
	need := uint64(k.info.Size) + walBytes
	if k.f.Live != nil {
		need += uint64(k.f.Live.DBSize) // for the snapshot of the state that is left
	}
	if d.FreeBytes < need {
		return bad("free space, or choose a directory on another disk with --data-dir", "%s needs %s for the restored data and its WAL, %s has %s left",
			k.c.DataDir, Bytes(int64(need)), d.MountPoint, Bytes(int64(d.FreeBytes)))
	}
	if d.FreeInodes < 64 {
		return bad("remove files", "%s has no inodes left", d.MountPoint)
	}
	return ok("%s needed, %s free on %s", Bytes(int64(need)), Bytes(int64(d.FreeBytes)), d.MountPoint)
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
