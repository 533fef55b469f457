// Package settle finds what a cluster still owes after its etcd went back in
// time: what kubelets, kubeadm, volumes and clients of the API hold on to that
// the restored objects don't know, or know otherwise. It reads the API server,
// etcd and this node; most debts are for people, and those that are safe are
// settled when that is asked for, one by one. How it is asked and shown isn't in
// it, nor what a restore itself does (steps).
package settle
