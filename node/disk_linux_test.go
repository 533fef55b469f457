package node

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDiskOfAPathThatIsNotThereYet(t *testing.T) {
	dir := t.TempDir()
	have, err := DiskOf(dir)
	if err != nil {
		t.Fatal(err)
	}
	if have.FreeBytes == 0 || have.TotalBytes < have.FreeBytes || have.FreeInodes == 0 || have.FSType == "" || have.ReadOnly || have.NetworkFS {
		t.Errorf("got %+v", have)
	}
	if !strings.HasPrefix(dir, have.MountPoint) {
		t.Errorf("%s is not below the mount point %q", dir, have.MountPoint)
	}
	below, err := DiskOf(filepath.Join(dir, "a", "b", "c"))
	if err != nil || !below.SameFileSystem(have) {
		t.Errorf("below it: %+v, %v", below, err)
	}
	link(t, dir, filepath.Join(dir, "link"))
	linked, err := DiskOf(filepath.Join(dir, "link", "x"))
	if err != nil || !linked.SameFileSystem(have) {
		t.Errorf("through a link: %+v, %v", linked, err)
	}
	proc, err := DiskOf("/proc/self")
	if err != nil || proc.FSType != "proc" || proc.MountPoint != "/proc" || proc.SameFileSystem(have) {
		t.Errorf("/proc: %+v, %v", proc, err)
	}
	if proc.FreeInodes != math.MaxUint64 {
		t.Errorf("a file system that doesn't count inodes has %d", proc.FreeInodes)
	}
	link(t, filepath.Join(dir, "nowhere"), filepath.Join(dir, "dangling"))
	if _, err := DiskOf(filepath.Join(dir, "dangling", "x")); err == nil || !strings.Contains(err.Error(), "leads nowhere") {
		t.Errorf("a link that leads nowhere: %v", err)
	}
	write(t, filepath.Join(dir, "file"), "")
	if _, err := DiskOf(filepath.Join(dir, "file", "x")); err == nil {
		t.Error("below a file")
	}
}

func TestFindMount(t *testing.T) {
	const info = `22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 8:1 /bind /var/lib/etcd rw shared:1 master:2 - ext4 /dev/sda1 rw
31 22 0:40 / /var/lib/etcd-old rw - nfs4 host:/x rw
32 22 0:41 / /mnt/with\040space rw - xfs /dev/sdb rw
33 22 0:42 / /mnt/twice rw - tmpfs tmpfs rw
34 33 0:43 / /mnt/twice rw - btrfs /dev/sdc rw
broken
`
	for _, c := range []struct{ what, path, id, point, fs string }{
		{"the root", "/etc/kubernetes", "", "/", "ext4"},
		{"a bind mount", "/var/lib/etcd/member", "", "/var/lib/etcd", "ext4"},
		{"the mount point itself", "/var/lib/etcd", "", "/var/lib/etcd", "ext4"},
		{"a name that only begins alike", "/var/lib/etcd-new", "", "/", "ext4"},
		{"a network", "/var/lib/etcd-old/x", "", "/var/lib/etcd-old", "nfs4"},
		{"a space in the name", "/mnt/with space/x", "", "/mnt/with space", "xfs"},
		{"two at one place: the upper one", "/mnt/twice/x", "", "/mnt/twice", "btrfs"},
		{"the kernel's ID goes first", "/mnt/twice/x", "33", "/mnt/twice", "tmpfs"},
	} {
		point, fs := findMount(info, c.path, c.id)
		if point != c.point || fs != c.fs {
			t.Errorf("%s: got %s %s, want %s %s", c.what, point, fs, c.point, c.fs)
		}
	}
}

func TestNetworkFileSystems(t *testing.T) {
	for fs, want := range map[string]bool{"nfs4": true, "ceph": true, "fuse.sshfs": true, "ext4": false, "xfs": false, "fuse.portal": false, "overlay": false} {
		if isNetworkFS(fs) != want {
			t.Errorf("%s: %v", fs, !want)
		}
	}
}

func TestOwner(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	uid, gid, mode, label, err := Owner(dir)
	if err != nil || uid != os.Getuid() || mode != 0o700|os.ModeSticky {
		t.Errorf("got %d:%d %v %q, %v", uid, gid, mode, label, err)
	}
	if _, _, _, _, err := Owner(filepath.Join(dir, "nope")); !os.IsNotExist(err) {
		t.Errorf("of nothing: %v", err)
	}
}
