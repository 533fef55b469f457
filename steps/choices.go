package steps

import "etcd-rewind/node"

// StopHow is how the API server is ended once its manifest is out.
type StopHow string

// StopNow ends the API server over CRI as soon as kubelet has begun its own
// teardown: 0.2 s instead of the grace period. It keeps no state. StopGraceful
// leaves it to kubelet: up to 30 s with clients connected (both measured).
const (
	StopNow      StopHow = "now"
	StopGraceful StopHow = "graceful"
)

// Choices are the decisions of the user that shape a plan. The zero value
// means the defaults, which Settle fills in.
type Choices struct {
	// DataDir is the new hostPath of etcd's data volume; "" makes one beside
	// the old.
	DataDir string `json:"data_dir"`
	// Swap has the restored data take the old one's path, which is renamed aside:
	// no file is edited. Without a DataDir it is also what Settle decides where an
	// edit would not last.
	Swap bool `json:"swap,omitempty"`
	// InPlace says that DataDir holds the data already: etcd is pointed there,
	// and nothing is restored.
	InPlace bool `json:"in_place,omitempty"`
	// Home has etcd's data moved to DataDir, where kubeadm expects it, and what lies
	// there renamed aside: nothing is restored.
	Home bool `json:"home,omitempty"`
	// Bump is added to the snapshot's revision; nil means beyond the live
	// revision, or 1e9 when it can't be read. 0 turns it off.
	Bump *uint64 `json:"bump"`
	Stop StopHow `json:"stop"`
	// KeepControllers leaves kube-controller-manager and kube-scheduler
	// running instead of restarting them.
	KeepControllers bool `json:"keep_controllers"`
	// NoSave takes no snapshot of the state that is left: the old data directory
	// is kept in any case.
	NoSave bool `json:"no_save,omitempty"`
	// KubeletRestart is the shell command that restarts kubelet; "" means
	// "systemctl restart kubelet".
	KubeletRestart string `json:"kubelet_restart"`
	// Accept are the checks accepted by name.
	Accept []string `json:"accept"`
	// Fleet is set when the node is one of several that are restored as one.
	Fleet *Fleet `json:"fleet,omitempty"`
}

// defaultKubeletRestart works where systemd runs kubelet, which is kubeadm's
// way.
var defaultKubeletRestart = node.Kubeadm.RestartKubelet()

// runName is the same on all nodes of a fleet.
func (f *Facts) runName(c Choices) string {
	if c.Fleet != nil {
		return c.Fleet.Run
	}
	return newRunName(f.StateDir, f.Time)
}
