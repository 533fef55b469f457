//go:build e2e && linux

package e2e

import (
	"bytes"
	"compress/gzip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What can't be restored is refused before anything is touched: with exit
// status 4, a cause, what to do about it, and a node that is as it was.
func TestWhatIsRefused(t *testing.T) {
	begin(t)
	dir := t.TempDir()
	good := filepath.Join(dir, "good.db")
	if err := node.Save(t.Context(), good); err != nil {
		t.Fatal(err)
	}
	snapshot, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	file := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	flipped := bytes.Clone(snapshot)
	flipped[len(flipped)/2] ^= 4
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	if _, err := z.Write(snapshot); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}

	for i, c := range []struct {
		name     string
		snapshot string   // the good one when empty
		args     []string // besides it
		as       []string
		prepare  func(t *testing.T)
		cause    string // some words of it
	}{
		{name: "a truncated snapshot", snapshot: file("half.db", snapshot[:len(snapshot)/2]), cause: "truncated"},
		{name: "a snapshot without its end", snapshot: file("torn.db", snapshot[:len(snapshot)-100]), cause: "torn.db"},
		{name: "a flipped bit", snapshot: file("flipped.db", flipped), cause: "sha256"},
		{name: "an empty file", snapshot: file("empty.db", nil), cause: "empty"},
		{name: "a directory", snapshot: dir, cause: "directory"},
		{name: "a missing file", snapshot: filepath.Join(dir, "none.db"), cause: "no such file"},
		{name: "a text file", snapshot: file("text.db", bytes.Repeat([]byte("not a snapshot\n"), 10_000)), cause: "text.db"},
		{name: "a packed snapshot that is cut off", snapshot: file("snapshot.db.gz", zipped.Bytes()[:zipped.Len()/2]), cause: "gzip"},
		{
			// Kubelet reads a copy too, and ends the etcd that runs for it. So these
			// are the copies in a directory that kubelet doesn't watch.
			name: "a stray etcd.yaml.bak", cause: "etcd.yaml.bak",
			args: []string{"--manifests", "/etc/kubernetes/copies"},
			prepare: func(t *testing.T) {
				inside(t, "cp -a /etc/kubernetes/manifests /etc/kubernetes/copies && cp -a /etc/kubernetes/copies/etcd.yaml /etc/kubernetes/copies/etcd.yaml.bak")
				t.Cleanup(func() { insideLater(t, "rm -r /etc/kubernetes/copies") })
			},
		},
		{
			name: "a data directory that is there", cause: "exists already",
			args: []string{"--data-dir", "/var/lib/taken"},
			prepare: func(t *testing.T) {
				inside(t, "mkdir /var/lib/taken")
				t.Cleanup(func() { insideLater(t, "rmdir /var/lib/taken") })
			},
		},
		{name: "the old data directory", cause: "old data directory", args: []string{"--data-dir", dataDir(t)}},
		{name: "a data directory inside of the old one's parent that is none", cause: "is not a directory", args: []string{"--data-dir", "/var/lib/none/etcd"}},
		{
			name: "too little space", cause: "left",
			args: []string{"--data-dir", "/var/lib/small/etcd"},
			prepare: func(t *testing.T) {
				inside(t, "mkdir /var/lib/small && mount -t tmpfs -o size=32m none /var/lib/small")
				t.Cleanup(func() { insideLater(t, "umount /var/lib/small && rmdir /var/lib/small") })
			},
		},
		{name: "somebody who isn't root", cause: "root", as: []string{"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			kubeletLog(t)
			if c.prepare != nil {
				c.prepare(t)
			}
			if c.snapshot == "" {
				c.snapshot = good
			}
			before := wholeNode(t)
			args := append([]string{"restore", c.snapshot, "--yes"}, c.args...)

			if i == 0 { // the same words are written as text
				o := call{args: args, as: c.as}.run(t)
				if o.code != 4 || !strings.Contains(o.stdout+o.stderr, c.cause) {
					t.Errorf("as text: exit status %d, want 4 and words about %q", o.code, c.cause)
				}
				if !strings.Contains(o.stdout+o.stderr, "→") {
					t.Error("as text: there is no hint")
				}
			}

			o := call{args: append(args, "--output", "json"), as: c.as}.run(t)
			if o.code != 4 {
				t.Errorf("as JSON: exit status %d, want 4", o.code)
			}
			if last := o.last(t); last.OK || last.Error == nil || last.Error.Cause == "" || last.Error.Hint == "" {
				t.Errorf("as JSON: the result has no cause and hint: %+v", last)
			} else if !strings.Contains(o.stdout, c.cause) {
				t.Errorf("as JSON: no words about %q", c.cause)
			}
			same(t, "the node was touched", before, wholeNode(t))
		})
	}
	if !apiReady() {
		t.Error("the API is not ready any more")
	}
}

func TestWrongUsage(t *testing.T) {
	begin(t)
	before := wholeNode(t)
	for _, args := range [][]string{
		{},
		{"restore"},
		{"restore", "one", "two"},
		{"restore", "some.db", "--no-such-flag"},
		{"restore", "some.db", "--stop", "slowly"},
		{"restore", "some.db", "--output", "xml"},
		{"nonsense"},
	} {
		if o := run(t, args...); o.code != 2 || o.stderr == "" {
			t.Errorf("etcd-rewind %v: exit status %d, want 2 and a word on stderr:\n%s", args, o.code, o.stderr)
		}
	}
	same(t, "the node was touched", before, wholeNode(t))
}

// A second run while one is under way is refused, and the first goes on.
func TestOneRunAtATime(t *testing.T) {
	begin(t)
	s := aStory(t)
	var second, back outcome
	var id string
	first := call{
		args: []string{"restore", s.snapshot, "--yes", "--output", "json"},
		on: func(e event, p process) {
			if e.Action == "stop-kube-apiserver.1" && e.State == "started" {
				var err error
				if id, err = p.id(); err != nil {
					t.Error(err)
				}
				second = run(t, "restore", s.snapshot, "--yes", "--output", "json")
				back = run(t, "undo", "--yes", "--output", "json")
			}
		},
	}.run(t)
	first.succeeded(t)
	s.isThen(t)
	for name, o := range map[string]outcome{"restore": second, "undo": back} {
		if o.code != 4 {
			t.Errorf("the second run, %s: exit status %d, want 4", name, o.code)
		}
		if last := o.last(t); last.OK || last.Error == nil || last.Error.Hint == "" || !strings.Contains(o.stdout, "process "+id+" on ") {
			t.Errorf("the second run, %s, doesn't say who holds the node: %+v", name, last)
		}
	}
}

// insideLater is inside for the cleanup of a test, when its context has ended.
func insideLater(t *testing.T, command string) {
	t.Helper()
	if out, err := node.Command(afterwards(t), "sh", "-c", command).CombinedOutput(); err != nil {
		t.Errorf("%s: %v\n%s", command, err, out)
	}
}

// inside runs a shell command inside the node.
func inside(t *testing.T, command string) {
	t.Helper()
	if out, err := node.Command(t.Context(), "sh", "-c", command).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
}
