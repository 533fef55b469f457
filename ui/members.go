package ui

import (
	"maps"
	"slices"

	tea "github.com/charmbracelet/bubbletea"

	"etcd-rewind/restore"
	"etcd-rewind/snapshot"
	"etcd-rewind/steps"
	"etcd-rewind/trust"
	"etcd-rewind/ui/pane"
	"etcd-rewind/ui/text"
)

// Which nodes are restored is decided here: this one alone, or those of all
// members. All that follows goes through restore.Flow, for one as for several.

// begin begins the way to a plan on these nodes, with the chosen snapshot.
func (m *model) begin(nodes func() (restore.Nodes, error)) {
	want := m.options.Want
	want.Hosts, want.Without = maps.Clone(m.members.Hosts), slices.Clone(m.members.Without)
	want.Here, want.Info = m.here.Facts, m.info
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
	p.Asked++
	p.Busy, p.Members, p.Names = false, nil, nil
	m.begin(m.local)
	return m.toChecks()
}

// several says whether all members are restored as one.
func (m *model) several() bool { return m.here.Several(m.chosen()) }

// chosen is the snapshot, once it is chosen for good.
func (m *model) chosen() *snapshot.Info {
	if m.screen.after(chooseScreen) {
		return m.info
	}
	return nil
}

// reachedBy is how the others are reached, for people.
func (o *Options) reachedBy() string {
	if o.Rsh != "" {
		return trust.Text(o.Rsh)
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
	for _, o := range m.members.Members {
		if o.Local {
			return o.Name
		}
	}
	return m.here.Member()
}

// repoint goes on to the checks of pointing etcd at the older data beside its
// own.
func (m *model) repoint() tea.Cmd {
	c, database, err := m.here.Facts.InPlace(m.here.Facts.Older[0].Dir, steps.Choices{})
	if err != nil {
		m.note, _ = text.Explain(err)
		return nil
	}
	m.here.InPlace, m.info = &pane.InPlace{DataDir: c.DataDir, Database: database}, nil
	m.picker.pause()
	m.diff.stop()
	m.diff = diffPane{asked: m.diff.asked + 1}
	return m.thisNode()
}
