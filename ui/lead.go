package ui

import (
	"context"
	"slices"
	"sync"
	"time"

	"etcd-rewind/defect"
	"etcd-rewind/restore"
	"etcd-rewind/steps"
	"etcd-rewind/trust"
)

// lead is a conductor in the wizard's hands: it does one thing at a time, and
// is closed when another one takes its place.
type lead struct {
	nodes  restore.Nodes
	ctx    context.Context // of all but a run
	cancel context.CancelFunc
	turn   sync.Mutex
}

// do calls the conductor; what was under way before has to end first.
func (l *lead) do(what func(ctx context.Context, n restore.Nodes)) {
	l.turn.Lock()
	defer l.turn.Unlock()
	what(l.ctx, l.nodes)
}

// newLead takes a new conductor; the one before is closed.
func (m *model) newLead(rsh []string) *lead {
	m.dropLead()
	ctx, cancel := context.WithCancel(m.ctx)
	m.lead = &lead{nodes: m.options.Nodes(rsh), ctx: ctx, cancel: cancel}
	return m.lead
}

// dropLead ends the connections to the other nodes, without waiting for it;
// leads does.
func (m *model) dropLead() {
	l := m.lead
	if l == nil {
		return
	}
	m.lead = nil
	l.cancel()
	m.leads.Go(defect.Do(func() { l.do(func(_ context.Context, n restore.Nodes) { _ = n.Close() }) }))
}

// leaveAfter is how long the nodes of a run that was left may take.
const leaveAfter = 2 * time.Second

// abandon ends the connections to the nodes after Leave, so that no remote
// shell stays behind; it waits no longer than that.
func (m *model) abandon(patience time.Duration) {
	over := make(chan struct{})
	m.dropLead()
	go defect.Do(func() { m.leads.Wait(); close(over) })()
	select {
	case <-over:
	case <-time.After(patience):
	}
}

// together says whether all members are restored as one.
func (m *model) together() bool {
	return m.options.Nodes != nil && !m.alone && len(m.memberNames()) > 1
}

// memberNames are all members that this node and the snapshot know of.
func (m *model) memberNames() []string {
	var names []string
	add := func(name string) {
		if name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if f := m.facts; f != nil {
		if f.Etcd != nil {
			add(f.Etcd.Name)
			for _, e := range f.Etcd.InitialCluster {
				add(e.Name)
			}
		}
		if f.Live != nil {
			for _, e := range f.Live.Members {
				add(e.Name)
			}
		}
	}
	if m.info != nil && m.screen > chooseScreen {
		for _, e := range m.info.Members {
			add(e.Name)
		}
	}
	slices.Sort(names)
	return names
}

// topology is the check that refuses to restore one of several members alone.
const topology = "topology"

// canBeAlone says whether this node may be restored without the others.
func (m *model) canBeAlone() bool {
	return !slices.ContainsFunc(m.nodeVerdicts, func(v steps.Verdict) bool {
		return v.Check == topology && v.Level == steps.Error && !v.Overridable
	})
}

// settleAlone takes the user's word on whether this node is restored without
// the others.
func (m *model) settleAlone(alone bool) {
	m.alone = alone
	m.judgeNode()
}

// judgeNode finds what the node itself is refused for.
func (m *model) judgeNode() {
	m.early = nil
	for _, v := range m.nodeVerdicts {
		if v.Level == steps.Error && !v.Overridable && (v.Check != topology || !m.together()) {
			m.early = append(m.early, v)
		}
	}
}

// rsh is how the others are reached, for people.
func (m *model) rsh() string {
	if m.options.Rsh != "" {
		return trust.Text(m.options.Rsh)
	}
	return "ssh"
}

// leadRun is what a run on several nodes is made of.
type leadRun struct {
	lead  *lead
	names []string // of the nodes, as events have them
}

// run runs what was planned last. The run has a context of its own.
func (r *leadRun) run(ctx context.Context, sink func(restore.NodeEvent), ask restore.Asker) (res *restore.Result, err error) {
	r.lead.do(func(_ context.Context, n restore.Nodes) { res, err = n.Run(ctx, sink, ask) })
	return res, err
}

// readRecord reads with whom an earlier run of this node was made; nil for one
// of this node alone.
func (m *model) readRecord(runDir string) *restore.Record {
	if m.options.Nodes == nil || runDir == "" {
		return nil
	}
	rec, err := m.options.Record(runDir)
	if err != nil {
		return nil // it can be resumed and undone as a run of this node
	}
	rec.Paths = m.options.Want.Paths
	return rec
}

type sendProgressMsg struct {
	turn        int
	node        string
	done, total int64
}

// sentMsg says that every node has the snapshot, with the same sha256.
type sentMsg struct{ turn int }
