package ui

import (
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"etcd-rewind/snapshot"
	"etcd-rewind/steps"
)

// DiffOptions shape what PrintComparison tells.
type DiffOptions struct {
	Fields bool // every field that differs, not only the few that fit a line
	List   bool // every object, nothing folded
}

// PrintComparison prints what restoring a snapshot would bring back, take away
// and turn back.
func PrintComparison(w io.Writer, c *snapshot.Comparison, o DiffOptions) error {
	return printLines(w, comparisonText(c, o, time.Now(), textWidth(w)))
}

// JSONComparison prints the same as one object.
func JSONComparison(w io.Writer, c *snapshot.Comparison, at time.Time) error {
	return newEncoder(w).Encode(struct {
		Type string    `json:"type"`
		Time time.Time `json:"time"`
		*snapshot.Comparison
	}{"comparison", at, c})
}

func comparisonText(c *snapshot.Comparison, o DiffOptions, now time.Time, w int) []string {
	lines := sidesText(c, now, w)
	if c.Same() {
		lines = append(lines, "", symDone+" No differences in user objects")
	}
	for _, d := range directions(c) {
		if d.changes.Objects == 0 && (!o.List || d.changes.Noise == 0) {
			continue
		}
		lines = append(lines, "", fmt.Sprintf("%s %s", d.title, plural(d.changes.Objects, "object", "objects")))
		for _, f := range foldChanges(d.changes) {
			lines = append(lines, f.lines(d.sign, o, w)...)
		}
		if n := d.changes.Unlisted; n > 0 {
			lines = append(lines, fmt.Sprintf("  %s %s more", symLater, number(int64(n))))
		}
	}
	if noise := noiseText(c); noise != "" {
		lines = append(lines, "")
		lines = append(lines, hangText("Not shown: ", noise, w)...)
	}
	return lines
}

type direction struct {
	title, sign string
	changes     snapshot.Changes
}

func directions(c *snapshot.Comparison) []direction {
	return []direction{
		{"The restore re-creates", "+", c.BringsBack},
		{"It deletes", "-", c.TakesAway},
		{"It reverts", "~", c.TurnsBack},
	}
}

// ComparisonSummary is a comparison in one line, for the plan and the report.
func ComparisonSummary(c *snapshot.Comparison) string {
	if c.Same() {
		return "no differences in user objects"
	}
	var parts []string
	for _, d := range []struct {
		verb string
		c    snapshot.Changes
	}{{"re-creates", c.BringsBack}, {"deletes", c.TakesAway}, {"reverts", c.TurnsBack}} {
		if d.c.Objects > 0 {
			parts = append(parts, d.verb+" "+number(int64(d.c.Objects)))
		}
	}
	return strings.Join(parts, ", ") + " objects"
}

func sidesText(c *snapshot.Comparison, now time.Time, w int) []string {
	name := func(s snapshot.Side) string {
		if s.What == "snapshot" {
			return clean(filepath.Base(s.From))
		}
		return s.What
	}
	a, b := name(c.Snapshot), name(c.Other)
	wide := max(width(a), width(b))
	line := func(n string, s snapshot.Side) string {
		l := fit(n, wide) + "   revision " + number(s.Revision) + "   " + plural(s.Keys, "key", "keys")
		if !s.LastWrite.IsZero() {
			l += "   last write " + steps.Ago(s.LastWrite, now)
		}
		if s.What != "snapshot" {
			l += "   " + clean(s.From)
		}
		return cut(l, w)
	}
	symbol := symDone
	switch {
	case c.Lineage.Relation == snapshot.OtherCluster:
		symbol = symBad
	case !c.Lineage.OneCluster(), c.Lineage.Relation == snapshot.Forked:
		symbol = symWarn
	}
	lines := hangText(symbol+" ", clean(c.Lineage.Cause), w)
	lines = append(lines, line(a, c.Snapshot), line(b, c.Other))
	if c.Unread > 0 && (c.Lineage.Relation == snapshot.Forked || !c.Lineage.OneCluster()) {
		lines = append(lines, hangText("  ", "not compared: the values of "+plural(c.Unread, "key", "keys")+" that both wrote last at the same revision; they may differ", w)...)
	}
	if c.Other.What == "data directory" {
		lines = append(lines, hangText("  ", "etcd doesn't answer: compared with what it wrote to disk, which may be a few moments behind", w)...)
	}
	return lines
}

// folded is what becomes one line: one object, the objects of one kind in one
// namespace, or a whole namespace that comes or goes.
type folded struct {
	head    string
	changes []snapshot.Change
}

// foldFrom is how many objects of one kind in one namespace are told by their
// number.
const foldFrom = 4

// foldChanges puts together what belongs together. A namespace that comes or
// goes is first, with all that is in it.
func foldChanges(c snapshot.Changes) []folded {
	inNamespace := map[string]int{}
	kindsIn := map[string][]string{}
	for _, g := range c.Groups {
		if g.Namespace == "" || g.Noise != "" {
			continue
		}
		inNamespace[g.Namespace] += g.Objects
		kindsIn[g.Namespace] = append(kindsIn[g.Namespace], counted(g.Objects, g.Kind))
	}
	var out []folded
	whole := map[string]int{} // to the place in out
	for _, ch := range c.List {
		if ch.Resource == "namespaces" && (ch.Then == 0 || ch.Now == 0) {
			head := "Namespace " + clean(ch.Name)
			if n := inNamespace[ch.Name]; n > 0 {
				head += " with " + plural(n, "object", "objects") + ": " + strings.Join(kindsIn[ch.Name], ", ")
			}
			whole[ch.Name] = len(out)
			out = append(out, folded{head: head})
		}
	}
	var run []snapshot.Change
	flush := func() {
		if len(run) == 0 {
			return
		}
		k, ns := run[0].Kind, clean(run[0].Namespace)
		if len(run) < foldFrom {
			for _, ch := range run {
				out = append(out, folded{head: objectText(ch), changes: []snapshot.Change{ch}})
			}
		} else {
			head := counted(len(run), k)
			if ns != "" {
				head += " in " + ns
			}
			out = append(out, folded{head: head, changes: run})
		}
		run = nil
	}
	for _, ch := range c.List {
		if i, ok := whole[ch.Namespace]; ok && ch.Namespace != "" {
			out[i].changes = append(out[i].changes, ch)
			continue
		}
		if _, ok := whole[ch.Name]; ok && ch.Resource == "namespaces" {
			continue
		}
		if len(run) > 0 && (run[0].Kind != ch.Kind || run[0].Namespace != ch.Namespace) {
			flush()
		}
		run = append(run, ch)
	}
	flush()
	return out
}

func (f folded) lines(sign string, o DiffOptions, w int) []string {
	lead := "  " + sign + " "
	if len(f.changes) == 1 && f.head == objectText(f.changes[0]) {
		return changeText(lead, f.changes[0], o, w)
	}
	lines := hangText(lead, f.head, w)
	told := o.List
	for _, ch := range f.changes {
		// What a fold of changed objects hides is which, not how.
		if told {
			lines = append(lines, changeText("      "+sign+" ", ch, o, w)...)
		}
	}
	return lines
}

func objectText(ch snapshot.Change) string {
	if ch.Namespace == "" {
		return clean(ch.Kind + " " + ch.Name)
	}
	return clean(ch.Kind + " " + ch.Namespace + "/" + ch.Name)
}

// fewFields is how many fields are told on an object's own line.
const fewFields = 3

func changeText(lead string, ch snapshot.Change, o DiffOptions, w int) []string {
	text := objectText(ch)
	if ch.Replaced {
		text += " (another object of the same name)"
	}
	if ch.Noise != "" {
		text += " (" + string(ch.Noise) + ")"
	}
	if o.Fields {
		lines := hangText(lead, text, w)
		for _, f := range ch.Fields {
			lines = append(lines, hangText(strings.Repeat(" ", width(lead)+2), fieldText(f, f.Path), w)...)
		}
		return lines
	}
	var few []string
	rest := 0
	for _, f := range ch.Fields {
		if strings.HasPrefix(f.Path, "metadata.annotations") {
			continue
		}
		if len(few) == fewFields {
			rest++
			continue
		}
		few = append(few, fieldText(f, strings.TrimPrefix(strings.TrimPrefix(f.Path, "spec.template."), "spec.")))
	}
	if rest > 0 {
		few = append(few, fmt.Sprintf("%d more", rest))
	}
	if len(few) > 0 {
		text += " (" + strings.Join(few, ", ") + ")"
	}
	return hangText(lead, text, w)
}

func fieldText(f snapshot.Field, path string) string {
	path = clean(path)
	switch {
	case f.Hidden:
		return path + " differs"
	case f.Now == "":
		return path + " " + clean(f.Then) + " again"
	case f.Then == "":
		return path + " " + clean(f.Now) + " → none"
	}
	return path + " " + clean(f.Now) + " → " + clean(f.Then)
}

// counted is "Pod" or "3 Pods".
func counted(n int, kind string) string {
	kind = clean(kind)
	if n == 1 {
		return kind
	}
	return number(int64(n)) + " " + plurals(kind)
}

func plurals(kind string) string {
	switch {
	case strings.HasSuffix(kind, "ss"):
		return kind + "es"
	case strings.HasSuffix(kind, "s"):
		return kind
	case strings.HasSuffix(kind, "y") && !strings.HasSuffix(kind, "ay"):
		return kind[:len(kind)-1] + "ies"
	}
	return kind + "s"
}

func noiseText(c *snapshot.Comparison) string {
	count := map[snapshot.Noise]int{}
	for _, d := range directions(c) {
		listed := map[snapshot.Noise]int{}
		for _, ch := range d.changes.List {
			listed[ch.Noise]++
		}
		for _, g := range d.changes.Groups {
			if g.Noise != "" {
				count[g.Noise] += g.Objects
			}
		}
		for n, k := range listed {
			count[n] -= k
		}
	}
	var parts []string
	for _, n := range []snapshot.Noise{snapshot.NoiseEvent, snapshot.NoiseLease, snapshot.NoiseEndpoint, snapshot.NoiseStatus, snapshot.NoiseInternal} {
		if count[n] > 0 {
			what := string(n)
			if n == snapshot.NoiseStatus {
				what = "with a change of status only"
			}
			parts = append(parts, number(int64(count[n]))+" "+what)
		}
	}
	return strings.Join(slices.Compact(parts), ", ")
}
