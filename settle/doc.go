// Package settle finds what a cluster still owes after its etcd went back in
// time: the state of kubelets, kubeadm, volumes and clients of the API that
// doesn't match the restored objects. It reads the API server, etcd and this
// node. Most debts are left to the user; those that are safe to settle are
// settled on request, one by one. How a question is asked and a debt is shown
// isn't here, nor what a restore itself does (steps).
package settle
