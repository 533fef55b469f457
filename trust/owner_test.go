package trust

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Who may rename a directory puts another one in its place between two looks.
func TestADirectoryIsObeyedOnlyWhereNobodyElseCanReplaceIt(t *testing.T) {
	base := t.TempDir()
	mkdir := func(path string, mode os.FileMode) string {
		path = filepath.Join(base, path)
		if err := os.MkdirAll(path, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	own, open := mkdir("own", 0o755), mkdir("open", 0o777)
	good, bad := mkdir("own/runs", 0o700), mkdir("open/runs", 0o700)
	mkdir("sticky", 0o777|os.ModeSticky)
	sticky := mkdir("sticky/runs", 0o700)
	for _, link := range [][2]string{{own, "own/through"}, {own, "open/through"}, {open, "own/to-open"}} {
		if err := os.Symlink(link[0], filepath.Join(base, link[1])); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{good, sticky, filepath.Join(own, "through/runs")} {
		if err := Dir(dir); err != nil {
			t.Errorf("%s: %v", dir, err)
		}
	}
	for _, dir := range []string{bad, filepath.Join(open, "through/runs"), filepath.Join(own, "to-open/runs")} {
		if err := Dir(dir); err == nil || !strings.Contains(err.Error(), "others can write to "+open) {
			t.Errorf("%s: %v", dir, err)
		}
	}
}

// A name that only begins alike is another directory.
func TestWithinIsTheDirectoryAndWhatIsBelow(t *testing.T) {
	for _, c := range []struct {
		dir, path string
		want      bool
	}{
		{"/var/lib/etcd", "/var/lib/etcd", true},
		{"/var/lib/etcd", "/var/lib/etcd/member", true},
		{"/var/lib/etcd", "/var/lib/etcd-old", false},
		{"/var/lib/etcd", "/var/lib", false},
		{"/", "/var", true},
	} {
		if got := Within(c.dir, c.path); got != c.want {
			t.Errorf("Within(%q, %q) = %t", c.dir, c.path, got)
		}
	}
}
