package fleet

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"etcd-rewind/restore"
	"etcd-rewind/steps"
)

var (
	restored = []string{"new/new", "new/new", "new/new"}
	asBefore = []string{"old/old", "old/old", "old/old"}
)

func TestThreeNodesAreRestoredAsOne(t *testing.T) {
	w := newFakeWorld(t, "cp1", "cp2", "cp3")
	c := conductor(t, w.pipes(t, "cp1"))
	prepare(t, c, restore.Want{Info: theSnapshot(t)})
	var told events
	c.Now = time.Now
	res, err := c.Run(t.Context(), told.sink, restore.Unattended)
	if err != nil || !res.OK || res.ExitCode() != 0 {
		t.Fatalf("%+v %v", res, err)
	}
	w.check(t)
	same(t, "nodes", w.all(), restored)
	if p := told.phases(); !slices.Equal(p, steps.Phases) {
		t.Errorf("phases reported: %v", p)
	}
	if res.OutageSeconds <= 0 || res.OutageSeconds > 10 {
		t.Errorf("outage %f s", res.OutageSeconds)
	}
	for _, n := range w.nodes {
		f := n.fleet
		if f.Token != "etcd-rewind-"+f.Run || len(f.Members) != 3 || len(f.Others) != 2 || f.Members[0].Name != "cp1" {
			t.Errorf("%s: %+v", n.name, f)
		}
		if f.Run != w.nodes[0].fleet.Run || f.Others[0].Name == n.name || !strings.HasPrefix(f.Others[0].ReadyURL, "https://10.0.0.") {
			t.Errorf("%s: %+v", n.name, f)
		}
		rec, err := ReadRecord(filepath.Join(n.dir, f.Run))
		if err != nil || rec.Me != n.name || len(rec.Nodes) != 3 || rec.Before != 3 {
			t.Errorf("%s: %+v %v", n.name, rec, err)
		}
		left, err := filepath.Glob(filepath.Join(n.dir, "snapshot-*"))
		if err != nil || len(left) > 0 {
			t.Errorf("%s: the snapshot is still there: %v %v", n.name, left, err)
		}
	}
	last := told.all[len(told.all)-1]
	if last.Type != steps.TypeResult || last.Node != "" || !last.OK || len(last.Nodes) != 3 {
		t.Errorf("the last event is %+v", last)
	}
}

// Whatever node fails, in whatever phase, whatever is answered: never split.
func TestANodeThatFails(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		story  string
		phase  steps.Phase
		answer steps.Choice // "" for what is recommended
		want   []string
		exit   int
		asked  bool
	}{
		{"while staging stops all untouched", steps.PhaseStaged, "", asBefore, 1, false},
		{"to stop its API server has all reverted", steps.PhaseAPIGone, "", asBefore, 1, true},
		{"to stop its etcd has all reverted", steps.PhaseEtcdOut, "", asBefore, 1, true},
		{"to place the data has all reverted", steps.PhasePlaced, "", asBefore, 1, true},
		{"to start etcd has all reverted", steps.PhaseEtcdReady, "", asBefore, 1, true},
		{"to start its API server has all reverted", steps.PhaseAPIReady, "", asBefore, 1, true},
		{"only to verify is left, and nothing is reverted", steps.PhaseVerified, "", restored, 3, true},
		{"is tried again", steps.PhaseAPIGone, steps.Retry, restored, 0, true},
		{"is tried again at the end", steps.PhaseVerified, steps.Retry, restored, 0, true},
		{"is left behind without its etcd", steps.PhasePlaced, restore.ContinueWithout, []string{"new/new", "none/none", "new/new"}, 3, true},
		{"is left behind without its API server", steps.PhaseAPIReady, restore.ContinueWithout, []string{"new/new", "none/new", "new/new"}, 3, true},
		{"can't be left behind while it may serve the old data", steps.PhaseAPIGone, restore.ContinueWithout, []string{"none/old", "old/old", "none/old"}, 3, true},
		{"has all left as they are", steps.PhaseEtcdOut, steps.Leave, []string{"none/none", "none/old", "none/none"}, 3, true},
		{"at the end is reverted with all others", steps.PhaseVerified, steps.Revert, asBefore, 1, true},
	} {
		t.Run(tt.story, func(t *testing.T) {
			w := newFakeWorld(t, "cp1", "cp2", "cp3")
			w.node("cp2").fails[tt.phase] = 1
			c := conductor(t, w.pipes(t, "cp1"))
			prepare(t, c, restore.Want{Info: theSnapshot(t)})
			// The others are to be where they will be: they wait for this one.
			var others sync.WaitGroup
			others.Add(2)
			for _, name := range []string{"cp1", "cp3"} {
				w.node(name).hook = func(p steps.Phase) {
					if p == tt.phase {
						others.Done()
					}
				}
			}
			var told events
			var asked []restore.Trouble
			res, err := c.Run(t.Context(), told.sink, func(tr restore.Trouble) steps.Choice {
				others.Wait()
				asked = append(asked, tr)
				if tt.answer == "" {
					return restore.Unattended(tr)
				}
				return tt.answer
			})
			if err != nil {
				t.Fatal(err)
			}
			w.check(t)
			same(t, "nodes", w.all(), tt.want)
			if res.ExitCode() != tt.exit {
				t.Errorf("exit status %d, want %d: %+v", res.ExitCode(), tt.exit, res)
			}
			if (len(asked) == 1) != tt.asked || told.count(steps.TypeAsk) != len(asked) {
				t.Errorf("asked %d times, reported %d times", len(asked), told.count(steps.TypeAsk))
			}
			for _, n := range res.Nodes {
				if (n.State == restore.HalfWay) != (len(n.Do) > 0) {
					t.Errorf("%s is %s, and is to do %q", n.Node, n.State, n.Do)
				}
				if told := n.Cause != "" && res.Error.Cause == n.Node+": "+n.Cause; n.Told != told {
					t.Errorf("%s: %q of %q is reported: %t", n.Node, n.Cause, res.Error.Cause, n.Told)
				}
			}
		})
	}
}

func TestANodeLeftBehindIsToGoOnByItself(t *testing.T) {
	w := newFakeWorld(t, "cp1", "cp2", "cp3")
	w.node("cp3").fails[steps.PhaseEtcdReady] = 1
	c := conductor(t, w.pipes(t, "cp1"))
	prepare(t, c, restore.Want{Info: theSnapshot(t)})
	res, err := c.Run(t.Context(), func(restore.NodeEvent) {}, func(restore.Trouble) steps.Choice { return restore.ContinueWithout })
	if err != nil {
		t.Fatal(err)
	}
	w.check(t)
	if n := res.Nodes[2]; n.State != restore.HalfWay || n.Phase != steps.PhasePlaced || !slices.Equal(n.Do, []string{"etcd-rewind resume " + res.Run}) {
		t.Errorf("%+v", n)
	}
	if res.Error == nil || !strings.HasPrefix(res.Error.Cause, "cp3: ") {
		t.Errorf("%+v", res.Error)
	}
}

func TestAConnectionThatIsCutIsMadeAgain(t *testing.T) {
	t.Parallel()
	for _, phase := range steps.Phases {
		for _, who := range []string{"cp1", "cp2"} {
			t.Run(string(phase)+" "+who, func(t *testing.T) {
				w := newFakeWorld(t, "cp1", "cp2", "cp3")
				d := w.pipes(t, "cp1")
				var once sync.Once
				w.node(who).hook = func(p steps.Phase) {
					if p == phase {
						once.Do(func() { d.cut(who) })
					}
				}
				c := conductor(t, d)
				prepare(t, c, restore.Want{Info: theSnapshot(t)})
				var told events
				res, err := c.Run(t.Context(), told.sink, func(tr restore.Trouble) steps.Choice {
					t.Errorf("asked: %+v", tr)
					return steps.Leave
				})
				if err != nil || !res.OK {
					t.Fatalf("%+v %v", res, err)
				}
				w.check(t)
				same(t, "nodes", w.all(), restored)
				same(t, "plans run there", w.node(who).ran, []string{"run", "resume"})
				if told.count(restore.TypeLink) != 2 {
					t.Errorf("%d reports of the connection", told.count(restore.TypeLink))
				}
			})
		}
	}
}

func TestANodeThatIsLostForGood(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		phase  steps.Phase
		answer steps.Choice
		want   []string
		exit   int
		stands restore.NodeState
		do     string
	}{
		{steps.PhaseStaged, "", asBefore, 1, restore.Untouched, ""},
		{steps.PhaseAPIGone, "", []string{"old/old", "none/old", "old/old"}, 3, restore.Unreachable, "etcd-rewind undo"},
		{steps.PhaseEtcdOut, "", []string{"old/old", "none/none", "old/old"}, 3, restore.Unreachable, "etcd-rewind undo"},
		{steps.PhasePlaced, "", []string{"old/old", "none/none", "old/old"}, 3, restore.Unreachable, "etcd-rewind undo"},
		{steps.PhaseEtcdReady, "", []string{"old/old", "none/new", "old/old"}, 3, restore.Unreachable, "etcd-rewind undo"},
		{steps.PhasePlaced, restore.ContinueWithout, []string{"new/new", "none/none", "new/new"}, 3, restore.Unreachable, "etcd-rewind resume"},
		{steps.PhaseVerified, "", restored, 3, restore.Unreachable, "etcd-rewind resume"},
	} {
		t.Run(string(tt.phase)+" "+string(tt.answer), func(t *testing.T) {
			w := newFakeWorld(t, "cp1", "cp2", "cp3")
			d := w.pipes(t, "cp1")
			w.node("cp2").hook = func(p steps.Phase) {
				if p == tt.phase {
					d.lose("cp2")
				}
			}
			c := conductor(t, d)
			prepare(t, c, restore.Want{Info: theSnapshot(t)})
			res, err := c.Run(t.Context(), func(restore.NodeEvent) {}, func(tr restore.Trouble) steps.Choice {
				if !tr.Away || tr.Node != "cp2" {
					t.Errorf("asked: %+v", tr)
				}
				if tt.answer == "" {
					return restore.Unattended(tr)
				}
				return tt.answer
			})
			if err != nil {
				t.Fatal(err)
			}
			w.check(t)
			same(t, "nodes", w.all(), tt.want)
			n := res.Nodes[1]
			if res.ExitCode() != tt.exit || n.State != tt.stands || !strings.HasPrefix(strings.Join(n.Do, ""), tt.do) {
				t.Errorf("exit status %d, %+v", res.ExitCode(), n)
			}
		})
	}
}

func TestOfTwoNodesTheOneThatIsLeftDoesNotGoBackAlone(t *testing.T) {
	w := newFakeWorld(t, "cp1", "cp2")
	d := w.pipes(t, "cp1")
	w.node("cp2").hook = func(p steps.Phase) {
		if p == steps.PhaseEtcdOut {
			d.lose("cp2")
		}
	}
	info := theSnapshot(t)
	info.Members = info.Members[:2]
	c := conductor(t, d)
	prepare(t, c, restore.Want{Info: info})
	var choices []steps.Choice
	res, err := c.Run(t.Context(), func(restore.NodeEvent) {}, func(tr restore.Trouble) steps.Choice {
		choices = tr.Failure.Choices
		return restore.Unattended(tr)
	})
	if err != nil || res.ExitCode() != 3 {
		t.Fatalf("%+v %v", res, err)
	}
	if choices[0] != steps.Leave || slices.Contains(choices, restore.ContinueWithout) {
		t.Errorf("choices %v", choices)
	}
	same(t, "nodes", w.all(), []string{"none/none", "none/none"})
	if do := res.Nodes[0].Do; len(do) != 2 || !strings.Contains(do[0], "resume --fleet") || !strings.Contains(do[1], "undo --fleet") {
		t.Errorf("to do: %q", do)
	}
}

// A conductor that is killed leaves agents that stop; any node can lead all of
// them again, forward or back.
func TestAConductorThatIsKilled(t *testing.T) {
	t.Parallel()
	for _, phase := range steps.Phases {
		for _, way := range []string{"resume", "undo"} {
			t.Run(string(phase)+" "+way, func(t *testing.T) {
				w := newFakeWorld(t, "cp1", "cp2", "cp3")
				d := w.pipes(t, "cp1")
				var once sync.Once
				var others sync.WaitGroup // have begun: a node that hasn't has no run
				others.Add(2)
				for _, name := range []string{"cp1", "cp3"} {
					w.node(name).hook = func(p steps.Phase) {
						if p == steps.PhaseStaged {
							others.Done()
						}
					}
				}
				kill := func() {
					others.Wait()
					for _, n := range w.nodes {
						d.lose(n.name)
					}
				}
				w.node("cp2").hook = func(p steps.Phase) {
					if p == phase {
						once.Do(kill)
					}
				}
				c := conductor(t, d)
				prepare(t, c, restore.Want{Info: theSnapshot(t)})
				dead, cancel := context.WithCancel(t.Context())
				gone := c.nodes[0].link.done
				go func() { // it has no say any more
					<-gone
					cancel()
				}()
				_, err := c.Run(dead, func(restore.NodeEvent) {}, func(restore.Trouble) steps.Choice { return steps.Leave })
				cancel()
				if err != nil {
					t.Fatal(err)
				}
				d.all.Wait() // the agents have stopped
				rec, err := ReadRecord(filepath.Join(w.node("cp3").dir, theRun))
				if err != nil {
					t.Fatal(err)
				}
				// In the middle of a run there is no etcd.yaml.
				for _, n := range w.nodes {
					n.facts = func(f *restore.NodeFacts) { f.Member, f.EtcdErr = "", "there is no manifest of etcd" }
				}
				for _, n := range w.nodes {
					d.find(n.name)
				}
				d.local = "cp3"
				again := conductor(t, d)
				states, err := again.Open(t.Context(), *rec)
				if err != nil {
					t.Fatal(err)
				}
				for name, s := range states {
					if s != steps.RunFailed && s != steps.RunUntouched && s != steps.RunRestored {
						t.Errorf("%s is %s", name, s)
					}
				}
				if way == "undo" {
					// Before any node was changed there is nothing to plan.
					if _, err := again.PlanAgain(t.Context(), restore.Undo); err != nil && !strings.Contains(err.Error(), "nothing to undo") {
						t.Fatal(err)
					}
					if res, err := again.Run(t.Context(), func(restore.NodeEvent) {}, restore.Unattended); err != nil || !res.OK || res.ExitCode() != 0 {
						t.Fatalf("%+v %v", res, err)
					}
					same(t, "nodes", w.all(), asBefore)
				} else {
					if _, err := again.PlanAgain(t.Context(), restore.Resume); err != nil {
						t.Fatal(err)
					}
					res, err := again.Run(t.Context(), func(restore.NodeEvent) {}, restore.Unattended)
					if err != nil || !res.OK {
						t.Fatalf("%+v %v", res, err)
					}
					same(t, "nodes", w.all(), restored)
				}
				w.check(t)
			})
		}
	}
}

// An undo of all nodes is redone on all of them, none of which waits for another.
func TestAnUndoOfSeveralNodesIsRedone(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		story string
		bad   func(w *fakeWorld, d *pipes)
		plans int    // -1 for none
		err   string // of the plan
		exit  int
		want  []string
	}{
		{story: "all is well", plans: 3, want: restored},
		{story: "a node fails, and all are undone", bad: func(w *fakeWorld, _ *pipes) { w.node("cp2").fails[steps.PhaseEtcdReady] = 1 }, plans: 3, exit: 1, want: asBefore},
		{story: "a node is restored already", bad: func(w *fakeWorld, _ *pipes) {
			n := w.node("cp1")
			n.change(func() { n.api, n.etcd, n.state, n.last = "new", "new", steps.RunRestored, steps.KindRedo })
		}, plans: 2, want: restored},
		{story: "a node can't be reached", bad: func(_ *fakeWorld, d *pipes) { d.lose("cp3") }, err: "cp3 can't be reached", want: asBefore},
		{story: "a node has no such run", bad: func(w *fakeWorld, _ *pipes) { w.node("cp3").state = "" }, err: "cp3 has no run", want: asBefore},
		{story: "a node was not touched by it", bad: func(w *fakeWorld, _ *pipes) { w.node("cp3").state = steps.RunUntouched }, err: "has restored nothing on cp3", want: asBefore},
		{story: "a node was not undone", bad: func(w *fakeWorld, _ *pipes) {
			w.node("cp3").state, w.node("cp3").last = steps.RunFailed, steps.KindRestore
		}, err: "cp3: run " + theRun + " was not undone here", want: asBefore},
	} {
		t.Run(tt.story, func(t *testing.T) {
			w := newFakeWorld(t, "cp1", "cp2", "cp3")
			d := w.pipes(t, "cp1")
			first := conductor(t, d)
			prepare(t, first, restore.Want{Info: theSnapshot(t)})
			if res, err := first.Run(t.Context(), func(restore.NodeEvent) {}, restore.Unattended); err != nil || !res.OK {
				t.Fatalf("%+v %v", res, err)
			}
			rec, err := ReadRecord(filepath.Join(w.node("cp1").dir, theRun))
			if err != nil {
				t.Fatal(err)
			}
			again := func(v restore.Verb) (*restore.Result, []*steps.Plan, error) {
				c := conductor(t, d)
				if _, err := c.Open(t.Context(), *rec); err != nil {
					t.Fatal(err)
				}
				plans, err := c.PlanAgain(t.Context(), v)
				if err != nil {
					return nil, nil, err
				}
				res, err := c.Run(t.Context(), func(restore.NodeEvent) {}, restore.Unattended)
				return res, plans, err
			}
			if res, _, err := again(restore.Undo); err != nil || !res.OK || !strings.HasPrefix(res.Redo, "etcd-rewind redo --fleet "+theRun) {
				t.Fatalf("%+v %v", res, err)
			}
			if tt.bad != nil {
				tt.bad(w, d)
			}
			res, plans, err := again(restore.Redo)
			same(t, "nodes", w.all(), tt.want)
			w.check(t)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("%v, want %q", err, tt.err)
				}
				return
			}
			if err != nil || len(plans) != tt.plans || plans[0].Kind != steps.KindRedo || res.ExitCode() != tt.exit {
				t.Errorf("%d plans, %+v, %v", len(plans), res, err)
			}
		})
	}
}

// A resume of several nodes shows what each will do; what is only shown changes
// nothing.
func TestAResumeOfSeveralNodesIsShownBeforeItRuns(t *testing.T) {
	w := newFakeWorld(t, "cp1", "cp2", "cp3")
	d := w.pipes(t, "cp1")
	first := conductor(t, d)
	w.node("cp2").fails[steps.PhaseEtcdOut] = 1
	prepare(t, first, restore.Want{Info: theSnapshot(t)})
	if res, err := first.Run(t.Context(), func(restore.NodeEvent) {}, func(restore.Trouble) steps.Choice { return steps.Leave }); err != nil || res.OK {
		t.Fatalf("%+v %v", res, err)
	}
	before := w.all()
	rec, err := ReadRecord(filepath.Join(w.node("cp1").dir, theRun))
	if err != nil {
		t.Fatal(err)
	}
	c := conductor(t, d)
	if _, err := c.Open(t.Context(), *rec); err != nil {
		t.Fatal(err)
	}
	plans, err := c.PlanAgain(t.Context(), restore.Resume)
	if err != nil || len(plans) != 3 || plans[1].Node != "cp2" || plans[1].Run != theRun {
		t.Fatalf("%+v %v", plans, err)
	}
	same(t, "nodes", w.all(), before)
	if res, err := c.Run(t.Context(), func(restore.NodeEvent) {}, restore.Unattended); err != nil || !res.OK {
		t.Fatalf("%+v %v", res, err)
	}
	same(t, "nodes", w.all(), restored)

	// It has finished: there is nothing to resume.
	late := conductor(t, d)
	if _, err := late.Open(t.Context(), *rec); err != nil {
		t.Fatal(err)
	}
	if _, err := late.PlanAgain(t.Context(), restore.Resume); err == nil || !strings.Contains(err.Error(), "has finished on all nodes") {
		t.Error(err)
	}
}

// The conductor dies while one node was let past a barrier and the others were
// not yet: the node comes to it no more, and the others must not wait for that.
func TestAResumeKnowsTheBarriersThatWereOpen(t *testing.T) {
	t.Parallel()
	for _, phase := range steps.Phases {
		t.Run(string(phase), func(t *testing.T) {
			w := newFakeWorld(t, "cp1", "cp2", "cp3")
			d := w.pipes(t, "cp1")
			c := conductor(t, d)
			prepare(t, c, restore.Want{Info: theSnapshot(t)})
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			for _, n := range w.nodes {
				n.hook = func(p steps.Phase) {
					if p == phase {
						stop()
					}
				}
			}
			if res, err := c.Run(ctx, func(restore.NodeEvent) {}, restore.Unattended); err != nil || res.OK {
				t.Fatalf("%+v %v", res, err)
			}
			for _, n := range w.nodes { // all have done the work of this phase, and cp2 is past it
				n.hook = nil
				n.done, n.past = index(phase)+1, index(phase)
				if n.name == "cp2" {
					n.past++
				}
				n.api = map[bool]string{true: "new", false: "none"}[n.done > index(steps.PhaseAPIReady)]
				n.etcd = map[bool]string{true: "new", false: "none"}[n.done > index(steps.PhaseEtcdReady)]
				if n.done == 1 {
					n.api, n.etcd = "old", "old"
				} else if n.done == 2 {
					n.etcd = "old"
				}
			}
			rec, err := ReadRecord(filepath.Join(w.node("cp1").dir, theRun))
			if err != nil {
				t.Fatal(err)
			}
			again := conductor(t, d)
			if _, err := again.Open(t.Context(), *rec); err != nil {
				t.Fatal(err)
			}
			if _, err := again.PlanAgain(t.Context(), restore.Resume); err != nil {
				t.Fatal(err)
			}
			late, giveUp := context.WithTimeout(t.Context(), 20*time.Second)
			defer giveUp()
			if res, err := again.Run(late, func(restore.NodeEvent) {}, restore.Unattended); err != nil || !res.OK {
				t.Fatalf("%+v %v", res, err)
			}
			w.check(t)
			same(t, "nodes", w.all(), restored)
		})
	}
}

func TestAUserWhoStopsLeavesEveryNodeWithItsJournal(t *testing.T) {
	w := newFakeWorld(t, "cp1", "cp2", "cp3")
	c := conductor(t, w.pipes(t, "cp1"))
	prepare(t, c, restore.Want{Info: theSnapshot(t)})
	ctx, cancel := context.WithCancel(t.Context())
	w.node("cp2").hook = func(p steps.Phase) {
		if p == steps.PhaseEtcdOut {
			cancel()
		}
	}
	res, err := c.Run(ctx, func(restore.NodeEvent) {}, restore.Unattended)
	if err != nil || res.ExitCode() != 3 || res.Error == nil || res.Error.Cause != "you stopped the run" {
		t.Fatalf("%+v %v", res, err)
	}
	for _, n := range res.Nodes {
		if n.State != restore.HalfWay {
			t.Errorf("%s is %s", n.Node, n.State)
		}
	}
}

func TestAWayBackThatFailsOnANode(t *testing.T) {
	w := newFakeWorld(t, "cp1", "cp2", "cp3")
	w.node("cp2").fails[steps.PhasePlaced] = 1
	w.node("cp3").undoFails = 1
	c := conductor(t, w.pipes(t, "cp1"))
	prepare(t, c, restore.Want{Info: theSnapshot(t)})
	res, err := c.Run(t.Context(), func(restore.NodeEvent) {}, restore.Unattended)
	if err != nil || res.ExitCode() != 3 {
		t.Fatalf("%+v %v", res, err)
	}
	w.check(t)
	if n := res.Nodes[2]; n.State != restore.HalfWay || len(n.Do) != 1 || !strings.HasPrefix(n.Do[0], "etcd-rewind undo ") {
		t.Errorf("%+v", n)
	}
}

func TestACheckThatStandsInTheWayOfOneNodeIsToldWithItsName(t *testing.T) {
	w := newFakeWorld(t, "cp1", "cp2", "cp3")
	w.node("cp2").blocks = "disk-space"
	c := conductor(t, w.pipes(t, "cp1"))
	if _, _, err := c.Discover(t.Context(), restore.Want{Info: theSnapshot(t)}); err != nil {
		t.Fatal(err)
	}
	if err := c.Send(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	checked, err := c.Check(t.Context(), steps.Choices{})
	if err != nil {
		t.Fatal(err)
	}
	var blocked []string
	for _, ch := range checked {
		if len(steps.Blocking(ch.Verdicts)) > 0 {
			blocked = append(blocked, ch.Node)
		}
	}
	same(t, "blocked", blocked, []string{"cp2"})
	same(t, "nodes", w.all(), asBefore)
}

func TestASnapshotThatIsThereAlreadyIsNotSentAgain(t *testing.T) {
	w := newFakeWorld(t, "cp1", "cp2", "cp3")
	c := conductor(t, w.pipes(t, "cp1"))
	info := theSnapshot(t)
	prepare(t, c, restore.Want{Info: info})
	sent := 0
	if err := c.Send(t.Context(), func(string, int64, int64) { sent++ }); err != nil || sent != 0 {
		t.Errorf("sent %d pieces, %v", sent, err)
	}
	there := c.nodes[1].path
	data, err := os.ReadFile(there)
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(there); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", st, err)
	}
	// One that was altered since is.
	data[100] ^= 1
	if err := os.WriteFile(there, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := c.Send(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	now, err := os.ReadFile(there)
	data[100] ^= 1
	if err != nil || string(now) != string(data) {
		t.Errorf("not the snapshot: %v", err)
	}
}

func TestASnapshotThatIsAlteredOnItsWayStopsAll(t *testing.T) {
	w := newFakeWorld(t, "cp1", "cp2", "cp3")
	c := conductor(t, w.pipes(t, "cp1"))
	if _, _, err := c.Discover(t.Context(), restore.Want{Info: theSnapshot(t)}); err != nil {
		t.Fatal(err)
	}
	n := c.nodes[1]
	info := theSnapshot(t)
	file, err := os.Open(info.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	from, err := newOutgoing(file, info.Size)
	if err != nil {
		t.Fatal(err)
	}
	_, err = n.link.put(t.Context(), from, putOrder{Size: info.Size, SHA256: strings.Repeat("ab", 32)}, nil)
	if err == nil || !strings.Contains(err.Error(), "altered on its way") {
		t.Fatal(err)
	}
	left, err := filepath.Glob(filepath.Join(w.node(n.name).dir, "snapshot-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}
