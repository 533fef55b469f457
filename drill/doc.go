// Package drill proves a snapshot without touching the cluster: it restores it
// into a directory of its own, starts the cluster's own etcd and kube-apiserver
// on that, lists every object through the API, compares that with what the
// snapshot holds, and removes it all.
//
// The two programs are those that the cluster runs: of the processes that run
// now, or taken out of their images. They are not started as pods: kubelet ends
// within 2 s every sandbox of the runtime that it doesn't know (HandlePodCleanups
// in pkg/kubelet/kubelet_pods.go; measured on 1.34). They are children of a
// second process of this program, which has namespaces of its own: no network but
// a loopback that is nobody else's, no mounts but the drill's, no capabilities.
// The kernel ends all of them with that process, and that process with this one,
// however it ends. What can be left behind is a directory and an empty cgroup;
// the next drill removes those, by their names and locks.
package drill
