//go:build e2e && linux

package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"etcd-rewind/e2e/cluster"
)

// externalUp brings up a cluster whose etcd is on systemd hosts of its own, for one
// test. The helpers work on its first control plane, and the program under test is at
// tool on every node.
func externalUp(t *testing.T, form cluster.Form, etcdHosts, controlPlanes int) *cluster.Cluster {
	t.Helper()
	began := time.Now()
	name := fmt.Sprintf("%s-%d", form, etcdHosts)
	config := configOf(entryNamed(t, "external-"+string(form)))
	config.Name, config.Dir = base+"-"+name, filepath.Join(logs, name)
	c, err := cluster.UpExternal(t.Context(), config, form, numbered("etcd", etcdHosts), numbered("cp", controlPlanes)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Down(afterwards(t)); err != nil {
			t.Error(err)
		}
	})
	t.Logf("the cluster came up in %.1f s", time.Since(began).Seconds())
	use(t, c.Nodes[0])
	if err := buildTool(); err != nil {
		t.Fatal(err)
	}
	for _, n := range c.All()[1:] {
		giveTool(t, n)
	}
	return c
}

// giveTool copies the program under test from the node that the helpers work on.
func giveTool(t *testing.T, n *cluster.Node) {
	t.Helper()
	giveTo(t, n, tool)
	if err := os.Chmod(n.HostPath(tool), 0o755); err != nil {
		t.Fatal(err)
	}
}

func numbered(name string, count int) []string {
	var all []string
	for i := range count {
		all = append(all, fmt.Sprintf("%s%d", name, i+1))
	}
	return all
}

// etcdSettings shows all files by which the hosts' etcd is started, of which an undo
// has to leave every byte.
func etcdSettings(t *testing.T, c *cluster.Cluster) picture {
	t.Helper()
	all := picture{}
	for _, n := range c.Etcd {
		for _, path := range n.EtcdSettings() {
			all[n.Hostname+" "+path] = readOn(t, n, "cat "+path+" && stat -c '%U:%G %a' "+path+" || true")
		}
	}
	return all
}

// giveTo copies a file from the node that the helpers work on to another, where it
// has the same path.
func giveTo(t *testing.T, n *cluster.Node, path string) {
	t.Helper()
	data, err := os.ReadFile(node.HostPath(path))
	if err == nil {
		err = os.MkdirAll(filepath.Dir(n.HostPath(path)), 0o755)
	}
	if err == nil {
		err = os.WriteFile(n.HostPath(path), data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// The hosts are what the tests of external etcd stand on.
func TestExternalEtcdIsReal(t *testing.T) {
	for _, form := range []cluster.Form{cluster.Kubespray, cluster.ByHand} {
		t.Run(string(form), func(t *testing.T) {
			c := externalUp(t, form, 1, 1)
			etcd := c.Etcd[0]

			t.Run("the API server's objects are in it", func(t *testing.T) {
				kubectl(t, "create", "configmap", "seen", "--namespace=default")
				out, err := etcd.Etcdctl(t.Context(), "get", "/registry/configmaps/default/seen", "--keys-only")
				if err != nil || !strings.Contains(out, "seen") {
					t.Errorf("etcd has no ConfigMap default/seen: %q, %v", out, err)
				}
				if len(readManifests(t)) != 3 {
					t.Errorf("the control plane has an etcd of its own: %v", readManifests(t))
				}
			})
			t.Run("its settings are rendered to the same bytes", func(t *testing.T) {
				content := func() string {
					return readOn(t, etcd, "cat /etc/etcd.env /etc/systemd/system/etcd.service 2>&1 || true")
				}
				before := content()
				if err := etcd.RenderEtcd(); err != nil {
					t.Fatal(err)
				}
				if after := content(); before != after {
					t.Errorf("before:\n%s\nafter:\n%s", before, after)
				}
			})
			t.Run("systemd starts it again when it is killed", func(t *testing.T) {
				pid := readOn(t, etcd, "systemctl show --value -p MainPID etcd")
				readOn(t, etcd, "systemctl kill --signal=KILL etcd")
				eventually(t, "another etcd", func() bool {
					now := readOn(t, etcd, "systemctl show --value -p MainPID etcd")
					return now != pid && strings.TrimSpace(now) != "0" && apiReady()
				})
			})
			t.Run("the host reboots, and the cluster lives", func(t *testing.T) {
				if err := etcd.Reboot(t.Context()); err != nil {
					t.Fatal(err)
				}
				eventually(t, "the API", apiReady)
				if boots := strings.Count(readOn(t, etcd, "journalctl --list-boots --quiet --no-pager"), "\n"); boots != 2 {
					t.Errorf("the journal knows %d boots, want 2", boots)
				}
			})
			t.Run("a restore by hand brings a snapshot back", func(t *testing.T) { restoreExternalByHand(t, c) })
		})
	}
}

func TestExternalEtcdIsRestored(t *testing.T) {
	for _, form := range []cluster.Form{cluster.Kubespray, cluster.ByHand} {
		t.Run(string(form), func(t *testing.T) {
			c := externalUp(t, form, 1, 1)
			t.Run("not while API servers run", func(t *testing.T) { refuseExternal(t, c) })
			t.Run("and back, from the control plane", func(t *testing.T) { restoreExternal(t, c, form, c.Nodes[0], c.Etcd[0]) })
			t.Run("again, from the etcd host", func(t *testing.T) { restoreExternal(t, c, form, c.Etcd[0], c.Nodes[0]) })
			if form == cluster.Kubespray { // by hand, etcd is asked by the key that is gone
				t.Run("with a unit that fails to start", func(t *testing.T) { failToStartExternal(t, c, c.Etcd[0]) })
			}
			if form == cluster.ByHand {
				t.Run("with a unit that may rarely be started", func(t *testing.T) { rarelyStartedExternal(t, c, c.Etcd[0]) })
				t.Run("in the wizard on the etcd host", func(t *testing.T) { wizardOverExternal(t, c, form, c.Etcd[0]) })
				t.Run("in the wizard on the control plane", func(t *testing.T) { wizardOverExternal(t, c, form, c.Nodes[0]) })
				t.Run("from the etcd host while etcd is down", func(t *testing.T) { downExternal(t, c, c.Etcd[0]) })
				t.Run("from the etcd host after a kill", func(t *testing.T) { resumeExternal(t, c, form, c.Etcd[0], resumed, undone) })
			}
			if form == cluster.Kubespray {
				t.Run("and systemd keeps the rules that the engine stands on", func(t *testing.T) { keepsSystemdsRules(t, c.Etcd[0]) })
				t.Run("with a stopped unit of another name", func(t *testing.T) { findsAStoppedUnit(t, c.Etcd[0]) })
			}
			t.Run("by each command", func(t *testing.T) { commandsOfExternal(t, c) })
			t.Run("beside a restore by hand", func(t *testing.T) { besideByHand(t, c) })
		})
	}
}

// keepsSystemdsRules runs the table on a host, which the fake systemd of the crash
// matrix is held to as well.
func keepsSystemdsRules(t *testing.T, host *cluster.Node) {
	t.Helper()
	const program = "/usr/local/bin/rules.test"
	if out, err := exec.CommandContext(t.Context(), "go", "test", "-c", "-tags", "e2e", "-o", host.HostPath(program), "./onhost").CombinedOutput(); err != nil {
		t.Fatalf("go test -c: %v\n%s", err, out)
	}
	out, err := host.Command(t.Context(), program, "-test.v", "-test.timeout=5m").CombinedOutput()
	if t.Logf("%s", out); err != nil || !strings.Contains(string(out), "PASS") {
		t.Errorf("%s: %v", host.Hostname, err)
	}
	readOn(t, host, "rm "+program)
}

// findsAStoppedUnit has etcd be stopped, and called otherwise: it is found by its
// command. One that is named has to be there.
func findsAStoppedUnit(t *testing.T, etcd *cluster.Node) {
	s := aStory(t)
	giveFrom(t, node, etcd, s.snapshot)
	const rename = "systemctl stop %[1]s && systemctl disable --quiet %[1]s && mv /etc/systemd/system/%[1]s.service /etc/systemd/system/%[2]s.service && systemctl daemon-reload"
	readOn(t, etcd, fmt.Sprintf(rename, "etcd", "kv"))
	on(etcd, func() {
		if o := run(t, "check", s.snapshot); !strings.Contains(o.stdout, "/etc/systemd/system/kv.service, /etc/etcd.env") {
			t.Errorf("a stopped kv.service isn't found: exit status %d\n%s%s", o.code, o.stdout, o.stderr)
		}
		if o := run(t, "check", s.snapshot, "--etcd-unit", "other"); o.code != 4 || !strings.Contains(o.stdout+o.stderr, "no unit other.service") {
			t.Errorf("exit status %d for a unit that isn't there\n%s%s", o.code, o.stdout, o.stderr)
		}
	})
	readOn(t, etcd, fmt.Sprintf(rename, "kv", "etcd")+" && systemctl enable --quiet --now etcd")
	eventually(t, "the API", apiReady)
}

// etcdClusters are the IDs of the clusters that the hosts' members serve.
func etcdClusters(t *testing.T, c *cluster.Cluster) map[string]uint64 {
	t.Helper()
	all := map[string]uint64{}
	for _, n := range c.Etcd {
		on(n, func() { all[n.Hostname] = etcdNow(t).ClusterID })
	}
	return all
}

// manifestsOf shows what kubelet runs on the control planes.
func manifestsOf(t *testing.T, c *cluster.Cluster) picture {
	t.Helper()
	all := picture{}
	for _, n := range c.Nodes {
		on(n, func() {
			for path, is := range pictureOf(t, manifests) {
				all[n.Hostname+" "+path] = is
			}
		})
	}
	return all
}

// allOf runs the program on a node for all nodes of the cluster. It has to succeed.
func allOf(t *testing.T, n *cluster.Node, see func(event), args ...string) (result event, took time.Duration) {
	t.Helper()
	on(n, func() {
		o := call{args: append(args, "--fleet", "--yes", "--output", "json"), on: func(e event, _ process) {
			if see != nil {
				see(e)
			}
		}}.run(t)
		result, took = o.succeeded(t), o.took
	})
	return result, took
}

// besideData lists what there is of etcd on its disk, with its inodes.
const besideData = "ls -di /var/lib/etcd*; ls -Ri /var/lib/etcd"

func refuseExternal(t *testing.T, c *cluster.Cluster) {
	s, etcd := aStory(t), c.Etcd[0]
	giveTo(t, etcd, s.snapshot)
	settings, data := etcdSettings(t, c), readOn(t, etcd, besideData)
	on(etcd, func() {
		o := run(t, "restore", s.snapshot, "--yes")
		if o.code != 4 || !strings.Contains(o.stdout, "--override api-servers") || !strings.Contains(o.stdout, "restore --fleet") {
			t.Errorf("exit status %d, want 4 for the check api-servers\n%s", o.code, o.stdout)
		}
	})
	if now := readOn(t, etcd, besideData); now != data {
		t.Errorf("a refused restore has changed the host (before, after):\n%s\n%s", data, now)
	}
	same(t, "a refused restore has changed the settings", settings, etcdSettings(t, c))
	s.isNow(t)
}

// swaps says of a form that the restored data takes the path of the old one: its
// next run would turn an edit back.
func swaps(form cluster.Form) bool { return form == cluster.Kubespray || form == cluster.Docker }

// named is how the others name the data.
var named = map[cluster.Form]string{
	cluster.ByHand: "--data-dir=%s\n", cluster.Podman: "-v %s:/var/lib/etcd \\", cluster.Standalone: "path: %s\n",
}

// restoreExternal restores from one node, undoes that from another, and redoes and
// undoes it from the first. It returns how long the API was down.
func restoreExternal(t *testing.T, c *cluster.Cluster, form cluster.Form, from, other *cluster.Node) float64 {
	s := aStory(t)
	if from != node {
		giveTo(t, from, s.snapshot)
	}
	settings, pods, before := etcdSettings(t, c), manifestsOf(t, c), etcdClusters(t, c)

	stopped, states := map[string]time.Time{}, map[string]bool{}
	result, took := allOf(t, from, func(e event) {
		for _, seen := range e.Seen {
			if seen.What == "unit" || seen.What == "etcd.service" {
				word, _, _ := strings.Cut(seen.Is, " ")
				states[strings.TrimSuffix(word, ",")] = true
			}
		}
		if e.Step == "stop-etcd" && e.Action == "" && e.State == "done" {
			stopped[e.Node] = e.Time
		}
	}, "restore", s.snapshot)
	t.Logf("the API was down for %.1f s; all took %.1f s, at load %s; etcd's unit was %v", result.Outage, took.Seconds(), loadNow(), slices.Sorted(maps.Keys(states)))
	if notify := form == cluster.Kubespray || form == cluster.ByHand; notify && (!states["activating"] || !states["inactive"]) { // it elects itself
		t.Errorf("the states of etcd's unit that were shown: %v", states)
	}
	allAre(t, c, s.isThen)
	restored := etcdClusters(t, c)
	old, untouched := map[string]string{}, map[string]picture{}
	for _, n := range c.Etcd {
		if restored[n.Hostname] == before[n.Hostname] || restored[n.Hostname] != restored[c.Etcd[0].Hostname] {
			t.Errorf("the members were of %v, and are of %v", before, restored)
		}
		data := ""
		for _, of := range result.Nodes {
			if of.Node == n.Hostname && of.Result != nil {
				data = of.Result.DataDir
			}
		}
		old[n.Hostname] = "/var/lib/etcd"
		if swaps(form) { // its next run would turn an edit back, and start the old data
			old[n.Hostname] = "/var/lib/etcd-before-" + result.Run
			if data != "/var/lib/etcd" {
				t.Errorf("%s: the restored data is in %q, and wasn't swapped in", n.Hostname, data)
			}
		} else if now := readOn(t, n, "cat "+strings.Join(n.EtcdSettings(), " ")); !strings.HasPrefix(data, "/var/lib/etcd-2") || !strings.Contains(now, fmt.Sprintf(named[form], data)) {
			t.Errorf("%s: the data directory %q isn't named by\n%s", n.Hostname, data, now)
		}
		const written = "find %s -newermt @%d.%09d"
		at := stopped[n.Hostname]
		if files := readOn(t, n, fmt.Sprintf(written, old[n.Hostname]+"/member", at.Unix(), at.Nanosecond())); at.IsZero() || files != "" {
			t.Errorf("%s: written in the old data since etcd was stopped at %s: %s", n.Hostname, at, files)
		}
		const about = "stat -c '%U:%G %a' "
		if now, want := readOn(t, n, about+data), readOn(t, n, about+old[n.Hostname]); now != want {
			t.Errorf("%s: the new data directory is %s, the old one %s", n.Hostname, now, want)
		}
		on(n, func() { untouched[n.Hostname] = pictureOf(t, old[n.Hostname]) })
	}
	if swaps(form) {
		same(t, "kubespray's files were edited", settings, etcdSettings(t, c))
		rendersAgain(t, c)
	} else {
		for _, n := range c.Etcd {
			if err := n.Reboot(t.Context()); err != nil {
				t.Fatal(err)
			}
			giveTool(t, n)
		}
	}
	// A member that is started last isn't needed by the API, nor by who restarts it.
	eventually(t, "all members and API servers", func() bool { return c.Healthy(t.Context()) == nil && allReady(c) })
	if now := etcdClusters(t, c); !maps.Equal(now, restored) {
		t.Errorf("etcd has come back with other data: %v, not %v", now, restored)
	}
	allAre(t, c, s.isThen)
	for _, n := range c.Etcd {
		on(n, func() {
			same(t, "the old data directory was touched", untouched[n.Hostname], pictureOf(t, old[n.Hostname]))
		})
	}

	back := func(by *cluster.Node) {
		t.Helper()
		undone, _ := allOf(t, by, nil, "undo")
		t.Logf("the API was down for %.1f s while it was undone", undone.Outage)
		allAre(t, c, s.isNow)
		same(t, "undo is not byte for byte", settings, etcdSettings(t, c))
		same(t, "undo is not byte for byte", pods, manifestsOf(t, c))
		if now := etcdClusters(t, c); !maps.Equal(now, before) {
			t.Errorf("etcd is of %v after the undo, was of %v", now, before)
		}
	}
	back(other)
	redone, _ := allOf(t, other, nil, "redo")
	t.Logf("the API was down for %.1f s while it was redone", redone.Outage)
	allAre(t, c, s.isThen)
	if now := etcdClusters(t, c); !maps.Equal(now, restored) {
		t.Errorf("a redo leads to %v, not %v", now, restored)
	}
	back(from)
	return result.Outage
}

// rendersAgain is kubespray's next run: it renders the settings, and restarts etcd.
func rendersAgain(t *testing.T, c *cluster.Cluster) {
	t.Helper()
	for _, n := range c.Etcd {
		if err := n.RenderEtcd(); err != nil {
			t.Fatal(err)
		}
		readOn(t, n, "systemctl daemon-reload && systemctl restart --no-block etcd")
	}
	if err := c.Healthy(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// failToStartExternal takes a host's key away before its etcd is started: systemd
// says failed, and etcd's own words are in the journal. With the key in its place
// again, all nodes are reverted.
func failToStartExternal(t *testing.T, c *cluster.Cluster, etcd *cluster.Node) {
	s := aStory(t)
	settings, pods, before := etcdSettings(t, c), manifestsOf(t, c), etcdClusters(t, c)
	key := etcd.EtcdKey()
	gone, failed := false, false
	o := call{args: fleetArgs(s), on: func(e event, _ process) {
		switch {
		case e.Step == "stop-etcd" && e.Action == "" && e.State == "done" && !gone:
			gone = true
			readOn(t, etcd, "mv "+key+" "+key+".gone")
		case e.Type == "action" && e.Node == etcd.Hostname && e.State == "failed" && !failed:
			failed = true
			readOn(t, etcd, "mv "+key+".gone "+key)
		}
	}}.run(t)
	if last := o.last(t); last.OK || !last.Reverted || o.code != 1 {
		t.Errorf("exit status %d, ok %t, reverted %t", o.code, last.OK, last.Reverted)
	}
	if !strings.Contains(o.stdout, filepath.Base(key)+": no such file or directory") {
		t.Errorf("the journal's words are not shown:\n%s", o.story())
	}
	allAre(t, c, s.isNow)
	same(t, "undo is not byte for byte", settings, etcdSettings(t, c))
	same(t, "undo is not byte for byte", pods, manifestsOf(t, c))
	if now := etcdClusters(t, c); !maps.Equal(now, before) {
		t.Errorf("etcd is of %v after the undo, was of %v", now, before)
	}
}

// rarelyStartedExternal has systemd start etcd twice an hour and no more
// (StartLimitBurst=): it has been started so often already, and a restore, its undo
// and a redo start it all the same.
func rarelyStartedExternal(t *testing.T, c *cluster.Cluster, etcd *cluster.Node) {
	s := aStory(t)
	const dropIn = "/etc/systemd/system/etcd.service.d/rarely.conf"
	readOn(t, etcd, "mkdir -p "+filepath.Dir(dropIn)+" && printf '[Unit]\nStartLimitIntervalSec=1h\nStartLimitBurst=2\n' >"+dropIn+" && systemctl daemon-reload && systemctl reset-failed etcd")
	if out := readOn(t, etcd, "for i in 1 2 3; do systemctl stop etcd; systemctl start etcd || systemctl show -p Result etcd; done 2>&1"); !strings.Contains(out, "start-limit-hit") {
		t.Fatalf("systemd starts it as often as it is told:\n%s", out)
	}
	readOn(t, etcd, "systemctl reset-failed etcd && systemctl start etcd && systemctl stop etcd && systemctl start etcd")
	eventually(t, "the API", apiReady)
	allOf(t, c.Nodes[0], nil, "restore", s.snapshot)
	allAre(t, c, s.isThen)
	allOf(t, c.Nodes[0], nil, "undo")
	allAre(t, c, s.isNow)
	allOf(t, c.Nodes[0], nil, "redo")
	allAre(t, c, s.isThen)
	allOf(t, c.Nodes[0], nil, "undo")
	allAre(t, c, s.isNow)
	readOn(t, etcd, "rm "+dropIn+" && systemctl daemon-reload")
}

// downExternal restores from a host whose etcd is down: that a control plane uses it is
// in its data alone.
func downExternal(t *testing.T, c *cluster.Cluster, etcd *cluster.Node) {
	s := aStory(t)
	giveTo(t, etcd, s.snapshot)
	readOn(t, etcd, "systemctl stop etcd")
	on(etcd, func() {
		if o := run(t, "check", s.snapshot, "--fleet"); !strings.Contains(o.stdout, "all that had a lease when etcd was last written take part: "+c.Nodes[0].Hostname) {
			t.Errorf("exit status %d\n%s%s", o.code, o.stdout, o.stderr)
		}
	})
	allOf(t, etcd, nil, "restore", s.snapshot)
	allAre(t, c, s.isThen)
	allOf(t, etcd, nil, "undo")
	readOn(t, etcd, "systemctl start etcd")
	allAre(t, c, s.isNow)
}

// commandsOfExternal calls each command once on an etcd host and on a control
// plane without etcd.
func commandsOfExternal(t *testing.T, c *cluster.Cluster) {
	s := aStory(t)
	result, _ := allOf(t, c.Nodes[0], nil, "restore", s.snapshot)
	for _, n := range []*cluster.Node{c.Etcd[0], c.Nodes[0]} {
		t.Run(n.Hostname, func(t *testing.T) {
			use(t, n)
			if n != c.Nodes[0] {
				giveFrom(t, c.Nodes[0], n, s.snapshot)
			}
			saved := fmt.Sprintf("/var/lib/saved-%s-%s.db", n.Hostname, strings.TrimPrefix(s.label, "story="))
			for _, tt := range []struct {
				code int
				says string
				args []string
			}{
				{0, "revision", []string{"save", saved}},
				{0, "is intact", []string{"inspect", saved}},
				{0, "one cluster", []string{"diff", saved}},
				{0, result.Run, []string{"runs"}},
				{4, map[bool]string{true: "api-servers", false: "etcd runs on other nodes"}[n == c.Etcd[0]], []string{"check", saved}},
				{0, "Checks:", []string{"check", saved, "--fleet"}},
				{4, "no run was interrupted", []string{"resume", "--yes"}},
				{0, "Undo run " + result.Run, []string{"undo", "--fleet", "--dry-run"}},
				{0, "On every node: ", []string{"ticket", saved, saved + ".ticket"}},
			} {
				if o := run(t, tt.args...); o.code != tt.code || !strings.Contains(o.stdout+o.stderr, tt.says) {
					t.Errorf("etcd-rewind %s: exit status %d, want %d and %q\n%s%s", strings.Join(tt.args, " "), o.code, tt.code, tt.says, o.stdout, o.stderr)
				}
			}
		})
	}
	allOf(t, c.Etcd[0], nil, "undo")
	allAre(t, c, s.isNow)
}

// giveFrom copies a file between nodes, at the same path.
func giveFrom(t *testing.T, from, to *cluster.Node, path string) {
	t.Helper()
	on(from, func() { giveTo(t, to, path) })
}

func loadNow() string {
	text, _ := os.ReadFile("/proc/loadavg")
	load, _, _ := strings.Cut(string(text), " ")
	return load
}

// readOn is said on another node.
func readOn(t *testing.T, n *cluster.Node, command string) (out string) {
	t.Helper()
	on(n, func() { out = said(t, command) })
	return out
}

// restoreExternalByHand is the documented order, with all hosts at the same time:
// what a restore of etcd-rewind is held against. It returns how long the API was
// down.
func restoreExternalByHand(t *testing.T, c *cluster.Cluster) time.Duration {
	s := aStory(t)
	const aside = "/etc/kubernetes/kube-apiserver.yaml"
	var members []string
	names := map[string]string{}
	for _, n := range c.Etcd {
		giveTo(t, n, s.snapshot)
		name := strings.TrimSpace(readOn(t, n, `sed -n 's/^ETCD_NAME=//p; s/^  --name \([^ ]*\).*/\1/p' /etc/etcd.env /etc/systemd/system/etcd.service 2>/dev/null || true`))
		names[n.Hostname] = name
		members = append(members, fmt.Sprintf("%s=https://%s:2380", name, n.Address))
	}
	// Everybody does their part at the same time, and nobody types.
	each := func(nodes []*cluster.Node, command func(n *cluster.Node) string) {
		t.Helper()
		var all sync.WaitGroup
		for _, n := range nodes {
			all.Go(func() {
				if out, err := n.Command(t.Context(), "sh", "-c", command(n)).CombinedOutput(); err != nil {
					t.Errorf("%s: %s: %v\n%s", n.Hostname, command(n), err, out)
				}
			})
		}
		all.Wait()
	}
	const token = "restored"
	each(c.Etcd, func(n *cluster.Node) string {
		return fmt.Sprintf(`set -e
rm -rf /var/lib/etcd-restored
owner=$(stat -c %%U:%%G /var/lib/etcd)
etcdutl snapshot restore %s --name %s --initial-cluster %s --initial-cluster-token %s-%d --initial-advertise-peer-urls https://%s:2380 \
	--data-dir /var/lib/etcd-restored --bump-revision 1000000000 --mark-compacted
chown -R "$owner" /var/lib/etcd-restored && chmod 700 /var/lib/etcd-restored`, s.snapshot, names[n.Hostname], strings.Join(members, ","), token, stories, n.Address)
	})
	began := time.Now()
	each(c.Nodes, func(*cluster.Node) string { return "mv " + manifests + "/kube-apiserver.yaml " + aside })
	for _, n := range c.Nodes {
		on(n, func() {
			eventually(t, "the API server to end", func() bool { return !apiReady() && !runsContainer(t, "kube-apiserver") })
		})
	}
	each(c.Etcd, func(*cluster.Node) string { return "systemctl stop etcd" })
	each(c.Etcd, func(*cluster.Node) string {
		return "mv /var/lib/etcd /var/lib/etcd-old-" + fmt.Sprint(stories) + " && mv /var/lib/etcd-restored /var/lib/etcd && systemctl start etcd"
	})
	each(c.Nodes, func(*cluster.Node) string { return "mv " + aside + " " + manifests + "/kube-apiserver.yaml" })
	for _, n := range c.Nodes {
		on(n, func() { within(t, "the API", 6*time.Minute, apiReady) })
	}
	down := time.Since(began)
	t.Logf("by hand the API was down for %.1f s, at load %s", down.Seconds(), loadNow())
	allAre(t, c, s.isThen)
	return down
}

// besideByHand measures how long the API is down, beside a restore by hand in the
// same run, and holds it to its limits on a machine that has nothing else to do.
// What etcd takes to elect a leader beyond its own default is a setting of the
// cluster: kubespray's lets it take up to 10 s.
func besideByHand(t *testing.T, c *cluster.Cluster) {
	const usual = 2.0 // seconds: twice etcd's default election timeout
	limit := 6.0
	if len(c.Etcd) > 1 {
		limit = 12
	}
	s := aStory(t)
	result, _ := allOf(t, c.Nodes[0], nil, "restore", s.snapshot)
	busy, elected := busyness(), electionOf(t, c.Etcd[0])
	allAre(t, c, s.isThen)
	allOf(t, c.Nodes[0], nil, "undo") // by hand the data is at the path that it had
	allAre(t, c, s.isNow)
	byHand := restoreExternalByHand(t, c).Seconds()
	t.Logf("%d etcd hosts, %d control planes: the API was down for %.1f s, of which etcd took %.1f s to elect a leader; by hand for %.1f s: %.2f times as long; each CPU was wanted by %.1f",
		len(c.Etcd), len(c.Nodes), result.Outage, elected, byHand, result.Outage/byHand, busy)
	if ours := result.Outage - max(0, elected-usual); ours > limit*busy {
		t.Errorf("the API was down for %.1f s without the election's delay; the limit is %.0f s", ours, limit)
	}
	if result.Outage > byHand/2 {
		t.Errorf("the API was down for %.1f s, by hand for %.1f s", result.Outage, byHand)
	}
}

// electionOf is how long a host's etcd was without a leader when it was started last,
// in seconds by its own log.
func electionOf(t *testing.T, n *cluster.Node) float64 {
	t.Helper()
	var began, led time.Time
	for line := range strings.Lines(readOn(t, n, "journalctl --unit=etcd --no-pager --output=cat")) {
		var said struct {
			Time time.Time `json:"ts"`
			Msg  string    `json:"msg"`
		}
		if json.Unmarshal([]byte(line), &said) != nil {
			continue
		}
		switch {
		case strings.Contains(said.Msg, "became follower"):
			began = said.Time
		case strings.Contains(said.Msg, "elected leader"):
			led = said.Time
		}
	}
	if began.IsZero() || led.Before(began) {
		t.Fatalf("%s: etcd's log has no election: follower %s, leader %s", n.Hostname, began, led)
	}
	return led.Sub(began).Seconds()
}

// runsContainer says whether a container of that name runs on the node.
func runsContainer(t *testing.T, name string) bool {
	t.Helper()
	running := map[string]bool{}
	for _, id := range tasks(t) {
		running[id] = true
	}
	for id := range strings.FieldsSeq(said(t, "ctr --namespace=k8s.io containers list 'labels.\"io.kubernetes.container.name\"=="+name+"' --quiet")) {
		if running[id] {
			return true
		}
	}
	return false
}
