package pane

import (
	"fmt"
	"time"

	"github.com/charmbracelet/x/ansi"

	"etcd-rewind/steps"
	"etcd-rewind/trust"
	"etcd-rewind/ui/text"
)

// view shows a node's steps on the left, and the one that is looked at on the
// right.
func (n *nodeRun) view(l text.Look, now time.Time, w, h int) []string {
	left := min(42, max(26, w*3/8))
	list := n.list(l, now, left, h)
	column := n.column(l, now, w-left-4, h)
	lines := make([]string, 0, h)
	for i := range h {
		lines = append(lines, list[i]+" │ "+column[i])
	}
	return lines
}

// list is the left side: a line a step, with its state and the time it took.
func (n *nodeRun) list(l text.Look, now time.Time, w, h int) []string {
	var all []string
	at := 0
	looked := n.looked()
	for i, st := range n.plan.Steps {
		p := n.of(st.ID)
		took := ""
		if !p.from.IsZero() {
			took = short(p.took(now))
		}
		room := w - 3
		if took != "" {
			room = w - 10
			took = " " + text.FitRight(took, 6)
		}
		title := text.Fit(trust.Text(st.Title), room)
		sym := text.StateSymbol(p.state)
		if p.state == "" && st.When != "" {
			sym = text.SymMaybe
			title = l.Faint.Render(title)
		}
		if looked != nil && st.ID == looked.ID {
			at = i
			if n.picked != "" {
				title = l.Reverse.Render(title)
			} else {
				title = l.Bold.Render(title)
			}
		}
		all = append(all, " "+l.Symbol(sym)+" "+title+took)
	}
	var sc Scroller
	sc.Top = max(0, at-h+2)
	seen, _ := sc.Window(all, h)
	return text.Box(seen, w, h)
}

// short writes a time in at most 6 cells.
func short(s float64) string {
	switch {
	case s < 99.95:
		return text.Seconds(s)
	case s < 1000:
		return fmt.Sprintf("%.0f s", s)
	default:
		return fmt.Sprintf("%d min", int(s)/60)
	}
}

// column is the right side: why, the actions, what is seen, the command. What
// matters least gives way where the room is small.
func (n *nodeRun) column(l text.Look, now time.Time, w, h int) []string {
	st := n.looked()
	if st == nil {
		return text.Box(nil, w, h)
	}
	title := l.Bold.Render(text.Cut(trust.Text(st.Title), w))
	why := text.Wrap(trust.Text(st.Why), w)
	if st.When != "" {
		why = append(why, text.Wrap(trust.Text(st.When), w)...)
	}
	doing, before, cmds := n.actions(l, now, st, w)

	const gaps = 3
	over := func() int { return 1 + len(why) + len(before) + len(doing) + len(cmds) + gaps - h }
	if n := over(); n > 0 && len(cmds) > 3 {
		keep := max(3, len(cmds)-n)
		cmds = append(cmds[:keep-1:keep-1], "…")
	}
	if n := over(); n > 0 && len(before) > 0 {
		before = before[min(n, len(before)):]
	}
	if n := over(); n > 0 && len(why) > 2 {
		keep := max(2, len(why)-n)
		why = append(why[:keep-1:keep-1], ansi.Truncate(why[keep-1], w-2, "")+" …")
	}
	if over() > 0 {
		cmds = nil
	}
	lines := append([]string{title, ""}, why...)
	if len(why) > 0 {
		lines = append(lines, "")
	}
	lines = append(append(lines, before...), doing...)
	lines = text.Box(lines, w, h-len(cmds))
	for _, c := range cmds {
		lines = append(lines, text.Fit(l.Faint.Render(c), w))
	}
	return lines[:h]
}

// actions are the actions of a step: those that are over, and from the running
// one on with what is seen; and the commands of the running one, or of all.
func (n *nodeRun) actions(l text.Look, now time.Time, st *steps.Step, w int) (doing, before, cmds []string) {
	running := false
	var all []string
	for _, a := range st.Actions {
		if a.Action == nil {
			continue
		}
		p := n.of(a.ID)
		took := ""
		if !p.from.IsZero() {
			took = short(p.took(now))
			if !p.over() && p.limit > 0 {
				took = text.Waited(p.took(now), p.limit)
			}
		}
		title := trust.Text(a.Title())
		row := text.Apart(l.Symbol(text.StateSymbol(p.state))+" "+title, took, w)
		switch {
		case p.state == steps.Started || p.state == steps.Waiting || p.state == steps.Failed:
			running = true
			doing = append(doing, row)
			doing = append(doing, text.Indent(4, n.sees(l, p, w-4))...)
			cmds = wrapCommands(a.Commands(), w)
		case running:
			doing = append(doing, row)
		default:
			before = append(before, row)
		}
		all = append(all, a.Commands()...)
	}
	if !running {
		cmds = wrapCommands(all, w)
	}
	return doing, before, cmds
}

// sees is what is known about the running action.
func (n *nodeRun) sees(l text.Look, p progress, w int) []string {
	lines := text.Sightings(p.seen, w, l.Symbol)
	if p.message != "" {
		lines = append(lines, text.Wrap(p.message, w)...)
	}
	if p.work != nil && !p.over() {
		lines = append(lines, text.Progress(p.work))
		if b := text.Bar(p.work.Done, p.work.Total, min(w, 40)); b != "" {
			lines = append(lines, b)
		}
	}
	return lines
}

func wrapCommands(commands []string, w int) []string {
	var out []string
	for _, l := range text.Commands(commands) {
		out = append(out, text.Narrow([]string{l}, w)...)
	}
	return out
}
