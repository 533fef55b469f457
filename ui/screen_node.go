package ui

import (
	"fmt"
	"slices"
	"strings"
	"time"

	tea "github.com/charmbracelet/bubbletea"

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

func (m *model) nodeView(w int) ([]string, []pane.Hint) {
	lines := []string{""}
	help := []pane.Hint{{"r", "read again"}, {"?", "help"}, {"q", "quit"}}
	if m.unfinished() {
		help = []pane.Hint{{"esc", "the earlier run"}, {"r", "read again"}, {"?", "help"}, {"q", "quit"}}
	}
	switch {
	case m.refusal != nil:
		cause, advice := text.Explain(m.refusal)
		title := "This node can't be restored"
		if m.watches() {
			title = "The run can't be shown"
		}
		lines = append(lines, " "+m.look.Symbol(text.SymBad)+" "+m.look.Bold.Render(title), "")
		lines = append(lines, text.Indent(3, text.Facts(text.Advice(cause, advice), w-4))...)
		lines = append(lines, "")
	case len(m.early) > 0:
		lines = append(lines, " "+m.look.Symbol(text.SymBad)+" "+m.look.Bold.Render("This node can't be restored as it is"), "")
		for i, v := range m.early {
			if i == 3 && len(m.early) > 4 {
				lines = append(lines, fmt.Sprintf("   and %d more; etcd-rewind check lists all of them", len(m.early)-i), "")
				break
			}
			lines = append(lines, text.Indent(3, text.Facts(text.Advice(trust.Text(v.Cause), trust.Text(v.Hint)), w-4))...)
			lines = append(lines, "")
		}
	default:
		if m.options.Intro != "" {
			lines = append(lines, text.Hang(" ", trust.Text(m.options.Intro), w-1)...)
			lines = append(lines, "")
		}
		lines = append(lines, m.nodeHead(w)...)
		lines = append(lines, m.olderData(w)...)
		help = append([]pane.Hint{{"enter", "choose the snapshot"}}, help...)
		if m.canRepoint() {
			help = append([]pane.Hint{{"p", "point etcd at that data"}}, help...)
		}
		switch {
		case m.options.Nodes == nil || len(m.memberNames()) < 2:
		case m.alone:
			help = slices.Insert(help, 1, pane.Hint{"a", "all members"})
		case m.canBeAlone():
			help = slices.Insert(help, 1, pane.Hint{"a", "this node alone"})
		}
	}
	if m.facts != nil {
		lines = append(lines, text.Indent(3, text.Facts(nodeFacts(m.facts), w-4))...)
	}
	if v := m.options.Version; v != "" {
		lines = append(lines, "", m.look.Faint.Render("   etcd-rewind "+trust.Text(v)))
	}
	return lines, help
}

// olderData says before anybody chooses a snapshot that etcd serves a blank
// cluster, where the intact data lies, and the command that goes there.
func (m *model) olderData(w int) []string {
	var lines []string
	for _, v := range m.nodeVerdicts {
		if v.Check == "older-data" && v.Level == steps.Warn {
			lines = append(lines, " "+m.look.Symbol(text.SymWarn)+" "+m.look.Bold.Render("A restore may not be what this node needs"), "")
			lines = append(lines, text.Indent(3, text.Facts(text.Advice(trust.Text(v.Cause), trust.Text(v.Hint)), w-4))...)
			lines = append(lines, "")
		}
	}
	return lines
}

// nodeHead says what is restored.
func (m *model) nodeHead(w int) []string {
	names := m.memberNames()
	if len(names) < 2 {
		return []string{" " + m.look.Symbol(text.SymDone) + " " + m.look.Bold.Render("A control plane with one etcd member, run by kubelet as a static pod"), ""}
	}
	title, sentence := "One of "+text.Number(int64(len(names)))+" control planes with an etcd member: "+text.Listed(names),
		"All are restored as one: the same snapshot everywhere, in step. The others are reached through "+m.rsh()+"."
	if !m.several() {
		sentence = "This one is restored alone, and becomes a cluster with one member."
	}
	lines := []string{" " + m.look.Symbol(text.SymDone) + " " + m.look.Bold.Render(text.Cut(title, w-4))}
	return append(append(lines, text.Hang("   ", sentence, w-2)...), "")
}

// unfinished says whether there is an earlier run to settle.
func (m *model) unfinished() bool {
	return m.refusal == nil && m.facts != nil && m.facts.Unfinished != nil
}

// refused says whether there is no way on from this node as it is.
func (m *model) refused() bool { return m.refusal != nil || len(m.early) > 0 }

func (m *model) discovered(msg discoveredMsg) tea.Cmd {
	m.facts, m.refusal, m.screen = msg.facts, msg.err, nodeScreen
	if m.facts != nil {
		m.nodeVerdicts = explained(m.facts, msg.verdicts)
		m.judgeNode()
	}
	m.earlier.all = msg.record
	var stands tea.Cmd
	if m.refusal == nil && m.facts.Unfinished != nil {
		m.screen = earlierScreen
		stands = m.readStanding()
	}
	if m.refused() {
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
		if !m.unfinished() {
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
		if m.options.Nodes != nil && len(m.memberNames()) > 1 && (m.alone || m.canBeAlone()) {
			m.settleAlone(!m.alone)
		}
	case "p":
		if m.canRepoint() {
			return m.repoint()
		}
	case "enter", "right":
		if !m.refused() {
			m.screen = chooseScreen
			return m.lookInside()
		}
	default:
		m.nodeScroll.Key(name, m.bodyHeight())
	}
	return nil
}
