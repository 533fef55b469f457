//go:build e2e && linux

package disks

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"etcd-rewind/manifest"
	"etcd-rewind/steps"
)

// tmpfs mounts a file system of a size at dir, which it makes.
func tmpfs(t *testing.T, dir, size string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("ssd", dir, "tmpfs", 0, "size="+size+",mode=0700"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error("unmount:", err)
		}
	})
}

// Room and the disk are those on which each file will really lie.
func TestTheDiskOfEachFileIsTheOneThatIsJudged(t *testing.T) {
	g := newGround(t)
	s, f := g.facts(t)
	info, err := s.Inspect(t.Context(), g.snapshot, nil)
	if err != nil {
		t.Fatal(err)
	}
	says := func(check string) (steps.Level, string) {
		t.Helper()
		for _, v := range steps.Check(t.Context(), f, info, steps.Choices{}) {
			if v.Check == check {
				return v.Level, v.Cause
			}
		}
		t.Fatalf("no verdict %s", check)
		return "", ""
	}
	old := f.Etcd.DataDir
	root := filepath.Dir(old.HostPath)
	at := func(dir string) manifest.Location {
		l := old
		l.HostPath, l.Path = dir, l.Under(dir)
		return l
	}

	// The data directory is a link to a small disk.
	ssd := filepath.Join(t.TempDir(), "ssd")
	tmpfs(t, ssd, "1m")
	if err := os.MkdirAll(filepath.Join(ssd, "etcd", "member", "snap"), 0o700); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(root, "link")
	if err := os.Symlink(filepath.Join(ssd, "etcd"), link); err != nil {
		t.Fatal(err)
	}
	f.Etcd.DataDir = at(link)
	if level, cause := says("disk-space"); level != steps.Error || !strings.Contains(cause, ssd+" needs") {
		t.Errorf("a link to a small disk: %s, %s", level, cause)
	}
	if level, cause := says("target"); level != steps.Pass || !strings.Contains(cause, filepath.Join(ssd, "etcd-")) {
		t.Errorf("a link to a small disk: %s, %s", level, cause)
	}

	// The disk is mounted at member, or at member/wal, and nothing can be put
	// beside that on it.
	for _, mount := range []string{"member", "member/wal"} {
		dir := filepath.Join(root, "etcd-"+filepath.Base(mount))
		tmpfs(t, filepath.Join(dir, mount), "512m")
		for _, sub := range []string{"member/snap", "member/wal"} {
			if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		f.Etcd.DataDir = at(dir)
		if level, cause := says("target"); level != steps.Error || !strings.Contains(cause, "the disk mounted at "+filepath.Join(dir, mount)) {
			t.Errorf("%s is a mount of its own: %s, %s", mount, level, cause)
		}
	}

	// It is the root of a disk: there is room in it only, and beside is no disk
	// of it.
	own := filepath.Join(root, "own")
	tmpfs(t, own, "512m")
	f.Etcd.DataDir = at(own)
	if level, cause := says("target"); level != steps.Pass || !strings.HasPrefix(cause, own+"/etcd-") {
		t.Errorf("the root of a disk: %s, %s", level, cause)
	}
	if _, err := steps.NewRestore(f, info, steps.Choices{DataDir: filepath.Join(own, "member", "new")}); err == nil {
		t.Error("planned below member of the old data")
	}
}
