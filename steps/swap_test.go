package steps

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"etcd-rewind/manifest"
	"etcd-rewind/problem"
)

// A swap renames the old data aside and gives its path to the restored data: no
// hostPath is edited, nothing is for kubeadm to know, undo is renames, and a redo
// has the restored data again.
func TestASwapEditsNothingAndUndoIsRenames(t *testing.T) {
	for _, c := range []struct {
		name string
		make func(n *fakeNode)
	}{
		{"a directory", func(*fakeNode) {}},
		{"a WAL of its own", func(n *fakeNode) { n.withWAL("wal") }},
		{"a WAL inside", func(n *fakeNode) { n.withWAL("lib/etcd/wal") }},
		{"a link", func(n *fakeNode) {
			n.must(os.Mkdir(filepath.Join(n.root, "ssd"), 0o700))
			n.must(os.Rename(filepath.Join(n.root, "lib/etcd"), filepath.Join(n.root, "ssd/data")))
			n.must(os.Symlink(filepath.Join(n.root, "ssd/data"), filepath.Join(n.root, "lib/etcd")))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			n := newFakeNode(t)
			c.make(n)
			info := *snapshotOfTheTests
			kubeadm := *info.Kubeadm
			kubeadm.ClusterConfiguration = kubeadmText(n.oldData())
			info.Kubeadm = &kubeadm
			before, data := n.picture(), realDataDir(n.oldData())
			f := n.facts()
			for _, v := range Check(t.Context(), f, &info, Choices{Swap: true}) {
				if v.Level == Error && (v.Check == "target" || v.Check == "data-volume") {
					t.Errorf("%+v", v)
				}
			}
			p, err := NewRestore(f, &info, Choices{Swap: true})
			if err != nil {
				t.Fatal(err)
			}
			aside := asideFor(data, p.Run)
			if p.Restore.DataDir != data || p.Restore.Aside != aside || p.step(kubeadmStep) != nil {
				t.Errorf("planned: %+v", p.Restore)
			}
			for _, d := range p.Diffs {
				if strings.Contains(d.Text, "hostPath") || strings.Contains(d.Text, "path:") && strings.Count(d.Text, "\n+") > 2 {
					t.Errorf("edited:\n%s", d.Text)
				}
			}
			e, _ := n.engine(nil)
			res := e.Run(t.Context(), p)
			if !res.OK {
				t.Fatal(res.Error)
			}
			if err := n.works(0xbbbb); err != nil {
				t.Error(err)
			}
			if old := fact(res.Summary, "old data"); old != aside+", untouched" {
				t.Errorf("the old data: %s", old)
			}
			if held, err := os.ReadDir(aside); err != nil || len(held) == 0 {
				t.Errorf("%s: %v", aside, err)
			}
			undo := n.undo()
			if err := undo.Allowed(t.Context()); err != nil {
				t.Fatal(problem.Line(err))
			}
			if res := e.Run(t.Context(), undo); !res.OK {
				t.Fatal(res.Error)
			}
			if diff := cmp.Diff(before, n.picture()); diff != "" {
				t.Error(diff)
			}
			if strings.HasPrefix(c.name, "a WAL") {
				return // the fake node restores none elsewhere, so a redo would not believe it
			}
			redo, err := NewRedo(filepath.Join(n.root, "etcd-rewind"), "", Terms{})
			if err != nil {
				t.Fatal(err)
			}
			if err := redo.Allowed(t.Context()); err != nil {
				t.Fatal(problem.Line(err))
			}
			if res := e.Run(t.Context(), redo); !res.OK {
				t.Fatal(res.Error)
			}
			if err := n.works(0xbbbb); err != nil {
				t.Error(err)
			}
			if res := e.Run(t.Context(), n.undo()); !res.OK {
				t.Fatal(res.Error)
			}
			if diff := cmp.Diff(before, n.picture()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Where a program writes the file, an edit would be turned back: the data is
// swapped, unless a directory is named.
func TestAManagedFileIsNotEditedUnlessADirectoryIsNamed(t *testing.T) {
	n := newFakeNode(t)
	f := n.facts()
	if c := f.Settle(snapshotOfTheTests, Choices{}); c.Swap {
		t.Error("swapped without a reason")
	}
	e := *f.Etcd.pod()
	file := *e.File
	file.Data = append([]byte("# Ansible managed: do not edit\n"), file.Data...)
	e.File = &file
	f.Etcd = EtcdOfPod(&e)
	if c := f.Settle(snapshotOfTheTests, Choices{}); !c.Swap || c.DataDir != realDataDir(n.oldData()) {
		t.Errorf("%+v", c)
	}
	for _, v := range Check(t.Context(), f, snapshotOfTheTests, Choices{}) {
		if v.Check == "target" && (v.Level != Pass || !strings.Contains(v.Cause, "Ansible managed")) {
			t.Errorf("%+v", v)
		}
	}
	if c := f.Settle(snapshotOfTheTests, Choices{DataDir: n.oldData() + "-2"}); c.Swap {
		t.Errorf("%+v", c)
	}
}

// What can't be swapped is said before anything is touched.
func TestWhatCannotBeSwappedIsRefused(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(n *fakeNode, f *Facts, c *Choices)
		says  string
	}{
		{"another directory as well", func(n *fakeNode, _ *Facts, c *Choices) { c.DataDir = n.oldData() + "-2" }, "--data-dir names another"},
		{"data that is there already", func(n *fakeNode, _ *Facts, c *Choices) { c.InPlace, c.DataDir = true, n.oldData()+"-2" }, "not swapped"},
		{"certificates in the data directory", func(n *fakeNode, f *Facts, _ *Choices) { f.Etcd.Cert = n.oldData() + "/pki/server.crt" }, "cert-file"},
		{"a disk's root without etcd's data", func(n *fakeNode, f *Facts, _ *Choices) {
			f.Etcd.DataDir = manifest.Location{Volume: f.Etcd.DataDir.Volume, HostPath: "/proc", Path: "/proc"}
		}, "no /proc/member to rename aside"},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newFakeNode(t)
			f, choices := n.facts(), Choices{Swap: true}
			c.spoil(n, f, &choices)
			before := n.picture()
			if _, err := NewRestore(f, snapshotOfTheTests, choices); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("planned: %v", err)
			}
			blocked := false
			for _, v := range Check(t.Context(), f, snapshotOfTheTests, choices) {
				blocked = blocked || v.Level == Error && strings.Contains(v.Cause, c.says)
			}
			if !blocked && c.name != "data that is there already" {
				t.Error("no check blocks it")
			}
			if diff := cmp.Diff(before, n.picture()); diff != "" {
				t.Error(diff)
			}
		})
	}
}
