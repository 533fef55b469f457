package ui

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"etcd-rewind/restore"
	"etcd-rewind/steps"
	"etcd-rewind/ui/pane"
)

func brokeOff(t *testing.T) *driver {
	t.Helper()
	f := newFake()
	f.brokeOff()
	d := drive(t, f, Options{})
	d.do(d.m.discover())
	d.see("A run on this node was interrupted", "in the middle of  Wait for the cleanup of etcd-cp1", "no manifest in "+manifests)
	return d
}

func TestARunThatBrokeOffIsGoneOnWith(t *testing.T) {
	d := brokeOff(t)
	d.key("g")
	d.see("Go on: Restore before.db on cp1", "Keep a way back")
	d.key("enter")
	d.see("resumes where it was interrupted", "Type the node's name, cp1")
	d.key("y", "enter")
	d.see("Nothing was started")
	d.key("ctrl+u", "cp1", "enter")
	d.until("Restored: the API server answers")
	if r := d.m.runner.wait(); r.ExitCode() != 0 || !slices.Equal(d.f.runs, []string{steps.KindRestore}) {
		t.Errorf("ends with %d, ran %v", r.ExitCode(), d.f.runs)
	}
}

func TestARunThatBrokeOffIsUndone(t *testing.T) {
	d := brokeOff(t)
	d.key("u", "enter", "cp1", "enter")
	d.until("Undone: the node is as before")
	if r := d.m.runner.wait(); r.ExitCode() != 0 || !slices.Equal(d.f.runs, []string{steps.KindUndo}) {
		t.Errorf("ends with %d, ran %v", r.ExitCode(), d.f.runs)
	}
}

func TestARunThatBrokeOffWhileGoingBackGoesOnGoingBack(t *testing.T) {
	f := newFake()
	f.brokeOff()
	f.resumes = undoPlan()
	d := drive(t, f, Options{})
	d.do(d.m.discover())
	d.key("g", "enter")
	d.see("Put cp1 back as it was before run")
	d.key("cp1", "enter")
	d.until("Undone: the node is as before")
}

func TestARunThatBrokeOffCanBeLeftAlone(t *testing.T) {
	for _, key := range []string{"q", "esc", "ctrl+c"} {
		d := brokeOff(t)
		d.key(key)
		if r := d.m.runner.wait(); !d.quit || r != nil || len(d.f.runs) > 0 {
			t.Errorf("%s: quit %v, result %v, ran %v", key, d.quit, r, d.f.runs)
		}
	}
}

func TestEscLeadsBackToTheRunThatBrokeOff(t *testing.T) {
	d := brokeOff(t)
	for _, key := range []string{"g", "u"} {
		d.key(key, "enter")
		d.see("Type the node's name")
		d.key("esc", "esc")
		d.see("A run on this node was interrupted")
	}
	d.key("n")
	d.see("resume that run or undo it: esc")
	d.dontSee("outside the cluster's pods")
	d.key("enter")
	d.see("This node can't be restored as it is")
	d.key("esc")
	d.see("A run on this node was interrupted")
}

func TestAgainOnlyPastTheCheckOfTheEarlierRun(t *testing.T) {
	f := newFake()
	f.facts.Unfinished = &steps.RunInfo{Run: "20261119-080000", State: steps.RunFailed}
	f.verdicts = [][]steps.Verdict{{{Check: "earlier-run", Title: "Earlier run", Level: steps.Error, Overridable: true, Cause: "run 20261119-080000 did not come to its end"}}}
	d := drive(t, f, Options{})
	d.do(d.m.discover())
	d.key("enter")
	d.see("A run on this node was interrupted")
	d.key("n", "enter", "enter", "enter")
	d.see("blocked by 1 check: earlier-run")
	if len(f.planned) > 0 {
		t.Error("it was planned all the same")
	}
}

func TestAManifestThatIsThereButUnusableIsStillRefused(t *testing.T) {
	facts := someFacts()
	facts.Unfinished = &steps.RunInfo{Run: "20261119-080000"}
	bad := []steps.Verdict{{Check: "etcd-manifest", Level: steps.Error, Cause: "etcd runs in a shell"}}
	if got := pane.Explained(facts, bad); len(got) != 1 || got[0].Check != "etcd-manifest" {
		t.Errorf("with both manifests there: %+v", got)
	}
	facts.Etcd, facts.Unfinished = nil, nil
	if got := pane.Explained(facts, bad); len(got) != 1 || got[0].Check != "etcd-manifest" {
		t.Errorf("without an earlier run: %+v", got)
	}
}

func TestTheTimesOfARunThatBrokeOffGoOn(t *testing.T) {
	d := brokeOff(t)
	d.see("away for 11m58s")
	later := func(by time.Duration) {
		d.m.now = func() time.Time { return noon.Add(by) }
		cmd := d.m.handle(tickMsg(noon.Add(by)))
		d.m.ticking = true // no tick after it
		d.do(cmd)
	}
	later(500 * time.Millisecond)
	d.see("away for 11m58s")
	later(3 * time.Second)
	d.see("away for 12m1s")
}

// A restore that was stopped can be gone on with at once, and then counts as
// done and not as put back.
func TestAStoppedRunIsGoneOnWith(t *testing.T) {
	f := newFake()
	f.hold, f.holdAt = make(chan struct{}), "stop-etcd.1"
	d := drive(t, f, Options{})
	d.to(runScreen)
	d.until("▸ Move etcd.yaml aside")
	d.key("ctrl+c", "s")
	d.until("you stopped the run")
	f.holdAt = ""
	d.key("g", "esc")
	d.see("you stopped the run")
	d.key("g", "enter", "cp1", "enter")
	d.until("Restored:")
	if r := d.m.runner.wait(); r.ExitCode() != 0 || r.Reverted {
		t.Errorf("ends as %+v", r)
	}
}

func TestAnUndoThatFailedAtFirstIsNotAFailedRestore(t *testing.T) {
	d := brokeOff(t)
	d.f.failAt = "undo-stop-etcd.2"
	d.key("u", "enter", "cp1", "enter")
	d.until("permission denied")
	d.key("x", "y")
	d.until("The undo was not finished")
	d.dontSee("go on")
	d.key("u", "enter", "cp1", "enter")
	d.until("Undone: the node is as before")
	if r := d.m.runner.wait(); r.ExitCode() != 0 || !r.OK {
		t.Errorf("ends as %+v", r)
	}
}

func TestALateUndoSaysWhatIsLost(t *testing.T) {
	d := brokeOff(t)
	d.f.since = "18422 revisions in 49h12m5s; the cluster loses it"
	d.key("u", "enter")
	d.see("! Written since the restore: 18422 revisions in 49h12m5s", "Type the node's name, cp1")
	d.key("enter")
	d.see("Nothing was started")
}

// live is a wizard that finds another process's run.
func live(t *testing.T, f *fake) *driver {
	t.Helper()
	f.live = &steps.RunInfo{Run: "20261120-120000", Dir: "/etc/kubernetes/etcd-rewind/20261120-120000"}
	d := drive(t, f, Options{})
	d.do(d.m.discover())
	return d
}

func TestAnotherProcessesRunIsShownLiveAndNotTouched(t *testing.T) {
	f := newFake()
	f.told = until(record(f, restorePlan(), steps.Unattended), action("stop-etcd.2", steps.Waiting, 2))
	f.runs, f.ran = nil, nil
	f.followed = make(chan struct{})
	d := live(t, f)
	d.until("▸ Wait for the cleanup")
	d.see("run by another etcd-rewind; this screen is read-only", "API down", "q leave")
	for _, key := range []string{"u", "s", "y", "r", "x"} {
		d.key(key)
		d.see("▸ Wait for the cleanup")
	}
	d.key("k", "?", "esc", "c")
	d.see("Done so far, and how to do it by hand", "mv -n")
	d.key("esc", "l")
	d.see("etcd says hello")
	d.key("esc", "q")
	if r := d.m.runner.wait(); !d.quit || r != nil || len(f.runs) > 0 {
		t.Errorf("quit %v, result %v, ran %v", d.quit, r, f.runs)
	}
}

func TestCtrlCAndSignalsLeaveAnotherProcessesRunAlone(t *testing.T) {
	for name, leave := range map[string]func(d *driver){
		"ctrl-c":  func(d *driver) { d.key("ctrl+c") },
		"SIGINT":  func(d *driver) { d.update(signalMsg{}) },
		"SIGTERM": func(d *driver) { d.update(signalMsg{end: true}) },
	} {
		f := newFake()
		f.followed = make(chan struct{})
		d := live(t, f)
		leave(d)
		if !d.quit {
			t.Errorf("%s doesn't close the screen", name)
		}
	}
}

func TestAnotherProcessesRunComesToItsEnd(t *testing.T) {
	f := newFake()
	f.told = record(f, restorePlan(), steps.Unattended)
	f.runs = nil
	d := live(t, f)
	d.until("Restored: the API server answers")
	d.see("run by another etcd-rewind; finished", "API was down")
	if r := d.m.runner.wait(); r != nil {
		t.Errorf("it counts as ours: %+v", r)
	}
	d.key("u", "enter", "cp1", "enter") // from here on it is anybody's
	d.until("Undone: the node is as before")
	if r := d.m.runner.wait(); r.ExitCode() != 0 || !slices.Equal(f.runs, []string{steps.KindUndo}) {
		t.Errorf("ends as %+v, ran %v", r, f.runs)
	}
	d.dontSee("another etcd-rewind")
}

func TestAnotherProcessThatDiedLeavesTheRunToBeSettled(t *testing.T) {
	f := newFake()
	f.told = until(record(f, restorePlan(), steps.Unattended), action("stop-etcd.2", steps.Waiting, 2))
	f.runs = nil
	f.dies = true
	f.brokeOff()
	d := live(t, f)
	d.until("A run on this node was interrupted")
	d.see("The etcd-rewind that ran this has exited")
	d.key("u", "enter", "cp1", "enter")
	d.until("Undone: the node is as before")
}

func TestARunThatCanNotBeFollowedSaysWhy(t *testing.T) {
	f := newFake()
	f.lost = errors.New("follow the run: permission denied")
	d := live(t, f)
	d.until("follow the run: permission denied")
	d.see("The run can't be shown", "another etcd-rewind")
	d.key("r")
	d.see("A control plane with one etcd member")
}

func TestAFailureOfAnotherProcessIsShownWithoutItsChoices(t *testing.T) {
	f := newFake()
	f.failAt = "start-etcd.4"
	all := record(f, restorePlan(), steps.Unattended)
	f.told = until(all, func(ev steps.Event) bool { return ev.Type == steps.TypeAsk })
	f.chosen = nil
	f.followed = make(chan struct{})
	d := live(t, f)
	d.until("permission denied")
	d.see("The other session is waiting for an answer")
	d.dontSee("(recommended)")
	d.key("u", "w", "r", "x")
	d.see("The other session is waiting for an answer")
	for _, ev := range all[len(f.told):] {
		d.m.box.put(restore.NodeEvent{Event: ev})
	}
	d.until("Start etcd on the o")
	d.m.box.put(followedMsg{ended: true})
	d.until("Not restored. The run was undone")
	if len(f.chosen) > 0 {
		t.Errorf("chosen %v", f.chosen)
	}
}

// The events of a run that broke off and was gone on with hold an end in the
// middle, a failure that nobody answered, and steps that come again.
func TestAnotherProcessGoesOnWithARun(t *testing.T) {
	f := newFake()
	f.failAt = "start-etcd.4"
	first := until(record(f, restorePlan(), steps.Unattended), func(ev steps.Event) bool { return ev.Type == steps.TypeAsk })
	end := steps.Event{Type: steps.TypeResult, Time: first[len(first)-1].Time, Result: &steps.Result{Error: &steps.Failure{Cause: "the first end"}}}
	f.failAt = ""
	second := until(record(f, resumePlan(), steps.Unattended), action("stage.1", steps.Waiting, 3))
	for i := range second {
		second[i].Time = second[i].Time.Add(time.Hour)
	}
	f.told = append(append(first, end), second...)
	f.followed = make(chan struct{})
	d := live(t, f)
	d.until("▸ Restore the snapshot")
	d.dontSee("the first end")
	d.dontSee("permission denied")
	if strings.Contains(d.view(), "✓ Stop kube-apiserver") {
		t.Errorf("what the first one did is shown as done by the second:\n%s", d.view())
	}
	if _, away, _ := d.m.run.Outage(d.m.now()); away > 60 {
		t.Errorf("the hour that nobody saw counts as outage: %v s", away)
	}
}
