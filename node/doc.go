// Package node reads the state of the control-plane node it runs on: kubelet and
// its configuration, containers over CRI, the health of etcd and the API server,
// certificates, disks and owners.
//
// Everything here only reads, with exceptions that are named for what they do:
// [Runtime.StopSandbox], [Runtime.StopContainer], [Runtime.RemoveSandbox], and
// [Runtime.Borrow], which creates a sandbox of its own. [Lock] writes its own
// lock file.
//
// Nothing here waits for a state to change. A caller polls, so that it can show
// progress; every call ends with its context.
package node
