//go:build linux

package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// recordDir holds one file per node of this machine. Like the nodes, it does not
// survive a reboot.
const recordDir = "/run/etcd-rewind-e2e"

// record is what another process must know of a node to use it, or to take it
// down when the process that brought it up is gone.
type record struct {
	Name, Hostname, Dir, Address string
	Path                         string   // PATH inside the node
	Cluster                      string   // empty when the node is alone
	Joined                       bool     // not the cluster's first node
	Worker                       bool     // joined as a worker
	Systemd                      bool     // a host with systemd
	Layout                       Layout   // of a systemd host
	VM                           bool     // a systemd host that is a virtual machine
	Shared                       []string // the machine's directories that a systemd host has, too
	External                     bool     // of a cluster whose etcd is on hosts of its own
	Form                         Form     // how etcd is set up on a host of its own; empty on control planes
	Detached                     bool
	Owner                        int    // the process that brought it up
	OwnerStarted                 string // see stat
}

func (r record) file() string { return filepath.Join(recordDir, r.Name+".json") }

func (r record) write() error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	next := r.file() + ".next"
	if err := os.WriteFile(next, append(text, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(next, r.file())
}

func (r record) remove() error {
	if err := os.Remove(r.file()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// wanted says whether somebody still wants the node.
func (r record) wanted() bool {
	if r.Detached {
		return true
	}
	_, started := stat(r.Owner)
	return alive(r.Owner) && started == r.OwnerStarted
}

func (r record) node() *Node {
	kubeconfig := SuperAdmin
	if r.Joined {
		kubeconfig = Admin
	}
	restart := "'" + strings.ReplaceAll(filepath.Join(r.Dir, "bin", "service"), "'", `'\''`) + "' kubelet restart"
	if r.Systemd {
		restart = "systemctl restart kubelet"
	}
	return &Node{
		Name:                  r.Name,
		Hostname:              r.Hostname,
		Address:               r.Address,
		Dir:                   r.Dir,
		CgroupRoot:            cgroupPrefix + r.Name,
		KubeletLog:            filepath.Join(r.Dir, "logs", "kubelet.log"),
		ContainerdLog:         filepath.Join(r.Dir, "logs", "containerd.log"),
		KubeletRestartCommand: restart,
		Systemd:               r.Systemd,
		Kubeconfig:            kubeconfig,
		record:                r,
	}
}

func records() ([]record, error) {
	files, err := filepath.Glob(filepath.Join(recordDir, "*.json"))
	if err != nil {
		return nil, err
	}
	var all []record
	for _, file := range files {
		text, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue // taken down meanwhile
		}
		if err != nil {
			return nil, err
		}
		var r record
		if err := json.Unmarshal(text, &r); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		all = append(all, r)
	}
	return all, nil
}

// withLock keeps other processes from claiming names and addresses and from
// changing the bridge while do runs.
func withLock(do func() error) error {
	if err := os.MkdirAll(recordDir, 0o755); err != nil {
		return err
	}
	file, err := os.OpenFile(filepath.Join(recordDir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX); err != nil {
		return err
	}
	return do()
}

// claim records a node before anything of it exists, so that whatever comes
// into being can be found again.
func claim(config Config) (record, error) {
	r := record{
		Name: config.Name, Hostname: config.Hostname, Dir: config.Dir, Address: config.Address,
		Systemd: config.Systemd, Layout: config.Layout, VM: config.VM, Shared: config.Shared,
		Detached: config.Detached, Owner: os.Getpid(),
	}
	_, r.OwnerStarted = stat(r.Owner)
	if f := config.founding; f != nil {
		r.Cluster, r.Joined, r.Form = f.name, config.Hostname != f.hostnames[0], config.form
		r.External = f.form != ""
	}
	if config.joins != nil {
		r.Cluster, r.Worker = config.joins.record.Cluster, true
	}
	err := withLock(func() error {
		all, err := records()
		if err != nil {
			return err
		}
		taken := map[string]bool{}
		for _, other := range all {
			taken[other.Address] = true
			switch {
			case other.Name == r.Name:
				return fmt.Errorf("node %s is up already, in %s", r.Name, other.Dir)
			case other.Dir == r.Dir:
				return fmt.Errorf("node %s is in %s already", other.Name, r.Dir)
			}
		}
		if ip := net.ParseIP(r.Address).To4(); r.Address != "" &&
			(ip == nil || !strings.HasPrefix(r.Address, "10.77.0.") || ip[3] < 2 || ip[3] == 255) {
			return fmt.Errorf("address %q is not one of a node: 10.77.0.2 to 10.77.0.254", r.Address)
		}
		for i := firstAddress; r.Address == "" && i <= lastAddress; i++ {
			if address := fmt.Sprintf(addressPattern, i); !taken[address] {
				r.Address = address
			}
		}
		if r.Address == "" || taken[r.Address] {
			return fmt.Errorf("node %s: address %q is taken, or none is free", r.Name, r.Address)
		}
		return r.write()
	})
	return r, err
}

// Open returns a node that is up, or came up half, whichever process brought it
// up. The error is fs.ErrNotExist when there is none of that name.
func Open(name string) (*Node, error) {
	all, err := records()
	if err != nil {
		return nil, err
	}
	for _, r := range all {
		if r.Name == name {
			return r.node(), nil
		}
	}
	return nil, fmt.Errorf("node %s: %w", name, fs.ErrNotExist)
}

// List returns all nodes of this machine.
func List() ([]*Node, error) {
	all, err := records()
	var nodes []*Node
	for _, r := range all {
		nodes = append(nodes, r.node())
	}
	return nodes, err
}

// Sweep takes down the nodes that are not detached and whose process is gone:
// killed, or ended by a panic. Safe to call at any time.
func Sweep(ctx context.Context) error {
	all, err := records()
	if err != nil {
		return err
	}
	var errs []error
	for _, r := range all {
		if !r.wanted() {
			errs = append(errs, r.node().Down(ctx))
		}
	}
	return errors.Join(errs...)
}
