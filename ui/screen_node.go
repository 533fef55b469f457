package ui

import (
	"fmt"
	"slices"
	"strings"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"etcd-rewind/snapshot"
	"etcd-rewind/steps"
	"etcd-rewind/trust"
	"etcd-rewind/ui/pane"
	"etcd-rewind/ui/text"
)

// discoveringView says what is read.
func discoveringView(l text.Look, now time.Time, w int) ([]string, string, []pane.Hint) {
	lines := []string{
		"",
		" " + text.Spin(now) + " " + l.Bold.Render("Reading this node"),
		"",
	}
	for _, line := range []string{
		"kubelet's configuration and its manifest directory",
		"the manifests in it, as kubelet reads them",
		"the containers, over CRI",
		"etcd: version, revision, members",
		"kube-apiserver: is it ready",
	} {
		lines = append(lines, text.Hang("   "+text.SymLater+" ", line, w-1)...)
	}
	lines = append(lines, "")
	lines = append(lines, text.Hang("   ", "This only reads. Nothing on the node is changed before you have seen the plan and typed the node's name.", w-1)...)
	return lines, "", []pane.Hint{{"q", "quit"}}
}

// nodePane is this node as it was read, and whether it is restored alone or with
// the other members.
type nodePane struct {
	facts    *steps.Facts
	refusal  error           // it can't be read
	verdicts []steps.Verdict // of the node itself
	early    []steps.Verdict // those that block, and that nobody can accept
	led      bool            // the nodes of other members can be led from here
	alone    bool            // one of several members is restored without the others
	inPlace  *inPlace        // instead of a snapshot; nil for one
	page     pane.Page
}

// inPlace is data that lies on this node, and to which etcd is to be pointed
// instead of restoring a snapshot.
type inPlace struct{ dataDir, database string }

// several says whether all members are restored as one.
func (n *nodePane) several(info *snapshot.Info) bool {
	return n.led && !n.alone && n.inPlace == nil && len(n.names(info)) > 1
}

// names are all members that this node and the snapshot, if there is one, know of.
func (n *nodePane) names(info *snapshot.Info) []string {
	var names []string
	add := func(name string) {
		if name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if f := n.facts; f != nil {
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
	if info != nil {
		for _, e := range info.Members {
			add(e.Name)
		}
	}
	slices.Sort(names)
	return names
}

// canBeAlone says whether this node may be restored without the others.
func (n *nodePane) canBeAlone() bool {
	return !slices.ContainsFunc(n.verdicts, func(v steps.Verdict) bool {
		return v.Check == steps.CheckTopology && v.Level == steps.Error && !v.Overridable
	})
}

// judge finds what the node itself is refused for.
func (n *nodePane) judge(info *snapshot.Info) {
	n.early = nil
	for _, v := range n.verdicts {
		if v.Level == steps.Error && !v.Overridable && (v.Check != steps.CheckTopology || !n.several(info)) {
			n.early = append(n.early, v)
		}
	}
}

// unfinished says whether there is an earlier run to settle.
func (n *nodePane) unfinished() bool {
	return n.refusal == nil && n.facts != nil && n.facts.Unfinished != nil
}

// refused says whether there is no way on from this node as it is.
func (n *nodePane) refused() bool { return n.refusal != nil || len(n.early) > 0 }

// canRepoint says whether there is data to point etcd at.
func (n *nodePane) canRepoint() bool { return !n.refused() && n.facts != nil && len(n.facts.Older) > 0 }

// member is this node's name as a member of etcd, its own where it has none.
func (n *nodePane) member() string {
	switch f := n.facts; {
	case f == nil:
		return ""
	case f.Etcd != nil:
		return f.Etcd.Name
	default:
		return f.Node
	}
}

// view shows the node, what is restored, or why nothing can be; watched says that
// it is about the run of another process, which can't be shown.
func (n *nodePane) view(l text.Look, o *Options, watched bool, w, h int) ([]string, string, []pane.Hint) {
	lines := []string{""}
	help := []pane.Hint{{"r", "read again"}, {"u", "earlier runs"}, {"?", "help"}, {"q", "quit"}}
	if n.unfinished() {
		help = append([]pane.Hint{{"esc", "the earlier run"}}, help...)
	}
	switch {
	case n.refusal != nil:
		cause, advice := text.Explain(n.refusal)
		title := "This node can't be restored"
		if watched {
			title = "The run can't be shown"
		}
		lines = append(lines, " "+l.Symbol(text.SymBad)+" "+l.Bold.Render(title), "")
		lines = append(lines, text.Indent(3, text.Facts(text.Advice(cause, advice), w-4))...)
		lines = append(lines, "")
	case len(n.early) > 0:
		lines = append(lines, " "+l.Symbol(text.SymBad)+" "+l.Bold.Render("This node can't be restored as it is"), "")
		for i, v := range n.early {
			if i == 3 && len(n.early) > 4 {
				lines = append(lines, fmt.Sprintf("   and %d more; etcd-rewind check lists all of them", len(n.early)-i), "")
				break
			}
			lines = append(lines, text.Indent(3, text.Facts(text.Advice(trust.Text(v.Cause), trust.Text(v.Hint)), w-4))...)
			lines = append(lines, "")
		}
	default:
		if o.Intro != "" {
			lines = append(lines, text.Hang(" ", trust.Text(o.Intro), w-1)...)
			lines = append(lines, "")
		}
		lines = append(lines, n.head(l, o.reachedBy(), w)...)
		lines = append(lines, n.olderText(l, w)...)
		help = append([]pane.Hint{{"enter", "choose the snapshot"}}, help...)
		if n.canRepoint() {
			help = append([]pane.Hint{{"p", "point etcd at that data"}}, help...)
		}
		switch {
		case !n.led || len(n.names(nil)) < 2:
		case n.alone:
			help = slices.Insert(help, 1, pane.Hint{"a", "all members"})
		case n.canBeAlone():
			help = slices.Insert(help, 1, pane.Hint{"a", "this node alone"})
		}
	}
	if n.facts != nil {
		lines = append(lines, text.Indent(3, text.Facts(nodeFacts(n.facts), w-4))...)
	}
	if v := o.Version; v != "" {
		lines = append(lines, "", l.Faint.Render("   etcd-rewind "+trust.Text(v)))
	}
	seen, where := n.page.Show(lines, h)
	if where != "" {
		help = slices.Insert(help, len(help)-1, pane.Hint{"↑↓", "scroll"})
	}
	return seen, where, help
}

// olderText says before anybody chooses a snapshot that etcd serves a blank
// cluster, where the intact data lies, and the command that goes there.
func (n *nodePane) olderText(l text.Look, w int) []string {
	var lines []string
	for _, v := range n.verdicts {
		if v.Check == steps.CheckOlderData && v.Level == steps.Warn {
			lines = append(lines, " "+l.Symbol(text.SymWarn)+" "+l.Bold.Render("A restore may not be what this node needs"), "")
			lines = append(lines, text.Indent(3, text.Facts(text.Advice(trust.Text(v.Cause), trust.Text(v.Hint)), w-4))...)
			lines = append(lines, "")
		}
	}
	return lines
}

// head says what is restored.
func (n *nodePane) head(l text.Look, reachedBy string, w int) []string {
	names := n.names(nil)
	if len(names) < 2 {
		return []string{" " + l.Symbol(text.SymDone) + " " + l.Bold.Render("A control plane with one etcd member, run by kubelet as a static pod"), ""}
	}
	title, sentence := "One of "+text.Number(int64(len(names)))+" control planes with an etcd member: "+text.Listed(names),
		"All are restored as one: the same snapshot everywhere, in step. The others are reached through "+reachedBy+"."
	if !n.several(nil) {
		sentence = "This one is restored alone, and becomes a cluster with one member."
	}
	lines := []string{" " + l.Symbol(text.SymDone) + " " + l.Bold.Render(text.Cut(title, w-4))}
	return append(append(lines, text.Hang("   ", sentence, w-2)...), "")
}

func (m *model) discovered(msg discoveredMsg) tea.Cmd {
	m.here.facts, m.here.refusal, m.screen = msg.facts, msg.err, nodeScreen
	if m.here.facts != nil {
		m.here.verdicts = explained(m.here.facts, msg.verdicts)
		m.here.judge(nil)
	}
	m.earlier.all = msg.record
	var stands tea.Cmd
	if m.here.refusal == nil && m.here.facts.Unfinished != nil {
		m.screen = earlierScreen
		stands = m.readStanding()
	}
	if m.here.refused() {
		return stands
	}
	return tea.Batch(stands, m.findSnapshots())
}

// nodeFacts is what the first screen tells about the node.
func nodeFacts(f *steps.Facts) []steps.Fact {
	var list []steps.Fact
	add := func(name string, parts ...string) {
		var full []string
		for _, p := range parts {
			if p != "" {
				full = append(full, p)
			}
		}
		if len(full) > 0 {
			list = append(list, steps.Fact{Name: name, Value: strings.Join(full, " · ")})
		}
	}
	add("Node", f.Node)
	if k := f.Kubelet; k != nil {
		add("kubelet", strings.TrimPrefix(k.Version, "v"), "manifests in "+k.StaticPodPath)
	}
	if f.Runtime != "" {
		add("Containers", f.Runtime)
	} else if f.RuntimeErr != nil {
		add("Containers", "the runtime doesn't answer: "+f.RuntimeErr.Error())
	}
	if e := f.Etcd; e != nil {
		add("etcd", f.EtcdVersion, e.Source.Path())
		add("Its data", e.DataDir.Path)
	}
	switch l := f.Live; {
	case l != nil:
		keys := ""
		if l.Keys > 0 {
			keys = text.Plural(int(l.Keys), "key", "keys")
		}
		add("Now", fmt.Sprintf("revision %d", l.Revision), keys, text.Size(l.DBSize), text.Plural(len(l.Members), "member", "members"))
	case f.LiveErr != nil:
		add("Now", "etcd doesn't answer: "+f.LiveErr.Error())
	}
	if a := f.API; a != nil {
		state := f.APIState
		if state == "" && f.APIReady {
			state = "ready"
		}
		add("kube-apiserver", strings.TrimPrefix(f.KubernetesVersion, "v"), state)
	}
	if u := f.Unfinished; u != nil {
		add("Earlier run", u.Run+" was interrupted", u.Command("undo")+" undoes it")
	}
	add("Kept in", f.StateDir)
	return list
}

func (m *model) nodeKey(name string) tea.Cmd {
	switch name {
	case "esc":
		if !m.here.unfinished() {
			return m.quit()
		}
		m.screen = earlierScreen
	case "q":
		return m.quit()
	case "r":
		return m.discover()
	case "?":
		m.over = newOverlay(helpOverlay)
	case "a":
		if n := &m.here; n.led && len(n.names(nil)) > 1 && (n.alone || n.canBeAlone()) {
			n.alone = !n.alone
			n.judge(nil)
		}
	case "u":
		return m.toRuns()
	case "p":
		if m.here.canRepoint() {
			return m.repoint()
		}
	case "enter", "right":
		if !m.here.refused() {
			m.screen = chooseScreen
			return m.lookInside()
		}
	default:
		m.here.page.Key(name, m.bodyHeight())
	}
	return nil
}
