package text

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"etcd-rewind/settle"
	"etcd-rewind/snapshot"
	"etcd-rewind/steps"
	"etcd-rewind/trust"
)

// DiffOptions shape what Comparison says.
type DiffOptions struct {
	Fields bool // every field that differs, not only the few that fit a line
	List   bool // every object, nothing folded
}

// Comparison is all that a restore would change, for text that is printed.
func Comparison(c *snapshot.Comparison, o DiffOptions, now time.Time, w int) []string {
	lines := Sides(c, now, w)
	if c.Same() {
		lines = append(lines, "", SymDone+" No differences in user objects")
	}
	for _, d := range Directions(c) {
		if d.Changes.Objects == 0 && (!o.List || d.Changes.Noise == 0) {
			continue
		}
		lines = append(lines, "", fmt.Sprintf("%s %s", d.Title, Plural(d.Changes.Objects, "object", "objects")))
		for _, f := range Fold(d.Changes) {
			lines = append(lines, f.Lines(d.Sign, o, w)...)
		}
		if n := d.Changes.Unlisted; n > 0 {
			lines = append(lines, fmt.Sprintf("  %s %s more", SymLater, Number(int64(n))))
		}
	}
	if owed := Foretold(c, w); len(owed) > 0 {
		lines = append(append(lines, ""), owed...)
	}
	if noise := Noise(c); noise != "" {
		lines = append(lines, "")
		lines = append(lines, HangWhole("Not shown: ", noise, w)...)
	}
	return lines
}

// Foretold is what the cluster will owe after the restore, none where that is
// nothing.
func Foretold(c *snapshot.Comparison, w int) []string {
	all := settle.Foretell(c)
	if len(all) == 0 {
		return nil
	}
	lines := []string{"To settle after it (etcd-rewind settle)"}
	for _, o := range all {
		lines = append(lines, HangWhole("  → ", o.Is+": "+o.Then, w)...)
	}
	return lines
}

// ForetoldSummary is the same in one line, for the plan and the report; "" for
// nothing.
func ForetoldSummary(c *snapshot.Comparison) string {
	var parts []string
	for _, o := range settle.Foretell(c) {
		parts = append(parts, o.Is)
	}
	return strings.Join(parts, "; ")
}

// Foreseen are a comparison's facts for the plan and the report.
func Foreseen(c *snapshot.Comparison) []steps.Fact {
	facts := []steps.Fact{{Name: "the restore", Value: ComparisonSummary(c)}}
	if owed := ForetoldSummary(c); owed != "" {
		facts = append(facts, steps.Fact{Name: "to settle after", Value: owed})
	}
	return facts
}

// Direction is a kind of change: what it is called, the sign before each line
// of it, and the objects.
type Direction struct {
	Title, Sign string
	Changes     snapshot.Changes
}

// Directions are the three kinds of change in a comparison.
func Directions(c *snapshot.Comparison) []Direction {
	return []Direction{
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
			parts = append(parts, d.verb+" "+Number(int64(d.c.Objects)))
		}
	}
	return strings.Join(parts, ", ") + " objects"
}

// Sides are what was compared, and how the two belong together.
func Sides(c *snapshot.Comparison, now time.Time, w int) []string {
	name := func(s snapshot.Side) string {
		if s.What == snapshot.SideSnapshot {
			return trust.Text(snapshot.BaseName(s.From))
		}
		return string(s.What)
	}
	a, b := name(c.Snapshot), name(c.Other)
	wide := max(Width(a), Width(b))
	line := func(n string, s snapshot.Side) string {
		l := Fit(n, wide) + "   revision " + Number(s.Revision) + "   " + Plural(s.Keys, "key", "keys")
		if !s.LastWrite.IsZero() {
			l += "   last write " + steps.Ago(s.LastWrite, now)
		}
		if s.What != "snapshot" {
			l += "   " + trust.Text(s.From)
		}
		return Cut(l, w)
	}
	symbol := SymDone
	switch {
	case c.Lineage.Relation == snapshot.OtherCluster:
		symbol = SymBad
	case !c.Lineage.OneCluster(), c.Lineage.Relation == snapshot.Forked:
		symbol = SymWarn
	}
	lines := HangWhole(symbol+" ", trust.Text(c.Lineage.Cause), w)
	lines = append(lines, line(a, c.Snapshot), line(b, c.Other))
	if c.Unread > 0 && (c.Lineage.Relation == snapshot.Forked || !c.Lineage.OneCluster()) {
		lines = append(lines, HangWhole("  ", "not compared: the values of "+Plural(c.Unread, "key", "keys")+" that both wrote last at the same revision; they may differ", w)...)
	}
	for _, s := range []snapshot.Side{c.Snapshot, c.Other} {
		lines = append(lines, Doubt(s.Doubt, w)...)
	}
	if c.Other.What == snapshot.SideDataDir {
		lines = append(lines, HangWhole("  ", "etcd doesn't answer: compared with what it wrote to disk, which may be a few moments behind", w)...)
	}
	return lines
}

// Folded is what becomes one line: one object, the objects of one kind in one
// namespace, or a whole namespace that comes or goes.
type Folded struct {
	head    string
	changes []snapshot.Change
	object  bool // it is one object; head is its text
}

// foldFrom is how many objects of one kind in one namespace are given by their
// number.
const foldFrom = 4

// Fold puts together what belongs together. A namespace that comes or
// goes is first, with all that is in it.
func Fold(c snapshot.Changes) []Folded {
	inNamespace := map[string]int{}
	kindsIn := map[string][]string{}
	for _, g := range c.Groups {
		if g.Namespace == "" || g.Noise != "" {
			continue
		}
		inNamespace[g.Namespace] += g.Objects
		kindsIn[g.Namespace] = append(kindsIn[g.Namespace], counted(g.Objects, g.Kind))
	}
	var out []Folded
	whole := map[string]int{} // to the place in out
	for _, ch := range c.List {
		if ch.Resource == "namespaces" && (ch.Then == 0 || ch.Now == 0) {
			head := "Namespace " + trust.Text(ch.Name)
			if n := inNamespace[ch.Name]; n > 0 {
				head += " with " + Plural(n, "object", "objects") + ": " + strings.Join(kindsIn[ch.Name], ", ")
			}
			whole[ch.Name] = len(out)
			out = append(out, Folded{head: head})
		}
	}
	var run []snapshot.Change
	flush := func() {
		if len(run) == 0 {
			return
		}
		k, ns := run[0].Kind, trust.Text(run[0].Namespace)
		if len(run) < foldFrom {
			for i, ch := range run {
				out = append(out, Folded{head: objectText(ch), changes: run[i : i+1 : i+1], object: true})
			}
		} else {
			head := counted(len(run), k)
			if ns != "" {
				head += " in " + ns
			}
			out = append(out, Folded{head: head, changes: run})
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

// Lines are the text of one fold; sign is its direction's.
func (f Folded) Lines(sign string, o DiffOptions, w int) []string {
	lead := "  " + sign + " "
	if f.object {
		return changeText(lead, f.head, f.changes[0], o, w)
	}
	lines := HangWhole(lead, f.head, w)
	told := o.List
	for _, ch := range f.changes {
		// What a fold of changed objects hides is which, not how.
		if told {
			lines = append(lines, changeText("      "+sign+" ", objectText(ch), ch, o, w)...)
		}
	}
	return lines
}

func objectText(ch snapshot.Change) string {
	if ch.Namespace == "" {
		return trust.Text(ch.Kind + " " + ch.Name)
	}
	return trust.Text(ch.Kind + " " + ch.Namespace + "/" + ch.Name)
}

// fewFields is how many fields are named on an object's own line.
const fewFields = 3

// changeText is an object, whose text is given, with what has changed of it.
func changeText(lead, text string, ch snapshot.Change, o DiffOptions, w int) []string {
	if ch.Replaced {
		text += " (another object of the same name)"
	}
	if ch.Noise != "" {
		text += " (" + string(ch.Noise) + ")"
	}
	if o.Fields {
		lines := HangWhole(lead, text, w)
		for _, f := range ch.Fields {
			lines = append(lines, HangWhole(strings.Repeat(" ", Width(lead)+2), fieldText(f, f.Path), w)...)
		}
		return lines
	}
	few, rest := make([]string, 0, fewFields+1), 0
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
	return HangWhole(lead, text, w)
}

func fieldText(f snapshot.Field, path string) string {
	path = trust.Text(path)
	switch {
	case f.Hidden:
		return path + " differs"
	case f.Now == "":
		return path + " " + trust.Text(f.Then) + " again"
	case f.Then == "":
		return path + " " + trust.Text(f.Now) + " → none"
	}
	return path + " " + trust.Text(f.Now) + " → " + trust.Text(f.Then)
}

// counted is "Pod" or "3 Pods".
func counted(n int, kind string) string {
	kind = trust.Text(kind)
	if n == 1 {
		return kind
	}
	return Number(int64(n)) + " " + plurals(kind)
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

// Noise counts the changes that aren't listed, "" for none.
func Noise(c *snapshot.Comparison) string {
	count := map[snapshot.Noise]int{}
	for _, d := range Directions(c) {
		listed := map[snapshot.Noise]int{}
		for _, ch := range d.Changes.List {
			listed[ch.Noise]++
		}
		for _, g := range d.Changes.Groups {
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
			parts = append(parts, Number(int64(count[n]))+" "+what)
		}
	}
	return strings.Join(slices.Compact(parts), ", ")
}
