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
	// process plans with what etcd runs as, started on the data of the plan's
	// layout.
	process(b *builder, p *Plan) (process, error)
}

// podEtcd is an etcd whose settings are a static pod's manifest.
type podEtcd struct{ *manifest.Etcd }

func (e podEtcd) Name() string { return e.File.Name() }
func (e podEtcd) Path() string { return e.File.Path }

func (e podEtcd) process(b *builder, p *Plan) (process, error) {
	data := e.File.Data
	var err error
	for _, m := range b.lay.volumes {
		if data, err = manifest.SetHostPath(data, m.volume, m.new); err != nil {
			return nil, err
		}
	}
	pod, err := b.staticPod(p, e.File, data)
	if err != nil {
		return nil, err
	}
	pod.out.Etcd, pod.in.Etcd = true, true
	pod.wait, pod.out.Ready = e.StartupBudget, b.etcdBefore(p, e.StartupBudget)
	return pod, nil
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
