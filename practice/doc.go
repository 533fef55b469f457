// Package practice is a control plane to practise on, without root, network or a
// cluster. A small kubelet follows kubelet's rules for static pods and serves
// CRI on a unix socket; etcd is real; the API server is a stand-in that reads
// what is in etcd and changes ConfigMaps. All files are below one directory, all
// ports on the loopback, and everything ends with the process that started it.
// The shell and the wizard run inside namespaces with a real node's paths and
// ports, where the system allows that.
//
// The exercises, their grader and the command are here, too; the wizard is not:
// it gets the node by [steps.Options], like any other.
//
// A container runs this same binary, started again: [Worker] must be called
// first thing in main.
package practice
