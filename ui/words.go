package ui

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"etcd-rewind/manifest"
	"etcd-rewind/restore"
	"etcd-rewind/snapshot"
	"etcd-rewind/steps"
)

// number writes n as people of the field paste it: digits only.
func number(n int64) string { return strconv.FormatInt(n, 10) }

// seconds writes a duration: "3.1 s", "2 min 05 s", "1 h 02 min".
func seconds(s float64) string {
	switch {
	case s < 0:
		return "0.0 s"
	case s < 99.95:
		return fmt.Sprintf("%.1f s", s)
	case s < 3600:
		return fmt.Sprintf("%d min %02d s", int(s)/60, int(s)%60)
	default:
		return fmt.Sprintf("%d h %02d min", int(s)/3600, int(s)%3600/60)
	}
}

// limit writes a limit: "120 s", "2 min 30 s" from there on.
func limit(s float64) string {
	if s <= 300 {
		return fmt.Sprintf("%g s", float64(int(s*10))/10)
	}
	return seconds(s)
}

// old is an age with the word that fits it.
func old(t, now time.Time) string {
	if a := steps.Age(t, now); t.IsZero() || strings.HasPrefix(a, "in ") {
		return "age " + a
	} else {
		return a + " old"
	}
}

// size writes bytes in units of 1000, as df -H does.
func size(n int64) string {
	switch f := float64(n); {
	case n < 1000:
		return fmt.Sprintf("%d B", n)
	case n < 1000_000:
		return fmt.Sprintf("%.0f kB", f/1e3)
	case n < 1000_000_000:
		return fmt.Sprintf("%.1f MB", f/1e6)
	default:
		return fmt.Sprintf("%.2f GB", f/1e9)
	}
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return number(int64(n)) + " " + many
}

// explain takes an error apart into its cause and what to do about it.
func explain(err error) (cause, hint string) {
	var f *steps.Failure
	var p *snapshot.Problem
	var m *manifest.Problem
	var h interface{ Explain() (cause, hint string) }
	switch {
	case errors.As(err, &f):
		return clean(f.Cause), clean(f.Hint)
	case errors.As(err, &p):
		return clean(p.Cause), clean(p.Hint)
	case errors.As(err, &m):
		return clean(m.Cause), clean(m.Hint)
	case errors.As(err, &h):
		cause, hint = h.Explain()
		return clean(cause), clean(hint)
	}
	return clean(err.Error()), ""
}

// levelSymbol is the symbol of a verdict.
func levelSymbol(v steps.Verdict) string {
	switch {
	case v.Level == steps.Pass:
		return symDone
	case v.Accepted || v.Level == steps.Warn:
		return symWarn
	default:
		return symBad
	}
}

// tally counts verdicts in words: "12 ok, 2 warnings, 1 error".
func tally(verdicts []steps.Verdict) string {
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
	parts := []string{number(int64(ok)) + " ok"}
	if warnings > 0 {
		parts = append(parts, plural(warnings, "warning", "warnings"))
	}
	if errs > 0 {
		parts = append(parts, plural(errs, "error", "errors"))
	}
	return strings.Join(parts, ", ")
}

// standing says what still stands in the way, "" when nothing does.
func standing(verdicts []steps.Verdict) string {
	blocking := steps.Blocking(verdicts)
	if len(blocking) == 0 {
		return ""
	}
	names := make([]string, 0, len(blocking))
	for _, v := range blocking {
		names = append(names, v.Check)
	}
	return "blocked by " + plural(len(names), "check", "checks") + ": " + strings.Join(names, ", ")
}

const standsWords = "A run on this node was interrupted"

// earlierFacts are where such a run has left the node.
func earlierFacts(run steps.RunInfo, standing []steps.Fact) []steps.Fact {
	list := slices.Clone(standing)
	if len(list) == 0 {
		list = []steps.Fact{{Name: "run", Value: run.Run}}
	}
	if run.Err != "" {
		list = append(list, steps.Fact{Name: "it ended with", Value: run.Err})
	}
	return list
}

// choice is how an answer to a failure is asked for: the key, what it does in a
// line and in a word, and the question that is asked once more where it changes
// a node or ends the run.
type choice struct{ key, label, word, sure string }

// choiceOf is a choice on one node, or on one of several.
func choiceOf(c steps.Choice, several bool) choice {
	node := "the node"
	if several {
		node = "all nodes"
	}
	switch c {
	case steps.WaitOn:
		return choice{"w", "keep waiting, as long again", "keep waiting", ""}
	case steps.Retry:
		return choice{"r", "try it again", "retry", "Do this action again?"}
	case steps.LetGo:
		return choice{"k", "restart kubelet: it ignores the removed manifests", "restart kubelet", "Restart kubelet on this node?"}
	case steps.PutBack:
		return choice{"u", "undo: revert " + node + " to the state before the run", "undo", "Revert " + node + " to the state before the run?"}
	case restore.ContinueWithout:
		return choice{"g", "continue without this node; it stays as it is", "continue without it", "Continue without this node?"}
	default:
		stop := choice{"x", "stop here; resume and undo work later", "stop here", "Stop here, and leave the node as it is?"}
		if several {
			stop.label, stop.sure = "stop on all nodes; resume and undo work later", "Stop here, and leave all nodes as they are?"
		}
		return stop
	}
}

// stateSymbol is the symbol of a step or an action.
func stateSymbol(s steps.State) string {
	switch s {
	case steps.Done, steps.Already:
		return symDone
	case steps.Started, steps.Waiting:
		return symNow
	case steps.Failed:
		return symBad
	case steps.Stopped, steps.Warned:
		return symWarn
	case steps.Unneeded:
		return symSkipped
	default:
		return symLater
	}
}

func sightingSymbol(s steps.Sighting) string {
	if s.OK {
		return symDone
	}
	return symLater
}

// waited says how long a wait has taken and may take.
func waited(so, max float64) string {
	if max <= 0 {
		return seconds(so)
	}
	return seconds(so) + " of " + limit(max)
}

// progressText says how far an action with a known amount of work is.
func progressText(p *steps.Progress) string {
	if p.Total <= 0 {
		return clean(p.Phase) + "  " + size(p.Done)
	}
	return fmt.Sprintf("%s  %s of %s, %d %%", clean(p.Phase), size(p.Done), size(p.Total), percent(p.Done, p.Total))
}

func percent(done, total int64) int {
	if total <= 0 {
		return 0
	}
	return int(min(100, max(0, done)*100/total))
}

// bar draws progress in w cells.
func bar(done, total int64, w int) string {
	if total <= 0 || w <= 0 {
		return ""
	}
	n := int(float64(w) * float64(min(max(done, 0), total)) / float64(total))
	return strings.Repeat("█", n) + strings.Repeat("░", w-n)
}

// outageText is a sentence on the API, "" when it was not stopped.
func outageText(r *steps.Result) string {
	switch {
	case r.DownSince != nil:
		return " The API is down since " + steps.Clock(*r.DownSince) + "."
	case r.OutageSeconds == 0:
		return ""
	case r.DownBefore:
		return " API down " + seconds(r.OutageSeconds) + ", and before the run."
	}
	return " API down " + seconds(r.OutageSeconds) + "."
}

// ending says in one line how a run on n nodes ended, with the symbol for it.
func ending(r *steps.Result, kind string, n int) (symbol, text string) {
	node, are, restored, half := "the node", "is", "the API server answers with the snapshot's data", "The node is half restored"
	if n > 1 {
		node = "all " + plural(n, "node", "nodes")
		are, restored, half = "are", node+" serve the snapshot's data, as one cluster", "Nodes are half restored; see below"
	}
	switch {
	case r.ExitCode() == 4:
		return symWarn, "Not started. Nothing was changed."
	case r.OK && kind == steps.KindUndo:
		return symDone, "Undone: " + node + " " + are + " as before the restore." + outageText(r)
	case r.OK:
		return symDone, "Restored: " + restored + "." + outageText(r)
	case r.PutBack && r.OutageSeconds == 0:
		return symBad, "Not restored. Nothing was changed on the cluster."
	case r.PutBack:
		return symBad, "Not restored. The run was undone: " + node + " " + are + " as before." + outageText(r)
	case kind == steps.KindUndo:
		return symBad, "The undo was not finished: undo again, or inspect " + node + "." + outageText(r)
	default:
		return symBad, "Not restored. " + half + ": undo it, or inspect " + node + "." + outageText(r)
	}
}

// facts lays names and values out in two columns.
func facts(list []steps.Fact, w int) []string { return layFacts(list, w, hang) }

// factsText is facts for text that is printed: no word is broken.
func factsText(list []steps.Fact, w int) []string { return layFacts(list, w, hangText) }

func layFacts(list []steps.Fact, w int, hang func(lead, s string, w int) []string) []string {
	n := 0
	for _, f := range list {
		n = max(n, len([]rune(f.Name)))
	}
	n = min(n, max(8, w/3))
	var out []string
	for _, f := range list {
		out = append(out, hang(fit(clean(f.Name), n)+"  ", clean(f.Value), w)...)
	}
	return out
}

// resultFacts are what a summary lists: the engine's facts, and the way back
// and the report where they aren't among them.
func resultFacts(r *steps.Result, p *steps.Plan) []steps.Fact {
	list := append([]steps.Fact(nil), r.Summary...)
	add := func(name, value string) {
		if value == "" {
			return
		}
		for _, f := range list {
			if strings.Contains(f.Value, value) {
				return
			}
		}
		list = append(list, steps.Fact{Name: name, Value: value})
	}
	if !r.PutBack {
		if !r.OK && p != nil && p.Kind == steps.KindRestore {
			add("resume", p.Command("resume"))
		}
		add("undo", r.Undo)
	}
	add("report", r.Report)
	return list
}

// advise is a cause and what to do about it, for two columns.
func advise(cause, hint string) []steps.Fact {
	list := []steps.Fact{{Name: "Cause", Value: cause}}
	if hint != "" {
		list = append(list, steps.Fact{Name: "Hint", Value: hint})
	}
	return list
}

// failureTitle names what failed.
func failureTitle(f *steps.Failure, p *steps.Plan) string {
	title := clean(f.Title)
	if p != nil {
		for _, s := range p.Steps {
			if s.ID == f.Step && title != "" {
				return clean(s.Title) + ": " + title
			} else if s.ID == f.Step {
				return clean(s.Title)
			}
		}
	}
	if title == "" {
		return "The run ended early"
	}
	return title
}

// sightings lays out what a wait sees, aligned.
func sightings(seen []steps.Sighting, w int, symbol func(string) string) []string {
	n := 0
	for _, s := range seen {
		n = max(n, len([]rune(s.What)))
	}
	n = min(n, max(8, w/2))
	var out []string
	for _, s := range seen {
		out = append(out, hang(symbol(sightingSymbol(s))+" "+fit(clean(s.What), n)+"  ", clean(s.Is), w)...)
	}
	return out
}

// summaryText is what is left in the terminal's scrollback after a run.
func summaryText(r *steps.Result, p *steps.Plan, w int) []string {
	kind := ""
	if p != nil {
		kind = p.Kind
	}
	symbol, text := ending(r, kind, 1)
	out := hangText(symbol+" ", text, w)
	if r.Error != nil {
		out = append(out, "")
		out = append(out, indent(2, hangText("", failureTitle(r.Error, p), w-2))...)
		out = append(out, indent(2, factsText(advise(r.Error.Cause, r.Error.Hint), w-2))...)
	}
	if list := resultFacts(r, p); len(list) > 0 {
		out = append(out, "")
		out = append(out, indent(2, factsText(list, w-2))...)
	}
	return out
}

// failureText is a failure with all that is known about it.
func failureText(f *steps.Failure, plan *steps.Plan, w int) []string {
	out := hangText(symBad+" ", failureTitle(f, plan), w)
	out = append(out, indent(2, factsText(advise(f.Cause, f.Hint), w-2))...)
	switch {
	case f.Waited > 0 && len(f.Seen) > 0:
		out = append(out, "  timed out after "+seconds(f.Waited)+", last seen:")
	case f.Waited > 0:
		out = append(out, "  timed out after "+seconds(f.Waited))
	case len(f.Seen) > 0:
		out = append(out, "  what is seen:")
	}
	out = append(out, indent(4, sightings(f.Seen, w-4, func(s string) string { return s }))...)
	if len(f.Log) > 0 {
		head := "  last log lines:"
		if f.LogPath != "" {
			head = "  " + clean(f.LogPath) + " ends with:"
		}
		out = append(out, head)
		for _, l := range cleanAll(f.Log) {
			out = append(out, "  │ "+l)
		}
	}
	return out
}

// planText is the whole plan: what will be, every step with its actions and
// commands, and what changes in the manifests. Commands and diffs are never
// wrapped, so that they can be copied.
func planText(p *steps.Plan, w int) []string {
	var out []string
	if len(p.Summary) > 0 {
		out = append(out, indent(1, facts(p.Summary, w-1))...)
		out = append(out, "")
	}
	return append(out, stepsText(p, w)...)
}

func stepsText(p *steps.Plan, w int) []string {
	var out []string
	for i, s := range p.Steps {
		lead := fmt.Sprintf("%2d  ", i+1)
		title := clean(s.Title)
		if s.Outage {
			title += "  (API down)"
		}
		out = append(out, hangText(lead, title, w)...)
		if s.When != "" {
			out = append(out, hangText("    ", clean(s.When), w)...)
		}
		for _, a := range s.Actions {
			if a.Action == nil {
				continue
			}
			out = append(out, hangText("    "+symLater+" ", clean(a.Title()), w)...)
			out = append(out, indent(8, commandLines(a.Commands()))...)
		}
	}
	for _, d := range p.Diffs {
		out = append(out, "", "Changes in "+clean(d.Path))
		out = append(out, indent(4, diffLines(d.Text))...)
	}
	return out
}

// commandLines are shell commands with a prompt, line by line.
func commandLines(commands []string) []string {
	var out []string
	for _, c := range commands {
		for i, l := range strings.Split(strings.TrimRight(c, "\n"), "\n") {
			prompt := "$ "
			if i > 0 {
				prompt = "  "
			}
			if strings.HasPrefix(c, "#") {
				prompt = "" // a remark, not a command
			}
			out = append(out, prompt+clean(l))
		}
	}
	return out
}

func diffLines(diff string) []string {
	return cleanAll(strings.Split(strings.TrimRight(diff, "\n"), "\n"))
}
