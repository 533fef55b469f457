package practice

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"log"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
	corev1 "k8s.io/api/core/v1"

	"etcd-rewind/manifest"
)

// The periods of kubelet 1.34, by their names in its source. They are not
// shortened: what is practised here has to work there.
const (
	relistPeriod      = time.Second     // pkg/kubelet/pleg, genericPlegRelistPeriod
	housekeeping      = 2 * time.Second // pkg/kubelet/kubelet.go, housekeepingPeriod
	backOffPeriod     = 10 * time.Second
	backOffJitter     = 0.5
	initialBackOff    = 10 * time.Second
	maxBackOff        = 300 * time.Second
	fileCheckPeriod   = 20 * time.Second
	orphanGracePeriod = 2 * time.Second
)

// staticPod is a pod as kubelet makes it from a file.
type staticPod struct {
	uid, key, file string // key is namespace/name-node
	pod            *corev1.Pod
}

func (p *staticPod) name() string { return p.pod.Name + "-" + nodeName }

func (p *staticPod) grace() time.Duration {
	if g := p.pod.Spec.TerminationGracePeriodSeconds; g != nil {
		return time.Duration(*g) * time.Second
	}
	return 30 * time.Second
}

// uidOf is an md5 over the decoded object, the host and the file's path
// (pkg/kubelet/config/common.go, applyDefaults): comments don't count,
// annotations do.
func uidOf(pod *corev1.Pod, file string) string {
	h := md5.New()
	raw, _ := json.Marshal(pod)
	_, _ = h.Write(raw)
	_, _ = fmt.Fprintf(h, "host:%s", nodeName)
	_, _ = fmt.Fprintf(h, "file:%s", file)
	return hex.EncodeToString(h.Sum(nil))
}

func hashOf(spec *corev1.Container) string {
	h := fnv.New32a()
	raw, _ := json.Marshal(spec)
	_, _ = h.Write(raw)
	return fmt.Sprintf("%x", h.Sum32())
}

// kubelet runs the pods of a manifest directory by the rules of the real one.
type kubelet struct {
	manifests, root, cgroups string
	rt                       *runtimeService
	log                      *log.Logger
	// apiSeen says whether the API server has answered; until then nothing is
	// taken away (kubelet's "sources aren't ready yet").
	apiAnswers func(context.Context) bool

	store  map[string]*staticPod // what the directory says, by key
	byFile map[string]string     // file to key, for removals

	mu      sync.Mutex
	seen    bool
	desired map[string]*staticPod // by UID
	workers map[string]*worker    // by UID
	started map[string]string     // key to UID: pods that may run
	waiting map[string][]string   // key to UIDs, in the order in which they came
	backoff map[string]*backOff   // by UID and container
	relists int                   // counts the runtime's lists
	relist  chan struct{}         // closed and renewed at each

	ctx  context.Context // of this kubelet's life
	stop context.CancelFunc
	done sync.WaitGroup
}

type backOff struct {
	wait time.Duration
	last time.Time
}

func newKubelet(manifests, root, cgroups string, rt *runtimeService, out io.Writer, apiAnswers func(context.Context) bool) *kubelet {
	return &kubelet{
		manifests: manifests, root: root, cgroups: cgroups, rt: rt, apiAnswers: apiAnswers,
		log:   log.New(out, "", log.LstdFlags|log.Lmicroseconds),
		store: map[string]*staticPod{}, byFile: map[string]string{},
		desired: map[string]*staticPod{}, workers: map[string]*worker{},
		started: map[string]string{}, waiting: map[string][]string{},
		backoff: map[string]*backOff{}, relist: make(chan struct{}),
	}
}

// run starts kubelet. seen says that it has talked to the API server before;
// one that was started while the API is down hasn't, and ignores removed
// manifests until it has.
func (k *kubelet) run(seen bool) {
	ctx, cancel := context.WithCancel(context.Background())
	k.ctx, k.stop, k.seen = ctx, cancel, seen
	k.done.Go(func() { k.watchFiles(ctx) })
	k.done.Go(func() { every(ctx, relistPeriod, k.list) })
	k.done.Go(func() { every(ctx, housekeeping, func() { k.clean(ctx) }) })
	k.done.Go(func() { k.watchAPI(ctx) })
}

// close ends kubelet; containers run on.
func (k *kubelet) close() {
	k.stop()
	k.done.Wait()
}

func every(ctx context.Context, d time.Duration, do func()) {
	t := time.NewTicker(d)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			do()
		}
	}
}

func (k *kubelet) watchAPI(ctx context.Context) {
	if k.sourcesReady() {
		return
	}
	ctx, enough := context.WithCancel(ctx)
	defer enough()
	every(ctx, 500*time.Millisecond, func() {
		if !k.apiAnswers(ctx) {
			return
		}
		k.mu.Lock()
		k.seen = true
		k.mu.Unlock()
		k.log.Print("the API server has answered: all sources are ready")
		enough()
	})
}

func (k *kubelet) sourcesReady() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.seen
}

// watchFiles is pkg/kubelet/config/file.go and file_linux.go: a full list at
// the start and every fileCheckFrequency, and between them the directory's own
// events, each about one file.
func (k *kubelet) watchFiles(ctx context.Context) {
	var events chan fsnotify.Event
	var errs chan error
	var w *fsnotify.Watcher
	watch := func() {
		var err error
		if w, err = fsnotify.NewWatcher(); err == nil {
			if err = w.Add(k.manifests); err == nil {
				events, errs = w.Events, w.Errors
				return
			}
			_ = w.Close()
		}
		w = nil
		k.log.Printf("unable to watch %s: %s", k.manifests, err)
	}
	watch()
	defer func() {
		if w != nil {
			_ = w.Close()
		}
	}()
	k.listFiles()
	t := time.NewTicker(fileCheckPeriod)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			if w == nil {
				watch()
			}
			k.listFiles()
		case e, ok := <-events:
			if ok {
				k.fileEvent(e)
			} else {
				events = nil
			}
		case err, ok := <-errs:
			if ok {
				k.log.Printf("watching %s: %s", k.manifests, err)
			} else {
				errs = nil
			}
		}
	}
}

func (k *kubelet) listFiles() {
	dir, err := manifest.ReadDir(k.manifests)
	if err != nil {
		k.log.Printf("unable to read %s: %s", k.manifests, err)
		return
	}
	k.store, k.byFile = map[string]*staticPod{}, map[string]string{}
	for i := range dir.Files {
		k.add(&dir.Files[i])
	}
	k.update()
}

// add puts one file's pod into the store: the last one of a name wins.
func (k *kubelet) add(f *manifest.File) {
	if f.Pod == nil {
		k.log.Printf("can't process %s: %s", f.Path, f.Err)
		return
	}
	p := &staticPod{uid: uidOf(f.Pod, f.Path), file: f.Path, pod: f.Pod, key: f.Pod.Namespace + "/" + f.Pod.Name + "-" + nodeName}
	k.store[p.key], k.byFile[f.Path] = p, p.key
}

func (k *kubelet) fileEvent(e fsnotify.Event) {
	if strings.HasPrefix(filepath.Base(e.Name), ".") {
		return
	}
	switch {
	case e.Has(fsnotify.Create), e.Has(fsnotify.Write), e.Has(fsnotify.Chmod):
		f, err := manifest.ReadFile(e.Name)
		if err != nil {
			k.log.Printf("can't process %s: %s", e.Name, err)
			return
		}
		k.add(f)
	case e.Has(fsnotify.Remove), e.Has(fsnotify.Rename):
		key, ok := k.byFile[e.Name]
		if !ok {
			return
		}
		delete(k.byFile, e.Name)
		delete(k.store, key)
	}
	k.update()
}

// update passes on to the workers what changed: another UID of the same name is a
// removal and an addition, in this order (pkg/kubelet/config/config.go).
func (k *kubelet) update() {
	want := map[string]*staticPod{}
	for _, p := range k.store {
		want[p.uid] = p
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for uid, p := range k.desired {
		if want[uid] != nil {
			continue
		}
		delete(k.desired, uid)
		if !k.seen {
			k.log.Printf("failed to delete pod %s: skipping delete because sources aren't ready yet", p.key)
			continue
		}
		if w := k.workers[uid]; w != nil {
			w.terminate(p.grace())
		}
	}
	for uid, p := range want {
		if k.desired[uid] == nil {
			k.desired[uid] = p
			k.admit(p)
		}
	}
}

// admit needs the lock. A pod of a UID whose worker is ending is started again
// when housekeeping finds it (podWorkers.UpdatePod, restartRequested).
func (k *kubelet) admit(p *staticPod) {
	if w := k.workers[p.uid]; w != nil {
		w.wake()
		return
	}
	w := &worker{k: k, pod: p, poke: make(chan struct{}, 1), kill: make(chan struct{})}
	k.workers[p.uid] = w
	k.waiting[p.key] = append(k.waiting[p.key], p.uid)
	k.done.Go(w.run)
}

// mayStart is podWorkers.allowStaticPodStart: one pod of a name at a time, in
// the order in which they came.
func (k *kubelet) mayStart(w *worker) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	key := w.pod.key
	if uid, ok := k.started[key]; ok {
		return uid == w.pod.uid
	}
	queue := k.waiting[key]
	for len(queue) > 0 {
		next := k.workers[queue[0]]
		if next == nil || next.phase != syncing {
			queue = queue[1:]
			continue
		}
		if next != w {
			k.waiting[key] = queue
			return false
		}
		queue = queue[1:]
		break
	}
	k.waiting[key] = queue
	if len(queue) == 0 {
		delete(k.waiting, key)
	}
	k.started[key] = w.pod.uid
	return true
}

// list is a relist of the PLEG: pods whose containers changed are looked at.
func (k *kubelet) list() {
	k.mu.Lock()
	k.relists++
	close(k.relist)
	k.relist = make(chan struct{})
	workers := make([]*worker, 0, len(k.workers))
	for _, w := range k.workers {
		workers = append(workers, w)
	}
	k.mu.Unlock()
	for _, w := range workers {
		w.listed()
	}
}

// lists is how often it has listed.
func (k *kubelet) lists() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.relists
}

// nextList is closed at the next relist.
func (k *kubelet) nextList() <-chan struct{} {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.relist
}

// clean is HandlePodCleanups.
func (k *kubelet) clean(ctx context.Context) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.seen {
		k.log.Print("skipping housekeeping, as sources aren't ready yet")
		return
	}
	for uid, w := range k.workers {
		p := k.desired[uid]
		switch {
		case w.phase == finished:
			delete(k.workers, uid)
			if p == nil {
				k.rt.removePod(uid) // cleanUpContainersInPod
			} else if ctx.Err() == nil {
				k.admit(p)
			}
		case p == nil:
			w.terminate(w.pod.grace())
		}
	}
	// What runs and nobody knows: left by a kubelet before this one.
	for uid, name := range k.rt.uids() {
		if k.workers[uid] != nil || !k.rt.view(uid).alive() {
			continue
		}
		k.log.Printf("pod %s (%s) runs and is not wanted: it is ended", name, uid)
		orphan := &staticPod{uid: uid, key: name, pod: &corev1.Pod{}}
		w := &worker{k: k, pod: orphan, poke: make(chan struct{}, 1), kill: make(chan struct{})}
		w.terminate(orphanGracePeriod)
		k.workers[uid] = w
		k.started[name] = uid
		k.done.Go(w.run)
	}
	k.collect()
}

// collect removes the directories of pods that are gone.
func (k *kubelet) collect() {
	entries, err := os.ReadDir(filepath.Join(k.root, "pods"))
	if err != nil {
		return
	}
	for _, e := range entries {
		if k.workers[e.Name()] == nil && !k.rt.view(e.Name()).alive() {
			_ = os.RemoveAll(filepath.Join(k.root, "pods", e.Name()))
		}
	}
}

func (k *kubelet) podDir(uid string) string { return filepath.Join(k.root, "pods", uid) }

func (k *kubelet) podCgroup(uid string) string {
	return filepath.Join(k.cgroups, "kubepods", "burstable", "pod"+uid)
}

type phase int

const (
	syncing phase = iota
	terminating
	finished
)

// worker looks after one UID (pkg/kubelet/pod_workers.go).
type worker struct {
	k   *kubelet
	pod *staticPod

	// With the kubelet's lock:
	phase phase
	grace time.Duration

	poke chan struct{} // something may have changed
	kill chan struct{} // closed when it is to end

	last map[string]containerState
}

// terminate needs the lock. Safe to call twice.
func (w *worker) terminate(grace time.Duration) {
	if w.phase == syncing {
		w.phase, w.grace = terminating, grace
		close(w.kill)
	}
}

func (w *worker) wake() {
	select {
	case w.poke <- struct{}{}:
	default:
	}
}

// listed is called at each relist, by one goroutine.
func (w *worker) listed() {
	v := w.k.rt.view(w.pod.uid)
	now := v.states
	if v.ready != nil {
		now[v.ready.id] = running
	}
	changed := len(now) != len(w.last)
	for id, s := range now {
		changed = changed || w.last[id] != s
	}
	if changed {
		w.wake()
	}
	w.last = now
}

var (
	errRefused = errors.New("pod cannot start yet")
	errBackOff = errors.New("back-off restarting failed container")
)

func (w *worker) run() {
	stopped := w.k.ctx.Done()
	for started := w.pod.file == ""; ; {
		retry := time.Duration(0)
		select {
		case <-w.kill:
		default:
			if !started {
				if started = w.k.mayStart(w); !started {
					w.k.log.Printf("%s pod=%s uid=%s", errRefused, w.pod.key, w.pod.uid)
					retry = jitter(backOffPeriod)
					break
				}
			}
			if err := w.sync(); err != nil {
				w.k.log.Printf("error syncing pod %s: %s", w.pod.key, err)
				retry = jitter(backOffPeriod)
			}
		}
		var again <-chan time.Time
		if retry > 0 {
			again = time.After(retry)
		}
		poke := w.poke
		if !started {
			poke = nil // only the work queue's turn counts for one that was refused
		}
		select {
		case <-stopped:
			return
		case <-w.kill:
			w.end(started, stopped)
			return
		case <-poke:
		case <-again:
		}
	}
}

func jitter(d time.Duration) time.Duration {
	return d + time.Duration(rand.Float64()*backOffJitter*float64(d))
}
