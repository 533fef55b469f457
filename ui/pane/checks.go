package pane

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"etcd-rewind/restore"
	"etcd-rewind/steps"
	"etcd-rewind/trust"
	"etcd-rewind/ui/text"
)

// Checks shows the verdicts, what needs attention first.
type Checks struct {
	Busy     bool
	Asked    int // of the checks asked for last; older answers don't count
	Verdicts []Judged
	sending  *sending // of a cluster with several members
	Err      error    // the snapshot didn't arrive, or a node can't be asked
	Cur      int
	scroll   Scroller
	typing   *Field // the name of the error to be overridden

	given []string // accepted on the command line, whatever they are
	// accepted here, by name, at the level and for the cause that was shown: a
	// check that says something new has to be accepted again.
	Accepted map[string]steps.Verdict // by Judged.Key
}

// Judged is a verdict and whom it is about; "" where there is one node.
type Judged struct {
	steps.Verdict
	On string
}

func (v Judged) Key() string { return v.On + "\x00" + v.Check }

// JudgedOf puts together what is said of the cluster and of its nodes. What
// several nodes say in the same words is said once.
func JudgedOf(checked []restore.Checked) []Judged {
	if len(checked) == 0 {
		return nil
	}
	shared, nodes, of := checked[0].Verdicts, checked[1:], ""
	if len(nodes) > 0 {
		of = text.TheCluster
	}
	list := make([]Judged, 0, len(shared))
	for _, v := range shared {
		list = append(list, Judged{v, of})
	}
	type same struct {
		check, title, cause, hint string
		level                     steps.Level
		overridable               bool
	}
	at := map[same]int{}
	var folded []steps.Verdict
	var by [][]string
	for _, c := range nodes {
		for _, v := range c.Verdicts {
			k := same{v.Check, v.Title, v.Cause, v.Hint, v.Level, v.Overridable}
			i, ok := at[k]
			if !ok {
				i = len(folded)
				at[k] = i
				folded, by = append(folded, v), append(by, nil)
			}
			by[i] = append(by[i], c.Node)
		}
	}
	var rest []Judged
	for i, v := range folded {
		on := text.Listed(by[i])
		if n := len(nodes); len(by[i]) == n && n > 1 {
			on = text.AllNodes
		}
		rest = append(rest, Judged{v, on})
	}
	// All nodes first, then by the nodes' names.
	slices.SortStableFunc(rest, func(a, b Judged) int {
		if (a.On == text.AllNodes) != (b.On == text.AllNodes) {
			return cmp.Compare(b2i(b.On == text.AllNodes), b2i(a.On == text.AllNodes))
		}
		return cmp.Compare(a.On, b.On)
	})
	return append(list, rest...)
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

func NewChecks(given []string) Checks {
	return Checks{given: slices.Clone(given), Accepted: map[string]steps.Verdict{}}
}

// Plain are the verdicts without whom they are about.
func (c *Checks) Plain() []steps.Verdict {
	list := make([]steps.Verdict, 0, len(c.Verdicts))
	for _, v := range c.Verdicts {
		list = append(list, v.Verdict)
	}
	return list
}

func (c *Checks) Names() []string {
	list := slices.Clone(c.given)
	for _, v := range c.Accepted {
		if !slices.Contains(list, v.Check) {
			list = append(list, v.Check)
		}
	}
	slices.Sort(list)
	return list
}

// Begin waits for the checks of these nodes, or of a node alone.
func (c *Checks) Begin(nodes []string, here string, sent bool) {
	c.Asked++
	c.Busy, c.Err, c.typing, c.sending = true, nil, nil, nil
	if len(nodes) > 0 {
		c.sending = &sending{nodes: nodes, here: here, done: map[string][2]int64{}, all: sent}
	}
}

// Progress says how many bytes of the snapshot a node has, and of how many.
func (c *Checks) Progress(asked int, node string, done, total int64) {
	if asked == c.Asked && c.sending != nil {
		c.sending.done[node] = [2]int64{done, total}
	}
}

// Sent says that every node has the snapshot, with the same sha256.
func (c *Checks) Sent(asked int) {
	if asked == c.Asked && c.sending != nil {
		c.sending.all = true
	}
}

// Set takes what the checks say.
func (c *Checks) Set(checked []restore.Checked, err error) {
	c.Busy, c.Err = false, err
	if err != nil {
		checked = nil
	}
	c.Adopt(JudgedOf(checked))
	c.Cur = 0
	c.scroll.Top = 0
	for i, v := range c.Verdicts {
		if v.Blocks() {
			c.Cur = i
			break
		}
	}
}

// Adopt takes new verdicts and carries over what was accepted of them.
func (c *Checks) Adopt(verdicts []Judged) {
	list := slices.Clone(verdicts)
	for i := range list {
		v := &list[i]
		v.Accepted = false
		was, here := c.Accepted[v.Key()]
		here = here && was.Level == v.Level && was.Cause == v.Cause
		if !here {
			delete(c.Accepted, v.Key())
		}
		v.Accepted = v.Acceptable() && (here || slices.Contains(c.given, v.Check))
	}
	order := []steps.Level{steps.Error, steps.Warn, steps.Pass}
	slices.SortStableFunc(list, func(a, b Judged) int {
		// With several nodes the problems of one stand together.
		if a.On != b.On && (a.Level == steps.Pass) == (b.Level == steps.Pass) {
			return 0
		}
		return cmp.Compare(slices.Index(order, a.Level), slices.Index(order, b.Level))
	})
	c.Verdicts = list
}

func (c *Checks) Current() *Judged {
	if c.Cur < 0 || c.Cur >= len(c.Verdicts) {
		return nil
	}
	return &c.Verdicts[c.Cur]
}

func (c *Checks) Accept(v *Judged, yes bool) {
	v.Accepted = yes
	if yes {
		c.Accepted[v.Key()] = v.Verdict
		return
	}
	delete(c.Accepted, v.Key())
	c.given = slices.DeleteFunc(c.given, func(n string) bool { return n == v.Check })
}

// Next marks the next verdict that blocks, the one that is marked too; it stays
// where it is when there is none.
func (c *Checks) Next() {
	for n := range c.Verdicts {
		if i := (c.Cur + n) % len(c.Verdicts); c.Verdicts[i].Blocks() {
			c.Cur = i
			return
		}
	}
}

// Asks says whether keys go into that name.
func (c *Checks) Asks() bool { return c.typing != nil }

// Type takes a key of the name of the error that somebody who knows better
// wants to override; it returns what is wrong with it.
func (c *Checks) Type(k tea.KeyMsg) (note string) {
	v := c.Current()
	switch k.String() {
	case "esc":
		c.typing = nil
	case "enter":
		if c.typing.Value() != v.Check {
			return fmt.Sprintf("That isn't %s; type the name of the check, or esc.", v.Check)
		}
		c.typing = nil
		c.Accept(v, true)
		c.Next()
	default:
		c.typing.Key(k)
	}
	return ""
}

// heading is what stands above a verdict when it is the first about somebody.
func (c *Checks) heading(i int) string {
	v := c.Verdicts[i]
	if v.On == "" {
		return ""
	}
	fine := v.Level == steps.Pass
	if i > 0 {
		before := c.Verdicts[i-1]
		if before.On == v.On && (before.Level == steps.Pass) == fine {
			return ""
		}
	}
	name := strings.ToUpper(v.On[:1]) + v.On[1:]
	if v.On != text.TheCluster && v.On != text.AllNodes {
		name = v.On
	}
	return name
}

func (c *Checks) View(l text.Look, now time.Time, changes string, w, h int) ([]string, string, []Hint) {
	help := []Hint{{"enter", "plan"}, {"space", "override"}, {"r", "check again"}, {changes, "change"}, {"/", "search"}, {"?", "help"}, {"esc", "back"}, {"q", "quit"}}
	if c.sending != nil && (c.Busy || c.Err != nil) {
		return c.sending.view(l, now, w, c.Err, help)
	}
	if c.Busy {
		return []string{" " + text.Spin(now) + " " + l.Bold.Render("Checking the node and the snapshot"), "", "   Nothing is changed by this."}, "", help[2:]
	}
	head := text.Tally(c.Plain())
	if s := len(steps.Blocking(c.Plain())); s > 0 {
		head += fmt.Sprintf("; %d to fix or override", s)
	} else {
		head += "; nothing blocks the restore"
	}
	lines := []string{" " + l.Bold.Render(head), ""}

	titles := 0
	for _, v := range c.Verdicts {
		titles = max(titles, text.Width(trust.Text(v.Title)))
	}
	titles = min(titles, w/3)
	var all []string
	var first, last int
	for i, v := range c.Verdicts {
		if head := c.heading(i); head != "" {
			if len(all) > 0 {
				all = append(all, "")
			}
			all = append(all, " "+l.Bold.Render(head))
		}
		if i == c.Cur {
			first = len(all)
		}
		all = append(all, c.verdict(l, v, i == c.Cur, titles, w)...)
		if i == c.Cur {
			last = len(all) - 1
		}
	}
	if c.typing != nil {
		v := c.Current()
		tail := text.Hang("   ", "This error stops a restore for a reason. To override it, type its name, "+l.Bold.Render(v.Check)+":", w-2)
		tail = append(tail, "   "+c.typing.View(w-4))
		h -= len(lines) + len(tail) + 1
		c.scroll.Show(first, last, h)
		seen, where := c.scroll.Window(all, h)
		lines = append(append(lines, text.Box(seen, w, h)...), "")
		return append(lines, tail...), where, []Hint{{"enter", "override"}, {"esc", "back"}}
	}
	h -= len(lines)
	c.scroll.Show(first, last, h)
	seen, where := c.scroll.Window(all, h)
	return append(lines, seen...), where, help
}

// verdict is one line for a pass; for the others cause, hint and how to accept
// follow.
func (c *Checks) verdict(l text.Look, v Judged, current bool, titles, w int) []string {
	mark := " "
	if current {
		mark = text.SymNow
	}
	sym := l.Symbol(text.LevelSymbol(v.Verdict))
	title := text.Fit(trust.Text(v.Title), titles)
	if current {
		title = l.Bold.Render(title)
	}
	if v.Level == steps.Pass {
		return []string{text.Cut(mark+sym+" "+title+"  "+trust.Text(v.Cause), w)}
	}
	lead := mark + sym + " " + title + "  "
	out := text.Hang(lead, trust.Text(v.Cause), w-1)
	if v.Hint != "" {
		out = append(out, text.Hang("     → ", trust.Text(v.Hint), w-1)...)
	}
	state := ""
	switch {
	case v.Advisory:
		state = "doesn't block"
	case v.Accepted:
		state = "[x] overridden"
	case v.Level == steps.Warn:
		state = "[ ] space overrides it"
	case v.Overridable:
		state = "[ ] space overrides it, by its name"
	default:
		state = "can't be overridden"
	}
	return append(out, "     "+state+l.Faint.Render("   "+v.Check))
}

// Rows are the verdicts, to be searched.
func (c *Checks) Rows() []string {
	rows := make([]string, 0, len(c.Verdicts))
	for _, v := range c.Verdicts {
		rows = append(rows, strings.Join([]string{v.On, v.Check, v.Title, v.Cause, v.Hint}, " "))
	}
	return rows
}
