package steps

import "etcd-rewind/manifest"

// Etcd is kube-apiserver's etcd on this node: what it is set to, and what holds
// that.
type Etcd struct {
	manifest.EtcdSettings
	Source EtcdSource
}

// EtcdSource holds the settings of an etcd, and says what runs it.
type EtcdSource interface {
	// Name is the file with the settings, for people: "etcd.yaml".
	Name() string
	// Path is where the directory of the data is named.
	Path() string
	// repoint is that file with the data in other directories.
	repoint(moves []repoint) ([]byte, error)
}

// podEtcd is an etcd whose settings are a static pod's manifest.
type podEtcd struct{ *manifest.Etcd }

func (p podEtcd) Name() string { return p.File.Name() }
func (p podEtcd) Path() string { return p.File.Path }

func (p podEtcd) repoint(moves []repoint) (data []byte, err error) {
	data = p.File.Data
	for _, m := range moves {
		if data, err = manifest.SetHostPath(data, m.volume, m.new); err != nil {
			return nil, err
		}
	}
	return data, nil
}

// pod is the static pod that etcd runs as; nil when it doesn't.
func (e *Etcd) pod() *manifest.Etcd {
	if e == nil {
		return nil
	}
	if p, ok := e.Source.(podEtcd); ok {
		return p.Etcd
	}
	return nil
}

// EtcdOfPod is an etcd that runs as a static pod.
func EtcdOfPod(e *manifest.Etcd) *Etcd { return &Etcd{e.EtcdSettings, podEtcd{e}} }
