// Etcd-rewind restores a kubeadm control plane's etcd from a snapshot: a
// wizard in the terminal, and the same engine as commands.
package main

import "etcd-rewind/cli"

// version is set by the release build.
var version = ""

func main() { cli.Main(version) }
