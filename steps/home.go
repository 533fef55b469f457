package steps

import (
	"fmt"
	"path/filepath"

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
