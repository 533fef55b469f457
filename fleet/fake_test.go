package fleet

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"etcd-rewind/manifest"
	"etcd-rewind/problem"
	"etcd-rewind/restore"
	"etcd-rewind/settle"
	"etcd-rewind/snapshot"
	"etcd-rewind/steps"
)

func TestMain(m *testing.M) {
	if os.Getenv("FLEET_TEST_AGENT") != "" {
		// A child that is started as `etcd-rewind agent` is.
		n := &fakeNode{w: &fakeWorld{}, name: os.Getenv("FLEET_TEST_AGENT"), dir: os.Getenv("FLEET_TEST_DIR")}
		_ = Serve(context.Background(), os.Stdin, os.Stdout, n, "test")
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

const theRun = "20261121-030000"

// fakeWorld is a cluster whose nodes are in memory. It notes every breach of
// what a fleet promises.
type fakeWorld struct {
	mu    sync.Mutex
	nodes []*fakeNode
	wrong []string
	next  func(*restore.NodeFacts) // changes what all nodes say
	undo  bool                     // a way back has begun: nodes are on both sides for a while
}

// fakeNode is what a node's disk and processes are: it outlives its agents.
type fakeNode struct {
	w    *fakeWorld
	name string
	dir  string // for its runs

	// By w.mu.
	api, etcd string // "old", "none", "new"
	state     steps.RunState
	done      int    // phases whose work is done
	past      int    // phases that were met
	last      string // kind of the plan that ran last
	locked    bool
	ran       []string // plans that were run: "run", "resume", "undo"
	fleet     *steps.Fleet

	// How it misbehaves.
	blocks    string              // a check that blocks
	fails     map[steps.Phase]int // how often the work of a phase fails
	hook      func(steps.Phase)   // called when the work of a phase is done, before its barrier
	undoFails int
	refuses   bool // another session holds its lock
	opening   bool // its runtime keeps a run waiting until that is stopped
	facts     func(*restore.NodeFacts)

	kubelet  *settle.Kubelet // nil for a node without one
	restarts int             // of kubelet
	stuck    error           // why it doesn't come up
}

func newFakeWorld(t *testing.T, names ...string) *fakeWorld {
	w := &fakeWorld{}
	for _, name := range names {
		w.nodes = append(w.nodes, &fakeNode{w: w, name: name, dir: t.TempDir(), api: "old", etcd: "old", fails: map[steps.Phase]int{}})
	}
	return w
}

func (w *fakeWorld) node(name string) *fakeNode {
	for _, n := range w.nodes {
		if n.name == name {
			return n
		}
	}
	return nil
}

// change is every change of a node; the promises are looked at after it.
func (n *fakeNode) change(what func()) {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	what()
	var old, new, served int
	for _, o := range n.w.nodes {
		switch o.etcd {
		case "old":
			old++
		case "new":
			new++
		}
		if o.api == "old" {
			served++
		}
	}
	q := quorum(len(n.w.nodes))
	if old >= q && new >= q {
		n.w.wrong = append(n.w.wrong, fmt.Sprintf("split: %d on the old data, %d on the new", old, new))
	}
	if !n.w.undo && new > 0 && old+served > 0 {
		n.w.wrong = append(n.w.wrong, fmt.Sprintf("%s: %d old etcds and %d old API servers while a restored etcd runs", n.name, old, served))
	}
}

// ready says whether the restored etcds have a quorum.
func (w *fakeWorld) ready() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.quorum()
}

func (w *fakeWorld) quorum() bool {
	new := 0
	for _, n := range w.nodes {
		if n.etcd == "new" {
			new++
		}
	}
	return new >= quorum(len(w.nodes))
}

func (w *fakeWorld) check(t *testing.T) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, m := range w.wrong {
		t.Error(m)
	}
}

// all says where the nodes are: "new/new" is restored, "old/old" as before.
func (w *fakeWorld) all() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []string
	for _, n := range w.nodes {
		out = append(out, n.api+"/"+n.etcd)
	}
	return out
}

func (n *fakeNode) Use(restore.Paths) {}

// Kubelet is that of a worker: what the node runs is its own to say.
func (n *fakeNode) Kubelet(context.Context) (*settle.Kubelet, error) {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	if n.kubelet == nil {
		return nil, problem.New("", "this node has no kubelet")
	}
	k := *n.kubelet
	return &k, nil
}

func (n *fakeNode) RestartKubelet(context.Context) error {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	n.restarts++
	return n.stuck
}

func (n *fakeNode) peer() []string {
	return []string{"https://10.0.0." + n.name[len(n.name)-1:] + ":2380"}
}

func (n *fakeNode) Facts(context.Context) (*restore.NodeFacts, error) {
	f := &restore.NodeFacts{
		Node: n.name, Member: n.name, StateDir: n.dir, PeerURLs: n.peer(),
		ReadyURL: "https://127.0.0.1:6443/readyz", APIReady: true, APIState: "ready",
		KubernetesVersion: "1.34.4", EtcdVersion: "3.6.10",
		Live: &restore.LiveEtcd{ClusterID: 1, Revision: 5000},
	}
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	for _, o := range n.w.nodes {
		f.Live.Members = append(f.Live.Members, manifest.Member{Name: o.name, PeerURLs: o.peer()})
	}
	if n.facts != nil {
		n.facts(f)
	}
	if n.w.next != nil {
		n.w.next(f)
	}
	return f, nil
}

func (n *fakeNode) Place(sha256 string) (string, error) {
	return filepath.Join(n.dir, "snapshot-"+sha256[:16]+".db"), nil
}

func (n *fakeNode) Check(_ context.Context, o Order, _ func()) ([]steps.Verdict, error) {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	n.fleet = o.Choices.Fleet
	if n.blocks != "" {
		return []steps.Verdict{{Check: n.blocks, Level: steps.Error, Cause: "it does"}}, nil
	}
	if o.Snapshot == "" {
		return nil, nil
	}
	_, err := os.Stat(o.Snapshot)
	return []steps.Verdict{{Check: "snapshot", Level: steps.Pass}}, err
}

func (n *fakeNode) plan(run, kind string) *steps.Plan {
	p := &steps.Plan{Run: run, Kind: kind, Node: n.name, RunDir: filepath.Join(n.dir, run)}
	for _, phase := range steps.Phases {
		p.Steps = append(p.Steps, steps.Step{ID: string(phase), Actions: []steps.Planned{{ID: string(phase), Action: &steps.WaitNodes{Phase: phase}}}})
	}
	return p
}

func (n *fakeNode) Plan(_ context.Context, o Order) (*steps.Plan, error) {
	p := n.plan(o.Choices.Fleet.Run, steps.KindRestore)
	p.Restore = &steps.RestoreFacts{Snapshot: o.Snapshot, SnapshotSHA256: o.SHA256, Token: o.Choices.Fleet.Token}
	return p, nil
}

func (n *fakeNode) PlanAgain(_ context.Context, v restore.Verb, run string) (*steps.Plan, error) {
	p := n.plan(run, map[restore.Verb]string{restore.Undo: steps.KindUndo, restore.Redo: steps.KindRedo, restore.Resume: steps.KindRestore}[v])
	if v == restore.Resume {
		p.Title = "Go on"
	}
	return p, nil
}

func (n *fakeNode) Runs(context.Context) ([]steps.RunInfo, error) {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	if n.state == "" {
		return nil, nil
	}
	return []steps.RunInfo{{
		Run: theRun, State: n.stands(), Dir: filepath.Join(n.dir, theRun),
		Undoing: n.last == steps.KindUndo, Redoing: n.last == steps.KindRedo,
	}}, nil
}

// stands is the state of the run as its journal has it.
func (n *fakeNode) stands() steps.RunState {
	if n.state == steps.RunUnfinished && n.last == steps.KindRestore && !n.touched() {
		return steps.RunUntouched // it was interrupted before it changed anything
	}
	return n.state
}

func (n *fakeNode) Busy(context.Context) error {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	if n.locked {
		return errors.New("another run is under way")
	}
	return nil
}

func (n *fakeNode) Run(ctx context.Context, p *steps.Plan, barrier steps.Barrier, sink func(steps.Event), ask steps.Asker) (*steps.Result, error) {
	if err := n.Busy(ctx); err != nil {
		return nil, err
	}
	if n.refuses {
		return nil, &problem.Problem{Cause: "another run is under way", Code: codeLocked}
	}
	if n.opening {
		<-ctx.Done()
		return steps.NotBegun("you stopped the run", "nothing was changed"), nil
	}
	n.change(func() { n.locked, n.last = true, p.Kind })
	defer n.change(func() { n.locked = false })
	if err := os.MkdirAll(p.RunDir, 0o700); err != nil {
		return nil, err
	}
	tell := func(ev steps.Event) {
		n.w.mu.Lock()
		away := n.api == "none"
		n.w.mu.Unlock()
		if away {
			one := 0.001
			ev.Away = &one
		}
		ev.Run = p.Run
		sink(ev)
	}
	tell(steps.Event{Type: steps.TypePlan, Plan: p})
	if p.Kind == steps.KindUndo {
		return n.goBack(tell, ask)
	}
	return n.restore(ctx, p, barrier, tell, ask)
}

func (n *fakeNode) touched() bool { return n.api != "old" || n.etcd != "old" }

func (n *fakeNode) restore(ctx context.Context, p *steps.Plan, barrier steps.Barrier, tell func(steps.Event), ask steps.Asker) (*steps.Result, error) {
	what := "run"
	switch {
	case p.Kind == steps.KindRedo:
		what = "redo"
	case p.Title == "Go on":
		what = "resume"
	}
	from, met := 0, 0
	n.change(func() {
		n.state = steps.RunUnfinished
		n.ran = append(n.ran, what)
		from, met = n.done, n.past
	})
	end := func(cause string) *steps.Result {
		res := &steps.Result{Error: &steps.Failure{Cause: cause}}
		n.change(func() {
			n.state = steps.RunFailed
			if res.Reverted = !n.touched(); res.Reverted {
				n.state = steps.RunUntouched
			}
		})
		return res
	}
	for i, phase := range steps.Phases {
		if i >= from {
			for {
				if ctx.Err() != nil {
					return end("you stopped the run"), nil
				}
				fails := false
				n.change(func() {
					if fails = n.fails[phase] > 0; fails {
						n.fails[phase]--
					}
				})
				if !fails {
					break
				}
				choices := []steps.Choice{steps.Revert, steps.Retry, steps.Leave}
				switch {
				case phase == steps.PhaseStaged:
					choices = []steps.Choice{steps.Leave, steps.Retry}
				case phase == steps.PhaseVerified:
					choices = []steps.Choice{steps.Leave, steps.Retry, steps.Revert}
				}
				f := steps.Failure{Cause: "the work of " + string(phase) + " fails", Choices: choices}
				tell(steps.Event{Type: steps.TypeAsk, Failure: &f})
				if ask(f) == steps.Retry {
					continue
				}
				return end(f.Cause), nil
			}
			n.change(func() {
				switch phase {
				case steps.PhaseAPIGone:
					n.api = "none"
				case steps.PhaseEtcdOut:
					n.etcd = "none"
				case steps.PhaseEtcdReady:
					n.etcd = "new"
				case steps.PhaseAPIReady:
					n.api = "new"
				}
				n.done = i + 1
			})
			for phase == steps.PhaseEtcdReady && !n.w.ready() { // no quorum yet
				select {
				case <-ctx.Done():
					n.change(func() { n.done = i })
					return end("you stopped the run"), nil
				case <-time.After(time.Millisecond):
				}
			}
			tell(steps.Event{Type: steps.TypeAction, State: steps.Done, Message: string(phase)})
			if n.hook != nil {
				n.hook(phase)
			}
		}
		if i < met {
			tell(steps.Event{Type: steps.TypeAction, State: steps.Already, Action: string(phase)})
		} else {
			if err := barrier(ctx, phase, func([]steps.Sighting) {}); err != nil {
				return end("you stopped the run"), nil
			}
			n.change(func() { n.past = i + 1 })
		}
	}
	n.change(func() { n.state = steps.RunRestored })
	return &steps.Result{OK: true}, nil
}

func (n *fakeNode) goBack(tell func(steps.Event), ask steps.Asker) (*steps.Result, error) {
	fails := false
	n.change(func() {
		n.w.undo = true
		n.ran = append(n.ran, "undo")
		if fails = n.undoFails > 0; fails {
			n.undoFails--
		}
	})
	if fails {
		f := steps.Failure{Cause: "going back fails", Choices: []steps.Choice{steps.Leave, steps.Retry}}
		if ask(f) != steps.Retry {
			n.change(func() { n.state = steps.RunFailed })
			return &steps.Result{Error: &f}, nil
		}
	}
	n.change(func() { n.etcd = "old" })
	n.change(func() {
		n.api, n.done, n.past, n.state = "old", 0, 0, steps.RunUndone
	})
	tell(steps.Event{Type: steps.TypeAction, State: steps.Done, Message: "back"})
	return &steps.Result{OK: true, Reverted: true, Redo: steps.Command("redo --fleet", theRun, nil)}, nil
}

// pipes is a Dialer whose agents run in this process.
type pipes struct {
	w     *fakeWorld
	local string

	mu    sync.Mutex
	away  map[string]error // hosts that can't be reached
	conns map[string][]func()
	all   sync.WaitGroup
	dials map[string]int
	// between is what stands between the conductor and a host's agent.
	between map[string]func(in io.Reader, out io.Writer, agent func(in io.Reader, out io.Writer))
}

func (w *fakeWorld) pipes(t *testing.T, local string) *pipes {
	p := &pipes{w: w, local: local, away: map[string]error{}, conns: map[string][]func(){}, dials: map[string]int{}, between: map[string]func(io.Reader, io.Writer, func(io.Reader, io.Writer)){}}
	t.Cleanup(func() {
		for _, n := range w.nodes {
			p.cut(n.name)
		}
		p.all.Wait()
	})
	return p
}

func (p *pipes) Local(ctx context.Context) (*Conn, error) { return p.Dial(ctx, p.local) }

func (p *pipes) Dial(_ context.Context, host string) (*Conn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dials[host]++
	if err := p.away[host]; err != nil {
		return nil, err
	}
	n := p.w.node(host)
	if n == nil {
		return nil, fmt.Errorf("could not resolve hostname %s", host)
	}
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	cut := func() {
		_ = inW.Close()
		_ = outW.Close()
		_ = inR.Close()
		_ = outR.Close()
	}
	p.conns[host] = append(p.conns[host], cut)
	p.all.Go(func() {
		agent := func(in io.Reader, out io.Writer) { _ = Serve(context.Background(), in, out, n, "test") }
		if between := p.between[host]; between != nil {
			between(inR, outW, agent)
		} else {
			agent(inR, outW)
		}
		cut()
	})
	return &Conn{In: inW, Out: outR, Close: func() error { cut(); return nil }, Said: func() string { return "" }}, nil
}

// cut ends all connections to a host.
func (p *pipes) cut(host string) {
	p.mu.Lock()
	cuts := p.conns[host]
	p.conns[host] = nil
	p.mu.Unlock()
	for _, cut := range cuts {
		cut()
	}
}

// lose cuts a host off until the end.
func (p *pipes) lose(host string) {
	p.mu.Lock()
	p.away[host] = errors.New("no route to host")
	p.mu.Unlock()
	p.cut(host)
}

func (p *pipes) find(host string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.away, host)
}

var quick = Pace{
	Hello: 5 * time.Second, Ping: 50 * time.Millisecond, Silence: 5 * time.Second, Stagger: 300 * time.Millisecond, Reconnect: 600 * time.Millisecond, Pause: 10 * time.Millisecond,
	Answer: 20 * time.Second, Still: 20 * time.Second, Most: time.Minute, Staging: 20 * time.Second, Quiet: 20 * time.Second, Stop: 10 * time.Second,
}

func theSnapshot(t *testing.T) *snapshot.Info {
	path := filepath.Join(t.TempDir(), "before.db")
	data := make([]byte, 3*pieceSize+1234)
	for i := range data {
		data[i] = byte(i * 7)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(data)
	info := &snapshot.Info{Name: "nightly.db.gz", Path: path, Size: int64(len(data)), Revision: 700, SHA256: hex.EncodeToString(sum[:])}
	for _, name := range []string{"cp1", "cp2", "cp3"} {
		info.Members = append(info.Members, snapshot.Member{Name: name})
	}
	return info
}

// events collects what a fleet reports.
type events struct {
	all []restore.NodeEvent // written by one goroutine, read when that is over
}

func (e *events) sink(ev restore.NodeEvent) { e.all = append(e.all, ev) }

func (e *events) phases() []steps.Phase {
	var out []steps.Phase
	for _, ev := range e.all {
		if ev.Type == restore.TypePhase {
			out = append(out, ev.Phase)
		}
	}
	return out
}

func (e *events) count(typ string) int {
	n := 0
	for _, ev := range e.all {
		if ev.Type == typ {
			n++
		}
	}
	return n
}

func conductor(t *testing.T, d Dialer) *Conductor {
	c := &Conductor{Dialer: d, Pace: quick, Version: "test", Now: func() time.Time {
		return time.Date(2026, 11, 21, 3, 0, 0, 0, time.UTC)
	}, Answers: func(context.Context, string) bool { return false }}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// prepare goes as far as the plans.
func prepare(t *testing.T, c *Conductor, want restore.Want) {
	t.Helper()
	_, verdicts, err := c.Discover(t.Context(), want)
	if err != nil {
		t.Fatal(err)
	}
	if b := steps.Blocking(verdicts); len(b) > 0 {
		t.Fatal(b)
	}
	if err := c.Send(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Check(t.Context(), steps.Choices{}); err != nil {
		t.Fatal(err)
	}
	plans, err := c.Plan(t.Context(), steps.Choices{})
	if err != nil {
		t.Fatal(err)
	}
	if len(plans) != len(c.nodes) {
		t.Fatalf("%d plans of %d nodes", len(plans), len(c.nodes))
	}
}

func same(t *testing.T, what string, have, want []string) {
	t.Helper()
	if !slices.Equal(have, want) {
		t.Errorf("%s: %v, want %v", what, have, want)
	}
}
