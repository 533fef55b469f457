//go:build e2e && linux

package e2e

import (
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"etcd-rewind/e2e/cluster"
)

// Three control planes of kind: kubeconfigs are led to haproxy, and from one node to
// another there is no ssh. Each is started by itself.
func TestKindsControlPlanesBehindHAProxyAreRestoredByATicket(t *testing.T) {
	e := entryNamed(t, "kind-three-1.37")
	config := configOf(e)
	config.Name, config.Dir = base+"-kind", filepath.Join(logs, e.Name)
	c, err := cluster.UpCluster(t.Context(), config, e.Hostname(), e.Hostname()+"2", e.Hostname()+"3")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Down(afterwards(t)); err != nil {
			t.Error(err)
		}
	})
	down, err := c.Balance(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := down(); err != nil {
			t.Error(err)
		}
	})
	for _, n := range c.Nodes {
		on(n, func() {
			if err := buildTool(); err != nil {
				t.Fatal(err)
			}
			said(t, "rm -rf /root/.ssh /etc/ssh/id_ed25519")
		})
	}
	use(t, c.Nodes[0])
	kubeletLog(t, c.Nodes...)
	if leads := said(t, "grep -h server: /etc/kubernetes/*admin.conf; getent hosts control-plane.test"); strings.Count(leads, "server: https://control-plane.test:6443\n") != 2 || !strings.Contains(leads, "10.77.0.251 ") {
		t.Fatalf("kubeconfigs don't lead to the load balancer:\n%s", leads)
	}
	s := aStory(t)
	if o := run(t, "restore", s.snapshot, "--fleet", "--yes"); o.code == 0 || !strings.Contains(o.stdout+o.stderr, "--host NAME=HOST") {
		t.Errorf("without ssh: exit status %d\n%s%s", o.code, o.stdout, o.stderr)
	}
	s.isNow(t)
	ticket := strings.TrimSuffix(s.snapshot, ".db") + ".ticket"
	if o := run(t, "ticket", s.snapshot, ticket); o.code != 0 {
		t.Fatalf("exit status %d\n%s%s", o.code, o.stdout, o.stderr)
	}
	for _, n := range c.Nodes[1:] {
		giveTo(t, n, s.snapshot)
		giveTo(t, n, ticket)
	}
	each := func(args ...string) {
		t.Helper()
		begun := time.Now()
		var all sync.WaitGroup
		for _, n := range c.Nodes {
			all.Go(func() {
				if out, err := n.Command(t.Context(), tool, args...).CombinedOutput(); err != nil {
					t.Errorf("%s: %v\n%s", n.Hostname, err, out)
				}
			})
		}
		all.Wait()
		t.Logf("%s took %.1f s", args[0], time.Since(begun).Seconds())
	}
	each("restore", s.snapshot, "--ticket", ticket, "--yes")
	allAre(t, c, s.isThen)
	each("undo", "--yes")
	allAre(t, c, s.isNow)
}
