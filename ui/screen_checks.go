package ui

import (
	"context"

	tea "github.com/charmbracelet/bubbletea"

	"etcd-rewind/restore"
	"etcd-rewind/steps"
	"etcd-rewind/ui/pane"
	"etcd-rewind/ui/text"
)

type checkedMsg struct {
	asked int
	flow  restore.Flow
	err   error
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
	c.Begin(m.members.Names, m.localMember(), m.flow.Sent())
	asked, s, f, there := c.Asked, m.nodes.session, m.flowNow(), m.here.InPlace
	return func() tea.Msg {
		err := s.do(func(ctx context.Context, n restore.Nodes) error {
			f.Nodes = n
			if there != nil && f.Want.Info == nil {
				f.Inspect(ctx, there.Database, func(int64, int64) {})
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
	if msg.asked != m.checks.Asked {
		return
	}
	m.flow = msg.flow
	m.checks.Set(msg.flow.Checked, msg.err)
}

// settled are the choices with the checks accepted so far.
func (m *model) settled() steps.Choices {
	c := m.choices.Choices
	c.Accept = m.checks.Names()
	if p := m.here.InPlace; p != nil {
		c.InPlace, c.DataDir, c.Bump = true, p.DataDir, nil
	}
	return c
}

func (m *model) checkKey(k tea.KeyMsg) tea.Cmd {
	c := &m.checks
	if m.choices.Asks() {
		cmd, _ := m.choiceKey(k)
		return cmd
	}
	if c.Asks() {
		m.note = c.Type(k)
		return nil
	}
	switch name := k.String(); name {
	case "q":
		return m.quit()
	case "?":
		m.over = newOverlay(helpOverlay)
	case "esc", "left":
		c.Asked++ // an answer on its way is for nobody
		if m.several() {
			if c.Busy {
				m.nodes.close() // what is on its way there stops
			}
			c.Busy = false
			return m.toMembers()
		}
		c.Busy = false
		m.screen = chooseScreen
		if m.here.InPlace != nil {
			m.screen, m.here.InPlace = nodeScreen, nil
		}
		return m.lookInside()
	}
	if c.Busy {
		return nil
	}
	if cur, ok := pane.Move(c.Cur, len(c.Verdicts), k.String(), 8); ok {
		c.Cur = cur
		return nil
	}
	if cmd, ok := m.choiceKey(k); ok {
		return cmd
	}
	switch k.String() {
	case "r":
		return m.check()
	case " ", "a":
		v := c.Current()
		switch {
		case v == nil || v.Level == steps.Pass:
		case v.Accepted:
			c.Accept(v, false)
		case v.Level == steps.Warn:
			c.Accept(v, true)
			c.Next()
		case v.Overridable:
			c.Ask(m.look)
		default:
			m.note = v.Check + " can't be overridden. Fix it, then check again with r."
		}
	case "enter", "right":
		if c.Err != nil {
			m.note = "Not every node could be checked. r tries again."
			return nil
		}
		if s := text.Blocked(c.Plain()); s != "" {
			m.note = s
			c.Next()
			return nil
		}
		m.screen = planScreen
		return m.makePlan(false)
	}
	return nil
}
