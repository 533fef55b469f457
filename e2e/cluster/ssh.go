//go:build linux

package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// sshdConfig is sshd's configuration, but for the PATH: what is usual, without
// the machine's PAM. A client that went away silently is not noticed:
// ClientAliveInterval is 0 unless an administrator has set it.
const sshdConfig = `HostKey /etc/ssh/ssh_host_ed25519_key
AuthorizedKeysFile /etc/ssh/authorized_keys
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
PidFile none
Subsystem sftp internal-sftp
`

// sshConfig is the client's. A host that is gone is given up after 4 to 6 s.
const sshConfig = `Host *
	User root
	IdentityFile /etc/ssh/id_ed25519
	IdentitiesOnly yes
	BatchMode yes
	StrictHostKeyChecking yes
	UserKnownHostsFile /dev/null
	ConnectTimeout 5
	ServerAliveInterval 2
	ServerAliveCountMax 2
`

// SSHConfig is the path, inside the nodes of a cluster, of the configuration by
// which each of them reaches the others as root: `ssh -F SSHConfig HOSTNAME`. It
// is the system's, so it also counts without -F; with it, whatever the user who
// runs the tests has configured doesn't.
const SSHConfig = "/etc/ssh/ssh_config"

// SSH returns OpenSSH's client, run inside the node, that runs a command line on
// another node of the cluster. As ever with ssh, the words are joined by blanks
// and go through root's shell there.
//
// Once the link of one of the two is down, it ends after 4 to 6 s with exit
// status 255. What it has started on the other node goes on, until it sees its
// standard input or output end, and that is not before the link is up again.
func (n *Node) SSH(ctx context.Context, hostname string, words ...string) *exec.Cmd {
	return n.Command(ctx, "ssh", append([]string{"-F", SSHConfig, hostname, "--"}, words...)...)
}

// makeSSH makes the nodes' /etc/ssh: a host key each, known to all, and one
// user's key that all accept.
func (f *founding) makeSSH(ctx context.Context) error {
	keygen := func(path string) (public string, err error) {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return "", err
		}
		_, err = run(exec.CommandContext(ctx, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", path))
		if err != nil {
			return "", err
		}
		text, err := os.ReadFile(path + ".pub")
		return strings.TrimSpace(string(text)) + "\n", err
	}
	key := filepath.Join(f.ssh, "id_ed25519")
	user, err := keygen(key)
	if err != nil {
		return err
	}
	private, err := os.ReadFile(key)
	if err != nil {
		return err
	}
	known := ""
	for _, n := range f.nodes {
		host, err := keygen(filepath.Join(f.ssh, n.Hostname, "ssh_host_ed25519_key"))
		if err != nil {
			return err
		}
		known += n.Hostname + "," + n.Address + " " + host
	}
	for _, n := range f.nodes {
		for name, text := range map[string]string{
			"id_ed25519":      string(private),
			"authorized_keys": user,
			"ssh_known_hosts": known,
			"ssh_config":      sshConfig,
		} {
			if err := os.WriteFile(filepath.Join(f.ssh, n.Hostname, name), []byte(text), 0o600); err != nil {
				return err
			}
		}
	}
	return nil
}

// startSSH starts sshd, unless it runs, and waits until it answers.
func (n *Node) startSSH(ctx context.Context) error {
	// As on a node whose programs come from packages.
	config := sshdConfig + fmt.Sprintf("SetEnv PATH=%q\n", n.record.Path)
	if err := os.WriteFile(n.HostPath("/etc/ssh/sshd_config"), []byte(config), 0o600); err != nil {
		return err
	}
	action, service := "start", "sshd"
	if n.Systemd { // it runs, by Debian's configuration
		action, service = "restart", "ssh"
	}
	if err := n.service(ctx, service, action); err != nil {
		return err
	}
	return poll(ctx, "sshd", patience, 20*time.Millisecond, func(ctx context.Context) error {
		conn, err := n.DialContext(ctx, "tcp", net.JoinHostPort(n.Address, "22"))
		if err == nil {
			return conn.Close()
		}
		if !n.Systemd && n.pid("sshd") == 0 {
			return final{errors.New("sshd has ended: " + tail(filepath.Join(n.Dir, "logs", "sshd.log"), 4))}
		}
		return err
	})
}
