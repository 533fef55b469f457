//go:build e2e && linux

package disks

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"etcd-rewind/practice"
	"etcd-rewind/restore"
	"etcd-rewind/steps"
	"etcd-rewind/ui/print"
)

// ground is a practice node whose files lie on a file system of their own.
type ground struct {
	*practice.Node
	snapshot string // on another file system
	before   map[string]string
	cluster  uint64
}

// newGround starts a node. More file systems can be mounted below its root
// first.
func newGround(t *testing.T, more ...func(root string)) *ground {
	t.Helper()
	dir := t.TempDir()
	// A data directory is 64 MiB of preallocated WAL and a few more.
	if err := unix.Mount("disk", dir, "tmpfs", 0, "size=512m,mode=0700"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error("unmount:", err)
		}
	})
	for _, mount := range more {
		mount(dir)
	}
	n, err := practice.Start(t.Context(), practice.Config{Root: practice.Root(dir), Seed: practice.SnapshotAfter, Linger: 300 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	g := &ground{Node: n, snapshot: filepath.Join(t.TempDir(), "before.db"), cluster: n.Seeded.ClusterID}
	if err := n.WriteSnapshot(practice.SnapshotBefore, g.snapshot); err != nil {
		t.Fatal(err)
	}
	g.ready(t)
	g.before = g.manifests(t)
	return g
}

func (g *ground) ready(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := g.Ready(ctx); err != nil {
		log, _ := os.ReadFile(g.Root.Path("var/log/kubelet.log"))
		t.Fatalf("%s\n%s", err, log[max(0, len(log)-4000):])
	}
}

func (g *ground) stateDir() string { return g.Root.Path("etc/kubernetes/etcd-rewind") }

// manifests are what undo has to bring back: content, mode, inode and times.
func (g *ground) manifests(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	entries, err := os.ReadDir(g.Root.Manifests())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		path := filepath.Join(g.Root.Manifests(), e.Name())
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			t.Fatal(err)
		}
		all[e.Name()] = fmt.Sprintf("mode %o, %d:%d, inode %d, changed %v, sha256 %x", st.Mode, st.Uid, st.Gid, st.Ino, st.Mtim, sha256.Sum256(data))
	}
	return all
}

// noneLost fails unless each manifest as it was is in kubelet's directory or
// aside, inode and all.
func (g *ground) noneLost(t *testing.T, p *steps.Plan) {
	t.Helper()
	for name, want := range g.before {
		_, inode, _ := strings.Cut(want, "inode ")
		inode, _, _ = strings.Cut(inode, ",")
		found := false
		for _, dir := range []string{g.Root.Manifests(), filepath.Join(p.RunDir, "aside")} {
			var st unix.Stat_t
			found = found || unix.Lstat(filepath.Join(dir, name), &st) == nil && fmt.Sprint(st.Ino) == inode
		}
		if !found {
			t.Errorf("%s is neither in the manifest directory nor aside", name)
		}
	}
}

func (g *ground) facts(t *testing.T) (*steps.Session, *steps.Facts) {
	t.Helper()
	s := &steps.Session{Options: g.Options()}
	f, err := s.Discover(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s, f
}

func (g *ground) plan(t *testing.T) *steps.Plan {
	t.Helper()
	s, f := g.facts(t)
	info, err := s.Inspect(t.Context(), g.snapshot, nil)
	if err != nil {
		t.Fatal(err)
	}
	p, err := s.Plan(f, info, steps.Choices{KubeletRestart: g.restart()})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// restart is what the systemctl of the node's shell calls.
func (g *ground) restart() string {
	return "curl -fsS -X POST " + strings.TrimSuffix(g.Options().KubeletHealthz, "/healthz") + "/restart"
}

// terms are those on which a run is taken up again.
func (g *ground) terms() steps.Terms { return steps.Terms{KubeletRestart: g.restart()} }

// run runs a plan; harm is done as soon as an action has begun, before it
// writes anything.
func (g *ground) run(t *testing.T, p *steps.Plan, ask steps.Asker, at string, harm func()) *steps.Result {
	t.Helper()
	var told strings.Builder
	begun := time.Now()
	show := print.NewText(&told, print.Options{})
	var once sync.Once
	e := &steps.Engine{Ask: ask, Sink: func(ev steps.Event) {
		show.Event(restore.NodeEvent{Event: ev})
		if harm != nil && ev.Type == steps.TypeAction && ev.State == steps.Started && ev.Action == at {
			once.Do(harm)
		}
	}}
	res := e.Run(t.Context(), p)
	_ = show.Close()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s, %.1f s:\n%s", p.Title, time.Since(begun).Seconds(), told.String())
		}
	})
	return res
}

// restored fails unless the node runs on the restored data.
func (g *ground) restored(t *testing.T) {
	t.Helper()
	g.ready(t)
	if _, f := g.facts(t); f.Live == nil || f.Live.ClusterID == g.cluster {
		t.Errorf("etcd doesn't run on the restored data: %+v, %v", f.Live, f.LiveErr)
	}
}

// asBefore fails unless the node is as it was, byte for byte, and runs.
func (g *ground) asBefore(t *testing.T) {
	t.Helper()
	if diff := cmp.Diff(g.before, g.manifests(t)); diff != "" {
		t.Fatalf("the manifests differ from before (-before +now):\n%s", diff)
	}
	g.ready(t)
	if _, f := g.facts(t); f.Live == nil || f.Live.ClusterID != g.cluster {
		t.Errorf("etcd doesn't run on the old data: %+v, %v", f.Live, f.LiveErr)
	}
}

// undo goes back from the newest run, if it left anything.
func (g *ground) undo(t *testing.T) {
	t.Helper()
	p, err := steps.NewUndo(g.stateDir(), "", g.terms())
	if err != nil {
		// Nothing was touched, then. That the node is as before is seen next.
		t.Log(err)
		return
	}
	if res := g.run(t, p, steps.Unattended, "", nil); !res.OK {
		t.Fatalf("undo: %+v", res.Error)
	}
}

// tidy removes what runs leave, so that the next test has the disk to itself.
func (g *ground) tidy(t *testing.T) {
	t.Helper()
	for _, pattern := range []string{"var/lib/etcd-*", "etc/kubernetes/etcd-rewind/2*"} {
		left, err := filepath.Glob(g.Root.Path(pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range left {
			if err := os.RemoveAll(path); err != nil {
				t.Error(err)
			}
		}
	}
}

// fill takes the last byte of the disk.
func fill(t *testing.T, dir string) (free func()) {
	path := filepath.Join(dir, "somebody-elses-file")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Error(err)
		return func() {}
	}
	for at, size := int64(0), int64(1<<30); size > 0; {
		if err := unix.Fallocate(int(f.Fd()), 0, at, size); err != nil {
			size /= 2
		} else {
			at += size
		}
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	return func() {
		if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
			t.Error(err)
		}
	}
}
