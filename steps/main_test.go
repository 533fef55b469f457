package steps

import (
	"os"
	"testing"

	"etcd-rewind/snapshot"
)

// Snapshots are looked into in a process of their own: this one, started again.
func TestMain(m *testing.M) {
	snapshot.Worker()
	os.Exit(m.Run())
}
