package ui

import (
	"context"
	"slices"

	tea "github.com/charmbracelet/bubbletea"

	"etcd-rewind/restore"
	"etcd-rewind/steps"
	"etcd-rewind/trust"
	"etcd-rewind/ui/pane"
	"etcd-rewind/ui/text"
)

type membersMsg struct {
	asked int
	flow  restore.Flow
	names []string
	err   error
}

// toMembers shows the members of the cluster, as it is known with the chosen
// snapshot.
func (m *model) toMembers() tea.Cmd {
	m.screen = membersScreen
	if m.nodes.session != nil && m.flow.Want.Info == m.info && len(m.members.Names) > 0 && m.members.Err == nil {
		return nil
	}
	return m.findMembers()
}

// findMembers reaches for all nodes anew.
func (m *model) findMembers() tea.Cmd {
	p := &m.members
	p.Begin(m.now())
	m.checks.Asked++ // of nodes that are let go
	m.begin(func() (restore.Nodes, error) { return m.options.Nodes(nil), nil })
	asked, s, f := p.Asked, m.nodes.session, m.flowNow()
	return func() tea.Msg {
		msg := membersMsg{asked: asked}
		msg.err = s.do(func(ctx context.Context, n restore.Nodes) (err error) {
			f.Nodes = n
			err = f.Find(ctx)
			msg.names = slices.Sorted(slices.Values(n.Names()))
			return err
		})
		msg.flow = f
		return msg
	}
}

func (m *model) foundMembers(msg membersMsg) {
	p := &m.members
	if msg.asked != p.Asked {
		return
	}
	m.flow = msg.flow
	p.Set(msg.flow.Members, msg.names, msg.err)
	// What was decided here isn't asked again among the checks.
	for _, v := range m.flow.Found() {
		if v.Check == steps.CheckMembers && v.Level == steps.Warn && p.Kept() {
			m.checks.Accepted[pane.Judged{Verdict: v, On: text.TheCluster}.Key()] = v
		}
	}
}

func (m *model) membersKey(k tea.KeyMsg) tea.Cmd {
	p := &m.members
	if p.Asks() {
		named, note := p.TypeHost(k, m.options.reachedBy())
		if m.note = note; named {
			return m.findMembers()
		}
		return nil
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
		if p.Busy {
			p.Busy = false
			m.nodes.close()
		}
		m.screen = chooseScreen
		return m.lookInside()
	case "r":
		return m.findMembers()
	case "a":
		if !m.here.CanBeAlone() {
			m.note = "This node can't be restored alone: it is one of several members, and would become a cluster of one."
			return nil
		}
		m.here.Alone = true
		m.here.Judge(m.info)
		return m.thisNode()
	}
	if p.Busy {
		return nil
	}
	if cur, ok := pane.Move(p.Cur, len(p.Members), name, 5); ok {
		p.Cur = cur
		return nil
	}
	c := p.Current()
	switch name {
	case "t":
		switch {
		case c == nil:
		case c.Out:
			p.Without = slices.DeleteFunc(p.Without, func(n string) bool { return n == c.Name })
			return m.findMembers()
		case p.Odd(c):
			p.Keep()
			m.foundMembers(membersMsg{p.Asked, m.flow, p.Names, nil})
		}
	case "o":
		switch {
		case c == nil:
		case c.Local:
			m.note = c.Name + " is this node. To exclude it, run etcd-rewind on another one."
		case c.Out:
			m.note = c.Name + " is excluded already; t includes it again."
		default:
			m.ask(askToExclude(p))
		}
	case "h":
		switch {
		case c == nil || c.Out:
		case c.Local:
			m.note = c.Name + " is this node: nothing has to reach it."
		default:
			p.AskHost(m.look)
		}
	case "enter", "right":
		return m.membersDone()
	}
	return nil
}

func (m *model) membersDone() tea.Cmd {
	if m.note = m.members.Undecided(); m.note != "" {
		return nil
	}
	return m.toChecks()
}

// askToExclude asks before the current member is left out.
func askToExclude(p *pane.Members) question {
	name := trust.Text(p.Current().Name)
	return question{
		Title: "Exclude " + name + " from the restored cluster?",
		Text:  []string{"The restored cluster then has only " + text.Listed(p.Survivors()) + ". " + name + " is no longer a member, and its etcd must never run again on the data it has: stop kubelet there, or keep the machine off. To rejoin it, once the others are restored:"},
		Facts: text.Rejoin(),
		Answers: []answer{reply("y", "exclude it", func(m *model) tea.Cmd {
			p.Without = append(p.Without, p.Current().Name)
			return m.findMembers()
		}), reply("n", "keep it", nil)},
	}
}
