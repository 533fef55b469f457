package ui

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"etcd-rewind/steps"
)

// checklist shows the verdicts, what needs attention first.
type checklist struct {
	busy     bool
	turn     int // of the checks asked for last; older answers don't count
	verdicts []steps.Verdict
	cur      int
	scroll   scroller
	typing   *field // the name of the error to be overridden

	given []string // accepted on the command line, whatever they are
	// accepted here, by name, at the level and for the cause that was shown: a
	// check that says something new has to be accepted anew.
	accepted map[string]steps.Verdict
}

type verdictsMsg struct {
	turn     int
	verdicts []steps.Verdict
}

func newChecklist(given []string) checklist {
	return checklist{given: slices.Clone(given), accepted: map[string]steps.Verdict{}}
}

// check runs the checks with the choices made so far.
func (m *model) check() tea.Cmd {
	c := &m.checks
	c.turn++
	c.busy = true
	c.typing = nil
	turn, facts, info, choices, diff := c.turn, m.facts, m.info, m.settled(), m.diff
	return func() tea.Msg {
		return verdictsMsg{turn, diff.verdict(m.backend.Check(m.ctx, facts, info, choices))}
	}
}

// settled are the choices with the checks accepted so far.
func (m *model) settled() steps.Choices {
	c := m.choices
	c.Accept = m.checks.names()
	return c
}

func (c *checklist) names() []string {
	list := slices.Clone(c.given)
	for name := range c.accepted {
		if !slices.Contains(list, name) {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return list
}

func (c *checklist) set(msg verdictsMsg) {
	if msg.turn != c.turn {
		return
	}
	c.busy = false
	c.adopt(msg.verdicts)
	c.cur = 0
	c.scroll.top = 0
	for i, v := range c.verdicts {
		if v.Blocks() {
			c.cur = i
			break
		}
	}
}

// adopt takes new verdicts and carries over what was accepted of them.
func (c *checklist) adopt(verdicts []steps.Verdict) {
	list := slices.Clone(verdicts)
	for i := range list {
		v := &list[i]
		v.Accepted = false
		was, here := c.accepted[v.Check]
		here = here && was.Level == v.Level && was.Cause == v.Cause
		if !here {
			delete(c.accepted, v.Check)
		}
		v.Accepted = v.Acceptable() && (here || slices.Contains(c.given, v.Check))
	}
	order := []steps.Level{steps.Error, steps.Warn, steps.Pass}
	slices.SortStableFunc(list, func(a, b steps.Verdict) int {
		return cmp.Compare(slices.Index(order, a.Level), slices.Index(order, b.Level))
	})
	c.verdicts = list
}

func (c *checklist) current() *steps.Verdict {
	if c.cur < 0 || c.cur >= len(c.verdicts) {
		return nil
	}
	return &c.verdicts[c.cur]
}

func (c *checklist) accept(v *steps.Verdict, yes bool) {
	v.Accepted = yes
	if yes {
		c.accepted[v.Check] = *v
		return
	}
	delete(c.accepted, v.Check)
	c.given = slices.DeleteFunc(c.given, func(n string) bool { return n == v.Check })
}

func (m *model) checkKey(k tea.KeyMsg) tea.Cmd {
	c := &m.checks
	if c.typing != nil {
		m.overrideKey(k)
		return nil
	}
	switch name := k.String(); name {
	case "q":
		return m.quit()
	case "?":
		m.over = newOverlay(helpOverlay)
	case "esc", "left":
		c.turn++ // an answer on its way is for nobody
		c.busy = false
		m.screen = chooseScreen
		return m.lookInside()
	}
	if c.busy {
		return nil
	}
	switch k.String() {
	case "up", "k":
		c.cur = max(0, c.cur-1)
	case "down", "j":
		c.cur = min(len(c.verdicts)-1, c.cur+1)
	case "home", "g":
		c.cur = 0
	case "end", "G":
		c.cur = len(c.verdicts) - 1
	case "r":
		return m.check()
	case " ", "a":
		v := c.current()
		switch {
		case v == nil || v.Level == steps.Pass:
		case v.Accepted:
			c.accept(v, false)
		case v.Level == steps.Warn:
			c.accept(v, true)
			c.cur = nextBlocking(c.verdicts, c.cur)
		case v.Overridable:
			c.typing = newField(m.look, "")
		default:
			m.note = v.Check + " can't be accepted. Put it right, then check again with r."
		}
	case "enter", "right":
		if s := standing(c.verdicts); s != "" {
			m.note = s
			c.cur = nextBlocking(c.verdicts, c.cur)
			return nil
		}
		m.screen = planScreen
		return m.makePlan(false)
	}
	return nil
}

// nextBlocking is the next verdict after at that blocks, at itself when there
// is none.
func nextBlocking(list []steps.Verdict, at int) int {
	for n := range list {
		if i := (at + n) % len(list); list[i].Blocks() {
			return i
		}
	}
	return at
}

// overrideKey reads the name of the error that somebody who knows better wants
// to override.
func (m *model) overrideKey(k tea.KeyMsg) {
	c := &m.checks
	v := c.current()
	switch k.String() {
	case "esc":
		c.typing = nil
	case "enter":
		if c.typing.value() != v.Check {
			m.note = fmt.Sprintf("That isn't %s; type the name of the check, or esc.", v.Check)
			return
		}
		c.typing = nil
		c.accept(v, true)
		c.cur = nextBlocking(c.verdicts, c.cur)
	default:
		c.typing.key(k)
	}
}

func (c *checklist) view(l look, now time.Time, w, h int) ([]string, string, []hint) {
	help := []hint{{"enter", "plan"}, {"space", "accept"}, {"r", "check again"}, {"?", "help"}, {"esc", "back"}, {"q", "quit"}}
	if c.busy {
		spin := string(spinner[int(now.UnixMilli()/100)%len(spinner)])
		return []string{" " + spin + " " + l.bold.Render("Checking the node and the snapshot"), "", "   Nothing is changed by this."}, "", help[2:]
	}
	head := tally(c.verdicts)
	if s := len(steps.Blocking(c.verdicts)); s > 0 {
		head += fmt.Sprintf("; %d to be settled", s)
	} else {
		head += "; nothing stands in the way"
	}
	lines := []string{" " + l.bold.Render(head), ""}

	titles := 0
	for _, v := range c.verdicts {
		titles = max(titles, width(clean(v.Title)))
	}
	titles = min(titles, w/3)
	var all []string
	var first, last int
	for i, v := range c.verdicts {
		if i == c.cur {
			first = len(all)
		}
		all = append(all, c.verdict(l, v, i == c.cur, titles, w)...)
		if i == c.cur {
			last = len(all) - 1
		}
	}
	if c.typing != nil {
		v := c.current()
		tail := hang("   ", "This error stops a restore for a reason. To override it all the same, type its name, "+l.bold.Render(v.Check)+":", w-2)
		tail = append(tail, "   "+c.typing.view(w-4))
		h -= len(lines) + len(tail) + 1
		c.scroll.show(first, last, h)
		seen, where := c.scroll.window(all, h)
		lines = append(append(lines, box(seen, w, h)...), "")
		return append(lines, tail...), where, []hint{{"enter", "override"}, {"esc", "back"}}
	}
	h -= len(lines)
	c.scroll.show(first, last, h)
	seen, where := c.scroll.window(all, h)
	return append(lines, seen...), where, help
}

// verdict is one line for a pass; for the others cause, hint and how to accept
// follow.
func (c *checklist) verdict(l look, v steps.Verdict, current bool, titles, w int) []string {
	mark := " "
	if current {
		mark = symNow
	}
	sym := l.symbol(levelSymbol(v))
	title := fit(clean(v.Title), titles)
	if current {
		title = l.bold.Render(title)
	}
	if v.Level == steps.Pass {
		return []string{cut(mark+sym+" "+title+"  "+clean(v.Cause), w)}
	}
	lead := mark + sym + " " + title + "  "
	out := hang(lead, clean(v.Cause), w-1)
	if v.Hint != "" {
		out = append(out, hang("     → ", clean(v.Hint), w-1)...)
	}
	state := ""
	switch {
	case v.Accepted && v.Level == steps.Warn:
		state = "[x] accepted"
	case v.Accepted:
		state = "[x] overridden"
	case v.Level == steps.Warn:
		state = "[ ] accept it with space"
	case v.Overridable:
		state = "[ ] space overrides it, by its name"
	default:
		state = "can't be overridden"
	}
	return append(out, "     "+state+l.faint.Render("   "+v.Check))
}
