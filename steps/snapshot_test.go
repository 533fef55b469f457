package steps

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"etcd-rewind/manifest"
)

func TestAnUnpackedSnapshotStaysAsLongAsARunMayNeedIt(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte("as left by a process that was killed"), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	needed, left := path(".etcd-rewind-unpacked-1"), path(".etcd-rewind-unpacked-2")
	f := &Facts{Etcd: &manifest.Etcd{}, Unfinished: &RunInfo{Snapshot: needed}}
	f.Etcd.DataDir.HostPath = filepath.Join(dir, "etcd")
	var u Unpacker
	if _, err := u.Open(context.Background(), f, path("raw.db"), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(needed); err != nil {
		t.Errorf("what a run that broke off restores from: %v", err)
	}
	if _, err := os.Stat(left); err == nil {
		t.Error("what nobody needs is still there")
	}

	n := newFakeNode(t)
	p := n.plan(Choices{})
	p.step("stage").Actions[0].Action.(*Stage).Request.Snapshot = needed
	e, _ := n.engine(nil)
	if res := e.Run(t.Context(), p); !res.OK {
		t.Fatal(res.Error)
	}
	if _, err := os.Stat(needed); err == nil {
		t.Error("after it was restored it is still there")
	}
}
