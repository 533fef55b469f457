package steps

import (
	"context"
	"errors"
	"fmt"
	"time"

	"etcd-rewind/node"
	"etcd-rewind/snapshot"
)

// Reach is how a run reaches its node. The plan keeps it, because while a run
// is under way the manifests that say it are not where they belong.
type Reach struct {
	Node    string             `json:"node"`
	Kubelet node.Kubelet       `json:"kubelet"`
	Server  string             `json:"server"` // https://host:port of this node's API server
	Metrics node.MetricsConfig `json:"metrics"`
	Etcd    node.EtcdConfig    `json:"etcd"`
	API     node.APIConfig     `json:"api"`
	// Peer is this node's etcd as other members see it. Its peer certificate is
	// what they are asked with, too.
	Peer node.EtcdConfig `json:"peer"`
	// Containers are, by pod, those that run its program: a sidecar that runs
	// says nothing of it.
	Containers map[string]string `json:"containers,omitempty"`
}

// world is what actions see of the node and do to it, apart from files.
type world interface {
	Pod(ctx context.Context, pod string) ([]node.Sandbox, error)
	// Pods are those of all namespaces of which a sandbox runs.
	Pods(ctx context.Context) ([]node.Sandbox, error)
	// CPU is the CPU time that a container has used.
	CPU(ctx context.Context, container string) (time.Duration, error)
	StopSandbox(ctx context.Context, id string) error
	RemoveSandbox(ctx context.Context, id string) error
	Remains(uid string) node.Remains
	PodsBegun() (map[string]bool, error)
	// Changed has a value when a pod or a manifest has changed; nil where that
	// can't be watched.
	Changed() <-chan struct{}
	KubeletRestarted() bool
	KubeletHealthy(ctx context.Context) error
	Relists(ctx context.Context) (int, error)
	API(ctx context.Context, timeout time.Duration) node.APIAnswer
	EtcdCluster(ctx context.Context) uint64
	EtcdReady(ctx context.Context) (answer string, err error)
	Etcd(ctx context.Context, countKeys bool) (*node.EtcdStatus, error)
	Objects(ctx context.Context, resource string) ([]node.Object, error)
	KubeadmConfig(ctx context.Context) (*node.ConfigMap, error)
	SetKubeadmConfig(ctx context.Context, read *node.ConfigMap, text string) error
	Remote(ctx context.Context, n node.RemoteConfig) node.RemoteState
	Shell(ctx context.Context, command string) error
	LogTail(pod, uid, container string, lines int) (log []string, path string)
	Unit(ctx context.Context, name string) (*node.Unit, error)
	StopUnit(ctx context.Context, name string) error
	KillUnit(ctx context.Context, name string) error
	StartUnit(ctx context.Context, name string) error
	ResetUnit(ctx context.Context, name string) error
	ReloadUnits(ctx context.Context) error
	UnitLog(name string, lines int) []string
	Save(ctx context.Context, req snapshot.SaveRequest) (*snapshot.Info, error)
	ReadData(ctx context.Context, dir string) (*snapshot.Restored, error)
	// Restore may use up from, which is nil or the staging file of the snapshot.
	Restore(ctx context.Context, req snapshot.RestoreRequest, from *snapshot.Staged, progress func(snapshot.Progress)) (*snapshot.Restored, error)
}

// namespace of all control-plane static pods.
var namespace = node.Kubeadm.Namespace

// thisNode is the world of the machine the program runs on.
type thisNode struct {
	reach   Reach
	runtime *node.Runtime
	changes *node.Changes // nil where nothing can be watched
	api     *node.APIAsker
}

func dialNode(ctx context.Context, reach Reach) (*thisNode, error) {
	if reach.Kubelet.CRIEndpoint == "" { // what runs here is systemd's
		return &thisNode{reach: reach, api: node.NewAPIAsker(reach.API)}, nil
	}
	rt, err := bounded(ctx, bound{who: theRuntime, limit: realLimits.look}, func(ctx context.Context, _ func(func())) (*node.Runtime, error) {
		return node.Dial(ctx, reach.Kubelet.CRIEndpoint)
	})
	if err != nil {
		return nil, fmt.Errorf("reach the container runtime at %s: %w", reach.Kubelet.CRIEndpoint, err)
	}
	n := &thisNode{reach: reach, runtime: rt, api: node.NewAPIAsker(reach.API)}
	if c, err := reach.Kubelet.Changes(); err == nil { // else polls have to do
		n.changes = c
	}
	return n, nil
}

func (n *thisNode) Close() error {
	n.api.Close()
	if n.runtime == nil {
		return nil
	}
	err := n.runtime.Close()
	if n.changes != nil {
		err = errors.Join(err, n.changes.Close())
	}
	return err
}

func (n *thisNode) Changed() <-chan struct{} {
	if n.changes == nil {
		return nil
	}
	return n.changes.C
}

func (n *thisNode) Pod(ctx context.Context, pod string) ([]node.Sandbox, error) {
	if n.runtime == nil {
		return nil, errors.New("no container runtime is known on this node")
	}
	return n.runtime.Pod(ctx, namespace, pod)
}

func (n *thisNode) Pods(ctx context.Context) ([]node.Sandbox, error) { return n.runtime.Pods(ctx) }

func (n *thisNode) CPU(ctx context.Context, container string) (time.Duration, error) {
	return n.runtime.CPU(ctx, container)
}

func (n *thisNode) StopSandbox(ctx context.Context, id string) error {
	return n.runtime.StopSandbox(ctx, id)
}

func (n *thisNode) RemoveSandbox(ctx context.Context, id string) error {
	return n.runtime.RemoveSandbox(ctx, id)
}

func (n *thisNode) Remains(uid string) node.Remains { return n.reach.Kubelet.Remains(uid) }

func (n *thisNode) PodsBegun() (map[string]bool, error) { return n.reach.Kubelet.PodsBegun() }

func (n *thisNode) KubeletRestarted() bool { return n.reach.Kubelet.Restarted() }

func (n *thisNode) KubeletHealthy(ctx context.Context) error { return n.reach.Kubelet.Healthy(ctx) }

func (n *thisNode) Relists(ctx context.Context) (int, error) {
	return node.AskRelists(ctx, n.reach.Metrics)
}

func (n *thisNode) API(ctx context.Context, timeout time.Duration) node.APIAnswer {
	return n.api.Ask(ctx, timeout)
}

func (n *thisNode) EtcdCluster(ctx context.Context) uint64 {
	return node.EtcdCluster(ctx, n.reach.Peer)
}

func (n *thisNode) EtcdReady(ctx context.Context) (string, error) {
	return node.EtcdReady(ctx, n.reach.Etcd)
}

func (n *thisNode) Etcd(ctx context.Context, countKeys bool) (*node.EtcdStatus, error) {
	return node.AskEtcd(ctx, n.reach.Etcd, countKeys)
}

func (n *thisNode) Objects(ctx context.Context, resource string) ([]node.Object, error) {
	return node.ListMeta(ctx, n.reach.API.Kubeconfig, n.reach.Server, resource)
}

func (r *Reach) kubeadmConfig() node.ConfigMapClient {
	return node.ConfigMapClient{Kubeconfig: r.API.Kubeconfig, Server: r.Server, Namespace: namespace, Name: kubeadmConfigMap}
}

func (n *thisNode) KubeadmConfig(ctx context.Context) (*node.ConfigMap, error) {
	return n.reach.kubeadmConfig().Get(ctx)
}

func (n *thisNode) SetKubeadmConfig(ctx context.Context, read *node.ConfigMap, text string) error {
	return n.reach.kubeadmConfig().Set(ctx, read, kubeadmKey, text)
}

func (n *thisNode) Remote(ctx context.Context, other node.RemoteConfig) node.RemoteState {
	return node.AskRemote(ctx, other, n.reach.Peer, n.reach.Etcd)
}

func (n *thisNode) Shell(ctx context.Context, command string) error { return node.Shell(ctx, command) }

func (n *thisNode) LogTail(pod, uid, container string, lines int) ([]string, string) {
	log, path, err := node.LogTail(n.reach.Kubelet.PodLogs, namespace, pod, uid, container, lines)
	if err != nil {
		return nil, path
	}
	return log, path
}

func (n *thisNode) ReadData(ctx context.Context, dir string) (*snapshot.Restored, error) {
	return snapshot.ReadDataDir(ctx, dir, "")
}

func (n *thisNode) Restore(ctx context.Context, req snapshot.RestoreRequest, from *snapshot.Staged, progress func(snapshot.Progress)) (*snapshot.Restored, error) {
	return from.Restore(ctx, req, progress)
}

func (n *thisNode) Unit(ctx context.Context, name string) (*node.Unit, error) {
	return node.AskUnit(ctx, name)
}

func (n *thisNode) StopUnit(ctx context.Context, name string) error { return node.StopUnit(ctx, name) }

func (n *thisNode) KillUnit(ctx context.Context, name string) error { return node.KillUnit(ctx, name) }

func (n *thisNode) StartUnit(ctx context.Context, name string) error {
	return node.StartUnit(ctx, name)
}

func (n *thisNode) ResetUnit(ctx context.Context, name string) error {
	return node.ResetUnit(ctx, name)
}

func (n *thisNode) ReloadUnits(ctx context.Context) error { return node.ReloadUnits(ctx) }

func (n *thisNode) UnitLog(name string, lines int) []string {
	return node.UnitLog(context.Background(), name, lines)
}

func (n *thisNode) Save(ctx context.Context, req snapshot.SaveRequest) (*snapshot.Info, error) {
	return snapshot.Save(ctx, req)
}
