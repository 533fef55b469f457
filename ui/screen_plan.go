package ui

import (
	"context"
	"path/filepath"
	"slices"
	"strings"

	tea "github.com/charmbracelet/bubbletea"

	"etcd-rewind/restore"
	"etcd-rewind/snapshot"
	"etcd-rewind/steps"
	"etcd-rewind/trust"
	"etcd-rewind/ui/pane"
	"etcd-rewind/ui/text"
)

// planPane shows the plans of the nodes, and the choices that shape them.
type planPane struct {
	busy  bool
	asked int
	plan  *steps.Plan // this node's, or what stands for it
	err   error
	page  pane.Page

	all    []*steps.Plan             // of every node
	names  []string                  // of several nodes; none for a node alone
	at     int                       // the node whose plan is shown, counted from 1; 0 for what they have in common
	states map[string]steps.RunState // of the earlier run, on several nodes
}

// planMsg brings the plans, and what the checks say where they ran again.
type planMsg struct {
	asked   int
	flow    restore.Flow
	checked bool // a choice was changed
	plan    *steps.Plan
	all     []*steps.Plan
	names   []string
	states  map[string]steps.RunState
	err     error
}

// again is what the user wants of a run that is in the journal.
type again struct {
	run  string
	verb restore.Verb
	dir  string // of the run on this node, to do it on all its nodes; "" for this node alone
	from screen // where that began, and esc leads
}

// title says what is done with a run, before there is a plan for it too.
func (a again) title(p *steps.Plan) string {
	switch {
	case p != nil:
		return trust.Text(p.Title)
	case a.verb == restore.Resume:
		return "Resume run " + trust.Text(a.run)
	case a.verb == restore.Redo:
		return "Redo run " + trust.Text(a.run)
	case a.dir != "":
		return "Undo on all nodes"
	default:
		return "Undo on this node"
	}
}

// shown is what the plan on the screen restores, nil when there is none.
func (p *planPane) shown(onScreen bool) *steps.RestoreFacts {
	if !onScreen || p.plan == nil {
		return nil
	}
	return p.plan.Restore
}

// begin waits for the plans.
func (p *planPane) begin() {
	p.asked++
	p.busy, p.err = true, nil
}

// set takes the plans.
func (p *planPane) set(msg planMsg) {
	p.busy, p.plan, p.err = false, msg.plan, msg.err
	p.all, p.names, p.states = msg.all, msg.names, msg.states
	p.at = min(p.at, len(msg.all))
	p.page.Top = 0
}

// several says whether the plans are those of several nodes.
func (p *planPane) several() bool { return len(p.names) > 0 }

// makePlan plans anew; after a change of a choice the checks run again too,
// since a data directory may not do.
func (m *model) makePlan(changed bool) tea.Cmd {
	if m.nodes.session == nil {
		return m.toMembers()
	}
	m.plan.begin()
	asked, s, f, names := m.plan.asked, m.nodes.session, m.flowNow(), m.members.names
	return func() tea.Msg {
		msg := planMsg{asked: asked, names: names}
		msg.err = s.do(func(ctx context.Context, n restore.Nodes) (err error) {
			f.Nodes = n
			if changed {
				if err = f.Check(ctx, nil); err != nil {
					return err
				}
			}
			msg.checked = changed
			if msg.all, err = f.Plan(ctx); err == nil {
				msg.plan = restore.PlanOf(msg.all, n.Here())
			}
			return err
		})
		msg.flow = f
		return msg
	}
}

func (m *model) planned(msg planMsg) tea.Cmd {
	if msg.asked != m.plan.asked {
		return nil
	}
	m.plan.set(msg)
	if m.again != nil {
		start := m.undoNext && msg.err == nil
		m.undoNext = false
		if start {
			return m.startRun()
		}
		return nil
	}
	m.flow = msg.flow
	m.diff.tell(m.plan.plan)
	if msg.checked {
		m.checks.adopt(judgedOf(msg.flow.Checked))
		m.note = text.Blocked(m.checks.plain())
	}
	return nil
}

// planAgain plans from the journal of an earlier run.
func (m *model) planAgain(a again) tea.Cmd {
	m.again, m.screen = &a, planScreen
	m.plan = planPane{busy: true, asked: m.plan.asked + 1}
	rec, asked := restore.Record{Run: a.run}, m.plan.asked
	m.nodes.open(m.ctx, func() (restore.Nodes, error) {
		if a.dir == "" {
			return m.local()
		}
		r := m.readRecord(a.dir)
		if r == nil {
			return nil, &steps.Failure{Cause: "the record of the nodes isn't in " + a.dir, Hint: "do it on each node, without --fleet"}
		}
		rec = *r
		return m.options.Nodes(rec.Rsh), nil
	})
	s := m.nodes.session
	return func() tea.Msg {
		msg := planMsg{asked: asked}
		msg.err = s.do(func(ctx context.Context, n restore.Nodes) (err error) {
			f := restore.Flow{Nodes: n}
			if err = f.Open(ctx, rec); err != nil {
				return err
			}
			msg.states, msg.names = f.States, rec.Names()
			if msg.all, err = f.PlanAgain(ctx, a.verb); err != nil {
				return err
			}
			if msg.plan = f.Whole(a.verb, msg.all); a.dir != "" {
				msg.plan.RunDir = a.dir
			}
			return steps.Blocked(ctx, msg.all)
		})
		return msg
	}
}

// planLast plans what is done with the run that has just ended.
func (m *model) planLast(v restore.Verb) tea.Cmd {
	return m.planAgain(again{run: m.run.Name(), verb: v, from: summaryScreen, dir: m.run.Dir()})
}

func (m *model) planKey(k tea.KeyMsg) tea.Cmd {
	p := &m.plan
	if cmd, ok := m.choiceKey(k); ok {
		return cmd
	}
	name := k.String()
	switch name {
	case "q":
		return m.quit()
	case "?":
		m.over = newOverlay(helpOverlay)
		return nil
	case "esc", "left":
		p.asked++
		p.busy = false
		if m.again != nil {
			m.screen, m.again = m.again.from, nil
		} else {
			m.screen = checkScreen
		}
		return nil
	}
	if p.busy {
		return nil
	}
	switch name {
	case "enter", "right":
		return m.toConfirm()
	case "tab":
		if p.several() && len(p.all) > 0 {
			p.at = (p.at + 1) % (len(p.all) + 1)
			p.page.Top = 0
		}
		return nil
	case "r":
		if m.again != nil {
			return m.planAgain(*m.again)
		}
		return m.makePlan(true)
	}
	above := 2 // lines
	if m.again == nil {
		above += len(m.choices.Rows(m.look, nil, m.here.inPlace != nil, m.w))
	}
	p.page.Key(name, m.bodyHeight()-above)
	return nil
}

// changed checks anew, and plans anew where the plan is on the screen.
func (m *model) changed(note string) tea.Cmd {
	if m.screen == checkScreen {
		m.note = note
		return m.check()
	}
	return m.makePlan(true) // the rows above the plan say it
}

// choiceKey takes a key that is about a choice, where there are some.
func (m *model) choiceKey(k tea.KeyMsg) (cmd tea.Cmd, ok bool) {
	c := &m.choices
	var changed bool
	var note string
	if c.typing != nil {
		changed, note = c.Type(k)
		ok = true
	} else if shown := m.plan.shown(m.screen == planScreen); m.again == nil && !m.checks.busy && !m.plan.busy {
		changed, note, ok = c.Key(m.look, k.String(), shown, m.here.inPlace != nil)
	}
	if changed {
		return m.changed(note), true
	}
	if note != "" {
		m.note = note
	}
	return nil, ok
}

func (m *model) toConfirm() tea.Cmd {
	if m.plan.plan == nil {
		m.note = "There is no plan to confirm."
		return nil
	}
	if m.again == nil {
		if s := text.Blocked(m.checks.plain()); s != "" {
			m.note = s + ". esc returns to them."
			return nil
		}
	}
	m.confirm = confirmPane{name: pane.NewField(m.look, "")}
	m.screen = confirmScreen
	return nil
}

func (m *model) planView(w, h int) ([]string, string, []pane.Hint) {
	p := &m.plan
	if m.choices.typing != nil {
		return m.choices.View(m.look, w)
	}
	help := []pane.Hint{{"enter", "confirm"}, {"↑↓", "scroll"}, {changeKeys(m.here.inPlace != nil), "change"}, {"/", "search"}, {"e", "export"}, {"?", "help"}, {"esc", "back"}, {"q", "quit"}}
	if m.again != nil {
		help = []pane.Hint{{"enter", "confirm"}, {"↑↓", "scroll"}, {"/", "search"}, {"e", "export"}, {"esc", "back"}, {"q", "quit"}}
	}
	if p.several() && len(p.all) > 0 {
		help = slices.Insert(help, 1, pane.Hint{"tab", "each node"})
	}
	var lines []string
	if m.again == nil {
		lines = append(m.choices.Rows(m.look, p.shown(true), m.here.inPlace != nil, w), "")
	}
	switch {
	case p.busy:
		lines = append(lines, " "+text.Spin(m.now())+" "+m.look.Bold.Render("Planning"))
		return lines, "", help[1:]
	case p.err != nil:
		cause, advice := text.Explain(p.err)
		lines = append(lines, " "+m.look.Symbol(text.SymBad)+" "+m.look.Bold.Render("There is no plan"), "")
		return append(lines, text.Indent(3, text.Facts(text.Advice(cause, advice), w-4))...), "", help[1:]
	case p.plan == nil:
		return lines, "", help[1:]
	}
	title, tail, sentence := trust.Text(p.plan.Title), "  the commands do the same by hand", []string(nil)
	switch {
	case !p.several():
		sentence = text.Plan(p.plan, w-1)
	case p.at > 0:
		title, sentence = trust.Text(p.all[p.at-1].Title), text.Plan(p.all[p.at-1], w-1)
	case m.again != nil:
		tail, sentence = "", p.againText(m.again.verb, w-1)
	default:
		tail, sentence = "", p.commonText(m.members.without, m.diff.Result, w-1)
		if r := p.plan.Restore; r != nil {
			title = "Restore " + trust.Text(filepath.Base(r.Snapshot)) + " on " + text.Listed(p.names)
		}
	}
	lines = append(lines, text.Cut(" "+m.look.Bold.Render(title)+m.look.Faint.Render(tail), w))
	h -= len(lines)
	seen, where := p.page.Show(paint(m.look, text.Narrow(sentence, w-1)), h)
	return append(lines, seen...), where, help
}

// againText says what is done with an earlier run on several nodes.
func (p *planPane) againText(verb restore.Verb, w int) []string {
	var list []steps.Fact
	for _, name := range p.names {
		list = append(list, steps.Fact{Name: name, Value: stateWords(p.states[name])})
	}
	out := append(text.Indent(1, text.Facts(list, w-1)), "")
	say := "All nodes are undone at the same time; tab shows what is done on each. Each etcd runs on the data it had before."
	switch verb {
	case restore.Redo:
		say = "All nodes go to the restored data again at the same time; tab shows what is done on each."
	case restore.Resume:
		say = "Each node resumes where its journal ends, and waits for the others at the end of each phase; tab shows what is done on each. What is done is not done again."
	}
	out = append(out, text.Hang(" ", say, w)...)
	for _, name := range p.names {
		if p.states[name] == restore.RunUnreachable {
			out = append(out, "")
			out = append(out, text.Hang(" "+text.SymWarn+" ", name+" can't be reached now. It is tried again for a while, and the same can be done there later: etcd-rewind.", w)...)
		}
	}
	return out
}

// commonText is what the plans of several nodes have in common, and where they
// differ.
func (p *planPane) commonText(without []string, changes *snapshot.Comparison, w int) []string {
	var list []steps.Fact
	add := func(name, value string) {
		if value != "" {
			list = append(list, steps.Fact{Name: name, Value: value})
		}
	}
	if r := p.plan.Restore; r != nil {
		add("snapshot", r.Snapshot+", revision "+text.Number(r.SnapshotRevision))
		add("members", membersOf(r))
		add("token", r.Token)
		say := text.Number(r.SnapshotRevision) + " + " + text.Number(int64(r.Bump)) + ", beyond what any client has seen"
		if r.Bump == 0 {
			say = "not raised"
		}
		add("revision", say)
		if len(without) > 0 {
			add("excluded", text.Listed(without)+": rejoin later")
		}
		if changes != nil {
			add("the restore", text.ComparisonSummary(changes))
		}
	}
	for i, o := range p.all {
		name := o.Node
		if i < len(p.names) {
			name = p.names[i]
		}
		if o.Restore != nil {
			add(name, o.Restore.OldDataDir+" → "+o.Restore.DataDir)
		}
	}
	out := append(text.Indent(1, text.Facts(list, w-1)), "")
	out = append(out, text.Hang(" ", "Every node runs its own plan (tab), and starts the next phase when all have finished the one before:", w)...)
	for i, ph := range steps.Phases {
		out = append(out, text.Hang("  "+text.Number(int64(i+1))+" "+text.Fit(ph.Name(), 11)+" ", pane.PhaseMeans[ph], w)...)
	}
	return out
}

// membersOf names the restored cluster's members, and where they are.
func membersOf(r *steps.RestoreFacts) string {
	var all []string
	for _, m := range r.Members {
		for _, u := range m.PeerURLs {
			all = append(all, m.Name+"="+u)
		}
	}
	return strings.Join(all, ", ")
}

// stateWords say in which state an earlier run is on a node.
func stateWords(s steps.RunState) string {
	switch s {
	case "":
		return "has no such run: nothing was changed there"
	case restore.RunUnreachable:
		return "can't be reached"
	case steps.RunUnfinished:
		return "half restored: the run was interrupted"
	case steps.RunFailed:
		return "half restored: the run stopped or failed there"
	case steps.RunUndone:
		return "undone"
	}
	return string(s)
}

// paint makes steps bold, and colours what a diff adds and takes away.
func paint(look text.Look, lines []string) []string {
	out := make([]string, 0, len(lines))
	diff := false
	for _, l := range lines {
		text := strings.TrimLeft(l, " ")
		switch {
		case strings.HasPrefix(l, "Changes in "):
			diff = true
			l = look.Bold.Render(l)
		case diff && strings.HasPrefix(text, "+"):
			l = look.Good.Render(l)
		case diff && strings.HasPrefix(text, "-"):
			l = look.Bad.Render(l)
		case diff:
		case strings.HasPrefix(text, "$ "):
			l = look.Faint.Render(l)
		case len(l) > 3 && l[0] == ' ' && l[1] >= '0' && l[1] <= '9' || len(l) > 3 && l[0] >= '0' && l[0] <= '9':
			l = look.Bold.Render(l)
		}
		out = append(out, l)
	}
	return out
}
