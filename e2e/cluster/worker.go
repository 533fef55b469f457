//go:build linux

package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// joins keeps two workers from writing to the same files of the others.
var joins sync.Mutex

// Join brings up a worker and has it join the cluster of n, a control plane, by
// kubeadm join with a token. It returns once the API knows the worker's node,
// after about 10 s. Config is as for Up; only Name is needed, and the worker is a
// systemd host exactly when Config says so. A worker stays NotReady for want of a
// network plugin: pods in the host's network run there.
//
// A worker of a cluster (UpCluster) is reached by ssh from the other nodes and
// goes down with them; another has to be taken down by itself.
func (n *Node) Join(ctx context.Context, config Config) (*Node, error) {
	config.joins = n
	return bring(ctx, config, (*Node).upWorker)
}

func (n *Node) upWorker(ctx context.Context, config Config, p parts) error {
	started := time.Now()
	say := func(what string) {
		fmt.Fprintf(config.Progress, "%5.1f s  %s: %s\n", time.Since(started).Seconds(), n.Name, what)
	}
	images, err := n.writeFiles(ctx, config, p)
	if err != nil {
		return err
	}
	if err := n.meet(ctx, config.joins); err != nil {
		return err
	}
	token := make(chan error, 1)
	var join joining
	go func() {
		var err error
		join, err = config.joins.invite(ctx)
		token <- err
	}()
	store, found, err := n.upHost(ctx, images, p)
	if err != nil {
		return errors.Join(err, <-token)
	}
	say("the host is up")
	if err := errors.Join(n.startContainerd(ctx, images, p, store, found), <-token); err != nil {
		return err
	}
	if n.record.Cluster != "" {
		if err := n.startSSH(ctx); err != nil {
			return err
		}
	}
	say("containerd runs, the control plane has made a token")
	if err := n.kubeadmJoin(ctx, join); err != nil {
		return err
	}
	say("joined")
	return poll(ctx, "the API to know node "+n.Hostname, patience, 100*time.Millisecond, func(ctx context.Context) error {
		_, err := config.joins.Kubectl(ctx, "get", "node", n.Hostname)
		return err
	})
}

// joining is what kubeadm join has to be told.
type joining struct{ endpoint, token, hash string }

// invite has a control plane expect a worker.
func (n *Node) invite(ctx context.Context) (joining, error) {
	// What kubeadm init leaves for those who join; safe to repeat.
	if err := n.kubeadmPhase(ctx, "bootstrap-token"); err != nil {
		return joining{}, err
	}
	out, err := run(n.Command(ctx, "kubeadm", "token", "create", "--print-join-command", "--kubeconfig", n.Kubeconfig))
	if err != nil {
		return joining{}, err
	}
	// kubeadm join ADDRESS --token TOKEN --discovery-token-ca-cert-hash HASH
	words := strings.Fields(out)
	if len(words) != 7 {
		return joining{}, fmt.Errorf("kubeadm's command to join is %q", out)
	}
	return joining{endpoint: words[2], token: words[4], hash: words[6]}, nil
}

// kubeadmJoin is what an administrator types on a worker. Without systemd kubeadm
// can't start kubelet, and waits for somebody who does.
func (n *Node) kubeadmJoin(ctx context.Context, j joining) error {
	flags := ""
	patches := filepath.Join(filepath.Dir(n.kubeadmFile()), "patches")
	if !n.Systemd {
		flags = fmt.Sprintf(`  kubeletExtraArgs:
  - name: node-ip
    value: %s
  - name: hostname-override
    value: %s
patches:
  directory: %s
`, n.Address, n.Hostname, patches)
		// What the cluster has for all is the control plane's own here.
		if err := os.MkdirAll(patches, 0o755); err != nil {
			return err
		}
		own, err := json.Marshal(map[string]string{"cgroupRoot": n.CgroupRoot})
		if err != nil {
			return err
		}
		if err := writeText(filepath.Join(patches, "kubeletconfiguration+merge.json"), string(own)); err != nil {
			return err
		}
	}
	text := fmt.Sprintf(`apiVersion: kubeadm.k8s.io/v1beta4
kind: JoinConfiguration
discovery:
  bootstrapToken:
    apiServerEndpoint: %s
    token: %s
    caCertHashes: [%q]
nodeRegistration:
  name: %s
  criSocket: unix:///run/containerd/containerd.sock
%s`, j.endpoint, j.token, j.hash, n.Hostname, flags)
	file := n.kubeadmFile()
	if err := writeText(n.HostPath(file), text); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	started := make(chan error, 1)
	go func() {
		if n.Systemd {
			started <- nil
			return
		}
		// The last that kubeadm writes before kubelet has to run.
		err := poll(ctx, "kubeadm to write kubelet's flags", patience, 50*time.Millisecond, func(context.Context) error {
			_, err := os.Stat(n.HostPath("/var/lib/kubelet/kubeadm-flags.env"))
			return err
		})
		if err == nil {
			err = n.service(ctx, "kubelet", "start")
		}
		started <- err
	}()
	_, err := run(n.Command(ctx, "kubeadm", "join", "--config", file, "--skip-phases", "preflight"))
	if err != nil {
		cancel()
	}
	return errors.Join(err, <-started)
}

// meet makes the worker and the nodes of its cluster known to each other, before
// the worker is up: a systemd host without keys for its sshd boots degraded.
func (n *Node) meet(ctx context.Context, to *Node) error {
	joins.Lock()
	defer joins.Unlock()
	others := []*Node{to}
	if to.record.Cluster != "" {
		c, err := OpenCluster(to.record.Cluster)
		if err != nil {
			return err
		}
		others = nil
		for _, other := range c.All() {
			if other.Name != n.Name {
				others = append(others, other)
			}
		}
	}
	hosts := "127.0.0.1 localhost\n" + n.Address + " " + n.Hostname + "\n"
	for _, other := range others {
		hosts += other.Address + " " + other.Hostname
		if other.Name == to.Name && to.record.Cluster != "" {
			hosts += " " + controlPlaneName
		}
		hosts += "\n"
		if err := appendText(other.HostPath("/etc/hosts"), n.Address+" "+n.Hostname+"\n"); err != nil {
			return err
		}
	}
	if err := writeText(n.HostPath("/etc/hosts"), hosts); err != nil {
		return err
	}
	if to.record.Cluster == "" {
		return nil
	}

	if err := os.MkdirAll(n.HostPath("/etc/ssh"), 0o755); err != nil {
		return err
	}
	for _, name := range []string{"id_ed25519", "authorized_keys", "ssh_config", "ssh_known_hosts"} {
		text, err := os.ReadFile(to.HostPath("/etc/ssh/" + name))
		if err != nil {
			return err
		}
		if err := os.WriteFile(n.HostPath("/etc/ssh/"+name), text, 0o600); err != nil {
			return err
		}
	}
	key := n.HostPath("/etc/ssh/ssh_host_ed25519_key")
	if _, err := run(exec.CommandContext(ctx, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", key)); err != nil {
		return err
	}
	public, err := os.ReadFile(key + ".pub")
	if err != nil {
		return err
	}
	for _, other := range append(others, n) {
		if err := appendText(other.HostPath("/etc/ssh/ssh_known_hosts"), n.Hostname+","+n.Address+" "+string(public)); err != nil {
			return err
		}
	}
	return nil
}

func appendText(path, text string) error {
	file, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = file.WriteString(text)
	return errors.Join(err, file.Close())
}
