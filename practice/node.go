package practice

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"etcd-rewind/node"
	"etcd-rewind/snapshot"
	"etcd-rewind/steps"
	"etcd-rewind/trust"
)

// Config says what node to start.
type Config struct {
	Root Root // made when it isn't there; what is in it stays
	// Seed is the built-in snapshot that /var/lib/etcd is made of; "" makes no
	// data directory, and etcd starts blank.
	Seed string
	// Linger is how long the API server takes to stop; 0 means 8 s. The real
	// one with clients connected takes its whole grace period, 30 s.
	Linger time.Duration
	// Unseen starts a kubelet that hasn't seen the API server yet, as after a
	// reboot with a broken etcd: it ignores removed manifests.
	Unseen bool
	// Inside has the node's files name paths and ports as on a real node. They
	// fit who sees the node from inside its namespaces, as [Command]'s shell.
	Inside bool

	// prepare is called when all files are there and nothing runs.
	prepare func(ctx context.Context, n *Node) error
}

const defaultLinger = 8 * time.Second

// Node is a control plane that runs. Its containers end with this process,
// however that ends.
type Node struct {
	Root    Root
	Ports   ports
	Socket  string
	named   view               // by the node's own files
	Seeded  *snapshot.Restored // what /var/lib/etcd was made with; nil without a seed
	rt      *runtimeService
	log     *os.File
	health  *http.Server
	metrics *http.Server // kubelet's own port, of which a restore reads the metrics
	stopCRI func()
	served  sync.WaitGroup

	mu      sync.Mutex
	kubelet *kubelet
	closed  bool
}

// Start makes a node and starts its kubelet; it doesn't wait until anything is
// ready. The caller must Close it.
func Start(ctx context.Context, c Config) (n *Node, err error) {
	abs, err := filepath.Abs(string(c.Root))
	if err != nil {
		return nil, err
	}
	n = &Node{Root: Root(abs)}
	defer func() {
		if err != nil {
			n.Close()
			n = nil
		}
	}()
	if err := os.MkdirAll(abs, 0o700); err != nil {
		return n, err
	}
	if n.Socket, err = socketIn(n.Root); err != nil {
		return n, err
	}
	guard, p, err := takePorts()
	if err != nil {
		return n, err
	}
	n.Ports = p
	if n.named = n.view(); c.Inside {
		n.named = realView
	}
	n.serveHealth(guard)
	if err := n.lay(ctx, c); err != nil {
		return n, explain(err)
	}
	if n.log, err = os.OpenFile(n.Root.Path("var/log/kubelet.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644); err != nil {
		return n, err
	}
	linger := c.Linger
	if linger == 0 {
		linger = defaultLinger
	}
	env := []string{"PATH=" + trust.Path, "HOME=/", "TMPDIR=" + n.Root.Path("tmp"), lingerEnv + "=" + linger.String()}
	n.rt = newRuntime(n.Root, env, n.ported)
	if n.stopCRI, err = serveCRI(n.rt, n.Socket); err != nil {
		return n, err
	}
	n.startKubelet(!c.Unseen)
	return n, n.serveMetrics()
}

// lay writes everything that is there before kubelet starts.
func (n *Node) lay(ctx context.Context, c Config) error {
	r := n.Root
	if err := r.writeKubelet(n.named); err != nil {
		return err
	}
	if err := writePKI(r.Path("etc/kubernetes"), n.named.ports.apiURL()); err != nil {
		return err
	}
	if err := r.writeManifests(n.named); err != nil {
		return err
	}
	if c.Seed != "" {
		file := r.Path("tmp/seed.db")
		if err := n.WriteSnapshot(c.Seed, file); err != nil {
			return err
		}
		var err error
		if n.Seeded, err = n.restore(ctx, file, r.Path("var/lib/etcd"), "kubeadm"); err != nil {
			return err
		}
		if err := os.Remove(file); err != nil {
			return err
		}
	}
	if c.prepare != nil {
		return c.prepare(ctx, n)
	}
	return nil
}

// restore makes a data directory for this node's member.
func (n *Node) restore(ctx context.Context, file, dir, token string) (*snapshot.Restored, error) {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return nil, err
	}
	return snapshot.Restore(ctx, snapshot.RestoreRequest{
		Snapshot: file, DataDir: dir, Name: nodeName, PeerURLs: []string{n.named.ports.peerURL()}, Token: token, Mode: 0o700,
	}, nil)
}

func explain(err error) error {
	if p := (*fs.PathError)(nil); errors.As(err, &p) && isNoSpace(p.Err) {
		return fmt.Errorf("no space for a practice node (it needs about 200 MB); name another directory with --dir: %w", err)
	}
	return err
}

// maxSocket is what a unix socket's path may have on the strictest system.
const maxSocket = 100

// socketIn is the runtime's socket; when the root's path is too long for one,
// it is in the directory for temporary files.
func socketIn(r Root) (string, error) {
	path := r.Path("run/cri.sock")
	if len(path) > maxSocket {
		dir, err := os.MkdirTemp("/tmp", "etcd-rewind-")
		if err != nil {
			return "", err
		}
		return filepath.Join(dir, "cri.sock"), nil
	}
	_ = os.Remove(path)
	return path, os.MkdirAll(filepath.Dir(path), 0o755)
}

// takePorts looks for six free ports of one hundred, below those that the
// system gives to clients. The listener holds the hundred for this process:
// another practice node asks for the same one first.
func takePorts() (net.Listener, ports, error) {
	hundreds := append([]int{223}, rand.Perm(110)...)
	for i := range hundreds[1:] {
		hundreds[i+1] += 200
	}
	return portsFrom(hundreds, listen)
}

func portsFrom(hundreds []int, listen func(port int) (net.Listener, error)) (net.Listener, ports, error) {
	var last error
	for _, h := range hundreds {
		// The ends of kubeadm's own: 2379, 2380, 2381, 6443, 10248, 10250.
		p := ports{Etcd: h*100 + 79, Peer: h*100 + 80, Metrics: h*100 + 81, API: h*100 + 43, Healthz: h*100 + 48, Kubelet: h*100 + 50}
		guard, err := listen(p.Healthz)
		if err != nil {
			last = err
			continue
		}
		free := true
		for _, port := range []int{p.Etcd, p.Peer, p.Metrics, p.API, p.Kubelet} {
			l, err := listen(port)
			if err != nil {
				free, last = false, err
				break
			}
			_ = l.Close()
		}
		if free {
			return guard, p, nil
		}
		_ = guard.Close()
	}
	return nil, ports{}, fmt.Errorf("no free ports on 127.0.0.1 between 20000 and 31100: %w", last)
}

func listen(port int) (net.Listener, error) {
	return net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
}

// serveHealth answers kubelet's healthz, and takes the order to restart it.
func (n *Node) serveHealth(l net.Listener) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		n.mu.Lock()
		up := n.kubelet != nil
		n.mu.Unlock()
		if !up {
			http.Error(w, "kubelet is being restarted", http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte("ok"))
	})
	mux.HandleFunc("POST /restart", func(w http.ResponseWriter, _ *http.Request) {
		n.RestartKubelet()
		_, _ = w.Write([]byte("ok\n"))
	})
	n.health = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	n.served.Go(func() { _ = n.health.Serve(l) })
}

// serveMetrics answers with the one metric that a restore reads, to who has a
// certificate of the cluster.
func (n *Node) serveMetrics() error {
	own, err := newAuthority(nodeName + "-ca") // kubeadm's kubelet signs for itself
	if err != nil {
		return err
	}
	cert, key, err := own.sign(request{name: nodeName, server: true})
	if err != nil {
		return err
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return err
	}
	ca, err := os.ReadFile(n.Root.Path("etc/kubernetes/pki/ca.crt"))
	if err != nil {
		return err
	}
	clients := x509.NewCertPool()
	clients.AppendCertsFromPEM(ca)
	l, err := listen(n.Ports.Kubelet)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.kubelet != nil {
			_, _ = fmt.Fprintf(w, "%s %d\n", node.RelistsMetric, n.kubelet.lists())
		}
	})
	n.metrics = &http.Server{
		Handler: mux, ReadHeaderTimeout: 5 * time.Second, ErrorLog: log.New(n.log, "", log.LstdFlags),
		TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients},
	}
	n.served.Go(func() { _ = n.metrics.ServeTLS(l, "", "") })
	return nil
}

func (n *Node) startKubelet(seen bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return
	}
	n.kubelet = newKubelet(n.Root.Manifests(), n.Root.Path("var/lib/kubelet"), n.Root.Path("sys/fs/cgroup"), n.rt, n.log, n.apiAnswers)
	n.kubelet.run(seen)
}

func (n *Node) apiAnswers(ctx context.Context) bool {
	return n.Ports.ready(ctx) == nil
}

// RestartKubelet does what systemctl restart kubelet does: containers run on,
// and the new kubelet has yet to see the API server.
func (n *Node) RestartKubelet() {
	n.mu.Lock()
	k := n.kubelet
	n.kubelet = nil
	n.mu.Unlock()
	if k == nil {
		return
	}
	k.close()
	n.startKubelet(false)
}

// KubeletRestart is the shell command that restarts kubelet.
func (n *Node) KubeletRestart() string {
	return n.view().kubeletRestart()
}

// view is the node as the machine's processes see it.
func (n *Node) view() view { return view{root: n.Root, ports: n.Ports, socket: n.Socket} }

// ported is the port on this machine of one that the node's files name.
func (n *Node) ported(port int) int {
	from, to := n.named.ports.all(), n.Ports.all()
	if i := slices.Index(from, port); i >= 0 {
		return to[i]
	}
	return port
}

// serves says whether what listens on a port of this machine runs.
func (n *Node) serves(port int) bool {
	switch port {
	case n.Ports.Etcd, n.Ports.Peer, n.Ports.Metrics:
		return n.rt.runs("etcd")
	case n.Ports.API:
		return n.rt.runs("kube-apiserver")
	}
	return true
}

// Options lead the engine to this node.
func (n *Node) Options() steps.Options { return n.view().options() }

func (v view) kubeletRestart() string {
	return filepath.Join(v.root.tools(), "systemctl") + " restart kubelet"
}

func (v view) options() steps.Options {
	r := v.root
	return steps.Options{Options: node.Options{
		KubeletConfig:  r.Path("var/lib/kubelet/config.yaml"),
		Manifests:      r.Manifests(),
		CRI:            "unix://" + v.socket,
		KubeletRoot:    r.Path("var/lib/kubelet"),
		PodLogs:        r.Path("var/log/pods"),
		CgroupMount:    r.Path("sys/fs/cgroup"),
		KubeletHealthz: v.ports.healthzURL(),
		NoProcess:      true,
	}, Kubeconfig: r.Kubeconfig(), Own: true}
}

// Ready waits until the API server is ready.
func (n *Node) Ready(ctx context.Context) error {
	return until(ctx, func() error { return n.Ports.ready(ctx) })
}

// askAPI asks whether the API server is ready.
func (p ports) askAPI(ctx context.Context) node.APIAnswer {
	return node.AskAPI(ctx, node.APIConfig{ReadyURL: p.apiURL() + "/readyz"}, time.Second)
}

func (p ports) ready(ctx context.Context) error {
	if a := p.askAPI(ctx); !a.Ready() {
		return fmt.Errorf("the API server of the practice node: %s", a)
	}
	return nil
}

// until looks until there is no error or ctx ends; then it returns that error.
func until(ctx context.Context, look func() error) error {
	t := time.NewTicker(50 * time.Millisecond)
	defer t.Stop()
	for {
		err := look()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case <-t.C:
		}
	}
}

// Close ends everything that runs; the files stay. Safe to call twice.
func (n *Node) Close() {
	n.mu.Lock()
	k := n.kubelet
	n.kubelet, n.closed = nil, true
	n.mu.Unlock()
	if n.rt != nil {
		n.rt.close()
	}
	if k != nil {
		k.close()
	}
	if n.stopCRI != nil {
		n.stopCRI()
		n.stopCRI = nil
	}
	for _, s := range []*http.Server{n.health, n.metrics} {
		if s != nil {
			_ = s.Close()
		}
	}
	n.served.Wait()
	if n.log != nil {
		_ = n.log.Close()
		n.log = nil
	}
	if n.Socket != "" && filepath.Dir(n.Socket) != n.Root.Path("run") {
		_ = os.RemoveAll(filepath.Dir(n.Socket))
	}
}
