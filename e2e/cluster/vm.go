//go:build linux

package cluster

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// A virtual machine is a systemd host with a kernel of its own: Debian's
// User-Mode Linux, which needs no KVM. It is there for what the machine's kernel
// can't show, cgroup v2 with controllers. It has one CPU, and starting a process
// takes 20 times as long in it.

// vmFiles are what a virtual machine needs beside what a systemd host has: an
// address, a key for ssh, and no console.
func (n *Node) vmFiles(ctx context.Context) (map[string]string, error) {
	key := filepath.Join(n.Dir, "ssh", "id")
	if err := os.MkdirAll(filepath.Dir(key), 0o700); err != nil {
		return nil, err
	}
	for _, file := range []string{key, filepath.Join(n.Dir, "ssh", "host")} {
		if _, err := run(exec.CommandContext(ctx, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", file)); err != nil {
			return nil, err
		}
	}
	files := map[string]string{
		"/etc/fstab": "/dev/ubda / ext4 rw,noatime 0 0\n",
		"/usr/local/lib/network": fmt.Sprintf("ip link set lo up\nip link set eth0 up\nip address add %s/24 dev eth0\nip route add default via %s\n",
			n.Address, bridgeAddress),
		"/etc/systemd/system/network.service": "[Unit]\nDescription=The machine's address\nBefore=ssh.service containerd.service kubelet.service\n\n" +
			"[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/bash /usr/local/lib/network\n\n[Install]\nWantedBy=multi-user.target\n",
	}
	for path, from := range map[string]string{
		"/etc/ssh/authorized_keys":      key + ".pub",
		"/etc/ssh/ssh_host_ed25519_key": filepath.Join(n.Dir, "ssh", "host"),
	} {
		text, err := os.ReadFile(from)
		if err != nil {
			return nil, err
		}
		files[path] = string(text)
	}
	files["/etc/ssh/sshd_config"] = sshdConfig
	return files, nil
}

// vmHost puts what vmFiles says into the host's files, and masks what would wait
// for devices that it doesn't have.
func (n *Node) vmHost(ctx context.Context) error {
	files, err := n.vmFiles(ctx)
	if err != nil {
		return err
	}
	if err := n.writeInside(files); err != nil {
		return err
	}
	if err := os.Chmod(n.HostPath("/etc/ssh/ssh_host_ed25519_key"), 0o600); err != nil {
		return err
	}
	for _, unit := range []string{"serial-getty@ttyS0", "getty@tty0", "modprobe@drm", "modprobe@efi_pstore", "modprobe@fuse", "modprobe@loop", "modprobe@dm_mod", "modprobe@configfs"} {
		if err := os.Symlink("/dev/null", n.HostPath("/etc/systemd/system/"+unit+".service")); err != nil {
			return err
		}
	}
	return n.enable("/etc/systemd/system/network.service")
}

// startVM makes the disk and starts the machine on it.
func (n *Node) startVM(ctx context.Context) error {
	if _, err := run(exec.CommandContext(ctx, "unshare", "--mount", "--propagation", "private", filepath.Join(n.Dir, "bin", "disk"))); err != nil {
		return err
	}
	return n.boot(ctx)
}

// Stretched is a limit as it has to be for this node: longer for a virtual machine.
func (n *Node) Stretched(limit time.Duration) time.Duration {
	if n.record.VM {
		return 8 * limit
	}
	return limit
}
