package drill

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

const (
	cgroups     = "/sys/fs/cgroup"
	groupPrefix = "etcd-rewind.drill-"
)

// groups are the cgroups of a drill, in which it has a tenth of what another one
// of the machine's gets when all want more than there is: nice counts only
// within a group. Of memory it gets what is free, but for the reserve: below 100 MB
// kubelet evicts pods.
type groups []string

const memoryReserve = 200 << 20 // bytes

// memoryLimit is what a drill may take, "" where that isn't known.
func memoryLimit(meminfo string) string {
	free, ok := freeMemory(meminfo)
	if !ok || free <= memoryReserve {
		return "" // such a drill doesn't begin
	}
	return strconv.FormatUint(free-memoryReserve, 10)
}

// makeGroups makes them, and removes those of drills that were killed. Where it
// may not, there are none.
func makeGroups() groups {
	var made groups
	limit := memoryLimit("/proc/meminfo")
	add := func(parent string, settings map[string]string) {
		old, _ := filepath.Glob(filepath.Join(parent, groupPrefix+"*"))
		for _, dir := range old {
			_ = os.Remove(dir) // the kernel keeps one with a process in it
		}
		dir := filepath.Join(parent, fmt.Sprintf("%s%d", groupPrefix, os.Getpid()))
		if os.Mkdir(dir, 0o755) != nil {
			return
		}
		made = append(made, dir)
		for name, value := range settings {
			if value == "" {
				continue
			}
			_ = os.WriteFile(filepath.Join(dir, name), []byte(value), 0)
		}
	}
	if _, err := os.Stat(filepath.Join(cgroups, "cgroup.controllers")); err == nil {
		add(cgroups, map[string]string{"cpu.weight": "10", "io.weight": "10", "memory.max": limit})
		return made
	}
	for controller, settings := range map[string]map[string]string{
		"cpu":    {"cpu.shares": "102"},
		"memory": {"memory.limit_in_bytes": limit},
		"blkio":  {"blkio.weight": "50", "blkio.bfq.weight": "50"},
	} {
		add(filepath.Join(cgroups, controller), settings)
	}
	return made
}

// files are those that a process writes itself into.
func (g groups) files() []string {
	var all []string
	for _, dir := range g {
		all = append(all, filepath.Join(dir, "cgroup.procs"))
	}
	return all
}

func (g groups) remove() {
	for _, dir := range g {
		_ = os.Remove(dir)
	}
}
