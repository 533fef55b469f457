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
	program, err := os.ReadFile(node.HostPath(tool))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range c.All()[1:] {
		if err := os.WriteFile(n.HostPath(tool), program, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return c
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
		on(n, func() {
			paths := []string{"/etc/systemd/system/etcd.service"}
			if _, err := os.Stat(n.HostPath("/etc/etcd.env")); err == nil {
				paths = append(paths, "/etc/etcd.env")
			}
			for path, is := range pictureOf(t, paths...) {
				all[n.Hostname+" "+path] = is
			}
		})
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
