package node

import (
	"os"
	"path/filepath"
	"testing"
)

func TestTheDataOfAnEtcdIsWhatItHasOpen(t *testing.T) {
	proc := t.TempDir()
	for pid, files := range map[string][]string{
		"7": {"/dev/null", "socket:[1]", "/var/lib/etcd/member/wal/0.tmp", "/var/lib/etcd-20261126-090948/member/snap/db"},
		"8": {"/dev/null", "/var/lib/etcd/member/snap/db (deleted)"},
	} {
		dir := filepath.Join(proc, pid, "fd")
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		for i, f := range files {
			if err := os.Symlink(f, filepath.Join(dir, string(rune('0'+i)))); err != nil {
				t.Fatal(err)
			}
		}
	}
	for pid, want := range map[int]string{7: "/var/lib/etcd-20261126-090948", 8: "", 9: "", 0: ""} {
		if is := openedData(proc, pid); is != want {
			t.Errorf("%d: %q", pid, is)
		}
	}
}
