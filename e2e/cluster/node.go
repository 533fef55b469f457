//go:build linux

package cluster

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"etcd-rewind/e2e/matrix"
	"etcd-rewind/trust"
)

// Config says which node Up brings up. Only Name is needed.
type Config struct {
	// Name tells nodes on this machine apart: a DNS label of at most 40
	// characters. The namespace, the interfaces and the cgroup are named after it.
	Name string
	// Hostname is the node's name in Kubernetes and in etcd. Name when empty.
	// Nodes of different clusters may share it.
	Hostname string
	// Dir is where the node's files and logs lie. A directory below the system's
	// temporary one when empty. What a former node left there is removed.
	Dir string
	// Address is the node's address, in 10.77.0.0/24 but not .0, .1 or .255. A
	// free one when empty.
	Address string
	// Kubernetes is the folder in e2e/parts that Kubernetes is built from.
	// kubernetes when empty.
	Kubernetes string
	// Etcd is the folder in e2e/parts that etcd is built from. etcd-3.6 when empty.
	Etcd string
	// Systemd makes the node a host as people have it: a Debian with systemd as its
	// PID 1, kubelet and containerd as its units, systemd as the cgroup driver. It
	// is up in about 15 s.
	Systemd bool
	// Containerd is the folder in e2e/parts that a systemd host's containerd is
	// built from. Debian's when empty.
	Containerd string
	// VM makes a systemd host a virtual machine, whose kernel has cgroup v2 and
	// nothing else: minutes, and HostPath is good before it is up only.
	VM bool
	// Layout is who has set a systemd host up, and so where things are on it.
	Layout Layout
	// Kubelet are more lines of a systemd host's KubeletConfiguration.
	Kubelet string
	// KubeletVerbosity is kubelet's -v. From 4 on its log says why it does not
	// start a pod yet.
	KubeletVerbosity int
	// Shared are directories of the machine that a systemd host has, too, each at the
	// same path. A bare node has all of the machine's but for its own.
	Shared []string
	// Detached nodes stay up until somebody takes them down. The others are
	// taken for leftovers, and swept away, once the process that called Up is gone.
	Detached bool
	// Progress gets a line for what takes long. May be nil.
	Progress io.Writer

	founding  *founding // nil when the node is alone
	form      Form      // of an etcd host
	etcdHosts bool      // the cluster has such
	joins     *Node     // a worker's control plane
}

// ConfigOf is what an entry of the matrix says of a node, or of each of a cluster's.
func ConfigOf(e matrix.Entry) Config {
	return Config{
		Kubernetes: e.KubernetesPart, Containerd: e.ContainerdPart, Etcd: e.EtcdPart, Systemd: e.Systemd,
		Layout: Layout(e.Layout), Kubelet: e.Kubelet,
	}
}

// Node is a control-plane node. Its paths are the machine's; a path inside the
// node is translated by HostPath.
type Node struct {
	Name          string
	Hostname      string
	Address       string
	Dir           string // the node's files: fs, bin, logs, run
	CgroupRoot    string // kubelet's cgroupRoot; pods are below kubepods in it
	KubeletLog    string // not of a systemd host: see Journal
	ContainerdLog string // the same
	Systemd       bool   // a host with systemd
	// KubeletRestartCommand is for `sh -c` inside the node. It returns when the old
	// kubelet has ended and the new one was started, as systemctl restart does; on a
	// systemd host that is what it is. The new kubelet outlives whoever ran it.
	KubeletRestartCommand string
	// Kubeconfig is the path, inside the node, of the kubeconfig that Kubectl uses:
	// SuperAdmin, or Admin on a node that has no SuperAdmin. It leads to the
	// node's own API server.
	Kubeconfig string

	record record
}

// SuperAdmin is the path, inside a node that is alone or a cluster's first, of
// the kubeconfig that works as soon as the API server does: its group needs no
// RBAC objects.
const SuperAdmin = "/etc/kubernetes/super-admin.conf"

// Admin is the path, inside every node, of the kubeconfig whose rights are RBAC
// objects in the cluster. On the nodes that joined a cluster it is the only one.
const Admin = "/etc/kubernetes/admin.conf"

// own lists what a node has for itself. All of /var/lib, since a restore makes
// and renames directories beside /var/lib/etcd. /etc/shadow, since sshd refuses
// a root whom the machine has locked.
var own = []string{"/etc/kubernetes", "/etc/hosts", "/etc/shadow", "/etc/ssh", "/run", "/usr/libexec/kubernetes", "/var/lib", "/var/log"}

//go:embed node host vm
var scripts embed.FS

var validName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$`)

// Up brings up a node and returns once its API server is ready and knows the
// node. It builds the programs first when they were never built, and sweeps away
// nodes whose process is gone. On an error nothing is left but the logs in Dir.
//
// It fails when a node of that name is up: take that one down first.
func Up(ctx context.Context, config Config) (*Node, error) {
	return bring(ctx, config, (*Node).up)
}

// bring makes a node and brings it up by up; when that fails, nothing of it is
// left but its logs.
func bring(ctx context.Context, config Config, up func(*Node, context.Context, Config, parts) error) (*Node, error) {
	if config.Hostname == "" {
		config.Hostname = config.Name
	}
	p, err := prepare(ctx, &config, config.Name, config.Hostname)
	if err != nil {
		return nil, err
	}
	r, err := claim(config)
	if err != nil {
		return nil, err
	}
	n := r.node()
	if err := up(n, ctx, config, p); err != nil {
		return nil, errors.Join(n.explain(err), afterwards(ctx, n.Down))
	}
	return n, nil
}

// afterwards tidies up, whether or not ctx is what made that necessary.
func afterwards(ctx context.Context, down func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	return down(ctx)
}

// prepare checks what is asked for, fills in what is not said, builds the
// programs and sweeps. It returns the directories of the programs.
func prepare(ctx context.Context, config *Config, names ...string) (p parts, err error) {
	for _, name := range names {
		if !validName.MatchString(name) {
			return parts{}, fmt.Errorf("node name %q is not a DNS label of at most 40 characters", name)
		}
	}
	if config.Dir == "" {
		config.Dir = filepath.Join(os.TempDir(), "etcd-rewind-e2e", config.Name)
	}
	dir, err := filepath.Abs(config.Dir)
	if err != nil {
		return parts{}, err
	}
	config.Dir = dir
	if config.Kubernetes == "" {
		config.Kubernetes = "kubernetes"
	}
	if config.Etcd == "" {
		config.Etcd = "etcd-3.6"
	}
	if config.Progress == nil {
		config.Progress = io.Discard
	}
	if err := prerequisites(*config); err != nil {
		return parts{}, err
	}
	if err := watches(); err != nil {
		return parts{}, err
	}

	p, err = build(ctx, *config)
	if err != nil {
		return parts{}, err
	}
	for _, path := range []string{config.Dir, p.kubernetes, p.etcd} {
		for _, hidden := range own {
			if !config.Systemd && trust.Within(hidden, path) {
				return parts{}, fmt.Errorf("%s would be hidden by the node's own %s: set TMPDIR or ETCD_REWIND_E2E_CACHE", path, hidden)
			}
		}
	}

	if err := Sweep(ctx); err != nil {
		return parts{}, fmt.Errorf("sweep away what was left over: %w", err)
	}
	return p, nil
}

func prerequisites(config Config) error {
	if os.Geteuid() != 0 {
		return errors.New("a node needs root: namespaces, mounts, cgroups")
	}
	needed := []string{"bash", "busybox", "flock", "ip", "nsenter", "setsid", "unshare"}
	if config.Systemd || config.etcdHosts {
		needed = append(needed, "debootstrap", "systemd-nspawn")
	}
	if config.VM {
		needed = append(needed, "linux.uml", "mke2fs", "ssh", "ssh-keygen")
	}
	if !config.Systemd {
		needed = append(needed, "containerd", "ctr", "runc")
	}
	if config.founding != nil || config.joins != nil && config.joins.record.Cluster != "" {
		needed = append(needed, "ssh", "ssh-keygen", "/usr/sbin/sshd")
	}
	for _, name := range needed {
		if _, err := exec.LookPath(name); err != nil {
			return fmt.Errorf("%w: run e2e/install.sh", err)
		}
	}
	return nil
}

// watches raises what the kernel lets root have of inotify on the whole machine.
// Linux' 128 instances are five nodes' [measured]; then containerd comes up
// without its CRI and systemd with failed units ("too many open files").
func watches() error {
	const path, enough = "/proc/sys/fs/inotify/max_user_instances", 1024
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if have, err := strconv.Atoi(strings.TrimSpace(string(text))); err != nil || have >= enough {
		return err
	}
	return os.WriteFile(path, []byte(strconv.Itoa(enough)), 0o644)
}

func (n *Node) up(ctx context.Context, config Config, p parts) error {
	started := time.Now()
	say := func(what string) {
		fmt.Fprintf(config.Progress, "%5.1f s  %s: %s\n", time.Since(started).Seconds(), n.Name, what)
	}

	images, err := n.writeFiles(ctx, config, p)
	if err != nil {
		return err
	}
	if n.record.Form != "" && n.record.Form != Standalone {
		return n.upEtcd(ctx)
	}
	store, found, err := n.upHost(ctx, images, p)
	if err != nil {
		return err
	}
	say("the host is up")
	if n.record.Form == Standalone {
		return n.upStandalone(ctx, images, p, store, found)
	}

	// Making keys and unpacking images take about a second each.
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := make(chan error, 2)
	go func() { done <- n.startContainerd(ctx, images, p, store, found) }()
	go func() { done <- n.kubeadmInit(ctx, config.founding) }()
	for range cap(done) {
		if err := <-done; err != nil {
			cancel(err) // only the first counts
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	say("containerd runs, kubeadm has written certificates and manifests")

	if config.founding != nil {
		if err := n.startSSH(ctx); err != nil {
			return err
		}
	}
	if err := n.kubelet(ctx, "start"); err != nil {
		return err
	}
	say("kubelet runs")
	if err := n.ready(ctx); err != nil {
		return err
	}
	say("the API server is ready and knows the node")

	// The rest of what kubeadm init leaves in the cluster, but for its addons: its
	// ConfigMaps, the node's label and taint, the bootstrap tokens' RBAC. By the
	// way the first phase gives admin.conf its rights, which nodes without a
	// super-admin.conf have waited for until now.
	phases := []string{"upload-config all", "mark-control-plane"}
	if n.record.Joined {
		phases = phases[1:]
	} else if n.Systemd {
		phases = append(phases, "bootstrap-token")
	}
	if n.Systemd {
		phases = append(phases, "kubelet-finalize all")
	}
	for _, phase := range phases {
		if err := n.uploadPhase(ctx, phase); err != nil {
			return err
		}
	}
	say("up")
	return nil
}

// upHost makes the network and what the node's processes run in: a host that has
// booted, or namespaces. It fills containerd's directory from the store if it can.
func (n *Node) upHost(ctx context.Context, images []string, p parts) (store string, found bool, err error) {
	if err := n.createNetwork(ctx); err != nil {
		return "", false, err
	}
	if store, err = n.storePath(ctx, images, p); err != nil {
		return "", false, err
	}
	if found, err = useStore(store, n.HostPath("/var/lib/containerd")); err != nil {
		return "", false, err
	}
	if n.record.VM {
		return store, found, n.startVM(ctx)
	}
	if n.Systemd {
		return store, found, n.boot(ctx)
	}
	if err := createCgroup(n.systemCgroup()); err != nil {
		return "", false, err
	}
	_, err = run(exec.CommandContext(ctx, "nsenter", "--net="+n.netns(), "unshare", "--mount", "--uts",
		filepath.Join(n.Dir, "bin", "setup")))
	return store, found, err
}

// writeFiles makes all that lies in Dir, and returns the images that the node's
// manifests will ask for.
func (n *Node) writeFiles(ctx context.Context, config Config, p parts) ([]string, error) {
	if err := n.removeFiles(); err != nil {
		return nil, err
	}
	for _, sub := range []string{"bin", "fs/etc", "logs", "run"} {
		if err := os.MkdirAll(filepath.Join(n.Dir, sub), 0o755); err != nil {
			return nil, err
		}
	}
	if n.Systemd {
		return n.writeHost(ctx, config, p)
	}
	if err := os.Mkdir(filepath.Join(n.Dir, "cni"), 0o755); err != nil {
		return nil, err
	}
	for _, log := range []string{n.KubeletLog, n.ContainerdLog} {
		if err := os.WriteFile(log, nil, 0o644); err != nil {
			return nil, err
		}
	}
	for _, path := range own {
		if path == "/etc/hosts" || path == "/etc/shadow" {
			continue
		}
		// On the machine it is only ever a mount point.
		for _, dir := range []string{path, n.HostPath(path)} {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return nil, err
			}
		}
	}

	// The directories of programs go into PATH as they are, the busybox and the
	// runtime are the machine's.
	path := strings.Join([]string{p.kubernetes, p.etcd, "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, ":")
	procs, err := cgroupRoots()
	if err != nil {
		return nil, err
	}
	for i := range procs {
		procs[i] = filepath.Join(procs[i], n.systemCgroup(), "cgroup.procs")
	}
	env := []string{
		"NODE_NAME=" + n.Name,
		"NODE_HOSTNAME=" + n.Hostname,
		"NODE_PATH=" + path,
		"NODE_OWN=" + strings.Join(own, " "),
		"NODE_CGROUP=" + n.systemCgroup(),
		"NODE_CGROUP_PROCS=" + strings.Join(procs, " "),
		fmt.Sprintf("NODE_KUBELET_FLAGS=--v=%d", config.KubeletVerbosity),
	}
	kubeadm, images, err := n.kubeadmConfig(ctx, config, p)
	if err != nil {
		return nil, err
	}
	files := map[string]string{
		"node.env":        shellVariables(env),
		"kubeadm.yaml":    kubeadm,
		"containerd.toml": n.containerdConfig(images),
		"fs/etc/hosts":    "127.0.0.1 localhost\n" + n.Address + " " + n.Hostname + "\n",
		"fs/etc/shadow":   "root:*:::::::\n", // no password, but not locked
	}
	for name, text := range files {
		if err := writeText(filepath.Join(n.Dir, name), text); err != nil {
			return nil, err
		}
	}
	if config.founding != nil {
		if err := n.writeFounding(config.founding); err != nil {
			return nil, err
		}
	}
	if err := n.writeScripts("node"); err != nil {
		return nil, err
	}
	n.record.Path = path
	return images, n.record.write()
}

// writeScripts writes the scripts of a kind of node into its bin.
func (n *Node) writeScripts(kind string) error {
	entries, err := scripts.ReadDir(kind)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		text, err := scripts.ReadFile(kind + "/" + entry.Name())
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(n.Dir, "bin", entry.Name()), text, 0o755); err != nil {
			return err
		}
	}
	return nil
}

func writeText(path, text string) error { return os.WriteFile(path, []byte(text), 0o644) }

// shellVariables makes a file for a shell of lines NAME=VALUE.
func shellVariables(lines []string) string {
	var b strings.Builder
	for _, line := range lines {
		name, value, _ := strings.Cut(line, "=")
		fmt.Fprintf(&b, "%s='%s'\n", name, strings.ReplaceAll(value, "'", `'\''`))
	}
	return b.String()
}

// Down takes the node down and removes all of it but its logs: kubelet first,
// or it would start again what is killed; then the containers' processes,
// containerd, whatever else runs in the node's cgroup, the network, the
// cgroups, the files. Safe to call twice, and on a node that came up half.
func (n *Node) Down(ctx context.Context) error {
	var errs []error
	try := func(what string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("node %s: %s: %w", n.Name, what, err))
		}
	}
	if !n.Systemd { // or its PID 1 ends with all others
		try("stop kubelet", n.end(ctx, "kubelet"))
		try("end the containers", killAll(ctx, filepath.Join(n.CgroupRoot, "kubepods")))
		try("stop containerd", n.end(ctx, "containerd"))
	}
	try("end the rest", killAll(ctx, n.CgroupRoot))
	if len(errs) > 0 {
		// While something runs, the node's record must stay.
		return errors.Join(errs...)
	}
	// The mount namespace went with its last process, and all its mounts with it.
	try("remove the network", n.removeNetwork(ctx))
	try("remove the cgroups", removeCgroup(ctx, n.CgroupRoot))
	try("remove the files", n.removeFiles())
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	return n.record.remove()
}

// removeFiles removes what Up has written to Dir, except the logs.
func (n *Node) removeFiles() error {
	for _, name := range []string{"bin", "cni", "containerd.toml", "disk", "fs", "kubeadm.yaml", "lib", "node.env", "patches", "programs", "root", "run", "ssh", "work"} {
		if err := os.RemoveAll(filepath.Join(n.Dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// HostPath translates a path inside the node to the machine's. Only paths of
// the node's own are changed; the machine's other files are the same in both. All
// of a systemd host's are its own, and the translation is good until it reboots.
func (n *Node) HostPath(path string) string {
	if n.Systemd {
		return n.hostPath(path)
	}
	for _, o := range own {
		if trust.Within(o, path) {
			return filepath.Join(n.Dir, "fs", path)
		}
	}
	return path
}

// Sees says whether what is at a path of the machine's is the same inside the node,
// whether or not it is there yet.
func (n *Node) Sees(path string) bool {
	if n.Systemd {
		return slices.ContainsFunc(n.record.Shared, func(dir string) bool { return trust.Within(dir, path) })
	}
	return n.HostPath(path) == path
}

// Command returns a command that runs inside the node, in the directory it is
// started in, on a systemd host in /root. kubectl, etcdctl, etcdutl, kubeadm and ctr are in its PATH.
// Whatever it leaves running ends with the node.
func (n *Node) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(n.Dir, "bin", "enter"), append([]string{name}, args...)...)
	cmd.Env = n.environ()
	cmd.WaitDelay = 5 * time.Second
	cmd.Cancel = func() error {
		if pid, _, err := n.Program(cmd.Process); err == nil && pid != cmd.Process.Pid {
			_ = syscall.Kill(pid, syscall.SIGKILL) // or it would keep the output open
		}
		return cmd.Process.Kill()
	}
	return cmd
}

// Program is the process of the program that a command of Command's runs, and its
// id as the node sees it. On a systemd host, which has process ids of its own, the
// process that was started waits outside for the one inside. A signal is for that
// one; a process group has both.
//
// It fails while the program isn't there yet, and in a virtual machine.
func (n *Node) Program(started *os.Process) (pid int, inside string, err error) {
	pid = started.Pid
	if n.Systemd {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", pid))
		if err != nil {
			return 0, "", err
		}
		first, _, _ := strings.Cut(string(text), " ")
		if pid, err = strconv.Atoi(first); err != nil {
			return 0, "", fmt.Errorf("process %d has entered no host yet", started.Pid)
		}
	}
	ids, err := idsOf(pid)
	if err != nil {
		return 0, "", err
	}
	if n.Systemd && len(ids) < 2 {
		return 0, "", fmt.Errorf("process %d isn't in a host", pid)
	}
	return pid, ids[len(ids)-1], nil
}

// idsOf are a process's ids, from the namespace of this machine to its own.
func idsOf(pid int) ([]string, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(status)) {
		if ids, ok := strings.CutPrefix(line, "NSpid:"); ok && ids != "" {
			return strings.Fields(ids), nil
		}
	}
	return nil, fmt.Errorf("process %d has no ids", pid)
}

// environ is this process's environment without what points elsewhere: the
// developer's own cluster, a proxy that cannot be reached from the node, or a
// directory that it may not have.
func (n *Node) environ() []string {
	env := []string{"PATH=" + n.record.Path}
	for _, line := range os.Environ() {
		name, _, _ := strings.Cut(line, "=")
		upper := strings.ToUpper(name)
		if upper == "PATH" || upper == "TMPDIR" || upper == "KUBECONFIG" || strings.HasSuffix(upper, "_PROXY") ||
			strings.HasPrefix(upper, "ETCDCTL_") || strings.HasPrefix(upper, "CONTAINERD_") {
			continue
		}
		env = append(env, line)
	}
	return env
}

// Kubectl runs kubectl inside the node with the node's Kubeconfig and returns its
// standard output. The error has its standard error.
func (n *Node) Kubectl(ctx context.Context, args ...string) (string, error) {
	return run(n.Command(ctx, "kubectl", append([]string{"--kubeconfig=" + n.Kubeconfig}, args...)...))
}

// Etcdctl runs etcdctl inside the node, against the node's own etcd and with the
// certificate kubeadm makes for health checks, and returns its standard output. On
// a control plane without etcd it asks all members, as the API server does.
func (n *Node) Etcdctl(ctx context.Context, args ...string) (string, error) {
	endpoint, err := n.etcdEndpoint()
	if err != nil {
		return "", err
	}
	if slices.Contains(args, "save") { // only one can be asked for a snapshot
		endpoint, _, _ = strings.Cut(endpoint, ",")
	}
	c := n.etcdCertificates()
	return run(n.Command(ctx, "etcdctl", append([]string{
		"--endpoints=" + endpoint, "--cacert=" + c.ca, "--cert=" + c.adminCert, "--key=" + c.adminKey,
	}, args...)...))
}

// Save takes a snapshot of etcd into a file at path, seen from inside the node.
func (n *Node) Save(ctx context.Context, path string) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	_, err = n.Etcdctl(ctx, "snapshot", "save", path)
	return err
}

// StartKubelet starts kubelet, unless it runs, and waits until its /healthz answers.
func (n *Node) StartKubelet(ctx context.Context) error {
	return n.explain(n.kubelet(ctx, "start"))
}

// StopKubelet ends kubelet, if it runs, and waits until it has ended. Containers run on.
func (n *Node) StopKubelet(ctx context.Context) error {
	return n.service(ctx, "kubelet", "stop")
}

// RestartKubelet runs KubeletRestartCommand and waits until the new kubelet's
// /healthz answers.
func (n *Node) RestartKubelet(ctx context.Context) error {
	return n.explain(n.kubelet(ctx, "restart"))
}

// KubeletPID is the id of kubelet's process, as the node sees it. It fails when
// there is none.
func (n *Node) KubeletPID(ctx context.Context) (string, error) {
	pid := strconv.Itoa(n.pid("kubelet"))
	if n.Systemd {
		out, err := run(n.Command(ctx, "systemctl", "show", "--property=MainPID", "--value", "kubelet"))
		if err != nil {
			return "", err
		}
		pid = strings.TrimSpace(out)
	}
	if pid == "0" {
		return "", fmt.Errorf("node %s: kubelet doesn't run", n.Name)
	}
	return pid, nil
}

// KubeletLogEnd is where kubelet's log ends now, for KubeletLogFrom.
func (n *Node) KubeletLogEnd(ctx context.Context) (string, error) {
	if !n.Systemd {
		info, err := os.Stat(n.KubeletLog)
		if err != nil {
			return "", err
		}
		return strconv.FormatInt(info.Size(), 10), nil
	}
	out, err := run(n.Command(ctx, "journalctl", "--no-pager", "--lines=1", "--show-cursor"))
	if err != nil {
		return "", err
	}
	_, cursor, ok := strings.Cut(out, "-- cursor: ")
	if !ok {
		return "", fmt.Errorf("node %s: the journal has no cursor: %q", n.Name, out)
	}
	return strings.TrimSpace(cursor), nil
}

// KubeletLogFrom is what kubelet has logged after an end.
func (n *Node) KubeletLogFrom(ctx context.Context, end string) (string, error) {
	if n.Systemd {
		return run(n.Command(ctx, "journalctl", "--no-pager", "--output=cat", "--unit=kubelet", "--after-cursor="+end))
	}
	at, err := strconv.Atoi(end)
	if err != nil {
		return "", err
	}
	text, err := os.ReadFile(n.KubeletLog)
	if err != nil {
		return "", err
	}
	return string(text[min(at, len(text)):]), nil
}

func (n *Node) kubelet(ctx context.Context, action string) error {
	if err := n.service(ctx, "kubelet", action); err != nil {
		return err
	}
	if n.record.VM {
		return nil // only the machine itself could ask
	}
	client := n.insecureClient()
	defer client.CloseIdleConnections()
	return poll(ctx, "kubelet's /healthz", patience, 100*time.Millisecond, func(ctx context.Context) error {
		if !n.runs(ctx, "kubelet") {
			return final{errors.New("kubelet has ended")}
		}
		return get(ctx, client, "http://127.0.0.1:10248/healthz")
	})
}

func (n *Node) service(ctx context.Context, service, action string) error {
	cmd := exec.CommandContext(ctx, filepath.Join(n.Dir, "bin", "service"), service, action)
	cmd.Env = n.environ()
	_, err := run(cmd)
	return err
}

// runs says whether kubelet, containerd or sshd runs.
func (n *Node) runs(ctx context.Context, service string) bool {
	if n.Systemd {
		return n.Command(ctx, "systemctl", "--quiet", "is-active", service).Run() == nil
	}
	return n.pid(service) != 0
}

// Ready waits until the API server's /readyz says yes and the API knows the
// node. The node itself stays NotReady for want of a
// network plugin.
func (n *Node) Ready(ctx context.Context) error {
	return n.explain(n.ready(ctx))
}

func (n *Node) ready(ctx context.Context) error {
	client := n.insecureClient()
	defer client.CloseIdleConnections()
	err := poll(ctx, "the API server's /readyz", n.Stretched(patience), 100*time.Millisecond, func(ctx context.Context) error {
		return get(ctx, client, "https://"+net.JoinHostPort(n.Address, n.apiPort())+"/readyz")
	})
	if err != nil {
		return err
	}
	return poll(ctx, "the API to know node "+n.Hostname, n.Stretched(patience), 200*time.Millisecond, func(ctx context.Context) error {
		_, err := n.Kubectl(ctx, "get", "node", n.Hostname)
		return err
	})
}

// explain adds to an error the last lines of the logs that may tell its cause.
func (n *Node) explain(err error) error {
	if err == nil {
		return nil
	}
	var b strings.Builder
	var logs []string
	if !n.Systemd {
		logs = append(logs, n.ContainerdLog, n.KubeletLog)
	}
	for _, name := range []string{"etcd", "kube-apiserver"} {
		// By pod and restart, so the last one is the newest of the only pod.
		found, _ := filepath.Glob(n.HostPath("/var/log/pods/kube-system_" + name + "-*/*/*.log"))
		if len(found) > 0 {
			logs = append(logs, found[len(found)-1])
		}
	}
	for _, unit := range n.units() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		text, _ := n.Journal(ctx, unit, 8)
		cancel()
		fmt.Fprintf(&b, "\n--- journal of %s\n%s", unit, text)
	}
	for _, log := range logs {
		if text := tail(log, 8); text != "" {
			fmt.Fprintf(&b, "\n--- %s\n%s", log, text)
		}
	}
	return fmt.Errorf("node %s: %w%s", n.Name, err, b.String())
}

// run runs a command and returns its standard output; its error names the
// command and has its standard error.
func run(cmd *exec.Cmd) (string, error) {
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	if err != nil {
		args := append([]string{filepath.Base(cmd.Path)}, cmd.Args[1:]...)
		err = fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, strings.TrimSpace(errOut.String()))
	}
	return out.String(), err
}
