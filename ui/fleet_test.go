package ui

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"etcd-rewind/restore"
	"etcd-rewind/steps"
	"etcd-rewind/ui/print"
)

func TestAFleetIsToldANodeALineAndWhatAllHaveComeToOnce(t *testing.T) {
	var out bytes.Buffer
	tell := print.NewText(&out, print.Options{Nodes: []string{"cp1", "control-plane-2"}})
	at := time.Date(2026, 11, 21, 3, 0, 0, 0, time.UTC)
	say := func(node string, after time.Duration, ev steps.Event) {
		ev.Time = at.Add(after)
		tell.Event(restore.NodeEvent{Node: node, Event: ev})
	}
	plan := &steps.Plan{Run: "r", Title: "Restore", Steps: []steps.Step{{ID: "stage", Title: "Stage the restore", Actions: []steps.Planned{
		{ID: "stage.1", Action: &steps.Stage{}}, {ID: "stage.2", Action: &steps.WaitNodes{Phase: steps.PhaseStaged}},
	}}}}
	for _, n := range []string{"cp1", "control-plane-2"} {
		say(n, 0, steps.Event{Type: steps.TypePlan, Plan: plan})
		say(n, 0, steps.Event{Type: steps.TypeStep, Step: "stage", State: steps.Started})
		say(n, 0, steps.Event{Type: steps.TypeAction, Step: "stage", Action: "stage.1", State: steps.Started, Message: "Restore it"})
		say(n, time.Second, steps.Event{Type: steps.TypeAction, Step: "stage", Action: "stage.1", State: steps.Done, Message: "Restore it"})
		say(n, time.Second, steps.Event{Type: steps.TypeAction, Step: "stage", Action: "stage.2", State: steps.Started, Message: "Wait for all"})
		say(n, 2*time.Second, steps.Event{Type: steps.TypeAction, Step: "stage", Action: "stage.2", State: steps.Done, Message: "Wait for all"})
	}
	tell.Event(restore.NodeEvent{Event: steps.Event{Type: restore.TypePhase, Time: at.Add(2 * time.Second), Message: "all 2 nodes: the restore is staged"}, Phase: steps.PhaseStaged})
	tell.Event(restore.NodeEvent{
		Event: steps.Event{Type: steps.TypeResult, Time: at, Result: &steps.Result{OutageSeconds: 9.4, Undo: "etcd-rewind undo --fleet r", Error: &steps.Failure{Cause: "cp1: it fails"}}},
		Nodes: []restore.NodeResult{{Node: "cp1", State: restore.HalfWay, Phase: steps.PhasePlaced, Do: []string{"etcd-rewind resume r"}}, {Node: "control-plane-2", State: restore.Restored}},
	})
	_ = tell.Close()
	text := out.String()
	for _, line := range []string{
		"cp1                 0.0 s  ▸ Stage the restore",
		"control-plane-2     1.0 s    ✓ Restore it  1.0 s",
		"all                 2.0 s  ✓ all 2 nodes: the restore is staged",
		"unfinished, reached: placed",
		"etcd-rewind resume r",
		"9.4 s",
	} {
		if strings.Count(text, line) != 1 {
			t.Errorf("not once %q in:\n%s", line, text)
		}
	}
	if strings.Contains(text, "Wait for all") {
		t.Errorf("what all wait for is told for each:\n%s", text)
	}
}
