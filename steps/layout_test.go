package steps

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// withWAL gives the fake node's etcd a --wal-dir on a volume of its own, in a
// directory below its root.
func (n *fakeNode) withWAL(dir string) {
	n.t.Helper()
	host := filepath.Join(n.root, dir)
	n.must(os.MkdirAll(host, 0o700))
	data, err := os.ReadFile(filepath.Join(n.root, "manifests/etcd.yaml"))
	n.must(err)
	text := strings.Replace(string(data), "    - --data-dir=", "    - --wal-dir=/wal\n    - --data-dir=", 1)
	text = strings.Replace(text, "    volumeMounts:\n", "    volumeMounts:\n    - {mountPath: /wal, name: etcd-wal}\n", 1)
	text = strings.Replace(text, "  volumes:\n", "  volumes:\n  - {hostPath: {path: "+host+", type: DirectoryOrCreate}, name: etcd-wal}\n", 1)
	n.replace("etcd", []byte(text))
}

// A WAL whose volume lies in the data directory gets the same place in the new
// one: nothing is written below the old, and both move at once.
func TestAWALInsideTheDataDirectoryMovesWithIt(t *testing.T) {
	for _, where := range []string{"lib/etcd/wal", "lib/etcd/member/wal", "lib/link"} {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			n := newFakeNode(t)
			dir := where
			if where == "lib/link" { // leads inside
				n.must(os.MkdirAll(filepath.Join(n.root, "lib/etcd/deep"), 0o700))
				n.must(os.Symlink(filepath.Join(n.root, "lib/etcd/deep"), filepath.Join(n.root, where)))
			}
			n.withWAL(dir)
			f := n.facts()
			before := n.picture()
			p, err := NewRestore(f, snapshotOfTheTests, Choices{})
			if err != nil {
				t.Fatal(err)
			}
			rest := strings.TrimPrefix(strings.Replace(where, "lib/link", "lib/etcd/deep", 1), "lib/etcd")
			if wal := p.Restore.DataDir + rest; !strings.Contains(p.Diffs[0].Text, wal) {
				t.Errorf("the WAL's hostPath isn't %s:\n%s", wal, p.Diffs[0].Text)
			}
			for _, v := range Check(t.Context(), f, snapshotOfTheTests, Choices{}) {
				if v.Check == "target" && v.Level != Pass {
					t.Errorf("%+v", v)
				}
			}
			e, _ := n.engine(nil)
			if res := e.Run(t.Context(), p); !res.OK {
				t.Fatal(res.Error)
			}
			if _, err := os.Stat(p.Restore.DataDir + rest); err != nil {
				t.Error(err)
			}
			if res := e.Run(t.Context(), n.undo()); !res.OK {
				t.Fatal(res.Error)
			}
			if diff := cmp.Diff(before, n.picture()); diff != "" {
				t.Errorf("the old data or the manifests are not as they were:\n%s", diff)
			}
		})
	}
}

// The data directory is a link to another disk. What is new lies there, beside
// what the link leads to, and so does what is kept.
func TestADataDirectoryThatIsALinkStaysOnItsDisk(t *testing.T) {
	n := newFakeNode(t)
	disk := filepath.Join(n.root, "ssd")
	n.must(os.Mkdir(disk, 0o700))
	link := filepath.Join(n.root, "lib/etcd")
	n.must(os.Rename(link, filepath.Join(disk, "data")))
	n.must(os.Symlink(filepath.Join(disk, "data"), link))
	before := n.picture()
	p := n.plan(Choices{})
	want := filepath.Join(disk, "data-"+p.Run)
	if p.Restore.DataDir != want || filepath.Dir(p.Restore.Staging) != disk {
		t.Errorf("the new data is planned at %s, staged at %s", p.Restore.DataDir, p.Restore.Staging)
	}
	for _, s := range p.Steps {
		for _, a := range s.Actions {
			if save, ok := a.Action.(*Save); ok && filepath.Dir(save.To) != disk {
				t.Errorf("the cluster as it is is saved to %s", save.To)
			}
		}
	}
	e, _ := n.engine(nil)
	if res := e.Run(t.Context(), p); !res.OK {
		t.Fatal(res.Error)
	}
	again := n.plan(Choices{})
	if filepath.Dir(again.Restore.DataDir) != disk || !strings.HasPrefix(filepath.Base(again.Restore.DataDir), "data-2") {
		t.Errorf("once more: %s", again.Restore.DataDir)
	}
	if res := e.Run(t.Context(), n.undo()); !res.OK {
		t.Fatal(res.Error)
	}
	if diff := cmp.Diff(before, n.picture()); diff != "" {
		t.Error(diff)
	}
	if to, err := os.Readlink(link); err != nil || to != filepath.Join(disk, "data") {
		t.Errorf("the link leads to %s, %v", to, err)
	}
}

// Each path that a run writes to is held against the old directories, however
// it leads there.
func TestNothingIsPlannedBelowAnOldDirectory(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(n *fakeNode, c *Choices, f **Facts)
		says  string
	}{
		{"the old directory itself", func(n *fakeNode, c *Choices, _ **Facts) { c.DataDir = filepath.Join(n.root, "lib/etcd") }, "inside"},
		{"inside it", func(n *fakeNode, c *Choices, _ **Facts) { c.DataDir = filepath.Join(n.root, "lib/etcd/new") }, "inside"},
		{"deep inside it", func(n *fakeNode, c *Choices, _ **Facts) { c.DataDir = filepath.Join(n.root, "lib/etcd/member/new") }, "inside"},
		{"around it", func(n *fakeNode, c *Choices, _ **Facts) { c.DataDir = filepath.Join(n.root, "lib") }, "contains"},
		{"through a link", func(n *fakeNode, c *Choices, _ **Facts) {
			n.must(os.Symlink(filepath.Join(n.root, "lib/etcd"), filepath.Join(n.root, "link")))
			c.DataDir = filepath.Join(n.root, "link/new")
		}, "inside"},
		{"through a link to a parent", func(n *fakeNode, c *Choices, _ **Facts) {
			n.must(os.Symlink(filepath.Join(n.root, "lib"), filepath.Join(n.root, "link")))
			c.DataDir = filepath.Join(n.root, "link/etcd/new")
		}, "inside"},
		{"a link that leads nowhere", func(n *fakeNode, c *Choices, _ **Facts) {
			n.must(os.Symlink(filepath.Join(n.root, "nowhere"), filepath.Join(n.root, "link")))
			c.DataDir = filepath.Join(n.root, "link/new")
		}, "leads nowhere"},
		{"the old data is a link, and this is inside what it leads to", func(n *fakeNode, c *Choices, f **Facts) {
			n.must(os.Rename(filepath.Join(n.root, "lib/etcd"), filepath.Join(n.root, "data")))
			n.must(os.Symlink(filepath.Join(n.root, "data"), filepath.Join(n.root, "lib/etcd")))
			c.DataDir = filepath.Join(n.root, "data/new")
		}, "inside"},
		{"inside the old WAL directory", func(n *fakeNode, c *Choices, f **Facts) {
			n.withWAL("wal")
			*f = n.facts()
			c.DataDir = filepath.Join(n.root, "wal/new")
		}, "old WAL directory"},
		{"what the run keeps", func(n *fakeNode, _ *Choices, f **Facts) { (*f).StateDir = filepath.Join(n.root, "lib/etcd/runs") }, "--state-dir"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			n := newFakeNode(t)
			f, choices := n.facts(), Choices{}
			c.spoil(n, &choices, &f)
			if _, err := NewRestore(f, snapshotOfTheTests, choices); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("planned: %v", err)
			}
			for _, v := range Check(t.Context(), f, snapshotOfTheTests, choices) {
				if v.Check == "target" && (v.Level != Error || v.Overridable || !strings.Contains(v.Cause, c.says) || v.Hint == "") {
					t.Errorf("%+v, want %q", v, c.says)
				}
			}
		})
	}
}

// Names that only begin alike are beside.
func TestADirectoryBesideTheOldOneIsFine(t *testing.T) {
	for _, name := range []string{"lib/etcd2", "lib/etcd-new", "lib/.etcd"} {
		n := newFakeNode(t)
		if _, err := NewRestore(n.facts(), snapshotOfTheTests, Choices{DataDir: filepath.Join(n.root, name)}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
