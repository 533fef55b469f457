//go:build e2e && linux

package e2e

import (
	"strings"
	"testing"

	"etcd-rewind/e2e/cluster"
)

// etcd runs in a container that a unit starts, by a script as kubespray's docker has
// it or by ExecStart itself, or in a static pod of a kubelet that has no API server.
func TestExternalEtcdInContainersIsRestored(t *testing.T) {
	for _, form := range []cluster.Form{cluster.Docker, cluster.Podman, cluster.Standalone} {
		t.Run(string(form), func(t *testing.T) {
			c := externalUp(t, form, 1, 1)
			etcd := c.Etcd[0]
			runs := map[cluster.Form]string{
				cluster.Docker: "docker ps", cluster.Podman: "podman ps", cluster.Standalone: "crictl ps 2>/dev/null || ctr --namespace=k8s.io containers list",
			}[form]
			if out := readOn(t, etcd, runs); !strings.Contains(out, "etcd:3.6") {
				t.Fatalf("etcd is in no container:\n%s", out)
			}
			if e := entryNamed(t, "external-"+string(form)); e.Engine != "" {
				engine, version, _ := strings.Cut(e.Engine, " ")
				if out := readOn(t, etcd, engine+" --version"); !strings.Contains(out, " version "+version+".") {
					t.Errorf("the table says %s, here is %s", e.Engine, out)
				}
			}
			t.Run("and back, from the control plane", func(t *testing.T) { restoreExternal(t, c, form, c.Nodes[0], etcd) })
			t.Run("again, from the etcd host", func(t *testing.T) { restoreExternal(t, c, form, etcd, c.Nodes[0]) })
		})
	}
}
