package manifest

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// A manifest whose label kubelet may read has to keep it when it is edited. Where
// this user may not set labels the model has none, and the new file has none either;
// any other attribute goes the same way.
func TestWriteAsideKeepsTheSELinuxLabel(t *testing.T) {
	dir := t.TempDir()
	model := write(t, filepath.Join(dir, "etcd.yaml"), []byte("old"))
	const label = "system_u:object_r:kubernetes_file_t:s0"
	given := unix.Setxattr(model, selinuxLabel, append([]byte(label), 0), 0) == nil
	path := filepath.Join(dir, ".etcd.yaml.new")
	if err := WriteAside(path, []byte("new"), model); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 100)
	n, err := unix.Getxattr(path, selinuxLabel, buf)
	if got := string(buf[:max(n, 0)]); given != (err == nil) || given && got != label+"\x00" {
		t.Errorf("the label is %q, %v; the model's was set: %v", got, err, given)
	}

	const name = "user.etcd-rewind"
	if err := unix.Setxattr(model, name, []byte("value"), 0); err != nil {
		t.Fatalf("the test needs a file system with attributes: %v", err)
	}
	other := filepath.Join(dir, "other")
	if err := os.Mkdir(other, 0o700); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := keepAttribute(name, model, other); err != nil {
			t.Fatal(err)
		}
		if n, err := unix.Getxattr(other, name, buf); err != nil || string(buf[:n]) != "value" {
			t.Errorf("the attribute is %q, %v", buf[:max(n, 0)], err)
		}
	}
	if err := keepAttribute(name, filepath.Join(dir, "nowhere"), other); err == nil {
		t.Error("a model that isn't there was taken")
	}
}
