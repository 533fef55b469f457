package practice

import (
	"go.etcd.io/etcd/api/v3/version"
	"go.etcd.io/etcd/server/v3/etcdmain"
)

// etcdVersion is that of the etcd in this binary; the manifest's image names
// it, and not the one that kubeadm would take.
var etcdVersion = version.Version

// etcdMain is etcd as its own program is; it ends the process itself.
func etcdMain(args []string) int {
	etcdmain.Main(append([]string{"etcd"}, args...))
	return 0
}
