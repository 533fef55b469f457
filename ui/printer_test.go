package ui

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"etcd-rewind/restore"
	"etcd-rewind/steps"
	"etcd-rewind/ui/print"
)

func utf8Locale(t *testing.T) {
	t.Setenv("LC_ALL", "C.UTF-8")
	t.Setenv("TERM", "xterm")
}

func TestPlainRun(t *testing.T) {
	utf8Locale(t)
	for _, tc := range []struct {
		name, failAt string
		o            print.Options
	}{
		{name: "plain"}, {name: "plain-commands", o: print.Options{Commands: true}}, {name: "plain-put-back", failAt: "start-etcd.4"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFake()
			f.failAt = tc.failAt
			var b strings.Builder
			show := print.NewLines(&b, tc.o)
			for _, ev := range record(f, restorePlan(), steps.Unattended) {
				show.Event(restore.NodeEvent{Event: ev})
			}
			golden(t, tc.name, b.String())
		})
	}
}

func TestPlainTellsOfALongWaitEveryFiveSeconds(t *testing.T) {
	utf8Locale(t)
	var b strings.Builder
	show := print.NewLines(&b, print.Options{})
	ev := steps.Event{Type: steps.TypeAction, Step: "stop-etcd", Action: "stop-etcd.2", State: steps.Started, Time: noon, Message: "Wait for the cleanup of etcd", Limit: 60}
	show.Event(restore.NodeEvent{Event: ev})
	for ms := 100; ms <= 12_000; ms += 100 {
		ev.State, ev.Time = steps.Waiting, noon.Add(time.Duration(ms)*time.Millisecond)
		ev.Waited, ev.Message = float64(ms)/1000, ""
		ev.Seen = []steps.Sighting{{What: "etcd", Is: "gone", OK: true}, {What: "left over", Is: "cgroup still there"}}
		if ms == 7000 {
			ev.Message = "a fresh annotation makes it try at once"
		}
		show.Event(restore.NodeEvent{Event: ev})
	}
	golden(t, "plain-long-wait", b.String())
}

func TestPlainWithoutUnicode(t *testing.T) {
	t.Setenv("LC_ALL", "C")
	var b strings.Builder
	show := print.NewLines(&b, print.Options{})
	f := newFake()
	f.failAt = "start-etcd.4"
	for _, ev := range record(f, restorePlan(), steps.Unattended) {
		show.Event(restore.NodeEvent{Event: ev})
	}
	for _, r := range b.String() {
		if r > 0x7e || r < 0x20 && r != '\n' {
			t.Fatalf("%q in:\n%s", r, b.String())
		}
	}
}

func TestJSONIsOneObjectALineAndEndsWithTheResult(t *testing.T) {
	var b strings.Builder
	show := print.NewJSON(&b)
	f := newFake()
	f.failAt = "start-etcd.4"
	for _, ev := range record(f, restorePlan(), steps.Unattended) {
		show.Event(restore.NodeEvent{Event: ev})
	}
	_ = show.Close()
	var last map[string]any
	for line := range strings.Lines(b.String()) {
		last = nil
		if err := json.Unmarshal([]byte(line), &last); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		for _, key := range []string{"type", "time", "run"} {
			if last[key] == nil {
				t.Fatalf("no %s in %s", key, line)
			}
		}
	}
	fail, _ := last["error"].(map[string]any)
	if last["type"] != "result" || last["ok"] != false || last["put_back"] != true || last["outage_seconds"] == 0.0 || fail["cause"] == nil || fail["hint"] == nil {
		t.Errorf("the last line is %v", last)
	}
}

func TestJSONVerdicts(t *testing.T) {
	var b strings.Builder
	if err := print.JSONChecked(&b, []restore.Checked{{Verdicts: someVerdicts()}}, true, noon); err != nil {
		t.Fatal(err)
	}
	if err := print.JSONChecked(&b, []restore.Checked{{}, {Node: "cp2", Verdicts: goodVerdicts()}}, true, noon); err != nil {
		t.Fatal(err)
	}
	if err := print.JSONFailure(&b, &steps.Failure{Cause: "no kubelet here", Hint: "name its file"}, noon); err != nil {
		t.Fatal(err)
	}
	golden(t, "json-verdicts", b.String())
}

func TestPrints(t *testing.T) {
	utf8Locale(t)
	accepted := someVerdicts()
	steps.Accept(accepted, []string{"hash", "room"})
	for name, print := range map[string]func(b *strings.Builder) error{
		"print-plan": func(b *strings.Builder) error { return print.Plan(b, restorePlan()) },
		"print-verdicts": func(b *strings.Builder) error {
			return print.Checked(b, []restore.Checked{{Verdicts: someVerdicts()}}, false)
		},
		"print-verdicts-accepted": func(b *strings.Builder) error { return print.Checked(b, []restore.Checked{{Verdicts: accepted}}, true) },
		"print-standing": func(b *strings.Builder) error {
			return print.Standing(b, steps.RunInfo{Run: "20261120-120000", State: steps.RunFailed, Err: "etcd did not become ready within 60 s"}, someStanding())
		},
		"print-failure": func(b *strings.Builder) error { return print.Failure(b, someFailure()) },
		"print-no-runs": func(b *strings.Builder) error { return print.Runs(b, nil, noon) },
		"print-runs": func(b *strings.Builder) error {
			return print.Runs(b, []steps.RunInfo{
				{Run: "20261120-120000-2", Started: noon.Add(-40 * time.Minute), State: steps.RunUnfinished, Snapshot: "/var/backups/before.db"},
				{Run: "20261120-120000", Started: noon.Add(-17*time.Hour - 59*time.Minute), State: steps.RunRestored, Snapshot: "/var/backups/before.db", Outage: 5.87},
				{Run: "20261119-080000", State: steps.RunUnreadable, Err: "journal: unexpected end"},
				{Run: "20261118-080000", Started: noon.Add(-52 * time.Hour), State: steps.RunUndone, Outage: 4.1, Snapshot: "/mnt/backups/production/etcd/cp1/etcd-nightly-20261118.db.gz"},
			}, noon)
		},
	} {
		t.Run(name, func(t *testing.T) {
			var b strings.Builder
			if err := print(&b); err != nil {
				t.Fatal(err)
			}
			golden(t, name, b.String())
		})
	}
}

func TestPrintedCommandsAreWhole(t *testing.T) {
	utf8Locale(t)
	var b strings.Builder
	if err := print.Plan(&b, restorePlan()); err != nil {
		t.Fatal(err)
	}
	for _, s := range restorePlan().Steps {
		for _, a := range s.Actions {
			for _, c := range a.Commands() {
				if !strings.Contains(b.String(), "$ "+c+"\n") {
					t.Errorf("the dry run doesn't show in one line:\n%s", c)
				}
			}
		}
	}
}

func TestPlainQuestions(t *testing.T) {
	utf8Locale(t)
	for name, tc := range map[string]struct {
		input string
		want  steps.Choice
	}{
		"a key":                          {"w\n", steps.WaitOn},
		"other input is asked again":     {"\nyes\nU\nw\n", steps.WaitOn},
		"a choice that isn't offered":    {"k\nw\n", steps.WaitOn},
		"what acts is asked once more":   {"r\nyes\n", steps.Retry},
		"and isn't done by a second key": {"r\nr\nx\ny\nw\n", steps.WaitOn},
		"nor by the end of the input":    {"r\n", steps.Revert},
		"the end of the input":           {"", steps.Revert},
		"the end after a wrong answer":   {"what\n", steps.Revert},
		"an answer without a line's end": {"w", steps.WaitOn},
	} {
		var b strings.Builder
		show := print.NewText(&b, print.Options{})
		got := show.Asker(print.NewAnswers(strings.NewReader(tc.input)))(restore.Trouble{Failure: *someFailure()})
		_ = show.Close()
		if got != tc.want {
			t.Errorf("%s: %s, want %s\n%s", name, got, tc.want, b.String())
		}
	}
	for input, want := range map[string]bool{"cp1\n": true, " cp1 \n": true, "cp1": true, "": false, "\n": false, "y\n": false, "cp2\ncp1\n": false} {
		var b strings.Builder
		if got := print.NewAnswers(strings.NewReader(input)).Confirm(&b, restorePlan().Node); got != want {
			t.Errorf("%q confirms: %v", input, got)
		}
	}
	for _, tc := range []struct {
		offered []steps.Choice
		want    steps.Choice
	}{
		{[]steps.Choice{steps.Leave, steps.WaitOn, steps.Revert}, steps.Leave},
		{[]steps.Choice{steps.RestartStuck, steps.Revert}, steps.RestartStuck},
		{[]steps.Choice{steps.WaitOn, steps.Leave, steps.Revert}, steps.Leave}, // slow: not to wait for ever, and no undo
		{nil, steps.Leave},
	} {
		if got := steps.Unattended(steps.Failure{Choices: tc.offered}); got != tc.want {
			t.Errorf("of %v, nobody there answers %q, want %q", tc.offered, got, tc.want)
		}
	}
}

func TestAHintIsPrintedOnceForSeveralNodes(t *testing.T) {
	var out bytes.Buffer
	p := print.NewText(&out, print.Options{Nodes: []string{"cp1", "cp2"}})
	f := steps.Failure{Title: "x", Cause: "it fails", Hint: "look at the disk", Choices: []steps.Choice{steps.Revert}}
	at := time.Date(2026, 11, 21, 3, 0, 0, 0, time.UTC)
	p.Event(restore.NodeEvent{Node: "cp2", Event: steps.Event{Type: steps.TypeAsk, Time: at, Failure: &f}})
	p.Event(restore.NodeEvent{Event: steps.Event{Type: steps.TypeResult, Time: at, Result: &steps.Result{Error: &steps.Failure{Cause: "cp2: it fails", Hint: "look at the disk"}}}})
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(out.String(), "look at the disk"); n != 1 {
		t.Errorf("%d times:\n%s", n, out.String())
	}
}
