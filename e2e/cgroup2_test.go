//go:build e2e && linux

package e2e

import (
	"os"
	"strings"
	"testing"
)

// Cgroup v2 with controllers is only to be had with a kernel of one's own: the
// node is a User-Mode Linux. Nothing about times is asserted, for all takes ten
// times as long there.
func TestOnCgroupV2(t *testing.T) {
	e := entryNamed(t, "cgroup2-1.37")
	entryUp(t, e, true)
	putTool(t)

	// Pods are limited by the one hierarchy that there is.
	out := said(t, "cat /sys/fs/cgroup/cgroup.controllers; cat /proc/filesystems; ls -d /sys/fs/cgroup/kubepods.slice/*/*.slice/cri-containerd-*.scope/memory.max; kubelet --version; grep cgroup /proc/self/mountinfo")
	for _, want := range []string{"memory", "cri-containerd-", "Kubernetes v" + e.Kubernetes, " - cgroup2 "} {
		if !strings.Contains(out, want) {
			t.Fatalf("it isn't cgroup v2, there is no %q:\n%s", want, out)
		}
	}
	if strings.Contains(out, " - cgroup ") {
		t.Fatalf("there are hierarchies of v1:\n%s", out)
	}

	kubeletLog(t)
	s := aStory(t)
	const files = "cd " + manifests + " && ls -lin --time-style=full-iso *.yaml && sha256sum *.yaml"
	before := said(t, files)

	result := restore(t, s.snapshot)
	s.isThen(t)
	t.Logf("restored: the API was down for %.1f s", result.Outage)
	if now := said(t, "grep -A1 'hostPath:' "+manifests+"/etcd.yaml"); !strings.Contains(now, "path: "+result.DataDir+"\n") {
		t.Errorf("the result says %s, etcd.yaml:\n%s", result.DataDir, now)
	}

	back := undo(t)
	t.Logf("undone: the API was down for %.1f s", back.Outage)
	s.isNow(t)
	if after := said(t, files); after != before {
		t.Errorf("undo is not byte for byte:\n%s\n%s", before, after)
	}
}

// putTool copies the program to a node whose files can't be reached from here.
func putTool(t *testing.T) {
	t.Helper()
	program, err := built("etcd-rewind")
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(program)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	put := node.Command(t.Context(), "sh", "-c", "cat >"+tool+" && chmod 755 "+tool)
	put.Stdin = file
	if out, err := put.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}
