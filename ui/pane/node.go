package pane

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"etcd-rewind/snapshot"
	"etcd-rewind/steps"
	"etcd-rewind/trust"
	"etcd-rewind/ui/text"
)

// DiscoveringView says what is read.
func DiscoveringView(l text.Look, now time.Time, w int) ([]string, string, []Hint) {
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
	return lines, "", []Hint{{"q", "quit"}}
}

// NodeText is what else the first screen says.
type NodeText struct {
	Intro     string // what the user is here for
	Version   string // of this program
	ReachedBy string // how other nodes are
}

// Node is this node as it was read, and whether it is restored alone or with
// the other members.
type Node struct {
	Facts    *steps.Facts
	Refusal  error           // it can't be read
	Verdicts []steps.Verdict // of the node itself
	Early    []steps.Verdict // those that block, and that nobody can accept
	Led      bool            // the nodes of other members can be led from here
	Settles  bool            // what the cluster owes can be shown
	Alone    bool            // one of several members is restored without the others
	InPlace  *InPlace        // instead of a snapshot; nil for one
	Page     Page
}

// InPlace is data that lies on this node, and to which etcd is to be pointed
// instead of restoring a snapshot.
type InPlace struct{ DataDir, Database string }

// several says whether all members are restored as one.
func (n *Node) Several(info *snapshot.Info) bool {
	return n.Led && !n.Alone && n.InPlace == nil && (n.apart() || len(n.Names(info)) > 1)
}

// apart says that etcd and an API server that uses it are on different nodes.
func (n *Node) apart() bool {
	return n.Facts != nil && (n.Facts.Apart() || len(n.Facts.OtherAPIServers) > 0)
}

// withOthers says that this node is one of several, as far as it knows itself.
func (n *Node) withOthers() bool { return n.apart() || len(n.Names(nil)) > 1 }

// needsOthers are the checks by which a node can't be restored alone.
func needsOthers(v steps.Verdict) bool {
	return v.Level == steps.Error && !v.Overridable && (v.Check == steps.CheckTopology || v.Check == steps.CheckEtcdHosts)
}

// names are all members that this node and the snapshot, if there is one, know of.
func (n *Node) Names(info *snapshot.Info) []string {
	var names []string
	add := func(name string) {
		if name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if f := n.Facts; f != nil {
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
func (n *Node) CanBeAlone() bool {
	return !slices.ContainsFunc(n.Verdicts, needsOthers)
}

// judge finds what the node itself is refused for.
func (n *Node) Judge(info *snapshot.Info) {
	n.Early = nil
	for _, v := range n.Verdicts {
		if v.Level == steps.Error && !v.Overridable && !(needsOthers(v) && n.Several(info)) {
			n.Early = append(n.Early, v)
		}
	}
}

// unfinished says whether there is an earlier run to settle.
func (n *Node) Unfinished() bool {
	return n.Refusal == nil && n.Facts != nil && n.Facts.Unfinished != nil
}

// refused says whether there is no way on from this node as it is.
func (n *Node) Refused() bool { return n.Refusal != nil || len(n.Early) > 0 }

// canRepoint says whether there is data to point etcd at.
func (n *Node) CanRepoint() bool { return !n.Refused() && n.Facts != nil && len(n.Facts.Older) > 0 }

// member is this node's name as a member of etcd, its own where it has none.
func (n *Node) Member() string {
	switch f := n.Facts; {
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
func (n *Node) View(l text.Look, o NodeText, watched bool, w, h int) ([]string, string, []Hint) {
	lines := []string{""}
	help := []Hint{{"r", "read again"}, {"u", "earlier runs"}, {"?", "help"}, {"q", "quit"}}
	if n.Settles {
		help = slices.Insert(help, 0, Hint{"o", "what is owed"})
	}
	if n.Unfinished() {
		help = append([]Hint{{"esc", "the earlier run"}}, help...)
	}
	switch {
	case n.Refusal != nil:
		title := "This node can't be restored"
		if watched {
			title = "The run can't be shown"
		}
		lines = append(append(lines, why(l, text.SymBad, title, n.Refusal, w)...), "")
	case len(n.Early) > 0:
		lines = append(lines, " "+l.Symbol(text.SymBad)+" "+l.Bold.Render("This node can't be restored as it is"), "")
		for i, v := range n.Early {
			if i == 3 && len(n.Early) > 4 {
				lines = append(lines, fmt.Sprintf("   and %d more; etcd-rewind check lists all of them", len(n.Early)-i), "")
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
		lines = append(lines, n.head(l, o.ReachedBy, w)...)
		lines = append(lines, n.warnings(l, w)...)
		help = append([]Hint{{"enter", "choose the snapshot"}}, help...)
		if n.CanRepoint() {
			help = append([]Hint{{"p", "point etcd at that data"}}, help...)
		}
		switch {
		case !n.Led || !n.withOthers():
		case n.Alone:
			help = slices.Insert(help, 1, Hint{"a", "all members"})
		case n.CanBeAlone():
			help = slices.Insert(help, 1, Hint{"a", "this node alone"})
		}
	}
	if n.Facts != nil {
		lines = append(lines, text.Indent(3, text.Facts(nodeFacts(n.Facts), w-4))...)
	}
	if v := o.Version; v != "" {
		lines = append(lines, "", l.Faint.Render("   etcd-rewind "+trust.Text(v)))
	}
	seen, where := n.Page.Show(lines, h)
	if where != "" {
		help = slices.Insert(help, len(help)-1, Hint{"↑↓", "scroll"})
	}
	return seen, where, help
}

// warnings says before anybody chooses a snapshot that etcd serves a blank
// cluster, where the intact data lies, and the command that goes there; and that
// the backups don't come.
func (n *Node) warnings(l text.Look, w int) []string {
	var lines []string
	for _, v := range n.Verdicts {
		title := map[string]string{steps.CheckOlderData: "A restore may not be what this node needs", steps.CheckBackups: "Check the backups of this cluster"}[v.Check]
		if title != "" && v.Level == steps.Warn {
			lines = append(lines, " "+l.Symbol(text.SymWarn)+" "+l.Bold.Render(title), "")
			lines = append(lines, text.Indent(3, text.Facts(text.Advice(trust.Text(v.Cause), trust.Text(v.Hint)), w-4))...)
			lines = append(lines, "")
		}
	}
	return lines
}

// head says what is restored.
func (n *Node) head(l text.Look, reachedBy string, w int) []string {
	names := n.Names(nil)
	others := "The others are reached over " + reachedBy + "."
	title, sentence := "One of "+text.Number(int64(len(names)))+" control planes with an etcd member: "+text.Listed(names),
		"All are restored as one: the same snapshot everywhere, in step. "+others
	switch f := n.Facts; {
	case n.apart() && f.Etcd == nil:
		title = "A control plane whose etcd runs on other nodes"
		sentence = "Etcd's nodes and all control planes are restored as one, in step. " + others
	case n.apart() && len(names) < 2:
		title = "The node of etcd's only member"
		sentence = "kube-apiserver runs on other nodes: all are restored as one, in step. " + others
	case n.apart():
		title = "One of etcd's " + text.Number(int64(len(names))) + " members: " + text.Listed(names)
		sentence = "kube-apiserver runs on other nodes: all are restored as one, in step. " + others
	case len(names) < 2 && f != nil && f.Etcd != nil && f.EtcdPod() == nil:
		title, sentence = "A control plane with one etcd member, run by systemd", ""
	case len(names) < 2:
		title, sentence = "A control plane with one etcd member, run by kubelet as a static pod", ""
	}
	switch {
	case sentence == "" || n.Several(nil):
	case n.apart():
		sentence = "This one is restored without the others: every kube-apiserver has to be stopped first."
	default:
		sentence = "This one is restored alone, and becomes a cluster with one member."
	}
	lines := []string{" " + l.Symbol(text.SymDone) + " " + l.Bold.Render(text.Cut(title, w-3))}
	if sentence != "" {
		lines = append(lines, text.Hang("   ", sentence, w-2)...)
	}
	return append(lines, "")
}

// nodeFacts is what the first screen says about the node.
func nodeFacts(f *steps.Facts) []steps.Fact {
	var list text.About
	list.Add("Node", f.Node)
	if k := f.Kubelet; k != nil {
		list.Add("kubelet", strings.TrimPrefix(k.Version, "v"), "manifests in "+k.StaticPodPath)
	}
	if f.Runtime != "" {
		list.Add("Containers", f.Runtime)
	} else if f.RuntimeErr != nil {
		list.Add("Containers", "the runtime doesn't answer: "+f.RuntimeErr.Error())
	}
	if e := f.Etcd; e != nil {
		list.Add("etcd", f.EtcdVersion, e.Source.Path())
		list.Add("Its data", e.DataDir.Path)
	}
	switch l := f.Live; {
	case l != nil:
		keys := ""
		if l.Keys > 0 {
			keys = text.Plural(int(l.Keys), "key", "keys")
		}
		list.Add("Now", fmt.Sprintf("revision %d", l.Revision), keys, text.Size(l.DBSize), text.Plural(len(l.Members), "member", "members"))
	case f.LiveErr != nil:
		list.Add("Now", "etcd doesn't answer: "+f.LiveErr.Error())
	}
	if a := f.API; a != nil {
		if f.Etcd == nil {
			list.Add("etcd", "on other nodes", strings.Join(a.EtcdServers, ", "))
		}
		state := f.APIState
		if state == "" && f.APIReady {
			state = "ready"
		}
		list.Add("kube-apiserver", strings.TrimPrefix(f.KubernetesVersion, "v"), state)
	}
	if b := f.Backups; b != nil && !b.Good().IsZero() {
		list.Add("Last backup", steps.Ago(b.Good(), f.Time))
	}
	if u := f.Unfinished; u != nil {
		list.Add("Earlier run", u.Run+" was interrupted", u.Command("undo")+" undoes it")
	}
	list.Add("Kept in", f.StateDir)
	return list
}
