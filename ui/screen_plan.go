package ui

import (
	"context"

	tea "github.com/charmbracelet/bubbletea"

	"etcd-rewind/restore"
	"etcd-rewind/steps"
	"etcd-rewind/trust"
	"etcd-rewind/ui/pane"
	"etcd-rewind/ui/text"
)

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

// makePlan plans anew; after a change of a choice the checks run again too,
// since a data directory may not do.
func (m *model) makePlan(changed bool) tea.Cmd {
	if m.nodes.session == nil {
		return m.toMembers()
	}
	m.plan.Begin()
	asked, s, f, names := m.plan.Asked, m.nodes.session, m.flowNow(), m.members.Names
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
	if msg.asked != m.plan.Asked {
		return nil
	}
	m.plan.Set(msg.plan, msg.all, msg.names, msg.states, msg.err)
	if m.again != nil {
		start := m.undoNext && msg.err == nil
		m.undoNext = false
		if start {
			return m.startRun()
		}
		return nil
	}
	m.flow = msg.flow
	m.diff.tell(m.plan.Plan)
	if msg.checked {
		m.checks.Adopt(pane.JudgedOf(msg.flow.Checked))
		m.note = text.Blocked(m.checks.Plain())
	}
	return nil
}

// planAgain plans from the journal of an earlier run.
func (m *model) planAgain(a again) tea.Cmd {
	m.again, m.screen = &a, planScreen
	m.plan = pane.Plans{Busy: true, Asked: m.plan.Asked + 1, Verb: a.verb, Just: a.from == summaryScreen}
	rec, asked := restore.Record{Run: a.run}, m.plan.Asked
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
		p.Asked++
		p.Busy = false
		if m.again != nil {
			m.screen, m.again = m.again.from, nil
		} else {
			m.screen = checkScreen
		}
		return nil
	}
	if p.Busy {
		return nil
	}
	switch name {
	case "enter", "right":
		return m.toConfirm()
	case "tab":
		if p.Several() && len(p.All) > 0 {
			p.At = (p.At + 1) % (len(p.All) + 1)
			p.Page.Top = 0
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
		above += len(m.choices.Rows(m.look, nil, m.here.InPlace != nil, m.w))
	}
	p.Page.Key(name, m.bodyHeight()-above)
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
	if c.Asks() {
		changed, note = c.Type(k)
		ok = true
	} else if shown := m.plan.Shown(m.screen == planScreen); m.again == nil && !m.checks.Busy && !m.plan.Busy {
		changed, note, ok = c.Key(m.look, k.String(), shown, m.here.InPlace != nil)
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
	if m.plan.Plan == nil {
		m.note = "There is no plan to confirm."
		return nil
	}
	if m.again == nil {
		if s := text.Blocked(m.checks.Plain()); s != "" {
			m.note = s + ". esc returns to them."
			return nil
		}
	}
	m.confirm = pane.Confirm{Name: pane.NewField(m.look, "")}
	m.screen = confirmScreen
	return nil
}
