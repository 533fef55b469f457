package steps

import "etcd-rewind/manifest"

// ProgramSource holds what a program of the control plane is set to, and says
// what runs it.
type ProgramSource interface {
	// Name is the file with the settings, for people: "etcd.yaml".
	Name() string
	// Path is that file: for etcd the one in which the directory of the data is
	// named.
	Path() string
	// process plans with what the program runs as: etcd started on the data of
	// the plan's layout, all others as they are.
	process(b *builder, p *Plan) (process, error)
}

// Etcd is kube-apiserver's etcd on this node: what it is set to, and what holds
// that.
type Etcd struct {
	manifest.EtcdSettings
	Source ProgramSource
}

// API is kube-apiserver on this node.
type API struct {
	manifest.APISettings
	Source ProgramSource
}

// EtcdPod is the static pod that etcd runs as on this node; nil when it doesn't.
func (f *Facts) EtcdPod() *manifest.Etcd { return f.Etcd.pod() }

// APIPod is the static pod that the API server runs as on this node; nil when it
// doesn't.
func (f *Facts) APIPod() *manifest.APIServer { return f.API.pod() }

// EtcdOfPod is an etcd that runs as a static pod.
func EtcdOfPod(e *manifest.Etcd) *Etcd { return &Etcd{e.EtcdSettings, podEtcd{e}} }

// APIOfPod is a kube-apiserver that runs as a static pod.
func APIOfPod(a *manifest.APIServer) *API { return &API{a.APISettings, podAPI{a}} }

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

// unit is the service that etcd runs as; false when it runs as something else.
func (e *Etcd) unit() (unitEtcd, bool) {
	if e == nil {
		return unitEtcd{}, false
	}
	u, ok := e.Source.(unitEtcd)
	return u, ok
}

// pod is the static pod that the API server runs as; nil when it doesn't.
func (a *API) pod() *manifest.APIServer {
	if a == nil {
		return nil
	}
	if p, ok := a.Source.(podAPI); ok {
		return p.APIServer
	}
	return nil
}

// onNode is where a path that the API server sees lies on the node.
func (a *API) onNode(path string) (string, error) {
	if p := a.pod(); p != nil {
		return p.OnNode(path)
	}
	if u, is := a.Source.(unitAPI); is {
		return u.OnNode(path)
	}
	return path, nil
}

// podEtcd is an etcd whose settings are a static pod's manifest.
type podEtcd struct{ *manifest.Etcd }

func (e podEtcd) Name() string { return e.File.Name() }
func (e podEtcd) Path() string { return e.File.Path }

func (e podEtcd) process(b *builder, p *Plan) (process, error) {
	data := e.File.Data
	var err error
	for _, m := range b.lay.volumes {
		if b.lay.swap {
			break
		}
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

// podAPI is an API server that is a static pod.
type podAPI struct{ *manifest.APIServer }

func (a podAPI) Name() string { return a.File.Name() }
func (a podAPI) Path() string { return a.File.Path }

func (a podAPI) process(b *builder, p *Plan) (process, error) {
	pod, err := b.staticPod(p, a.File, a.File.Data)
	if err != nil {
		return nil, err
	}
	pod.out.API, pod.in.API = true, true
	pod.url, pod.grace, pod.wait = a.ReadyURL, a.GracePeriod, a.StartupBudget
	pod.out.Ready = b.apiBefore(pod.wait)
	return pod, nil
}

// podOther is a static pod of which nothing has to be known but that it runs.
type podOther struct{ *manifest.File }

func (o podOther) Path() string { return o.File.Path }

func (o podOther) process(b *builder, p *Plan) (process, error) {
	pod, err := b.staticPod(p, o.File, o.Data)
	if err != nil {
		return nil, err
	}
	return pod, nil
}
