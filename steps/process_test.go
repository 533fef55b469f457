package steps

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"
)

// unitKind is a kind of process as systemd would be one: started without
// waiting for it, and then seen to get on by its states.
type unitKind struct{ unit string }

func (u unitKind) Name() string                             { return u.unit + ".env" }
func (u unitKind) Path() string                             { return "/etc/" + u.unit + ".env" }
func (u unitKind) process(*builder, *Plan) (process, error) { return u, nil }
func (u unitKind) prepared() []Prepared                     { return nil }
func (u unitKind) stop(StopHow) []Action                    { return u.systemctl("stop") }
func (u unitKind) rest() []Action                           { return nil }
func (u unitKind) start() []Action                          { return u.systemctl("start") }
func (u unitKind) ref() processRef                          { return processRef{pod: u.unit} }
func (u unitKind) systemctl(verb string) []Action {
	return []Action{&RestartKubelet{Command: verb + " " + u.unit}}
}

// A kind of process is one place: what holds etcd's settings says what runs it,
// and all of the plan follows.
func TestAKindOfProcessEntersThePlanByItsSource(t *testing.T) {
	n := newFakeNode(t)
	f := n.facts()
	f.Etcd = &Etcd{f.Etcd.EtcdSettings, unitKind{"etcd"}}
	p, err := NewRestore(f, snapshotOfTheTests, Choices{})
	if err != nil {
		t.Fatal(err)
	}
	kinds := func(step string) (all []string) {
		for _, a := range p.step(step).Actions {
			what := a.Kind()
			if r, ok := a.Action.(*RestartKubelet); ok {
				what = r.Command
			}
			all = append(all, what)
		}
		return all
	}
	for step, want := range map[string][]string{
		"stop-kube-apiserver":  {"take-out", "wait-stopping", "end-pods", "wait-gone"},
		"stop-etcd":            {"stop etcd"},
		"start-etcd":           {"rename", "start etcd", "wait-data"},
		"start-kube-apiserver": {"wait-forgotten", "take-out", "take-out", "put-in", "wait-started", "wait-etcd", "wait-api"},
		// What a stuck kubelet keeps running is its own pods.
		stuckKubeletStep: {"take-out", "take-out", "take-out", "restart kubelet", "end-pods", "wait-gone", "wait-gone", "wait-gone"},
	} {
		got := kinds(step)
		for i := range got {
			got[i] = strings.Replace(got[i], "systemctl restart kubelet", "restart kubelet", 1)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", step, got, want)
		}
	}
	for _, file := range p.Steps[0].Actions[0].Action.(*Prepare).Files {
		if strings.HasSuffix(file.Manifest, "etcd.yaml") {
			t.Errorf("%s is prepared, though etcd is no pod", file.Manifest)
		}
	}
}

// unitStates is such a process while a wait looks at it: in each look another
// state, until the last.
type unitStates struct {
	states []string
	words  []string
}

func (u *unitStates) retry(context.Context) error { return nil }

func (u *unitStates) look(_ context.Context, _ string, s *sight) (bool, error) {
	is := u.states[0]
	s.seen[0] = Sighting{What: "unit", Is: is, OK: is == "active"}
	if len(u.states) > 1 {
		u.states = u.states[1:]
	}
	if is == "failed" {
		t := stuck("", "the unit has failed")
		t.log = u.words
		return false, t
	}
	return is == "active", nil
}

func (u *unitStates) late(cause string) error { return stuck("", "%s", cause) }

func TestAWaitShowsTheStatesOfAnyKindOfProcess(t *testing.T) {
	t.Run("it gets on", inFakeTime(func(t *testing.T) {
		n := newFakeNode(t)
		e, events := n.engine(nil)
		e.watch = func(processRef) watched { return &unitStates{states: []string{"inactive", "activating", "active"}} }
		if res := e.Run(t.Context(), n.plan(Choices{})); !res.OK {
			t.Fatal(res.Error)
		}
		var shown []string
		for _, ev := range *events {
			if len(ev.Seen) > 0 && ev.Seen[0].What == "unit" && strings.HasPrefix(ev.Action, "start-etcd.") {
				shown = append(shown, ev.Seen[0].Is)
			}
		}
		if !slices.Contains(shown, "inactive") || shown[len(shown)-1] != "active" {
			t.Errorf("the screen has seen %v", shown)
		}
	}))
	t.Run("it fails", inFakeTime(func(t *testing.T) {
		n := newFakeNode(t)
		before := n.picture()
		var failed Failure
		e, _ := n.engine(func(f Failure) Choice { failed = f; return Revert })
		e.watch = func(p processRef) watched {
			if p.file == "" { // what undo starts again
				return &unitStates{states: []string{"active"}}
			}
			return &unitStates{states: []string{"activating", "failed"}, words: []string{"listen tcp: address already in use"}}
		}
		if res := e.Run(t.Context(), n.plan(Choices{})); !res.Reverted {
			t.Errorf("not reverted: %v", res.Error)
		}
		if failed.Cause != "the unit has failed" || !slices.Equal(failed.Log, []string{"listen tcp: address already in use"}) {
			t.Errorf("%+v", failed)
		}
		if now := n.picture(); !maps.Equal(before, now) {
			t.Error("the node differs from before")
		}
	}))
}
