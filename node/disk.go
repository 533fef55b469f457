package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Disk is the file system that a path lies on.
type Disk struct {
	FreeBytes  uint64 // for a process without reserved space
	TotalBytes uint64
	FreeInodes uint64 // the largest number there is, when inodes aren't counted
	ReadOnly   bool
	Device     uint64
	MountPoint string
	FSType     string
	NetworkFS  bool // etcd's files should not be there
}

// SameFileSystem reports whether a rename can go from d to o. Two mounts of one
// device count as two: the kernel refuses that too.
func (d Disk) SameFileSystem(o Disk) bool {
	return d.Device == o.Device && d.MountPoint == o.MountPoint
}

// DiskOf looks at the file system that path lies on or would lie on: that of
// the nearest parent that exists.
func DiskOf(path string) (Disk, error) {
	p, err := nearest(path)
	if err != nil {
		return Disk{}, err
	}
	d, err := diskOf(p)
	if err != nil {
		return Disk{}, fmt.Errorf("file system of %s: %w", path, err)
	}
	return d, nil
}

// nearest is the nearest existing parent of path, or path, without symbolic links.
func nearest(path string) (string, error) {
	p, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	for {
		real, err := filepath.EvalSymlinks(p)
		if err == nil {
			return real, nil
		}
		if !errors.Is(err, fs.ErrNotExist) || p == filepath.Dir(p) {
			return "", err
		}
		// A link that leads nowhere would be followed by whoever writes there.
		if st, lerr := os.Lstat(p); lerr == nil && st.Mode()&fs.ModeSymlink != 0 {
			return "", fmt.Errorf("%s is a symbolic link that leads nowhere: %w", p, err)
		}
		p = filepath.Dir(p)
	}
}

// Resolve gives path without symbolic links. What doesn't exist yet is taken as
// it is, below the nearest parent that does.
func Resolve(path string) (string, error) {
	p, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	real, err := nearest(p)
	if err != nil {
		return "", err
	}
	rest := ""
	for q := p; ; q = filepath.Dir(q) {
		if _, err := os.Lstat(q); err == nil || q == filepath.Dir(q) {
			return filepath.Join(real, rest), nil
		}
		rest = filepath.Join(filepath.Base(q), rest)
	}
}

// isNetworkFS goes by the kernel's names for file systems.
func isNetworkFS(fsType string) bool {
	switch fsType {
	case "nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs",
		"lustre", "gpfs", "beegfs", "gfs2", "ocfs2", "virtiofs":
		return true
	}
	for _, s := range []string{"fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.s3fs", "fuse.rclone", "fuse.juicefs"} {
		if strings.HasPrefix(fsType, s) {
			return true
		}
	}
	return false
}

// Owner reads who owns path and how it may be used: uid, gid, permission bits
// with setuid, setgid and sticky, and the SELinux label, "" when it has none.
// Symbolic links are followed.
func Owner(path string) (uid, gid int, mode os.FileMode, selinuxLabel string, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, 0, 0, "", err
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, 0, 0, "", &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	label, err := selinux(path)
	if err != nil {
		return 0, 0, 0, "", fmt.Errorf("SELinux label of %s: %w", path, err)
	}
	const keep = fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky
	return int(st.Uid), int(st.Gid), info.Mode() & keep, label, nil
}
