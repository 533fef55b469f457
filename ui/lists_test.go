package ui

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"etcd-rewind/restore"
	"etcd-rewind/snapshot"
	"etcd-rewind/steps"
	"etcd-rewind/ui/print"
)

func TestBackupsComeFirstAndSafetyCopiesAreChosenByNobody(t *testing.T) {
	f := newFake()
	safety := []snapshot.Candidate{
		{Path: "/etc/kubernetes/etcd-rewind/20261120-110000/" + snapshot.SafetyCopy("20261120-110000"), Size: 1000, ModTime: noon.Add(-time.Minute), Safety: true},
		{Path: "/etc/kubernetes/etcd-rewind/20261120-100000/" + snapshot.SafetyCopy("20261120-100000"), Size: 1000, ModTime: noon.Add(-2 * time.Minute), Safety: true},
	}
	f.candidates = append(slices.Clone(safety), someCandidates()...)
	d := drive(t, f, Options{})
	d.to(chooseScreen)
	d.see("▸✓ /var/backups/after.db")
	d.key("end")
	d.see("etcd-before-20261120-110000.db", "etcd-before-20261120-100000.db", "safety", "a safety copy")

	f = newFake()
	f.candidates = safety
	d = drive(t, f, Options{})
	d.to(chooseScreen)
	d.see("Only safety copies of earlier runs were found")
	d.key("enter")
	if d.m.screen != chooseScreen || len(f.checked) > 0 {
		t.Errorf("one was chosen:\n%s", d.view())
	}
	d.key("down", "enter")
	if d.m.screen == chooseScreen {
		t.Errorf("it can't be chosen:\n%s", d.view())
	}
}

func TestNamesThatDifferAtTheirEndsLookDifferent(t *testing.T) {
	f := newFake()
	f.candidates = nil
	for i := range 3 {
		f.candidates = append(f.candidates, snapshot.Candidate{
			Path: fmt.Sprintf("/mnt/backups/production/etcd/daily-%d-of-the-cluster-in-frankfurt-2026-11-2%d.snapshot.db", i, i), ModTime: noon, Size: 1000,
		})
	}
	f.candidates = append(f.candidates, snapshot.Candidate{Path: "/mnt/etcd-nightly-20261119-0300.db", ModTime: noon, Size: 1000})
	d := drive(t, f, Options{})
	d.to(chooseScreen)
	d.see("daily-0-of", "11-20.snapshot.db", "daily-1-of", "11-21.snapshot.db", "etcd-nightly-20261119-0300.db")
}

// What blocks is changed where it blocks: a data directory that exists, say.
func TestAChoiceIsChangedOnTheScreenThatItBlocks(t *testing.T) {
	for _, names := range [][]string{{"cp1"}, threeNames} {
		f := newFake()
		taken := steps.Verdict{Check: "target", Title: "Target", Level: steps.Error, Cause: "/data is not empty"}
		f.verdicts = [][]steps.Verdict{{taken}, goodVerdicts()}
		if len(names) > 1 {
			several(f, names...)
		}
		d := drive(t, f, Options{Choices: steps.Choices{DataDir: "/data"}})
		if len(names) > 1 {
			f.fleet.objects = func(c steps.Choices) []steps.Verdict {
				if c.DataDir == "/data" {
					return []steps.Verdict{taken}
				}
				return nil
			}
		}
		d.to(checkScreen)
		d.see("/data is not empty", "d n s c b change")
		d.key("d")
		d.see("> /data")
		d.key("ctrl+u", "enter")
		d.see("nothing blocks the restore")
		d.key("n", "ctrl+u", "0", "enter")
		if b := d.m.settled().Bump; b == nil || *b != 0 {
			t.Errorf("the revision is raised by %v", b)
		}
	}
}

func TestTheFirstScreenScrollsWhenItDoesNotFit(t *testing.T) {
	d := drive(t, newFake(), Options{Version: "v9.9", Intro: strings.Repeat("You are on call, and somebody has deleted a namespace. ", 12)})
	d.do(d.m.discover())
	d.dontSee("v9.9")
	d.see("lines 1 to")
	d.key("end")
	d.see("v9.9")
	d.key("home")
	d.see("You are on call")
}

// Every list and every text moves by the keys of k9s and lazygit.
func TestListsMoveByPagesAndToTheirEnds(t *testing.T) {
	for _, keys := range [][2]string{{"end", "home"}, {"G", "g"}} {
		d := drive(t, newFake(), Options{})
		d.to(chooseScreen)
		d.key(keys[0])
		d.see("▸! /root/copied.db")
		d.key(keys[1])
		d.see("▸✓ /var/backups/after.db")
		d.key("pgdown")
		d.see("▸! /root/copied.db")
		d.key("pgup")
		d.see("▸✓ /var/backups/after.db")
	}
	d := drive(t, newFake(), Options{})
	d.to(planScreen)
	top := d.view()
	d.key("pgdown")
	if d.view() == top {
		t.Error("the plan doesn't move by pages")
	}
	d.key("home")
	if d.view() != top {
		t.Error("home doesn't lead to its beginning")
	}
}

func TestSlashSearches(t *testing.T) {
	d := drive(t, newFake(), Options{})
	d.to(chooseScreen)
	d.key("/", "before", "enter")
	d.see("▸✓ …/backups/before.db")
	d.key("/", "nowhere", "enter")
	d.see("Not found: nowhere", "▸✓ …/backups/before.db")
	d.key("enter", "enter")
	d.see("stop API server")
	d.key("/", "restart controllers", "enter")
	d.see("Restart controllers")
	d.key("?", "/", "watches list", "enter")
	d.see("watches list again")
}

func TestSlashSearchesARunAndItsSummary(t *testing.T) {
	d := drive(t, newFake(), Options{})
	d.during(record(d.f, restorePlan(), steps.Unattended), action("stop-etcd.2", steps.Waiting, 2))
	d.key("/", "controllers", "enter")
	d.see("│ Restart controllers")
	d.key("/", "nowhere", "enter")
	d.see("Not found: nowhere", "│ Restart controllers")
	d.key("/", "etcd.yaml in", "enter")
	d.see("│ Start etcd on the restored")

	d = drive(t, newFake(), Options{})
	d.to(confirmScreen)
	d.key("cp1", "enter")
	d.until("Restored:")
	d.key("/", "report", "enter")
	d.dontSee("Not found")
	d.key("/", "nowhere", "enter")
	d.see("Not found: nowhere")
}

func TestSlashSearchesTheNodesOfARun(t *testing.T) {
	d := drive(t, newFake(), Options{})
	d.duringAll(threeNames, on("cp2", "stop-etcd.2", steps.Waiting, 5))
	d.key("/", "cp3", "enter")
	if n, _ := d.m.run.Current(); n != "cp3" {
		t.Errorf("%s is current:\n%s", n, d.view())
	}
}

func TestSlashSearchesTheMembers(t *testing.T) {
	f := newFake()
	several(f, threeNames...)
	d := drive(t, f, Options{})
	d.to(membersScreen)
	d.key("/", "cp3", "enter")
	if c := d.m.members.Current(); c == nil || c.Name != "cp3" {
		t.Errorf("cp3 isn't current:\n%s", d.view())
	}
}

func TestHelpIsOnEveryScreen(t *testing.T) {
	d := drive(t, newFake(), Options{})
	for s := nodeScreen; s <= summaryScreen; s++ {
		d.m.screen = s
		d.m.run.End(restore.Alone("", "", &steps.Result{OK: true}))
		if help := d.m.help(70); s != runScreen && (help.Title == "" || len(help.Lines(70)) == 0) {
			t.Errorf("? shows nothing on screen %d", s)
		}
	}
}

func TestAPlanIsExportedToANewFile(t *testing.T) {
	t.Chdir(t.TempDir())
	utf8Locale(t)
	d := drive(t, newFake(), Options{})
	d.to(planScreen)
	if err := os.Symlink("/etc/passwd-not-there", "etcd-rewind-plan-20261120-120000.txt"); err != nil {
		t.Fatal(err)
	}
	d.key("e")
	wd, _ := os.Getwd()
	d.see("Written to")
	data, err := os.ReadFile(filepath.Join(wd, "etcd-rewind-plan-20261120-120000-2.txt"))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range restorePlan().Steps {
		for _, a := range s.Actions {
			for _, c := range a.Commands() {
				if !strings.Contains(string(data), "$ "+c+"\n") {
					t.Errorf("the file doesn't have in one line:\n%s", c)
				}
			}
		}
	}
	if st, err := os.Stat("etcd-rewind-plan-20261120-120000-2.txt"); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st, err)
	}
	if _, err := os.Stat("/etc/passwd-not-there"); !os.IsNotExist(err) {
		t.Error("it followed a link")
	}
	if err := os.Chmod(".", 0o500); err == nil && os.Geteuid() != 0 {
		d.key("e")
		d.see("Not written")
	}
	if _, err := writeNew("/nonexistent", "x", nil); !os.IsNotExist(err) {
		t.Errorf("writing nowhere says %v", err)
	}
}

func TestCtrlZSuspendsOnlyWhileNothingRuns(t *testing.T) {
	f := newFake()
	f.hold, f.holdAt = make(chan struct{}), "stop-etcd.1"
	d := drive(t, f, Options{})
	d.to(chooseScreen)
	if cmd := d.m.key(keyMsg("ctrl+z")); cmd == nil {
		t.Error("ctrl-z does nothing")
	} else if _, ok := cmd().(tea.SuspendMsg); !ok {
		t.Error("ctrl-z doesn't suspend")
	}
	d.to(runScreen)
	d.until("▸ Move etcd.yaml aside")
	d.key("ctrl+z")
	d.see("A run is under way")
}

func TestAnotherRestoreIsStartedAfterOneIsDone(t *testing.T) {
	d := drive(t, newFake(), Options{})
	d.to(runScreen)
	d.until("Restored:")
	d.see("n new restore")
	d.key("n")
	d.see("A control plane with one etcd member", "nothing changed yet")
	d.key("enter", "enter", "enter", "enter", "cp1", "enter")
	d.until("Restored:")
	if want := []string{steps.KindRestore, steps.KindRestore}; !slices.Equal(d.f.runs, want) {
		t.Errorf("ran %v", d.f.runs)
	}
}

// Text that is printed can be copied: what has no blank in it is in one piece.
func TestPrintedTextBreaksNoPath(t *testing.T) {
	utf8Locale(t)
	long := "/var/lib/" + strings.Repeat("a-very-long-directory/", 6) + "etcd"
	p := restorePlan()
	p.Summary = append(p.Summary, steps.Fact{Name: "data directory", Value: long})
	fail := &steps.Failure{Cause: "can't write to " + long, Hint: "chown root " + long}
	for name, print := range map[string]func(w *strings.Builder) error{
		"a plan":    func(w *strings.Builder) error { return print.Plan(w, p) },
		"a failure": func(w *strings.Builder) error { return print.Failure(w, fail) },
		"a verdict": func(w *strings.Builder) error {
			return print.Checked(w, []restore.Checked{{Verdicts: []steps.Verdict{{Check: "x", Title: "X", Level: steps.Error, Cause: fail.Cause}}}}, false)
		},
		"a standing": func(w *strings.Builder) error {
			return print.Standing(w, steps.RunInfo{Run: "r", Err: fail.Cause}, nil)
		},
	} {
		var b strings.Builder
		if err := print(&b); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(b.String(), long) {
			t.Errorf("%s breaks it:\n%s", name, b.String())
		}
	}
}

// The facts are right above the question, and not a screen away.
func TestTheQuestionFollowsItsFacts(t *testing.T) {
	utf8Locale(t)
	var b strings.Builder
	if err := print.Plan(&b, restorePlan()); err != nil {
		t.Fatal(err)
	}
	print.NewAnswers(strings.NewReader("cp1\n")).Confirm(&b, restorePlan().Node)
	lines := strings.Split(b.String(), "\n")
	tail := strings.Join(lines[max(0, len(lines)-10):], "\n")
	for _, want := range []string{"snapshot", "data directory", "revision", "Type the node's name"} {
		if !strings.Contains(tail, want) {
			t.Errorf("%q isn't at the end:\n%s", want, b.String())
		}
	}
}
