//go:build linux

package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

// balancerAddress is where a cluster's load balancer is: no node's. One cluster at a
// time has one.
const balancerAddress = "10.77.0.251"

// haproxyConfig is what kind gives its haproxy (pkg/cluster/internal/loadbalancer), but
// for names of containers.
const haproxyConfig = `global
  log stdout local0
  maxconn 1000

defaults
  log global
  mode tcp
  option dontlognull
  timeout connect 5000
  timeout client 50000
  timeout server 50000

frontend control-plane
  bind %s:%s
  default_backend kube-apiservers

backend kube-apiservers
  option httpchk GET /healthz
%s`

// Balance puts haproxy before the cluster's API servers, as kind does in a container
// beside its nodes: from then on controlPlaneEndpoint, by which kubeconfigs reach the
// API, is that on every node. (Kubelets of new clusters ask their own API server since
// kubeadm 1.33: ControlPlaneKubeletLocalMode.) It needs Debian's haproxy. The log is
// haproxy.log in Dir of the first node; down takes it away.
func (c *Cluster) Balance(ctx context.Context) (down func() error, err error) {
	servers, port := "", c.Nodes[0].apiPort()
	for _, n := range c.Nodes {
		servers += fmt.Sprintf("  server %s %s:%s check check-ssl verify none\n", n.Hostname, n.Address, port)
	}
	dir := c.Nodes[0].Dir
	config := filepath.Join(dir, "haproxy.cfg")
	if err := os.WriteFile(config, fmt.Appendf(nil, haproxyConfig, balancerAddress, port, servers), 0o644); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(dir, "haproxy.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	if err := ip(ctx, "address add "+balancerAddress+"/32 dev "+bridge); err != nil {
		return nil, err
	}
	away := func() error { return ip(context.WithoutCancel(ctx), "address del "+balancerAddress+"/32 dev "+bridge) }
	haproxy := exec.Command("haproxy", "-db", "-f", config)
	haproxy.Stdout, haproxy.Stderr = log, log
	haproxy.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started, stop, ended := make(chan error), make(chan struct{}), make(chan struct{})
	go func() { // the signal comes with the end of the thread: prctl(2)
		defer close(ended)
		runtime.LockOSThread()
		err := haproxy.Start()
		started <- err
		if err == nil {
			<-stop
			_ = haproxy.Process.Kill()
			_ = haproxy.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, errors.Join(err, away())
	}
	down = func() error {
		close(stop)
		<-ended
		return away()
	}
	for _, n := range c.Nodes {
		script := fmt.Sprintf("sed -i 's/ %s$//' /etc/hosts && echo '%s %s' >>/etc/hosts", controlPlaneName, balancerAddress, controlPlaneName)
		if out, err := n.Command(ctx, "sh", "-c", script).CombinedOutput(); err != nil {
			return nil, errors.Join(fmt.Errorf("%s: %w\n%s", n.Hostname, err, out), down())
		}
	}
	err = poll(ctx, "an answer through haproxy", patience, 100*time.Millisecond, func(ctx context.Context) error {
		_, err := c.Nodes[0].Kubectl(ctx, "get", "--raw=/readyz")
		return err
	})
	if err != nil {
		said, _ := os.ReadFile(log.Name())
		return nil, errors.Join(fmt.Errorf("%w\n%s", err, said), down())
	}
	return down, nil
}
