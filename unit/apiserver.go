package unit

import (
	"slices"
	"strings"

	"etcd-rewind/manifest"
	"etcd-rewind/problem"
	"etcd-rewind/trust"
)

// APIServer is what a unit says about its kube-apiserver.
type APIServer struct {
	manifest.APISettings
	Service *Service
	// Container is what it runs in; nil when it runs on the host itself.
	Container *Container

	f *follower
}

// ReadAPIServer follows a service's command to kube-apiserver, and reads its
// flags. It fails as [ReadEtcd] does.
func ReadAPIServer(s *Service) (*APIServer, error) {
	f, err := s.to("kube-apiserver")
	if err != nil {
		return nil, err
	}
	a := &APIServer{Service: s, Container: f.container, f: f}
	var words []string
	for _, w := range f.argv {
		if why := w.unknown(); why != "" {
			name, _, ok := w.cut('=')
			flag := strings.ReplaceAll(strings.TrimLeft(name.String(), "-"), "_", "-")
			if !ok || w.at(0) != '-' || slices.Contains(manifest.APISettingsRead, flag) {
				return nil, problem.Coded(CodeUnknown, "write the value itself", "%s: kube-apiserver's argument %s is known only when it starts: %s", w.place(), trust.Clip(trust.Text(name.String()), 80), trust.Clip(trust.Text(why), 80))
			}
			continue // of a flag that nothing is made of
		}
		words = append(words, w.String())
	}
	flags, err := manifest.FlagsOf("kube-apiserver", words)
	if err != nil {
		return nil, err
	}
	if a.APISettings, err = manifest.ReadAPISettings(flags, func(_, path string) (string, error) { return a.OnNode(path) }); err != nil {
		return nil, err
	}
	if len(a.EtcdServers) == 0 {
		return nil, problem.Coded(CodeUnknown, "name it with --etcd-servers in the unit", "the unit %s gives kube-apiserver no --etcd-servers: its etcd is unknown", s.Name)
	}
	if c := f.container; c != nil {
		a.Image, a.Version = c.Image, manifest.ImageVersion(c.Image)
	}
	return a, nil
}

// OnNode finds where a path that kube-apiserver sees lies on the host.
func (a *APIServer) OnNode(path string) (string, error) {
	l, err := a.f.locate(nil, Setting{Value: path, As: "a path of kube-apiserver's"})
	return l.Path, err
}
