package steps

import (
	"fmt"
	"path/filepath"
	"strings"

	"etcd-rewind/manifest"
	"etcd-rewind/snapshot"
	"etcd-rewind/trust"
)

// Row 39. Three say where etcd's data is: etcd.yaml, the container that runs,
// and kubeadm-config, from which kubeadm will write the next etcd.yaml.
func (k *checks) dataDirectory() Verdict {
	file, live, kubeadm := k.f.Etcd.DataDir.Path, k.f.liveDataDir(), k.f.Kubeadm
	running := "the running etcd"
	if live != "" && !samePath(live, file) {
		mend := trust.Shell("sed -i %s %s", "s|path: "+sedText(k.f.Etcd.DataDir.HostPath)+"$|path: "+sedText(hostPathOf(live, k.f.Etcd.DataDir))+"|", k.f.Etcd.Source.Path())
		hint := fmt.Sprintf("kubelet starts etcd on %s when it reads %s (%s). To keep the running data, correct the hostPath first: %s",
			file, k.f.Etcd.Source.Name(), defaultKubeletRestart, mend)
		if u, is := k.f.Etcd.unit(); is {
			return warn("the next start of "+u.unit.Name+" is on "+file+". To keep the running data, correct "+k.f.Etcd.Source.Path()+" first",
				"the running etcd has its data in %s, %s names %s", trust.Text(live), k.f.Etcd.Source.Name(), file)
		}
		odd := k.f.Etcd.Source.Name() + " is out of step"
		if kubeadm.DataDir != "" && samePath(kubeadm.DataDir, file) {
			odd = "the running etcd is out of step with both " + k.f.Etcd.Source.Name() + " and kubeadm-config"
		} else if kubeadm.DataDir != "" && !samePath(kubeadm.DataDir, live) {
			odd = fmt.Sprintf("kubeadm-config names yet another, %s", trust.Text(kubeadm.DataDir))
		}
		return warn(hint, "the running etcd has its data in %s, %s names %s: %s", live, k.f.Etcd.Source.Name(), file, odd)
	}
	if live == "" {
		running = ""
	} else {
		running = " and " + running
	}
	switch {
	case kubeadm.None, k.f.API == nil && kubeadm.DataDir == "":
		return ok("%s, by %s%s", file, k.f.Etcd.Source.Name(), running)
	case kubeadm.Err != nil:
		return ok("%s, by %s%s; kubeadm-config can't be read: %s", file, k.f.Etcd.Source.Name(), running, trust.Clip(kubeadm.Err.Error(), 200))
	case kubeadm.DataDir == "", samePath(kubeadm.DataDir, file):
		return ok("%s, by %s%s, and kubeadm-config", file, k.f.Etcd.Source.Name(), running)
	case k.c.Home:
		return ok("%s, by %s%s; kubeadm-config names %s, and the data is moved there", file, k.f.Etcd.Source.Name(), running, trust.Text(kubeadm.DataDir))
	case k.info != nil && k.info.Kubeadm != nil:
		// The restore replaces the ConfigMap by the snapshot's, and sets that.
		return ok("%s, by %s%s; kubeadm-config names %s now, the restore sets it", file, k.f.Etcd.Source.Name(), running, trust.Text(kubeadm.DataDir))
	}
	return warn(SetDataDirCommand(file), "kubeadm-config is out of step: it names %s, %s%s %s. The next kubeadm upgrade would start etcd on %[1]s",
		trust.Text(kubeadm.DataDir), k.f.Etcd.Source.Name(), running, file)
}

// hostPathOf is the volume's hostPath, of a data directory below it.
func hostPathOf(dataDir string, l manifest.Location) string {
	return filepath.Clean(strings.TrimSuffix(dataDir, "/"+l.Inside))
}

// Row 40. kubelet registers its node when it starts, and not again
// (kubernetes#71398, #92769).
func (k *checks) joinedSince() Verdict {
	if k.f.Nodes == nil {
		return none
	}
	later := joinedLater(k.f, k.info)
	if len(later) == 0 {
		return ok("all %d of the cluster's", len(k.f.Nodes))
	}
	return warn("after the restore, on each of them: "+defaultKubeletRestart+"; kubelet registers its node only when it starts",
		"joined after the snapshot, so they aren't in the restored cluster: %s", someNames(later))
}

// joinedLater are the nodes that the cluster has and the snapshot hasn't, but
// for this one.
func joinedLater(f *Facts, info *snapshot.Info) (names []string) {
	if info.More["nodes"] > 0 { // not all are listed
		return nil
	}
	have := map[string]bool{f.Node: true}
	for _, n := range info.Nodes {
		have[n.Name] = true
	}
	for _, n := range f.Nodes {
		if !have[n.Name] {
			names = append(names, n.Name)
		}
	}
	return names
}
