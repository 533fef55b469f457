package steps

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Somebody puts a symbolic link where the run is about to write or to move
// something. It is never followed, and never put in.
func TestALinkThatIsPlantedInTheMiddleIsNotFollowed(t *testing.T) {
	type planted struct {
		name string
		at   string // once this action has begun; "" before the run
		// link is what becomes a link, like what it leads to.
		link func(n *fakeNode, p *Plan) string
		says string
	}
	inRun := func(path ...string) func(*fakeNode, *Plan) string {
		return func(_ *fakeNode, p *Plan) string { return filepath.Join(append([]string{p.RunDir}, path...)...) }
	}
	for _, c := range []planted{
		{"the run's directory", "", inRun(), "is not a directory but a link"},
		{"the copies", "prepare.1", inRun("kept"), "should be a directory, and is a symbolic link"},
		{"the manifests to come", "prepare.1", inRun("new"), "should be a directory, and is a symbolic link"},
		{"where manifests are kept while they are out", "stop-etcd.1", inRun("aside"), "should be a directory, and is a symbolic link"},
		{"a copy", "prepare.1", inRun("kept", "etcd.yaml"), ""}, // the link is removed
		{"a manifest to come", "start-etcd.2", inRun("new", "etcd.yaml"), "should be a file, and is a symbolic link"},
		{"the manifest", "stop-etcd.1", func(n *fakeNode, _ *Plan) string { return filepath.Join(n.root, "manifests/etcd.yaml") }, "not what it was"},
		{"the snapshot of the current cluster", "stage.1", func(n *fakeNode, p *Plan) string {
			return filepath.Join(n.root, "lib/etcd-before-"+p.Run+".db")
		}, ""}, // nothing is saved, which is said
		{"the staged data", "start-etcd.1", func(_ *fakeNode, p *Plan) string { return p.Restore.Staging }, "should be a directory, and is a symbolic link"},
		{"the staged data before it is made", "stage.1", func(_ *fakeNode, p *Plan) string { return p.Restore.Staging }, ""}, // the link is removed
		{"the new data directory", "start-etcd.1", func(_ *fakeNode, p *Plan) string { return p.Restore.DataDir }, "exists already"},
		{"the report", "verify.1", inRun("report.md.tmp"), ""},
	} {
		t.Run(c.name, inFakeTime(func(t *testing.T) {
			n := newFakeNode(t)
			before := n.picture()
			p := n.plan(Choices{})
			link := c.link(n, p)
			elsewhere := filepath.Join(t.TempDir(), "elsewhere")
			var was map[string]string
			plant := func() {
				moved := link + ".moved"
				switch info, err := os.Lstat(link); {
				case err != nil && strings.HasSuffix(link, ".tmp"):
					n.must(os.WriteFile(elsewhere, []byte("somebody else's"), 0o600))
				case err != nil:
					n.must(os.MkdirAll(filepath.Dir(link), 0o700))
					n.must(os.Mkdir(elsewhere, 0o700))
				case info.IsDir():
					n.must(os.CopyFS(elsewhere, os.DirFS(link)))
					n.must(os.Rename(link, moved))
				default:
					data, err := os.ReadFile(link)
					n.must(err)
					n.must(os.WriteFile(elsewhere, data, 0o600))
					n.must(os.Rename(link, filepath.Join(n.root, "moved")))
				}
				n.must(os.Symlink(elsewhere, link))
				was = tree(t, elsewhere)
			}
			unplant := func() {
				n.must(os.Remove(link))
				for _, moved := range []string{link + ".moved", filepath.Join(n.root, "moved")} {
					if _, err := os.Lstat(moved); err == nil {
						n.must(os.Rename(moved, link))
					}
				}
			}
			if c.at == "" {
				plant()
			}
			var cause string
			e, _ := n.engine(func(f Failure) Choice {
				if cause != "" {
					t.Errorf("asked again: %s", f.Cause)
					return Leave
				}
				cause = f.Cause
				unplant() // the user finds it
				return Retry
			})
			sink := e.Sink
			done := false
			e.Sink = func(ev Event) {
				sink(ev)
				if ev.Type == TypeAction && ev.Action == c.at && ev.State == Started && !done {
					done = true
					plant()
				}
			}
			res := e.Run(t.Context(), p)
			if c.at == "" {
				if res.OK || !strings.Contains(res.Error.Cause, c.says) {
					t.Errorf("%+v", res.Error)
				}
			} else if !res.OK || !strings.Contains(cause, c.says) || (cause == "") != (c.says == "") {
				t.Errorf("ok %t, said %q, want %q", res.OK, cause, c.says)
			}
			if diff := cmp.Diff(was, tree(t, elsewhere)); diff != "" {
				t.Errorf("what the link leads to was written to:\n%s", diff)
			}
			if c.at == "" {
				return
			}
			undo := n.undo()
			if res := e.Run(t.Context(), undo); !res.OK {
				t.Fatal(res.Error)
			}
			if diff := cmp.Diff(before, n.picture()); diff != "" {
				t.Error(diff)
			}
		}))
	}
}

func (n *fakeNode) must(err error) {
	n.t.Helper()
	if err != nil {
		n.t.Error(err)
	}
}

// tree is all that lies below a path.
func tree(t *testing.T, root string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(root, func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		all[path] = info.Mode().String()
		if info.Mode().IsRegular() {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			all[path] += " " + string(data)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return all
}

// A manifest that is a link when the run is planned is shown as one. The link is
// what is moved and what comes back.
func TestAManifestThatIsALinkFromTheBeginningComesBackAsThatLink(t *testing.T) {
	for _, to := range []string{"absolute", "relative"} {
		t.Run(to, inFakeTime(func(t *testing.T) {
			n := newFakeNode(t)
			path := filepath.Join(n.root, "manifests/etcd.yaml")
			n.must(os.Mkdir(filepath.Join(n.root, "git"), 0o700))
			n.must(os.Rename(path, filepath.Join(n.root, "git/etcd.yaml")))
			target := "../git/etcd.yaml"
			if to == "absolute" {
				target = filepath.Join(n.root, "git/etcd.yaml")
			}
			n.must(os.Symlink(target, path))
			n.until("the control plane runs", n.apiReady)
			source := tree(t, filepath.Join(n.root, "git"))
			before := n.picture()
			p := n.plan(Choices{})
			shown := false
			for _, f := range p.Summary {
				shown = shown || f.Name == "a link" && strings.HasPrefix(f.Value, path)
			}
			if !shown {
				t.Errorf("the plan doesn't show it: %v", p.Summary)
			}
			e, _ := n.engine(nil)
			if res := e.Run(t.Context(), p); !res.OK {
				t.Fatal(res.Error)
			}
			undo := n.undo()
			if res := e.Run(t.Context(), undo); !res.OK {
				t.Fatal(res.Error)
			}
			if diff := cmp.Diff(before, n.picture()); diff != "" {
				t.Error(diff)
			}
			if now, err := os.Readlink(path); err != nil || now != target {
				t.Errorf("the link is %q (%v), was %q", now, err, target)
			}
			if diff := cmp.Diff(source, tree(t, filepath.Join(n.root, "git"))); diff != "" {
				t.Error(diff)
			}
		}))
	}
}
