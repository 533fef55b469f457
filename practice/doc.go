// Package practice is a control plane to practise on: no root, no network, no
// cluster. A small kubelet follows kubelet's rules for static pods and serves
// CRI on a unix socket; etcd is real; the API server is a stand-in that reads
// what etcd holds and changes ConfigMaps. Everything lies below one directory
// and on loopback ports, and ends with the process that started it. The shell
// and the wizard see it from inside namespaces, with a real node's paths and
// ports, where the system allows them.
//
// The exercises, their grader and the command are here too; the wizard is not:
// it leads the engine to the node by [steps.Options] as to any other.
//
// What runs as a container is this same binary, started again: [Worker] must
// be called first thing in main.
package practice
