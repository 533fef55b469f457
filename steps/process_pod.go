package steps

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"etcd-rewind/manifest"
	"etcd-rewind/node"
	"etcd-rewind/problem"
)

// staticPod is a process that kubelet runs, by a manifest in its directory.
type staticPod struct {
	file  Prepared
	out   *TakeOut
	in    *PutIn
	url   string // readiness of an API server
	cri   string
	grace time.Duration // kubelet's
	wait  time.Duration // the budget of its startup probe
}

func (p *staticPod) prepared() []Prepared { return []Prepared{p.file} }

func (p *staticPod) ref() processRef {
	return processRef{pod: p.out.Pod, file: p.out.File, budget: p.wait}
}

// stop waits for the API server alone, whose clients see it end: of the others
// nothing runs when they have rested.
func (p *staticPod) stop(how StopHow) []Action {
	pod, file := p.out.Pod, p.out.File
	if !p.out.API {
		return []Action{p.out}
	}
	acts := []Action{p.out, &WaitStopping{Pod: pod, File: file, URL: p.url}}
	if how == StopGraceful {
		return append(acts, &WaitGone{Pod: pod, File: file, Grace: p.grace})
	}
	return append(acts, &EndPods{Pods: []string{pod}, CRI: p.cri}, &WaitGone{Pod: pod, File: file})
}

func (p *staticPod) rest() []Action {
	return []Action{&WaitForgotten{Pods: []string{p.out.Pod}, Files: []string{p.out.File}, Fresh: true}}
}

func (p *staticPod) start() []Action {
	return []Action{p.in, &WaitStarted{Pod: p.out.Pod, File: p.out.File, Fresh: true}}
}

// podWatch is a static pod while a wait looks at it.
type podWatch struct {
	*run
	pod, file string
	tolerated int
	begun     starts
	newest    node.Sandbox // as it was looked at last
	patience  *patience
}

func (w *podWatch) lastLog() []string {
	lines, _ := w.world.LogTail(w.pod, w.newest.UID, running(w.newest)[0].Name, 100)
	return lines
}

func (w *podWatch) retry(ctx context.Context) error {
	tried, err := w.retryPod(ctx, w.pod, w.file)
	if tried && err == nil {
		_, err = (&WaitStarted{Pod: w.pod, File: w.file, Fresh: true}).do(ctx, w.run)
	}
	return err
}

func (w *podWatch) look(ctx context.Context, failing string, s *sight) (up bool, err error) {
	boxes, err := w.boxes(ctx, w.pod)
	if err != nil || len(boxes) == 0 {
		return false, err
	}
	newest := w.program(w.pod, boxes[0])
	times := w.begun.look(w.since(w.pod, newest.Containers))
	up = len(running(newest)) > 0
	w.newest = newest
	s.seen[0] = Sighting{What: "container", Is: sayContainers(newest.Containers), OK: up}
	if !up && times >= w.tolerated {
		return false, w.crashed(w.pod, newest)
	}
	instance := ""
	if up {
		instance = running(newest)[0].ID
	}
	w.patience.see(ctx, instance, failing, s)
	return up, nil
}

func (w *podWatch) late(cause string) error {
	boxes, err := w.world.Pod(context.Background(), w.pod)
	if err != nil || len(boxes) == 0 {
		return problem.New("there is no container of "+w.pod+"; "+lookAtKubelet, "%s", cause)
	}
	t := w.withLog(w.pod, boxes[0], cause)
	if t.slow = w.slow(w.pod, &boxes[0], t); t.slow {
		t.Cause, t.Hint = cause+" yet", slowHint
	}
	return t
}

// boxes lists a pod's sandboxes, and notes what that costs.
func (r *run) boxes(ctx context.Context, pod string) ([]node.Sandbox, error) {
	begun := time.Now()
	defer func() { r.cost += time.Since(begun) }()
	return r.world.Pod(ctx, pod)
}

// insist calls the container runtime until it answers or the limit is over: a
// runtime that is being restarted is down for some seconds, and that is no
// reason to give up a restore.
func (r *run) insist(ctx context.Context, call func(context.Context) error) error {
	begun := r.now()
	ticker := time.NewTicker(r.pace.lookAPI)
	defer ticker.Stop()
	for told := false; ; {
		err := call(ctx)
		if err == nil || errors.Is(err, errStopped) || r.now().Sub(begun) > r.pace.runtime {
			return err
		}
		if !told {
			told = true
			r.say("the container runtime doesn't answer, trying again: %s", err)
		}
		select {
		case <-r.stop:
			return errStopped
		case <-ticker.C:
		}
	}
}

// pods lists a pod's sandboxes for an action that is not a wait.
func (r *run) pods(ctx context.Context, pod string) (boxes []node.Sandbox, err error) {
	err = r.insist(ctx, func(ctx context.Context) error {
		boxes, err = r.world.Pod(ctx, pod)
		return err
	})
	return boxes, err
}

// freshKubelet says whether kubelet was restarted in this run, while the API
// was away. One that hasn't seen the API deletes no pod, also none of its own
// that it has begun with ("skipping delete because sources aren't ready yet"):
// to help one there by another UID keeps all of them from starting. It never
// knew the old pods, and refuses none for them.
func (r *run) freshKubelet() bool {
	return r.away && (r.mem.KubeletRestarted || r.world.KubeletRestarted())
}

// rememberPods notes, while a pod's manifest is out, what is there of it and
// what kubelet has begun with: what comes after is new. The journal has it
// before the manifest is in again, so a resumed run knows it too.
func (r *run) rememberPods(pod string, boxes []node.Sandbox) {
	var uids []string
	for _, b := range boxes {
		if !slices.Contains(uids, b.UID) {
			uids = append(uids, b.UID)
		}
	}
	r.mem.Pods[pod] = uids
	r.rememberBegun(pod)
}

func (r *run) rememberBegun(pod string) {
	if begun, err := r.world.PodsBegun(); err == nil {
		r.mem.Begun[pod] = slices.Sorted(maps.Keys(begun))
	}
}

// underWay says whether kubelet has begun with a pod whose manifest this run, or the
// one that it reverts, has put in, and whose start wasn't seen: it has a directory or a
// cgroup, and no sandbox yet. Kubelet makes that one also when the manifest is out again,
// if it was busy with it (seen on 1.37.2: 1.1 s after the manifest was put in, 0.4 s after it was
// out).
func (r *run) underWay(ctx context.Context, pods []string) (bool, error) {
	if !slices.ContainsFunc(pods, func(pod string) bool { return len(r.mem.Begun[pod]) > 0 }) {
		return false, nil
	}
	begun, err := r.begunSince(pods...)
	if err != nil || len(begun) == 0 {
		return false, nil // an error: it can't be seen here
	}
	boxes, err := r.world.Pods(ctx)
	for _, b := range boxes {
		delete(begun, b.UID)
	}
	return len(begun) > 0, err
}

// begunSince are the UIDs that kubelet has begun with since that was remembered for
// pods: theirs, and perhaps others'.
func (r *run) begunSince(pods ...string) (map[string]bool, error) {
	begun, err := r.world.PodsBegun()
	for _, pod := range pods {
		for _, uid := range r.mem.Begun[pod] {
			delete(begun, uid)
		}
	}
	return begun, err
}

// endOf is when this process first saw that no container of a pod runs any
// more. What the runtime or the journal have is the machine's clock, which may
// have been set since; differences within one process don't know of that.
func (r *run) endOf(pod string) time.Time {
	if _, ok := r.mem.Ended[pod]; !ok {
		r.mem.Ended[pod] = r.now()
	}
	return r.mem.Ended[pod]
}

// crashed is a pod whose container ends again and again.
func (r *run) crashed(pod string, b node.Sandbox) error {
	for _, c := range b.Containers {
		r.judge(pod, c.ID)
	}
	return r.withLog(pod, b, pod+" starts and ends again")
}

// judge notes the instance of a process that a wait has failed for.
func (r *run) judge(process, instance string) {
	r.mem.Judged = maps.Clone(r.mem.Judged)
	if r.mem.Judged == nil {
		r.mem.Judged = map[string][]string{}
	}
	r.mem.Judged[process] = append(slices.Clone(r.mem.Judged[process]), instance)
}

// since leaves out the containers that a wait has failed for already.
func (r *run) since(pod string, all []node.Container) []node.Container {
	return slices.DeleteFunc(slices.Clone(all), func(c node.Container) bool { return slices.Contains(r.mem.Judged[pod], c.ID) })
}

// retryPod gives a pod that a wait has failed for a fresh UID: kubelet would
// let it wait in its crash back-off, for minutes. Its manifest is "" where it
// has to stay byte for byte.
func (r *run) retryPod(ctx context.Context, pod, file string) (bool, error) {
	if file == "" {
		return false, nil
	}
	boxes, err := r.pods(ctx, pod)
	if err != nil || len(boxes) == 0 || len(running(r.program(pod, boxes[0]))) > 0 || slices.Contains(r.mem.Pods[pod], boxes[0].UID) {
		return false, err
	}
	if all := r.program(pod, boxes[0]).Containers; len(all) == 0 || len(r.since(pod, all)) > 0 {
		return false, nil
	}
	r.say("kubelet's back-off delays %s after a crash loop: a fresh annotation makes it try at once", pod)
	r.rememberPods(pod, boxes)
	return true, freshUID(file, r.now())
}

// program is a sandbox with the container alone that the pod is there for.
func (r *run) program(pod string, b node.Sandbox) node.Sandbox {
	if name := r.plan.Reach.Containers[pod]; name != "" {
		b.Containers = slices.DeleteFunc(slices.Clone(b.Containers), func(c node.Container) bool { return c.Name != name })
	}
	return b
}

func (r *run) withLog(pod string, b node.Sandbox, cause string) *trouble {
	t := stuck("", "%s", cause)
	b = r.program(pod, b)
	name := ""
	if len(b.Containers) > 0 {
		name = b.Containers[0].Name
	}
	t.log, t.logPath = r.world.LogTail(pod, b.UID, name, 200)
	t.explain()
	return t
}

// explain adds what the log is known to mean, and keeps its end.
func (t *trouble) explain() { t.explainBy(likelyCause) }

func (t *trouble) explainBy(likely func([]string) (cause, hint string)) {
	if why, hint := likely(t.log); why != "" {
		t.known = why
		t.Cause += ": " + why
		t.Hint = hint
	}
	t.log = lastWords(t.log, 12)
}

// freshUID changes one annotation of a manifest in kubelet's directory: the
// pod's UID is made from the decoded object, so kubelet sees a new pod.
func freshUID(file string, now time.Time) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if data, err = manifest.Annotate(data, restartedAt, now.UTC().Format(time.RFC3339Nano)); err != nil {
		return err
	}
	aside := filepath.Join(filepath.Dir(file), "."+filepath.Base(file)+".etcd-rewind")
	if err := writeOnce(aside, data, file); err != nil {
		return err
	}
	if err := os.Rename(aside, file); err != nil {
		return err
	}
	return manifest.SyncDir(filepath.Dir(file))
}

// restartedAt is the ecosystem's name for an annotation that makes a new pod.
const restartedAt = "kubectl.kubernetes.io/restartedAt"

// ofKubelet is an action on the manifest of a pod that kubelet runs.
type ofKubelet interface {
	Action
	podOf() (pod, file string)
}

// etcdIs says whether a pod is the etcd that the plan stops.
func (p *Plan) etcdIs(pod string) bool {
	return p.has(func(a Action) bool {
		k, ok := a.(ofKubelet)
		if !ok || !RoleEtcd.stops(a) {
			return false
		}
		name, _ := k.podOf()
		return name == pod
	})
}

// podRole is the role of a manifest, as its actions record it.
func podRole(etcd, api bool) Role {
	switch {
	case etcd:
		return RoleEtcd
	case api:
		return RoleAPI
	}
	return RoleControllers
}

// stuckKubeletFor is the conditional step for a kubelet that ignores removed
// manifests: what the plan takes out is taken out at once, kubelet restarted, and the
// containers ended. So are those of a manifest that is out already, which an undo only
// puts in.
func stuckKubeletFor(steps []Step, restart, cri string) *Step {
	s := stuckKubeletTemplate()
	var pods, files []string
	for _, step := range steps {
		for _, a := range step.Actions {
			p, ok := a.Action.(ofKubelet)
			if !ok {
				continue
			}
			if _, out := a.Action.(stopping); out {
				s.Actions = append(s.Actions, Planned{Action: p})
			}
			if pod, file := p.podOf(); !slices.Contains(pods, pod) {
				pods, files = append(pods, pod), append(files, file)
			}
		}
	}
	if len(pods) == 0 {
		return nil
	}
	s.Actions = append(s.Actions, Planned{Action: &RestartKubelet{Command: restart}}, Planned{Action: &EndPods{Pods: pods, CRI: cri}})
	for i, pod := range pods {
		s.Actions = append(s.Actions, Planned{Action: &WaitGone{Pod: pod, File: files[i]}})
	}
	return &s
}
