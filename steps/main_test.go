package steps

import (
	"flag"
	"os"
	"runtime"
	"strconv"
	"testing"

	"etcd-rewind/snapshot"
)

// Snapshots are looked into in a process of their own: this one, started again.
func TestMain(m *testing.M) {
	snapshot.Worker()
	// Most of these tests wait for the disk, or for time of their own: more of
	// them at once than there are CPUs, unless somebody says how many.
	flag.Parse()
	if n := flag.Lookup("test.parallel").Value; n.String() == strconv.Itoa(runtime.GOMAXPROCS(0)) {
		_ = n.Set("8")
	}
	os.Exit(m.Run())
}
