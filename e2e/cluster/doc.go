//go:build linux

// Package cluster brings up real kubeadm control-plane nodes on one Linux
// machine, for the end-to-end tests: kubelet, containerd, etcd with TLS,
// kube-apiserver, kube-controller-manager and kube-scheduler, with nothing
// replaced. It needs root.
//
// A node is a network, a mount and a UTS namespace and a cgroup. It has
// directories of its own at /etc/kubernetes, /etc/ssh, /run, /var/lib, /var/log
// and /usr/libexec/kubernetes; everything else is the machine's. Nodes hang on one
// bridge, so the machine reaches them, and they each other. There is no CNI:
// nodes stay NotReady, and only pods on the host's network run.
//
// A systemd host (Config.Systemd) is a whole Debian instead, in a container of
// systemd-nspawn on the same bridge: with units, a journal and reboots. UpExternal
// has etcd on such hosts.
//
// Nodes of one cluster (UpCluster) share their certificate authorities, have one
// member of etcd each, know each other by name, and are reached by ssh.
//
// Every process of a node is in the node's cgroup. That is how Down finds them
// all, also those of a node whose test was killed, and never anyone else's.
package cluster
