// Package conformance has a table of kubelet's rules for static pods, and one of
// systemd's for services. The first runs against the real kubelet, the practice
// kubelet, and the fake node of the crash matrix in steps, the second against the
// real systemd and that node's. Restoring a node is not part of it.
package conformance

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"etcd-rewind/node"
)

// Runtime is how its containers are seen and stopped.
type Runtime interface {
	Pod(ctx context.Context, namespace, name string) ([]node.Sandbox, error)
	StopSandbox(ctx context.Context, id string) error
}

// Kubelet is the one that is looked at.
type Kubelet struct {
	Manifests string // its static pod directory
	NodeName  string
	Runtime   Runtime
	Image     string // one that has a sleep
	// ListsAtOnce says that it reads its directory all the time, and not by a
	// list every 20 s, so that nothing can change later.
	ListsAtOnce bool
	// Remains looks for what kubelet hasn't cleared away of a pod; nil when it
	// can't be seen from here.
	Remains func(uid string) node.Remains
	// Mirrors says that its pods have mirrors in an API server. An event of a
	// mirror makes kubelet look again at a pod that it has refused, sooner than
	// after 10 to 15 s.
	Mirrors bool
	// Relists is how often it has listed its containers, by its metrics.
	Relists func(ctx context.Context) (int, error)
	// ListsSeldom says that it lists them every 300 s and not every second, because
	// the runtime reports what happens: EventedPLEG, until 1.36. It then takes what
	// it knows of a pod for current only every 5 s (globalCacheUpdatePeriod,
	// pkg/kubelet/pleg/evented.go), so it may begin that much later.
	ListsSeldom bool
	// Begun are the pods that kubelet has begun with.
	Begun func() (map[string]bool, error)
	// Busy is how many times its bounds it may take now: other programs want the
	// CPUs. Once when nil.
	Busy func() float64
}

// late says whether more than the most that something may take is over.
func (k Kubelet) late(took, most time.Duration) bool {
	busy := 1.0
	if k.Busy != nil {
		busy = k.Busy()
	}
	if k.ListsSeldom {
		most += 5 * time.Second
	}
	return took.Seconds() > most.Seconds()*busy
}

// Run runs the table. The cases run at the same time, each on a pod of its own
// in the namespace default; times are bounds, in which a slow machine fits.
func Run(t *testing.T, k Kubelet) { run(t, k, func(kase) bool { return true }) }

// RunShort leaves out the two cases that take a minute and more.
func RunShort(t *testing.T, k Kubelet) { run(t, k, func(c kase) bool { return !c.long }) }

// RunLists runs only the case of how kubelet lists its containers.
func RunLists(t *testing.T, k Kubelet) { run(t, k, func(c kase) bool { return c.pod == "metrics" }) }

func run(t *testing.T, k Kubelet, meant func(kase) bool) {
	run := time.Now().UTC().Format(time.RFC3339Nano)
	var rules []rule
	for _, c := range cases {
		if meant(c) {
			rules = append(rules, rule{c.name, c.alone, func(t *testing.T) {
				p := &pod{t: t, k: k, name: "conformance-" + c.pod, run: run, begun: time.Now()}
				t.Cleanup(p.remove)
				c.run(p)
			}})
		}
	}
	runRules(t, rules)
}

// rule is one of a table, as it is run.
type rule struct {
	name  string
	alone bool
	run   func(t *testing.T)
}

// runRules runs them at the same time, and then, one after the other, those that are
// to be alone. Not t.Parallel: they do little but wait, and -parallel follows the CPUs.
func runRules(t *testing.T, rules []rule) {
	var all sync.WaitGroup
	for _, r := range rules {
		if !r.alone {
			all.Go(func() { t.Run(r.name, r.run) })
		}
	}
	all.Wait()
	for _, r := range rules {
		if r.alone {
			t.Run(r.name, r.run)
		}
	}
}

type kase struct {
	name, pod string
	long      bool
	alone     bool // after the others
	run       func(p *pod)
}

var cases = []kase{
	{name: "a manifest that is put in is started", pod: "in", run: func(p *pod) {
		p.put("a", 0)
		p.starts("a", 6*time.Second)
	}},
	{name: "a manifest that is taken out is ended", pod: "out", run: func(p *pod) {
		p.put("a", 0)
		p.starts("a", 6*time.Second)
		p.out()
		p.ends(6 * time.Second)
	}},
	{name: "its metrics count a list of containers every second, or none for minutes", pod: "metrics", run: func(p *pod) {
		if p.k.ListsSeldom {
			p.listsSeldom(4 * time.Second)
			return
		}
		p.relists(4 * time.Second)
		var all time.Duration // a look that comes late makes the next one early
		for range 3 {
			took := p.relists(4 * time.Second)
			all += took
			p.t.Logf("listed after %s", took.Round(time.Millisecond))
		}
		if all < 2*time.Second {
			p.t.Errorf("three more lists came within %s", all)
		}
	}},
	{name: "a dot-file is ignored", pod: "dot", run: func(p *pod) {
		p.write(".conformance-dot.yaml", p.text("a", 0))
		p.stays(3*time.Second, func(boxes []node.Sandbox) string {
			if len(boxes) > 0 {
				return "a pod was made of a dot-file"
			}
			return ""
		})
	}},
	{name: "a changed comment is no change", pod: "comment", run: func(p *pod) {
		p.put("a", 0)
		p.starts("a", 6*time.Second)
		uid := p.uid()
		p.rename("# another comment\n" + p.text("a", 0))
		p.stays(4*time.Second, func(boxes []node.Sandbox) string {
			if len(boxes) != 1 || boxes[0].UID != uid || !boxes[0].Ready {
				return "the pod was re-created"
			}
			return ""
		})
	}},
	{name: "an edit in place ends the old pod at once and starts the new one late", pod: "edit", run: func(p *pod) {
		p.put("a", 0)
		p.starts("a", 6*time.Second)
		p.edit(p.text("b", 0))
		p.ends(6 * time.Second)
		p.startsLate("b", 7*time.Second)
	}},
	{name: "a rename over it does the same", pod: "rename", run: func(p *pod) {
		p.put("a", 0)
		p.starts("a", 6*time.Second)
		p.rename(p.text("b", 0))
		p.ends(6 * time.Second)
		p.startsLate("b", 7*time.Second)
	}},
	{name: "a changed one that is back too early waits", pod: "early", run: func(p *pod) {
		p.put("a", 0)
		p.starts("a", 6*time.Second)
		p.out()
		time.Sleep(100 * time.Millisecond) // what is too early is a time: kubelet has seen it go by then
		p.put("b", 1)
		p.startsLate("b", 5*time.Second)
	}},
	{name: "a changed one starts at once when the old one is forgotten", pod: "forgotten", run: func(p *pod) {
		p.put("a", 0)
		p.starts("a", 6*time.Second)
		p.out()
		p.forgotten()
		p.put("b", 1)
		p.starts("b", 4*time.Second)
	}},
	{name: "one that was refused is started at once when it is changed", pod: "helped", run: func(p *pod) {
		p.put("a", 0)
		p.starts("a", 6*time.Second)
		p.edit(p.text("b", 0))
		p.forgotten()
		p.edit(p.text("b", 1))
		p.starts("b", 5*time.Second)
	}},
	{name: "an identical one waits once its containers were killed often and a changed one never", pod: "again", long: true, run: func(p *pod) {
		p.put("a", 0)
		p.starts("a", 6*time.Second)
		// An end counts when kubelet still finds the container at the next start.
		// Its garbage collection, once a minute, may have taken one away, and so
		// may kubelet when it has ended the pod before it notices the kill.
		for tries := 1; ; tries++ {
			p.out()
			p.kill()
			p.put("a", 0)
			if p.starts("a", 70*time.Second) >= 8*time.Second {
				break
			}
			if tries == 10 { // on a busy machine most kills come too late
				p.t.Fatalf("it doesn't wait after it was killed %d times", tries)
			}
		}
		p.out()
		p.kill()
		p.forgotten()
		p.put("a", 1)
		p.starts("a", 5*time.Second)
	}},
	{name: "a sandbox that is stopped over CRI comes back while its manifest is in", pod: "stopped", run: func(p *pod) {
		p.put("a", 0)
		p.starts("a", 6*time.Second)
		old := p.look()[0].ID
		if err := p.k.Runtime.StopSandbox(p.t.Context(), old); err != nil {
			p.t.Fatal(err)
		}
		p.begun = time.Now()
		p.until(8*time.Second, "another sandbox", func(boxes []node.Sandbox) bool { return boxes[0].ID != old })
		// At once, but for a kubelet that lists while the container has ended
		// and the sandbox hasn't: it tries the container in the old sandbox, and
		// that counts for the back-off of 10 s, with 10 to 15 s between two tries
		// (seen on 1.34.4).
		p.starts("a", 30*time.Second)
	}},
	{name: "of two files with one pod the last by name wins, and still does after the next list", pod: "stray", long: true, run: func(p *pod) {
		p.put("a", 0)
		p.starts("a", 6*time.Second)
		p.write("conformance-stray.yaml.bak", p.text("copy", 0))
		p.starts("copy", 60*time.Second)
		next := 22 * time.Second
		if p.k.ListsAtOnce {
			next = time.Second
		}
		p.stays(next, func(boxes []node.Sandbox) string {
			if running(boxes[0]) != "copy" {
				return "it doesn't stay"
			}
			return ""
		})
	}},
	// Alone: it sees what kubelet begins with, whichever pod it is.
	{name: "what is accepted shows before its sandbox does, and what is refused doesn't", pod: "begun", alone: true, run: func(p *pod) {
		known := p.begins()
		p.put("a", 0)
		p.beginsAnother(known, 500*time.Millisecond)
		p.starts("a", 6*time.Second)
		known = p.begins()
		p.edit(p.text("b", 0))
		p.ends(6 * time.Second)
		p.stays(3*time.Second, func([]node.Sandbox) string {
			for uid := range p.begins() {
				if !known[uid] {
					return "it shows pod " + uid
				}
			}
			return ""
		})
		p.edit(p.text("b", 1))
		p.beginsAnother(known, 500*time.Millisecond)
		p.starts("b", 5*time.Second)
	}},
}

// pod is the static pod of one case.
type pod struct {
	t     *testing.T
	k     Kubelet
	name  string
	run   string    // makes other pods than the run before: kubelet's back-off remembers those
	begun time.Time // of what is waited for
	// started is the UID of the pod that ran last: kubelet removes its
	// sandboxes when it has forgotten it.
	started string
}

func (p *pod) file() string { return p.name + ".yaml" }

// text is a manifest with one container of that name. Another note makes
// another pod.
func (p *pod) text(container string, note int) string {
	return fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata:
  name: %s
  namespace: default
  annotations:
    note: "%d of %s"
spec:
  hostNetwork: true
  terminationGracePeriodSeconds: 1
  containers:
  - name: %s
    image: %s
    command: [sleep, infinity]
`, p.name, note, p.run, container, p.k.Image)
}

// put puts the manifest in by a rename: one event.
func (p *pod) put(container string, note int) { p.rename(p.text(container, note)) }

func (p *pod) rename(text string) {
	p.t.Helper()
	tmp := p.write("."+p.file()+".new", text)
	p.begun = time.Now()
	if err := os.Rename(tmp, filepath.Join(p.k.Manifests, p.file())); err != nil {
		p.t.Fatal(err)
	}
}

// edit writes over the file in place.
func (p *pod) edit(text string) {
	p.t.Helper()
	p.begun = time.Now()
	p.write(p.file(), text)
}

func (p *pod) write(name, text string) string {
	p.t.Helper()
	path := filepath.Join(p.k.Manifests, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
	return path
}

func (p *pod) out() {
	p.t.Helper()
	p.begun = time.Now()
	// Elsewhere on the same file system, as the engine does.
	to := filepath.Join(filepath.Dir(p.k.Manifests), p.file()+".out")
	if err := os.Rename(filepath.Join(p.k.Manifests, p.file()), to); err != nil {
		p.t.Fatal(err)
	}
	if err := os.Remove(to); err != nil {
		p.t.Fatal(err)
	}
}

func (p *pod) remove() {
	for _, name := range []string{p.file(), p.file() + ".bak", "." + p.file(), "." + p.file() + ".new"} {
		_ = os.Remove(filepath.Join(p.k.Manifests, name))
	}
}

func (p *pod) look() []node.Sandbox {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	boxes, err := p.k.Runtime.Pod(ctx, "default", p.name+"-"+p.k.NodeName)
	if err != nil {
		p.t.Fatal(err)
	}
	return boxes
}

func (p *pod) uid() string { return p.look()[0].UID }

func running(b node.Sandbox) string {
	for _, c := range b.Containers {
		if b.Ready && c.State == node.Running {
			return c.Name
		}
	}
	return ""
}

// until waits for what the newest sandboxes show; never without one.
func (p *pod) until(limit time.Duration, what string, ok func([]node.Sandbox) bool) time.Duration {
	p.t.Helper()
	for {
		boxes := p.look()
		took := time.Since(p.begun)
		if len(boxes) > 0 && ok(boxes) {
			return took
		}
		if p.k.late(took, limit) {
			p.t.Fatalf("%s: not within %s; sandboxes: %+v", what, limit, boxes)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// starts waits for a running container, and says how long after the last
// change of the manifest it runs.
func (p *pod) starts(container string, most time.Duration) time.Duration {
	p.t.Helper()
	took := p.until(most, "a running container "+container, func(boxes []node.Sandbox) bool { return running(boxes[0]) == container })
	p.started = p.uid()
	p.t.Logf("container %s runs after %s", container, took.Round(time.Millisecond))
	return took
}

// startsLate is for a pod that was refused.
func (p *pod) startsLate(container string, least time.Duration) {
	p.t.Helper()
	if p.k.Mirrors {
		least = time.Second
	}
	if took := p.starts(container, 30*time.Second); took < least {
		p.t.Errorf("container %s runs after %s, not before %s was expected", container, took.Round(time.Millisecond), least)
	}
}

// kill ends the pod over CRI soon after its manifest went out: what kubelet ends
// by itself it forgets at once. The runtime has no sign that kubelet has begun; a
// kubelet that hasn't after 300 ms starts another container, and ends that.
func (p *pod) kill() {
	p.t.Helper()
	time.Sleep(300 * time.Millisecond)
	for _, b := range p.look() {
		if err := p.k.Runtime.StopSandbox(p.t.Context(), b.ID); err != nil {
			p.t.Fatal(err)
		}
	}
	p.ends(8 * time.Second)
}

func (p *pod) ends(most time.Duration) {
	p.t.Helper()
	took := p.until(most, "the end of the pod", ended)
	p.t.Logf("ended after %s", took.Round(time.Millisecond))
}

func ended(boxes []node.Sandbox) bool {
	return !slices.ContainsFunc(boxes, func(b node.Sandbox) bool { return b.Alive() })
}

// forgotten waits as the engine does: nothing runs, nothing is left over, and
// 2.2 s have passed since the end, with some room. No state shows that kubelet has
// forgotten the pod: the rule is that this time is enough.
func (p *pod) forgotten() {
	p.t.Helper()
	p.ends(8 * time.Second)
	time.Sleep(2600 * time.Millisecond)
	if p.k.ListsSeldom { // seen on 1.36.3: nothing is left of the pod, and kubelet still waits
		time.Sleep(5 * time.Second)
	}
	if p.k.Remains == nil {
		return
	}
	uid := p.started
	for begun := time.Now(); !p.k.Remains(uid).None(); {
		if p.k.late(time.Since(begun), 8*time.Second) {
			p.t.Fatalf("left over of pod %s: %+v", uid, p.k.Remains(uid))
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (p *pod) begins() map[string]bool {
	p.t.Helper()
	uids, err := p.k.Begun()
	if err != nil {
		p.t.Fatal(err)
	}
	return uids
}

// beginsAnother waits until kubelet has begun with a pod that isn't known.
func (p *pod) beginsAnother(known map[string]bool, most time.Duration) {
	p.t.Helper()
	for {
		for uid := range p.begins() {
			if !known[uid] {
				p.t.Logf("begun with pod %s after %s", uid, time.Since(p.begun).Round(time.Millisecond))
				return
			}
		}
		if p.k.late(time.Since(p.begun), most) {
			p.t.Fatalf("kubelet has begun with nothing after %s", most)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// lists is how often kubelet has listed its containers. A busy one may leave out an
// answer; it has the most from begun on to give one.
func (p *pod) lists(begun time.Time, most time.Duration) int {
	p.t.Helper()
	for ; ; time.Sleep(100 * time.Millisecond) {
		n, err := p.k.Relists(p.t.Context())
		if err == nil {
			return n
		}
		if p.k.late(time.Since(begun), most) {
			p.t.Fatalf("no list within %s: %v", most, err)
		}
	}
}

// relists waits for the next list of containers.
func (p *pod) relists(most time.Duration) time.Duration {
	p.t.Helper()
	begun := time.Now()
	for first := p.lists(begun, most); p.lists(begun, most) == first; time.Sleep(100 * time.Millisecond) { // each answer takes kubelet 10 ms
		if p.k.late(time.Since(begun), most) {
			p.t.Fatalf("no list within %s", most)
		}
	}
	return time.Since(begun)
}

// listsSeldom sees no list of containers for a while, or the one of 300 s. The while
// itself is what is waited for: that nothing happens in it is the rule.
func (p *pod) listsSeldom(d time.Duration) {
	p.t.Helper()
	first := p.lists(time.Now(), 5*time.Second)
	time.Sleep(d)
	if n := p.lists(time.Now(), 5*time.Second) - first; n > 1 {
		p.t.Errorf("kubelet listed its containers %d times in %s: the runtime reports nothing", n, d)
	}
}

// stays looks for a while that nothing changes.
func (p *pod) stays(d time.Duration, wrong func([]node.Sandbox) string) {
	p.t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if w := wrong(p.look()); w != "" {
			p.t.Fatal(w)
		}
	}
}
