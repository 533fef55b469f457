package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"etcd-rewind/trust"
)

// Options are what a person says about a node that differs from the usual one.
// An empty field means: find out.
type Options struct {
	KubeletConfig  string  // path of the kubelet's configuration file
	Manifests      string  // the static pod directory
	EtcdUnit       string  // the systemd service that runs etcd
	CRI            string  // the runtime's endpoint, unix:///path or /path
	KubeletRoot    string  // the kubelet's --root-dir
	PodLogs        string  // the directory of the pods' logs
	CgroupMount    string  // where the cgroup file system is mounted
	KubeletHealthz string  // URL of the kubelet's healthz
	Layout         *Layout // nil means FindLayout's
	// NoProcess looks at no process: the kubelet that the options lead to isn't
	// among this machine's, and one that is has nothing to do with it.
	NoProcess bool
	// Proc is where the kernel shows processes, Root what a layout's and a vendor's
	// marks are below: /proc and / when empty, others in tests.
	Proc, Root string

	envFiles []string // files that systemd units read flags from
}

// Kubelet is what is known of this node's kubelet.
type Kubelet struct {
	ConfigPath    string // "" when it runs without a configuration file
	StaticPodPath string
	CRIEndpoint   string
	HealthzURL    string // "" when it is switched off
	MetricsURL    string // wants a client certificate; "" when it is switched off
	RootDir       string
	PodLogs       string
	CgroupRoot    string // in the kubelet's terms: "/" or "/kubelet"
	CgroupMount   string
	Kubeconfig    string // with which it talks to the API server; "" when not known
	NodeName      string
	FileCheck     time.Duration // how often it lists StaticPodPath, besides its watch
	Version       string        // "1.34.4", "" when not known

	PID     int       // 0 when no kubelet runs
	Started time.Time // zero when no kubelet runs
	Ticks   uint64    // the same as the kernel has it: no clock changes it
	// Elsewhere holds the process IDs of kubelets that live in another mount
	// namespace: another node on the same machine, or the host of the container
	// that this process is in. They see other files than this process does.
	Elsewhere []int
	// Ignored are processes that call themselves kubelet and aren't taken for
	// it, each with the reason: another user's, or a program that others can
	// change.
	Ignored []string

	// Sources says where each fact came from, by the name the kubelet's
	// configuration has for it: staticPodPath, containerRuntimeEndpoint,
	// rootDir, podLogsDir, cgroupRoot, healthz, metrics, nodeName, fileCheckFrequency,
	// kubeconfig, config.
	Sources map[string]string
}

const defaultFileCheck = 20 * time.Second

// Found is the layout that the node has.
func (o Options) Found() *Layout {
	if o.Layout != nil {
		return o.Layout
	}
	return FindLayout(cmp.Or(o.Root, "/"))
}

// FindKubelet reads how this node's kubelet is set up: from the command line of
// the running kubelet, its configuration file and drop-ins, in the kubelet's own
// order of precedence (flags over drop-ins over file over defaults); when none
// runs, from what kubeadm's unit would start it with. What opts gives goes
// before all of these.
//
// It fails when the configuration can't be read or names no static pod
// directory: guessing one would end in edits that nobody reads.
func FindKubelet(ctx context.Context, opts Options) (*Kubelet, error) {
	proc, usual := cmp.Or(opts.Proc, "/proc"), opts.Found()
	k := &Kubelet{Sources: map[string]string{}}

	var self *process
	if !opts.NoProcess {
		main := 0
		if opts.Proc == "" {
			main = mainPID(ctx, usual.KubeletUnit)
		}
		found := findProcess(proc, main)
		self, k.Elsewhere, k.Ignored = found.own, found.elsewhere, found.ignored
	}
	var flags []flagged
	if self != nil {
		k.PID, k.Started, k.Ticks = self.pid, self.started, self.ticks
		flags = readFlags(self.args, fmt.Sprintf("of kubelet, process %d", self.pid))
	} else {
		flags = storedFlags(opts)
	}
	cwd := "/"
	if self != nil {
		cwd = self.cwd
	}

	f := facts{}
	k.RootDir = f.pick(k, "rootDir", usual.KubeletRoot, "", lastFlag(flags, "root-dir"), given(opts.KubeletRoot))
	k.RootDir = absolute(k.RootDir, cwd)

	if err := k.findConfig(f, opts, flags, cwd, self != nil); err != nil {
		return nil, err
	}

	k.StaticPodPath = f.pick(k, "staticPodPath", "", "staticPodPath", lastFlag(flags, "pod-manifest-path"), given(opts.Manifests))
	if k.StaticPodPath == "" {
		if k.ConfigPath != "" || self != nil {
			return nil, fmt.Errorf("this node's kubelet has no static pod directory: %s sets no staticPodPath; override with --manifests DIRECTORY",
				cmp.Or(k.ConfigPath, "its command line"))
		}
		k.StaticPodPath = usual.Manifests
		k.Sources["staticPodPath"] = "default: no kubelet runs and no configuration was found"
	}
	k.StaticPodPath = absolute(k.StaticPodPath, cwd)

	k.CRIEndpoint = f.pick(k, "containerRuntimeEndpoint", "", "containerRuntimeEndpoint", lastFlag(flags, "container-runtime-endpoint"), given(opts.CRI))
	if k.CRIEndpoint == "" {
		k.CRIEndpoint = "unix://" + usual.Sockets[0]
		k.Sources["containerRuntimeEndpoint"] = "default"
		for _, s := range usual.Sockets {
			if trust.Socket(s) == nil {
				k.CRIEndpoint = "unix://" + s
				k.Sources["containerRuntimeEndpoint"] = "default: this socket exists"
				break
			}
		}
	}

	k.PodLogs = absolute(f.pick(k, "podLogsDir", usual.PodLogs, "podLogsDir", flagged{}, given(opts.PodLogs)), cwd)
	k.CgroupRoot = f.pick(k, "cgroupRoot", "/", "cgroupRoot", lastFlag(flags, "cgroup-root"), flagged{})
	k.CgroupMount = cmp.Or(opts.CgroupMount, usual.Cgroups)
	k.Kubeconfig = f.pick(k, "kubeconfig", "", "", lastFlag(flags, "kubeconfig"), flagged{})
	if k.Kubeconfig != "" {
		k.Kubeconfig = absolute(k.Kubeconfig, cwd)
	}
	k.HealthzURL = f.healthz(k, flags, opts)
	if at := f.listens(k, flags, server{name: "metrics", host: "address", hostFlag: "address", hostDefault: "0.0.0.0", port: "port", portFlag: "port", portDefault: "10250"}); at != "" {
		k.MetricsURL = "https://" + at + "/metrics"
	}

	check := f.pick(k, "fileCheckFrequency", "", "fileCheckFrequency", lastFlag(flags, "file-check-frequency"), flagged{})
	k.FileCheck = defaultFileCheck
	if d, err := time.ParseDuration(check); err == nil && d > 0 {
		k.FileCheck = d
	}

	k.NodeName = f.pick(k, "nodeName", "", "", lastFlag(flags, "hostname-override"), flagged{})
	if k.NodeName == "" {
		name, err := Hostname()
		if err != nil {
			return nil, err
		}
		k.NodeName, k.Sources["nodeName"] = name, "the host's name"
	}
	k.NodeName = strings.ToLower(strings.TrimSpace(k.NodeName))

	k.Version = askVersion(ctx, proc, k.PID)
	return k, nil
}

// findConfig fills f from the configuration file and the drop-ins.
func (k *Kubelet) findConfig(f facts, opts Options, flags []flagged, cwd string, running bool) error {
	config := lastFlag(flags, "config")
	switch {
	case opts.KubeletConfig != "":
		k.ConfigPath, k.Sources["config"] = opts.KubeletConfig, "given"
	case config.value != "":
		k.ConfigPath, k.Sources["config"] = absolute(config.value, cwd), config.source
	case !running:
		// kubeadm's unit starts the kubelet with this file.
		p := filepath.Join(k.RootDir, "config.yaml")
		if _, err := os.Stat(p); err == nil {
			k.ConfigPath, k.Sources["config"] = p, "default"
		}
	}
	if k.ConfigPath != "" {
		abs, err := filepath.Abs(k.ConfigPath)
		if err != nil {
			return fmt.Errorf("kubelet's configuration: %w", err)
		}
		k.ConfigPath = abs
		// Relative paths in this file count from its own directory.
		if err := f.merge(k.ConfigPath, filepath.Dir(k.ConfigPath)); err != nil {
			return err
		}
	}
	if dir := lastFlag(flags, "config-dir").value; dir != "" {
		return f.mergeDir(absolute(dir, cwd))
	}
	return nil
}

// Healthy asks the kubelet's healthz; nil means it answered "ok".
// It takes three seconds at most: on a machine at a load of 60 one wasn't always enough.
func (k *Kubelet) Healthy(ctx context.Context) error {
	if k.HealthzURL == "" {
		return errors.New("kubelet's healthz is switched off (healthzPort: 0): its health cannot be probed")
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	if err := kubeletsOwn(k.HealthzURL); err != nil {
		return fmt.Errorf("another program answers at %s: %w", k.HealthzURL, err)
	}
	code, body, err := get(ctx, nil, k.HealthzURL)
	switch {
	case err != nil:
		return fmt.Errorf("kubelet does not answer at %s: %w", k.HealthzURL, plain(err))
	case code != http.StatusOK:
		return fmt.Errorf("kubelet is not healthy: %s answers %d %s", k.HealthzURL, code, firstLine(body))
	}
	return nil
}

// kubeletsOwn says whether somebody else may answer at a URL of kubelet's: any
// user may listen at a port of the loopback while kubelet is down, and plain
// HTTP doesn't show who it is.
func kubeletsOwn(healthz string) error {
	u, err := url.Parse(healthz)
	if err != nil {
		return nil // asking it fails, and says why
	}
	if ip := net.ParseIP(u.Hostname()); u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		return nil
	}
	return trust.Listener(port)
}

// PodName is the name that a static pod of this node has in the API and in the
// runtime's labels: kubelet appends the node's name to the one in the manifest
// (pkg/kubelet/config/common.go, generatePodName).
func (k *Kubelet) PodName(manifestName string) string {
	return manifestName + "-" + k.NodeName
}

func (f facts) healthz(k *Kubelet, flags []flagged, opts Options) string {
	if opts.KubeletHealthz != "" {
		k.Sources["healthz"] = "given"
		return opts.KubeletHealthz
	}
	at := f.listens(k, flags, server{
		name: "healthz", host: "healthzBindAddress", hostFlag: "healthz-bind-address", hostDefault: "127.0.0.1",
		port: "healthzPort", portFlag: "healthz-port", portDefault: "10248",
	})
	if at == "" {
		return ""
	}
	return "http://" + at + "/healthz"
}

// server is one that kubelet runs, by the fields and flags that say where.
type server struct {
	name                        string // in Kubelet.Sources
	host, hostFlag, hostDefault string
	port, portFlag, portDefault string
}

// listens is the address at which a server of kubelet answers this machine, ""
// when it is switched off.
func (f facts) listens(k *Kubelet, flags []flagged, s server) string {
	host := f.pick(k, s.name, s.hostDefault, s.host, lastFlag(flags, s.hostFlag), flagged{})
	port := f.pick(k, s.name, s.portDefault, s.port, lastFlag(flags, s.portFlag), flagged{})
	if n, err := strconv.Atoi(port); err != nil || n <= 0 {
		return ""
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
		if ip.To4() == nil {
			host = "::1"
		}
	}
	return net.JoinHostPort(host, port)
}

// askVersion runs the kubelet of the usual directories with --version, the only
// way that needs neither the API nor a certificate. It must be root's, and the
// one that runs: what a process runs is never started here. "" where that isn't
// known.
func askVersion(ctx context.Context, proc string, pid int) string {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	cmd, err := trust.Command(ctx, "kubelet", "--version")
	if err != nil || trust.File(cmd.Path) != nil {
		return ""
	}
	if pid > 0 {
		runs, err := os.Stat(filepath.Join(proc, strconv.Itoa(pid), "exe"))
		if err != nil {
			return ""
		}
		if there, err := os.Stat(cmd.Path); err != nil || !os.SameFile(runs, there) {
			return "" // another, or replaced on the disk since
		}
	}
	out, err := cmd.Output()
	if err != nil {
		return ""
	}
	_, v, _ := strings.Cut(strings.TrimSpace(string(out)), "Kubernetes v")
	return v
}

func absolute(path, base string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(base, path)
}
