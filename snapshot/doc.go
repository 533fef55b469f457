// Package snapshot reads etcd snapshot files and data directories, and
// restores the one into the other. A main package that uses it calls Worker
// first of all.
package snapshot
