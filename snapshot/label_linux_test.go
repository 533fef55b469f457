package snapshot

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// Where the kernel doesn't let this user set a label, the restore must say so
// and leave nothing.
func TestRestoreGivesTheSELinuxLabelOrRefuses(t *testing.T) {
	const label = "system_u:object_r:container_file_t:s0"
	req := request(file(t, "s.db", fixture(t, "before")), filepath.Join(t.TempDir(), "etcd"))
	req.SELinuxLabel = label
	if _, err := Restore(context.Background(), req, nil); err != nil {
		wantProblem(t, err, CodeTarget)
		if _, err := os.Lstat(req.DataDir); err == nil {
			t.Error("a directory was left behind")
		}
		return
	}
	err := filepath.WalkDir(req.DataDir, func(p string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		buf := make([]byte, 100)
		n, err := unix.Lgetxattr(p, "security.selinux", buf)
		if err != nil || string(buf[:n]) != label+"\x00" {
			t.Errorf("%s has the label %q, %v", p, buf[:max(n, 0)], err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
