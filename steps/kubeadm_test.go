package steps

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"etcd-rewind/manifest"
	"etcd-rewind/node"
	"etcd-rewind/snapshot"
)

// fakeKubeadm is the fake node's kubeadm-config.
type fakeKubeadm struct {
	kubeadmErr   error  // why it can't be had
	kubeadm      string // what the restored one says
	onSetKubeadm func() // just before it is written
}

// kubeadmDataDir is what kubeadm would render etcd.yaml with now.
func (n *fakeNode) kubeadmDataDir() string {
	n.t.Helper()
	read, err := n.KubeadmConfig(n.t.Context())
	if err != nil {
		n.t.Fatal(err)
	}
	have, err := manifest.ReadKubeadmEtcd([]byte(read.Data["ClusterConfiguration"]))
	if err != nil {
		n.t.Fatal(err)
	}
	return have.DataDir
}

func fact(facts []Fact, name string) string {
	for _, f := range facts {
		if f.Name == name {
			return f.Value
		}
	}
	return ""
}

// kubeadm upgrade renders etcd.yaml from kubeadm-config. After a restore it
// names the directory that etcd really has, and after the undo the old one.
func TestKubeadmIsToldWhereTheRestoredDataLies(t *testing.T) {
	n := newFakeNode(t)
	before := n.picture()
	p := n.plan(Choices{})
	if says := fact(p.Summary, "kubeadm-config"); !strings.Contains(says, p.Restore.DataDir) {
		t.Errorf("the plan says %q", says)
	}
	if d := p.Diffs[len(p.Diffs)-1]; !strings.Contains(d.Path, "kubeadm-config") || !strings.Contains(d.Text, "+    dataDir: "+p.Restore.DataDir+"  # ours") {
		t.Errorf("the plan shows %s\n%s", d.Path, d.Text)
	}
	e, _ := n.engine(nil)
	res := e.Run(t.Context(), p)
	if !res.OK {
		t.Fatal(res.Error)
	}
	if is := n.kubeadmDataDir(); is != p.Restore.DataDir {
		t.Errorf("kubeadm would start etcd on %s, not on %s", is, p.Restore.DataDir)
	}
	if says := fact(res.Summary, "kubeadm-config"); !strings.Contains(says, p.Restore.DataDir) {
		t.Errorf("the summary says %q", says)
	}
	report, err := os.ReadFile(res.Report)
	if err != nil || !strings.Contains(string(report), "kubectl replace -f -") {
		t.Errorf("the report has no command for it: %v\n%s", err, report)
	}

	res = e.Run(t.Context(), n.undo())
	if !res.OK {
		t.Fatal(res.Error)
	}
	old := filepath.Join(n.root, "lib/etcd")
	if is := n.kubeadmDataDir(); is != old {
		t.Errorf("kubeadm would start etcd on %s, not on %s", is, old)
	}
	if says := fact(res.Summary, "kubeadm-config"); !strings.Contains(says, old+" again") {
		t.Errorf("after the undo: %q", says)
	}
	if diff := cmp.Diff(before, n.picture()); diff != "" {
		t.Error(diff)
	}
}

// What can't be written is left to the user, with the command. The run is good.
func TestAKubeadmConfigThatCantBeWrittenIsAWarning(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(n *fakeNode, info *snapshot.Info, c *Choices)
		says  string
	}{
		{"no permission", func(n *fakeNode, _ *snapshot.Info, _ *Choices) {
			n.kubeadmErr = refusedBy("403: User \"x\" cannot get resource \"configmaps\"")
		}, "403"},
		{"somebody has deleted it", func(n *fakeNode, _ *snapshot.Info, _ *Choices) { n.kubeadmErr = refusedBy("404 not found") }, "404"},
		{"no answer", func(n *fakeNode, _ *snapshot.Info, _ *Choices) { n.kubeadmErr = errors.New("connection reset by peer") }, "connection reset"},
		{"a WAL directory of its own", func(_ *fakeNode, info *snapshot.Info, _ *Choices) {
			info.Kubeadm = &snapshot.Kubeadm{ClusterConfiguration: strings.Replace(kubeadmText("/var/lib/etcd"), "    dataDir", "    extraArgs: {wal-dir: /wal}\n    dataDir", 1)}
		}, "wal-dir"},
		{"an anchor", func(_ *fakeNode, info *snapshot.Info, _ *Choices) {
			info.Kubeadm = &snapshot.Kubeadm{ClusterConfiguration: "etcd:\n  local: {dataDir: &d /var/lib/etcd, imageTag: *d}\n"}
		}, "anchor"},
		{"another node of the fleet has written its own directory", func(n *fakeNode, info *snapshot.Info, c *Choices) {
			info.Kubeadm = &snapshot.Kubeadm{ClusterConfiguration: kubeadmText("/var/lib/etcd")}
			c.Fleet = &Fleet{Run: "20261120-212605", Token: "t", Members: []manifest.Member{{Name: "cp1", PeerURLs: []string{"https://10.77.0.11:2380"}}}}
			n.kubeadm = kubeadmText("/data/etcd-20261120-212605")
		}, "/data/etcd-20261120-212605"},
	} {
		t.Run(c.name, inFakeTime(func(t *testing.T) {
			n := newFakeNode(t)
			info, choices := *snapshotOfTheTests, Choices{}
			c.spoil(n, &info, &choices)
			if n.kubeadm == "" && info.Kubeadm != snapshotOfTheTests.Kubeadm {
				n.kubeadm = info.Kubeadm.ClusterConfiguration
			}
			p, err := NewRestore(n.facts(), &info, choices)
			if err != nil {
				t.Fatal(err)
			}
			e, events := n.engine(nil)
			e.pace.verify = fakePace.verify / 10
			res := e.Run(t.Context(), p)
			if !res.OK {
				t.Fatal(res.Error)
			}
			says := fact(res.Summary, "kubeadm-config")
			if !strings.Contains(says, c.says) || !strings.Contains(says, "kubectl replace -f -") || !strings.Contains(says, p.Restore.DataDir) {
				t.Errorf("the summary says %q, want %q and the command", says, c.says)
			}
			warned := false
			for _, ev := range *events {
				warned = warned || ev.Type == TypeAction && ev.State == Warned && ev.Step == kubeadmStep
			}
			if !warned {
				t.Error("it isn't shown as a warning")
			}
		}))
	}
}

func refusedBy(says string) error { return &node.RefusedError{Err: errors.New(says)} }

// The step is left out where kubeadm doesn't render etcd's manifest, and does its
// work where the snapshot can't say what is in it.
func TestWhereKubeadmHasNoPart(t *testing.T) {
	for _, c := range []struct {
		name    string
		kubeadm *snapshot.Kubeadm
		step    bool
	}{
		{"no kubeadm-config in the snapshot", nil, false},
		{"etcd is external for kubeadm", &snapshot.Kubeadm{ClusterConfiguration: "etcd:\n  external:\n    endpoints: [a]\n"}, false},
		{"encrypted at rest", &snapshot.Kubeadm{Unreadable: "encrypted at rest"}, true},
	} {
		t.Run(c.name, inFakeTime(func(t *testing.T) {
			n := newFakeNode(t)
			info := *snapshotOfTheTests
			info.Kubeadm = c.kubeadm
			p, err := NewRestore(n.facts(), &info, Choices{})
			if err != nil {
				t.Fatal(err)
			}
			if (p.step(kubeadmStep) != nil) != c.step {
				t.Fatalf("the step is there: %t", !c.step)
			}
			e, _ := n.engine(nil)
			if res := e.Run(t.Context(), p); !res.OK {
				t.Fatal(res.Error)
			}
			if is := n.kubeadmDataDir(); c.step && is != p.Restore.DataDir {
				t.Errorf("kubeadm would start etcd on %s", is)
			}
		}))
	}
}

// Somebody changes another value between reading and writing: both are there
// afterwards.
func TestAnEditOfKubeadmConfigInBetweenIsKept(t *testing.T) {
	n := newFakeNode(t)
	meanwhile := func() {
		path, err := n.kubeadmFile()
		n.must(err)
		text, err := os.ReadFile(path)
		n.must(err)
		n.must(os.WriteFile(path, append(text, "clusterName: prod\n"...), 0o600))
	}
	n.onSetKubeadm = func() { n.onSetKubeadm = nil; meanwhile() }
	p := n.plan(Choices{})
	e, _ := n.engine(nil)
	if res := e.Run(t.Context(), p); !res.OK {
		t.Fatal(res.Error)
	}
	read, err := n.KubeadmConfig(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if text := read.Data["ClusterConfiguration"]; n.kubeadmDataDir() != p.Restore.DataDir || !strings.Contains(text, "clusterName: prod") {
		t.Errorf("it is now:\n%s", text)
	}
}
