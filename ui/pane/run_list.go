package pane

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"etcd-rewind/steps"
	"etcd-rewind/trust"
	"etcd-rewind/ui/text"
)

// What the view of a run lists of several nodes: the barriers that each has
// reached, and what it does now.

// PhaseMeans is what a phase comes to.
var PhaseMeans = map[steps.Phase]string{
	steps.PhaseStaged:    "restored data beside the old; the cluster still runs",
	steps.PhaseAPIGone:   "no kube-apiserver runs: nothing writes any more",
	steps.PhaseEtcdOut:   "no etcd runs on the old data",
	steps.PhasePlaced:    "the restored data is where etcd looks for it",
	steps.PhaseEtcdReady: "etcd has a quorum, one cluster ID, every member",
	steps.PhaseAPIReady:  "kube-apiserver is ready",
	steps.PhaseVerified:  "the API shows what the snapshot holds",
}

// barrierHelp explains how several nodes keep in step.
func barrierHelp(kind string) []string {
	switch kind {
	case steps.KindRedo:
		return []string{
			"All nodes switch to the restored data again at the same time, each by its own journal.",
			"enter shows the steps of a node; ↑↓ choose one.",
		}
	case steps.KindUndo:
		return []string{
			"All nodes are undone at the same time, each by its own journal: every file the run changed is restored byte for byte, and etcd runs on the data it had before. A quorum of the old members is needed until the first one is ready.",
			"enter shows the steps of a node; ↑↓ choose one.",
		}
	}
	out := make([]string, 0, len(steps.Phases)+2)
	out = append(out, "Every node runs its own steps, and waits at the end of each phase until all have reached it. So no old API server and no old etcd is left when the first restored etcd starts. enter shows the steps of a node; ↑↓ choose one.")
	for _, p := range steps.Phases {
		out = append(out, p.Name()+": "+PhaseMeans[p]+".")
	}
	return append(out, "A node that can't be reached stops at its next wait. It is retried for a minute; then you are asked.")
}

// behind are the nodes that the others wait for at a phase.
func (v *Run) behind(i int) []string {
	var names []string
	for _, o := range v.nodes {
		if !o.left && o.reached <= i {
			names = append(names, o.name)
		}
	}
	return names
}

// waits says at which phase a node waits for others, -1 for none.
func (v *Run) waits(o *nodeRun) int {
	i := o.reached - 1
	if v.apart() || i < v.open || o.left || o.result != nil {
		return -1
	}
	return i
}

// now says what a node does at this moment, and since when.
func (v *Run) now(o *nodeRun, now time.Time) (symbol, sentence, took string) {
	since := func(t time.Time) string { return text.Seconds(now.Sub(t).Seconds()) }
	switch f := o.failure; {
	case f != nil:
		return text.SymBad, trust.Text(f.Cause), ""
	case o.left:
		return text.SymSkipped, "left as it is: the others continue without it", ""
	case o.link == steps.Waiting:
		return text.SymWarn, "reconnecting…", since(o.linkAt)
	case o.link == steps.Failed:
		return text.SymBad, "can't be reached: " + o.linkText, ""
	}
	if r := o.result; r != nil {
		switch {
		case r.OK && v.Kind == steps.KindUndo:
			return text.SymDone, "undone", ""
		case r.OK:
			return text.SymDone, "restored", ""
		case r.Reverted:
			return text.SymWarn, "stopped; nothing changed", ""
		case r.Error != nil:
			return text.SymBad, "stopped: " + trust.Text(r.Error.Cause), ""
		}
		return text.SymBad, "stopped, unfinished", ""
	}
	if i := v.waits(o); i >= 0 {
		if late := v.behind(i); len(late) > 0 {
			return text.SymWaits, "waiting for " + text.Listed(late), since(o.at[i])
		}
	}
	switch sentence, p := o.doing(); {
	case sentence == "":
		return text.SymLater, "starting", ""
	case p == nil:
		return text.SymNow, sentence, ""
	case p.state == steps.Failed || p.state == steps.Stopped:
		return text.StateSymbol(p.state), sentence, ""
	default:
		return text.SymNow, sentence, text.Waited(p.took(now), p.limit)
	}
}

// shortNames shortens names so that what they differ in is left: hosts have
// long tails, and numbers at the end of long heads.
func shortNames(names []string, w int) []string {
	out := trust.Lines(names)
	wide := func() bool {
		return slices.ContainsFunc(out, func(n string) bool { return text.Width(n) > w })
	}
	if wide() && len(out) > 1 {
		// The domain.
		tail := out[0]
		for _, n := range out[1:] {
			for !strings.HasSuffix(n, tail) {
				_, size := cutRune(tail)
				tail = tail[size:]
			}
		}
		if i := strings.IndexByte(tail, '.'); i >= 0 {
			for j, n := range out {
				out[j] = strings.TrimSuffix(n, tail[i:])
			}
		}
	}
	for i, n := range out {
		out[i] = text.CutLeft(n, w)
	}
	return out
}

func cutRune(s string) (rune, int) {
	for i, r := range s {
		if i > 0 {
			return r, i
		}
	}
	return 0, len(s)
}

// phaseRows are the phases of all nodes: a row for a phase, a column for a
// node, so that a phase that not all have come to is seen as one.
func (v *Run) phaseRows(l text.Look, now time.Time, w int) []string {
	const label = 12
	col := min(18, (w-label-1)/len(v.nodes))
	head := strings.Repeat(" ", label)
	for i, n := range shortNames(v.names(), col-2) {
		n = text.Fit(n, col-1)
		if i == v.cur {
			n = l.Bold.Render(n)
		}
		head += n + " "
	}
	rows := []string{head}
	for i, p := range steps.Phases {
		row := " " + text.Fit(p.Name(), label-1)
		for _, o := range v.nodes {
			sym, took := v.cell(o, i, now)
			row += text.Fit(l.Symbol(sym)+text.FitRight(took, min(8, col-3)), col)
		}
		if rest := w - label - col*len(v.nodes) - 2; rest >= 40 {
			row += l.Faint.Render(text.Cut(PhaseMeans[p], rest))
		}
		rows = append(rows, row)
	}
	return rows
}

// cell is a node at a phase.
func (v *Run) cell(o *nodeRun, i int, now time.Time) (symbol, took string) {
	from := v.begun
	if i > 0 {
		from = v.passed[steps.Phases[i-1]]
	}
	span := func(to time.Time) string {
		if from.IsZero() || to.IsZero() {
			return ""
		}
		return short(max(0, to.Sub(from).Seconds()))
	}
	switch {
	case o.reached > i && i < v.open:
		return text.SymDone, span(o.at[i])
	case o.reached > i:
		return text.SymWaits, span(o.at[i])
	case o.reached < i, v.waits(o) >= 0:
		return text.SymLater, ""
	case o.left:
		return text.SymSkipped, ""
	case o.failure != nil || o.link == steps.Failed || o.result != nil && !o.result.OK:
		return text.SymBad, ""
	case o.link == steps.Waiting:
		return text.SymWarn, ""
	case o.current == "":
		return text.SymLater, ""
	case v.Result != nil:
		return text.SymLater, ""
	}
	return text.SymNow, span(now)
}

// nodeLines are what a node does now, in at most n lines.
func (v *Run) nodeLines(l text.Look, i int, name string, n, w int, now time.Time) []string {
	o, in := v.nodes[i], text.Width(name)+7
	sym, sentence, took := v.now(o, now)
	mark := "  "
	if i == v.cur {
		mark, name = text.SymNow+" ", l.Bold.Render(name)
	}
	lead := " " + mark + name + "  " + l.Symbol(sym) + " "
	lines := []string{text.Apart(lead+sentence, took, w-1)}
	if n < 2 || o.left {
		return lines
	}
	var more []string
	switch {
	case o.link == steps.Waiting, o.link == steps.Warned:
		more = text.Wrap(o.linkText, w-in-1)
	case o.result != nil || v.waits(o) >= 0:
	default:
		if v.apart() && o.plan != nil {
			for k, st := range o.plan.Steps {
				if st.ID == o.current {
					more = append(more, fmt.Sprintf("step %d of %d: %s", k+1, len(o.plan.Steps), trust.Text(st.Title)))
				}
			}
		}
		if p := o.begun[o.action]; p != nil {
			more = append(more, o.sees(l, *p, w-in-1)...)
		}
		if n > 5 {
			if st := o.find(o.current); st != nil {
				more = append(text.Wrap(trust.Text(st.Why), w-in-1), more...)
			}
		}
	}
	return append(lines, text.Indent(in, more[:min(len(more), n-1)])...)
}

func (v *Run) listView(l text.Look, now time.Time, w, h int) ([]string, string, []Hint) {
	var lines []string
	switch v.Kind {
	case steps.KindUndo:
		lines = append(lines, " "+l.Bold.Render("All nodes are undone, at the same time"), "")
	case steps.KindRedo:
		lines = append(lines, " "+l.Bold.Render("All nodes switch to the restored data again, at the same time"), "")
	default:
		lines = append(v.phaseRows(l, now, w), "")
	}
	short, names := shortNames(v.names(), w/4), 0
	for _, n := range short {
		names = max(names, text.Width(n))
	}
	room := h - len(lines)
	each := max(1, room/len(v.nodes))
	gap := each > 3
	if gap {
		each--
	}
	var all []string
	first, last := 0, 0
	for i := range v.nodes {
		if i == v.cur {
			first = len(all)
		}
		all = append(all, v.nodeLines(l, i, text.Fit(short[i], names), each, w, now)...)
		if i == v.cur {
			last = len(all) - 1
		}
		if gap && i < len(v.nodes)-1 {
			all = append(all, "")
		}
	}
	v.scroll.Show(first, last, room)
	seen, more := v.scroll.Window(all, room)
	help := []Hint{{"enter", "its steps"}, {"↑↓", "node"}, {"?", "why"}, {"l", "logs"}, {"c", "commands"}, {"/", "search"}}
	if v.Running() {
		if v.Kind != steps.KindUndo {
			help = slices.Insert(help, 3, Hint{"u", "undo"})
		}
		help = append(help, Hint{"ctrl-c", "stop"})
	} else {
		help = append(help, Hint{"esc", "summary"}, Hint{"q", "quit"})
	}
	return append(lines, seen...), more, help
}
