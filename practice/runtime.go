package practice

import (
	"bufio"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"

	"etcd-rewind/trust"
)

// runtimeService is the container runtime: sandboxes, and containers that are
// processes of this binary. It knows nothing of manifests; kubelet and whoever
// speaks CRI control it.
type runtimeService struct {
	root Root     // of the node
	dir  string   // a container's own files, which go with it
	logs string   // /var/log/pods
	env  []string // of every container
	port func(named int) int

	mu         sync.Mutex
	sandboxes  map[string]*sandbox
	containers map[string]*container
	closed     bool
	running    sync.WaitGroup
}

type sandbox struct {
	id, uid, namespace, name string
	attempt                  uint32
	created                  time.Time
	ready                    bool
	annotations              map[string]string // of the pod
}

type containerState int

const (
	created containerState = iota
	running
	exited
)

type mount struct {
	container string
	named     string // the place on the node, as the manifest has it
	host      string // and on this machine
	readOnly  bool
}

type container struct {
	id      string
	sandbox *sandbox
	name    string
	image   string
	hash    string
	attempt uint32
	args    []string // as in the manifest
	mounts  []mount
	rootfs  string
	logPath string

	state                      containerState
	created, started, finished time.Time
	exitCode                   int
	reason, message            string
	pid                        int
	stdin                      io.Closer
	ended                      chan struct{} // closed when it has exited
}

func newRuntime(root Root, env []string, port func(named int) int) *runtimeService {
	return &runtimeService{root: root, port: port, dir: root.Path("run/containers"), logs: root.Path("var/log/pods"), env: env, sandboxes: map[string]*sandbox{}, containers: map[string]*container{}}
}

func newID() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b)
	return hex.EncodeToString(b)
}

var errNotFound = errors.New("not found")

// runSandbox makes a sandbox for a pod.
func (r *runtimeService) runSandbox(uid, namespace, name string, annotations map[string]string) (*sandbox, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, errors.New("the runtime is shutting down")
	}
	s := &sandbox{id: newID(), uid: uid, namespace: namespace, name: name, created: time.Now(), ready: true, annotations: annotations}
	for _, o := range r.sandboxes {
		if o.uid == uid && o.attempt >= s.attempt {
			s.attempt = o.attempt + 1
		}
	}
	r.sandboxes[s.id] = s
	return s, nil
}

// startContainer starts a container of a pod. One that can't be started exists
// all the same, and has exited.
func (r *runtimeService) startContainer(s *sandbox, pod *corev1.Pod, spec *corev1.Container) (*container, error) {
	mounts, mountErr := makeMounts(r.root, pod, spec)
	r.mu.Lock()
	if r.closed || !s.ready {
		r.mu.Unlock()
		return nil, errors.New("the sandbox is not ready")
	}
	c := &container{
		id: newID(), sandbox: s, mounts: mounts, name: spec.Name, image: spec.Image, hash: hashOf(spec),
		args: slices.Concat(spec.Command, spec.Args), created: time.Now(), ended: make(chan struct{}),
	}
	for _, o := range r.containers {
		if o.sandbox.uid == s.uid && o.name == c.name && o.attempt >= c.attempt {
			c.attempt = o.attempt + 1
		}
	}
	c.rootfs = filepath.Join(r.dir, c.id[:12], "rootfs")
	c.logPath = filepath.Join(r.logs, s.namespace+"_"+s.name+"_"+s.uid, c.name, fmt.Sprintf("%d.log", c.attempt))
	r.containers[c.id] = c
	r.mu.Unlock()

	err := mountErr
	if err == nil {
		err = r.start(c, spec)
	}
	if err != nil {
		r.mu.Lock()
		c.state, c.exitCode, c.reason, c.message, c.finished = exited, 128, "StartError", err.Error(), time.Now()
		close(c.ended)
		r.mu.Unlock()
	}
	return c, err
}

func (r *runtimeService) start(c *container, spec *corev1.Container) error {
	if len(c.args) == 0 {
		return errors.New("no command in the manifest; the practice runtime has no image's default")
	}
	role := filepath.Base(c.args[0])
	if programs[role] == nil {
		return fmt.Errorf("exec: %q: executable file not found in $PATH", c.args[0])
	}
	if err := os.MkdirAll(c.rootfs, 0o700); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(c.logPath), 0o755); err != nil {
		return err
	}
	log, err := os.OpenFile(c.logPath, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o640)
	if err != nil {
		return err
	}
	cmd, err := trust.Self(context.Background(), c.hostArgs(r.port)...)
	if err != nil {
		return errors.Join(err, log.Close())
	}
	cmd.Args[0] = c.args[0]
	cmd.Dir = c.rootfs
	cmd.Env = append(slices.Clone(r.env), roleEnv+"="+role)
	for _, e := range spec.Env {
		if e.ValueFrom == nil {
			cmd.Env = append(cmd.Env, e.Name+"="+e.Value)
		}
	}
	cmd.SysProcAttr = childAttr()
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return errors.Join(err, log.Close())
	}
	out := &logWriter{file: log}
	stdout, errOut := out.stream("stdout"), out.stream("stderr")
	cmd.Stdout, cmd.Stderr = stdout, errOut
	cmd.WaitDelay = time.Second

	began := make(chan error, 1)
	r.running.Add(1)
	go func() {
		defer r.running.Done()
		// The kernel ties the child's life to this thread, not the process.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		r.mu.Lock()
		err := errors.New("the sandbox was stopped")
		if c.sandbox.ready && !r.closed {
			err = cmd.Start()
		}
		if err == nil {
			c.state, c.started, c.pid, c.stdin = running, time.Now(), cmd.Process.Pid, stdin
		}
		r.mu.Unlock()
		began <- err
		if err != nil {
			_ = log.Close()
			return
		}
		_ = cmd.Wait()
		stdout.flush()
		errOut.flush()
		_ = log.Close()
		r.mu.Lock()
		defer r.mu.Unlock()
		c.state, c.finished, c.pid = exited, time.Now(), 0
		c.exitCode, c.reason = exitOf(cmd.ProcessState)
		close(c.ended)
	}()
	return <-began
}

// exitOf is what a runtime reports: 128 and the signal for one that was killed.
func exitOf(s *os.ProcessState) (int, string) {
	code := s.ExitCode()
	if ws, ok := s.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		code = 128 + int(ws.Signal())
	}
	if code == 0 {
		return 0, "Completed"
	}
	return code, "Error"
}

// hostArgs are the arguments with the paths and ports of the container replaced
// by what they are on this machine: nothing here needs root. What etcd tells
// others of its addresses stays as it is named.
func (c *container) hostArgs(port func(named int) int) []string {
	out := make([]string, 0, len(c.args)-1)
	for _, a := range c.args[1:] {
		flag, value, eq := strings.Cut(a, "=")
		name := strings.TrimLeft(flag, "-")
		switch {
		case strings.HasPrefix(a, "/"):
			a = c.hostPath(a)
		case !eq || name == flag:
		case strings.HasPrefix(value, "/"):
			a = flag + "=" + c.hostPath(value)
		case strings.HasPrefix(name, "listen-"), name == "etcd-servers", name == "secure-port":
			a = flag + "=" + portNumber.ReplaceAllStringFunc(value, func(digits string) string {
				named, err := strconv.Atoi(digits)
				if err != nil {
					return digits
				}
				return strconv.Itoa(port(named))
			})
		}
		out = append(out, a)
	}
	return out
}

// portNumber finds ports in URLs and alone; no part of an address has so many
// digits.
var portNumber = regexp.MustCompile(`\b[0-9]{4,5}\b`)

// hostPath is where a path in the container lies on this machine: below the
// longest mount, else among the files of the container itself, which nothing
// keeps.
func (c *container) hostPath(p string) string {
	p = filepath.Clean(p)
	best := mount{container: "/", host: c.rootfs}
	for _, m := range c.mounts {
		if trust.Within(m.container, p) && len(m.container) > len(best.container) {
			best = m
		}
	}
	return filepath.Join(best.host, strings.TrimPrefix(p, best.container))
}

// makeMounts resolves the volumes of a container and makes what their types
// ask for (pkg/volume/hostpath/host_path.go).
func makeMounts(root Root, pod *corev1.Pod, spec *corev1.Container) ([]mount, error) {
	var out []mount
	for _, m := range spec.VolumeMounts {
		i := slices.IndexFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == m.Name })
		if i < 0 {
			return nil, fmt.Errorf("volume %q is not defined", m.Name)
		}
		h := pod.Spec.Volumes[i].HostPath.DeepCopy() // nil stays nil
		if h == nil {
			return nil, fmt.Errorf("volume %q: the practice kubelet supports only hostPath", m.Name)
		}
		named := filepath.Join(h.Path, m.SubPath)
		h.Path = root.locate(h.Path)
		if err := makeHostPath(h); err != nil {
			return nil, err
		}
		host := h.Path
		if m.SubPath != "" {
			host = filepath.Join(host, m.SubPath)
			if err := os.MkdirAll(host, 0o755); err != nil {
				return nil, err
			}
		}
		out = append(out, mount{container: filepath.Clean("/" + m.MountPath), named: named, host: host, readOnly: m.ReadOnly})
	}
	return out, nil
}

func makeHostPath(h *corev1.HostPathVolumeSource) error {
	kind := corev1.HostPathUnset
	if h.Type != nil {
		kind = *h.Type
	}
	info, err := os.Stat(h.Path)
	switch kind {
	case corev1.HostPathDirectoryOrCreate:
		return os.MkdirAll(h.Path, 0o755)
	case corev1.HostPathFileOrCreate:
		if errors.Is(err, os.ErrNotExist) {
			return os.WriteFile(h.Path, nil, 0o644)
		}
	case corev1.HostPathDirectory:
		if err != nil || !info.IsDir() {
			return fmt.Errorf("hostPath type check failed: %s is not a directory", h.Path)
		}
	case corev1.HostPathFile:
		if err != nil || !info.Mode().IsRegular() {
			return fmt.Errorf("hostPath type check failed: %s is not a file", h.Path)
		}
	case corev1.HostPathUnset:
		if errors.Is(err, os.ErrNotExist) {
			return os.MkdirAll(h.Path, 0o755) // the runtime makes it when it mounts
		}
	}
	return nil
}

// stopContainer sends SIGTERM, and SIGKILL after grace. It returns when the
// container has ended.
func (r *runtimeService) stopContainer(c *container, grace time.Duration) {
	if grace > 0 && r.signal(c, syscall.SIGTERM) {
		t := time.NewTimer(grace)
		defer t.Stop()
		select {
		case <-c.ended:
			return
		case <-t.C:
		}
	}
	if r.signal(c, syscall.SIGKILL) {
		<-c.ended
	}
}

func (r *runtimeService) signal(c *container, sig syscall.Signal) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c.state != running {
		return false
	}
	return syscall.Kill(c.pid, sig) == nil
}

// stopSandbox ends a sandbox and all in it at once. Safe to call twice.
func (r *runtimeService) stopSandbox(id string) error {
	r.mu.Lock()
	s := r.sandboxes[id]
	if s == nil {
		r.mu.Unlock()
		return errNotFound
	}
	s.ready = false
	inside := r.inside(s)
	r.mu.Unlock()
	for _, c := range inside {
		r.stopContainer(c, 0)
	}
	return nil
}

// removeSandbox removes a sandbox and its containers; logs stay.
func (r *runtimeService) removeSandbox(id string) error {
	if err := r.stopSandbox(id); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.sandboxes[id]; s != nil {
		for _, c := range r.inside(s) {
			r.drop(c)
		}
		delete(r.sandboxes, id)
	}
	return nil
}

func (r *runtimeService) drop(c *container) {
	delete(r.containers, c.id)
	_ = os.RemoveAll(filepath.Dir(c.rootfs))
}

// inside needs the lock.
func (r *runtimeService) inside(s *sandbox) []*container {
	var out []*container
	for _, c := range r.containers {
		if c.sandbox == s {
			out = append(out, c)
		}
	}
	return out
}

// podView is what kubelet sees of a pod when it lists.
type podView struct {
	ready      *sandbox     // newest that is ready
	containers []*container // all of the pod's, newest first
	states     map[string]containerState
	sandboxes  int
}

func (r *runtimeService) view(uid string) podView {
	r.mu.Lock()
	defer r.mu.Unlock()
	v := podView{states: map[string]containerState{}}
	for _, s := range r.sandboxes {
		if s.uid != uid {
			continue
		}
		v.sandboxes++
		if s.ready && (v.ready == nil || s.attempt > v.ready.attempt) {
			v.ready = s
		}
	}
	for _, c := range r.containers {
		if c.sandbox.uid == uid {
			v.containers = append(v.containers, c)
			v.states[c.id] = c.state
		}
	}
	slices.SortFunc(v.containers, func(a, b *container) int { return cmp.Compare(b.attempt, a.attempt) })
	return v
}

// alive says whether anything of the pod may still run.
func (v podView) alive() bool {
	if v.ready != nil {
		return true
	}
	for _, s := range v.states {
		if s != exited {
			return true
		}
	}
	return false
}

// uids are the pods that have a sandbox or a container.
func (r *runtimeService) uids() map[string]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := map[string]string{}
	for _, s := range r.sandboxes {
		out[s.uid] = s.namespace + "/" + s.name
	}
	return out
}

// endState is a container's end, for back-off.
func (r *runtimeService) endState(c *container) (state containerState, finished time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return c.state, c.finished
}

// runs says whether a container of that name does.
func (r *runtimeService) runs(name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.containers {
		if c.name == name && c.state == running {
			return true
		}
	}
	return false
}

// close kills everything and waits for it.
func (r *runtimeService) close() {
	r.mu.Lock()
	r.closed = true
	for _, c := range r.containers {
		if c.state == running {
			_ = syscall.Kill(c.pid, syscall.SIGKILL)
		}
	}
	for _, s := range r.sandboxes {
		s.ready = false
	}
	r.mu.Unlock()
	r.running.Wait()
}

// logWriter writes in CRI's format, as kubelet's users know it from
// /var/log/pods.
type logWriter struct {
	mu   sync.Mutex
	file *os.File
}

type logStream struct {
	w    *logWriter
	name string
	rest []byte
}

func (w *logWriter) stream(name string) *logStream { return &logStream{w: w, name: name} }

// maxLogLine is where containerd splits a line in two.
const maxLogLine = 16 << 10

func (s *logStream) Write(p []byte) (int, error) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	s.rest = append(s.rest, p...)
	for {
		n, line, err := bufio.ScanLines(s.rest, false)
		if n == 0 || err != nil {
			break
		}
		s.line(line, "F")
		s.rest = s.rest[n:]
	}
	for len(s.rest) > maxLogLine {
		s.line(s.rest[:maxLogLine], "P")
		s.rest = s.rest[maxLogLine:]
	}
	return len(p), nil
}

func (s *logStream) line(line []byte, tag string) {
	for len(line) > maxLogLine {
		s.line(line[:maxLogLine], "P")
		line = line[maxLogLine:]
	}
	_, _ = fmt.Fprintf(s.w.file, "%s %s %s %s\n", time.Now().UTC().Format(time.RFC3339Nano), s.name, tag, line)
}

func (s *logStream) flush() {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	if len(s.rest) > 0 {
		s.line(s.rest, "F")
		s.rest = nil
	}
}

// stopSandboxes ends all sandboxes of a pod.
func (r *runtimeService) stopSandboxes(uid string) {
	r.mu.Lock()
	var ids []string
	for _, s := range r.sandboxes {
		if s.uid == uid && s.ready {
			ids = append(ids, s.id)
		}
	}
	r.mu.Unlock()
	for _, id := range ids {
		_ = r.stopSandbox(id)
	}
}

// removePod removes all sandboxes of a pod; its logs stay.
func (r *runtimeService) removePod(uid string) {
	r.mu.Lock()
	var ids []string
	for _, s := range r.sandboxes {
		if s.uid == uid {
			ids = append(ids, s.id)
		}
	}
	r.mu.Unlock()
	for _, id := range ids {
		_ = r.removeSandbox(id)
	}
}

// forgetOld removes ended containers of a pod but the newest ones, and the
// sandboxes that held nothing else, as kubelet's garbage collection does.
func (r *runtimeService) forgetOld(uid, name string, keep int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var ended []*container
	for _, c := range r.containers {
		if c.sandbox.uid == uid && c.name == name && c.state == exited {
			ended = append(ended, c)
		}
	}
	slices.SortFunc(ended, func(a, b *container) int { return cmp.Compare(b.attempt, a.attempt) })
	for i, c := range ended {
		if i < keep {
			continue
		}
		r.drop(c)
		if !c.sandbox.ready && len(r.inside(c.sandbox)) == 0 {
			delete(r.sandboxes, c.sandbox.id)
		}
	}
}
