// Package trust is the boundary to everything that this program didn't write
// itself: processes, files and links of other users, snapshots, manifests,
// journals, other nodes and their messages. Each kind of input has one checker
// here: a program that is to be started (Command, Program), a directory whose
// contents are acted on (Dir), a host that is to be dialled (Host), text that is
// to be shown (Text, Lines, Clip) or pasted into a shell (Quote).
//
// It decides nothing about Kubernetes or etcd; it imports no other package of
// this module, and all of them may import it. docs/security.md describes what is
// trusted and what is not.
package trust
