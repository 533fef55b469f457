package steps

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	bolt "go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"

	"etcd-rewind/manifest"
	"etcd-rewind/node"
	"etcd-rewind/snapshot"
)

// fakeNode is a control plane in memory: a kubelet that reads a real directory
// of manifests by the rules in kubelet's source, containers, an etcd that
// serves what lies in its hostPath, and an API server that needs it.
type fakeNode struct {
	t      *testing.T
	root   string   // stands for /
	name   string   // in the API, and in its pods' names
	leases []string // of other API servers that answer

	mu         sync.Mutex
	pods       map[string]*fakePod // by pod name; the one kubelet works on
	boxes      []node.Sandbox
	next       int
	gentle     time.Duration // the runtime lets containers end by themselves for so long
	ignoring   bool          // kubelet ignores that manifests are gone
	restarts   int
	shellErr   error           // of the command that restarts kubelet
	unwell     error           // what its healthz says
	grace      time.Duration   // of the API server
	broken     map[string]bool // pods whose containers end at once
	log        []string
	refuse     string               // kubelet refuses the next new pod of this name until its UID changes
	refused    string               // the UID it refused
	tooEarly   map[string]time.Time // when UIDs were put in before kubelet had finished with the old pod
	retries    time.Duration        // after which kubelet tries those again, and starts one that was killed; 0: never, and at once
	killed     map[string]time.Time // UIDs whose containers were ended over CRI
	relists    time.Duration        // between two lists of its containers
	lateness   time.Duration        // of kubelet, to begin with ending a pod
	slowness   time.Duration        // from where kubelet has begun with a pod to its sandbox
	another    bool                 // kubelet isn't the one that was found
	blind      bool                 // what kubelet begins with can't be seen
	once       bool                 // kubelet starts no UID twice until it is restarted (1.22)
	had        map[string]bool
	unseen     bool                        // a restarted kubelet ignores removals until it has seen the API
	paused     bool                        // kubelet reads no manifests
	away       time.Time                   // until then the container runtime doesn't answer
	others     map[string]node.RemoteState // by ReadyURL
	leads      bool                        // its etcd is the leader
	readyAsked int                         // how often etcd was asked whether it is ready
	leaderless bool                        // on restored data
	refusing   error                       // what etcd answers on restored data
	denying    error                       // the same, with authentication enabled
	sidecar    bool                        // pods have a container before their own, which always runs
	peerless   bool                        // its peer port is closed
	begun      time.Time                   // kubelet lists its containers every 20 ms since
	listless   bool                        // but counts none of the lists
	told       int                         // how often it has listed, as reported first
	listed     time.Time                   // when another number was reported
	metrics    error                       // its metrics can't be read
	systemd    *fakeSystemd                // runs etcd in kubelet's place; nil where kubelet does
	elsewhere  bool                        // etcd runs on other nodes
	apiless    bool                        // the API server does
	held       bool                        // kubelet ends no pod while the API server runs, which answers nothing
	found      *node.Kubelet               // what is read of its kubelet; nil: the same of each
	more       []node.Object               // namespaces that were made since the restore
	stop       chan struct{}
	done       sync.WaitGroup

	fakeKubeadm
	fakeStart
	nodes []node.Object // besides cp1, in the restored cluster

	// Only for its kubelet: what it has decoded, by path, and the UIDs.
	decoded map[string]*manifest.File
	uids    map[*corev1.Pod]string
}

type fakePod struct {
	name, file, uid string
	container       string // its first
	box             int    // index in boxes
	hostPath        string
	state           string // begun, running, ending, ended
	since           time.Time
	annotations     map[string]string
	gone            time.Time // when its manifest was missed
}

// fakePace has limits that no busy test machine meets, and a quick kubelet. A
// test that waits for a limit runs in fake time.
var fakePace = pace{
	sources: 60 * time.Second, stopping: 10 * time.Second, noticed: 100 * time.Millisecond, gone: 30 * time.Second, end: 15 * time.Second,
	forgotten: 30 * time.Second, settle: 60 * time.Millisecond, finish: 2 * time.Millisecond, refused: 100 * time.Millisecond, unseen: 300 * time.Millisecond,
	started: 30 * time.Second, etcd: 30 * time.Second, api: 30 * time.Second,
	kubelet: 10 * time.Second, save: 100 * time.Millisecond, runtime: 10 * time.Second, verify: 30 * time.Second, nodes: 30 * time.Second, handover: 3 * time.Second,
	relist: 10 * time.Second, begin: 5 * time.Millisecond,
	readyz: 10 * time.Millisecond, lookCRI: time.Millisecond, lookAPI: time.Millisecond, lookUnit: time.Millisecond, metrics: time.Millisecond,
	lookConfig: time.Millisecond, evidence: 50 * time.Millisecond, still: 200 * time.Millisecond, most: 3 * time.Second,
}

const forget = 30 * time.Millisecond // kubelet forgets a pod that long after its end

// inFakeTime makes a test of a fake node that doesn't wait: it runs beside the
// others, and in time that passes only while all of its goroutines wait, so no
// limit is met because the machine is busy.
func inFakeTime(test func(*testing.T)) func(*testing.T) {
	return func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, test)
	}
}

// newFakeNode is a node, cp1, that runs all but the components without.
func newFakeNode(t *testing.T, without ...string) *fakeNode {
	t.Helper()
	return newFakeNodeNamed(t, "cp1", without...)
}

func newFakeNodeNamed(t *testing.T, name string, without ...string) *fakeNode {
	t.Helper()
	n := &fakeNode{t: t, root: t.TempDir(), name: name, pods: map[string]*fakePod{}, broken: map[string]bool{}, tooEarly: map[string]time.Time{}, killed: map[string]time.Time{}, relists: 20 * time.Millisecond, had: map[string]bool{}, decoded: map[string]*manifest.File{}, uids: map[*corev1.Pod]string{}, begun: time.Now(), stop: make(chan struct{}), grace: 4 * time.Second}
	for _, dir := range []string{"manifests", "lib/etcd/member/snap", "lib/etcd/member/wal", "pki"} {
		if err := os.MkdirAll(filepath.Join(n.root, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"} {
		data, err := os.ReadFile(filepath.Join("testdata", "manifests", name+".yaml"))
		if err != nil {
			t.Fatal(err)
		}
		if name == "etcd" {
			if data, err = manifest.SetHostPath(data, "etcd-data", filepath.Join(n.root, "lib/etcd")); err != nil {
				t.Fatal(err)
			}
		}
		if slices.Contains(without, name) || name == "etcd" && systemdKind(without) != "" || systemdKind(without) == allInSystemd {
			continue
		}
		n.write("manifests/"+name+".yaml", data)
	}
	n.elsewhere = slices.Contains(without, "etcd")
	n.writeData(filepath.Join(n.root, "lib/etcd"), snapshot.Restored{ClusterID: 0xaaaa, Revision: 900, Keys: 50, Members: []snapshot.Member{{ID: 1, Name: n.name}}})
	if kind := systemdKind(without); kind != "" {
		n.systemd = newFakeSystemd(n, kind)
	}
	n.done.Go(n.kubelet)
	t.Cleanup(func() { close(n.stop); n.done.Wait() })
	n.apiless = slices.Contains(without, "kube-apiserver")
	n.until("the control plane runs", func() bool { return n.works(0xaaaa) == nil })
	return n
}

// pod is the name of a static pod.
func (n *fakeNode) pod(component string) string { return component + "-" + n.name }

// works says what is wrong with what the node runs: etcd with the data of a
// cluster, the API server.
func (n *fakeNode) works(cluster uint64) error {
	if !n.elsewhere {
		if s, err := n.Etcd(context.Background(), true); err != nil || s.ClusterID != cluster {
			return fmt.Errorf("etcd: %+v %w", s, err)
		}
	}
	if !n.apiless && !n.apiReady() {
		return errors.New("the API isn't ready")
	}
	return nil
}

func (n *fakeNode) write(name string, data []byte) {
	if err := os.WriteFile(filepath.Join(n.root, name), data, 0o600); err != nil {
		n.t.Fatal(err)
	}
}

func (n *fakeNode) writeData(dir string, data snapshot.Restored) {
	raw, err := json.Marshal(data)
	if err != nil {
		n.t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		n.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "data.json"), raw, 0o600); err != nil {
		n.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "kubeadm-config"), []byte(kubeadmText(filepath.Join(n.root, "lib/etcd"))), 0o600); err != nil {
		n.t.Fatal(err)
	}
	putEtcdFiles(n.t, dir, data.ClusterID, data.MemberID)
}

// putEtcdFiles makes a database and a WAL that name a cluster, as etcd makes
// them: whose data a directory holds is read from these.
func putEtcdFiles(t *testing.T, dir string, clusterID, memberID uint64) {
	t.Helper()
	files := etcdFiles(t, clusterID, memberID)
	for name, data := range map[string][]byte{"snap/db": files[0], "wal/0000000000000000-0000000000000000.wal": files[1]} {
		path := filepath.Join(dir, "member", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

var (
	etcdFilesMu   sync.Mutex
	etcdFilesMade = map[[2]uint64][2][]byte{}
)

func etcdFiles(t *testing.T, clusterID, memberID uint64) [2][]byte {
	t.Helper()
	etcdFilesMu.Lock()
	defer etcdFilesMu.Unlock()
	key := [2]uint64{clusterID, memberID}
	if made, ok := etcdFilesMade[key]; ok {
		return made
	}
	dir := t.TempDir()
	md, err := proto.Marshal(&etcdserverpb.Metadata{ClusterID: &clusterID, NodeID: &memberID})
	if err != nil {
		t.Fatal(err)
	}
	wal.SegmentSizeBytes = 4096
	w, err := wal.Create(zap.NewNop(), filepath.Join(dir, "wal"), md)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	names, err := filepath.Glob(filepath.Join(dir, "wal", "*.wal"))
	if err != nil || len(names) != 1 {
		t.Fatal(names, err)
	}
	log, err := os.ReadFile(names[0])
	if err != nil {
		t.Fatal(err)
	}
	db, err := bolt.Open(filepath.Join(dir, "db"), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	database, err := os.ReadFile(filepath.Join(dir, "db"))
	if err != nil {
		t.Fatal(err)
	}
	etcdFilesMade[key] = [2][]byte{database, log}
	return etcdFilesMade[key]
}

func (n *fakeNode) until(what string, ok func() bool) {
	n.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !ok() {
		if time.Now().After(deadline) {
			n.t.Fatalf("in vain: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// facts of the fake node, as discovery would read them.
func (n *fakeNode) facts() *Facts {
	n.t.Helper()
	f := n.discovered()
	for _, err := range []error{f.EtcdErr, f.APIErr} {
		var no *absent
		if err != nil && !errors.As(err, &no) {
			n.t.Fatal(err)
		}
	}
	return f
}

func (n *fakeNode) mustReplace(name, old, with string) {
	n.t.Helper()
	data, err := os.ReadFile(filepath.Join(n.root, name))
	if err != nil || !strings.Contains(string(data), old) {
		n.t.Fatalf("%s doesn't hold %q (%v)", name, old, err)
	}
	n.write(name, []byte(strings.Replace(string(data), old, with, 1)))
}

func (n *fakeNode) discovered() *Facts {
	n.t.Helper()
	dir, err := manifest.ReadDir(filepath.Join(n.root, "manifests"))
	if err != nil {
		n.t.Fatal(err)
	}
	f := &Facts{
		Node: n.name, Time: time.Now(), StateDir: filepath.Join(n.root, "etcd-rewind"), Layout: &node.Kubeadm,
		Kubelet:   &node.Kubelet{NodeName: n.name, StaticPodPath: dir.Path, HealthzURL: "http://127.0.0.1:10248/healthz", MetricsURL: "https://127.0.0.1:10250/metrics", Sources: map[string]string{"staticPodPath": "a test"}},
		Manifests: dir,
	}
	if n.found != nil {
		f.Kubelet, f.StateDir = n.found, stateDir(f.Layout, n.found)
		if f.Manifests, err = manifest.ReadDir(n.found.StaticPodPath); err != nil {
			n.t.Fatal(err)
		}
	}
	f.readManifests(context.Background())
	if n.systemd != nil {
		f.readUnits(context.Background(), n.systemd.found())
	}
	f.Reach = f.reach()
	f.Live, f.LiveErr = n.Etcd(context.Background(), true)
	f.APIReady, f.OtherAPIServers = n.apiReady(), n.leases
	f.Unfinished, f.Unreadable = unfinished(f.StateDir)
	return f
}

var snapshotOfTheTests = &snapshot.Info{
	Name: "/backup/before.db", Path: "/backup/before.db", SHA256: "abc", Hash: snapshot.HashOK, Revision: 500, Keys: 40, Prefix: "/registry", StorageVersion: "3.6.0",
	Namespaces: []snapshot.Object{{Name: "default", UID: "d"}, {Name: "shop", UID: "s"}},
	Nodes:      []snapshot.Object{{Name: "cp1", UID: "n"}},
	Members:    []snapshot.Member{{ID: 7, Name: "cp1"}},
	Kubeadm:    &snapshot.Kubeadm{ClusterConfiguration: kubeadmText("/var/lib/etcd")},
}

// kubeadmText is kubeadm's ClusterConfiguration with etcd's data at a place.
func kubeadmText(dataDir string) string {
	return "apiVersion: kubeadm.k8s.io/v1beta4\netcd:\n  local:\n    dataDir: " + dataDir + "  # ours\nkind: ClusterConfiguration\n"
}

func (n *fakeNode) plan(c Choices) *Plan {
	n.t.Helper()
	p, err := NewRestore(n.facts(), snapshotOfTheTests, c)
	if err != nil {
		n.t.Fatal(err)
	}
	return p
}

// undo is the plan that undoes the newest run.
func (n *fakeNode) undo() *Plan {
	n.t.Helper()
	p, err := NewUndo(filepath.Join(n.root, "etcd-rewind"), "", Terms{})
	if err != nil {
		n.t.Fatal(err)
	}
	return p
}

// picture is everything of the node that undo has to bring back: the manifests
// byte for byte with their modes, and the old data.
func (n *fakeNode) picture() map[string]string {
	pic := map[string]string{}
	for _, dir := range []string{"manifests", "lib/etcd", "etc"} {
		at, err := filepath.EvalSymlinks(filepath.Join(n.root, dir))
		if errors.Is(err, fs.ErrNotExist) {
			continue // moved away by a test
		}
		if err != nil {
			n.t.Fatal(err)
		}
		err = filepath.WalkDir(at, func(path string, e os.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			info, err := e.Info()
			if err != nil {
				return err
			}
			data, err := os.ReadFile(path)
			pic[path] = fmt.Sprintf("%v %v %s", info.Mode(), info.ModTime().UnixNano(), data)
			if dir == "etc" { // not renamed there, but written
				pic[path] = fmt.Sprintf("%v %s", info.Mode(), data)
			}
			return err
		})
		if err != nil {
			n.t.Fatal(err)
		}
	}
	return pic
}

// kubelet is the loop of the fake kubelet.
func (n *fakeNode) kubelet() {
	for {
		select {
		case <-n.stop:
			return
		case <-time.After(time.Millisecond):
		}
		n.mu.Lock()
		paused := n.paused
		n.mu.Unlock()
		dir, err := n.read()
		if err != nil || paused {
			continue
		}
		n.mu.Lock()
		n.sync(dir)
		n.mu.Unlock()
	}
}

// read is manifest.ReadDir, which decodes a thousand times a second only what
// has changed.
func (n *fakeNode) read() (*manifest.Dir, error) {
	dir := &manifest.Dir{Path: filepath.Join(n.root, "manifests")}
	entries, err := os.ReadDir(dir.Path)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		path := filepath.Join(dir.Path, e.Name())
		data, err := os.ReadFile(path)
		if strings.HasPrefix(e.Name(), ".") || err != nil {
			continue
		}
		f := n.decoded[path]
		if f == nil || !bytes.Equal(f.Data, data) {
			if f, err = manifest.ReadFile(path); err != nil {
				continue
			}
			n.decoded[path] = f
		}
		dir.Files = append(dir.Files, *f)
	}
	return dir, nil
}

func (n *fakeNode) sync(dir *manifest.Dir) {
	if n.unseen && n.apiRuns() && n.etcdRuns() {
		n.ignoring = false
	}
	type pod struct {
		manifest.File
		uid string
	}
	want := map[string]pod{}
	for _, f := range dir.Files {
		if f.Pod != nil {
			if n.uids[f.Pod] == "" {
				n.uids[f.Pod] = uidOf(f)
			}
			want[f.Pod.Name+"-"+n.name] = pod{f, n.uids[f.Pod]}
		}
	}
	for name, p := range n.pods {
		f, there := want[name]
		if p.state == "begun" { // whatever becomes of its manifest
			if time.Since(p.since) >= n.slowness {
				n.newBox(p)
				p.state = "running"
			}
			continue
		}
		box := &n.boxes[p.box]
		switch p.state {
		case "running":
			if there {
				p.gone = time.Time{}
			} else if p.gone.IsZero() {
				p.gone = time.Now()
			}
			switch {
			case !there && n.held && n.running(n.pod("kube-apiserver")) != nil && !n.etcdRuns():
			case !there && n.ignoring, there && f.uid == p.uid, !there && time.Since(p.gone) < n.lateness:
				if !box.Ready { // somebody ended it over CRI
					n.newBox(p)
				}
			default:
				p.state, p.since = "ending", time.Now()
			}
		case "ending":
			// An API server that has just begun has no clients to wait for.
			fresh := p.box >= 4 && p.since.Sub(box.Created) < 100*time.Millisecond
			graceful := n.retries > 0 || name == n.pod("kube-apiserver") && !fresh
			if !box.Ready || !graceful || time.Since(p.since) > n.grace {
				n.endBox(box)
				p.state, p.since = "ended", time.Now()
			}
		case "ended":
			if time.Since(p.since) > forget {
				delete(n.pods, name)
			}
		}
	}
	for name, f := range want {
		p := n.pods[name]
		if p != nil && p.uid != f.uid && n.tooEarly[f.uid].IsZero() {
			n.tooEarly[f.uid] = time.Now() // refused
		}
		if at := n.tooEarly[f.uid]; !at.IsZero() && (n.retries == 0 || p != nil || time.Since(at) < n.retries) {
			continue
		}
		if p == nil && time.Since(n.killed[f.uid]) < n.retries {
			continue
		}
		if p == nil && n.refuse == name && n.pods[n.pod("kube-apiserver")] == nil && (n.refused == "" || n.refused == f.uid) {
			n.refused = f.uid
			continue
		}
		if p == nil && n.once && n.had[f.uid] {
			continue
		}
		if p == nil {
			p = &fakePod{name: name, file: f.Path, uid: f.uid, container: f.Pod.Spec.Containers[0].Name, state: "running", annotations: f.Pod.Annotations}
			if e, err := manifest.ReadEtcd(&f.File); err == nil {
				p.hostPath = e.DataDir.HostPath
			}
			if n.slowness > 0 {
				p.state, p.since = "begun", time.Now()
			} else {
				n.newBox(p)
			}
			n.pods[name] = p
		}
	}
}

func uidOf(f manifest.File) string {
	raw, _ := json.Marshal(f.Pod)
	sum := sha256.Sum256(append(raw, f.Path...))
	return hex.EncodeToString(sum[:8])
}

func (n *fakeNode) newBox(p *fakePod) {
	n.next++
	n.had[p.uid] = true
	state := node.Running
	if n.broken[p.name] {
		state = node.Exited
	}
	box := node.Sandbox{ID: fmt.Sprint("box", n.next), UID: p.uid, Name: p.name, Namespace: "kube-system", Ready: true, Created: time.Now(), Annotations: p.annotations}
	count := 1
	if state == node.Exited {
		count = 5
	}
	for i := range count {
		box.Containers = append(box.Containers, node.Container{ID: fmt.Sprint("c", n.next, ".", i), Name: p.container, State: state, Created: time.Now()})
	}
	if n.sidecar {
		proxy := node.Container{ID: fmt.Sprint("proxy", n.next), Name: "proxy", State: node.Running, Created: time.Now()}
		box.Containers = append([]node.Container{proxy}, box.Containers...)
	}
	n.boxes = append(n.boxes, box)
	p.box = len(n.boxes) - 1
}

func (n *fakeNode) endBox(b *node.Sandbox) {
	b.Ready = false
	for i := range b.Containers {
		b.Containers[i].State = node.Exited
	}
}

func (n *fakeNode) running(pod string) *fakePod {
	p := n.pods[pod]
	if p == nil || p.state != "running" || n.broken[pod] || !n.boxes[p.box].Ready {
		return nil
	}
	return p
}

func (n *fakeNode) apiReady() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.apiRuns() && n.etcdRuns()
}

// apiRuns says whether an API server does, as a pod or as a service.
func (n *fakeNode) apiRuns() bool {
	return n.running(n.pod("kube-apiserver")) != nil || n.systemd != nil && n.systemd.runs("kube-apiserver.service")
}

// etcdRuns says whether the API server has an etcd.
func (n *fakeNode) etcdRuns() bool {
	_, runs := n.etcdOn()
	return n.elsewhere || runs
}

// etcdOn is the data that etcd runs on.
func (n *fakeNode) etcdOn() (dir string, runs bool) {
	if n.systemd != nil && n.systemd.fakeUnit != nil {
		return n.systemd.etcd()
	}
	if p := n.running(n.pod("etcd")); p != nil {
		return p.hostPath, true
	}
	return "", false
}

var errAway = errors.New("no such file or directory: containerd.sock")

// What follows is the world of the actions.

func (n *fakeNode) Pod(_ context.Context, pod string) ([]node.Sandbox, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if time.Now().Before(n.away) {
		return nil, errAway
	}
	var out []node.Sandbox
	for _, b := range slices.Backward(n.boxes) {
		if b.Name == pod {
			b.Containers = slices.Clone(b.Containers)
			out = append(out, b)
		}
	}
	return out, nil
}

func (n *fakeNode) CPU(context.Context, string) (time.Duration, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cpu == nil {
		return 0, nil
	}
	return n.cpu(), nil
}

func (n *fakeNode) StopSandbox(_ context.Context, id string) error {
	time.Sleep(n.gentle)
	n.mu.Lock()
	defer n.mu.Unlock()
	if time.Now().Before(n.away) {
		return errAway
	}
	for i := range n.boxes {
		if b := &n.boxes[i]; b.ID == id {
			if b.Ready {
				n.killed[b.UID] = time.Now()
			}
			n.endBox(b)
		}
	}
	return nil
}

func (n *fakeNode) RemoveSandbox(_ context.Context, id string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if time.Now().Before(n.away) {
		return errAway
	}
	for i := range n.boxes {
		if n.boxes[i].ID == id {
			if n.boxes[i].Ready {
				return errors.New("it is still ready")
			}
			n.boxes[i].Name = "removed"
		}
	}
	return nil
}

func (n *fakeNode) Pods(context.Context) ([]node.Sandbox, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(n.boxes), func(b node.Sandbox) bool { return !b.Ready }), nil
}

func (n *fakeNode) Remains(uid string) node.Remains {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, p := range n.pods {
		if p.uid == uid {
			return node.Remains{PodDir: true, Cgroups: []string{"pod" + uid}}
		}
	}
	return node.Remains{}
}

func (n *fakeNode) Changed() <-chan struct{} { return nil }

func (n *fakeNode) PodsBegun() (map[string]bool, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.blind {
		return nil, errors.New("kubelet's directory can't be read")
	}
	uids := map[string]bool{}
	for _, p := range n.pods {
		uids[p.uid] = true
	}
	return uids, nil
}

func (n *fakeNode) KubeletRestarted() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.another
}

func (n *fakeNode) KubeletHealthy(context.Context) error { return n.unwell }

func (n *fakeNode) Relists(context.Context) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.listless {
		return 1, n.metrics
	}
	lists := 1 + int(time.Since(n.begun)/n.relists)
	switch {
	case n.told == 0:
		n.told = lists
	case lists != n.told && n.listed.IsZero():
		n.listed = time.Now()
	}
	return lists, n.metrics
}

func (n *fakeNode) API(context.Context, time.Duration) node.APIAnswer {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case !n.apiRuns():
		return node.APIAnswer{Err: errors.New("connection refused")}
	case n.held && !n.etcdRuns():
		return node.APIAnswer{Err: context.DeadlineExceeded}
	case !n.etcdRuns():
		return node.APIAnswer{Code: 500}
	}
	if on, _ := n.etcdOn(); n.starting != nil && !n.elsewhere && on != filepath.Join(n.root, "lib/etcd") {
		return n.starting()
	}
	return node.APIAnswer{Code: 200}
}

func (n *fakeNode) EtcdCluster(ctx context.Context) uint64 {
	s, err := n.Etcd(ctx, false)
	if err != nil || n.peerless {
		return 0
	}
	return s.ClusterID
}

func (n *fakeNode) EtcdReady(context.Context) (string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.readyAsked++
	on, runs := n.etcdOn()
	if runs && n.leaderless && on != filepath.Join(n.root, "lib/etcd") {
		return "", &node.NotReadyError{Err: errors.New("no leader")}
	}
	if !runs {
		return "", errors.New("connection refused")
	}
	return "as told", nil
}

func (n *fakeNode) Etcd(context.Context, bool) (*node.EtcdStatus, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	on, runs := n.etcdOn()
	if !runs {
		return nil, errors.New("connection refused")
	}
	var d snapshot.Restored
	raw, err := os.ReadFile(filepath.Join(on, "data.json"))
	if err != nil {
		d = snapshot.Restored{ClusterID: 0xb1a4c, Revision: 1} // DirectoryOrCreate: a blank cluster
	} else if err := json.Unmarshal(raw, &d); err != nil {
		return nil, err
	}
	if restored := on != filepath.Join(n.root, "lib/etcd"); restored && n.refusing != nil {
		return nil, n.refusing
	} else if restored && n.denying != nil {
		return &node.EtcdStatus{ClusterID: d.ClusterID, Keys: -1, Denied: n.denying}, nil
	}
	s := &node.EtcdStatus{ClusterID: d.ClusterID, Revision: d.Revision, Keys: int64(d.Keys), Version: "3.6.10", MemberID: 1}
	if s.Leader = 2; n.leads {
		s.Leader = 1
	}
	for _, m := range d.Members {
		s.Members = append(s.Members, node.EtcdMember{ID: m.ID, Name: m.Name})
	}
	return s, nil
}

func (n *fakeNode) Objects(_ context.Context, resource string) ([]node.Object, error) {
	if !n.apiReady() {
		return nil, errors.New("connection refused")
	}
	if resource == "nodes" {
		return append([]node.Object{{Name: n.name, UID: "n"}}, n.nodes...), nil
	}
	return append([]node.Object{{Name: "default", UID: "d"}, {Name: "shop", UID: "s"}, {Name: "kube-system", UID: "k"}}, n.more...), nil
}

// kubeadmFile is where kubeadm-config lies: with the data that etcd serves.
func (n *fakeNode) kubeadmFile() (string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	on, runs := n.etcdOn()
	if !runs || !n.apiRuns() {
		return "", errors.New("connection refused")
	}
	return filepath.Join(on, "kubeadm-config"), n.kubeadmErr
}

func (n *fakeNode) KubeadmConfig(context.Context) (*node.ConfigMap, error) {
	path, err := n.kubeadmFile()
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(path)
	return &node.ConfigMap{ResourceVersion: string(text), Data: map[string]string{"ClusterConfiguration": string(text)}}, err
}

func (n *fakeNode) SetKubeadmConfig(_ context.Context, read *node.ConfigMap, text string) error {
	path, err := n.kubeadmFile()
	if err != nil {
		return err
	}
	if n.onSetKubeadm != nil {
		n.onSetKubeadm()
	}
	if now, err := os.ReadFile(path); err != nil || string(now) != read.ResourceVersion {
		return errors.Join(node.ErrConflict, err)
	}
	return os.WriteFile(path, []byte(text), 0o600)
}

func (n *fakeNode) Remote(_ context.Context, other node.RemoteConfig) node.RemoteState {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.others[other.ReadyURL]
}

func (n *fakeNode) see(other string, s node.RemoteState) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.others == nil {
		n.others = map[string]node.RemoteState{}
	}
	n.others[other] = s
}

func (n *fakeNode) Shell(context.Context, string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.shellErr != nil {
		return n.shellErr
	}
	n.restarts++
	n.ignoring = n.unseen
	clear(n.had)
	// A fresh kubelet knows only what its manifests say.
	dir, err := manifest.ReadDir(filepath.Join(n.root, "manifests"))
	if err != nil {
		return err
	}
	maps.DeleteFunc(n.pods, func(name string, _ *fakePod) bool {
		return !slices.ContainsFunc(dir.Files, func(f manifest.File) bool { return f.Pod != nil && f.Pod.Name+"-"+n.name == name })
	})
	return nil
}

func (n *fakeNode) LogTail(pod, _, _ string, _ int) ([]string, string) {
	return n.log, "/var/log/pods/" + pod
}

func (n *fakeNode) ReadData(_ context.Context, dir string) (*snapshot.Restored, error) {
	raw, err := os.ReadFile(filepath.Join(dir, "data.json"))
	if err != nil {
		return nil, err
	}
	var d snapshot.Restored
	return &d, json.Unmarshal(raw, &d)
}

func (n *fakeNode) Restore(_ context.Context, q snapshot.RestoreRequest, _ *snapshot.Staged, progress func(snapshot.Progress)) (*snapshot.Restored, error) {
	progress(snapshot.Progress{Phase: "copy", Done: 1, Total: 2})
	if q.WALDir != "" {
		if err := os.MkdirAll(q.WALDir, 0o700); err != nil {
			return nil, err
		}
	}
	d := snapshot.Restored{ClusterID: 0xbbbb, Revision: 500 + int64(q.RevisionBump), Keys: 40, Members: []snapshot.Member{{ID: 7, Name: q.Name}}}
	n.writeData(q.DataDir, d)
	text := cmp.Or(n.kubeadm, kubeadmText("/var/lib/etcd"))
	return &d, os.WriteFile(filepath.Join(q.DataDir, "kubeadm-config"), []byte(text), 0o600)
}

func (n *fakeNode) Save(_ context.Context, q snapshot.SaveRequest) (*snapshot.Info, error) {
	return &snapshot.Info{Path: q.Path, Revision: 900, Keys: 50}, os.WriteFile(q.Path, []byte("saved"), 0o600)
}

// engine runs plans on the fake node. ask answers failures; nil means that
// there must be none.
func (n *fakeNode) engine(ask Asker) (*Engine, *[]Event) {
	var events []Event
	if ask == nil {
		ask = func(f Failure) Choice {
			n.t.Errorf("asked: %s: %s", f.Action, f.Cause)
			return Leave
		}
	}
	pace := fakePace
	return &Engine{Sink: func(e Event) { events = append(events, e) }, Ask: ask, world: n, pace: &pace}, &events
}
