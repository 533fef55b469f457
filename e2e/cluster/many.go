//go:build linux

package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Cluster is control planes, with stacked etcd (a member on each, and each API
// server asks the member on its own node) or with etcd on hosts of its own.
type Cluster struct {
	Name  string
	Nodes []*Node // the control planes; the first is the one that kubeadm init would have made
	Etcd  []*Node // the hosts of an external etcd; none when it is stacked

	Workers []*Node // those that have joined
}

// controlPlaneName is the cluster's controlPlaneEndpoint, for which others have a
// load balancer. Each control plane knows it as itself, an etcd host as the first.
const controlPlaneName = "control-plane.test"

// founding is what the nodes of a new cluster have to know before they start.
type founding struct {
	name      string
	hostnames []string // of control planes; those of etcd hosts are not among them
	nodes     []*Node  // all of them
	etcd      []*Node  // the hosts of an external etcd
	form      Form     // how that is set up
	// What each node gets of the certificates of an external etcd.
	certificates map[string]map[string][]byte
	pki          string // a directory that holds the authorities, as /etc/kubernetes/pki does
	ssh          string // a directory for /etc/ssh, and a directory for each node in it
}

// UpCluster brings up a cluster of a control plane for each hostname, and
// returns once all API servers are ready and all members of etcd have started.
// Nodes are named after the cluster and the host: NAME-HOSTNAME, in a directory
// of Dir. Config's Hostname and Address are not for clusters. It fails when one
// of the nodes is up. On an error nothing is left but the logs in Dir.
//
// All members begin at once, as a new cluster whose --initial-cluster names all
// of them. The certificate authorities are shared, as after kubeadm join
// --control-plane: only the first node has a super-admin.conf, and all have an
// admin.conf that leads to their own API server.
//
// Every node runs OpenSSH's server, and `ssh HOSTNAME` in any of them is root on
// the other, without questions. See SSH.
func UpCluster(ctx context.Context, config Config, hostnames ...string) (*Cluster, error) {
	return upCluster(ctx, config, &founding{name: config.Name, hostnames: hostnames}, nil)
}

func upCluster(ctx context.Context, config Config, f *founding, etcdHosts []string) (*Cluster, error) {
	if len(f.hostnames) == 0 || config.Hostname != "" || config.Address != "" {
		return nil, errors.New("a cluster has hostnames, and no Hostname or Address of its own")
	}
	config.founding = f
	hostnames := slices.Concat(f.hostnames, etcdHosts)
	names := slices.Clone(hostnames)
	for _, hostname := range hostnames {
		names = append(names, config.Name+"-"+hostname)
	}
	config.etcdHosts = len(etcdHosts) > 0
	p, err := prepare(ctx, &config, names...)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "etcd-rewind-founding-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	f.pki, f.ssh = filepath.Join(dir, "pki"), filepath.Join(dir, "ssh")
	if err := f.makeAuthorities(ctx, p); err != nil {
		return nil, err
	}

	c := &Cluster{Name: config.Name}
	configs := map[*Node]Config{}
	for _, hostname := range hostnames {
		own := config
		own.Name, own.Hostname = config.Name+"-"+hostname, hostname
		own.Dir = filepath.Join(config.Dir, hostname)
		if slices.Contains(etcdHosts, hostname) {
			own.form, own.Systemd = f.form, true
		}
		r, err := claim(own)
		if err != nil {
			return nil, errors.Join(err, afterwards(ctx, c.Down))
		}
		n := r.node()
		c.add(n)
		configs[n] = own
	}
	f.nodes, f.etcd = c.All(), c.Etcd
	err = f.makeSSH(ctx)
	if err == nil && len(f.etcd) > 0 {
		err = f.makeEtcdCertificates()
	}
	if err == nil {
		err = c.up(ctx, configs, p)
	}
	if err != nil {
		return nil, errors.Join(err, afterwards(ctx, c.Down))
	}
	return c, nil
}

// add puts a node where it belongs in the cluster.
func (c *Cluster) add(n *Node) {
	switch {
	case n.record.Worker:
		c.Workers = append(c.Workers, n)
	case n.record.Form != "":
		c.Etcd = append(c.Etcd, n)
	case n.record.Joined:
		c.Nodes = append(c.Nodes, n)
	default:
		c.Nodes = slices.Insert(c.Nodes, 0, n)
	}
}

// All lists the control planes, the hosts of etcd, and the workers.
func (c *Cluster) All() []*Node { return slices.Concat(c.Nodes, c.Etcd, c.Workers) }

func (c *Cluster) up(ctx context.Context, configs map[*Node]Config, p parts) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	err := c.each(func(n *Node) error {
		err := n.up(ctx, configs[n], p)
		if err != nil && ctx.Err() == nil {
			err = n.explain(err)
			cancel(err) // only the first counts
		}
		return err
	})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return err
	}
	return c.Ready(ctx)
}

// each does something on all nodes at once.
func (c *Cluster) each(do func(*Node) error) error {
	return together(c.All(), do)
}

// together does something on nodes at once.
func together(nodes []*Node, do func(*Node) error) error {
	errs := make([]error, len(nodes))
	var all sync.WaitGroup
	for i, n := range nodes {
		all.Go(func() { errs[i] = do(n) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// Down takes all nodes down. Safe to call twice, and on a cluster that came up half.
func (c *Cluster) Down(ctx context.Context) error {
	return c.each(func(n *Node) error { return n.Down(ctx) })
}

// OpenCluster returns a cluster that is up, or came up half, whichever process
// brought it up. The error is fs.ErrNotExist when there is none of that name.
func OpenCluster(name string) (*Cluster, error) {
	all, err := records()
	if err != nil {
		return nil, err
	}
	c := &Cluster{Name: name}
	for _, r := range all { // by name
		if r.Cluster == name && name != "" {
			c.add(r.node())
		}
	}
	if len(c.All()) == 0 {
		return nil, fmt.Errorf("cluster %s: %w", name, fs.ErrNotExist)
	}
	return c, nil
}

// Ready waits until every API server is ready and knows its node, and Healthy.
func (c *Cluster) Ready(ctx context.Context) error {
	if err := together(c.Nodes, func(n *Node) error { return n.Ready(ctx) }); err != nil {
		return err
	}
	return c.Healthy(ctx)
}

// Healthy waits, for a minute at most, until etcd on every node says that the
// cluster's members are these nodes, all of them started, and answers a
// linearizable read itself.
func (c *Cluster) Healthy(ctx context.Context) error {
	members := c.Etcd
	if len(members) == 0 {
		members = c.Nodes
	}
	var want []string
	for _, n := range members {
		want = append(want, n.Hostname)
	}
	slices.Sort(want)
	return together(members, func(n *Node) error {
		err := poll(ctx, "all members of etcd", patience, 200*time.Millisecond, func(ctx context.Context) error {
			members, err := n.Members(ctx)
			if err != nil {
				return err
			}
			var started []string
			for _, m := range members {
				if !m.Started() || m.IsLearner {
					return fmt.Errorf("member %x (%s) is not a started voter", m.ID, strings.Join(m.PeerURLs, ","))
				}
				started = append(started, m.Name)
			}
			slices.Sort(started)
			if !slices.Equal(started, want) {
				return fmt.Errorf("the members are %s, want %s", started, want)
			}
			_, err = n.Etcdctl(ctx, "endpoint", "health")
			return err
		})
		return n.explain(err)
	})
}

// Member is a member of etcd, as etcdctl prints it.
type Member struct {
	ID         uint64   `json:"ID"`
	Name       string   `json:"name"` // empty until it has started
	PeerURLs   []string `json:"peerURLs"`
	ClientURLs []string `json:"clientURLs"` // none until it has started
	IsLearner  bool     `json:"isLearner"`
}

// Started says whether the member has told the others that it runs. It stays
// true when the member ends later.
func (m Member) Started() bool { return m.Name != "" && len(m.ClientURLs) > 0 }

// Members asks the node's etcd for all members of its cluster. It fails while
// there is no quorum.
func (n *Node) Members(ctx context.Context) ([]Member, error) {
	out, err := n.Etcdctl(ctx, "member", "list", "--write-out=json")
	if err != nil {
		return nil, err
	}
	var list struct {
		Members []Member `json:"members"`
	}
	err = json.Unmarshal([]byte(out), &list)
	return list.Members, err
}

// makeAuthorities makes what kubeadm join --control-plane has to be given of the
// first node: the certificate authorities, and the service accounts' keys.
func (f *founding) makeAuthorities(ctx context.Context, p parts) error {
	version, err := p.kubeadmVersion(ctx)
	if err != nil {
		return err
	}
	kubeadm := filepath.Join(p.kubernetes, "kubeadm")
	for _, phase := range []string{"ca", "front-proxy-ca", "etcd-ca", "sa"} {
		if phase == "etcd-ca" && f.form != "" {
			continue // it is not kubeadm's
		}
		args := []string{"init", "phase", "certs", phase, "--cert-dir", f.pki}
		if phase != "sa" {
			args = append(args, "--kubernetes-version", version) // or it asks the internet
		}
		if _, err := run(exec.CommandContext(ctx, kubeadm, args...)); err != nil {
			return err
		}
	}
	return nil
}

// writeFounding puts what the cluster shares into the node's files.
func (n *Node) writeFounding(f *founding) error {
	hosts := "127.0.0.1 localhost\n"
	for _, other := range f.nodes {
		hosts += other.Address + " " + other.Hostname
		if other.Name == n.Name || n.record.Form != "" && other == f.nodes[0] {
			hosts += " " + controlPlaneName
		}
		hosts += "\n"
	}
	if err := os.WriteFile(n.HostPath("/etc/hosts"), []byte(hosts), 0o644); err != nil {
		return err
	}
	copies := [][2]string{{filepath.Join(f.ssh, n.Hostname), "/etc/ssh"}}
	if n.record.Form == "" {
		copies = append(copies, [2]string{f.pki, "/etc/kubernetes/pki"})
	}
	for _, copied := range copies {
		if err := os.MkdirAll(n.HostPath(copied[1]), 0o755); err != nil {
			return err
		}
		if _, err := run(exec.Command("cp", "-a", copied[0]+"/.", n.HostPath(copied[1]))); err != nil {
			return err
		}
	}
	return n.writeEtcdCertificates(f)
}

// initialCluster is the value of etcd's --initial-cluster.
func initialCluster(nodes []*Node) string {
	var members []string
	for _, n := range nodes {
		members = append(members, n.Hostname+"=https://"+n.Address+":2380")
	}
	return strings.Join(members, ",")
}

// foundMember has the node's etcd begin as one of all members of a new cluster.
// kubeadm only knows a cluster of one, and members that join later.
func (n *Node) foundMember(f *founding) error {
	return n.setInitialCluster([]*Node{n}, initialCluster(f.nodes))
}

// setInitialCluster replaces etcd's --initial-cluster, which has to be what it is
// for some nodes.
func (n *Node) setInitialCluster(before []*Node, after string) error {
	manifest := n.HostPath("/etc/kubernetes/manifests/etcd.yaml")
	text, err := os.ReadFile(manifest)
	if err != nil {
		return err
	}
	const flag = "    - --initial-cluster="
	line := flag + initialCluster(before) + "\n"
	if strings.Count(string(text), line) != 1 {
		return fmt.Errorf("%s does not have the line %q", manifest, line)
	}
	text = []byte(strings.Replace(string(text), line, flag+after+"\n", 1))
	// Kubelet must not read half a file, and leaves files with a dot alone.
	next := filepath.Join(filepath.Dir(manifest), ".etcd.yaml")
	if err := os.WriteFile(next, text, 0o600); err != nil {
		return err
	}
	return os.Rename(next, manifest)
}

// AsJoined makes of etcd's manifests what they are after kubeadm init on the first
// node and kubeadm join --control-plane on the others, one by one: each names
// the members up to its own, and on those that joined --initial-cluster-state is
// existing. Etcd heeds neither flag once it has data. It returns when etcd runs
// with these flags on all nodes and the cluster is ready again, after 80 s: no API
// server has an etcd while kubelet exchanges all three. Not to be called twice.
func (c *Cluster) AsJoined(ctx context.Context) error {
	for i, n := range c.Nodes {
		flags := initialCluster(c.Nodes[:i+1])
		if i > 0 {
			flags += "\n    - --initial-cluster-state=existing"
		}
		if err := n.setInitialCluster(c.Nodes, flags); err != nil {
			return err
		}
	}
	err := c.each(func(n *Node) error {
		want := []string{"--initial-cluster=" + initialCluster(c.Nodes[:slices.Index(c.Nodes, n)+1])}
		if n.record.Joined {
			want = append(want, "--initial-cluster-state=existing")
		}
		return poll(ctx, "etcd on "+n.Hostname+" to run as after kubeadm join", patience, 200*time.Millisecond, func(context.Context) error {
			pids, err := processes(filepath.Join(n.CgroupRoot, "kubepods"))
			if err != nil {
				return err
			}
			for pid := range pids {
				line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
				args := strings.Split(string(line), "\x00")
				if args[0] == "etcd" && !slices.ContainsFunc(want, func(flag string) bool { return !slices.Contains(args, flag) }) {
					return nil
				}
			}
			return errors.New("it doesn't yet")
		})
	})
	if err != nil {
		return err
	}
	return c.Ready(ctx)
}
