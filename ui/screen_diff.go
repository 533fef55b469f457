package ui

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"etcd-rewind/snapshot"
	"etcd-rewind/steps"
	"etcd-rewind/trust"
	"etcd-rewind/ui/pane"
	"etcd-rewind/ui/text"
)

// Comparer is a Backend that can tell what a restore would change. With one
// that can't, the wizard goes from the snapshot to the checks.
type Comparer interface {
	Compare(ctx context.Context, f *steps.Facts, path string, o snapshot.CompareOptions, progress func(snapshot.Progress)) (*snapshot.Comparison, error)
}

// diffPane shows what restoring the chosen snapshot would change. It goes on
// with that while the user goes on to the checks.
type diffPane struct {
	path   string // of the snapshot compared last
	busy   bool
	turn   int // older answers don't count
	cancel context.CancelFunc
	phase  snapshot.Progress
	result *snapshot.Comparison
	err    error

	cur    int          // among the rows that can be unfolded
	open   map[int]bool // by the same number
	fields bool
	scroll pane.Scroller
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

type (
	compareProgressMsg struct {
		turn int
		snapshot.Progress
	}
	comparedMsg struct {
		turn   int
		result *snapshot.Comparison
		err    error
	}
)

// compare shows the screen and starts the comparison, unless it was made
// already.
func (m *model) compare() tea.Cmd {
	backend, ok := m.backend.(Comparer)
	if !ok {
		return m.afterDiff()
	}
	m.screen = diffScreen
	d := &m.diff
	if d.path == m.info.Path && (d.busy || d.result != nil) {
		return nil
	}
	d.stop()
	ctx, cancel := context.WithCancel(m.ctx)
	*d = diffPane{path: m.info.Path, busy: true, turn: d.turn + 1, cancel: cancel}
	turn, facts, path, from, seen := d.turn, m.facts, d.path, m.from, m.info.SHA256
	return func() tea.Msg {
		c, err := backend.Compare(ctx, facts, path, snapshot.CompareOptions{ExpectSHA256: seen}, func(p snapshot.Progress) {
			m.box.put(compareProgressMsg{turn, p})
		})
		if c != nil {
			c.Snapshot.From = from // not what it was unpacked to
		}
		return comparedMsg{turn, c, err}
	}
}

// afterDiff goes on to the checks, or to the members when there are several.
func (m *model) afterDiff() tea.Cmd {
	m.screen = checkScreen
	if m.together() {
		return m.toMembers()
	}
	return m.check()
}

// stop breaks off what is under way.
func (d *diffPane) stop() {
	if d.cancel != nil {
		d.cancel()
		d.cancel = nil
	}
	d.busy = false
}

func (d *diffPane) progress(msg compareProgressMsg) {
	if msg.turn == d.turn && d.busy {
		d.phase = msg.Progress
	}
}

func (d *diffPane) compared(msg comparedMsg) {
	if msg.turn != d.turn || !d.busy {
		return
	}
	d.stop()
	d.result, d.err = msg.result, msg.err
}

// verdict adds what the comparison says about the cluster to the checks.
func (d *diffPane) verdict(list []steps.Verdict) []steps.Verdict {
	if d.result == nil {
		return list
	}
	return append(list, steps.LineageVerdict(d.result))
}

// tell adds the summary to a plan, and so to the run's report.
func (d *diffPane) tell(p *steps.Plan) {
	if p == nil || d.result == nil {
		return
	}
	p.Summary = append(p.Summary, steps.Fact{Name: "the restore", Value: text.ComparisonSummary(d.result)})
}

func (m *model) diffKey(name string) tea.Cmd {
	d := &m.diff
	if name != "f" {
		if cur, ok := pane.Move(d.cur, len(d.drawn.rows), name, m.bodyHeight()/2); ok {
			d.cur = cur
			return nil
		}
	}
	switch name {
	case "q":
		d.stop()
		return m.quit()
	case "?":
		m.over = newOverlay(helpOverlay)
	case "esc", "left":
		d.stop()
		m.screen = chooseScreen
		return m.lookInside()
	case "enter":
		return m.afterDiff()
	case "r":
		d.stop()
		d.path = ""
		return m.compare()
	case " ", "right":
		if d.open == nil {
			d.open = map[int]bool{}
		}
		d.open[d.cur] = !d.open[d.cur]
		if d.cur < len(d.drawn.rows) {
			d.drawn.rows[d.cur] = nil
		}
	case "f":
		d.fields = !d.fields
	}
	return nil
}

func (d *diffPane) view(l text.Look, now time.Time, w, h int) ([]string, string, []pane.Hint) {
	help := []pane.Hint{{"enter", "checks"}, {"space", "unfold"}, {"f", "fields"}, {"/", "search"}, {"e", "export"}, {"r", "compare again"}, {"?", "help"}, {"esc", "back"}, {"q", "quit"}}
	switch {
	case d.busy:
		lines := []string{" " + text.Spin(now) + " " + l.Bold.Render("Comparing the snapshot with the cluster"), "", "   " + d.phaseText(), ""}
		lines = append(lines, text.Hang("   ", "Both are only read. Enter continues with the checks meanwhile.", w-1)...)
		return lines, "", []pane.Hint{help[0], help[6], help[7], help[8]}
	case d.err != nil:
		cause, advice := text.Explain(d.err)
		lines := []string{" " + l.Symbol(text.SymWarn) + " " + l.Bold.Render("The snapshot can't be compared with the cluster"), ""}
		lines = append(lines, text.Indent(3, text.Facts(text.Advice(cause, advice), w-4))...)
		return lines, "", []pane.Hint{help[0], help[5], help[6], help[7], help[8]}
	case d.result == nil:
		return nil, "", help
	}
	lines, first, last := d.lines(l, now, w-2)
	d.scroll.Show(first, last, h)
	seen, where := d.scroll.Window(lines, h)
	return text.Indent(1, seen), where, help
}

func (d *diffPane) phaseText() string {
	what := "the snapshot"
	if d.phase.Phase == "other" {
		what = "the cluster"
	}
	if d.phase.Total == 0 {
		return "reading " + what
	}
	return fmt.Sprintf("reading %s  %s %d %%", what, text.Bar(d.phase.Done, d.phase.Total, 20), text.Percent(d.phase.Done, d.phase.Total))
}

// rows are the rows of one direction; the first of them is row n of all.
func (d *diffPane) rows(dir, n, w int, sign string, changes snapshot.Changes) [][]string {
	m := &d.drawn
	if m.result != d.result {
		*m = drawnDiff{result: d.result}
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
func (d *diffPane) lines(l text.Look, now time.Time, w int) (lines []string, first, last int) {
	c := d.result
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
		for _, row := range rows {
			if n == d.cur {
				first, last = len(lines), len(lines)+len(row)-1
				lines = append(lines, text.SymNow+row[0][1:])
				row = row[1:]
			}
			lines = append(lines, row...)
			n++
		}
		if u := dir.Changes.Unlisted; u > 0 {
			lines = append(lines, fmt.Sprintf("  %s %s more; %s lists them", text.SymLater, text.Number(int64(u)), trust.Shell("etcd-rewind diff %s", filepath.Base(d.path))))
		}
	}
	if d.cur >= n && n > 0 {
		d.cur = n - 1
		return d.lines(l, now, w)
	}
	if noise := text.Noise(c); noise != "" {
		lines = append(lines, "")
		lines = append(lines, text.Hang("Not shown: ", noise, w)...)
	}
	return lines, first, last
}
