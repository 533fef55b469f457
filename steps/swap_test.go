package steps

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"etcd-rewind/manifest"
	"etcd-rewind/problem"
	"etcd-rewind/snapshot"
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
		{"a WAL of its own under systemd", func(n *fakeNode, f *Facts, _ *Choices) {
			f.Etcd = newFakeNode(n.t, inSystemd).facts().Etcd
			f.Etcd.WALDir = &manifest.Location{Volume: "wal", HostPath: n.root + "/wal", Path: n.root + "/wal"}
		}, "the WAL has a directory of its own"},
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

// A machine that boots in the middle of a swap starts etcd's service by itself, on
// whatever lies at the path: never on nothing, where the file system can exchange
// two directories. Where it can't, etcd makes a blank cluster there, which is kept
// aside. From each point the run can be resumed and undone, and nothing is lost.
func TestABootInTheMiddleOfASwapLosesNothing(t *testing.T) {
	for _, c := range []struct {
		name     string
		exchange func(a, b string) error
	}{
		{"exchanged at once", nil},
		{"two renames", func(string, string) error { return manifest.ErrNoExchange }},
	} {
		for _, point := range []string{"before the intent", "after the intent", "in the middle", "before the result"} {
			for _, way := range []string{"resume", "undo", "resume the undo"} {
				t.Run(c.name+", "+point+", "+way, inFakeTime(func(t *testing.T) {
					n := newFakeNode(t, inSystemd)
					before, dir := n.picture(), n.oldData()
					e, _ := n.engine(nil)
					e.exchange = c.exchange
					p := n.plan(Choices{Swap: true})
					swapped := func(p *Plan) (id string) {
						for a := range p.actions() {
							switch a.Action.(type) {
							case *Swap, *SwapBack:
								id = a.ID
							}
						}
						return id
					}
					at := crashed{point, swapped(p)}
					if way == "resume the undo" {
						if res := e.Run(t.Context(), p); !res.OK {
							t.Fatal(res.Error)
						}
						p = n.undo()
						at.action = swapped(p)
					}
					if !n.crashAt(e, p, at) {
						t.Fatal("it did not crash")
					}
					n.mu.Lock()
					n.systemd.boot()
					n.mu.Unlock()
					blank := false
					n.until("the boot has started etcd", func() bool {
						s, err := n.Etcd(t.Context(), false)
						blank = err == nil && s.ClusterID == blankCluster
						return err == nil
					})
					if between := c.exchange != nil && point == "in the middle"; blank != between {
						t.Errorf("the boot has made a blank cluster: %v", blank)
					}
					again, want := NewResume, uint64(0xbbbb)
					if way != "resume" {
						want = 0xaaaa
					}
					if way == "undo" {
						again = NewUndo
					}
					p, err := again(n.stateDir(), "", Terms{})
					if err != nil {
						t.Fatal(err)
					}
					if said := fact(p.Summary, "found there"); (said != "") != blank || blank && !strings.Contains(said, dir+"-found-") {
						t.Errorf("the plan says of other data: %q", said)
					}
					if res := e.Run(t.Context(), p); !res.OK {
						t.Fatal(res.Error)
					}
					n.until("it runs on what was asked for", func() bool { return n.works(want) == nil })
					if way != "resume" {
						if diff := cmp.Diff(before, n.picture()); diff != "" {
							t.Errorf("undone, the node differs:\n%s", diff)
						}
					}
					found, err := filepath.Glob(dir + "-found-*")
					n.must(err)
					if blank && len(found) != 1 || !blank && len(found) > 0 {
						t.Errorf("kept of a blank cluster: %v", found)
					}
					ids := map[uint64]bool{}
					all, err := filepath.Glob(dir + "*")
					n.must(err)
					for _, d := range all {
						if id, err := snapshot.Identify(t.Context(), d, ""); err == nil {
							ids[id.ClusterID] = true
						}
					}
					if !ids[0xaaaa] || !ids[0xbbbb] || blank && !ids[blankCluster] {
						t.Errorf("something is lost: %v hold %v", all, ids)
					}
				}))
			}
		}
	}
}

// Where the data directory is the root of a disk, member in it is swapped; each
// rename of it may be the last.
func TestMemberIsSwappedWhateverIsInterrupted(t *testing.T) {
	for _, exchange := range []func(a, b string) error{manifest.Exchange, func(string, string) error { return manifest.ErrNoExchange }} {
		for crash := range 4 {
			root, id := t.TempDir(), "20261126-120000"
			dir := filepath.Join(root, memberDir)
			s := swapping{Dir: dir, Staged: stagedFor(dir, id), Aside: asideFor(dir, id)}
			for path, holds := range map[string]string{s.Dir: "old", s.Staged: "restored"} {
				if err := os.MkdirAll(path, 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(path, "is"), []byte(holds), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			s.Old = inode(s.Dir)
			left := crash
			r := &run{engine: &Engine{exchange: exchange, Sink: func(Event) {}, crash: func(string, string) {
				if left--; left == 0 {
					panic("the machine boots")
				}
			}}}
			try := func(a Action) {
				defer func() {
					if v := recover(); v != nil {
						if _, err := a.do(t.Context(), r); err != nil {
							t.Error(err)
						}
					}
				}()
				if _, err := a.do(t.Context(), r); err != nil {
					t.Error(err)
				}
			}
			holds := func(path, want string) {
				t.Helper()
				if got, _ := os.ReadFile(filepath.Join(path, "is")); string(got) != want {
					t.Errorf("crash %d: %s holds %q, not %q", crash, path, got, want)
				}
			}
			swap := &Swap{s}
			if try(swap); !swap.moved() || swap.oldNow(root) != holding(s.Aside) || swap.restoredNow(stagingFor(dir, id)) != root {
				t.Errorf("crash %d: old data in %s, restored in %s", crash, swap.oldNow(root), swap.restoredNow(stagingFor(dir, id)))
			}
			holds(s.Dir, "restored")
			holds(s.Aside, "old")
			left = crash
			for _, a := range swap.undo() {
				try(a)
			}
			holds(s.Dir, "old")
			holds(s.Staged, "restored")
			if len(swap.undo()) > 0 {
				t.Error("it can be undone twice")
			}
		}
	}
}
