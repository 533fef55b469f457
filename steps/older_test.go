package steps

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A typo in a hostPath makes etcd serve a blank cluster, and the data lies next
// door: that has to be told before anybody restores an older snapshot.
func TestABlankEtcdIsToldFromOlderDataBesideIt(t *testing.T) {
	const ourUID = "the cluster that etcd serves"
	now := time.Now()
	for name, c := range map[string]struct {
		uid   string
		since time.Time
		spoil func(n *fakeNode, dir string)
		found bool
	}{
		"the data lies next door":              {ourUID, now, nil, true},
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
				t.Fatalf("found %+v", f.Older)
			}
			if !c.found {
				return
			}
			if o := f.Older[0]; o.Keys != info.Keys || o.Revision != info.Revision || !o.Written.Equal(info.LastWrite) {
				t.Errorf("%+v", o)
			}
			for _, v := range Check(t.Context(), f, snapshotOfTheTests, Choices{}) {
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
