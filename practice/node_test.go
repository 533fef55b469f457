package practice

import (
	"context"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"etcd-rewind/node"
	"etcd-rewind/snapshot"
	"etcd-rewind/steps"
)

func startNode(t *testing.T, c Config) *Node {
	t.Helper()
	if c.Root == "" {
		c.Root = Root(t.TempDir())
	}
	if c.Linger == 0 {
		c.Linger = 300 * time.Millisecond
	}
	n, err := Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	return n
}

func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestAFullDiskIsToldInWords(t *testing.T) {
	err := explain(&fs.PathError{Op: "write", Path: "/x", Err: syscall.ENOSPC})
	if err == nil || !strings.Contains(err.Error(), "no space for a practice node") {
		t.Error(err)
	}
}

// The rest of what is done with a node is in the exercises; this is the
// discovery: everything is found where the options lead.
func TestDiscoveryFindsThePracticeNode(t *testing.T) {
	t.Parallel()
	n := startNode(t, Config{Seed: SnapshotAfter})
	if err := n.Ready(within(t, 20*time.Second)); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(n.Root.Backups(), "before.db")
	if err := n.WriteSnapshot(SnapshotBefore, file); err != nil {
		t.Fatal(err)
	}
	ctx := within(t, time.Minute)
	s := &steps.Session{Options: n.Options()}
	f, err := s.Discover(ctx)
	for err == nil && f.KubeletErr != nil && ctx.Err() == nil { // on a busy machine it may answer late
		f, err = s.Discover(ctx)
	}
	if err != nil {
		t.Fatal(err)
	}
	if f.EtcdErr != nil || f.APIErr != nil || f.LiveErr != nil || f.RuntimeErr != nil || f.KubeletErr != nil {
		t.Fatal(f.EtcdErr, f.APIErr, f.LiveErr, f.RuntimeErr, f.KubeletErr)
	}
	if !f.APIReady || f.Runtime != "practice v1" || len(f.Controllers) != 2 || f.Live.Members[0].Name != nodeName {
		t.Errorf("%+v", f)
	}
	if have, err := node.ListMeta(ctx, n.Root.Kubeconfig(), "", "namespaces"); err != nil || len(have) != 6 {
		t.Errorf("namespaces %v, %v", have, err)
	}
	info, err := snapshot.Inspect(ctx, file, nil)
	if err != nil {
		t.Fatal(err)
	}
	// What a practice node can't be: root's, and reachable by other nodes.
	own := []string{}
	for _, v := range s.Check(ctx, f, info, steps.Choices{}) {
		if v.Blocks() && !slices.Contains(own, v.Check) {
			t.Errorf("%s: %s: %s", v.Check, v.Level, v.Cause)
		}
	}
}
