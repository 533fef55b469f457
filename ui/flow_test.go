package ui

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/charmbracelet/x/ansi"

	"etcd-rewind/problem"
	"etcd-rewind/restore"
	"etcd-rewind/steps"
	"etcd-rewind/ui/pane"
	"etcd-rewind/ui/text"
)

func TestFromStartToSummary(t *testing.T) {
	d := drive(t, newFake(), Options{})
	d.see("Reading this node")
	d.do(d.m.discover())
	d.see("A control plane with one etcd member", "revision 1000000802", "containerd 1.6.20")
	d.key("enter")
	d.see("▸✓ /var/backups/after.db", "1000000802")
	d.key("j", "enter")
	d.see("4 ok; nothing blocks the restore", "before.db   revision 1000000675")
	d.key("enter")
	d.see("data directory   /var/lib/etcd-20261120-120000", "Keep a way back")
	d.key("enter")
	d.see("Type the node's name, cp1")
	d.key("cp1", "enter")
	d.until("Restored: the API server answers")
	d.see("/var/lib/etcd, untouched", "etcd-rewind undo 20261120-120000", "report.md")
	d.key("q")
	if !d.quit {
		t.Error("q didn't quit")
	}
	if r := d.m.runner.wait(); r == nil || !r.OK || r.ExitCode() != 0 {
		t.Errorf("result %+v", r)
	}
	if want := []string{steps.KindRestore}; !slices.Equal(d.f.runs, want) {
		t.Errorf("ran %v, want %v", d.f.runs, want)
	}
}

func TestNothingStartsWithoutTheNodesName(t *testing.T) {
	d := drive(t, newFake(), Options{})
	d.to(confirmScreen)
	for _, wrong := range []string{"", "CP1", "cp", "cp11", "yes"} {
		d.key("ctrl+u", wrong, "enter")
		d.see("Nothing was started", "Type the node's name, cp1")
	}
	if len(d.f.runs) > 0 {
		t.Fatalf("ran %v", d.f.runs)
	}
	d.key("esc")
	d.see("stop API server")
	d.key("enter")
	d.see("> ")
	d.dontSee("yes")
	d.key("cp1", "enter")
	d.until("Restored")
}

func TestWarningsAreAcceptedOneByOneAndErrorsByTheirName(t *testing.T) {
	f := newFake()
	f.verdicts = [][]steps.Verdict{someVerdicts()}
	d := drive(t, f, Options{})
	d.to(checkScreen)
	d.see("3 to fix or override")
	d.key("enter")
	d.see("blocked by 3 checks: room, snapshot-age, hash")
	d.key("space", "hash", "enter")
	d.see("That isn't room")
	d.key("ctrl+u", "room", "enter")
	d.see("[x] overridden", "2 to fix or override")
	d.key("space")
	d.see("1 to fix or override")
	d.key("a")
	d.see("nothing blocks the restore")
	d.key("a")
	d.see("1 to fix or override") // taken back
	d.key("a", "enter", "enter")
	d.see("overridden: room, snapshot-age, hash")
	if got := d.f.planned[len(d.f.planned)-1].Accept; !slices.Equal(got, []string{"hash", "room", "snapshot-age"}) {
		t.Errorf("planned with %v accepted", got)
	}
}

func TestWhatWasAcceptedHoldsOnlyForWhatWasShown(t *testing.T) {
	warn := func(cause string) steps.Verdict {
		return steps.Verdict{Check: "snapshot-age", Title: "Age", Level: steps.Warn, Cause: cause}
	}
	worse := warn("26 h old")
	worse.Level, worse.Overridable = steps.Error, true
	for name, tc := range map[string]struct {
		given  []string
		second steps.Verdict
		want   string
	}{
		"the same verdict stays accepted":                     {second: warn("26 h old"), want: "nothing blocks the restore"},
		"another cause has to be overridden again":            {second: warn("30 h old"), want: "1 to fix or override"},
		"a warning that became an error has to be overridden": {second: worse, want: "1 to fix or override"},
		"the command line accepts whatever it says":           {given: []string{"snapshot-age"}, second: worse, want: "nothing blocks the restore"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake()
			f.verdicts = [][]steps.Verdict{{warn("26 h old")}, {tc.second}}
			d := drive(t, f, Options{Choices: steps.Choices{Accept: tc.given}})
			d.to(checkScreen)
			if tc.given == nil {
				d.key("space")
			}
			d.see("nothing blocks the restore")
			d.key("r")
			d.see(tc.want)
		})
	}
}

func TestABlockingErrorCanNotBeAccepted(t *testing.T) {
	f := newFake()
	f.verdicts = [][]steps.Verdict{{{Check: "root", Title: "Root", Level: steps.Error, Cause: "not root"}}}
	d := drive(t, f, Options{Choices: steps.Choices{Accept: []string{"root"}}})
	d.to(checkScreen)
	d.key("space")
	d.see("root can't be overridden")
	d.key("enter", "enter")
	d.see("blocked by 1 check: root")
	if len(f.planned) > 0 {
		t.Error("it was planned all the same")
	}
}

func TestEscGoesBackScreenByScreen(t *testing.T) {
	d := drive(t, newFake(), Options{})
	d.to(confirmScreen)
	for _, title := range []string{"stop API server", "nothing blocks the restore", "Which snapshot", "A control plane"} {
		d.key("esc")
		d.see(title)
	}
	d.key("esc")
	if !d.quit {
		t.Error("esc on the first screen doesn't quit")
	}
}

func TestABadSnapshotCanNotBeChosen(t *testing.T) {
	f := newFake()
	f.bad = map[string]error{"/root/copied.db": &problem.Problem{Code: "damaged-hash", Cause: "damaged: its sha256 doesn't match", Hint: "take another"}}
	d := drive(t, f, Options{})
	d.to(chooseScreen)
	d.key("j", "j", "enter")
	d.see("cut.db can't be restored: truncated", "copy it again, or take another one")
	d.key("j", "enter")
	d.see("copied.db can't be restored: damaged", "take another")
	if d.m.screen != chooseScreen {
		t.Error("went on")
	}
}

func TestLeavingTheListBreaksTheInspectionOffWithoutAVerdict(t *testing.T) {
	d := drive(t, newFake(), Options{})
	d.do(d.m.discover())
	d.m.screen = chooseScreen
	d.m.picker = newPicker("/mnt/slow.db")
	look := d.m.lookInside()
	d.m.picker.pause()
	d.m.screen = checkScreen
	d.do(look)
	if d.m.picker.Next() != "/mnt/slow.db" || d.m.picker.busy() && !d.m.picker.Searching {
		t.Errorf("after it was broken off: %+v", d.m.picker)
	}
	d.m.screen = chooseScreen
	d.do(d.m.lookInside())
	d.see("SHA-256     verified")
}

func TestTabCompletesAPath(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"backup-1.db", "backup-2.db", ".hidden"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "old"), 0o700); err != nil {
		t.Fatal(err)
	}
	for typed, want := range map[string]completedMsg{
		"/":         {longest: "/", matches: []string{"backup-1.db", "backup-2.db", "old/"}},
		"/b":        {longest: "/backup-", matches: []string{"backup-1.db", "backup-2.db"}},
		"/backup-2": {longest: "/backup-2.db"},
		"/o":        {longest: "/old/"},
		"/.h":       {longest: "/.hidden"},
		"/x":        {longest: "/x"},
		"/no/such":  {longest: "/no/such"},
	} {
		got := complete(dir + typed)
		if got.longest != dir+want.longest || !slices.Equal(got.matches, want.matches) {
			t.Errorf("%s: %q %v, want %q %v", typed, strings.TrimPrefix(got.longest, dir), got.matches, want.longest, want.matches)
		}
	}
	d := drive(t, newFake(), Options{})
	d.to(chooseScreen)
	d.key("p", dir+"/b", "tab")
	d.see("backup-1.db", "backup-2.db")
	d.key("1", "tab", "enter")
	d.see("backup-1.db", "SHA-256     verified")
}

func TestATypedPathIsLookedIntoAndHighlighted(t *testing.T) {
	d := drive(t, newFake(), Options{})
	d.to(chooseScreen)
	d.key("p", "/mnt/nfs/old.db", "enter")
	d.see("▸✓ /mnt/nfs/old.db", "SHA-256     verified")
	d.key("enter")
	d.see("/mnt/nfs/old.db   revision")
}

func TestTheSnapshotNamedOnTheCommandLineIsHighlighted(t *testing.T) {
	d := drive(t, newFake(), Options{Snapshot: "/var/backups/before.db"})
	d.to(chooseScreen)
	d.see("▸✓ …/backups/before.db")
	if strings.Count(d.view(), "before.db") != 2 { // in the list, and its details
		t.Errorf("it is listed twice:\n%s", d.view())
	}
}

func TestAChangedChoiceIsCheckedAndPlannedAgain(t *testing.T) {
	f := newFake()
	f.verdicts = [][]steps.Verdict{goodVerdicts(), goodVerdicts(), {{Check: "target", Title: "Target", Level: steps.Error, Cause: "/data is not empty"}}}
	d := drive(t, f, Options{})
	d.to(planScreen)
	d.key("s")
	d.see("gracefully")
	d.key("d", "ctrl+u", "/data", "enter")
	d.see("data directory   /data", "blocked by 1 check: target")
	d.key("enter")
	d.see("esc returns to them")
	last := f.checked[len(f.checked)-1]
	if last.DataDir != "/data" || last.Stop != steps.StopGraceful {
		t.Errorf("checked with %+v", last)
	}
	d.key("esc")
	d.see("/data is not empty")
}

func TestTheRevisionBumpCanBeTypedTurnedOffAndLeftToTheDefault(t *testing.T) {
	d := drive(t, newFake(), Options{})
	d.to(planScreen)
	d.key("n", "ctrl+u", "5x", "enter")
	d.see("has to be a whole number")
	d.key("backspace", "enter")
	d.see("+5, and everything before")
	d.key("n", "ctrl+u", "0", "enter")
	d.see("not raised")
	d.key("n", "ctrl+u", "enter")
	if got := d.f.planned[len(d.f.planned)-1].Bump; got != nil {
		t.Errorf("the default is planned as %d", *got)
	}
}

func TestCtrlCDuringARunAsksAndStopsBeforeTheNextAction(t *testing.T) {
	f := newFake()
	f.hold, f.holdAt = make(chan struct{}), "stop-etcd.1"
	d := drive(t, f, Options{})
	d.to(runScreen)
	d.until("▸ Move etcd.yaml aside")
	d.key("q")
	d.see("ctrl-c asks whether to stop it")
	d.key("ctrl+c")
	d.see("Stop the run?", "Now: Move etcd.yaml aside")
	d.key("ctrl+c")
	d.see("Stop the run?") // again changes nothing
	d.key("n")
	d.see("▸ Move etcd.yaml aside")
	d.key("ctrl+c", "s")
	d.until("you stopped the run")
	d.see("The node is half restored", "etcd-rewind resume 20261120-120000", "etcd-rewind undo 20261120-120000", "u undo")
	if d.quit {
		t.Error("the wizard ended")
	}
	if slices.Contains(f.ran, "stop-etcd.2") || !slices.Contains(f.ran, "stop-etcd.1") {
		t.Errorf("ran %v", f.ran)
	}
}

// A run that was told to stop and doesn't: nobody has to kill the wizard.
func TestCtrlCAgainLeavesARunThatDoesNotStop(t *testing.T) {
	f := newFake()
	f.hold, f.holdAt, f.deaf = make(chan struct{}), "stop-etcd.1", true
	d := drive(t, f, Options{})
	d.to(runScreen)
	d.until("▸ Move etcd.yaml aside")
	d.key("ctrl+c", "s")
	d.until("stopping")
	d.key("ctrl+c")
	d.see("Leave at once?", "resumed or undone")
	d.key("n")
	d.key("ctrl+c", "l")
	if !d.quit || !d.m.left {
		t.Fatal("the wizard stays")
	}
	res := d.m.runner.left()
	if res.ExitCode() != 3 || !strings.Contains(res.Error.Hint, "etcd-rewind resume 20261120-120000") || !strings.Contains(res.Error.Hint, "etcd-rewind undo 20261120-120000") {
		t.Errorf("status %d, %+v", res.ExitCode(), res.Error)
	}
	close(f.hold)
}

// The steps can be looked at after the run, and the last line then names what
// the keys do there: nothing is left to stop or to undo.
func TestTheStepsOfAnEndedRunOfferTheSummary(t *testing.T) {
	d := drive(t, newFake(), Options{})
	d.to(runScreen)
	d.until("Restored: ")
	d.key("esc")
	d.see("✓ Stop etcd", "esc summary", "q quit")
	d.dontSee("ctrl-c stop")
	d.dontSee("u undo")
	d.key("esc")
	d.see("Restored: ", "esc steps")
}

func TestUndoDuringARunStopsItAndPutsTheNodeBack(t *testing.T) {
	f := newFake()
	f.hold, f.holdAt = make(chan struct{}), "stop-etcd.1"
	d := drive(t, f, Options{})
	d.to(runScreen)
	d.until("▸ Move etcd.yaml aside")
	d.key("u")
	d.see("Stop the run and undo it?")
	d.key("s") // not a key here
	d.see("Stop the run and undo it?")
	d.key("y")
	d.until("Undone: the node is as before")
	if want := []string{steps.KindRestore, steps.KindUndo}; !slices.Equal(f.runs, want) {
		t.Errorf("ran %v, want %v", f.runs, want)
	}
	if r := d.m.runner.wait(); r.OK || !r.Reverted || r.ExitCode() != 1 {
		t.Errorf("a restore that was put back ends as %+v", r)
	}
}

func TestAFailureOffersItsChoices(t *testing.T) {
	for _, tc := range []struct {
		name string
		keys []string
		want steps.Choice
		ends string
	}{
		{"undo reverts the node", []string{"u", "n", "u", "y"}, steps.Revert, "Not restored. The run was undone"},
		{"waiting changes nothing, and is not asked once more", []string{"w"}, steps.WaitOn, "Restored:"},
		{"retry", []string{"r", "n", "r", "y"}, steps.Retry, "Restored:"},
		{"leaving", []string{"x", "esc", "x", "y"}, steps.Leave, "The node is half restored"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFake()
			f.failAt = "start-etcd.4"
			d := drive(t, f, Options{})
			d.to(runScreen)
			d.until("permission denied")
			d.see("timed out after 60.2 s", "u  undo: revert the node to the state before the run   (recommended)")
			d.key("ctrl+c")
			d.see("Paused for your answer")
			d.key("y", "s", "k") // no choices here
			if got := len(f.chosen); got > 0 {
				t.Fatalf("chosen %v", f.chosen)
			}
			d.key(tc.keys...)
			d.until(tc.ends)
			if !slices.Equal(f.chosen, []steps.Choice{tc.want}) {
				t.Errorf("chosen %v, want %v", f.chosen, tc.want)
			}
		})
	}
}

func TestUndoAfterSuccess(t *testing.T) {
	d := drive(t, newFake(), Options{})
	d.to(runScreen)
	d.until("Restored:")
	d.key("u")
	d.see("Put cp1 back as it was before run", "Start etcd on the old data")
	d.key("esc")
	d.see("Restored:")
	d.key("u", "enter", "cp1", "enter")
	d.until("Undone: the node is as before")
	d.see("redo    etcd-rewind redo 20261120-120000")
	d.dontSee("u undo")
	if r := d.m.runner.wait(); r.ExitCode() != 0 {
		t.Errorf("ends with %d", r.ExitCode())
	}
}

func TestARunThatCanNotBeginSaysWhy(t *testing.T) {
	f := newFake()
	f.refuse = &steps.Failure{Cause: "another run is under way: pid 42 on cp1", Hint: "wait for it"}
	d := drive(t, f, Options{})
	d.to(runScreen)
	d.until("another run is under way: pid 42")
	d.see("! Not started. Nothing was changed.", "wait for it")
	d.dontSee("Not restored")
	if r := d.m.runner.wait(); r.ExitCode() != 4 {
		t.Errorf("ends with %d", r.ExitCode())
	}
}

func TestADefectInTheEngineEndsInAResult(t *testing.T) {
	d := drive(t, newFake(), Options{})
	d.to(confirmScreen)
	d.m.plan.Plan.Steps[2].Actions[0].Action = nil // the fake engine falls over it
	d.key("cp1", "enter")
	d.until("a defect in etcd-rewind ended the run")
	d.see("etcd-rewind undo 20261120-120000")
	if r := d.m.runner.wait(); r.ExitCode() != 3 {
		t.Errorf("ends with %d", r.ExitCode())
	}
}

func TestTheOutageCounterRunsWhileTheAPIIsAway(t *testing.T) {
	v := pane.NewRun(restorePlan(), nil, nil, nil)
	l := text.NewLook(env("LANG=C.UTF-8"))
	away := func(v float64) *float64 { return &v }
	shown := func(after time.Duration) string {
		return strings.TrimSpace(ansi.Strip(v.OutageText(l, noon.Add(after))))
	}
	apply := func(ev steps.Event) { v.Apply(restore.NodeEvent{Event: ev}) }
	apply(steps.Event{Type: steps.TypeStep, Step: "prepare", State: steps.Started, Time: noon})
	if got := shown(time.Second); got != "" {
		t.Errorf("before the outage: %q", got)
	}
	apply(steps.Event{Type: steps.TypeAction, Step: "stop-etcd", Action: "stop-etcd.1", State: steps.Started, Time: noon, Away: away(1)})
	if got := shown(2500 * time.Millisecond); got != "API down 3.5 s" {
		t.Errorf("during it: %q", got)
	}
	apply(steps.Event{Type: steps.TypeStep, Step: "verify", State: steps.Started, Time: noon.Add(4 * time.Second)})
	if got := shown(time.Hour); got != "API was down 5.0 s" {
		t.Errorf("after it: %q", got)
	}
	v.End(&restore.Result{OK: true, OutageSeconds: 4.9})
	if got := shown(time.Hour); got != "API was down 4.9 s" {
		t.Errorf("at the end: %q", got)
	}
}

func TestASmallTerminalTakesNoKeysAndLosesNoRun(t *testing.T) {
	f := newFake()
	f.failAt = "start-etcd.4"
	d := drive(t, f, Options{})
	d.to(runScreen)
	d.until("permission denied")
	d.size(40, 12)
	d.see("needs 60×20, is 40×12", "Paused for your answer")
	d.key("u", "w", "r")
	d.size(80, 24)
	d.see("(recommended)")
	if len(f.chosen) > 0 {
		t.Errorf("chosen %v", f.chosen)
	}
	d.key("r", "y")
	d.until("Restored:")
}

func TestATerminatingSignalStopsTheRunAndCloses(t *testing.T) {
	f := newFake()
	f.hold, f.holdAt = make(chan struct{}), "stop-etcd.1"
	d := drive(t, f, Options{})
	d.to(runScreen)
	d.until("▸ Move etcd.yaml aside")
	d.m.box.put(signalMsg{end: true})
	d.until("you stopped the run")
	if !d.quit {
		t.Error("the wizard is still open")
	}
}

func TestMailIsNeverWaitedForAndNewsOfAWaitReplacesOlderNews(t *testing.T) {
	b := newMailbox()
	wait := func(action string, n int, note string) restore.NodeEvent {
		return restore.NodeEvent{Event: steps.Event{Type: steps.TypeAction, Action: action, State: steps.Waiting, Waited: float64(n), Message: note, Seen: []steps.Sighting{{What: "x"}}}}
	}
	done := make(chan struct{})
	go func() { // nobody collects
		defer close(done)
		for i := range 10_000 {
			b.put(wait("a.1", i, ""))
		}
		b.put(restore.NodeEvent{Event: steps.Event{Type: steps.TypeAction, Action: "a.1", State: steps.Done}})
		b.put(wait("a.2", 1, "a note that must not be lost"))
		b.put(wait("a.2", 2, ""))
		b.put(wait("a.2", 3, ""))
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("put waiting for somebody to collect")
	}
	mail := b.listen().(mailMsg)
	if len(mail) != 4 {
		t.Fatalf("%d messages, want the last wait of a.1, its end, the note, the last wait of a.2", len(mail))
	}
	if w := mail[0].(restore.NodeEvent).Waited; w != 9999 {
		t.Errorf("the wait kept is number %v", w)
	}
	if n := mail[2].(restore.NodeEvent).Message; n == "" {
		t.Error("the note is lost")
	}
	b.close()
	b.close()
	if msg := b.listen(); msg != nil {
		t.Errorf("a closed mailbox brings %v", msg)
	}
}

func TestExplainFindsCauseAndHint(t *testing.T) {
	for name, tc := range map[string]struct {
		err         error
		cause, hint string
	}{
		"a failure":    {&steps.Failure{Cause: "c", Hint: "h"}, "c", "h"},
		"a snapshot's": {errors.Join(&problem.Problem{Cause: "c", Hint: "h"}), "c", "h"},
		"any error":    {errors.New("just\nthis"), "just this", ""},
	} {
		if cause, hint := text.Explain(tc.err); cause != tc.cause || hint != tc.hint {
			t.Errorf("%s: %q, %q", name, cause, hint)
		}
	}
}

// Unpacking writes to the node's disk, so it waits until somebody wants it.
func TestAPackedSnapshotIsUnpackedWhenItIsChosen(t *testing.T) {
	d := drive(t, newFake(), Options{})
	somePacked(d)
	const packed = "/var/backups/nightly.db.zst"
	d.key("j")
	d.see("compressed, zstd", "compressed, tar.gz", "Enter unpacks it", "about 2.46")
	d.key("j", "k")
	if slices.Contains(d.f.inspected, packed) {
		t.Fatalf("it was unpacked without being asked for: %v", d.f.inspected)
	}
	d.key("enter")
	if !slices.Contains(d.f.inspected, packed) || d.m.screen != checkScreen {
		t.Fatalf("it was not chosen: %v\n%s", d.f.inspected, d.view())
	}
	d.see("nightly.db.zst", "nothing blocks the restore")
	d.dontSee("Unpacking it first")
	d.key("esc")
	d.see("210.0 MB") // the file's size, not that of what was in it
	if slices.Contains(d.f.inspected, "/var/backups/etcd-weekly.tgz") {
		t.Errorf("another one was unpacked too: %v", d.f.inspected)
	}
}

func TestAPackedSnapshotThatWasLeftIsNotUnpackedLater(t *testing.T) {
	d := drive(t, newFake(), Options{})
	somePacked(d)
	d.m.picker.cancel = func() {} // another file is being looked into
	d.key("j", "enter")
	d.see("Unpacking it first")
	d.key("k")
	d.m.picker.cancel = nil
	d.do(d.m.lookInside())
	if slices.Contains(d.f.inspected, "/var/backups/nightly.db.zst") {
		t.Errorf("it was unpacked: %v", d.f.inspected)
	}
}

func TestABadPackedSnapshotShowsAsBadWhenItIsChosen(t *testing.T) {
	d := drive(t, newFake(), Options{})
	somePacked(d)
	d.f.bad = map[string]error{"/var/backups/nightly.db.zst": &problem.Problem{Code: "truncated", Cause: "truncated: its zstd data ends in the middle"}}
	d.key("j", "enter")
	d.see("✗ …/nightly.db.zst", "nightly.db.zst can't be restored: truncated: its zstd data")
	if d.m.screen != chooseScreen {
		t.Error("it goes on with a bad file")
	}
}

// The data beside a blank etcd is checked, planned and confirmed as a snapshot
// is, and nothing is restored.
func TestEtcdIsPointedAtTheDataBesideIt(t *testing.T) {
	f := newFake()
	blank(f)
	d := drive(t, f, Options{})
	d.to(nodeScreen)
	d.key("p")
	d.see("Point etcd at /var/lib/etcd, without restoring anything", "nothing blocks the restore", "✓ node ── ▸ checks")
	if want := "/var/lib/etcd/member/snap/db"; f.inspected[len(f.inspected)-1] != want {
		t.Errorf("inspected %v, want %s at last", f.inspected, want)
	}
	d.key("d", "enter")
	d.see("Point etcd at /var/lib/etcd on cp1", "c  controllers")
	d.dontSee("d  data directory")
	d.key("s", "enter")
	d.see("the data in /var/lib/etcd", "Type the node's name, cp1")
	d.key("cp1", "enter")
	d.until("Repointed: the API server answers with the data in /var/lib/etcd.")
	if c := f.planned[len(f.planned)-1]; !c.InPlace || c.DataDir != "/var/lib/etcd" || c.Stop != steps.StopGraceful {
		t.Errorf("planned with %+v", c)
	}
	d.key("n", "enter", "enter", "enter") // and a snapshot after that is one again
	if c := f.planned[len(f.planned)-1]; c.InPlace || c.DataDir != "" {
		t.Errorf("planned with %+v", c)
	}
}

func TestEscLeadsFromTheDataBesideEtcdBackToTheNode(t *testing.T) {
	f := newFake()
	blank(f)
	d := drive(t, f, Options{})
	d.to(nodeScreen)
	d.key("p", "esc")
	d.see("A restore may not be what this node needs")
	d.key("enter", "enter", "enter")
	if c := f.planned[len(f.planned)-1]; c.InPlace || c.DataDir != "" {
		t.Errorf("planned with %+v", c)
	}
}
