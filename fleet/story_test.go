package fleet

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"etcd-rewind/problem"
	"etcd-rewind/restore"
	"etcd-rewind/steps"
)

// tale is a machine whose inputs come one by one.
type tale struct {
	*machine
	t   *testing.T
	now time.Time
}

func newTale(t *testing.T, v restore.Verb, names ...string) *tale {
	s := &tale{t: t, now: time.Date(2026, 11, 21, 3, 0, 0, 0, time.UTC), machine: &machine{
		verb: v, members: len(names), before: len(names), pace: RealPace, opened: map[steps.Phase]time.Time{}, touched: v != "",
		command: func(verb string) string { return "etcd-rewind " + verb + " " + theRun },
	}}
	for _, name := range names {
		s.nodes = append(s.nodes, &nodeRun{name: name, linked: true})
	}
	s.then(begun{})
	return s
}

// then is what comes of an input.
func (s *tale) then(in input) []output { return s.step(s.now, in) }

// after lets time pass, in ticks as the runner has them.
func (s *tale) after(d time.Duration) []output {
	var out []output
	for end := s.now.Add(d); s.now.Before(end); {
		s.now = s.now.Add(min(s.pace.Ping/4, end.Sub(s.now)))
		out = append(out, s.then(ticked{})...)
	}
	return out
}

// says is a message of a node's agent.
func (s *tale) says(node int, m message) []output {
	return s.then(news{node, s.nodes[node].try, m})
}

func (s *tale) all(p steps.Phase) []output {
	var out []output
	for i := range s.nodes {
		out = append(out, s.says(i, message{Barrier: p})...)
	}
	return out
}

func (s *tale) asks(out []output) *askUser {
	for _, o := range out {
		if a, ok := o.(askUser); ok {
			return &a
		}
	}
	return nil
}

// gone are the nodes that are let past a barrier.
func (s *tale) gone(out []output) string {
	var names []string
	for _, o := range out {
		if w, ok := o.(say); ok && w.Do == doGo {
			names = append(names, s.nodes[w.node].name)
		}
	}
	return strings.Join(names, " ")
}

func (s *tale) is(what, have, want string) {
	s.t.Helper()
	if have != want {
		s.t.Errorf("%s: %q, want %q", what, have, want)
	}
}

// The leader's etcd stops last, and restored etcds start one after the other,
// for as long as that saves time.
func TestEtcdsStopAndStartInTheirOrder(t *testing.T) {
	s := newTale(t, "", "cp1", "cp2", "cp3")
	s.nodes[0].leader = true
	s.is("staged", s.gone(s.all(steps.PhaseStaged)), "cp1 cp2 cp3")
	s.is("API down", s.gone(s.all(steps.PhaseAPIGone)), "cp2 cp3")
	s.is("one has stopped", s.gone(s.says(1, message{Event: &steps.Event{Etcd: steps.EtcdStopped}})), "")
	s.is("both have", s.gone(s.says(2, message{Barrier: steps.PhaseEtcdOut})), "cp1")
	s.is("etcd down", s.gone(append(s.says(0, message{Barrier: steps.PhaseEtcdOut}), s.says(1, message{Barrier: steps.PhaseEtcdOut})...)), "cp1 cp2 cp3")
	s.is("placed", s.gone(s.all(steps.PhasePlaced)), "cp1")
	s.is("cp1 serves", s.gone(s.says(0, message{Event: &steps.Event{Etcd: steps.EtcdServes}})), "cp2")
	s.is("cp2 doesn't", s.gone(s.after(3*s.pace.Stagger-time.Second)), "")
	s.is("for too long", s.gone(s.after(2*time.Second)), "cp3")
}

// A node that waits for others is told for whom, again and again: who prints lines
// mentions a wait only when it lasts.
func TestANodeThatWaitsIsToldForWhomAsLongAsItDoes(t *testing.T) {
	s := newTale(t, "", "cp1", "cp2", "cp3")
	behind := func() (of []string) {
		for _, o := range s.after(5 * time.Second) {
			if w, ok := o.(say); ok && w.Do == doSeen && w.node == 0 {
				of = nil
				for _, seen := range w.Seen {
					if !seen.OK {
						of = append(of, seen.What+" "+seen.Is)
					}
				}
			}
		}
		return of
	}
	s.says(0, message{Barrier: steps.PhaseStaged})
	s.is("staging", strings.Join(behind(), ", "), "cp2 at work, cp3 at work")
	s.says(2, message{Barrier: steps.PhaseStaged})
	behind()
	s.is("one is left", strings.Join(behind(), ", "), "cp2 at work")
	s.says(1, message{Barrier: steps.PhaseStaged})
	s.is("all have staged", strings.Join(behind(), ", "), "")

	// In turn, too: the leader's etcd stops last.
	s.nodes[0].leader = true
	s.all(steps.PhaseAPIGone)
	s.says(2, message{Event: &steps.Event{Etcd: steps.EtcdStopped}})
	s.is("its turn", strings.Join(behind(), ", "), "cp2 past API down")
}

// An agent that starts and reports nothing is not retried for ever.
func TestAnAgentThatStartsAndReportsNothingIsAskedAbout(t *testing.T) {
	s := newTale(t, "", "cp1", "cp2", "cp3")
	s.all(steps.PhaseStaged)
	s.says(0, message{Barrier: steps.PhaseAPIGone})
	s.says(2, message{Barrier: steps.PhaseAPIGone})
	begun := s.now
	for tries := 0; ; tries++ {
		if tries > 10 {
			t.Fatal("it is tried again and again")
		}
		out := s.after(s.pace.Quiet + time.Second)
		if a := s.asks(out); a != nil {
			if !a.Away || a.Node != "cp2" || a.Failure.Choices[0] != steps.Revert {
				t.Errorf("%+v", a)
			}
			break
		}
		s.then(linked{1, s.nodes[1].try, nil})
	}
	if took := s.now.Sub(begun); took > 10*time.Minute {
		t.Errorf("it took %s", took)
	}
}

// A machine that was asleep gives nobody up for what it didn't hear.
func TestAConductorThatSleptGivesNobodyUp(t *testing.T) {
	for _, stopping := range []bool{false, true} {
		s := newTale(t, "", "cp1", "cp2")
		if stopping {
			s.then(stopped{})
		}
		s.after(time.Second)
		s.now = s.now.Add(time.Hour)
		for _, o := range s.then(ticked{}) {
			t.Errorf("stopping %v: %T %+v", stopping, o, o)
		}
		if s.after(10*time.Minute) == nil || s.res == nil && !s.nodes[0].reaching {
			t.Error("nor for what it could have heard")
		}
	}
}

// An answer is for the question that was asked. What has changed since the
// question is asked about again.
func TestAnAnswerIsForItsQuestion(t *testing.T) {
	s := newTale(t, "", "cp1", "cp2", "cp3")
	for _, p := range steps.Phases[:4] {
		s.all(p)
	}
	s.after(time.Minute)
	fails := message{Ask: &steps.Failure{Cause: "it fails", Choices: []steps.Choice{steps.Revert, steps.Retry, steps.Leave}}}
	first := s.asks(s.says(1, fails))
	if first == nil || !slices.Contains(first.Failure.Choices, restore.ContinueWithout) {
		t.Fatalf("%+v", first)
	}
	// Its connection is cut, and it fails again: to try again was meant for then.
	s.then(ended{1, s.nodes[1].try, nil, &errGone{}})
	s.then(linked{1, s.nodes[1].try, nil})
	s.says(1, fails)
	second := s.asks(s.then(answered{first.question, steps.Retry}))
	if second == nil || s.nodes[1].asked == 0 {
		t.Fatal("the first answer is taken for the second question")
	}
	if out := s.then(answered{first.question, steps.Revert}); len(out) > 0 {
		t.Errorf("an answer that nobody waits for: %+v", out)
	}
	// Another node is lost before the answer: the others have no quorum without both.
	s.then(ended{2, s.nodes[2].try, nil, &errGone{}})
	s.then(linked{2, s.nodes[2].try, errors.New("no route to host")})
	third := s.asks(s.then(answered{second.question, restore.ContinueWithout}))
	if third == nil || third.Node != "cp2" || slices.Contains(third.Failure.Choices, restore.ContinueWithout) {
		t.Fatalf("%+v", third)
	}
	s.then(answered{third.question, "nonsense"})
	s.is("what isn't offered leaves all as they are", string(map[bool]steps.Choice{true: steps.Leave}[!s.stopping.IsZero() && !s.undo]), string(steps.Leave))
}

// Wherever a run ends, each node gets the commands that bring it to where the others are.
func TestEveryNodeGetsTheCommandsThatBringItToTheOthers(t *testing.T) {
	ok, back, failed := &steps.Result{OK: true}, &steps.Result{OK: true, Reverted: true}, &steps.Result{Error: &steps.Failure{Cause: "it fails"}}
	none := &steps.Result{Reverted: true, Error: &steps.Failure{Cause: "it fails"}}
	const lost = "lost"
	node := func(v restore.Verb, end any) *nodeRun {
		n := &nodeRun{verb: v}
		switch end := end.(type) {
		case *steps.Result:
			n.res = end
		case restore.Verb:
			n.err, n.instead = errors.New("an undo has begun here"), end
		case error:
			n.err = end
		default:
			n.lost = errors.New("no route to host")
		}
		return n
	}
	undo, redo := restore.Undo, restore.Redo
	for _, tt := range []struct {
		story   string
		verb    restore.Verb // of the whole run
		touched bool
		nodes   []*nodeRun
		states  string
		do      string // by node, | between
		exit    int
	}{
		{"restored", "", true, []*nodeRun{node("", ok), node("", ok)}, "restored restored", "|", 0},
		{"nothing was touched", "", false, []*nodeRun{node("", none), node("", lost)}, "untouched untouched", "|", 1},
		{"nothing was touched, and one could not begin", "", false, []*nodeRun{node("", errors.New("no")), node("", none)}, "untouched untouched", "|", 1},
		{"left where it was", "", true, []*nodeRun{node("", failed), node("", failed)}, "unfinished unfinished", "resume --fleet, undo --fleet|resume --fleet, undo --fleet", 3},
		{"left, and one is lost", "", true, []*nodeRun{node("", failed), node("", lost)}, "unfinished unreachable", "resume --fleet, undo --fleet|resume --fleet, undo --fleet", 3},
		{"the others continued without one", "", true, []*nodeRun{node("", ok), node("", ok), node("", failed)}, "restored restored unfinished", "||resume", 3},
		{"one is lost at the end", "", true, []*nodeRun{node("", ok), node("", lost)}, "restored unreachable", "|resume", 3},
		{"left before one was touched", "", true, []*nodeRun{node("", none), node("", failed)}, "untouched unfinished", "|undo", 3},
		{"undone after a failure", "", true, []*nodeRun{node(undo, back), node(undo, back)}, "reverted reverted", "|", 1},
		{"one is not undone", "", true, []*nodeRun{node(undo, back), node(undo, failed)}, "reverted unfinished", "|undo", 3},
		{"one isn't there to be undone", "", true, []*nodeRun{node(undo, back), node(undo, lost)}, "reverted unreachable", "|undo", 3},
		{"none is undone", "", true, []*nodeRun{node(undo, failed), node(undo, lost)}, "unfinished unreachable", "undo --fleet|undo --fleet", 3},
		{"undo --fleet", undo, true, []*nodeRun{node(undo, back), node(undo, back)}, "reverted reverted", "|", 0},
		{"undo --fleet, one is lost", undo, true, []*nodeRun{node(undo, back), node(undo, lost)}, "reverted unreachable", "|undo", 3},
		{"undo --fleet, interrupted on all", undo, true, []*nodeRun{node(undo, failed), node(undo, failed)}, "unfinished unfinished", "undo --fleet|undo --fleet", 3},
		{"redo --fleet", redo, true, []*nodeRun{node(redo, ok), node(redo, ok)}, "restored restored", "|", 0},
		{"redo --fleet, one fails", redo, true, []*nodeRun{node(redo, ok), node(redo, failed)}, "restored unfinished", "|redo --fleet", 3},
		{"redo --fleet, one is lost", redo, true, []*nodeRun{node(redo, ok), node(redo, lost)}, "restored unreachable", "|redo --fleet", 3},
		{"redo --fleet, interrupted on all", redo, true, []*nodeRun{node(redo, failed), node(redo, failed)}, "unfinished unfinished", "redo --fleet, undo --fleet|redo --fleet, undo --fleet", 3},
		{"redo --fleet fails, and is undone", redo, true, []*nodeRun{node(undo, back), node(undo, back)}, "reverted reverted", "|", 1},
		{"redo --fleet fails, and one is not undone", redo, true, []*nodeRun{node(undo, back), node(undo, failed)}, "reverted unfinished", "|undo", 3},
		{"resume --fleet, one was undone meanwhile", restore.Resume, true, []*nodeRun{node(restore.Resume, failed), node(restore.Resume, undo)}, "unfinished unfinished", "undo --fleet|undo --fleet", 3},
		{"resume --fleet, one was undone and one is restored", restore.Resume, true, []*nodeRun{node(restore.Resume, ok), node(restore.Resume, undo)}, "restored unfinished", "|undo --fleet", 3},
		{"resume --fleet, one is being redone", restore.Resume, true, []*nodeRun{node(restore.Resume, failed), node(restore.Resume, redo)}, "unfinished unfinished", "redo --fleet, undo --fleet|redo --fleet, undo --fleet", 3},
		{"resume --fleet, one fails before it is touched", restore.Resume, true, []*nodeRun{node(restore.Resume, ok), node(restore.Resume, none)}, "restored untouched", "|resume --fleet, undo --fleet", 3},
	} {
		t.Run(tt.story, func(t *testing.T) {
			m := &machine{verb: tt.verb, touched: tt.touched, nodes: tt.nodes, command: func(verb string) string { return verb }}
			if tt.nodes[0].verb != tt.verb {
				m.fail = failed.Error // which is why they were undone
			}
			res := m.result()
			var states, do []string
			for _, nr := range res.Nodes {
				states, do = append(states, string(nr.State)), append(do, strings.Join(nr.Do, ", "))
			}
			if got := strings.Join(states, " "); got != tt.states {
				t.Errorf("the nodes are %s, want %s", got, tt.states)
			}
			if got := strings.Join(do, "|"); got != tt.do {
				t.Errorf("to do: %q, want %q", got, tt.do)
			}
			if got := res.ExitCode(); got != tt.exit {
				t.Errorf("exit status %d, want %d", got, tt.exit)
			}
			if tt.exit != 0 && res.Error == nil {
				t.Error("nothing says why")
			}
		})
	}
}

// What an earlier connection or request still brings is void: an agent that is
// gone opens no barrier, asks nothing and ends nothing.
func TestWhatAnEarlierTryStillBringsIsVoid(t *testing.T) {
	s := newTale(t, "", "cp1", "cp2")
	s.all(steps.PhaseStaged)
	s.says(0, message{Barrier: steps.PhaseAPIGone})
	old := s.nodes[1].try
	late := func(when string) {
		t.Helper()
		fails := &steps.Failure{Cause: "it fails", Choices: []steps.Choice{steps.Revert, steps.Leave}}
		for _, in := range []input{
			news{1, old, message{Barrier: steps.PhaseAPIGone}},
			news{1, old, message{Ask: fails}},
			news{1, old, message{Event: &steps.Event{Etcd: steps.EtcdStopped}}},
			ended{1, old, &steps.Result{OK: true}, nil},
			ended{1, old, nil, &errGone{}},
			linked{1, old, nil},
			linked{1, old, errors.New("no route to host")},
		} {
			if out := s.then(in); len(out) > 0 {
				t.Errorf("%s, %T %+v is taken: %+v", when, in, in, out)
			}
		}
		if n := s.nodes[1]; n.reached != 1 || n.asked != 0 || n.etcdStopped || n.res != nil || n.lost != nil {
			t.Errorf("%s: %+v", when, n)
		}
	}
	s.then(ended{1, old, nil, &errGone{}})
	late("while it is reached again")
	s.then(linked{1, s.nodes[1].try, nil})
	late("when it runs again")
	s.is("its own message counts", s.gone(s.says(1, message{Barrier: steps.PhaseAPIGone})), "cp1 cp2")
}

// Nobody could answer what offers nothing.
func TestANodeThatOffersNoChoiceCanBeLeft(t *testing.T) {
	s := newTale(t, restore.Undo, "cp1", "cp2")
	asked := s.asks(s.says(1, message{Ask: &steps.Failure{Cause: "it says"}}))
	if asked == nil || !slices.Equal(asked.Failure.Choices, []steps.Choice{steps.Leave}) {
		t.Errorf("it asks %+v", asked)
	}
}

// A control plane without etcd waits in its undo for etcd on the other hosts. When
// the undo of one of those has failed, and nobody is there to be asked, it is
// stopped soon, and says whom it waited for.
func TestWhoWaitsForAnUndoThatHasFailedIsStopped(t *testing.T) {
	s := newTale(t, restore.Undo, "cp1", "etcd1", "etcd2")
	waits := message{Event: &steps.Event{Type: steps.TypeAction, State: steps.Waiting, Action: "undo-start.1", Seen: []steps.Sighting{
		{What: "etcd1", Is: "etcd doesn't answer"}, {What: "etcd2", Is: "etcd serves", OK: true},
	}}}
	stops := func(out []output) (nodes []string) {
		for _, o := range out {
			if w, ok := o.(say); ok && w.Do == doStop {
				nodes = append(nodes, s.nodes[w.node].name)
			}
		}
		return nodes
	}
	lasts := func(d time.Duration) (out []output) { // a wait says something once a second
		for end := s.now.Add(d); s.now.Before(end); {
			s.says(0, waits)
			s.says(1, message{Event: &steps.Event{Type: steps.TypeAction, State: steps.Waiting}})
			out = append(out, s.after(time.Second)...)
		}
		return out
	}
	s.then(ended{2, s.nodes[2].try, &steps.Result{OK: true, Reverted: true}, nil})
	if who := stops(lasts(5 * time.Minute)); who != nil {
		t.Fatalf("stopped while etcd1 is at work: %v", who)
	}
	s.then(ended{1, s.nodes[1].try, &steps.Result{Error: &steps.Failure{Cause: "etcd.service has failed (exit-code)"}}, nil})
	if who := stops(lasts(s.pace.Behind - time.Second)); who != nil {
		t.Fatalf("etcd1 has no moment to come up by itself: %v", who)
	}
	s.is("then", strings.Join(stops(lasts(3*time.Second)), " "), "cp1")
	s.then(ended{0, s.nodes[0].try, &steps.Result{Error: &steps.Failure{Cause: "you stopped the run"}}, nil})
	if s.res == nil || s.res.OK || s.res.ExitCode() != 3 {
		t.Fatalf("%+v", s.res)
	}
	s.is("the failure", s.res.Error.Cause, "etcd1: etcd.service has failed (exit-code)")
	s.is("cp1", s.res.Nodes[0].Cause, "stopped: it waited for etcd1, and the undo there has failed")
	s.is("the way on", strings.Join(s.res.Nodes[0].Do, "; "), "etcd-rewind undo --fleet "+theRun)
}

// A run that reports nothing is reported within seconds, and less and less often.
func TestARunThatSaysNothingIsToldOf(t *testing.T) {
	s := newTale(t, restore.Redo, "cp1", "cp2")
	var told []string
	begun := s.now
	for range 300 {
		s.says(1, message{Event: &steps.Event{Type: steps.TypeAction, State: steps.Waiting}})
		for _, o := range s.after(200 * time.Millisecond) {
			if w, ok := o.(tell); ok && w.Type == restore.TypeLink {
				told = append(told, s.now.Sub(begun).Round(time.Second).String()+" "+w.Node+": "+w.Message)
			}
		}
	}
	s.is("told", strings.Join(told, "\n"), "5s cp1: nothing new for 5 s; last seen in its redo\n"+
		"10s cp1: nothing new for 10 s; last seen in its redo\n20s cp1: nothing new for 20 s; last seen in its redo\n40s cp1: nothing new for 40 s; last seen in its redo")
}

// What a node says after the run was stopped for another's fault is not how it ended: one
// whose lock another session holds would have it that nothing was begun.
func TestARefusalAfterAFailureIsNotWhatTheRunEndsWith(t *testing.T) {
	refuses := func(s *tale, node int) {
		s.then(ended{node, s.nodes[node].try, nil, &problem.Problem{Cause: "another run is under way", Code: codeLocked}})
	}
	fails := func(s *tale, node int) {
		s.then(ended{node, s.nodes[node].try, &steps.Result{Reverted: true, Error: &steps.Failure{Cause: "damaged"}}, nil})
	}
	for _, c := range []struct {
		name         string
		first, then  func(*tale, int)
		status       int
		blamed, also string
	}{
		{"a failure, and a refusal after it", fails, refuses, 1, "cp1: damaged", "another run is under way"},
		{"a refusal, and a failure after it", refuses, fails, 4, "cp1: another run is under way", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newTale(t, "", "cp1", "cp2")
			c.first(s, 0)
			c.then(s, 1)
			if s.res == nil || s.res.ExitCode() != c.status || s.res.Error.Cause != c.blamed || s.res.Nodes[1].Cause != c.also {
				t.Errorf("%+v", s.res)
			}
		})
	}
}
