package ui

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"etcd-rewind/restore"
	"etcd-rewind/steps"
	"etcd-rewind/ui/pane"
	"etcd-rewind/ui/text"
)

func TestSeveralMembersAreRestoredAsOne(t *testing.T) {
	d, all := driveSeveral(t, threeNames...)
	d.do(d.m.discover())
	d.see("One of 3 control planes with an etcd member: cp1, cp2 and cp3", "restored as one", "over ssh")
	d.key("enter", "j", "enter")
	d.see("3 control planes restored as one", "▸ ✓ cp1  this node", "✓ cp3")
	d.key("enter")
	d.see("nothing blocks the restore", "All nodes", "cp2")
	d.key("enter")
	d.see("Restore before.db on cp1, cp2 and cp3", "token     etcd-rewind-20261120-120000", "cp3       /var/lib/etcd → /var/lib/etcd-20261120-120000")
	d.key("tab", "tab")
	d.see("Restore before.db on cp2", "Keep a way back")
	d.key("tab", "tab", "enter")
	d.see("on cp1, cp2 and cp3", "Type this node's name, cp1, to start on all of them")
	d.key("cp2", "enter")
	d.see("Nothing was started")
	d.key("ctrl+u", "cp1", "enter")
	d.until("Restored: all 3 nodes serve the snapshot's data")
	d.see("cp2     restored: etcd runs from /var/lib/etcd-20261120-120000", "etcd-rewind undo --fleet 20261120-120000")
	if r := d.m.runner.wait(); r == nil || r.ExitCode() != 0 || r.OutageSeconds == 0 {
		t.Errorf("result %+v", r)
	}
	if !slices.Equal(all.ran, []string{"run"}) || all.sends != 1 || len(d.f.runs) > 0 {
		t.Errorf("the conductor ran %v and sent %d times; this node alone ran %v", all.ran, all.sends, d.f.runs)
	}
	d.key("q")
	d.m.nodes.close()
	d.m.nodes.closing.Wait()
	if all.made != 1 || all.closed != 1 {
		t.Errorf("%d conductors, %d closed", all.made, all.closed)
	}
}

func TestOneOfSeveralCanNotBeRestoredAlone(t *testing.T) {
	d, _ := driveSeveral(t, threeNames...)
	d.to(membersScreen)
	d.key("a")
	d.see("can't be restored alone", "control planes restored as one")
}

func TestWithoutAConductorSeveralMembersAreRefused(t *testing.T) {
	d, _ := driveSeveral(t, threeNames...)
	d.m.options.Nodes, d.m.here.Led = nil, false
	d.do(d.m.discover())
	d.see("This node can't be restored as it is", "the running etcd has 3 members")
}

// Its etcd has one member, and etcd.yaml or the snapshot still name others.
func TestANodeThatMayBeRestoredAloneIsIfTheUserSaysSo(t *testing.T) {
	for name, press := range map[string][]string{
		"on the first screen":        {"a", "enter", "enter"},
		"on the screen of members":   {"enter", "enter", "a"},
		"and after a second thought": {"a", "a", "a", "enter", "enter"},
	} {
		t.Run(name, func(t *testing.T) {
			d, all := driveSeveral(t, "cp1", "cp2")
			d.f.early = nil
			d.do(d.m.discover())
			d.key(press...)
			d.see("4 ok; nothing blocks the restore")
			d.key("enter", "enter")
			d.see("Type the node's name, cp1")
			d.key("cp1", "enter")
			d.until("Restored: the API server answers")
			if len(all.ran) > 0 || !slices.Equal(d.f.runs, []string{steps.KindRestore}) {
				t.Errorf("the conductor ran %v, this node %v", all.ran, d.f.runs)
			}
		})
	}
}

func TestASnapshotOfSeveralMembersAsksForTheOthers(t *testing.T) {
	d := drive(t, newFake(), Options{})
	d.f.fleet = newFakeFleet("cp1", "cp2")
	d.f.members = []string{"cp1", "cp2"}
	d.do(d.m.discover())
	d.see("A control plane with one etcd member")
	d.key("enter", "enter")
	d.see("2 control planes restored as one", "a this node alone")
	d.key("esc")
	d.see("Which snapshot")
}

func TestAMemberThatIsNotReachedStandsInTheWay(t *testing.T) {
	d, all := driveSeveral(t, threeNames...)
	all.away, all.host = map[string]string{"cp3": noRoute}, map[string]string{"cp3": "admin@cp3.example.com"}
	d.to(membersScreen)
	d.see("3 members, 1 not reached", "▸ ✗ cp3", "No route to host")
	d.key("enter")
	d.see("cp3 can't be reached", "▸ members")
	d.key("h", "ctrl+u", "enter")
	d.see("Type a host")
	d.key("admin@cp3.example.com", "enter")
	d.see("3 control planes restored as one", "admin@cp3.examp", "Reached as  admin@cp3.example.com")
	d.key("enter")
	d.see("nothing blocks the restore")
	if got := all.wants[len(all.wants)-1].Hosts; !cmp.Equal(got, map[string]string{"cp3": "admin@cp3.example.com"}) {
		t.Errorf("hosts %v", got)
	}
	if all.made != 2 {
		t.Errorf("%d conductors", all.made)
	}
}

func TestHostsOfTheCommandLineReachTheConductor(t *testing.T) {
	f := newFake()
	all := several(f, threeNames...)
	d := drive(t, f, Options{Want: restore.Want{Hosts: map[string]string{"cp2": "two"}, Paths: restore.Paths{CRI: "/run/cri"}}})
	d.to(membersScreen)
	if w := all.wants[0]; w.Hosts["cp2"] != "two" || w.Paths.CRI != "/run/cri" || w.Info == nil {
		t.Errorf("wants %+v", w)
	}
}

func TestALostMemberIsLeftOutForGood(t *testing.T) {
	d, all := driveSeveral(t, threeNames...)
	all.away = map[string]string{"cp3": noRoute}
	d.to(membersScreen)
	d.key("o")
	d.see("Exclude cp3 from the restored cluster?", "only cp1 and cp2", "kubeadm reset", "--print-join-command")
	d.key("n")
	d.see("1 not reached")
	d.key("o", "y")
	d.see("2 control planes restored as one", "– cp3  excluded")
	d.key("enter", "enter", "enter", "cp1", "enter")
	d.until("Restored: all 2 nodes")
	d.see("Excluded: cp3", "kubeadm reset")
	if got := all.wants[len(all.wants)-1].Without; !slices.Equal(got, []string{"cp3"}) {
		t.Errorf("without %v", got)
	}
}

func TestThisNodeIsNotLeftOut(t *testing.T) {
	d, all := driveSeveral(t, threeNames...)
	d.to(membersScreen)
	d.key("o")
	d.see("cp1 is this node")
	d.key("h")
	d.see("nothing has to reach it")
	if len(all.wants) != 1 {
		t.Errorf("looked %d times", len(all.wants))
	}
}

func TestAMemberThatNotAllNameIsDecidedOnOnce(t *testing.T) {
	odd := steps.Verdict{Check: "fleet-members", Title: "Members", Level: steps.Warn, Cause: "cp3 is named by the snapshot, not by etcd.yaml and etcd"}
	d, all := driveSeveral(t, threeNames...)
	all.odd, all.verdicts = map[string]bool{"cp3": true}, []steps.Verdict{odd}
	d.to(membersScreen)
	d.see("not all are named by all sources", "▸ ! cp3")
	d.key("enter")
	d.see("cp3 isn't named by all sources: t includes it")
	d.key("t")
	d.see("3 control planes restored as one")
	d.key("enter")
	d.see("nothing blocks the restore", "[x] overridden")
	d.key("enter")
	d.see("token")
}

func TestWhatIsAcceptedOnOneNodeIsNotAcceptedOnAnother(t *testing.T) {
	d, all := driveSeveral(t, threeNames...)
	room := func(cause string) steps.Verdict {
		return steps.Verdict{Check: "room", Title: "Disk space", Level: steps.Warn, Cause: cause}
	}
	all.checked = map[string][]steps.Verdict{"cp1": {room("1.3 GB free")}, "cp2": {room("0.2 GB free")}, "cp3": {room("1.3 GB free")}}
	d.to(checkScreen)
	d.see(" cp1 and cp3 ", "2 to fix or override")
	d.key("space")
	d.see("1 to fix or override")
	d.key("enter")
	d.see("blocked by 1 check: room")
	d.key("space", "enter")
	d.see("token")
	d.key("s") // the checks run again
	if n := len(all.asked); n != 2 || !slices.Equal(all.asked[1].Accept, []string{"room"}) || all.asked[1].Stop != steps.StopGraceful {
		t.Errorf("checked %d times, at last with %+v", n, all.asked[n-1])
	}
	if all.sends != 1 {
		t.Errorf("sent %d times", all.sends)
	}
}

func TestASnapshotThatDoesNotArriveIsSentAgain(t *testing.T) {
	d, all := driveSeveral(t, threeNames...)
	all.sendErr = &steps.Failure{Cause: "cp2: the copy has another sha256", Hint: "try again"}
	d.to(checkScreen)
	d.see("The snapshot did not arrive on every node", "cp2: the copy has another sha256")
	d.key("enter")
	d.see("r tries again")
	all.sendErr = nil
	d.key("r")
	d.see("nothing blocks the restore")
	d.key("esc", "enter")
	d.see("nothing blocks the restore")
	if all.sends != 2 {
		t.Errorf("sent %d times", all.sends)
	}
}

func TestEscGoesBackFromTheMembers(t *testing.T) {
	d, all := driveSeveral(t, threeNames...)
	d.to(confirmScreen)
	for _, title := range []string{"stop API server", "nothing blocks the restore", "3 control planes restored as one", "Which snapshot", "One of 3 control planes"} {
		d.key("esc")
		d.see(title)
	}
	// Another snapshot has members of its own.
	d.key("enter", "j", "enter")
	d.see("3 control planes restored as one", "before.db")
	if len(all.wants) != 2 {
		t.Errorf("looked %d times", len(all.wants))
	}
}

// toRunAll goes to a run on three nodes.
func toRunAll(t *testing.T, set func(all *fakeFleet)) (*driver, *fakeFleet) {
	t.Helper()
	d, all := driveSeveral(t, threeNames...)
	set(all)
	d.to(runScreen)
	return d, all
}

func TestWhatIsDoneAboutANodeThatFails(t *testing.T) {
	for _, tc := range []struct {
		key    string
		choice steps.Choice
		says   []string
		status int
	}{
		{"u", steps.Revert, []string{"Not restored. The run was undone: all 3 nodes are as before", "cp3  reverted"}, 1},
		{"r", steps.Retry, []string{"Restored: all 3 nodes"}, 0},
		{"w", steps.WaitOn, []string{"Restored: all 3 nodes"}, 0},
		{"g", restore.ContinueWithout, []string{"Not restored. Nodes are half restored", "cp2          unfinished", "run there  etcd-rewind resume"}, 3},
	} {
		t.Run(string(tc.choice), func(t *testing.T) {
			d, all := toRunAll(t, func(all *fakeFleet) { all.failAt = "cp2/start-etcd.4" })
			d.until("undo: revert all nodes")
			d.see("cp2, before etcd ready", "cp1: waiting at etcd ready", "permission denied", "continue without this node")
			d.key(tc.key)
			if tc.choice != steps.WaitOn {
				d.key("y")
			}
			for _, s := range tc.says {
				d.until(s)
			}
			if !slices.Equal(all.chosen, []steps.Choice{tc.choice}) {
				t.Errorf("chosen %v", all.chosen)
			}
			if r := d.m.runner.wait(); r.ExitCode() != tc.status {
				t.Errorf("ends with %d", r.ExitCode())
			}
		})
	}
}

func TestLeavingAllNodesIsAskedTwice(t *testing.T) {
	d, all := toRunAll(t, func(all *fakeFleet) { all.failAt = "cp2/start-etcd.4" })
	d.until("stop on all nodes")
	d.key("x")
	d.see("Stop here, and leave all nodes as they are?", "undo --fleet")
	d.key("n")
	d.see("cp2, before etcd ready")
	d.key("x", "y")
	d.until("Not restored. Nodes are half restored")
	if !slices.Equal(all.chosen, []steps.Choice{steps.Leave}) {
		t.Errorf("chosen %v", all.chosen)
	}
	d.key("g")
	d.see("Resume the restore on cp1, cp2 and cp3")
	d.key("enter", "cp1", "enter")
	d.until("Restored: all 3 nodes")
	if !slices.Equal(all.ran, []string{"run", "resume"}) {
		t.Errorf("ran %v", all.ran)
	}
}

func TestCtrlCAsksWhatToDoWithAllNodes(t *testing.T) {
	for key, tc := range map[string]struct {
		says string
		ran  []string
	}{
		"n": {"Restored: all 3 nodes", []string{"run"}},
		"s": {"Not restored. Nodes are half restored", []string{"run"}},
		"u": {"Undone: all 3 nodes are as before", []string{"run", "undo"}},
	} {
		t.Run(key, func(t *testing.T) {
			d, all := toRunAll(t, func(all *fakeFleet) { all.holdAt, all.hold = "cp2/stop-etcd.2", make(chan struct{}) })
			d.until("cp2  ▸ Wait for the cleanup of etcd-cp2")
			d.key("q")
			d.see("ctrl-c asks")
			d.key("ctrl+c")
			d.see("Stop the run?", "u  stop, and undo the run on all nodes")
			d.key(key)
			close(all.hold)
			d.until(tc.says)
			if !slices.Equal(all.ran, tc.ran) {
				t.Errorf("ran %v", all.ran)
			}
		})
	}
}

// A node that was told to stop and doesn't holds nobody up: leaving ends the
// connections to all of them.
func TestCtrlCAgainLeavesTheNodesThatDoNotStop(t *testing.T) {
	d, all := toRunAll(t, func(all *fakeFleet) { all.holdAt, all.hold, all.deaf = "cp2/stop-etcd.2", make(chan struct{}), true })
	d.until("cp2  ▸ Wait for the cleanup of etcd-cp2")
	d.key("ctrl+c", "s")
	d.key("ctrl+c")
	d.see("Leave at once?")
	if all.left != 0 {
		t.Error("the nodes are left before the answer")
	}
	d.key("l")
	if !d.quit || !d.m.left || all.left != 1 {
		t.Errorf("the wizard ended: %t; conductors that wait for nobody: %d", d.quit, all.left)
	}
	said := strings.Join(d.m.run.EndedAs(d.m.runner.left(), nil).SummaryWhole(80), "\n")
	for _, want := range []string{"Nodes are half restored", "etcd-rewind resume --fleet 20261120-120000", "etcd-rewind undo --fleet 20261120-120000"} {
		if !strings.Contains(said, want) {
			t.Errorf("the farewell lacks %q:\n%s", want, said)
		}
	}
	start := time.Now()
	d.m.nodes.abandon(100 * time.Millisecond) // cp2 hangs still
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("leaving took %v", took)
	}
	close(all.hold)
	d.m.nodes.closing.Wait()
	if all.closed == 0 {
		t.Error("the connections are open still")
	}
}

func TestANodeThatDropsOffIsShownUntilItIsBack(t *testing.T) {
	d, all := driveSeveral(t, threeNames...)
	all.dropAt = "cp2/start-etcd.4"
	d.duringAll(threeNames, func(ev restore.NodeEvent) bool { return ev.Type == restore.TypeLink })
	gone := d.m.now()
	d.m.now = func() time.Time { return gone.Add(7 * time.Second) }
	d.see("cp2  ! reconnecting…", "7.0 s", "Broken pipe")
	d.m.run.Apply(restore.NodeEvent{Node: "cp2", Event: steps.Event{Type: restore.TypeLink, State: steps.Done, Time: gone}})
	d.dontSee("reconnecting")
}

func TestOneOfTheNodesIsLookedAtDuringTheRun(t *testing.T) {
	d, _ := driveSeveral(t, threeNames...)
	d.duringAll(threeNames, on("cp2", "stop-etcd.2", steps.Waiting, 5))
	d.see("cp1  ○ waiting for cp2", "cp3  ○ waiting for cp2", "API down")
	d.key("2", "enter")
	d.see("cp2  one of cp1, cp2 and cp3", "▸ Stop etcd", "Wait for the cleanup")
	d.key("k")
	d.see("Restart the stuck kubelet", "esc follow")
	d.key("esc", "tab")
	d.see("cp3  one of")
	d.key("l")
	d.see("Logs are read on this node only")
	d.key("?")
	d.see("A longer text for a learner")
	d.key("esc", "c")
	d.see("Done so far, and how to do it by hand", "Wait until kubelet stops kube-apiserver-cp3")
	d.key("esc", "esc")
	d.see("etcd down", "verified")
	d.key("1", "l")
	d.see("Log of etcd")
}

func TestTheClockRunsFromTheFirstNodesOutageToTheLastOnes(t *testing.T) {
	d, _ := driveSeveral(t, threeNames...)
	var first, last time.Time
	away := map[string]bool{}
	events, res := recordAll(d.f.fleet, restore.Unattended)
	_ = res
	for _, ev := range events {
		if ev.Away != nil {
			if first.IsZero() {
				first = ev.Time.Add(-time.Duration(*ev.Away * float64(time.Second)))
			}
			away[ev.Node] = true
		} else if away[ev.Node] {
			away[ev.Node] = false
			last = ev.Time
		}
	}
	d.duringAll(threeNames, func(ev restore.NodeEvent) bool { return ev.Type == steps.TypeResult && ev.Node == "cp3" })
	if want := "API was down " + text.Seconds(last.Sub(first).Seconds()); !strings.Contains(d.view(), want) {
		t.Errorf("the screen doesn't say %q:\n%s", want, d.view())
	}
}

func TestUndoAfterARunPutsAllNodesBack(t *testing.T) {
	d, all := toRunAll(t, func(*fakeFleet) {})
	d.until("Restored: all 3 nodes")
	d.key("u")
	d.see("Undo on cp1, cp2 and cp3")
	d.key("tab", "tab")
	d.see("Put cp2 back as it was before run")
	d.key("enter", "cp1", "enter")
	d.until("Undone: all 3 nodes are as before")
	d.see("redo  etcd-rewind redo --fleet 20261120-120000")
	if !slices.Equal(all.ran, []string{"run", "undo"}) || !slices.Equal(all.opened, []string{"20261120-120000"}) {
		t.Errorf("ran %v, opened %v", all.ran, all.opened)
	}
	if r := d.m.runner.wait(); r.ExitCode() != 0 {
		t.Errorf("ends with %d", r.ExitCode())
	}
}

func TestARunOfSeveralThatBrokeOff(t *testing.T) {
	for key, tc := range map[string]struct{ says, ran string }{
		"g": {"Restored: all 3 nodes", "resume"},
		"u": {"Undone: all 3 nodes", "undo"},
	} {
		t.Run(tc.ran, func(t *testing.T) {
			d := drive(t, newFake(), Options{})
			brokeOffAll(d)
			d.do(d.m.discover())
			d.see("made with         cp1, cp2 and cp3, restored as one", "on all nodes")
			d.key(key)
			d.see("cp2  half restored")
			d.key("enter", "cp1", "enter")
			d.until(tc.says)
			all := d.f.fleet
			if !slices.Equal(all.ran, []string{tc.ran}) || len(d.f.runs) > 0 || !cmp.Equal(all.rsh, [][]string{{"rsh"}}) {
				t.Errorf("the conductor ran %v through %v, this node %v", all.ran, all.rsh, d.f.runs)
			}
		})
	}
}

// The conductor doesn't tell again what was so before the run broke off.
func TestWhatWasReachedBeforeARunBrokeOffIsShown(t *testing.T) {
	d := drive(t, newFake(), Options{})
	brokeOffAll(d)
	d.f.fleet.states = map[string]steps.RunState{"cp1": steps.RunRestored}
	d.do(d.m.discover())
	d.key("g", "enter")
	d.m.screen, d.m.run = runScreen, pane.NewRun(d.m.plan.Plan, threeNames, nil, nil)
	d.m.run.Resumes(d.m.plan.States)
	d.see("cp1  ✓ restored")
	for i, name := range []string{"cp2", "cp3"} {
		plan := nodePlan(name, threeNames, steps.Choices{})
		d.update(restore.NodeEvent{Node: name, Event: steps.Event{Type: steps.TypePlan, Plan: plan, Time: noon}})
		ev := steps.Event{Type: steps.TypeAction, Step: "start-etcd", Action: "start-etcd.6", State: steps.Started, Time: noon}
		d.update(restore.NodeEvent{Node: name, Event: ev})
		if i == 0 {
			d.see("cp2  ○ waiting for cp3")
		}
	}
	d.update(restore.NodeEvent{Event: steps.Event{Type: restore.TypePhase, Time: noon}, Phase: steps.PhaseEtcdReady})
	for _, row := range strings.Split(d.view(), "\n") {
		if strings.HasPrefix(row, " staged") || strings.HasPrefix(row, " etcd ready") {
			if strings.Count(row, "✓") != 3 {
				t.Errorf("not all are past it: %s", row)
			}
		}
	}
}

func TestARunOfSeveralIsGoneOnWithOnThisNodeAlone(t *testing.T) {
	d := drive(t, newFake(), Options{})
	brokeOffAll(d)
	d.do(d.m.discover())
	d.key("a", "g")
	d.see("Go on: Restore before.db on cp1")
	d.key("enter", "cp1", "enter")
	d.until("Restored: the API server answers")
	if len(d.f.fleet.ran) > 0 {
		t.Errorf("the conductor ran %v", d.f.fleet.ran)
	}
}

func TestARunThatCanNotBeginOnSeveralNodesChangesNothing(t *testing.T) {
	d, all := driveSeveral(t, threeNames...)
	d.to(confirmScreen)
	all.refuse = &steps.Failure{Cause: "there is no plan", Hint: "plan again"}
	d.key("cp1", "enter")
	d.until("Not started. Nothing was changed")
	d.see("there is no plan")
}

func TestNewsOfANodeTakesThePlaceOfItsOlderNewsOnly(t *testing.T) {
	waits := func(node string, s float64) restore.NodeEvent {
		return restore.NodeEvent{Node: node, Event: steps.Event{Type: steps.TypeAction, Action: "a.1", State: steps.Waiting, Waited: s, Seen: []steps.Sighting{{What: "pod"}}}}
	}
	b := newMailbox()
	for i := range 50 {
		b.put(waits("cp1", float64(i)))
		b.put(waits("cp2", float64(i)))
	}
	b.put(restore.NodeEvent{Event: steps.Event{Type: restore.TypePhase}})
	b.put(waits("cp1", 60))
	var got []float64
	for _, m := range b.mail {
		got = append(got, m.(restore.NodeEvent).Waited)
	}
	if want := []float64{49, 49, 0, 60}; !slices.Equal(got, want) {
		t.Errorf("the mailbox holds %v, want %v", got, want)
	}
}
