package steps

import (
	"context"
	"fmt"
	"path/filepath"

	"etcd-rewind/manifest"
	"etcd-rewind/problem"
)

// A restore leaves etcd's data in a directory of its own, and kubeadm-config has to
// name that from then on. The other way is to move the data to where kubeadm
// expects it: in a second, short outage, which is planned, run and undone as a
// restore is.

// Home are the choices with which etcd's data is moved to where kubeadm-config
// says that it is. An error says why that can't be.
func (f *Facts) Home(c Choices) (Choices, error) {
	switch {
	case f.Etcd == nil:
		return c, cmpErr(f.EtcdErr, problem.New("run it on etcd's node", "etcd doesn't run on this node"))
	case f.EtcdPod() == nil:
		return c, problem.New("", "etcd is a service of systemd here, and kubeadm doesn't write its settings")
	case f.Kubeadm.Err != nil:
		return c, fmt.Errorf("kubeadm-config can't be read: %w", f.Kubeadm.Err)
	case f.Kubeadm.None || f.Kubeadm.DataDir == "":
		return c, problem.New("", "there is no kubeadm-config that names a directory for etcd's data")
	}
	c.Home, c.DataDir, c.KeepControllers, c.NoSave = true, filepath.Clean(f.Kubeadm.DataDir), true, true
	return c, nil
}

func cmpErr(err, other error) error {
	if err != nil {
		return err
	}
	return other
}

// layOutHome is the layout where etcd's own data takes another path.
func layOutHome(e *manifest.EtcdSettings, to, run string) layout {
	l := layout{etcd: e, run: run, home: true}
	l.volumes = []repoint{{volume: e.DataDir.Volume, old: e.DataDir.HostPath, new: to, staging: e.DataDir.HostPath}}
	return l
}

// moveHome decides which paths a move has.
func (b *builder) moveHome(p *Plan) error {
	k := &checks{ctx: context.Background(), f: b.f, c: b.c}
	if v := k.home(); v.Level != Pass {
		return problem.New(v.Hint, "%s", v.Cause)
	}
	r, to := p.Restore, b.c.DataDir
	p.Title = fmt.Sprintf("Move etcd's data to %s on %s", to, b.f.Node)
	b.lay = layOutHome(&b.f.Etcd.EtcdSettings, to, b.run)
	r.Home, r.OldDataDir, r.DataDir, r.Staging = true, filepath.Clean(b.f.Etcd.DataDir.HostPath), to, stagingFor(to, b.run)
	if isThere(to) {
		r.Aside = asideFor(to, b.run)
	}
	var err error
	r.Old, err = dataOf(context.Background(), &b.f.Etcd.EtcdSettings)
	return err
}
