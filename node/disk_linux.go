package node

import (
	"bytes"
	"errors"
	"math"
	"os"
	"strconv"
	"strings"

	"etcd-rewind/trust"

	"golang.org/x/sys/unix"
)

func diskOf(path string) (Disk, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return Disk{}, err
	}
	var f unix.Statfs_t
	if err := unix.Statfs(path, &f); err != nil {
		return Disk{}, err
	}
	d := Disk{
		FreeBytes:  f.Bavail * uint64(f.Bsize),
		TotalBytes: f.Blocks * uint64(f.Bsize),
		FreeInodes: f.Ffree,
		ReadOnly:   f.Flags&unix.ST_RDONLY != 0,
		Device:     uint64(st.Dev),
	}
	if f.Files == 0 { // btrfs and others make inodes as they go
		d.FreeInodes = math.MaxUint64
	}
	info, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return Disk{}, err
	}
	d.MountPoint, d.FSType = findMount(string(info), path, mountID(path))
	d.NetworkFS = isNetworkFS(d.FSType)
	return d, nil
}

// mountID is "" on kernels before 5.8.
func mountID(path string) string {
	var x unix.Statx_t
	if unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_MNT_ID, &x) != nil || x.Mask&unix.STATX_MNT_ID == 0 {
		return ""
	}
	return strconv.FormatUint(x.Mnt_id, 10)
}

// findMount finds a path's mount in the text of /proc/self/mountinfo: by its ID,
// or the longest mount point above it, of equal ones the last, which is on top.
func findMount(mountinfo, path, id string) (point, fsType string) {
	for line := range strings.Lines(mountinfo) {
		f := strings.Fields(line)
		sep := -1
		for i := 6; i < len(f); i++ {
			if f[i] == "-" {
				sep = i
				break
			}
		}
		if sep < 0 || sep+1 >= len(f) {
			continue
		}
		at := unescapeMount(f[4])
		if id != "" && f[0] == id {
			return at, f[sep+1]
		}
		if trust.Within(at, path) && len(at) >= len(point) {
			point, fsType = at, f[sep+1]
		}
	}
	return point, fsType
}

// unescapeMount undoes \040 for a space and the like.
func unescapeMount(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func selinux(path string) (string, error) {
	buf := make([]byte, 4096)
	n, err := unix.Getxattr(path, "security.selinux", buf)
	switch {
	case errors.Is(err, unix.ENODATA), errors.Is(err, unix.ENOTSUP):
		return "", nil
	case err != nil:
		return "", err
	}
	return string(bytes.TrimRight(buf[:n], "\x00")), nil
}
