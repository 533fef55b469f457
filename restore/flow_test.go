package restore

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"etcd-rewind/manifest"
	"etcd-rewind/problem"
	"etcd-rewind/snapshot"
	"etcd-rewind/steps"
)

// engine is a node whose words are given.
type engine struct {
	inspect, compare error
	result           *steps.Result
}

func (e *engine) Discover(context.Context) (*steps.Facts, error) {
	return &steps.Facts{Node: "cp1.example", Etcd: &steps.Etcd{EtcdSettings: manifest.EtcdSettings{Name: "cp1"}}}, nil
}

func (e *engine) Inspect(context.Context, string, func(done, total int64)) (*snapshot.Info, error) {
	if e.inspect != nil {
		return nil, e.inspect
	}
	return &snapshot.Info{Name: "/s.db", Path: "/s.db", SHA256: "aa"}, nil
}

func (e *engine) Compare(context.Context, *steps.Facts, *snapshot.Info, snapshot.CompareOptions, func(snapshot.Progress)) (*snapshot.Comparison, error) {
	if e.compare != nil {
		return nil, e.compare
	}
	return &snapshot.Comparison{}, nil
}

func (e *engine) Check(context.Context, *steps.Facts, *snapshot.Info, steps.Choices) []steps.Verdict {
	return []steps.Verdict{{Check: "root", Level: steps.Pass}}
}

func (e *engine) plan(run string) (*steps.Plan, error) {
	return &steps.Plan{Run: run, Node: "cp1.example"}, nil
}

func (e *engine) Plan(*steps.Facts, *snapshot.Info, steps.Choices) (*steps.Plan, error) {
	return e.plan("new")
}
func (e *engine) PlanUndo(_ context.Context, run string) (*steps.Plan, error) { return e.plan(run) }
func (e *engine) PlanRedo(_ context.Context, run string) (*steps.Plan, error) { return e.plan(run) }
func (e *engine) PlanResume(_ context.Context, run string) (*steps.Plan, error) {
	return e.plan(run)
}

func (e *engine) Run(_ context.Context, p *steps.Plan, sink func(steps.Event), ask steps.Asker) (*steps.Result, error) {
	sink(steps.Event{Type: steps.TypeAsk, Run: p.Run})
	ask(steps.Failure{Choices: []steps.Choice{steps.Revert}})
	return e.result, nil
}

// pair are two nodes.
type pair struct {
	Nodes
	found []steps.Verdict // of the members as a whole
	sent  bool
}

func (p *pair) Names() []string { return []string{"cp1", "cp2"} }

func (p *pair) Discover(context.Context, Want) ([]Member, []steps.Verdict, error) {
	return []Member{{Name: "cp1"}, {Name: "cp2"}}, p.found, nil
}

func (p *pair) Send(context.Context, func(string, int64, int64)) error {
	p.sent = true
	return nil
}

func (p *pair) Check(context.Context, steps.Choices) ([]Checked, error) {
	root := []steps.Verdict{{Check: "root", Level: steps.Pass}}
	return []Checked{{"cp1", slices.Clone(root)}, {"cp2", slices.Clone(root)}}, nil
}

func (p *pair) Plan(context.Context, steps.Choices) ([]*steps.Plan, error) {
	return []*steps.Plan{{Node: "cp1.example"}, {Node: "cp2.example"}}, nil
}

// said are the names of the checks, by whom they are about.
func said(f *Flow) string {
	var all []string
	for _, c := range f.Checked {
		for _, v := range c.Verdicts {
			name := v.Check
			if v.Blocks() {
				name += "!"
			}
			all = append(all, strings.TrimPrefix(c.Node+":"+name, ":"))
		}
	}
	return strings.Join(all, " ")
}

// The way to the plan is the same for one node and for several, whatever is
// wrong with the snapshot.
func TestTheWayToThePlanIsOne(t *testing.T) {
	odd := []steps.Verdict{{Check: "fleet-hosts", Level: steps.Error}}
	for name, tc := range map[string]struct {
		e           engine
		found       []steps.Verdict
		one, others string
		sent        bool
	}{
		"all is well": {one: "root snapshot-cluster", others: "snapshot-cluster cp1:root cp2:root", sent: true},
		"a damaged snapshot": {
			e:   engine{inspect: errors.New("damaged")},
			one: "root snapshot!", others: "snapshot! cp1:root cp2:root",
		},
		"another file has its name by now": {
			e:   engine{compare: &problem.Problem{Code: snapshot.CodeChanged}},
			one: "root snapshot!", others: "snapshot! cp1:root cp2:root",
		},
		"nothing to compare it with": {
			e:   engine{compare: errors.New("no data")},
			one: "root snapshot-cluster", others: "snapshot-cluster cp1:root cp2:root", sent: true,
		},
		"a node that isn't reached": {
			found: odd, one: "root snapshot-cluster", others: "fleet-hosts! snapshot-cluster cp1:root cp2:root",
		},
	} {
		t.Run(name, func(t *testing.T) {
			two := &pair{found: tc.found}
			for want, n := range map[string]Nodes{tc.one: &Local{Engine: &tc.e}, tc.others: two} {
				f := &Flow{Nodes: n, Engine: &tc.e}
				if err := f.Discover(t.Context()); err != nil {
					t.Fatal(err)
				}
				f.Inspect(t.Context(), "/s.db", nil)
				f.Compare(t.Context(), nil)
				if err := f.Find(t.Context()); err != nil {
					t.Fatal(err)
				}
				if err := f.Check(t.Context(), nil); err != nil {
					t.Fatal(err)
				}
				if got := said(f); got != want {
					t.Errorf("%q, want %q", got, want)
				}
				plans, err := f.Plan(t.Context())
				if err != nil || len(plans) != max(1, len(n.Names())) {
					t.Errorf("%d plans, %v", len(plans), err)
				}
			}
			if two.sent != tc.sent {
				t.Errorf("the snapshot was sent: %v", two.sent)
			}
		})
	}
}

// A single node ends as the engine says, with the engine's events.
func TestANodeAloneRunsWithTheEnginesExitStatus(t *testing.T) {
	for want, res := range map[int]*steps.Result{
		0: {OK: true},
		1: {Reverted: true, Error: &steps.Failure{Cause: "it fails"}},
		3: {Error: &steps.Failure{Cause: "it fails"}},
		4: steps.NotBegun("another run is under way", ""),
	} {
		for _, v := range []Verb{"", Undo, Redo, Resume} {
			l := &Local{Engine: &engine{result: res}}
			if _, err := l.Run(t.Context(), nil, nil); err == nil {
				t.Fatal("it ran without a plan")
			}
			here, err := l.Engine.Discover(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			run := "new"
			if v == "" {
				_, _, err = l.Discover(t.Context(), Want{Here: here})
				_, perr := l.Plan(t.Context(), steps.Choices{})
				err = errors.Join(err, perr)
			} else {
				run = "old"
				_, err = l.Open(t.Context(), Record{Run: run})
				_, perr := l.PlanAgain(t.Context(), v)
				err = errors.Join(err, perr)
			}
			if err != nil || l.Here() != "cp1.example" || len(l.Names()) > 0 {
				t.Fatal(err, l.Here(), l.Names())
			}
			var told []NodeEvent
			got, err := l.Run(t.Context(), func(ev NodeEvent) { told = append(told, ev) }, Unattended)
			if err != nil || got.ExitCode() != want || got.Run != run {
				t.Errorf("%q: %+v %v, want exit status %d", v, got, err, want)
			}
			if len(told) != 1 || told[0].Node != "" || told[0].Run != run {
				t.Errorf("%q: told %+v", v, told)
			}
		}
	}
}
