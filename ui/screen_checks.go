package ui

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"etcd-rewind/restore"
	"etcd-rewind/steps"
	"etcd-rewind/trust"
	"etcd-rewind/ui/pane"
	"etcd-rewind/ui/text"
)

// checklist shows the verdicts, what needs attention first.
type checklist struct {
	busy     bool
	asked    int // of the checks asked for last; older answers don't count
	verdicts []judged
	sending  *sending // of a cluster with several members
	err      error    // the snapshot didn't arrive, or a node can't be asked
	cur      int
	scroll   pane.Scroller
	typing   *pane.Field // the name of the error to be overridden

	given []string // accepted on the command line, whatever they are
	// accepted here, by name, at the level and for the cause that was shown: a
	// check that says something new has to be accepted anew.
	accepted map[string]steps.Verdict // by judged.key
}

// judged is a verdict and whom it is about; "" where there is one node.
type judged struct {
	steps.Verdict
	on string
}

func (v judged) key() string { return v.on + "\x00" + v.Check }

// judgedOf puts together what is said of the cluster and of its nodes. What
// several nodes say in the same words is said once.
func judgedOf(checked []restore.Checked) []judged {
	if len(checked) == 0 {
		return nil
	}
	shared, nodes, of := checked[0].Verdicts, checked[1:], ""
	if len(nodes) > 0 {
		of = text.TheCluster
	}
	list := make([]judged, 0, len(shared))
	for _, v := range shared {
		list = append(list, judged{v, of})
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
	var rest []judged
	for i, v := range folded {
		on := text.Listed(by[i])
		if n := len(nodes); len(by[i]) == n && n > 1 {
			on = text.AllNodes
		}
		rest = append(rest, judged{v, on})
	}
	// All nodes first, then by the nodes' names.
	slices.SortStableFunc(rest, func(a, b judged) int {
		if (a.on == text.AllNodes) != (b.on == text.AllNodes) {
			return cmp.Compare(b2i(b.on == text.AllNodes), b2i(a.on == text.AllNodes))
		}
		return cmp.Compare(a.on, b.on)
	})
	return append(list, rest...)
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

type checkedMsg struct {
	asked int
	flow  restore.Flow
	err   error
}

func newChecklist(given []string) checklist {
	return checklist{given: slices.Clone(given), accepted: map[string]steps.Verdict{}}
}

// plain are the verdicts without whom they are about.
func (c *checklist) plain() []steps.Verdict {
	list := make([]steps.Verdict, 0, len(c.verdicts))
	for _, v := range c.verdicts {
		list = append(list, v.Verdict)
	}
	return list
}

// toChecks shows the checks, and makes them.
func (m *model) toChecks() tea.Cmd {
	m.screen = checkScreen
	return m.check()
}

// check runs the checks with the choices made so far. Several nodes get the
// snapshot before; a node alone is found here, as nothing is to be decided of it.
func (m *model) check() tea.Cmd {
	if m.nodes.session == nil {
		return m.toMembers() // nobody is there to be checked
	}
	c := &m.checks
	c.begin(m.members.names, m.localMember(), m.flow.Sent())
	asked, s, f, there := c.asked, m.nodes.session, m.flowNow(), m.here.inPlace
	return func() tea.Msg {
		err := s.do(func(ctx context.Context, n restore.Nodes) error {
			f.Nodes = n
			if there != nil && f.Want.Info == nil {
				f.Inspect(ctx, there.database, func(int64, int64) {})
			}
			if f.Members == nil {
				if err := f.Find(ctx); err != nil {
					return err
				}
			}
			if err := f.Send(ctx, func(node string, done, total int64) {
				m.box.put(sendProgressMsg{asked, node, done, total})
			}); err != nil {
				return err
			}
			m.box.put(sentMsg{asked})
			return f.Check(ctx, nil)
		})
		return checkedMsg{asked, f, err}
	}
}

func (m *model) checked(msg checkedMsg) {
	if msg.asked != m.checks.asked {
		return
	}
	m.flow = msg.flow
	m.checks.set(msg.flow.Checked, msg.err)
}

// settled are the choices with the checks accepted so far.
func (m *model) settled() steps.Choices {
	c := m.choices.Choices
	c.Accept = m.checks.names()
	if p := m.here.inPlace; p != nil {
		c.InPlace, c.DataDir, c.Bump = true, p.dataDir, nil
	}
	return c
}

func (c *checklist) names() []string {
	list := slices.Clone(c.given)
	for _, v := range c.accepted {
		if !slices.Contains(list, v.Check) {
			list = append(list, v.Check)
		}
	}
	slices.Sort(list)
	return list
}

// begin waits for the checks of these nodes, or of a node alone.
func (c *checklist) begin(nodes []string, here string, sent bool) {
	c.asked++
	c.busy, c.err, c.typing, c.sending = true, nil, nil, nil
	if len(nodes) > 0 {
		c.sending = &sending{nodes: nodes, here: here, done: map[string][2]int64{}, all: sent}
	}
}

func (c *checklist) progress(msg sendProgressMsg) {
	if msg.asked == c.asked && c.sending != nil {
		c.sending.done[msg.node] = [2]int64{msg.done, msg.total}
	}
}

func (c *checklist) sent(msg sentMsg) {
	if msg.asked == c.asked && c.sending != nil {
		c.sending.all = true
	}
}

// set takes what the checks say.
func (c *checklist) set(checked []restore.Checked, err error) {
	c.busy, c.err = false, err
	if err != nil {
		checked = nil
	}
	c.adopt(judgedOf(checked))
	c.cur = 0
	c.scroll.Top = 0
	for i, v := range c.verdicts {
		if v.Blocks() {
			c.cur = i
			break
		}
	}
}

// adopt takes new verdicts and carries over what was accepted of them.
func (c *checklist) adopt(verdicts []judged) {
	list := slices.Clone(verdicts)
	for i := range list {
		v := &list[i]
		v.Accepted = false
		was, here := c.accepted[v.key()]
		here = here && was.Level == v.Level && was.Cause == v.Cause
		if !here {
			delete(c.accepted, v.key())
		}
		v.Accepted = v.Acceptable() && (here || slices.Contains(c.given, v.Check))
	}
	order := []steps.Level{steps.Error, steps.Warn, steps.Pass}
	slices.SortStableFunc(list, func(a, b judged) int {
		// With several nodes the problems of one stand together.
		if a.on != b.on && (a.Level == steps.Pass) == (b.Level == steps.Pass) {
			return 0
		}
		return cmp.Compare(slices.Index(order, a.Level), slices.Index(order, b.Level))
	})
	c.verdicts = list
}

func (c *checklist) current() *judged {
	if c.cur < 0 || c.cur >= len(c.verdicts) {
		return nil
	}
	return &c.verdicts[c.cur]
}

func (c *checklist) accept(v *judged, yes bool) {
	v.Accepted = yes
	if yes {
		c.accepted[v.key()] = v.Verdict
		return
	}
	delete(c.accepted, v.key())
	c.given = slices.DeleteFunc(c.given, func(n string) bool { return n == v.Check })
}

func (m *model) checkKey(k tea.KeyMsg) tea.Cmd {
	c := &m.checks
	if m.choices.typing != nil {
		cmd, _ := m.choiceKey(k)
		return cmd
	}
	if c.typing != nil {
		m.note = c.typeName(k)
		return nil
	}
	switch name := k.String(); name {
	case "q":
		return m.quit()
	case "?":
		m.over = newOverlay(helpOverlay)
	case "esc", "left":
		c.asked++ // an answer on its way is for nobody
		if m.several() {
			if c.busy {
				m.nodes.close() // what is on its way there stops
			}
			c.busy = false
			return m.toMembers()
		}
		c.busy = false
		m.screen = chooseScreen
		if m.here.inPlace != nil {
			m.screen, m.here.inPlace = nodeScreen, nil
		}
		return m.lookInside()
	}
	if c.busy {
		return nil
	}
	if cur, ok := pane.Move(c.cur, len(c.verdicts), k.String(), 8); ok {
		c.cur = cur
		return nil
	}
	if cmd, ok := m.choiceKey(k); ok {
		return cmd
	}
	switch k.String() {
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
			c.typing = pane.NewField(m.look, "")
		default:
			m.note = v.Check + " can't be overridden. Fix it, then check again with r."
		}
	case "enter", "right":
		if c.err != nil {
			m.note = "Not every node could be checked. r tries again."
			return nil
		}
		if s := text.Blocked(c.plain()); s != "" {
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
func nextBlocking(list []judged, at int) int {
	for n := range list {
		if i := (at + n) % len(list); list[i].Blocks() {
			return i
		}
	}
	return at
}

// typeName takes a key of the name of the error that somebody who knows better
// wants to override; it returns what is wrong with it.
func (c *checklist) typeName(k tea.KeyMsg) (note string) {
	v := c.current()
	switch k.String() {
	case "esc":
		c.typing = nil
	case "enter":
		if c.typing.Value() != v.Check {
			return fmt.Sprintf("That isn't %s; type the name of the check, or esc.", v.Check)
		}
		c.typing = nil
		c.accept(v, true)
		c.cur = nextBlocking(c.verdicts, c.cur)
	default:
		c.typing.Key(k)
	}
	return ""
}

// heading is what stands above a verdict when it is the first about somebody.
func (c *checklist) heading(i int) string {
	v := c.verdicts[i]
	if v.on == "" {
		return ""
	}
	fine := v.Level == steps.Pass
	if i > 0 {
		before := c.verdicts[i-1]
		if before.on == v.on && (before.Level == steps.Pass) == fine {
			return ""
		}
	}
	name := strings.ToUpper(v.on[:1]) + v.on[1:]
	if v.on != text.TheCluster && v.on != text.AllNodes {
		name = v.on
	}
	return name
}

func (c *checklist) view(l text.Look, now time.Time, changes string, w, h int) ([]string, string, []pane.Hint) {
	help := []pane.Hint{{"enter", "plan"}, {"space", "override"}, {"r", "check again"}, {changes, "change"}, {"/", "search"}, {"?", "help"}, {"esc", "back"}, {"q", "quit"}}
	if c.sending != nil && (c.busy || c.err != nil) {
		return c.sending.view(l, now, w, c.err, help)
	}
	if c.busy {
		return []string{" " + text.Spin(now) + " " + l.Bold.Render("Checking the node and the snapshot"), "", "   Nothing is changed by this."}, "", help[2:]
	}
	head := text.Tally(c.plain())
	if s := len(steps.Blocking(c.plain())); s > 0 {
		head += fmt.Sprintf("; %d to fix or override", s)
	} else {
		head += "; nothing blocks the restore"
	}
	lines := []string{" " + l.Bold.Render(head), ""}

	titles := 0
	for _, v := range c.verdicts {
		titles = max(titles, text.Width(trust.Text(v.Title)))
	}
	titles = min(titles, w/3)
	var all []string
	var first, last int
	for i, v := range c.verdicts {
		if head := c.heading(i); head != "" {
			if len(all) > 0 {
				all = append(all, "")
			}
			all = append(all, " "+l.Bold.Render(head))
		}
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
		tail := text.Hang("   ", "This error stops a restore for a reason. To override it, type its name, "+l.Bold.Render(v.Check)+":", w-2)
		tail = append(tail, "   "+c.typing.View(w-4))
		h -= len(lines) + len(tail) + 1
		c.scroll.Show(first, last, h)
		seen, where := c.scroll.Window(all, h)
		lines = append(append(lines, text.Box(seen, w, h)...), "")
		return append(lines, tail...), where, []pane.Hint{{"enter", "override"}, {"esc", "back"}}
	}
	h -= len(lines)
	c.scroll.Show(first, last, h)
	seen, where := c.scroll.Window(all, h)
	return append(lines, seen...), where, help
}

// verdict is one line for a pass; for the others cause, hint and how to accept
// follow.
func (c *checklist) verdict(l text.Look, v judged, current bool, titles, w int) []string {
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
