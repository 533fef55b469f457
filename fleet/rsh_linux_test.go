package fleet

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"etcd-rewind/restore"
)

// A hardened node has /tmp mounted noexec: the copy goes where it may run.
func TestACopyIsPutWhereProgramsMayRun(t *testing.T) {
	home := t.TempDir()
	unshare := "unshare --mount"
	if os.Getuid() != 0 {
		unshare = "unshare --user --map-root-user --mount"
	}
	r, _, tmp := aRemote(t, fmt.Sprintf(`export HOME=%s
exec %s sh -c 'mount -t tmpfs -o noexec noexec "$TMPDIR" && exec sh -c "$1"' sh "$*"`, home, unshare))
	l, err := dialled(t, r, "cp2")
	if err != nil {
		t.Fatal(err)
	}
	if f, err := call[*restore.NodeFacts](t.Context(), l, doFacts, struct{}{}); err != nil || f.Member != "cp2" {
		t.Fatalf("%+v %v", f, err)
	}
	copies := entries(t, home)
	if len(copies) != 1 {
		t.Fatalf("in the home directory: %v", copies)
	}
	if in := entries(t, filepath.Join(home, copies[0])); len(in) != 1 || in[0] != "etcd-rewind" {
		t.Errorf("beside the copy: %v", in)
	}
	l.bye()
	eventually(t, "the copy is removed", func() bool { return len(entries(t, home)) == 0 && len(entries(t, tmp)) == 0 })
}
