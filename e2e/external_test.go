//go:build e2e && linux

package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
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
	c, err := cluster.UpExternal(t.Context(), cluster.Config{
		Name: base + "-" + name, Dir: filepath.Join(logs, name), KubeletVerbosity: 4,
	}, form, numbered("etcd", etcdHosts), numbered("cp", controlPlanes)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Down(context.Background()); err != nil {
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
		for _, path := range []string{"/etc/etcd.env", "/etc/systemd/system/etcd.service"} {
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
				eventually(t, "another etcd", 60*time.Second, func() bool {
					now := readOn(t, etcd, "systemctl show --value -p MainPID etcd")
					return now != pid && strings.TrimSpace(now) != "0" && apiReady()
				})
			})
			t.Run("the host reboots, and the cluster lives", func(t *testing.T) {
				if err := etcd.Reboot(t.Context()); err != nil {
					t.Fatal(err)
				}
				eventually(t, "the API", 60*time.Second, apiReady)
				if boots := strings.Count(readOn(t, etcd, "journalctl --list-boots --quiet --no-pager"), "\n"); boots != 2 {
					t.Errorf("the journal knows %d boots, want 2", boots)
				}
			})
			t.Run("a restore by hand brings a snapshot back", func(t *testing.T) { restoreExternalByHand(t, c) })
		})
	}
}

// The hosts that run etcd are restored while the API servers are stopped: here by
// hand, as the check asks for.
func TestExternalEtcdIsRestored(t *testing.T) {
	for _, form := range []cluster.Form{cluster.Kubespray, cluster.ByHand} {
		t.Run(string(form), func(t *testing.T) {
			c := externalUp(t, form, 1, 1)
			t.Run("not while API servers run", func(t *testing.T) { refuseExternal(t, c) })
			t.Run("and back", func(t *testing.T) { restoreExternal(t, c, form) })
			if form == cluster.Kubespray { // by hand, etcd is asked by the key that is gone
				t.Run("with a unit that fails to start", func(t *testing.T) { failToStartExternal(t, c) })
			}
		})
	}
}

// withoutAPI stops the API server while do runs.
func withoutAPI(t *testing.T, do func()) {
	t.Helper()
	const aside = "/etc/kubernetes/kube-apiserver.yaml"
	said(t, "mv "+manifests+"/kube-apiserver.yaml "+aside)
	eventually(t, "the API server to end", 2*time.Minute, func() bool { return !apiReady() && !runsContainer(t, "kube-apiserver") })
	do()
	said(t, "mv "+aside+" "+manifests+"/kube-apiserver.yaml")
	eventually(t, "the API", 6*time.Minute, apiReady)
}

// besideData lists what there is of etcd on its disk, with its inodes.
const besideData = "ls -di /var/lib/etcd*; ls -Ri /var/lib/etcd"

func refuseExternal(t *testing.T, c *cluster.Cluster) {
	s, etcd := aStory(t), c.Etcd[0]
	giveTo(t, etcd, s.snapshot)
	settings, data := etcdSettings(t, c), readOn(t, etcd, besideData)
	on(etcd, func() {
		o := run(t, "restore", s.snapshot, "--yes")
		if o.code != 4 || !strings.Contains(o.stdout, "--override api-servers") {
			t.Errorf("exit status %d, want 4 for the check api-servers", o.code)
		}
	})
	if now := readOn(t, etcd, besideData); now != data {
		t.Errorf("a refused restore has changed the host (before, after):\n%s\n%s", data, now)
	}
	same(t, "a refused restore has changed the settings", settings, etcdSettings(t, c))
	s.isNow(t)
}

func restoreExternal(t *testing.T, c *cluster.Cluster, form cluster.Form) {
	s, etcd := aStory(t), c.Etcd[0]
	giveTo(t, etcd, s.snapshot)
	settings, before := etcdSettings(t, c), etcdNow(t)
	dataIn := func(dir string) (p picture) {
		on(etcd, func() { p = pictureOf(t, dir) })
		return p
	}

	var result event
	var stopped time.Time
	withoutAPI(t, func() {
		on(etcd, func() {
			o := call{
				args: []string{"restore", s.snapshot, "--yes", "--output", "json", "--override", "api-servers"},
				on: func(e event, _ *os.Process) {
					if e.Step == "stop-etcd" && e.Action == "" && e.State == "done" {
						stopped = e.Time
					}
				},
			}.run(t)
			result = o.succeeded(t)
			t.Logf("all took %.1f s, %s", o.took.Seconds(), o.slowest())
		})
	})
	s.isThen(t)
	restored := etcdNow(t)
	if restored.ClusterID == before.ClusterID || restored.Revision < result.Rev || result.Rev <= s.revision {
		t.Errorf("etcd was %+v and is %+v; the result says revision %d", before, restored, result.Rev)
	}
	old := "/var/lib/etcd"
	if form == cluster.Kubespray {
		// Its next run would turn an edit back, and start the old data.
		old = "/var/lib/etcd-before-" + result.Run
		same(t, "kubespray's files were edited", settings, etcdSettings(t, c))
	} else if !strings.HasPrefix(result.DataDir, "/var/lib/etcd-2") ||
		!strings.Contains(readOn(t, etcd, "systemctl cat etcd"), "--data-dir="+result.DataDir+"\n") {
		t.Errorf("the unit doesn't name the data directory %s", result.DataDir)
	}
	untouched := dataIn(old)
	const written = "find %s -newermt @%d.%09d"
	if files := readOn(t, etcd, fmt.Sprintf(written, old+"/member", stopped.Unix(), stopped.Nanosecond())); stopped.IsZero() || files != "" {
		t.Errorf("written in the old data since etcd was stopped at %s: %s", stopped, files)
	}
	const about = "stat -c '%U:%G %a' "
	if now, want := readOn(t, etcd, about+result.DataDir), readOn(t, etcd, about+old); now != want {
		t.Errorf("the new data directory is %s, the old one %s", now, want)
	}

	if form == cluster.Kubespray {
		// kubespray's next run renders the settings again, and restarts etcd.
		if err := etcd.RenderEtcd(); err != nil {
			t.Fatal(err)
		}
		readOn(t, etcd, "systemctl daemon-reload && systemctl restart etcd")
	} else if err := etcd.Reboot(t.Context()); err != nil {
		t.Fatal(err)
	} else {
		giveTool(t, etcd)
	}
	eventually(t, "the API", 2*time.Minute, apiReady)
	if now := etcdNow(t); now.ClusterID != restored.ClusterID {
		t.Errorf("etcd has come back with other data: %+v, not %+v", now, restored)
	}
	s.isThen(t)

	same(t, "the old data directory was touched", untouched, dataIn(old))
	withoutAPI(t, func() {
		on(etcd, func() { run(t, "undo", "--yes", "--output", "json", "--override", "api-servers").succeeded(t) })
	})
	s.isNow(t)
	same(t, "undo is not byte for byte", settings, etcdSettings(t, c))
	if now := etcdNow(t); now.ClusterID != before.ClusterID {
		t.Errorf("etcd is %+v after the undo, was %+v", now, before)
	}
}

// A key is gone when etcd is started: systemd says failed, and etcd's own words are
// in the journal.
func failToStartExternal(t *testing.T, c *cluster.Cluster) {
	s, etcd := aStory(t), c.Etcd[0]
	giveTo(t, etcd, s.snapshot)
	settings, before := etcdSettings(t, c), etcdNow(t)
	key := etcd.EtcdKey()
	withoutAPI(t, func() {
		on(etcd, func() {
			o := call{
				args: []string{"restore", s.snapshot, "--yes", "--output", "json", "--override", "api-servers"},
				on: func(e event, _ *os.Process) {
					if e.Step == "stop-etcd" && e.Action == "" && e.State == "done" {
						inside(t, "mv "+key+" "+key+".gone")
					}
				},
			}.run(t)
			last := o.last(t)
			if last.OK || o.code != 1 && o.code != 3 {
				t.Errorf("exit status %d, ok %t", o.code, last.OK)
			}
			if last.Error == nil || !strings.Contains(strings.Join(last.Error.Log, "\n"), filepath.Base(key)+": no such file or directory") {
				t.Errorf("the journal's words are not shown:\n%s", o.story())
			}
			inside(t, "mv "+key+".gone "+key)
			if o.code == 3 {
				run(t, "undo", "--yes", "--output", "json", "--override", "api-servers").succeeded(t)
			}
			inside(t, "systemctl start etcd")
		})
	})
	s.isNow(t)
	same(t, "undo is not byte for byte", settings, etcdSettings(t, c))
	if now := etcdNow(t); now.ClusterID != before.ClusterID {
		t.Errorf("etcd is %+v after the undo, was %+v", now, before)
	}
}

// readOn is said on another node.
func readOn(t *testing.T, n *cluster.Node, command string) (out string) {
	t.Helper()
	on(n, func() { out = said(t, command) })
	return out
}

// restoreExternalByHand is the documented order on one etcd host and one control
// plane: what a restore of etcd-rewind is held against.
func restoreExternalByHand(t *testing.T, c *cluster.Cluster) {
	s := aStory(t)
	etcd := c.Etcd[0]
	giveTo(t, etcd, s.snapshot)
	began := time.Now()
	aside := "/etc/kubernetes/kube-apiserver.yaml"
	said(t, "mv "+manifests+"/kube-apiserver.yaml "+aside)
	eventually(t, "the API server to end", 2*time.Minute, func() bool { return !apiReady() && !runsContainer(t, "kube-apiserver") })
	name := readOn(t, etcd, `sed -n 's/^ETCD_NAME=//p; s/^  --name \([^ ]*\).*/\1/p' /etc/etcd.env /etc/systemd/system/etcd.service 2>/dev/null || true`)
	readOn(t, etcd, fmt.Sprintf(`set -e
owner=$(stat -c %%U:%%G /var/lib/etcd)
etcdutl snapshot restore %s --name %s --initial-cluster %[2]s=https://%[3]s:2380 --initial-advertise-peer-urls https://%[3]s:2380 \
	--data-dir /var/lib/etcd-restored --bump-revision 1000000000 --mark-compacted
chown -R "$owner" /var/lib/etcd-restored && chmod 700 /var/lib/etcd-restored
systemctl stop etcd
mv /var/lib/etcd /var/lib/etcd-old
mv /var/lib/etcd-restored /var/lib/etcd
systemctl start etcd`, s.snapshot, strings.TrimSpace(name), etcd.Address))
	said(t, "mv "+aside+" "+manifests+"/kube-apiserver.yaml")
	eventually(t, "the API", 6*time.Minute, apiReady)
	t.Logf("by hand the API was away for %.1f s", time.Since(began).Seconds())
	s.isThen(t)
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
