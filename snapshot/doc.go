// Package snapshot reads etcd's snapshot files and data directories: it
// verifies, inspects, compares and saves snapshots, and restores one into a data
// directory. It doesn't start or stop etcd. A main package that uses it calls
// Worker first of all.
package snapshot
