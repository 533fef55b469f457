package node

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// mostOpened is more files than an etcd has open before its database among them:
// it opens that at its start.
const mostOpened = 4096

// OpenedData is the data directory of an etcd's process, by the database that it
// has open; "" when it has none, or that can't be seen (root can).
func OpenedData(pid int) string { return openedData("/proc", pid) }

func openedData(proc string, pid int) string {
	if pid <= 0 {
		return ""
	}
	dir := filepath.Join(proc, strconv.Itoa(pid), "fd")
	d, err := os.Open(dir)
	if err != nil {
		return ""
	}
	defer func() { _ = d.Close() }()
	names, _ := d.Readdirnames(mostOpened)
	for _, name := range names {
		file, err := os.Readlink(filepath.Join(dir, name))
		if data, ok := strings.CutSuffix(file, "/member/snap/db"); err == nil && ok && filepath.IsAbs(data) {
			return data
		}
	}
	return ""
}
