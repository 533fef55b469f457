package ui

import (
	"cmp"
	"context"
	"fmt"
	"maps"
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
	busy   bool
	turn   int
	plan   *steps.Plan // this node's, or what stands for it
	err    error
	scroll pane.Scroller
	lines  []string // as they were drawn

	all    []*steps.Plan             // of every node
	names  []string                  // of several nodes; none for a node alone
	at     int                       // the node whose plan is shown, counted from 1; 0 for what they have in common
	states map[string]steps.RunState // of the earlier run, on several nodes
}

// planMsg brings the plans, and what the checks say where they ran again.
type planMsg struct {
	turn    int
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

func (m *model) planTitle() string {
	switch p := m.plan.plan; {
	case p != nil:
		return trust.Text(p.Title)
	case m.again.verb == restore.Resume:
		return "Resume run " + trust.Text(m.again.run)
	case m.again.dir != "":
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
	p.turn++
	p.busy, p.err = true, nil
}

// set takes the plans.
func (p *planPane) set(msg planMsg) {
	p.busy, p.plan, p.err = false, msg.plan, msg.err
	p.all, p.names, p.states = msg.all, msg.names, msg.states
	p.at = min(p.at, len(msg.all))
	p.scroll.Top = 0
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
	turn, s, f, names := m.plan.turn, m.nodes.session, m.flowNow(), m.members.names
	return func() tea.Msg {
		msg := planMsg{turn: turn, names: names}
		msg.err = s.do(func(ctx context.Context, n restore.Nodes) (err error) {
			f.Nodes = n
			if changed {
				if err = f.Check(ctx, nil); err != nil {
					return err
				}
			}
			msg.checked = changed
			if msg.all, err = f.Plan(ctx); err == nil {
				msg.plan = planOf(msg.all, n.Here())
			}
			return err
		})
		msg.flow = f
		return msg
	}
}

// planOf is the plan of a node.
func planOf(all []*steps.Plan, node string) *steps.Plan {
	for _, p := range all {
		if p.Node == node {
			return p
		}
	}
	if len(all) > 0 {
		return all[0]
	}
	return nil
}

func (m *model) planned(msg planMsg) tea.Cmd {
	if msg.turn != m.plan.turn {
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
	m.plan = planPane{busy: true, turn: m.plan.turn + 1}
	rec, turn := restore.Record{Run: a.run}, m.plan.turn
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
		msg := planMsg{turn: turn}
		msg.err = s.do(func(ctx context.Context, n restore.Nodes) (err error) {
			if msg.states, err = n.Open(ctx, rec); err != nil {
				return err
			}
			if msg.all, err = n.PlanAgain(ctx, a.verb); err != nil {
				return err
			}
			msg.names = hostNames(&rec)
			msg.plan = a.plan(msg.all, n.Here(), msg.names)
			return steps.Blocked(ctx, msg.all)
		})
		return msg
	}
}

// plan is this node's part of what is done with the run; it stands for all of
// several nodes, and there is one where nothing is to be done here.
func (a again) plan(all []*steps.Plan, here string, names []string) *steps.Plan {
	own := planOf(all, here)
	if len(names) == 0 {
		return own
	}
	p := steps.Plan{Run: a.run, Kind: steps.KindRestore}
	if own != nil {
		p = *own
	}
	p.RunDir, p.Node = a.dir, here
	p.Title = "Resume the restore on " + text.Listed(names)
	if a.verb == restore.Undo {
		p.Kind = steps.KindUndo
		p.Title = "Undo on " + text.Listed(names) + ": revert them to the state before run " + a.run
	}
	return &p
}

// planUndo plans to go back to before the last run.
func (m *model) planUndo() tea.Cmd {
	return m.planAgain(again{run: m.run.run(), verb: restore.Undo, from: summaryScreen, dir: m.run.dir()})
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
		p.turn++
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
			p.scroll.Top = 0
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
		above += len(m.choices.Rows(m.look, nil, m.inPlace != nil, m.w))
	}
	p.scroll.Key(name, m.bodyHeight()-above)
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
		changed, note, ok = c.Key(m.look, k.String(), shown, m.inPlace != nil)
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
	help := []pane.Hint{{"enter", "confirm"}, {"↑↓", "scroll"}, {changeKeys(m.inPlace != nil), "change"}, {"/", "search"}, {"e", "export"}, {"?", "help"}, {"esc", "back"}, {"q", "quit"}}
	if m.again != nil {
		help = []pane.Hint{{"enter", "confirm"}, {"↑↓", "scroll"}, {"/", "search"}, {"e", "export"}, {"esc", "back"}, {"q", "quit"}}
	}
	if p.several() && len(p.all) > 0 {
		help = slices.Insert(help, 1, pane.Hint{"tab", "each node"})
	}
	var lines []string
	if m.again == nil {
		lines = append(m.choices.Rows(m.look, p.shown(true), m.inPlace != nil, w), "")
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
	p.lines = text.Narrow(sentence, w-1)
	seen, where := p.scroll.Window(m.paint(p.lines), h)
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
	if verb == restore.Resume {
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
		out = append(out, text.Hang("  "+text.Number(int64(i+1))+" "+text.Fit(ph.Name(), 11)+" ", phaseMeans[ph], w)...)
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
func (m *model) paint(lines []string) []string {
	out := make([]string, 0, len(lines))
	diff := false
	for _, l := range lines {
		text := strings.TrimLeft(l, " ")
		switch {
		case strings.HasPrefix(l, "Changes in "):
			diff = true
			l = m.look.Bold.Render(l)
		case diff && strings.HasPrefix(text, "+"):
			l = m.look.Good.Render(l)
		case diff && strings.HasPrefix(text, "-"):
			l = m.look.Bad.Render(l)
		case diff:
		case strings.HasPrefix(text, "$ "):
			l = m.look.Faint.Render(l)
		case len(l) > 3 && l[0] == ' ' && l[1] >= '0' && l[1] <= '9' || len(l) > 3 && l[0] >= '0' && l[0] <= '9':
			l = m.look.Bold.Render(l)
		}
		out = append(out, l)
	}
	return out
}

// confirmPane is the point of no return: the node's name has to be typed.
type confirmPane struct{ name *pane.Field }

func (m *model) confirmView(w int) ([]string, string, []pane.Hint) {
	p := m.plan.plan
	node := trust.Text(p.Node)
	var lines []string
	say := func(sentence string) { lines = append(lines, text.Hang("   ", sentence, w-3)...) }
	switch {
	case p.Kind == steps.KindUndo:
		lines = append(lines, " "+m.look.Bold.Render(text.Cut(trust.Text(p.Title), w-2)), "")
		since := trust.Text(p.Lost)
		for _, o := range m.plan.all {
			since = cmp.Or(since, trust.Text(o.Lost))
		}
		if since != "" {
			warning := text.Hang("", "Written since the restore: "+since, w-6)
			for i, l := range warning {
				lead := "     "
				if i == 0 {
					lead = "   " + m.look.Symbol(text.SymWarn) + " "
				}
				lines = append(lines, lead+m.look.Bold.Render(l))
			}
			lines = append(lines, "")
		}
		say("The API is down until etcd runs on the data directory it had before. The manifests are restored byte for byte.")
		if since == "" {
			lines = append(lines, "")
			if m.again.from == earlierScreen {
				say("If the API is up again, what was written to it since stays in the restored data directory and is gone from the cluster.")
			} else {
				say("What was written to the cluster since the restore stays in the restored data directory and is gone from the cluster.")
			}
		}
	case m.again != nil:
		lines = append(lines, " "+m.look.Bold.Render(text.Cut(trust.Text(p.Title), w-2)), "")
		say("The run resumes where it was interrupted; what is done is not done again. The API is down until kube-apiserver is started.")
		lines = append(lines, "")
		if r := p.Restore; r != nil {
			say("The cluster is restored to the state of " + trust.Text(r.Snapshot) + ". What was written since then is gone from the cluster.")
			lines = append(lines, "")
		}
		say("Nothing is deleted: the old data and manifests are kept, and undo restores them.")
	default:
		lines = append(lines, " "+m.look.Bold.Render("From here on the cluster is changed"), "")
		if m.plan.several() {
			lines[0] = " " + m.look.Bold.Render(text.Cut("From here on the cluster is changed, on "+text.Listed(m.plan.names), w-2))
		}
		info := m.flow.Want.Info
		when, what, changes := info.Taken(), "the snapshot", "is restored"
		before := "The snapshot is restored beside the running etcd first. Then the API is down for some seconds; pods keep running."
		if r := p.Restore; r != nil && r.InPlace {
			what, changes = "the data in "+trust.Text(r.DataDir), "returns"
			before = "Nothing is restored: etcd runs on that data from here on. The API is down for some seconds; pods keep running."
		}
		from := " (the newest write in " + what + ")"
		if info.LastWrite.IsZero() {
			from = " (the file's time: no time in " + what + " can be read)"
		}
		say("The cluster " + changes + " to the state of " + steps.Moment(when) + ", " + steps.Ago(when, m.now()) + from + ". What was written since then is gone from the cluster.")
		lines = append(lines, "")
		say(before)
		lines = append(lines, "")
		say("Nothing is deleted: the old data and manifests are kept, and undo restores them.")
		var accepted []string
		for _, v := range m.checks.verdicts {
			if v.Accepted && !slices.Contains(accepted, v.Check) {
				accepted = append(accepted, v.Check)
			}
		}
		if len(accepted) > 0 {
			lines = append(lines, "")
			lines = append(lines, text.Hang("   "+m.look.Symbol(text.SymWarn)+" ", "overridden: "+strings.Join(accepted, ", "), w-3)...)
		}
	}
	ask := "   Type the node's name, %s, to start:"
	if m.plan.several() {
		ask = "   Type this node's name, %s, to start on all of them:"
	}
	lines = append(lines, "", fmt.Sprintf(ask, m.look.Bold.Render(node)), "   "+m.confirm.name.View(w-4))
	return lines, "", []pane.Hint{{"enter", "start"}, {"esc", "back"}}
}

func (m *model) confirmKey(k tea.KeyMsg) tea.Cmd {
	switch k.String() {
	case "esc":
		m.screen = planScreen
	case "enter":
		typed := strings.TrimSpace(m.confirm.name.Value())
		switch {
		case typed == m.plan.plan.Node:
			return m.startRun()
		case typed == "":
			m.note = "Nothing was started. Type the node's name, or esc for the plan."
		default:
			m.note = fmt.Sprintf("%q is not this node's name. Nothing was started.", trust.Text(typed))
		}
	default:
		m.confirm.name.Key(k)
	}
	return nil
}

// startRun runs what was planned.
func (m *model) startRun() tea.Cmd {
	p := &m.plan
	m.screen, m.over, m.note = runScreen, nil, ""
	m.run = newRunView(p.plan, p.names, p.all, m.run)
	if m.again != nil && m.again.verb == restore.Resume {
		m.run.resumes(p.states)
	}
	plan, names, s := p.plan, p.names, m.nodes.session
	return func() tea.Msg { m.runner.start(plan, names, s); return nil }
}

// finished takes the result of a run.
func (m *model) finished(msg finishedMsg) tea.Cmd {
	m.over, m.note = nil, ""
	m.run.end(msg.Result)
	m.screen = summaryScreen
	if m.endAfter {
		return tea.Quit
	}
	if m.undoNext && m.run.canUndo() {
		return m.planUndo()
	}
	m.undoNext = false
	return nil
}

func (m *model) summaryView(w, h int) ([]string, string, []pane.Hint) {
	lines := append([]string{""}, text.Indent(1, m.run.ended(m.leftOut()).Summary(w-2))...)
	for i, l := range lines {
		if i > 0 && l == "" {
			break
		}
		lines[i] = m.look.Bold.Render(l)
	}
	if len(lines)+2 <= h {
		lines = append(lines, "", m.look.Faint.Render("   This summary stays in the terminal when you quit."))
	}
	seen, where := m.summaryScroll.Window(lines, h)
	help := m.run.summaryHelp()
	if where != "" {
		help = slices.Insert(help, len(help)-1, pane.Hint{"↑↓", "scroll"})
	}
	return seen, where, help
}

// leftOut are the members that the run on the screen has left out for good.
func (m *model) leftOut() []string {
	if m.again != nil && m.again.from == earlierScreen || !m.run.several {
		return nil
	}
	return m.members.without
}

func (m *model) summaryKey(name string) tea.Cmd {
	switch name {
	case "q", "enter":
		if name == "enter" {
			m.note = "q quits; the summary stays in the terminal."
			return nil
		}
		return m.leave()
	case "esc", "left", "s":
		m.screen = runScreen
	case "u":
		if m.run.canUndo() {
			return m.planUndo()
		}
	case "g":
		if m.run.canResume() {
			return m.planAgain(again{run: m.run.run(), verb: restore.Resume, from: summaryScreen, dir: m.run.dir()})
		}
	case "n":
		if m.run.canBeginAnew() {
			return m.beginAnew()
		}
	case "c":
		m.over = newOverlay(commandsOverlay)
	case "l":
		return m.openLogs()
	case "?":
		m.over = newOverlay(helpOverlay)
	default:
		m.summaryScroll.Key(name, m.bodyHeight())
	}
	return nil
}

// beginAnew goes to the first screen, with nothing chosen yet.
func (m *model) beginAnew() tea.Cmd {
	o := m.options
	m.info, m.inPlace, m.choices = nil, nil, choices{Choices: o.Choices}
	m.diff.stop()
	m.diff = diffPane{turn: m.diff.turn + 1}
	m.picker.pause()
	m.picker = newPicker("")
	m.checks = checklist{turn: m.checks.turn + 1, given: slices.Clone(o.Choices.Accept), accepted: map[string]steps.Verdict{}}
	m.plan = planPane{turn: m.plan.turn + 1}
	m.members = membersPane{turn: m.members.turn + 1, hosts: maps.Clone(o.Want.Hosts), without: slices.Clone(o.Want.Without)}
	m.run, m.alone = newRunView(nil, nil, nil, nil), false
	m.summaryScroll, m.nodeScroll = pane.Scroller{}, pane.Scroller{}
	return m.discover()
}
