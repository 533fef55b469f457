package text

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"etcd-rewind/steps"
	"etcd-rewind/trust"
)

// LevelSymbol is the symbol of a verdict.
func LevelSymbol(v steps.Verdict) string {
	switch {
	case v.Level == steps.Pass:
		return SymDone
	case v.Accepted || v.Level == steps.Warn:
		return SymWarn
	default:
		return SymBad
	}
}

// Tally counts verdicts in words: "12 ok, 2 warnings, 1 error".
func Tally(verdicts []steps.Verdict) string {
	var ok, warnings, errs int
	for _, v := range verdicts {
		switch v.Level {
		case steps.Pass:
			ok++
		case steps.Warn:
			warnings++
		default:
			errs++
		}
	}
	parts := []string{Number(int64(ok)) + " ok"}
	if warnings > 0 {
		parts = append(parts, Plural(warnings, "warning", "warnings"))
	}
	if errs > 0 {
		parts = append(parts, Plural(errs, "error", "errors"))
	}
	return strings.Join(parts, ", ")
}

// Blocked says which checks block the restore, "" when none does.
func Blocked(verdicts []steps.Verdict) string {
	blocking := steps.Blocking(verdicts)
	if len(blocking) == 0 {
		return ""
	}
	names := make([]string, 0, len(blocking))
	for _, v := range blocking {
		names = append(names, v.Check)
	}
	return "blocked by " + Plural(len(names), "check", "checks") + ": " + strings.Join(names, ", ")
}

const Interrupted = "A run on this node was interrupted"

// InterruptedFacts are where such a run has left the node.
func InterruptedFacts(run steps.RunInfo, standing []steps.Fact) []steps.Fact {
	list := slices.Clone(standing)
	if len(list) == 0 {
		list = []steps.Fact{{Name: "run", Value: run.Run}}
	}
	if run.Err != "" {
		list = append(list, steps.Fact{Name: "it ended with", Value: run.Err})
	}
	return list
}

// StateSymbol is the symbol of a step or an action.
func StateSymbol(s steps.State) string {
	switch s {
	case steps.Done, steps.Already:
		return SymDone
	case steps.Started, steps.Waiting:
		return SymNow
	case steps.Failed:
		return SymBad
	case steps.Stopped, steps.Warned:
		return SymWarn
	case steps.Unneeded:
		return SymSkipped
	default:
		return SymLater
	}
}

func sightingSymbol(s steps.Sighting) string {
	if s.OK {
		return SymDone
	}
	return SymLater
}

// FailureTitle names what failed.
func FailureTitle(f *steps.Failure, p *steps.Plan) string {
	title := trust.Text(f.Title)
	if p != nil {
		for _, s := range p.Steps {
			if s.ID == f.Step && title != "" {
				return trust.Text(s.Title) + ": " + title
			} else if s.ID == f.Step {
				return trust.Text(s.Title)
			}
		}
	}
	if title == "" {
		return "The run ended early"
	}
	return title
}

// Sightings lays out what a wait sees, aligned.
func Sightings(seen []steps.Sighting, w int, symbol func(string) string) []string {
	n := 0
	for _, s := range seen {
		n = max(n, len([]rune(s.What)))
	}
	n = min(n, max(8, w/2))
	var out []string
	for _, s := range seen {
		out = append(out, Hang(symbol(sightingSymbol(s))+" "+Fit(trust.Text(s.What), n)+"  ", trust.Text(s.Is), w)...)
	}
	return out
}

// Failure is a failure with all that is known about it.
func Failure(f *steps.Failure, plan *steps.Plan, w int) []string {
	out := HangWhole(SymBad+" ", FailureTitle(f, plan), w)
	out = append(out, Indent(2, FactsWhole(Advice(f.Cause, f.Hint), w-2))...)
	switch {
	case f.Waited > 0 && len(f.Seen) > 0:
		out = append(out, "  timed out after "+Seconds(f.Waited)+", last seen:")
	case f.Waited > 0:
		out = append(out, "  timed out after "+Seconds(f.Waited))
	case len(f.Seen) > 0:
		out = append(out, "  what is seen:")
	}
	out = append(out, Indent(4, Sightings(f.Seen, w-4, func(s string) string { return s }))...)
	if len(f.Log) > 0 {
		head := "  last log lines:"
		if f.LogPath != "" {
			head = "  " + trust.Text(f.LogPath) + " ends with:"
		}
		out = append(out, head)
		for _, l := range trust.Lines(f.Log) {
			out = append(out, "  │ "+l)
		}
	}
	return out
}

// Plan is the whole plan: what will be, every step with its actions and
// commands, and what changes in the manifests. Commands and diffs are never
// wrapped, so that they can be copied.
func Plan(p *steps.Plan, w int) []string {
	var out []string
	if len(p.Summary) > 0 {
		out = append(out, Indent(1, Facts(p.Summary, w-1))...)
		out = append(out, "")
	}
	return append(out, Steps(p, w)...)
}

// Steps is the plan without what it comes to.
func Steps(p *steps.Plan, w int) []string {
	var out []string
	for i, s := range p.Steps {
		lead := fmt.Sprintf("%2d  ", i+1)
		title := trust.Text(s.Title)
		if s.Outage {
			title += "  (API down)"
		}
		out = append(out, HangWhole(lead, title, w)...)
		if s.When != "" {
			out = append(out, HangWhole("    ", trust.Text(s.When), w)...)
		}
		for _, a := range s.Actions {
			if a.Action == nil {
				continue
			}
			out = append(out, HangWhole("    "+SymLater+" ", trust.Text(a.Title()), w)...)
			out = append(out, Indent(8, Commands(a.Commands()))...)
		}
	}
	for _, d := range p.Diffs {
		out = append(out, "", "Changes in "+trust.Text(d.Path))
		out = append(out, Indent(4, Diff(d.Text))...)
	}
	return out
}

// PlanWhole is a plan to be read from its end: what it comes to is said last,
// right before a question that may follow.
func PlanWhole(p *steps.Plan, w int) []string {
	lines := append([]string{trust.Text(p.Title) + "   run " + trust.Text(p.Run), ""}, Steps(p, w)...)
	if len(p.Summary) > 0 {
		lines = append(lines, "", trust.Text(p.Title))
		lines = append(lines, Indent(1, FactsWhole(p.Summary, w-1))...)
	}
	return lines
}

// Verdicts are what checks say, for text that is printed: errors and warnings
// first. With brief what is well is only counted.
func Verdicts(verdicts []steps.Verdict, brief bool, w int) []string {
	titles := 0
	for _, v := range verdicts {
		titles = max(titles, Width(trust.Text(v.Title)))
	}
	order := []steps.Level{steps.Error, steps.Warn, steps.Pass}
	sorted := slices.SortedStableFunc(slices.Values(verdicts), func(a, b steps.Verdict) int {
		return cmp.Compare(slices.Index(order, a.Level), slices.Index(order, b.Level))
	})
	lines := make([]string, 0, 2*len(verdicts)+2)
	for _, v := range sorted {
		if brief && v.Level == steps.Pass {
			continue
		}
		lines = append(lines, HangWhole(LevelSymbol(v)+" "+Fit(trust.Text(v.Title), titles)+"  ", trust.Text(v.Cause), w)...)
		if v.Level != steps.Pass {
			if v.Hint != "" {
				lines = append(lines, HangWhole("    → ", trust.Text(v.Hint), w)...)
			}
			switch {
			case v.Advisory:
			case v.Accepted:
				lines = append(lines, "    overridden")
			case v.Acceptable():
				lines = append(lines, "    "+trust.Shell("--override %s", v.Check)+" overrides it")
			}
		}
	}
	if len(lines) > 0 {
		lines = append(lines, "")
	}
	lines = append(lines, "Checks: "+Tally(verdicts))
	if s := Blocked(verdicts); s != "" {
		lines = append(lines, s)
	}
	return lines
}

// Runs are the head and the rows of a table of runs, up to the snapshot. Their
// names are times in UTC.
func Runs(runs []steps.RunInfo, now time.Time) (head string, rows []string) {
	wide := len("run (UTC)")
	for _, r := range runs {
		wide = max(wide, Width(trust.Text(r.Run)))
	}
	row := func(run, begun, state, away string) string {
		return Fit(run, wide+2) + Fit(begun, 14) + Fit(state, 12) + Fit(away, 12)
	}
	for _, r := range runs {
		away, begun := "", ""
		if r.Outage > 0 {
			away = Seconds(r.Outage)
		}
		if !r.Started.IsZero() {
			begun = steps.Ago(r.Started, now)
		}
		rows = append(rows, row(trust.Text(r.Run), begun, trust.Text(string(r.State)), away))
	}
	return row("run (UTC)", "begun", "state", "API down"), rows
}
