package pane

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"etcd-rewind/snapshot"
	"etcd-rewind/trust"
	"etcd-rewind/ui/text"
)

// Diff shows what restoring a snapshot would change, or how far the comparison
// is.
type Diff struct {
	Busy   bool
	Phase  snapshot.Progress // while it is
	Result *snapshot.Comparison
	Err    error

	at     int          // among the rows that can be unfolded
	open   map[int]bool // by the same number
	fields bool
	scroll Scroller
	drawn  drawnDiff
}

// drawnDiff are the rows of the result as they were drawn last: there may be
// thousands, and a key changes few of them.
type drawnDiff struct {
	result *snapshot.Comparison
	width  int
	fields bool
	folds  [][]text.Folded // by direction
	rows   [][]string      // one after the other; nil has to be drawn
}

// Key takes a key that moves among the changes or unfolds them; h is the height
// of the pane.
func (d *Diff) Key(name string, h int) {
	switch name {
	case " ", "right":
		if d.open == nil {
			d.open = map[int]bool{}
		}
		d.open[d.at] = !d.open[d.at]
		if d.at < len(d.drawn.rows) {
			d.drawn.rows[d.at] = nil
		}
	case "f":
		d.fields = !d.fields
	default:
		d.at, _ = Move(d.at, len(d.drawn.rows), name, h/2)
	}
}

// Rows are the changes as they were drawn last, to be searched; the one at At
// is marked.
func (d *Diff) Rows() []string {
	var rows []string
	for _, row := range d.drawn.rows {
		rows = append(rows, strings.Join(row, " "))
	}
	return rows
}

// At is the change that is marked.
func (d *Diff) At() int { return d.at }

// Select marks another change.
func (d *Diff) Select(i int) { d.at = i }

// View shows the comparison in w cells and h lines.
func (d *Diff) View(l text.Look, now time.Time, w, h int) ([]string, string, []Hint) {
	help := []Hint{{"enter", "checks"}, {"space", "unfold"}, {"f", "fields"}, {"/", "search"}, {"e", "export"}, {"r", "compare again"}, {"?", "help"}, {"esc", "back"}, {"q", "quit"}}
	switch {
	case d.Busy:
		lines := []string{" " + text.Spin(now) + " " + l.Bold.Render("Comparing the snapshot with the cluster"), "", "   " + d.phaseText(), ""}
		lines = append(lines, text.Hang("   ", "Both are only read. Enter continues with the checks meanwhile.", w-1)...)
		return text.Box(lines, w, h), "", []Hint{help[0], help[6], help[7], help[8]}
	case d.Err != nil:
		return text.Box(why(l, text.SymWarn, "The snapshot can't be compared with the cluster", d.Err, w), w, h), "", []Hint{help[0], help[5], help[6], help[7], help[8]}
	case d.Result == nil:
		return text.Box(nil, w, h), "", help
	}
	lines, first, last := d.lines(l, now, w-2)
	d.scroll.Show(first, last, h)
	seen, where := d.scroll.Window(lines, h)
	return text.Box(text.Indent(1, seen), w, h), where, help
}

func (d *Diff) phaseText() string {
	what := "the snapshot"
	if d.Phase.Phase == "other" {
		what = "the cluster"
	}
	if d.Phase.Total == 0 {
		return "reading " + what
	}
	return fmt.Sprintf("reading %s  %s %d %%", what, text.Bar(d.Phase.Done, d.Phase.Total, 20), text.Percent(d.Phase.Done, d.Phase.Total))
}

// rows are the rows of one direction; the first of them is row n of all.
func (d *Diff) rows(dir, n, w int, sign string, changes snapshot.Changes) [][]string {
	m := &d.drawn
	if m.result != d.Result {
		*m = drawnDiff{result: d.Result}
	}
	if m.width != w || m.fields != d.fields {
		m.width, m.fields, m.rows = w, d.fields, nil
	}
	if dir == len(m.folds) {
		m.folds = append(m.folds, text.Fold(changes))
	}
	for i, f := range m.folds[dir] {
		if n+i == len(m.rows) {
			m.rows = append(m.rows, nil)
		}
		if m.rows[n+i] == nil {
			m.rows[n+i] = text.Narrow(f.Lines(sign, text.DiffOptions{List: d.open[n+i], Fields: d.fields || d.open[n+i]}, w), w)
		}
	}
	return m.rows[n : n+len(m.folds[dir])]
}

// lines are all lines, and which of them belong to the row that is marked.
func (d *Diff) lines(l text.Look, now time.Time, w int) (lines []string, first, last int) {
	c := d.Result
	lines = text.Sides(c, now, w)
	if c.Same() {
		lines = append(lines, "", l.Symbol(text.SymDone)+" "+l.Bold.Render("No differences in user objects"))
	}
	n, told := 0, 0
	for _, dir := range text.Directions(c) {
		if dir.Changes.Objects == 0 {
			continue
		}
		lines = append(lines, "", l.Bold.Render(dir.Title)+" "+text.Plural(dir.Changes.Objects, "object", "objects"))
		rows := d.rows(told, n, w, dir.Sign, dir.Changes)
		told++
		lines = slices.Grow(lines, 3*len(rows))
		for _, row := range rows {
			if n == d.at {
				first, last = len(lines), len(lines)+len(row)-1
				lines = append(lines, text.SymNow+row[0][1:])
				row = row[1:]
			}
			lines = append(lines, row...)
			n++
		}
		if u := dir.Changes.Unlisted; u > 0 {
			lines = append(lines, text.Hang("  "+text.SymLater+" ", text.Number(int64(u))+" more; "+trust.Shell("etcd-rewind diff %s", c.Snapshot.From)+" lists them", w)...)
		}
	}
	if d.at >= n && n > 0 {
		d.at = n - 1
		return d.lines(l, now, w)
	}
	if owed := text.Foretold(c, w); len(owed) > 0 {
		lines = append(append(lines, "", l.Bold.Render(owed[0])), owed[1:]...)
	}
	if noise := text.Noise(c); noise != "" {
		lines = append(lines, "")
		lines = append(lines, text.Hang("Not shown: ", noise, w)...)
	}
	return lines, first, last
}
