// Package node looks at the control-plane node it runs on: the kubelet and its
// configuration, containers over CRI, etcd's and the API server's health,
// certificates, disks and owners.
//
// Everything here only reads, with exceptions that are named as what they do:
// [Runtime.StopSandbox], [Runtime.StopContainer], [Runtime.RemoveSandbox], and
// [Runtime.Borrow], which makes a sandbox of its own. [Lock] writes its own lock
// file.
//
// Nothing here waits for a state to change. A caller polls, so that it can show
// what it sees; every call ends with its context.
package node
