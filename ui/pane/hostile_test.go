package pane

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	tea "github.com/charmbracelet/bubbletea"
	"github.com/charmbracelet/x/ansi"

	"etcd-rewind/problem"
	"etcd-rewind/settle"
	"etcd-rewind/snapshot"
	"etcd-rewind/steps"
	"etcd-rewind/trust"
)

// hostileNames are names as a snapshot, a file system or another node may hold
// them.
var hostileNames = map[string]string{
	"escape sequences":  "red\x1b[31m\x1b]0;title\a\x1b[2J\x1bPq\x1b\\cursor\x1b[H",
	"an open sequence":  "open\x1b]0;title",
	"C1 and DEL":        "c1\u009b31m\u0085\x7f\x00",
	"bidi":              "right\u202egnp.db\u2066\u200f",
	"lines":             "a\r\nb\nc\u2028d\re\tf",
	"long":              strings.Repeat("x", 500),
	"long in words":     strings.Repeat("word ", 100),
	"a long path":       strings.Repeat("/directory", 50),
	"wide":              strings.Repeat("漢字かな", 30),
	"combining marks":   strings.Repeat("e\u0301\u0302\u0303\u0304\u0305\u0306", 40),
	"emoji":             strings.Repeat("👩‍👩‍👧👍🏽🇩🇪✓\ufe0f", 20),
	"invalid UTF-8":     "bad\xff\xfe\xc3(\xe2\x82",
	"fillers":           "\u3164\uffa0\u115f\ufff9\U000e0041name",
	"nothing":           "",
	"blanks":            "   ",
	"only a mark":       "\u0301",
	"flags and options": "--override=all $(id) `id` '\"\\",
}

var hostileNow = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

// hostilePanes are all panes with a name wherever they show one.
var hostilePanes = map[string]func(t *testing.T, name string, w, h int) []string{
	"page": func(_ *testing.T, name string, w, h int) []string {
		p := Page{}
		lines, _, _ := p.View(look, "Title", trust.Lines([]string{name, name}), w, h)
		return lines
	},
	"log": func(_ *testing.T, name string, w, h int) []string {
		o := NewLog([]string{"etcd"}, 0)
		o.Set("etcd", strings.Split(strings.Repeat(name+"\n", 30), "\n"))
		lines, _, _ := o.View(look, w, h)
		return lines
	},
	"identity": func(_ *testing.T, name string, w, h int) []string {
		p := NewPicker("")
		p.Found([]snapshot.Candidate{{Path: "s3://b/" + name, From: name, Format: snapshot.Age, Err: problem.Coded(snapshot.CodeEncrypted, name, "%s", name)}})
		p.AskIdentity(look)
		lines, _, _ := p.View(look, hostileNow, w, h)
		return lines
	},
	"elsewhere": func(_ *testing.T, name string, w, h int) []string {
		p := NewPicker("")
		p.Asking = true
		p.Found([]snapshot.Candidate{{Path: "s3://b/" + name, From: name, Format: snapshot.Age, Revision: 1, Keys: 2, Size: 3, ModTime: hostileNow}, {Path: name, From: name, Err: problem.New(name, "%s", name)}})
		lines, _, _ := p.View(look, hostileNow, w, h)
		return lines
	},
	"question": func(_ *testing.T, name string, w, h int) []string {
		name = trust.Text(name)
		q := Question[int]{
			Title: "Exclude " + name + "?", Now: func() string { return name }, Text: []string{name, "text " + name},
			Facts: []steps.Fact{{Name: name, Value: name}}, Answers: []Answer[int]{{"y", name, 1}, {"n", "keep it", 0}},
		}
		lines, _, _ := q.View(look, w, h)
		return lines
	},
	"search": func(_ *testing.T, name string, w, _ int) []string {
		var s Search
		s.Open(look)
		s.Key(tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune(name)})
		return []string{s.View(w)}
	},
	"owed": func(_ *testing.T, name string, w, h int) []string {
		var s Settle
		s.Set(&settle.Found{
			Debts:  []settle.Debt{{Kind: name, Object: name, Is: name, Means: name, Commands: []string{name}, Offered: true}, {Kind: "volume", Object: name, Is: name}},
			Unread: []settle.Unread{{Kind: name, Node: name, Cause: name, Hint: name}}, Asked: []string{name}, Others: []string{name, name},
		}, nil)
		s.Begin(noon)
		s.Settled(settle.Settled{Said: name, Error: name})
		lines, _, _ := s.View(look, noon, w, h)
		return lines
	},
	"owed, being looked for": func(_ *testing.T, name string, w, h int) []string {
		s := Settle{Busy: true, Doing: name, Since: noon}
		lines, _, _ := s.View(look, noon, w, h)
		return lines
	},
	"runs": func(_ *testing.T, name string, w, h int) []string {
		r := Runs{List: []steps.RunInfo{{Run: name, State: steps.RunState(name), Snapshot: name, DataDir: name, Err: name}, {Run: "20261120-120000", Snapshot: name}}, With: [][]string{{name, "cp2"}, nil}}
		lines, _, _ := r.View(look, noon, w, h)
		return lines
	},
	"snapshots": func(_ *testing.T, name string, w, h int) []string {
		p := hostilePicker(name)
		lines, _, _ := p.View(look, noon, w, h)
		return lines
	},
	"a snapshot that was read": func(_ *testing.T, name string, w, h int) []string {
		p := hostilePicker(name)
		p.Select(1)
		lines, _, _ := p.View(look, noon, w, h)
		return lines
	},
	"a bad snapshot": func(_ *testing.T, name string, w, h int) []string {
		p := hostilePicker(name)
		p.Select(2)
		lines, _, _ := p.View(look, noon, w, h)
		return lines
	},
	"a path that is typed": func(_ *testing.T, name string, w, h int) []string {
		p := hostilePicker(name)
		p.Type(look)
		p.Complete("", name, []string{name, name + "2", "third"})
		lines, _, _ := p.View(look, noon, w, h)
		return lines
	},
	"comparison": func(_ *testing.T, name string, w, h int) []string {
		d := Diff{Result: comparisonOf(name, "other")}
		d.View(look, noon, w, h)
		d.Key("f", h)
		d.Key(" ", h)
		lines, _, _ := d.View(look, noon, w, h)
		return lines
	},
	"comparison of other clusters": func(_ *testing.T, name string, w, h int) []string {
		c := comparisonOf(name)
		c.Lineage, c.Unread = snapshot.Lineage{Relation: snapshot.OtherCluster, Cause: name}, 3
		c.Snapshot.What, c.Other.What, c.Other.From = "snapshot", "data directory", name
		d := Diff{Result: c}
		lines, _, _ := d.View(look, noon, w, h)
		return lines
	},
	"no comparison": func(_ *testing.T, name string, w, h int) []string {
		d := Diff{Err: &steps.Failure{Cause: name, Hint: name}}
		lines, _, _ := d.View(look, noon, w, h)
		return lines
	},
	"comparing": func(_ *testing.T, _ string, w, h int) []string {
		d := Diff{Busy: true, Phase: snapshot.Progress{Phase: "other", Done: 1, Total: 3}}
		lines, _, _ := d.View(look, noon, w, h)
		return lines
	},
}

func hostilePicker(name string) Picker {
	p := NewPicker("/mnt/" + name)
	p.Found([]snapshot.Candidate{
		{Path: "/mnt/" + name + "/read.db", Size: 1000, ModTime: noon, Owner: name},
		{Path: "/mnt/bad-" + name, Err: &problem.Problem{Cause: name, Hint: name}, ModTime: noon},
		{Path: "/mnt/packed-" + name, Format: snapshot.Gzip, Safety: true},
	})
	p.Looked("/mnt/"+name+"/read.db", &snapshot.Info{
		Size: 1000, ModTime: noon, SHA256: "9f86", StorageVersion: name, LastWrite: noon.Add(-time.Hour),
		Members: []snapshot.Member{{Name: name}}, Nodes: []snapshot.Object{{Name: name}, {Name: name}}, Namespaces: []snapshot.Object{{Name: name}},
		Alarms: []string{name}, EncryptedPrefixes: []string{name},
	}, nil)
	return p
}

var colour = regexp.MustCompile(`\x1b\[[0-9;]*m`)

func TestPanesHoldWhateverANameIs(t *testing.T) {
	for what, show := range hostilePanes {
		for kind, name := range hostileNames {
			for _, size := range [][2]int{{60, 15}, {61, 16}, {80, 19}, {200, 45}, {30, 3}} {
				w, h := size[0], size[1]
				lines := show(t, name, w, h)
				where := fmt.Sprintf("%s with %s at %d×%d", what, kind, w, h)
				if what == "search" {
					h = 1
				}
				if len(lines) != h {
					t.Errorf("%s has %d lines", where, len(lines))
				}
				for _, l := range lines {
					plain := colour.ReplaceAllString(l, "")
					if n := ansi.StringWidth(plain); n != w {
						t.Errorf("%s: a line of %d: %q", where, n, plain)
					}
					if !utf8.ValidString(l) {
						t.Errorf("%s: invalid UTF-8: %q", where, l)
					}
					if i := strings.IndexFunc(plain, func(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) }); i >= 0 {
						t.Errorf("%s: a control character at %d: %q", where, i, plain)
					}
				}
			}
		}
	}
}
