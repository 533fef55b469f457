package ui

import (
	"regexp"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/charmbracelet/x/ansi"

	"etcd-rewind/restore"
	"etcd-rewind/steps"
)

// Screens that show what a node, a manifest or a log says, with a name wherever
// they do. The panes have a table of their own.
var hostileScreens = map[string]func(d *driver, name string){
	"node": func(d *driver, name string) {
		d.f.facts.Runtime, d.f.facts.StateDir, d.f.facts.APIState, d.f.facts.KubernetesVersion = name, name, name, name
		d.to(nodeScreen)
	},
	"node that can't be read": func(d *driver, name string) {
		d.f.discover = &steps.Failure{Cause: name, Hint: name}
		d.to(nodeScreen)
	},
	"checks": func(d *driver, name string) {
		d.f.verdicts = [][]steps.Verdict{{
			{Check: "a", Title: name, Level: steps.Error, Cause: name, Hint: name}, {Check: "b", Title: name, Level: steps.Warn, Cause: name, Hint: name}, {Check: "c", Title: name, Level: steps.Pass, Cause: name},
		}}
		d.to(checkScreen)
	},
	"plan": func(d *driver, name string) {
		d.to(planScreen)
		d.m.plan.Plan = hostilePlan(name)
	},
	"run": func(d *driver, name string) {
		d.during(record(d.f, hostilePlan(name), steps.Unattended), action("stop-etcd.2", steps.Waiting, 2))
	},
	"commands": func(d *driver, name string) {
		d.during(record(d.f, hostilePlan(name), steps.Unattended), action("stop-etcd.2", steps.Waiting, 2))
		d.key("c")
	},
	"failure": func(d *driver, name string) {
		d.during(record(d.f, hostilePlan(name), steps.Unattended), action("stop-etcd.2", steps.Waiting, 2))
		d.m.run.Ask("", &steps.Failure{
			Title: name, Cause: name, Hint: name, Log: []string{name, name}, LogPath: name, Seen: []steps.Sighting{{What: name, Is: name}},
			Choices: []steps.Choice{steps.Revert, steps.Retry},
		})
	},
	"summary": func(d *driver, name string) {
		d.during(record(d.f, hostilePlan(name), steps.Unattended), action("stop-etcd.2", steps.Waiting, 2))
		d.m.finished(finishedMsg{Result: restore.Alone("r", "", &steps.Result{
			Undo: name, Redo: name, Report: name, Summary: []steps.Fact{{Name: name, Value: name}}, Error: &steps.Failure{Cause: name, Hint: name},
		})})
	},
}

func hostilePlan(name string) *steps.Plan {
	p := restorePlan()
	p.Title, p.Diffs = name, []steps.Diff{{Path: name, Text: "+" + name + "\n-" + name}}
	p.Summary = []steps.Fact{{Name: name, Value: name}}
	for i := range p.Steps {
		s := &p.Steps[i]
		s.Title, s.Why, s.More = name, name, name
		for j := range s.Actions {
			s.Actions[j].Action = act{title: "Wait " + name, commands: []string{name}}
		}
	}
	return p
}

func TestScreensHoldWhateverANameIs(t *testing.T) {
	colour := regexp.MustCompile(`\x1b\[[0-9;]*m`)
	for what, show := range hostileScreens {
		for _, name := range []string{
			"red\x1b[31m\x1b]0;title\a\x1b[2J", "open\x1b]0;title", "c1\u009b31m\u0085\x7f\x00", "right\u202egnp.db\u2066", "a\r\nb\nc\u2028d\te", strings.Repeat("x", 500),
			strings.Repeat("漢字かな", 30), strings.Repeat("e\u0301\u0302\u0303\u0304\u0305", 40), strings.Repeat("👩‍👩‍👧🇩🇪✓\ufe0f", 20), "bad\xff\xfe\xc3(", "",
		} {
			d := drive(t, newFake(), Options{})
			show(d, name)
			for _, size := range [][2]int{{60, 20}, {61, 21}, {80, 24}, {200, 50}} {
				d.size(size[0], size[1])
				lines := strings.Split(d.m.View(), "\n")
				if len(lines) != size[1] {
					t.Errorf("%s with %q: %d lines, want %d", what, name, len(lines), size[1])
				}
				for _, l := range lines {
					plain := colour.ReplaceAllString(l, "")
					if n := ansi.StringWidth(plain); n != size[0] || !utf8.ValidString(l) {
						t.Errorf("%s with %q at %d: a line of %d: %q", what, name, size[0], n, plain)
					}
					if i := strings.IndexFunc(plain, func(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) }); i >= 0 {
						t.Errorf("%s with %q: a control character at %d: %q", what, name, i, plain)
					}
				}
			}
		}
	}
}
