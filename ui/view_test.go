package ui

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	tea "github.com/charmbracelet/bubbletea"
	"github.com/charmbracelet/x/ansi"

	"etcd-rewind/manifest"
	"etcd-rewind/node"
	"etcd-rewind/problem"
	"etcd-rewind/restore"
	"etcd-rewind/snapshot"
	"etcd-rewind/steps"
	"etcd-rewind/trust"
	"etcd-rewind/ui/pane"
	"etcd-rewind/ui/text"
)

var long = "/var/backups/" + strings.Repeat("a-very-long-directory/", 6) + "etcd-snapshot-of-the-production-cluster-2026-11-20.db"

// screens are all screens, each brought up as a user would.
var screens = []struct {
	name string
	show func(d *driver)
}{
	{"discovering", func(*driver) {}},
	{"node", func(d *driver) { d.to(nodeScreen) }},
	{"node-blank", func(d *driver) {
		blank(d.f)
		d.to(nodeScreen)
		d.see("A restore may not be what this node needs", "etcd-rewind repoint /var/lib/etcd", "p point etcd at that data", "enter choose the snapshot")
	}},
	{"repoint-plan", func(d *driver) { blank(d.f); d.to(nodeScreen); d.key("p", "enter") }},
	{"repoint-confirm", func(d *driver) { blank(d.f); d.to(nodeScreen); d.key("p", "enter", "enter") }},
	{"node-cannot-be-read", func(d *driver) {
		d.f.discover = &steps.Failure{Cause: "no kubelet configuration: /var/lib/kubelet/config.yaml isn't there", Hint: "is this a control-plane node? Name the file with --kubelet-config"}
		d.to(nodeScreen)
	}},
	{"node-of-a-vendor", func(d *driver) {
		d.f.discover = (&steps.Facts{Vendor: node.Vendors[0]}).ControlPlane()
		d.to(nodeScreen)
		d.see("a node of RKE2", "nothing was touched", "rke2-server", "--cluster-reset-restore-path=SNAPSHOT", "https://docs.rke2.io")
	}},
	{"node-refused", func(d *driver) {
		d.f.early = []steps.Verdict{
			{Check: "members", Level: steps.Error, Cause: "etcd has three members: cp1, cp2, cp3", Hint: "this version restores a single member; with several, each has to be restored from the same snapshot"},
			{Check: "root", Level: steps.Error, Cause: "not running as root: manifests and etcd's data belong to root", Hint: "run it with sudo"},
		}
		d.to(nodeScreen)
	}},
	{"node-with-much-wrong", func(d *driver) {
		for i := range 7 {
			d.f.early = append(d.f.early, steps.Verdict{Check: fmt.Sprint(i), Level: steps.Error, Cause: fmt.Sprintf("reason %d", i), Hint: "put it right"})
		}
		d.to(nodeScreen)
	}},
	{"node-earlier-run", func(d *driver) {
		d.f.facts.Unfinished = &steps.RunInfo{Run: "20261119-080000", State: steps.RunUnfinished}
		d.do(d.m.discover())
		d.key("n")
	}},
	{"node-of-a-run-that-broke-off", func(d *driver) {
		d.f.brokeOff()
		d.do(d.m.discover())
		d.key("n")
	}},
	{"earlier", func(d *driver) { d.f.brokeOff(); d.do(d.m.discover()) }},
	{"earlier-failed", func(d *driver) {
		d.f.facts.Unfinished = &steps.RunInfo{Run: "20261119-080000", State: steps.RunFailed, Snapshot: long, Err: "etcd did not become ready within 60 s: it can't open its data, permission denied"}
		d.f.standing = []steps.Fact{{Name: "run", Value: "20261119-080000, begun 28h0m0s ago"}, {Name: "snapshot", Value: long}, {Name: "API", Value: "back, with the restored data"}}
		d.do(d.m.discover())
	}},
	{"earlier-much-to-tell", func(d *driver) {
		d.f.brokeOff()
		d.f.facts.Unfinished.Err = strings.Repeat("a cause that takes many words to tell ", 20)
		d.do(d.m.discover())
	}},
	{"earlier-help", func(d *driver) { d.f.brokeOff(); d.do(d.m.discover()); d.key("?") }},
	{"earlier-undo", func(d *driver) { d.f.brokeOff(); d.f.facts.Unfinished.Undoing = true; d.do(d.m.discover()) }},
	{"runs", func(d *driver) { d.f.list = someRuns(); d.to(nodeScreen); d.key("u", "j") }},
	{"runs-none", func(d *driver) { d.to(nodeScreen); d.key("u") }},
	{"owed", func(d *driver) { d.m.options.Settling, d.m.here.Settles = owes(), true; d.to(nodeScreen); d.key("o") }},
	{"owed-question", func(d *driver) {
		d.m.options.Settling, d.m.here.Settles = owes(), true
		d.to(nodeScreen)
		d.key("o", "enter")
	}},
	{"owed-help", func(d *driver) {
		d.m.options.Settling, d.m.here.Settles = owes(), true
		d.to(nodeScreen)
		d.key("o", "?")
	}},
	{"runs-help", func(d *driver) { d.to(nodeScreen); d.key("u", "?") }},
	{"redo-plan", func(d *driver) { d.f.list = someRuns(); d.to(nodeScreen); d.key("u", "d") }},
	{"redo-confirm", func(d *driver) { d.f.list = someRuns(); d.to(nodeScreen); d.key("u", "d", "enter") }},
	{"resume-plan", func(d *driver) { d.f.brokeOff(); d.do(d.m.discover()); d.key("g") }},
	{"resume-fails", func(d *driver) {
		d.f.brokeOff()
		d.f.planErr = &steps.Failure{Cause: "run 20261120-140000 came after 20261120-120000 and is not undone", Hint: "undo the later one first: etcd-rewind undo 20261120-140000"}
		d.do(d.m.discover())
		d.key("g")
	}},
	{"resume-confirm", func(d *driver) { d.f.brokeOff(); d.do(d.m.discover()); d.key("g", "enter") }},
	{"watch-nothing-yet", func(d *driver) { watched(d, nil) }},
	{"watch", func(d *driver) {
		watched(d, until(record(d.f, restorePlan(), steps.Unattended), action("start-etcd.4", steps.Waiting, 5)))
	}},
	{"watch-failure", func(d *driver) {
		d.f.failAt = "start-etcd.4"
		watched(d, until(record(d.f, restorePlan(), steps.Unattended), func(ev steps.Event) bool { return ev.Type == steps.TypeAsk }))
	}},
	{"watch-ended", func(d *driver) {
		watched(d, record(d.f, restorePlan(), steps.Unattended))
		d.update(followedMsg{ended: true})
	}},
	{"watch-lost", func(d *driver) {
		watched(d, nil)
		d.update(followedMsg{err: fmt.Errorf("follow the run: open /etc/kubernetes/etcd-rewind/20261120-120000/events.jsonl: no such file or directory")})
	}},
	{"watch-died", func(d *driver) {
		watched(d, until(record(d.f, restorePlan(), steps.Unattended), action("stop-etcd.2", steps.Waiting, 2)))
		d.f.brokeOff()
		d.update(followedMsg{})
	}},
	{"node-etcd-down", func(d *driver) {
		d.f.facts.Live, d.f.facts.LiveErr = nil, fmt.Errorf("dial tcp 127.0.0.1:2379: connect: connection refused")
		d.f.facts.APIReady, d.f.facts.APIState = false, "refused"
		d.to(nodeScreen)
	}},
	{"choose", func(d *driver) { d.to(chooseScreen); d.key("j") }},
	{"choose-none", func(d *driver) { d.f.candidates = nil; d.to(chooseScreen) }},
	{"choose-bad", func(d *driver) { d.to(chooseScreen); d.key("j", "j", "enter") }},
	{"choose-no-hash", func(d *driver) { d.to(chooseScreen); d.key("end") }},
	{"choose-looking", func(d *driver) {
		huge := snapshot.Candidate{Path: "/var/backups/huge.db", Size: 2_460_000_000, ModTime: noon.Add(-time.Hour)}
		d.to(chooseScreen)
		d.m.picker.Found([]snapshot.Candidate{huge})
		d.m.picker.Look(huge.Path)
		d.m.picker.Progress(huge.Path, 1_100_000_000, huge.Size)
		d.m.picker.Select(slices.Index(d.m.picker.Rows(), huge.Path))
	}},
	{"choose-packed", func(d *driver) { somePacked(d); d.key("j") }},
	{"choose-packed-looking", func(d *driver) {
		somePacked(d)
		d.m.Update(tea.KeyMsg{Type: tea.KeyDown})
		d.m.Update(tea.KeyMsg{Type: tea.KeyEnter}) // without what follows from it
		d.m.picker.Progress("/var/backups/nightly.db.zst", 90_000_000, 210_000_000)
	}},
	{"choose-packed-bad", func(d *driver) {
		somePacked(d)
		d.f.bad = map[string]error{"/var/backups/nightly.db.zst": &problem.Problem{Code: "truncated", Cause: "truncated: its zstd data ends in the middle", Hint: "use another snapshot"}}
		d.key("j", "enter")
	}},
	{"choose-long-paths", func(d *driver) {
		d.f.candidates = []snapshot.Candidate{{Path: long, Size: 528_416, ModTime: noon}, {Path: "/x\x1b[31mred\x07.db", Size: 1, ModTime: noon}}
		for i := range 30 {
			d.f.candidates = append(d.f.candidates, snapshot.Candidate{Path: fmt.Sprintf("/srv/%d.db", i), Size: 1000, ModTime: noon.Add(-time.Duration(i) * time.Hour)})
		}
		d.to(chooseScreen)
	}},
	{"choose-elsewhere", func(d *driver) { placesFor(d); d.to(chooseScreen); d.key("home", "down") }},
	{"choose-identity", func(d *driver) {
		placesFor(d)
		d.to(chooseScreen)
		d.key("home", "down", "enter", "/key", "tab", "secret")
	}},
	{"choose-typing", func(d *driver) {
		d.to(chooseScreen)
		d.key("/", "var/b")
		d.update(completedMsg{typed: "/var/b", longest: "/var/backups/", matches: []string{"after.db", "before.db", "dpkg.status.0", "old/"}})
	}},
	{"checks", func(d *driver) { d.f.verdicts = [][]steps.Verdict{someVerdicts()}; d.to(checkScreen) }},
	{"checks-override", func(d *driver) {
		d.f.verdicts = [][]steps.Verdict{someVerdicts()}
		d.to(checkScreen)
		d.key("space", "roo", "enter")
	}},
	{"checks-accepted", func(d *driver) {
		d.f.verdicts = [][]steps.Verdict{someVerdicts()}
		d.to(checkScreen)
		d.key("space", "room", "enter", "space", "space")
	}},
	{"checks-blocked", func(d *driver) {
		d.f.verdicts = [][]steps.Verdict{{{Check: "stray-manifests", Title: "Stray manifests", Level: steps.Error, Cause: "etcd.yaml and etcd.yaml.bak define the same pod kube-system/etcd, and etcd.yaml.bak wins", Hint: "move the copies out of " + manifests}}}
		d.to(checkScreen)
		d.key("space")
	}},
	{"plan", func(d *driver) { d.to(planScreen) }},
	{"plan-end", func(d *driver) { d.to(planScreen); d.key("end") }},
	{"plan-fails", func(d *driver) {
		d.f.planErr = &steps.Failure{Cause: "etcd.yaml's hostPath is an alias: changing it would change another value too", Hint: "write the path out"}
		d.to(planScreen)
	}},
	{"plan-directory", func(d *driver) { d.to(planScreen); d.key("d", "ctrl+u", "relative", "enter") }},
	{"plan-bump", func(d *driver) { d.to(planScreen); d.key("n") }},
	{"confirm", func(d *driver) { d.to(confirmScreen) }},
	{"confirm-wrong-name", func(d *driver) {
		d.f.verdicts = [][]steps.Verdict{someVerdicts()}
		d.to(checkScreen)
		d.key("space", "room", "enter", "space", "space", "enter", "enter", "cp2", "enter")
	}},
	{"run-staging", func(d *driver) {
		d.during(record(d.f, restorePlan(), steps.Unattended), action("stage.1", steps.Waiting, 5))
	}},
	{"run-waiting", func(d *driver) {
		d.during(record(d.f, restorePlan(), steps.Unattended), action("start-etcd.4", steps.Waiting, 5))
	}},
	{"run-looking-back", func(d *driver) {
		d.during(record(d.f, restorePlan(), steps.Unattended), action("start-etcd.4", steps.Waiting, 5))
		d.key("k", "k", "k")
	}},
	{"run-why", func(d *driver) {
		d.during(record(d.f, restorePlan(), steps.Unattended), action("start-etcd.4", steps.Waiting, 5))
		d.key("?")
	}},
	{"run-commands", func(d *driver) {
		d.during(record(d.f, restorePlan(), steps.Unattended), action("start-etcd.4", steps.Waiting, 5))
		d.key("c")
	}},
	{"run-logs", func(d *driver) {
		d.during(record(d.f, restorePlan(), steps.Unattended), action("start-etcd.4", steps.Waiting, 5))
		d.key("l")
	}},
	{"run-ask-stop", func(d *driver) {
		d.during(record(d.f, restorePlan(), steps.Unattended), action("stop-etcd.2", steps.Waiting, 2))
		d.key("ctrl+c")
	}},
	{"run-ask-undo", func(d *driver) {
		d.during(record(d.f, restorePlan(), steps.Unattended), action("stop-etcd.2", steps.Waiting, 2))
		d.key("u")
	}},
	{"failure", func(d *driver) { failed(d, someFailure()) }},
	{"failure-long", func(d *driver) {
		f := someFailure()
		f.Cause = strings.Repeat("a cause that takes many words to tell ", 8)
		f.Hint = "look at " + long
		f.Log = nil
		for i := range 20 {
			f.Log = append(f.Log, fmt.Sprintf("line %d %s", i, strings.Repeat("x", 200)))
		}
		f.Choices = []steps.Choice{steps.RestartStuck, steps.Revert, steps.WaitOn, steps.Retry, steps.Leave}
		failed(d, f)
	}},
	{"failure-all", func(d *driver) { failed(d, someFailure()); d.key("?") }},
	{"failure-leave", func(d *driver) { failed(d, someFailure()); d.key("x") }},
	{"undo-under-way", func(d *driver) {
		d.f.failAt = "start-etcd.4"
		d.during(record(d.f, restorePlan(), steps.Unattended), action("undo-stop-etcd.2", steps.Waiting, 3))
	}},
	{"summary", func(d *driver) {
		events := record(d.f, restorePlan(), steps.Unattended)
		d.during(events, func(ev steps.Event) bool { return ev.Type == steps.TypeResult })
		d.update(finishedMsg{restore.NodeEvent{Event: events[len(events)-1]}.Ended()})
	}},
	{"summary-put-back", func(d *driver) {
		d.f.failAt = "start-etcd.4"
		events := record(d.f, restorePlan(), steps.Unattended)
		d.during(events, func(ev steps.Event) bool { return ev.Type == steps.TypeResult })
		d.update(finishedMsg{restore.NodeEvent{Event: events[len(events)-1]}.Ended()})
	}},
	{"summary-left", func(d *driver) {
		d.f.failAt = "start-etcd.4"
		events := record(d.f, restorePlan(), func(steps.Failure) steps.Choice { return steps.Leave })
		d.during(events, func(ev steps.Event) bool { return ev.Type == steps.TypeResult })
		d.update(finishedMsg{restore.NodeEvent{Event: events[len(events)-1]}.Ended()})
	}},
	{"undo-plan", func(d *driver) {
		events := record(d.f, restorePlan(), steps.Unattended)
		d.during(events, func(ev steps.Event) bool { return ev.Type == steps.TypeResult })
		d.update(finishedMsg{restore.NodeEvent{Event: events[len(events)-1]}.Ended()})
		d.key("u")
	}},
	{"undo-confirm", func(d *driver) {
		events := record(d.f, restorePlan(), steps.Unattended)
		d.during(events, func(ev steps.Event) bool { return ev.Type == steps.TypeResult })
		d.update(finishedMsg{restore.NodeEvent{Event: events[len(events)-1]}.Ended()})
		d.key("u", "enter")
	}},
	{"fleet-node", func(d *driver) { several(d.f, "cp1", "cp2", "cp3"); d.to(nodeScreen) }},
	{"apart-node-of-etcd", func(d *driver) { apart(d.f, "etcd1"); d.to(nodeScreen) }},
	{"apart-node-of-etcd-alone", func(d *driver) { apart(d.f, "etcd1"); d.to(nodeScreen); d.key("a") }},
	{"apart-node-of-three", func(d *driver) { apart(d.f, "etcd1", "etcd2", "etcd3"); d.to(nodeScreen) }},
	{"apart-node-without-etcd", func(d *driver) { apart(d.f, "cp1"); d.to(nodeScreen) }},
	{"apart-members", func(d *driver) { apart(d.f, "etcd1"); d.to(membersScreen) }},
	{"apart-members-without", func(d *driver) {
		apart(d.f, "etcd1").away = map[string]string{"cp1": noRoute}
		d.to(membersScreen)
		d.key("o", "y")
	}},
	{"fleet-node-alone", func(d *driver) {
		several(d.f, "cp1", "cp2")
		d.f.early = nil
		d.to(nodeScreen)
		d.key("a")
	}},
	{"fleet-members-reaching", func(d *driver) {
		several(d.f, "cp1", "cp2", "cp3")
		d.to(membersScreen)
		d.m.members.Busy, d.m.members.Since = true, noon.Add(-3200*time.Millisecond)
	}},
	{"fleet-members", func(d *driver) { several(d.f, "cp1", "cp2", "cp3"); d.to(membersScreen) }},
	{"fleet-members-away", func(d *driver) {
		several(d.f, "cp1", "cp2", "cp3", "cp4", "cp5").away = map[string]string{"cp3": noRoute}
		d.to(membersScreen)
		d.key("enter")
	}},
	{"fleet-members-host", func(d *driver) {
		several(d.f, "cp1", "cp2", "cp3").away = map[string]string{"cp3": noRoute}
		d.to(membersScreen)
		d.key("h")
	}},
	{"fleet-members-odd", func(d *driver) {
		several(d.f, "cp1", "cp2", "cp3").odd = map[string]bool{"cp3": true}
		d.to(membersScreen)
	}},
	{"fleet-members-leave-out", func(d *driver) {
		several(d.f, "cp1", "cp2", "cp3").away = map[string]string{"cp3": noRoute}
		d.to(membersScreen)
		d.key("o")
	}},
	{"fleet-members-left-out", func(d *driver) {
		several(d.f, "cp1", "cp2", "cp3").away = map[string]string{"cp3": noRoute}
		d.to(membersScreen)
		d.key("o", "y")
	}},
	{"fleet-members-cannot-be-found", func(d *driver) {
		several(d.f, "cp1", "cp2", "cp3").find = &steps.Failure{Cause: "the host cp2 is the member cp3, not cp2", Hint: "--host NAME=HOST names the right one"}
		d.to(membersScreen)
	}},
	{"fleet-members-help", func(d *driver) { several(d.f, "cp1", "cp2", "cp3"); d.to(membersScreen); d.key("?") }},
	{"fleet-sending", func(d *driver) {
		several(d.f, "cp1", "cp2", "cp3")
		d.to(checkScreen)
		c := &d.m.checks
		c.Begin(threeNames, "cp1", false)
		d.update(sendProgressMsg{c.Asked, "cp2", 1_100_000_000, 2_460_000_000})
		d.update(sendProgressMsg{c.Asked, "cp3", 2_460_000_000, 2_460_000_000})
	}},
	{"fleet-sending-fails", func(d *driver) {
		several(d.f, "cp1", "cp2", "cp3").sendErr = &steps.Failure{Cause: "cp2: the snapshot has 2.5 GB, /var/lib has 1.1 GB left", Hint: "free space there"}
		d.to(checkScreen)
	}},
	{"fleet-checking", func(d *driver) {
		several(d.f, "cp1", "cp2", "cp3")
		d.to(checkScreen)
		d.m.checks.Busy = true
	}},
	{"fleet-checks", func(d *driver) { troubled(d); d.to(checkScreen) }},
	{"fleet-checks-fine", func(d *driver) { several(d.f, "cp1", "cp2", "cp3"); d.to(checkScreen) }},
	{"fleet-plan", func(d *driver) { several(d.f, "cp1", "cp2", "cp3"); d.to(planScreen) }},
	{"fleet-plan-of-a-node", func(d *driver) { several(d.f, "cp1", "cp2", "cp3"); d.to(planScreen); d.key("tab", "tab") }},
	{"fleet-confirm", func(d *driver) { several(d.f, "cp1", "cp2", "cp3"); d.to(confirmScreen) }},
	{"fleet-run-staging", func(d *driver) { d.duringAll(threeNames, on("cp2", "stage.1", steps.Waiting, 3)) }},
	{"fleet-run-waiting", func(d *driver) { d.duringAll(threeNames, on("cp2", "stop-etcd.2", steps.Waiting, 5)) }},
	{"fleet-run-five", func(d *driver) {
		d.duringAll([]string{"cp1", "cp2", "cp3", "cp4", "cp5"}, on("cp2", "start-etcd.4", steps.Waiting, 3))
		d.key("j")
	}},
	{"fleet-run-long-names", func(d *driver) {
		d.duringAll([]string{"control-plane-1.eu-west.example.com", "control-plane-2.eu-west.example.com", "control-plane-3.eu-west.example.com"}, on("control-plane-2.eu-west.example.com", "start-etcd.4", steps.Waiting, 1))
	}},
	{"fleet-run-inside", func(d *driver) {
		d.duringAll(threeNames, on("cp2", "stop-etcd.2", steps.Waiting, 5))
		d.key("j", "enter")
	}},
	{"fleet-run-why", func(d *driver) { d.duringAll(threeNames, on("cp2", "stop-etcd.2", steps.Waiting, 5)); d.key("?") }},
	{"fleet-run-reconnecting", func(d *driver) {
		several(d.f, threeNames...).dropAt = "cp2/start-etcd.4"
		d.duringAll(threeNames, func(ev restore.NodeEvent) bool { return ev.Type == restore.TypeLink })
		at := d.m.now()
		d.m.now = func() time.Time { return at.Add(12300 * time.Millisecond) }
	}},
	{"fleet-run-ask-stop", func(d *driver) {
		d.duringAll(threeNames, on("cp2", "stop-etcd.2", steps.Waiting, 5))
		d.key("ctrl+c")
	}},
	{"fleet-run-ask-undo", func(d *driver) {
		d.duringAll(threeNames, on("cp2", "stop-etcd.2", steps.Waiting, 5))
		d.key("u")
	}},
	{"fleet-failure", func(d *driver) { failedAll(d, "cp2/start-etcd.4", "") }},
	{"fleet-failure-away", func(d *driver) { failedAll(d, "", "cp2/start-etcd.4") }},
	{"fleet-failure-leave", func(d *driver) { failedAll(d, "cp2/start-etcd.4", ""); d.key("x") }},
	{"fleet-failure-all", func(d *driver) { failedAll(d, "cp2/start-etcd.4", ""); d.key("?") }},
	{"fleet-run-left", func(d *driver) {
		several(d.f, threeNames...).failAt = "cp2/start-etcd.4"
		f := d.f.fleet
		d.to(confirmScreen)
		events, _ := recordAll(f, func(restore.Trouble) steps.Choice { return restore.ContinueWithout })
		d.m.screen, d.m.run = runScreen, pane.NewRun(d.m.plan.Plan, threeNames, d.m.plan.All, nil)
		done := on("cp3", "start-kube-apiserver.1", steps.Done, 0)
		for _, ev := range events {
			d.do(d.m.handle(ev))
			d.m.now = func() time.Time { return ev.Time }
			if done(ev) {
				break
			}
		}
	}},
	{"fleet-run-going-back", func(d *driver) {
		several(d.f, threeNames...).failAt = "cp2/start-etcd.4"
		d.duringAll(threeNames, on("cp3", "undo-stop-etcd.2", steps.Waiting, 1))
	}},
	{"fleet-run-ended", func(d *driver) {
		several(d.f, threeNames...)
		d.endedAll(restore.Unattended)
		d.key("esc")
	}},
	{"fleet-summary", func(d *driver) { several(d.f, threeNames...); d.endedAll(restore.Unattended) }},
	{"fleet-summary-put-back", func(d *driver) {
		several(d.f, threeNames...).failAt = "cp2/start-etcd.4"
		d.endedAll(restore.Unattended)
	}},
	{"fleet-summary-without-one", func(d *driver) {
		several(d.f, threeNames...).failAt = "cp2/start-etcd.4"
		d.endedAll(func(restore.Trouble) steps.Choice { return restore.ContinueWithout })
	}},
	{"fleet-summary-left", func(d *driver) {
		several(d.f, threeNames...).failAt = "cp2/start-etcd.4"
		d.endedAll(func(restore.Trouble) steps.Choice { return steps.Leave })
	}},
	{"fleet-summary-one-left-out", func(d *driver) {
		several(d.f, threeNames...).away = map[string]string{"cp3": noRoute}
		d.to(membersScreen)
		d.key("o", "y", "enter", "enter", "enter")
		all := d.f.fleet
		all.names = []string{"cp1", "cp2"}
		events, res := recordAll(all, restore.Unattended)
		d.m.screen, d.m.run = runScreen, pane.NewRun(d.m.plan.Plan, all.names, d.m.plan.All, nil)
		for _, ev := range events {
			d.do(d.m.handle(ev))
		}
		res.Undo = steps.Command("undo --fleet", res.Run, nil)
		d.update(finishedMsg{res})
	}},
	{"fleet-undo-plan", func(d *driver) {
		several(d.f, threeNames...).states = map[string]steps.RunState{"cp1": steps.RunRestored, "cp2": steps.RunRestored, "cp3": steps.RunRestored}
		d.endedAll(restore.Unattended)
		d.key("u")
	}},
	{"fleet-undo-plan-of-a-node", func(d *driver) {
		several(d.f, threeNames...)
		d.endedAll(restore.Unattended)
		d.key("u", "tab")
	}},
	{"fleet-undo-confirm", func(d *driver) { several(d.f, threeNames...); d.endedAll(restore.Unattended); d.key("u", "enter") }},
	{"fleet-earlier", func(d *driver) { brokeOffAll(d); d.do(d.m.discover()) }},
	{"fleet-earlier-alone", func(d *driver) { brokeOffAll(d); d.do(d.m.discover()); d.key("a") }},
	{"fleet-resume-plan", func(d *driver) {
		brokeOffAll(d)
		d.f.fleet.states = map[string]steps.RunState{"cp3": restore.RunUnreachable}
		d.do(d.m.discover())
		d.key("g")
	}},
	{"fleet-resume-confirm", func(d *driver) { brokeOffAll(d); d.do(d.m.discover()); d.key("g", "enter") }},
	{"undo-confirm-late", func(d *driver) {
		d.f.facts.Unfinished = &steps.RunInfo{Run: "20261120-120000", State: steps.RunFailed}
		d.f.standing = someStanding()[:3]
		d.f.since = "18422 revisions in 49h12m5s; the cluster loses it, /var/lib/.etcd-rewind-20261120-120000-etcd keeps it"
		d.do(d.m.discover())
		d.key("u", "enter")
	}},
}

// somePacked is the list of snapshots with packed ones among them.
func somePacked(d *driver) {
	d.f.candidates = slices.Insert(d.f.candidates, 1,
		snapshot.Candidate{Path: "/var/backups/nightly.db.zst", Size: 210_000_000, ModTime: noon.Add(-5 * time.Minute), Format: snapshot.Zstd, Inside: 2_460_000_000},
		snapshot.Candidate{Path: "/var/backups/etcd-weekly.tgz", Size: 98_000, ModTime: noon.Add(-10 * time.Minute), Format: snapshot.TarGzip, Inside: 528_384})
	d.to(chooseScreen)
}

var threeNames = []string{"cp1", "cp2", "cp3"}

// blank is a node whose etcd serves a blank cluster, beside the intact data.
func blank(f *fake) {
	f.facts.Etcd.DataDir = manifest.Location{HostPath: "/var/lib/etdc", Path: "/var/lib/etdc"}
	f.facts.Older = []steps.OlderData{{Dir: "/var/lib/etcd", Revision: 743, Keys: 322, Written: noon.Add(-20 * time.Minute)}}
	f.early = []steps.Verdict{{
		Check: "older-data", Title: "Older data", Level: steps.Warn, Overridable: true,
		Cause: "etcd on /var/lib/etdc serves a blank cluster, made on 2026-11-20 11:40:12 UTC, at revision 1; older data of another cluster, 322 keys at revision 743, written until 2026-11-20 11:39:41 UTC, lies in /var/lib/etcd",
		Hint:  "a restore loses more than needed; to point etcd there, with nothing lost: etcd-rewind repoint /var/lib/etcd",
	}}
}

const noRoute = "cp3: ssh: connect to host cp3 port 22: No route to host; 10.0.0.13: ssh: connect to host 10.0.0.13 port 22: No route to host"

// troubled is a cluster with a problem on some of its nodes.
func troubled(d *driver) {
	all := several(d.f, threeNames...)
	old := steps.Verdict{Check: "snapshot-age", Title: "Age", Level: steps.Warn, Cause: "the snapshot is 26 h old: what was written since is gone from the cluster", Hint: "take a newer one if there is one"}
	room := steps.Verdict{Check: "room", Title: "Disk space", Level: steps.Error, Overridable: true, Cause: "0.9 GB free on /var/lib, 1.2 GB needed", Hint: "make room, or choose another data directory"}
	all.verdicts = []steps.Verdict{{Check: "fleet-etcd-version", Title: "etcd's version", Level: steps.Warn, Cause: "the nodes run different versions: 3.6.10 on cp1, cp2; 3.6.11 on cp3", Hint: "fine during an upgrade"}}
	all.checked = map[string][]steps.Verdict{"cp1": {old}, "cp2": {old, room}, "cp3": {old}}
}

// failedAll is a run on several nodes that asks what to do about one.
func failedAll(d *driver, failAt, dropAt string) {
	all := several(d.f, threeNames...)
	all.failAt, all.dropAt, all.lost = failAt, dropAt, dropAt != ""
	var f *steps.Failure
	d.duringAll(threeNames, func(ev restore.NodeEvent) bool {
		if ev.Type == steps.TypeAsk {
			f = ev.Failure
		}
		return f != nil
	})
	d.update(askMsg{restore.Trouble{Node: "cp2", Away: dropAt != "", Failure: *f}})
}

// brokeOffAll is a run on several nodes that did not come to its end.
func brokeOffAll(d *driver) {
	d.f.brokeOff()
	d.f.fleet = newFakeFleet(threeNames...)
	d.f.facts.Unfinished.Dir = "/etc/kubernetes/etcd-rewind/20261120-120000"
}

// until are the events up to the first that fits.
func until(events []steps.Event, fits func(steps.Event) bool) []steps.Event {
	for i, ev := range events {
		if fits(ev) {
			return events[:i+1]
		}
	}
	return events
}

// watched shows another process's run as it is after these events, without
// the goroutine that would bring them.
func watched(d *driver, events []steps.Event) {
	d.m.handle(liveMsg{steps.RunInfo{Run: "20261120-120000"}})
	for _, ev := range events {
		d.do(d.m.handle(restore.NodeEvent{Event: ev}))
		d.m.now = func() time.Time { return ev.Time }
	}
}

func failed(d *driver, f *steps.Failure) {
	d.f.failAt = "start-etcd.4"
	f.Step, f.Action, f.Title = "start-etcd", "start-etcd.4", "Wait until etcd is ready with the restored data"
	d.during(record(d.f, restorePlan(), steps.Unattended), func(ev steps.Event) bool { return ev.Type == steps.TypeAsk })
	d.update(askMsg{restore.Trouble{Failure: *f}})
}

var sizes = [][2]int{{80, 24}, {120, 40}, {60, 20}, {40, 12}}

// Every screen at every size: what it shows, that it fills the terminal exactly
// and that no line is wider.
func TestEveryScreenAtEverySize(t *testing.T) {
	for _, s := range screens {
		t.Run(s.name, func(t *testing.T) {
			d := drive(t, newFake(), Options{Version: "v0.1.0"})
			s.show(d)
			var b strings.Builder
			for _, size := range sizes {
				d.size(size[0], size[1])
				view := d.m.View()
				lines := strings.Split(view, "\n")
				if len(lines) != size[1] {
					t.Errorf("%d lines at %d×%d", len(lines), size[0], size[1])
				}
				for i, l := range lines {
					if w := ansi.StringWidth(l); w != size[0] {
						t.Errorf("line %d is %d cells wide at %d×%d: %s", i+1, w, size[0], size[1], ansi.Strip(l))
					}
					fmt.Fprintln(&b, strings.TrimRight(ansi.Strip(l), " "))
				}
				fmt.Fprintf(&b, "^^ %d×%d\n", size[0], size[1])
			}
			golden(t, "screen-"+s.name, b.String())
		})
	}
}

// The golden files themselves, so that none is accepted that is too wide.
func TestNoGoldenLineIsWiderThanItsTerminal(t *testing.T) {
	files, err := filepath.Glob("testdata/screen-*.golden")
	if err != nil || len(files) < len(screens) {
		t.Fatalf("%d golden files for %d screens: %v", len(files), len(screens), err)
	}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		widest, frames := 0, 0
		for l := range strings.Lines(string(data)) {
			l = strings.TrimSuffix(l, "\n")
			var w, h int
			if n, _ := fmt.Sscanf(l, "^^ %d×%d", &w, &h); n == 2 {
				if widest > w {
					t.Errorf("%s: a line of %d cells on a terminal of %d", f, widest, w)
				}
				widest = 0
				frames++
				continue
			}
			widest = max(widest, ansi.StringWidth(l))
		}
		if frames != len(sizes) {
			t.Errorf("%s holds %d frames", f, frames)
		}
	}
}

var sgr = regexp.MustCompile("\x1b\\[([0-9;]*)m")

// styles returns the SGR parameters that a view uses.
func styles(view string) map[string]bool {
	used := map[string]bool{}
	for _, m := range sgr.FindAllStringSubmatch(view, -1) {
		for _, p := range strings.Split(m[1], ";") {
			used[p] = true
		}
	}
	return used
}

func TestColours(t *testing.T) {
	allowed := map[string]string{"": "reset", "0": "reset", "1": "bold", "2": "faint", "7": "reverse", "31": "red", "32": "green", "33": "yellow"}
	coloured := false
	for _, s := range screens {
		d := drive(t, newFake(), Options{})
		s.show(d)
		for p := range styles(d.m.View()) {
			if allowed[p] == "" {
				t.Errorf("%s uses %q, which isn't one of the 16 colours, bold, faint or reverse", s.name, p)
			}
			coloured = coloured || strings.HasPrefix(p, "3")
		}

		d = drive(t, newFake(), Options{})
		d.m.look = text.NewLook(env("TERM=xterm-256color", "LANG=C.UTF-8", "NO_COLOR=1"))
		s.show(d)
		for p := range styles(d.m.View()) {
			if strings.HasPrefix(p, "3") {
				t.Errorf("%s is coloured with NO_COLOR set", s.name)
			}
		}
	}
	if !coloured {
		t.Error("no screen is coloured at all")
	}
}

func TestWithoutUnicodeEverythingIsASCII(t *testing.T) {
	for _, s := range screens {
		d := drive(t, newFake(), Options{})
		d.m.look = text.NewLook(env("TERM=xterm", "LANG=C"))
		s.show(d)
		for i, l := range strings.Split(ansi.Strip(d.m.View()), "\n") {
			for _, r := range l {
				if r >= 0x7f || r < 0x20 {
					t.Errorf("%s: %q in line %d: %s", s.name, r, i+1, l)
				}
			}
			if len(l) != 80 {
				t.Errorf("%s: line %d is %d wide", s.name, i+1, len(l))
			}
			if strings.Contains(l, "?") && strings.Contains(l, "????") {
				t.Errorf("%s: a symbol has no stand-in: %s", s.name, l)
			}
		}
	}
	d := drive(t, newFake(), Options{})
	d.m.look = text.NewLook(env("TERM=xterm", "LANG=C"))
	d.during(record(d.f, restorePlan(), steps.Unattended), action("stage.1", steps.Waiting, 5))
	golden(t, "ascii", ansi.Strip(d.m.View())+"\n")
}

func TestNothingFromOutsideReachesTheTerminalRaw(t *testing.T) {
	for in, want := range map[string]string{
		"a\x1b[31mred\x1b[0m":     "ared",
		"tab\there":               "tab    here",
		"bell\x07, back\bspace":   "bell, backspace",
		"two\r\nlines":            "two  lines",
		"title\x1b]0;evil\x07 ok": "title ok",
		"right\u202eleft":         "rightleft",
		"zero\u200bwidth":         "zerowidth",
		"c1\u009b31mcsi":          "c131mcsi",
		"bad\xffutf8":             "badutf8",
	} {
		if got := trust.Text(in); got != want {
			t.Errorf("clean(%q) = %q, want %q", in, got, want)
		}
	}
}
