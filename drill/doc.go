// Package drill proves a snapshot without touching the cluster: it restores it
// into a directory of its own, starts the cluster's own etcd and kube-apiserver
// on it, lists every object through the API, compares that with the contents of
// the snapshot, and removes everything again. How backups are fetched is in
// backup, when drills run is in cli.
//
// The two programs are those of the cluster: of the running processes, or
// extracted from their images. They are not started as pods: within 2 s kubelet
// ends every sandbox in the runtime that it doesn't know (HandlePodCleanups in
// pkg/kubelet/kubelet_pods.go; measured on 1.34). They are children of a second
// process of this program, in namespaces of its own: no network but a private
// loopback, no mounts but the drill's, no capabilities. The kernel ends all of
// them with that process, and that process with this one, however it ends. What
// can be left behind is a directory and an empty cgroup; the next drill removes
// those, by their names and locks.
package drill
