package ui

import (
	"context"
	"errors"
	"fmt"
	"io"

	tea "github.com/charmbracelet/bubbletea"

	"etcd-rewind/settle"
	"etcd-rewind/steps"
	"etcd-rewind/trust"
	"etcd-rewind/ui/pane"
	"etcd-rewind/ui/text"
)

// Settling is how the wizard finds and settles what the cluster owes. Its methods
// are called from goroutines of their own and may take their time.
type Settling interface {
	// Find looks for all that is owed; others asks nodes over the remote shell, too.
	// tell hears what is being done.
	Find(ctx context.Context, others bool, tell func(doing string)) (*settle.Found, error)
	// Settle settles a debt that was found last, and keeps a record.
	Settle(ctx context.Context, d settle.Debt) (settle.Settled, error)
}

// owedPane shows what the cluster owes.
type owedPane struct {
	pane.Settle
	from   screen // where esc leads
	others bool   // other nodes are asked, too
	asked  int    // older answers don't count
	cancel context.CancelFunc
	kept   []settle.Settled // by this wizard, of earlier looks too
}

type (
	owedDoingMsg struct {
		asked int
		doing string
	}
	owedMsg struct {
		asked int
		found *settle.Found
		err   error
	}
	settledMsg struct {
		settle.Settled
		err error
	}
)

func (msg owedDoingMsg) Replaces(older any) (yes, further bool) {
	last, ok := older.(owedDoingMsg)
	return ok && last.asked == msg.asked, false
}

// stop ends what is being looked at.
func (o *owedPane) stop() {
	if o.cancel != nil {
		o.cancel()
		o.cancel = nil
	}
	o.asked++
}

// toOwed shows what the cluster owes, and looks for it.
func (m *model) toOwed(others bool) tea.Cmd {
	if m.options.Settling == nil {
		return nil
	}
	if m.screen != owedScreen {
		m.owed.from = m.screen
	}
	m.screen, m.owed.others = owedScreen, others
	m.owed.stop()
	ctx, cancel := context.WithCancel(m.ctx)
	m.owed.cancel = cancel
	m.owed.Settle = pane.Settle{Busy: true, Doing: "reading the node", Since: m.now()}
	asked, box, by := m.owed.asked, m.box, m.options.Settling
	return func() tea.Msg {
		found, err := by.Find(ctx, others, func(doing string) {
			if doing != "" {
				box.put(owedDoingMsg{asked, doing})
			}
		})
		return owedMsg{asked, found, err}
	}
}

func (m *model) foundOwed(msg owedMsg) {
	if msg.asked == m.owed.asked && !errors.Is(msg.err, context.Canceled) {
		m.owed.Set(msg.found, msg.err)
	}
}

// askToSettle asks before a debt is settled; what restarts something once more.
func askToSettle(d *settle.Debt) question {
	q := question{Title: "Settle it: " + text.DebtTitle(d.Kind) + "?"}
	q.Text = []string{trust.Text(d.Is) + "."}
	for _, c := range d.Commands {
		q.Facts = append(q.Facts, steps.Fact{Name: "Does", Value: trust.Text(c)})
	}
	do := (*model).settleIt
	if d.Sure != "" {
		do = func(m *model) tea.Cmd { m.ask(askToSettleSurely(d)); return nil }
	}
	q.Answers = []answer{reply("y", "settle it", do), reply("n", "leave it", nil)}
	return q
}

func askToSettleSurely(d *settle.Debt) question {
	return question{
		Title: "Do it now?", Text: []string{trust.Text(d.Sure)},
		Answers: []answer{reply("y", "yes, do it", (*model).settleIt), reply("n", "leave it", nil)},
	}
}

// settleIt settles the marked debt.
func (m *model) settleIt() tea.Cmd {
	d := m.owed.Current()
	if d == nil || m.owed.Working() {
		return nil
	}
	m.owed.Begin(m.now())
	ctx, by, debt := m.ctx, m.options.Settling, *d
	return func() tea.Msg {
		done, err := by.Settle(ctx, debt)
		return settledMsg{done, err}
	}
}

func (m *model) wasSettled(msg settledMsg) {
	if msg.err != nil && msg.Error == "" {
		msg.Error, _ = text.Explain(msg.err)
	}
	m.owed.Settled(msg.Settled)
	m.owed.kept = append(m.owed.kept, msg.Settled)
}

// tellSettled prints below the terminal's screen what was settled.
func tellSettled(out io.Writer, l text.Look, all []settle.Settled) {
	for _, s := range all {
		if s.Done {
			_, _ = fmt.Fprintln(out, l.Finish(" "+text.SymDone+" settled: "+trust.Text(s.Name()+": "+s.Said)))
		} else {
			_, _ = fmt.Fprintln(out, l.Finish(" "+text.SymBad+" not settled: "+trust.Text(s.Name()+": "+s.Error)))
		}
	}
}
