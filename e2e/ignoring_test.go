//go:build e2e && linux

package e2e

import (
	"context"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Kubelet that was started while the API is down ignores that manifests are
// removed: a node that was rebooted with a broken etcd. The restore makes it
// let go.
func TestTheKubeletThatIgnoresRemovedManifests(t *testing.T) {
	begin(t)
	s := aStory(t)
	rebootWithBrokenEtcd(t)
	log, err := node.KubeletLogEnd(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	command := restarts("restore", s.snapshot, "--yes", "--output", "json")

	t.Run("undo from the middle", func(t *testing.T) {
		before := pictureOf(t, manifests)
		o := call{args: command, on: func(e event, p process) {
			if e.Action == "stop-kube-apiserver.1" && e.State == "done" {
				if err := p.signal(syscall.SIGINT); err != nil {
					t.Error(err)
				}
			}
		}}.run(t)
		if o.code != 3 {
			t.Errorf("exit status %d, want 3", o.code)
		}
		// As it was is: broken.
		undo(t)
		same(t, "undo is not byte for byte", before, pictureOf(t, manifests))
	})

	o := call{args: command}.run(t)
	result := o.succeeded(t)
	s.isThen(t)
	t.Logf("all took %.1f s, the API server was ready %.1f s after its manifest was moved", o.took.Seconds(), result.Outage)
	if !strings.HasPrefix(dataDir(t), "/var/lib/etcd-") {
		t.Errorf("etcd's data is at %s", dataDir(t))
	}

	// It was the kubelet of the title, and not just any.
	text, err := node.KubeletLogFrom(t.Context(), log)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(text, "sources aren't ready yet") {
		t.Error("kubelet's log doesn't say that it has ignored a removed manifest")
	}
	let := false
	for _, e := range o.events {
		let = let || e.Step == "let-go" && e.State == "done"
	}
	if !let {
		t.Error("the step let-go has not run")
	}
}

// rebootWithBrokenEtcd ends all that runs on the node, damages etcd's data, and
// starts kubelet.
func rebootWithBrokenEtcd(t *testing.T) {
	t.Helper()
	if err := node.StopKubelet(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, id := range tasks(t) {
		_ = node.Command(t.Context(), "ctr", "--namespace=k8s.io", "tasks", "kill", "--signal=KILL", id).Run()
	}
	eventually(t, "the containers to end", func() bool { return len(tasks(t)) == 0 })
	db := node.HostPath(dataDir(t) + "/member/snap/db")
	if err := os.Rename(db, db+".good"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() { // for the next test
			if err := os.Rename(db+".good", db); err != nil {
				t.Error(err)
			}
		}
	})
	if err := os.WriteFile(db, []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := node.StartKubelet(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Four sandboxes and a container at least: kubelet has taken up its work.
	eventually(t, "kubelet to start the pods", func() bool { return len(tasks(t)) > 4 })
	if apiReady() {
		t.Fatal("the API is ready")
	}
}

// eventually asks until the answer is yes: on a busy machine after minutes perhaps.
func eventually(t *testing.T, what string, ask func() bool) {
	t.Helper()
	within(t, what, limit, ask)
}

// within asks until the answer is yes, which it has to be in time. It rests as long as
// an answer takes, as all that wait.
func within(t *testing.T, what string, limit time.Duration, ask func() bool) {
	t.Helper()
	began := time.Now()
	for asked := began; !ask(); asked = time.Now() {
		if time.Since(began) > limit {
			t.Fatalf("waited %s for %s", limit, what)
		}
		time.Sleep(max(100*time.Millisecond, time.Since(asked)))
	}
}

// afterwards is for what goes on when the test's own context has ended: it has a limit
// of its own, so that nothing hangs.
func afterwards(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), limit)
	t.Cleanup(cancel)
	return ctx
}
