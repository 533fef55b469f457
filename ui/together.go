package ui

import (
	"cmp"
	"context"
	"path/filepath"
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

// What the screens for the checks and the plan do when several nodes are
// restored as one.

// sending is how far the snapshot is on its way.
type sending struct {
	since time.Time
	nodes []string
	here  string              // the one that has it from the start
	done  map[string][2]int64 // bytes and of how many, by node
	all   bool                // every node has it, with the same sha256
}

func (m *model) checkAll() tea.Cmd {
	if m.lead == nil {
		return m.toMembers() // nobody is there to be checked
	}
	c, p := &m.checks, &m.members
	c.turn++
	c.busy, c.err, c.typing = true, nil, nil
	c.sending = &sending{since: m.now(), nodes: p.names, here: m.localMember(), done: map[string][2]int64{}, all: p.sent}
	turn, l, choices, diff, names := c.turn, m.lead, m.settled(), m.diff, p.names
	shared := restore.Checked{Verdicts: diff.verdict(slices.Clone(p.verdicts))}
	sent := p.sent
	return func() tea.Msg {
		msg := verdictsMsg{turn: turn}
		l.do(func(ctx context.Context, n restore.Nodes) {
			if !sent {
				if msg.err = n.Send(ctx, func(node string, done, total int64) {
					m.box.put(sendProgressMsg{turn, node, done, total})
				}); msg.err != nil {
					return
				}
				m.box.put(sentMsg{turn})
			}
			var checked []restore.Checked
			if checked, msg.err = n.Check(ctx, choices); msg.err == nil {
				msg.verdicts = judgedOf(shared, checked, len(names))
			}
		})
		return msg
	}
}

func (c *checklist) progress(msg sendProgressMsg) {
	if msg.turn == c.turn && c.sending != nil {
		c.sending.done[msg.node] = [2]int64{msg.done, msg.total}
	}
}

func (m *model) sent(msg sentMsg) {
	if msg.turn == m.checks.turn && m.checks.sending != nil {
		m.checks.sending.all, m.members.sent = true, true
	}
}

// theCluster and allNodes are whom verdicts can be about besides nodes.
const (
	theCluster = "the cluster"
	allNodes   = "all nodes"
)

// judgedOf puts together what is said of the cluster and of its nodes. What
// several nodes say in the same words is said once.
func judgedOf(shared restore.Checked, checked []restore.Checked, n int) []judged {
	list := make([]judged, 0, len(shared.Verdicts))
	for _, v := range shared.Verdicts {
		list = append(list, judged{v, theCluster})
	}
	type same struct {
		check, title, cause, hint string
		level                     steps.Level
		overridable               bool
	}
	at := map[same]int{}
	var folded []steps.Verdict
	var by [][]string
	for _, c := range checked {
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
		if len(by[i]) == n && n > 1 {
			on = allNodes
		}
		rest = append(rest, judged{v, on})
	}
	// All nodes first, then by the nodes' names.
	slices.SortStableFunc(rest, func(a, b judged) int {
		if (a.on == allNodes) != (b.on == allNodes) {
			return cmp.Compare(b2i(b.on == allNodes), b2i(a.on == allNodes))
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
	if v.on != theCluster && v.on != allNodes {
		name = v.on
	}
	return name
}

func (c *checklist) sendingView(l text.Look, now time.Time, w int, help []pane.Hint) ([]string, string, []pane.Hint) {
	s := c.sending
	mark := text.Spin(now)
	title := "Sending the snapshot to every node"
	switch {
	case c.err != nil && s.all:
		title = "Not every node could be checked"
	case c.err != nil:
		title = "The snapshot did not arrive on every node"
	case s.all:
		title = "Checking every node and its copy of the snapshot"
	}
	if c.err != nil {
		mark = l.Symbol(text.SymBad)
	}
	lines := []string{" " + mark + " " + l.Bold.Render(title), ""}
	names := 0
	for _, n := range s.nodes {
		names = max(names, text.Width(trust.Text(n)))
	}
	names = min(names, w/3)
	for _, n := range s.nodes {
		done, known := s.done[n]
		sym, say := text.SymLater, "waiting"
		switch {
		case s.all:
			sym, say = text.SymDone, "has it; its sha256 is the same"
		case n == s.here:
			sym, say = text.SymDone, "is this node"
		case c.err != nil && known:
			say = text.Size(done[0]) + " of " + text.Size(done[1]) + " are there"
		case c.err != nil:
			say = "has nothing of it yet"
		case known && done[0] < done[1]:
			sym = text.SymNow
			say = text.Bar(done[0], done[1], max(8, min(30, w-names-34))) + "  " + text.Size(done[0]) + " of " + text.Size(done[1]) + ", " + text.Number(int64(text.Percent(done[0], done[1]))) + " %"
		case known:
			sym, say = text.SymNow, text.Size(done[1])+" are there; comparing the sha256"
		}
		lines = append(lines, text.Cut("   "+l.Symbol(sym)+" "+text.Fit(trust.Text(n), names)+"  "+say, w))
	}
	lines = append(lines, "")
	if c.err != nil {
		cause, advice := text.Explain(c.err)
		return append(lines, text.Indent(3, text.Facts(text.Advice(cause, advice), w-4))...), "", help[2:]
	}
	return append(lines, text.Hang("   ", "Nothing is changed by this, but for the copy of the snapshot beside each node's data. It is removed after the restore.", w-2)...), "", help[3:]
}

// manyNodes says whether the plan, the run and its summary are about several
// nodes.
func (m *model) manyNodes() bool {
	if m.again != nil {
		return m.again.all != nil || m.again.dir != ""
	}
	return m.together()
}

// planAll is makePlan for all nodes.
func (m *model) planAll(changed bool) tea.Cmd {
	p := &m.plan
	p.states = nil
	if m.lead == nil {
		return m.toMembers()
	}
	turn, l, choices, diff, here, names := p.turn, m.lead, m.settled(), m.diff, m.facts.Node, m.members.names
	shared := restore.Checked{Verdicts: diff.verdict(slices.Clone(m.members.verdicts))}
	return func() tea.Msg {
		msg := planMsg{turn: turn, checked: changed}
		l.do(func(ctx context.Context, n restore.Nodes) {
			if changed {
				var checked []restore.Checked
				if checked, msg.err = n.Check(ctx, choices); msg.err != nil {
					msg.checked = false
					return
				}
				msg.verdicts = judgedOf(shared, checked, len(names))
			}
			msg.all, msg.err = n.Plan(ctx, choices)
		})
		if msg.err == nil {
			msg.plan = planOf(msg.all, here)
		}
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

// planAllAgain leads the nodes of an earlier run again.
func (m *model) planAllAgain(a again) tea.Cmd {
	turn := m.plan.turn
	rec, here, flags := a.all, m.facts.Node, m.facts.Flags
	return func() tea.Msg {
		msg := againPlanMsg{turn: turn}
		if rec == nil {
			if rec = m.readRecord(a.dir); rec == nil {
				msg.err = &steps.Failure{Cause: "the record of the nodes isn't in " + a.dir, Hint: "undo it on each node: " + steps.Command("undo", a.run, flags)}
				return msg
			}
		}
		return openedMsg{againPlanMsg: msg, record: rec, here: here}
	}
}

// openedMsg brings the record of a run; its nodes are led from here on.
type openedMsg struct {
	againPlanMsg
	record *restore.Record
	here   string
}

func (m *model) opened(msg openedMsg) tea.Cmd {
	if msg.turn != m.plan.turn || m.again == nil {
		return nil
	}
	m.again.all = msg.record
	l := m.newLead(msg.record.Rsh)
	a, rec, here, names := *m.again, *msg.record, msg.here, hostNames(msg.record)
	out := msg.againPlanMsg
	return func() tea.Msg {
		l.do(func(ctx context.Context, n restore.Nodes) {
			if out.states, out.err = n.Open(ctx, rec); out.err != nil {
				return
			}
			verb := restore.Undo
			if a.resume {
				verb = restore.Resume
			}
			if out.all, out.err = n.PlanAgain(ctx, verb); out.err != nil {
				return
			}
			if a.resume {
				out.plan = &steps.Plan{Run: a.run, Kind: steps.KindRestore, Node: here, RunDir: a.dir, Title: "Resume the restore on " + text.Listed(names)}
				return
			}
			if out.err = steps.Blocked(ctx, out.all); out.err != nil {
				return
			}
			p := *planOf(out.all, here)
			p.Kind, p.RunDir, p.Node = steps.KindUndo, a.dir, here
			p.Title = "Undo on " + text.Listed(names) + ": revert them to the state before run " + a.run
			out.plan = &p
		})
		return out
	}
}

func (m *model) planAllTitle() string {
	p := m.plan.plan
	if m.again != nil || p.Restore == nil {
		return trust.Text(p.Title)
	}
	return "Restore " + trust.Text(filepath.Base(p.Restore.Snapshot)) + " on " + text.Listed(m.members.names)
}

// planAllText is what the nodes' plans have in common, and where they differ.
func (m *model) planAllText(w int) []string {
	p := &m.plan
	var list []steps.Fact
	add := func(name, value string) {
		if value != "" {
			list = append(list, steps.Fact{Name: name, Value: value})
		}
	}
	var out []string
	if m.again != nil {
		for _, name := range hostNames(m.again.all) {
			add(name, stateWords(p.states[name]))
		}
		out = append(text.Indent(1, text.Facts(list, w-1)), "")
		switch {
		case m.again.resume:
			out = append(out, text.Hang(" ", "Each node resumes where its journal ends, and waits for the others at the end of each phase. What is done is not done again.", w)...)
		default:
			out = append(out, text.Hang(" ", "All nodes are undone at the same time; tab shows what is done on each. Each etcd runs on the data it had before.", w)...)
		}
		for _, name := range hostNames(m.again.all) {
			if p.states[name] == restore.RunUnreachable {
				out = append(out, "")
				out = append(out, text.Hang(" "+text.SymWarn+" ", name+" can't be reached now. It is tried again for a while, and the same can be done there later: etcd-rewind.", w)...)
			}
		}
		return out
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
		if len(m.members.without) > 0 {
			add("excluded", text.Listed(m.members.without)+": rejoin later")
		}
		if m.diff.Result != nil {
			add("the restore", text.ComparisonSummary(m.diff.Result))
		}
	}
	for i, o := range p.all {
		name := o.Node
		if i < len(m.members.names) {
			name = m.members.names[i]
		}
		if o.Restore != nil {
			add(name, o.Restore.OldDataDir+" → "+o.Restore.DataDir)
		}
	}
	out = append(text.Indent(1, text.Facts(list, w-1)), "")
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

// crewDir is where the run on the screen is kept on this node, "" for a run of
// this node alone.
func (m *model) crewDir() string {
	if m.crew == nil || m.stepper.plan == nil {
		return ""
	}
	return m.stepper.plan.RunDir
}

// startAll hands the plans to the conductor.
func (m *model) startAll() tea.Cmd {
	p := &m.plan
	run := &leadRun{lead: m.lead, names: m.members.names}
	if a := m.again; a != nil {
		run.names = hostNames(a.all)
	}
	plan, all := p.plan, p.all
	commands := map[string][]command{}
	if m.crew != nil {
		for _, n := range m.crew.nodes {
			commands[n.name] = n.stepper.commands
		}
	}
	m.stepper = newStepper(plan, m.stepper.commands)
	m.crew = newCrew(plan, run.names, all, commands)
	if m.again != nil && m.again.resume {
		m.crew.goesOn(p.states)
	}
	return func() tea.Msg {
		m.engine.startAll(plan, run)
		return nil
	}
}

// step is the stepper of the node that is looked at.
func (m *model) step() *stepper {
	if m.crew != nil {
		return &m.crew.current().stepper
	}
	return &m.stepper
}

// failure waits for an answer, on any node.
func (m *model) failure() *steps.Failure {
	if m.crew != nil {
		return m.crew.failure()
	}
	return m.stepper.failure
}

// awayText is the outage: it counts on as long as the API is down, also when the
// run has ended.
func (m *model) awayText() string {
	if r := m.result; r != nil && r.DownSince != nil {
		return m.look.Reverse.Bold(true).Render(" " + downText(*r.DownSince, m.now()) + " ")
	}
	if m.crew != nil {
		return m.crew.awayText(m.look, m.now())
	}
	return m.stepper.awayText(m.look, m.now())
}

// ended is what there is to tell of the end of the run on the screen.
func (m *model) ended() text.Ended { return m.endedAs(m.result, m.stepper.plan) }

func (m *model) endedAs(r *steps.Result, p *steps.Plan) text.Ended {
	all, run := m.engine.all, ""
	if p != nil {
		run = p.Run
	}
	e := text.Ended{Result: restore.Alone(run, "", r), Plan: p, Kind: m.stepper.kind(), Down: r.DownSince, Excluded: m.leftOut()}
	if m.crew == nil {
		e.Excluded = nil
		return e
	}
	if m.crew.result != nil {
		all = m.crew.result
	}
	e.Several, e.Kind = true, m.crew.kind
	if all != nil {
		e.Nodes = all.Nodes
	}
	return e
}
