//go:build e2e && linux

package e2e

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestADryRunChangesNothing(t *testing.T) {
	begin(t)
	s := aStory(t)
	before := wholeNode(t)
	text := run(t, "restore", s.snapshot, "--dry-run")
	if text.code != 0 || !strings.Contains(text.stdout, "etcdutl snapshot restore") {
		t.Errorf("as text: exit status %d, want 0 and a plan:\n%s", text.code, text.stdout)
	}
	o := run(t, "restore", s.snapshot, "--dry-run", "--output", "json")
	if o.code != 0 {
		t.Errorf("as JSON: exit status %d, want 0", o.code)
	}
	if p := o.plan(t); p.Kind != "restore" || len(p.Steps) < 5 || len(p.Diffs) == 0 {
		t.Errorf("as JSON: a plan of %d steps and %d diffs", len(p.Steps), len(p.Diffs))
	}
	if o := run(t, "check", s.snapshot); o.code != 0 {
		t.Errorf("check: exit status %d, want 0", o.code)
	}
	same(t, "the node was touched", before, wholeNode(t))
	s.isNow(t)
}

func TestARestoreThatLeavesTheAPIServerItsGracePeriod(t *testing.T) {
	begin(t)
	s := aStory(t)
	result := restore(t, s.snapshot, "--stop", "graceful")
	s.isThen(t)
	t.Logf("the API was down for %.1f s", result.Outage)
	if result.Outage > 2*grace*busyness() {
		t.Errorf("the API was down for %.1f s", result.Outage)
	}
}

func TestARestoreThatKeepsControllersAndIsToldWhereTo(t *testing.T) {
	begin(t)
	s := aStory(t)
	inside(t, "mkdir -p /var/lib/elsewhere")
	const to = "/var/lib/elsewhere/etcd data" // a name that needs quoting
	inside(t, "rm -rf '"+to+"'")
	before := pictureOf(t, manifests)

	result := restore(t, s.snapshot, "--keep-controllers", "--data-dir", to, "--bump-revision", "5000000")
	s.isThen(t)
	t.Logf("the API was down for %.1f s", result.Outage)
	if result.DataDir != to || dataDir(t) != to {
		t.Errorf("the result names the data directory %s, etcd.yaml %s, want %s", result.DataDir, dataDir(t), to)
	}
	if _, err := os.Stat(node.HostPath(to + "/member/snap/db")); err != nil {
		t.Error(err)
	}
	after := pictureOf(t, manifests)
	for _, file := range []string{"kube-controller-manager.yaml", "kube-scheduler.yaml"} {
		path := filepath.Join(manifests, file)
		if before[path] != after[path] {
			t.Errorf("%s was touched: %s, now %s", path, before[path], after[path])
		}
	}

	undo(t)
	s.isNow(t)
	same(t, "undo is not byte for byte", before, pictureOf(t, manifests))
}

// The commands that a plan shows do the same when they are pasted into a shell.
// Only crictl is a stand-in: see e2e/crictl.
func TestThePlansCommandsDoTheSame(t *testing.T) {
	begin(t)
	s := aStory(t)
	old := dataDir(t)
	if err := goBuild("etcd-rewind/e2e/crictl", "/run/bin/crictl"); err != nil {
		t.Fatal(err)
	}
	var script bytes.Buffer
	p := run(t, "restore", s.snapshot, "--dry-run", "--output", "json").plan(t)
	for _, step := range p.Steps {
		if step.When != "" {
			continue // its condition doesn't come true here
		}
		for _, a := range step.Actions {
			for _, c := range a.Commands {
				script.WriteString(c + "\n")
			}
		}
	}

	shell := node.Command(t.Context(), "timeout", "240", "bash", "-ex")
	const pki = "/etc/kubernetes/pki/etcd/"
	path := os.Getenv("PATH")
	for _, line := range shell.Env {
		if value, ok := strings.CutPrefix(line, "PATH="); ok {
			path = value
		}
	}
	shell.Env = append(shell.Env, "PATH=/run/bin:"+path, "KUBECONFIG=/etc/kubernetes/super-admin.conf",
		"ETCDCTL_ENDPOINTS=https://127.0.0.1:2379", "ETCDCTL_CACERT="+pki+"ca.crt",
		"ETCDCTL_CERT="+pki+"healthcheck-client.crt", "ETCDCTL_KEY="+pki+"healthcheck-client.key")
	shell.Stdin = &script
	shell.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	began := time.Now()
	out, err := shell.CombinedOutput()
	if err != nil {
		t.Fatalf("the commands failed: %v\n%s", err, out)
	}
	t.Logf("the commands took %.1f s", time.Since(began).Seconds())
	s.isThen(t)
	if now := dataDir(t); now == old || !strings.HasPrefix(now, "/var/lib/etcd-") {
		t.Errorf("etcd's data is at %s, was at %s\n%s", now, old, out)
	}
}
