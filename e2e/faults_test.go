//go:build e2e && linux

package e2e

import (
	"os/exec"
	"sync"
	"testing"
	"time"
)

// What the restore stands on goes away for a while, in the middle of it. The
// restore waits, and ends where it should.
func TestARestoreOutlivesItsSurroundings(t *testing.T) {
	service := func(t *testing.T, args ...string) {
		if out, err := exec.Command(node.Dir+"/bin/service", args...).CombinedOutput(); err != nil {
			t.Errorf("service %v: %v\n%s", args, err, out)
		}
	}
	for _, c := range []struct {
		name string
		at   string // once this action has started
		harm func(t *testing.T)
	}{
		{"containerd is restarted while etcd stops", "stop-etcd.2", func(t *testing.T) { service(t, "containerd", "restart") }},
		{"containerd is restarted while kube-apiserver starts", "start-kube-apiserver.3", func(t *testing.T) { service(t, "containerd", "restart") }},
		{"kubelet is away for 5 s while etcd should start", "start-etcd.2", func(t *testing.T) {
			service(t, "kubelet", "stop")
			time.Sleep(5 * time.Second) // as long as the fault is to last
			service(t, "kubelet", "start")
		}},
		{"kubelet is restarted just when etcd's manifest is out", "stop-etcd.2", func(t *testing.T) { service(t, "kubelet", "restart") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			begin(t)
			s := aStory(t)
			before := pictureOf(t, manifests)
			var harm sync.WaitGroup
			harmed := false
			o := call{
				args: restarts("restore", s.snapshot, "--yes", "--output", "json"),
				on: func(e event, _ process) {
					if e.Action == c.at && e.State == "started" && !harmed {
						harmed = true
						harm.Go(func() { c.harm(t) })
					}
				},
			}.run(t)
			harm.Wait()
			if !harmed {
				t.Fatalf("the restore never came to %s", c.at)
			}
			last := o.succeeded(t)
			t.Logf("API down %.1f s", last.Outage)
			s.isThen(t)
			undo(t)
			s.isNow(t)
			same(t, "undo is not byte for byte", before, pictureOf(t, manifests))
		})
	}
}
