package node

import (
	"os"
	"path/filepath"
	"testing"
)

func TestALayoutIsFoundByItsMarks(t *testing.T) {
	known := Layouts
	t.Cleanup(func() { Layouts = known })
	other := Kubeadm
	other.Name, other.Marks = "other", []string{"/etc/other.env"}
	Layouts = append([]*Layout{&other}, known...)

	root := t.TempDir()
	if l := FindLayout(root); l.Name != "kubeadm" {
		t.Errorf("a node without marks is %s's", l.Name)
	}
	if err := os.Mkdir(filepath.Join(root, "etc"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "etc/other.env"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if l := FindLayout(root); l.Name != "other" {
		t.Errorf("a node with %s is %s's", other.Marks[0], l.Name)
	}
}

// Each layout says all that is asked of one.
func TestALayoutIsWhole(t *testing.T) {
	for _, l := range Layouts {
		for what, is := range map[string]string{
			"marks": l.Marks[0], "kubelet's unit": l.KubeletUnit, "manifests": l.Manifests, "kubelet's root": l.KubeletRoot, "logs": l.PodLogs,
			"cgroups": l.Cgroups, "runtime": l.Sockets[0], "namespace": l.Namespace, "etcd": l.Etcd, "API server": l.API, "controllers": l.Controllers[0],
			"runs": l.StateDir, "configuration": l.Config, "kubeconfig": l.Admin(), "restart": l.RestartKubelet(),
		} {
			if is == "" {
				t.Errorf("%s has no %s", l.Name, what)
			}
		}
	}
}
