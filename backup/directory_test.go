package backup

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"etcd-rewind/problem"
)

func TestADirectoryKeepsItsPromises(t *testing.T) {
	dir := t.TempDir()
	storeKeepsItsPromises(t, &Directory{Path: dir})
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		st, err := e.Info()
		if err == nil && (st.Mode().Perm()&0o077 != 0 || strings.HasPrefix(e.Name(), ".")) {
			t.Errorf("%s has mode %v", path, st.Mode())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// Who can write there can make a link. It leads nowhere.
func TestALinkInADirectoryLeadsNowhere(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	secret := filepath.Join(outside, "shadow")
	if err := os.WriteFile(secret, []byte("root:x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{"c1": outside, "direct": secret, "dangling": filepath.Join(outside, "new")} {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	s := &Directory{Path: dir}
	for _, name := range []string{"c1/shadow", "direct"} {
		if _, err := s.Get(t.Context(), name); err == nil {
			t.Errorf("%s is read", name)
		}
		if err := s.Delete(t.Context(), name); err == nil {
			t.Errorf("%s is deleted", name)
		}
	}
	for _, name := range []string{"c1/new", "c1/shadow", "direct", "dangling"} {
		if err := s.Put(t.Context(), name, strings.NewReader("x"), 1); err == nil {
			t.Errorf("%s is written", name)
		}
	}
	if got := names(t, s, ""); got != "" {
		t.Errorf("listed: %s", got)
	}
	left, err := os.ReadDir(outside)
	if data, rerr := os.ReadFile(secret); err != nil || rerr != nil || len(left) != 1 || string(data) != "root:x" {
		t.Errorf("outside: %v %q", left, data)
	}
}

func TestADirectoryThatCannotTakeABackupSaysWhy(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		d    Directory
		size int64
		says string
	}{
		"it isn't there":           {Directory{Path: filepath.Join(dir, "none")}, 1, "no such directory"},
		"it is a file":             {Directory{Path: filepath.Join(dir, "file")}, 1, "not a directory"},
		"nothing is mounted there": {Directory{Path: dir, Mounted: true}, 1, "nothing is mounted"},
		"it is full":               {Directory{Path: dir}, 1 << 60, "not enough space"},
	} {
		err := c.d.Put(t.Context(), "a", strings.NewReader("x"), c.size)
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
		if p := problem.Of(err); p == nil && name != "it is a file" {
			t.Errorf("%s: no hint", name)
		}
	}
	mount := &Directory{Path: "/proc", Mounted: true}
	if root, err := mount.open(); err != nil {
		t.Errorf("a mount: %v", err)
	} else {
		_ = root.Close()
	}
}

// A pipe in a file's place would be waited for without end.
func TestAPipeInADirectoryIsNoBackup(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(dir, "a"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &Directory{Path: dir}
	if _, err := s.Get(t.Context(), "a"); err == nil {
		t.Error("it is read")
	}
	if _, err := s.Stat(t.Context(), "a"); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
	if got := names(t, s, ""); got != "" {
		t.Errorf("listed: %s", got)
	}
}
