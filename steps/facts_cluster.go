package steps

import (
	"context"
	"errors"
	"os"
	"path"
	"path/filepath"
	"time"

	"etcd-rewind/manifest"
	"etcd-rewind/node"
)

// Live facts that only a working API server or container runtime knows.
// What can't be asked is unknown, which is no fault of the node.

// KubeadmFacts is what the cluster's kubeadm-config says now.
type KubeadmFacts struct {
	DataDir string // etcd.local.dataDir
	None    bool   // there is no such ConfigMap, or etcd is external for kubeadm
	Err     error  // why it isn't known
}

func (f *Facts) askCluster(ctx context.Context) {
	if !f.APIReady {
		f.Kubeadm.Err = errors.New("kube-apiserver doesn't answer")
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	f.Kubeadm = kubeadmNow(f.Reach.kubeadmConfig().Get(ctx))
	if nodes, err := node.ListMeta(ctx, f.Reach.API.Kubeconfig, f.Reach.Server, "nodes"); err == nil {
		f.Nodes = nodes
	}
}

func kubeadmNow(read *node.ConfigMap, err error) KubeadmFacts {
	if errors.Is(err, node.ErrNotFound) {
		return KubeadmFacts{None: true}
	}
	if err != nil {
		return KubeadmFacts{Err: err}
	}
	have, err := manifest.ReadKubeadmEtcd([]byte(read.Data[kubeadmKey]))
	return KubeadmFacts{DataDir: have.DataDir, None: have.External, Err: err}
}

// askMounts finds what the running etcd has mounted.
func (f *Facts) askMounts(ctx context.Context, rt *node.Runtime) {
	e := f.Etcd.pod()
	if e == nil {
		return
	}
	boxes, err := rt.Pod(ctx, namespace, f.Kubelet.PodName(e.File.Pod.Name))
	if err != nil {
		return
	}
	for _, b := range boxes {
		for _, c := range running(b) {
			if c.Name != e.Container {
				continue
			}
			if mounts, err := rt.Mounts(ctx, c.ID); err == nil {
				f.Mounts = mounts
				return
			}
		}
	}
}

// liveDataDir is the directory on the node that the running etcd has as its
// data directory; "" when that isn't known. A pod that was made from another
// etcd.yaml may have it mounted elsewhere: then it is what isn't a file's.
func (f *Facts) liveDataDir() string {
	d := f.Etcd.DataDir
	if u, ok := f.Etcd.unit(); ok {
		if u.Container != nil {
			return ""
		}
		return node.OpenedData(u.unit.PID)
	}
	if len(f.Mounts) == 0 || d.SubPath != "" { // kubelet mounts a subPath from a place of its own
		return ""
	}
	for _, m := range f.Mounts {
		if path.Clean(m.Container) == path.Clean("/"+d.MountPath) {
			return d.Under(m.Host)
		}
	}
	for _, m := range f.Mounts {
		if info, err := os.Stat(filepath.Join(m.Host, "member")); !m.ReadOnly && err == nil && info.IsDir() {
			return m.Host
		}
	}
	return ""
}
