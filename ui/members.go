package ui

import (
	"maps"
	"slices"

	tea "github.com/charmbracelet/bubbletea"

	"etcd-rewind/restore"
	"etcd-rewind/steps"
	"etcd-rewind/trust"
	"etcd-rewind/ui/text"
)

// Which nodes are restored is decided here: this one alone, or those of all
// members. All that follows goes through restore.Flow, for one as for several.

// begin begins the way to a plan on these nodes, with the chosen snapshot.
func (m *model) begin(nodes func() (restore.Nodes, error)) {
	want := m.options.Want
	want.Hosts, want.Without = maps.Clone(m.members.hosts), slices.Clone(m.members.without)
	want.Here, want.Info = m.facts, m.info
	m.flow = restore.Flow{Engine: m.backend, Want: want}
	m.nodes.open(m.ctx, nodes)
}

// local is this node, without any other.
func (m *model) local() (restore.Nodes, error) { return &restore.Local{Engine: m.backend}, nil }

// flowNow is the way so far, with the choices made, and the comparison where
// there is one by now.
func (m *model) flowNow() restore.Flow {
	f, d := m.flow, &m.diff
	f.Choices = m.settled()
	if d.Result != nil || d.Err != nil {
		f.Compared(d.Result, d.Err)
	}
	return f
}

// thisNode goes on to the checks of this node alone.
func (m *model) thisNode() tea.Cmd {
	p := &m.members
	p.turn++
	p.busy, p.members, p.names = false, nil, nil
	m.begin(m.local)
	return m.toChecks()
}

// several says whether all members are restored as one.
func (m *model) several() bool {
	return m.options.Nodes != nil && !m.alone && m.inPlace == nil && len(m.memberNames()) > 1
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
	if m.info != nil && m.screen.after(chooseScreen) {
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
		if v.Level == steps.Error && !v.Overridable && (v.Check != topology || !m.several()) {
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

// localMember is this node's name among the members.
func (m *model) localMember() string {
	for _, o := range m.members.members {
		if o.Local {
			return o.Name
		}
	}
	switch f := m.facts; {
	case f == nil:
		return ""
	case f.Etcd != nil:
		return f.Etcd.Name
	default:
		return f.Node
	}
}

// inPlace is data that lies on this node, and to which etcd is to be pointed
// instead of restoring a snapshot.
type inPlace struct{ dataDir, database string }

// repoint goes on to the checks of pointing etcd at the older data beside its
// own.
func (m *model) repoint() tea.Cmd {
	c, database, err := m.facts.InPlace(m.facts.Older[0].Dir, steps.Choices{})
	if err != nil {
		m.note, _ = text.Explain(err)
		return nil
	}
	m.inPlace, m.info = &inPlace{c.DataDir, database}, nil
	m.picker.pause()
	m.diff.stop()
	m.diff = diffPane{turn: m.diff.turn + 1}
	return m.thisNode()
}

// canRepoint says whether there is data to point etcd at.
func (m *model) canRepoint() bool { return !m.refused() && m.facts != nil && len(m.facts.Older) > 0 }
