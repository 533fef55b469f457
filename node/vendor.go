package node

import (
	"cmp"
	"os"
	"path/filepath"

	"etcd-rewind/trust"
)

// Vendor is a Kubernetes distribution that runs and restores etcd, or what it
// has in etcd's place, by a program of its own. That program also keeps state
// about etcd elsewhere: to replace the data behind its back is no restore.
type Vendor struct {
	Name string
	// Dir is where it keeps what it runs: a kubelet whose files are below it is
	// the vendor's.
	Dir string
	// Marks are of its servers. They may have been left behind by one that was
	// removed, and count only where kubelet isn't found, or Whole is set.
	Marks []string
	Whole bool // the machine is the vendor's, and nothing else's
	// Restore is how the vendor restores, as its documentation says; Docs is where.
	Restore, Docs string
}

// Vendors are those whose nodes are recognised. The commands are from the
// documentation named, read in November 2026.
var Vendors = []*Vendor{
	{
		Name: "RKE2", Dir: "/var/lib/rancher/rke2", Marks: []string{"/var/lib/rancher/rke2/server/db"},
		Restore: "systemctl stop rke2-server, then rke2 server --cluster-reset --cluster-reset-restore-path=SNAPSHOT",
		Docs:    "https://docs.rke2.io/datastore/backup_restore",
	},
	{
		Name: "k3s", Dir: "/var/lib/rancher/k3s", Marks: []string{"/var/lib/rancher/k3s/server/db"},
		Restore: "systemctl stop k3s, then k3s server --cluster-reset --cluster-reset-restore-path=SNAPSHOT",
		Docs:    "https://docs.k3s.io/cli/etcd-snapshot",
	},
	{
		Name: "k0s", Dir: "/var/lib/k0s", Marks: []string{"/var/lib/k0s/etcd", "/var/lib/k0s/db"},
		Restore: "k0s stop, then k0s restore ARCHIVE, which takes an archive that k0s backup made",
		Docs:    "https://docs.k0sproject.io/stable/backup/",
	},
	{
		Name: "MicroK8s", Dir: "/var/snap/microk8s", Marks: []string{"/var/snap/microk8s/current/var/kubernetes/backend"},
		Restore: "microk8s dbctl restore BACKUP: it has dqlite in etcd's place, and no etcd snapshot",
		Docs:    "https://microk8s.io/docs",
	},
	{
		Name: "OpenShift", Dir: "/etc/kubernetes/static-pod-resources", Marks: []string{"/etc/kubernetes/static-pod-resources"}, Whole: true,
		Restore: "cluster-restore.sh DIRECTORY, with what cluster-backup.sh made",
		Docs:    "https://docs.openshift.com/container-platform/latest/backup_and_restore/control_plane_backup_and_restore/disaster_recovery/scenario-2-restoring-cluster-state.html",
	},
	{
		Name: "Talos", Dir: "/system/state", Marks: []string{"/system/state"}, Whole: true,
		Restore: "talosctl -n NODE bootstrap --recover-from=SNAPSHOT, from where talosctl is",
		Docs:    "https://docs.siderolabs.com/talos/latest/build-and-extend-talos/cluster-operations-and-maintenance/disaster-recovery",
	},
}

// FindVendor is the vendor whose node this is, nil where nothing shows one. k is
// this node's kubelet, nil where none was found. A node that the options name by
// its files is what they say.
func FindVendor(opts Options, k *Kubelet) *Vendor {
	if opts.Layout != nil || opts.KubeletConfig != "" || opts.Manifests != "" {
		return nil
	}
	return findVendor(cmp.Or(opts.Root, "/"), k)
}

func findVendor(root string, k *Kubelet) *Vendor {
	for _, v := range Vendors {
		for _, path := range []string{cmp.Or(k, &Kubelet{}).StaticPodPath, cmp.Or(k, &Kubelet{}).RootDir} {
			if path != "" && trust.Within(v.Dir, path) {
				return v
			}
		}
		for _, mark := range v.Marks {
			if _, err := os.Stat(filepath.Join(root, mark)); err == nil && (k == nil || v.Whole) {
				return v
			}
		}
	}
	return nil
}
