package pane

import (
	"time"

	"etcd-rewind/restore"
	"etcd-rewind/steps"
	"etcd-rewind/trust"
	"etcd-rewind/ui/text"
)

// Runs lists the runs of this node, the newest first.
type Runs struct {
	Busy bool // it is read
	List []steps.RunInfo
	With [][]string // the nodes that each was made with; none for this node alone
	Err  error

	at     int
	scroll Scroller
}

// Current is the run that is marked, and with how many nodes it was made; nil
// when there is none.
func (r *Runs) Current() (*steps.RunInfo, []string) {
	if r.at >= len(r.List) {
		return nil, nil
	}
	return &r.List[r.at], r.With[r.at]
}

// Ways are what can be done with the run that is marked.
func (r *Runs) Ways() []restore.Verb {
	run, with := r.Current()
	if run == nil || r.Busy {
		return nil
	}
	return restore.Ways(*run, len(with) > 0)
}

// Rows are the runs, to be searched; the one at At is marked.
func (r *Runs) Rows() []string {
	rows := make([]string, 0, len(r.List))
	for _, run := range r.List {
		rows = append(rows, run.Run+" "+string(run.State)+" "+run.Snapshot)
	}
	return rows
}

// At is the run that is marked.
func (r *Runs) At() int { return r.at }

// Select marks another run.
func (r *Runs) Select(i int) { r.at = i }

// View shows the list in w cells and h lines.
func (r *Runs) View(l text.Look, now time.Time, w, h int) ([]string, string, []Hint) {
	help := []Hint{{"r", "read again"}, {"?", "help"}, {"esc", "back"}, {"q", "quit"}}
	lines := []string{" " + l.Bold.Render("The runs of this node"), ""}
	switch {
	case r.Busy:
		return text.Box([]string{" " + text.Spin(now) + " " + l.Bold.Render("Reading the runs of this node")}, w, h), "", help[2:]
	case r.Err != nil:
		return text.Box(why(l, text.SymBad, "The runs of this node can't be listed", r.Err, w), w, h), "", help
	case len(r.List) == 0:
		return text.Box(append(lines, "   No runs on this node."), w, h), "", help
	}
	r.at = min(r.at, len(r.List)-1)
	run, with := r.Current()
	var about text.About
	about.Add("run", run.Run)
	about.Add("snapshot", run.Snapshot)
	about.Add("data", run.DataDir)
	about.Add("it ended with", run.Err)
	about.Add("made with", text.Listed(with))
	detail := text.Indent(3, text.Facts(about, w-4))
	var ways []Hint
	for _, v := range r.Ways() {
		way := Way(v, len(with) > 0, false)
		ways = append(ways, Hint{way[0], string(v)})
		detail = append(detail, "   "+l.Bold.Render(way[0])+"  "+way[1])
	}
	head, rows := text.Runs(r.List, now)
	lines = append(lines, " "+l.Faint.Render(text.Cut(" "+head+"snapshot", w-1)))
	room := max(1, h-len(lines)-1-min(len(detail), (h-4)/2+1))
	r.scroll.Show(r.at, r.at, room)
	from, to, where := r.scroll.Span(len(rows), room)
	for i, row := range rows[from:to] {
		row = text.Cut(row+text.ShortPath(trust.Text(r.List[from+i].Snapshot), max(8, w-3-text.Width(row))), w-3)
		mark := "  "
		if from+i == r.at {
			mark, row = text.SymNow+" ", l.Bold.Render(row)
		}
		lines = append(lines, mark+row)
	}
	return text.Box(append(append(lines, ""), detail...), w, h), where, append(append([]Hint{{"↑↓", "run"}}, ways...), help...)
}

// Way is the key of what is done with an earlier run, and what it does: on all
// of several nodes; on one of them alone; or on the only one.
func Way(v restore.Verb, all, alone bool) Hint {
	on := ""
	if all {
		on = ", on all nodes"
	}
	switch {
	case v == restore.Undo && alone:
		return Hint{"u", "undo on this node alone: for when the others were undone"}
	case v == restore.Undo && all:
		return Hint{"u", "undo: revert all nodes to the state before it"}
	case v == restore.Undo:
		return Hint{"u", "undo: revert the node to the state before it"}
	case v == restore.Redo:
		return Hint{"d", "redo: to the restored data again" + on}
	case alone:
		return Hint{"g", "resume on this node alone; it waits there for the others"}
	}
	return Hint{"g", "resume: do the rest of it" + on}
}
