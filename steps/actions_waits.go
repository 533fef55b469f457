package steps

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"etcd-rewind/node"
	"etcd-rewind/problem"
	"etcd-rewind/trust"
)

// defaultGrace is a pod's grace period where its manifest doesn't give one.
const defaultGrace = 30 * time.Second

// goneActions wait until kubelet has finished with a pod whose manifest is out.
func goneActions(pod, file string, api bool) []Action {
	forgotten := &WaitForgotten{Pods: []string{pod}, Files: []string{file}}
	if api {
		forgotten.Grace = defaultGrace
		return []Action{&WaitStopping{Pod: pod, File: file}, &EndPods{Pods: []string{pod}}, forgotten}
	}
	return []Action{forgotten}
}

// movedBack is an error when a manifest that this run has taken out is
// in kubelet's directory again: the pod will not end, or come back.
func movedBack(files ...string) error {
	for _, f := range files {
		if _, err := os.Lstat(f); f != "" && err == nil {
			return stuck("find out who did (another person, a configuration manager), move it out of the directory, then retry", "somebody else moved %s back while this run needs it out", f)
		}
	}
	return nil
}

// WaitStopping waits until kubelet has begun to end the API server. To end it
// over CRI before that makes kubelet start it once more, and take 20 to 33 s
// to end that one (8 of 47 runs measured).
//
// One that was dead before gives no sign of it: it answers or not as it did, for
// up to 30 s, and as long as it takes requests without answering them, kubelet
// may wait for it (a mirror pod is created before a pod is synced: 34 s
// measured). So it is ended when kubelet has surely seen that its manifest is gone.
type WaitStopping struct {
	Pod  string `json:"pod"`
	File string `json:"file"` // its manifest, which is out
	URL  string `json:"url,omitempty"`
}

func (*WaitStopping) Kind() string { return "wait-stopping" }

func (a *WaitStopping) Title() string { return "Wait until kubelet stops " + a.Pod }

func (a *WaitStopping) Commands() []string {
	if a.URL == "" {
		return nil
	}
	return []string{trust.Shell("while curl -skf -m 0.3 -o /dev/null %s; do sleep 0.05; done", a.URL)}
}

func (*WaitStopping) limit(p pace) time.Duration { return p.stopping }

func (a *WaitStopping) do(ctx context.Context, r *run) (State, error) {
	begun := r.now()
	return r.poll(ctx, a.limit(r.pace), r.pace.lookCRI, func(ctx context.Context) (sight, error) {
		if err := movedBack(a.File); err != nil {
			return sight{}, err
		}
		boxes, err := r.boxes(ctx, a.Pod)
		if err != nil {
			return sight{}, err
		}
		answer := r.world.API(ctx, r.pace.readyz)
		if answer.Code == http.StatusOK {
			r.apiStillAnswers()
		}
		s := sight{seen: []Sighting{
			{What: "/readyz", Is: sayAPI(answer), OK: answer.Code != http.StatusOK},
			{What: "pod", Is: sayPod(boxes), OK: !anyReady(boxes)},
		}}
		switch {
		case !anyReady(boxes), answer.ShuttingDown:
			s.ok = true
		case r.apiWasDead():
			s.ok = r.now().Sub(begun) >= r.pace.noticed
			r.unseen = s.ok
		case r.mem.APIBefore == apiReady:
			s.ok = answer.Code != http.StatusOK
		default:
			s.ok = answer.Code == 0
		}
		return s, nil
	}, func(sight) error {
		return ignores("kubelet has not begun to stop %s: it seems to ignore that the manifest is gone", a.Pod)
	})
}

func (a *WaitStopping) places(v *vetter) {
	v.pod(a.Pod)
	v.manifestIf(a.File)
}

func (*WaitStopping) undo() []Action { return nil }

var lookAtKubelet = "look at kubelet's log (" + node.Kubeadm.KubeletLog() + ")"

const ignoringHint = "a kubelet that was started while the API was down ignores removed manifests until it has reached the API; restarting it with the manifests moved out cures that"

// EndPods ends the containers of pods over CRI, without their grace period.
type EndPods struct {
	Pods []string `json:"pods"`
	CRI  string   `json:"cri,omitempty"`
}

func (*EndPods) Kind() string { return "end-pods" }

func (a *EndPods) Title() string { return "Stop " + strings.Join(a.Pods, ", ") + " over CRI" }

func (a *EndPods) Commands() []string { return crictl(a.CRI, "stopp", a.Pods) }

func crictl(endpoint, verb string, pods []string) []string {
	tool := "crictl"
	if endpoint != "" {
		tool = trust.Shell("crictl -r %s", endpoint)
	}
	var cmds []string
	for _, p := range pods {
		cmds = append(cmds, trust.Shell("%[1]s %[2]s $(%[1]s pods -q --namespace %[3]s --name %[4]s)", trust.Raw(tool), verb, namespace, "^"+regexp.QuoteMeta(p)+"$"))
	}
	return cmds
}

func (a *EndPods) do(ctx context.Context, r *run) (State, error) {
	ended := false
	for _, pod := range a.Pods {
		boxes, err := r.pods(ctx, pod)
		if err != nil {
			return Failed, err
		}
		for _, b := range boxes {
			if !b.Ready && len(running(b)) == 0 {
				continue
			}
			if err := r.insist(ctx, func(ctx context.Context) error { return r.world.StopSandbox(ctx, b.ID) }); err != nil {
				return Failed, fmt.Errorf("stop the sandbox of %s: %w", pod, err)
			}
			ended = true
			if len(running(b)) > 0 {
				r.halted[pod] = true
			}
			r.point("in the middle", r.action.ID)
		}
	}
	if !ended {
		return Already, nil
	}
	return Done, nil
}

func (a *EndPods) places(v *vetter) {
	v.pod(a.Pods...)
}

func (*EndPods) undo() []Action { return nil }

// WaitGone waits until no container of a pod runs.
type WaitGone struct {
	Pod   string        `json:"pod"`
	File  string        `json:"file"`            // its manifest, which is out
	Grace time.Duration `json:"grace,omitempty"` // kubelet's, when it isn't ended over CRI
}

func (*WaitGone) Kind() string { return "wait-gone" }

func (a *WaitGone) Title() string { return "Wait until the containers of " + a.Pod + " are gone" }

func (a *WaitGone) Commands() []string {
	return []string{whileReady(a.Pod)}
}

func whileReady(pod string) string {
	return trust.Shell("while crictl pods -q --state ready --namespace %s --name %s | grep -q .; do sleep 0.1; done", namespace, "^"+pod+"$")
}

func (a *WaitGone) limit(p pace) time.Duration { return max(p.gone, a.Grace+p.end) }

func (a *WaitGone) do(ctx context.Context, r *run) (State, error) {
	back := comeback{}
	begun := r.now()
	unseen := a.Grace == 0 && r.unseen
	return r.poll(ctx, a.limit(r.pace), r.pace.lookCRI, func(ctx context.Context) (sight, error) {
		if err := movedBack(a.File); err != nil {
			return sight{}, err
		}
		boxes, err := r.boxes(ctx, a.Pod)
		if err != nil {
			return sight{}, err
		}
		if back.look(boxes) >= 2 {
			return sight{}, comesBack(a.Pod)
		}
		gone := !anyReady(boxes)
		if !gone {
			r.runsOn(a.Pod)
			if unseen && r.now().Sub(begun) > r.pace.noticed {
				return sight{}, ignores("kubelet starts %s once more although its manifest is gone", a.Pod)
			}
			return sight{seen: []Sighting{{What: a.Pod, Is: sayPod(boxes)}}}, nil
		}
		s := sight{ok: true, seen: []Sighting{{What: a.Pod, Is: sayPod(boxes), OK: true}}}
		ended := r.endOf(a.Pod)
		if unseen {
			// Kubelet was not seen to begin: it ends the pod now, or starts it again, or
			// leaves it as it is, where it waits before it starts it again.
			_, cgroups := r.remains(boxes)
			s.ok = cgroups == 0
			s.seen = append(s.seen, Sighting{What: "cgroup", Is: sayCgroup(cgroups, r.now().Sub(ended)), OK: s.ok})
			if !s.ok && r.now().Sub(begun) > r.pace.stopping-r.pace.noticed {
				return s, ignores("kubelet doesn't clean up %s, although its manifest is gone", a.Pod)
			}
		}
		return s, nil
	}, func(sight) error {
		return ignores("the containers of %s stay although its manifest is gone", a.Pod)
	})
}

func (a *WaitGone) places(v *vetter) {
	v.pod(a.Pod)
	v.manifestIf(a.File)
}

func (*WaitGone) undo() []Action { return nil }

// comeback counts the containers that were started after a pod had ended.
type comeback struct {
	known map[string]bool
	new   int
}

func (c *comeback) look(boxes []node.Sandbox) int {
	first := c.known == nil
	if first {
		c.known = map[string]bool{}
	}
	for _, b := range boxes {
		for _, k := range b.Containers {
			if !c.known[k.ID] {
				c.known[k.ID] = true
				if !first {
					c.new++
				}
			}
		}
	}
	return c.new
}

func comesBack(pod string) error {
	return ignores("kubelet starts %s again and again although its manifest is gone", pod)
}

// WaitForgotten waits until kubelet has finished with pods: only then may a
// new pod of the same name start; put in too early it is refused and tried
// again after 10 to 15 s (allowStaticPodStart, pod_workers.go 1.34). Finished
// is: no container, no cgroup, no pod directory, and 2.2 s since the last
// container ended (measured; the first three alone prove nothing).
//
// Kubelet removes the cgroup as the last thing before it finishes
// (SyncTerminatedPod), which is on the first list of the runtime's containers
// after the end, so 0 to 1 s later; or housekeeping has removed it before. When
// the next pod may get a fresh annotation, the cgroup's end is the moment to
// try: WaitStarted sees whether it was too early.
type WaitForgotten struct {
	Pods  []string `json:"pods"`
	Files []string `json:"files"` // their manifests, which are out
	// Grace is how long kubelet may leave their containers, for a pod that was
	// started a moment before its manifest was taken out again.
	Grace time.Duration `json:"grace,omitempty"`
	// Fresh says that the next pods have other UIDs, and may get yet others.
	Fresh bool `json:"fresh,omitempty"`
	// Later says that the cleanup is waited for once more, before the next pod goes
	// in: here it is enough that what ran was stopped, or has ended where kubelet
	// gives it no time.
	Later bool `json:"later,omitempty"`
	// Same says that what went out goes in again: to a kubelet that has not seen it
	// go it is the pod that it has.
	Same bool `json:"same,omitempty"`
	// Lists says that the next pod can't get another UID, and that kubelet's lists
	// are counted to know when it has finished. Where that can't be seen, it gets the
	// time that it takes at most.
	Lists bool `json:"lists,omitempty"`
}

func (*WaitForgotten) Kind() string { return "wait-forgotten" }

func (a *WaitForgotten) Title() string {
	return "Wait for the cleanup of " + strings.Join(a.Pods, ", ")
}

func (a *WaitForgotten) Commands() []string {
	var cmds []string
	for _, p := range a.Pods {
		cmds = append(cmds, whileReady(p))
	}
	return append(cmds, trust.Shell("sleep %.1f", realPace.settle.Seconds()))
}

func (a *WaitForgotten) limit(p pace) time.Duration { return p.forgotten + a.Grace }

func (a *WaitForgotten) do(ctx context.Context, r *run) (State, error) {
	back := comeback{}
	begun := r.now()
	_, err := r.world.PodsBegun()
	seesPods := err == nil && !r.freshKubelet()
	// A kubelet that was restarted while the API was away ignores removals until it
	// has seen the API, and asks for it with growing pauses. Now that the API is
	// back it will.
	sources := time.Duration(0)
	if !r.away && (r.mem.KubeletRestarted || r.world.KubeletRestarted()) {
		sources = r.pace.sources
	}
	last := map[string][]node.Sandbox{}
	state, err := r.poll(ctx, a.limit(r.pace)+sources, r.pace.lookCRI, func(ctx context.Context) (sight, error) {
		if err := movedBack(a.Files...); err != nil {
			return sight{}, err
		}
		var ended time.Time
		var all []node.Sandbox
		s := sight{ok: true}
		for _, pod := range a.Pods {
			boxes, err := r.boxes(ctx, pod)
			if err != nil {
				return sight{}, err
			}
			all = append(all, boxes...)
			gone := !anyReady(boxes)
			s.ok = s.ok && gone
			last[pod] = boxes
			s.seen = append(s.seen, Sighting{What: pod, Is: sayPod(boxes), OK: gone})
			if gone && r.plan.etcdIs(pod) {
				s.etcd = EtcdStopped
			}
			if !gone {
				r.runsOn(pod)
			} else if end := r.endOf(pod); end.After(ended) {
				ended = end
			}
		}
		if back.look(all) >= 2 {
			return sight{}, comesBack(strings.Join(a.Pods, ", "))
		}
		if !s.ok {
			patience := r.pace.end + a.Grace + sources
			if a.Grace > 0 && r.unseen {
				patience = r.pace.noticed
			}
			if r.now().Sub(begun) > patience && !r.mem.KubeletRestarted {
				return s, ignores("%s still runs although its manifest is gone", strings.Join(a.Pods, ", "))
			}
			return s, nil
		}
		if !a.Fresh && r.now().Sub(begun) <= r.pace.end { // a fresh one is told from it by WaitStarted
			late, err := r.underWay(ctx, a.Pods)
			if err != nil {
				return sight{}, err
			}
			if late {
				s.ok = false
				s.seen = append(s.seen, Sighting{What: "kubelet", Is: "has begun with a pod, which has no container yet"})
				for _, pod := range a.Pods {
					r.runsOn(pod)
				}
				return s, nil
			}
		}
		if a.Later && (a.Grace == 0 || !slices.ContainsFunc(a.Pods, func(pod string) bool { return !r.halted[pod] })) {
			return s, nil
		}
		if r.mem.KubeletRestarted && r.away {
			return s, nil // this kubelet never knew the pods, and cleans up nothing before it has seen the API
		}
		dirs, cgroups := r.remains(all)
		since := r.now().Sub(ended)
		if a.Fresh && seesPods && since < r.pace.settle {
			s.ok = cgroups == 0
			s.seen = append(s.seen, Sighting{What: "cgroup", Is: sayCgroup(cgroups, since), OK: s.ok})
			return s, nil
		}
		if a.Lists && seesPods && since < r.pace.settle {
			if lists, known := r.listed(ctx, a.Pods, cgroups == 0); known {
				s.ok = r.finished(a.Pods, cgroups == 0 && lists > 0)
				s.seen = append(s.seen,
					Sighting{What: "cgroup", Is: sayCgroup(cgroups, since), OK: cgroups == 0},
					Sighting{What: "kubelet", Is: sayLists(lists), OK: lists > 0})
				return s, nil
			}
		}
		left := dirs + cgroups
		s.seen = append(
			s.seen,
			Sighting{What: "left over", Is: sayLeft(left), OK: left == 0},
			Sighting{What: "kubelet", Is: fmt.Sprintf("%.1f s of %.1f s since the end", min(since, r.pace.settle).Seconds(), r.pace.settle.Seconds()), OK: since >= r.pace.settle},
		)
		// What is left of a pod after that long doesn't go away any more; the
		// next step can live with it.
		s.ok = since >= r.pace.settle && (left == 0 || since > r.pace.end || a.Same && r.unseen)
		return s, nil
	}, func(sight) error {
		return ignores("kubelet doesn't finish with %s", strings.Join(a.Pods, ", "))
	})
	if err != nil {
		return state, err
	}
	for pod, boxes := range last {
		r.rememberPods(pod, boxes)
	}
	return state, nil
}

// listed is how many lists of containers kubelet has made since pods have ended;
// the first look begins to count. Each takes kubelet 10 ms, so it is asked again
// only when that decides. Its API server is down, but kubelet remembers for 5
// minutes who may read its metrics, which [WaitRelist] has read.
func (r *run) listed(ctx context.Context, pods []string, again bool) (lists int, known bool) {
	key := strings.Join(pods, " ")
	e := r.lists[key]
	if e == nil {
		n, err := r.world.Relists(ctx)
		e = &endLists{first: n, known: err == nil}
		r.lists[key] = e
		return 0, e.known
	}
	if again && e.known && e.more == 0 {
		n, err := r.world.Relists(ctx)
		e.more, e.known = n-e.first, err == nil
	}
	return e.more, e.known
}

// finished says whether pods have been seen finished for long enough that kubelet
// has noted it, too: it removes the cgroup a moment before.
func (r *run) finished(pods []string, now bool) bool {
	e := r.lists[strings.Join(pods, " ")]
	switch {
	case !now:
		e.finished = time.Time{}
	case e.finished.IsZero():
		e.finished = r.now()
	}
	return now && r.now().Sub(e.finished) >= r.pace.finish
}

// runsOn forgets that a pod has ended.
func (r *run) runsOn(pod string) {
	delete(r.mem.Ended, pod)
	for pods := range r.lists {
		if slices.Contains(strings.Fields(pods), pod) {
			delete(r.lists, pods)
		}
	}
}

func sayLists(n int) string {
	if n == 0 {
		return "has not listed its containers since the end"
	}
	return "has listed its containers since the end"
}

// remains counts what kubelet has left of pods.
func (r *run) remains(boxes []node.Sandbox) (dirs, cgroups int) {
	for _, b := range boxes {
		rest := r.world.Remains(b.UID)
		cgroups += len(rest.Cgroups)
		if rest.PodDir {
			dirs++
		}
	}
	return dirs, cgroups
}

func (a *WaitForgotten) places(v *vetter) {
	v.pod(a.Pods...)
	v.manifestIf(a.Files...)
}

func (*WaitForgotten) undo() []Action { return nil }

// WaitStarted waits for a running container of a pod that was put in.
type WaitStarted struct {
	Pod  string `json:"pod"`
	File string `json:"file"`
	// Fresh says that the pod has another UID than those that were there
	// before. Only such a pod may be helped by an annotation when kubelet
	// refuses it: a manifest that has to stay byte for byte isn't touched.
	Fresh bool `json:"fresh,omitempty"`
}

func (*WaitStarted) Kind() string { return "wait-started" }

func (a *WaitStarted) Title() string { return "Wait until kubelet starts " + a.Pod }

func (a *WaitStarted) Commands() []string {
	return []string{trust.Shell("until crictl ps -q --state running --label io.kubernetes.pod.name=%s | grep -q .; do sleep 0.1; done", a.Pod)}
}

func (*WaitStarted) limit(p pace) time.Duration { return p.started }

func (a *WaitStarted) do(ctx context.Context, r *run) (State, error) {
	if a.Fresh {
		if _, err := r.retryPod(ctx, a.Pod, a.File); err != nil {
			return Failed, err
		}
	}
	old := r.mem.Pods[a.Pod]
	tries := starts{}
	refusal := refusal{run: r, pod: a.Pod, since: r.now()}
	latest, err := a.latest()
	if err != nil {
		return Failed, err
	}
	state, err := r.poll(ctx, a.limit(r.pace), r.pace.lookCRI, func(ctx context.Context) (sight, error) {
		boxes, err := r.boxes(ctx, a.Pod)
		if err != nil {
			return sight{}, err
		}
		var mine *node.Sandbox
		for i, b := range boxes {
			if !a.Fresh && (b.Ready || len(running(b)) > 0) || a.Fresh && !slices.Contains(old, b.UID) && latest.made(b) {
				mine = &boxes[i]
				break
			}
		}
		if mine == nil {
			if a.Fresh && refusal.look() {
				if err := a.retry(ctx, r); err != nil {
					return sight{}, err
				}
				if latest, err = a.latest(); err != nil {
					return sight{}, err
				}
			}
			return sight{seen: []Sighting{{What: "pod", Is: sayOld(old) + "not created yet"}, {What: "container", Is: "not created yet"}}}, nil
		}
		*mine = r.program(a.Pod, *mine)
		up := running(*mine)
		s := sight{ok: len(up) > 0, seen: []Sighting{
			{What: "pod", Is: sayOld(old) + short(mine.UID) + " created", OK: true},
			{What: "container", Is: sayContainers(mine.Containers), OK: len(up) > 0},
		}}
		if n := tries.look(r.since(a.Pod, mine.Containers)); len(up) == 0 && n >= 3 {
			return s, r.crashed(a.Pod, *mine)
		}
		return s, nil
	}, func(s sight) error {
		hint := lookAtKubelet + "; retry gives the pod a fresh UID, which kubelet tries at once"
		if !a.Fresh {
			hint = lookAtKubelet + ", restart kubelet, then retry; the manifest stays byte for byte, so the pod keeps its UID"
		}
		return stuck(hint, "kubelet has not started %s", a.Pod)
	})
	if err == nil {
		delete(r.mem.Begun, a.Pod) // nothing of it is under way any more
	}
	return state, err
}

// annotated is a pod by the annotation that its manifest has.
type annotated string

// latest is the pod that the manifest defines now. Kubelet may have begun with
// the one before just when that was helped, and then ends it.
func (a *WaitStarted) latest() (annotated, error) {
	if !a.Fresh {
		return "", nil
	}
	var pod corev1.Pod
	data, err := os.ReadFile(a.File)
	if err != nil {
		return "", err
	}
	if err = trust.YAML(data); err == nil {
		err = yaml.Unmarshal(data, &pod)
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", a.File, err)
	}
	return annotated(pod.Annotations[restartedAt]), nil
}

// made says whether a sandbox is that pod's. A runtime that gives no
// annotations is not asked for more.
func (t annotated) made(b node.Sandbox) bool {
	is := b.Annotations[restartedAt]
	return t == "" || is == "" || is == string(t)
}

// refusal decides when a pod that was put in counts as refused. What kubelet
// accepts shows at once, in directories; where these can't be seen, or stay
// all that is seen, a sandbox has to come.
type refusal struct {
	*run
	pod   string
	since time.Time // the pod was put in, or helped last
	begun bool      // kubelet has begun with another since then
	times int
}

// look says whether it is time to help the pod, once each time it is.
func (f *refusal) look() bool {
	if f.freshKubelet() {
		return false
	}
	limit := f.pace.unseen
	if begun, err := f.begunSince(f.pod); err == nil && !f.begun {
		limit = f.pace.refused
		if len(begun) > 0 {
			f.begun, f.since = true, f.now()
			return false
		}
	}
	waited := f.now().Sub(f.since)
	// Each time half as long again: a kubelet that is slow to begin must not be
	// disturbed for ever.
	for range f.times {
		limit += limit / 2
	}
	if f.times >= 10 || waited < limit {
		return false
	}
	f.times++
	f.begun, f.since = false, f.now()
	f.rememberBegun(f.pod)
	f.say("kubelet has not begun with the pod after %.1f s: a fresh annotation makes it try at once", waited.Seconds())
	return true
}

// retry gives the pod a fresh UID: kubelet tries such a pod at once (2 of 2
// measured, started after 0.7 s).
func (a *WaitStarted) retry(_ context.Context, r *run) error {
	if !a.Fresh {
		return nil
	}
	return freshUID(a.File, r.now())
}

func (a *WaitStarted) places(v *vetter) {
	v.pod(a.Pod)
	v.manifestIf(a.File)
}

func (*WaitStarted) undo() []Action { return nil }

// ForgetPods removes ended sandboxes and their containers from the runtime.
// Logs stay.
type ForgetPods struct {
	Pods []string `json:"pods"`
	CRI  string   `json:"cri,omitempty"`
}

func (*ForgetPods) Kind() string { return "forget-pods" }

func (a *ForgetPods) Title() string {
	return "Remove the ended containers of " + strings.Join(a.Pods, ", ")
}

func (a *ForgetPods) Commands() []string { return crictl(a.CRI, "rmp", a.Pods) }

func (a *ForgetPods) do(ctx context.Context, r *run) (State, error) {
	state := Already
	for _, pod := range a.Pods {
		boxes, err := r.pods(ctx, pod)
		if err != nil {
			return Failed, err
		}
		for _, b := range boxes {
			if b.Ready || len(running(b)) > 0 {
				continue
			}
			if err := r.insist(ctx, func(ctx context.Context) error { return r.world.RemoveSandbox(ctx, b.ID) }); err != nil {
				return Failed, fmt.Errorf("remove the sandbox of %s: %w", pod, err)
			}
			state = Done
		}
	}
	return state, nil
}

func (a *ForgetPods) places(v *vetter) {
	v.pod(a.Pods...)
}

func (*ForgetPods) undo() []Action { return nil }

// RestartKubelet runs the command that restarts kubelet, and waits until it
// answers again.
type RestartKubelet struct {
	Command string `json:"command"`
	// Optional has a failure told and noted for the report; the run goes on.
	Optional bool `json:"optional,omitempty"`
}

func (*RestartKubelet) Kind() string { return "restart-kubelet" }

func (*RestartKubelet) Title() string { return "Restart kubelet" }

func (a *RestartKubelet) Commands() []string { return []string{a.Command} }

func (a *RestartKubelet) do(ctx context.Context, r *run) (State, error) {
	state, err := a.restart(ctx, r)
	if err == nil || !a.Optional || errors.Is(err, errStopped) {
		return state, err
	}
	cause, _ := problem.Explain(err)
	r.note("kubelet", "%s. Until it is restarted, it may miss changes", cause)
	r.say("%s; all else is done", cause)
	return Warned, nil
}

func (a *RestartKubelet) restart(ctx context.Context, r *run) (State, error) {
	limited, cancel := context.WithTimeout(ctx, 2*r.pace.kubelet)
	defer cancel()
	if err := r.world.Shell(limited, a.Command); err != nil {
		return Failed, stuck("name one that works with --kubelet-restart-command", "the command that restarts kubelet failed: %w", err)
	}
	if !a.Optional {
		r.mem.KubeletRestarted = true
		r.unseen = false // this kubelet never saw the manifest
	}
	if r.plan.Reach.Kubelet.HealthzURL == "" {
		return Done, nil // switched off: it can't be asked
	}
	return r.poll(ctx, r.pace.kubelet, r.pace.lookAPI, func(ctx context.Context) (sight, error) {
		err := r.world.KubeletHealthy(ctx)
		is := "healthy"
		if err != nil {
			is = err.Error()
		}
		return sight{ok: err == nil, seen: []Sighting{{What: "kubelet", Is: is, OK: err == nil}}}, nil
	}, func(sight) error {
		return stuck(lookAtKubelet, "kubelet doesn't answer after its restart")
	})
}

func (*RestartKubelet) places(*vetter) {} // the command: see checkRestart

func (*RestartKubelet) undo() []Action { return nil }
