package steps

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"etcd-rewind/snapshot"
)

// A typo in a hostPath makes etcd serve a blank cluster, and the data lies next
// door: that has to be shown before anybody restores an older snapshot.
func TestABlankEtcdIsRecognisedByOlderDataBesideIt(t *testing.T) {
	const ourUID = "the cluster that etcd serves"
	now := time.Now()
	for name, c := range map[string]struct {
		uid   string
		since time.Time
		spoil func(n *fakeNode, dir string)
		found bool
	}{
		"the data lies beside it":              {ourUID, now, nil, true},
		"inside the directory that etcd got":   {ourUID, now, func(n *fakeNode, dir string) { n.rename(dir, filepath.Join(n.root, "lib/etcd/etcd")) }, true},
		"it is this cluster's, from before":    {"", now, nil, false}, // its UID is filled in below
		"this cluster is older than it":        {ourUID, now.Add(-24 * time.Hour), nil, false},
		"it is somebody's who could change it": {ourUID, now, func(n *fakeNode, dir string) { _ = os.Chmod(dir, 0o777) }, false},
		"its database is damaged":              {ourUID, now, func(n *fakeNode, dir string) { _ = os.Truncate(filepath.Join(dir, dbFile), 8192) }, false},
		"it has no database":                   {ourUID, now, func(n *fakeNode, dir string) { _ = os.Remove(filepath.Join(dir, dbFile)) }, false},
		"a link leads to the directory of etcd": {ourUID, now, func(n *fakeNode, dir string) {
			_ = os.RemoveAll(dir)
			_ = os.Symlink(filepath.Join(n.root, "lib/etcd"), dir)
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			n := newFakeNode(t)
			f := n.facts()
			info := n.fixture("after")
			dir := filepath.Join(n.root, "lib/etcd-of-before")
			if err := os.MkdirAll(filepath.Join(dir, "member", "snap"), 0o700); err != nil {
				t.Fatal(err)
			}
			n.rename(info.Path, filepath.Join(dir, dbFile))
			hour := now.Add(-time.Hour)
			if err := os.Chtimes(filepath.Join(dir, dbFile), hour, hour); err != nil {
				t.Fatal(err)
			}
			if c.spoil != nil {
				c.spoil(n, dir)
			}
			uid := c.uid
			if uid == "" {
				uid = info.KubeSystemUID
			}
			f.BlankSince = c.since
			if f.Older = f.findOlder(t.Context(), uid, c.since); (len(f.Older) == 1) != c.found {
				_, err := snapshot.Inspect(t.Context(), filepath.Join(dir, dbFile), nil)
				t.Fatalf("found %+v; reading it: %v", f.Older, err)
			}
			if !c.found {
				return
			}
			if o := f.Older[0]; o.Keys != info.Keys || o.Revision != info.Revision || !o.Written.Equal(info.LastWrite) {
				t.Errorf("%+v", o)
			}
			f.Flags = []string{"--manifests", f.Kubelet.StaticPodPath}
			for _, v := range Check(t.Context(), f, snapshotOfTheTests, Choices{}) {
				if want := "etcd-rewind repoint " + f.Older[0].Dir + " --manifests " + f.Kubelet.StaticPodPath; v.Check == "older-data" && !strings.HasSuffix(v.Hint, want) {
					t.Errorf("the hint is %q, and doesn't end with %q", v.Hint, want)
				}
				if v.Check == "older-data" && (v.Level != Warn || !strings.Contains(v.Cause, "blank cluster") || !strings.Contains(v.Cause, f.Older[0].Dir)) {
					t.Errorf("%+v", v)
				}
			}
		})
	}
}

// A node without data at all, and without an etcd, is looked at too.
func TestAnEmptyDataDirectoryOfAnEtcdThatIsDownIsBlank(t *testing.T) {
	n := newFakeNode(t)
	f := n.facts()
	f.Live = nil
	if _, since := f.blankSince(t.Context()); !since.IsZero() {
		t.Errorf("there is data, and it is blank since %v", since)
	}
	if err := os.Remove(filepath.Join(n.root, "lib/etcd", dbFile)); err != nil {
		t.Fatal(err)
	}
	if _, since := f.blankSince(t.Context()); since.IsZero() {
		t.Error("there is no data, and it isn't blank")
	}
}

func (n *fakeNode) rename(from, to string) {
	if err := os.Rename(from, to); err != nil {
		n.t.Fatal(err)
	}
}

// Etcd is only pointed at data that is there: nothing is restored, nothing is
// moved, and undo points it back.
func TestPointingEtcdAtDataThatIsThere(t *testing.T) {
	n := newFakeNode(t)
	dir := filepath.Join(n.root, "lib/etcd-of-before")
	n.writeData(dir, snapshot.Restored{ClusterID: 0xcccc, Revision: 700, Keys: 60, Members: []snapshot.Member{{ID: 1, Name: "cp1"}}})
	if err := os.MkdirAll(filepath.Join(dir, "member/snap"), 0o700); err != nil {
		t.Fatal(err)
	}
	n.write("lib/etcd-of-before/member/snap/db", []byte("old"))
	before := n.picture()
	f := n.facts()
	c, database, err := f.InPlace(dir, Choices{})
	if err != nil || database != filepath.Join(dir, "member/snap/db") {
		t.Fatal(database, err)
	}
	info := *snapshotOfTheTests
	info.Path, info.Revision, info.Keys = database, 700, 60
	for _, v := range Check(t.Context(), f, &info, c) {
		if v.Level == Error && slices.Contains([]string{"target", "snapshot-hash", "disk-space", "older-data"}, v.Check) {
			t.Errorf("%+v", v)
		}
	}
	p, err := NewRestore(f, &info, c)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range p.Steps {
		for _, a := range s.Actions {
			switch a.Action.(type) {
			case *Stage, *Rename:
				t.Errorf("%s: %s", a.Kind(), a.Title())
			}
		}
	}
	e, _ := n.engine(nil)
	res := e.Run(t.Context(), p)
	if !res.OK {
		t.Fatal(res.Error)
	}
	if s, err := n.Etcd(t.Context(), false); err != nil || s.ClusterID != 0xcccc {
		t.Errorf("etcd runs on %+v, %v", s, err)
	}
	if told := fmt.Sprint(res.Summary); strings.Contains(told, "snapshot 700") {
		t.Errorf("no snapshot was restored: %s", told)
	}
	undo := n.undo()
	if res = e.Run(t.Context(), undo); !res.OK {
		t.Fatal(res.Error)
	}
	if told := fmt.Sprint(res.Summary); !strings.Contains(told, "kept at "+dir+"}") || strings.Contains(told, "rm -rf") {
		t.Errorf("the data is where it was, and not to be removed: %s", told)
	}
	if diff := cmp.Diff(before, n.picture()); diff != "" {
		t.Errorf("the node differs from before (-before +now):\n%s", diff)
	}
	if _, err := os.Stat(filepath.Join(dir, "data.json")); err != nil {
		t.Error(err)
	}
	for name, spoil := range map[string]string{"where etcd's data is already": filepath.Join(n.root, "lib/etcd"), "holds no etcd data": filepath.Join(n.root, "pki")} {
		c.DataDir = spoil
		for _, v := range Check(t.Context(), f, &info, c) {
			if v.Check == "target" && (v.Level != Error || !strings.Contains(v.Cause, name)) {
				t.Errorf("%+v", v)
			}
		}
	}
}

// It ends as a restore does when etcd runs on something else.
func TestEtcdThatIsPointedAtABlankDirectoryNeverPasses(t *testing.T) {
	n := newFakeNode(t)
	dir := filepath.Join(n.root, "lib/etcd-of-before")
	n.writeData(dir, snapshot.Restored{ClusterID: 0xcccc, Revision: 700, Keys: 60})
	before := n.picture()
	c, _, err := n.facts().InPlace(dir, Choices{})
	if err != nil {
		t.Fatal(err)
	}
	p := n.plan(c)
	for i, s := range p.Steps {
		for j, a := range s.Actions {
			if a.Kind() == (&WaitData{}).Kind() {
				p.Steps[i].Actions[j].Action = &spoil{Action: a.Action, do2: func() { _ = os.Remove(filepath.Join(dir, "data.json")) }}
			}
		}
	}
	cause := ""
	e, _ := n.engine(func(f Failure) Choice { cause = f.Cause; return f.Choices[0] })
	if res := e.Run(t.Context(), p); res.OK || !res.Reverted || !strings.Contains(cause, "not on the right data") {
		t.Errorf("%+v: %s", res, cause)
	}
	if diff := cmp.Diff(before, n.picture()); diff != "" {
		t.Error(diff)
	}
}
