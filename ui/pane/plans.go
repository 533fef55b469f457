package pane

import (
	"slices"
	"strings"
	"time"

	"etcd-rewind/restore"
	"etcd-rewind/snapshot"
	"etcd-rewind/steps"
	"etcd-rewind/trust"
	"etcd-rewind/ui/text"
)

// Plans shows the plans of the nodes, and the choices that shape them.
type Plans struct {
	Busy  bool
	Asked int
	Plan  *steps.Plan // this node's, or what stands for it
	Err   error
	Page  Page

	Verb restore.Verb // what is done with an earlier run; "" for a new restore
	Just bool         // that run has just ended, and is on the screen

	All    []*steps.Plan             // of every node
	Names  []string                  // of several nodes; none for a node alone
	At     int                       // the node whose plan is shown, counted from 1; 0 for what they have in common
	States map[string]steps.RunState // of the earlier run, on several nodes
}

// shown is what the plan on the screen restores, nil when there is none.
func (p *Plans) Shown(onScreen bool) *steps.RestoreFacts {
	if !onScreen || p.Plan == nil {
		return nil
	}
	return p.Plan.Restore
}

// begin waits for the plans.
func (p *Plans) Begin() {
	p.Asked++
	p.Busy, p.Err, p.Verb = true, nil, ""
}

// Set takes the plans, or why there are none: plan is this node's, or what
// stands for all, names and states are those of several nodes.
func (p *Plans) Set(plan *steps.Plan, all []*steps.Plan, names []string, states map[string]steps.RunState, err error) {
	p.Busy, p.Plan, p.Err = false, plan, err
	p.All, p.Names, p.States = all, names, states
	p.At = min(p.At, len(all))
	p.Page.Top = 0
}

// several says whether the plans are those of several nodes.
func (p *Plans) Several() bool { return len(p.Names) > 0 }

// PlanText is what is shown around a plan.
type PlanText struct {
	Choices  *Choices
	InPlace  bool     // nothing is restored: etcd is pointed at data that is there
	Excluded []string // members that have no part in the restored cluster
	Changes  *snapshot.Comparison
}

// View shows the plan of a node, or what those of all have in common.
func (p *Plans) View(l text.Look, now time.Time, o PlanText, w, h int) ([]string, string, []Hint) {
	help := []Hint{{"enter", "confirm"}, {"↑↓", "scroll"}, {ChangeKeys(o.InPlace), "change"}, {"/", "search"}, {"e", "export"}, {"?", "help"}, {"esc", "back"}, {"q", "quit"}}
	var lines []string
	if p.Verb != "" {
		help = []Hint{{"enter", "confirm"}, {"↑↓", "scroll"}, {"/", "search"}, {"e", "export"}, {"esc", "back"}, {"q", "quit"}}
	} else {
		lines = append(o.Choices.Rows(l, p.Shown(true), o.InPlace, w), "")
	}
	if p.Several() && len(p.All) > 0 {
		help = slices.Insert(help, 1, Hint{"tab", "each node"})
	}
	switch {
	case p.Busy:
		return append(lines, " "+text.Spin(now)+" "+l.Bold.Render("Planning")), "", help[1:]
	case p.Err != nil:
		return append(lines, why(l, text.SymBad, "There is no plan", p.Err, w)...), "", help[1:]
	case p.Plan == nil:
		return lines, "", help[1:]
	}
	title, tail, sentence := trust.Text(p.Plan.Title), "  the commands do the same by hand", []string(nil)
	switch {
	case !p.Several():
		sentence = text.Plan(p.Plan, w-1)
	case p.At > 0:
		title, sentence = trust.Text(p.All[p.At-1].Title), text.Plan(p.All[p.At-1], w-1)
	case p.Verb != "":
		tail, sentence = "", p.againText(w-1)
	default:
		tail, sentence = "", p.commonText(o, w-1)
		if r := p.Plan.Restore; r != nil {
			title = "Restore " + trust.Text(snapshot.BaseName(r.Snapshot)) + " on " + text.Listed(p.Names)
		}
	}
	lines = append(lines, text.Cut(" "+l.Bold.Render(title)+l.Faint.Render(tail), w))
	h -= len(lines)
	seen, where := p.Page.Show(paint(l, text.Narrow(sentence, w-1)), h)
	return append(lines, seen...), where, help
}

// againText says what is done with an earlier run on several nodes.
func (p *Plans) againText(w int) []string {
	var list []steps.Fact
	for _, name := range p.Names {
		list = append(list, steps.Fact{Name: name, Value: stateWords(p.States[name])})
	}
	out := append(text.Indent(1, text.Facts(list, w-1)), "")
	say := "All nodes are undone at the same time; tab shows what is done on each. Each etcd runs on the data it had before."
	switch p.Verb {
	case restore.Redo:
		say = "All nodes switch to the restored data again at the same time; tab shows what is done on each."
	case restore.Resume:
		say = "Each node resumes where its journal ends, and waits for the others at the end of each phase; tab shows what is done on each. What is done is not done again."
	}
	out = append(out, text.Hang(" ", say, w)...)
	for _, name := range p.Names {
		if p.States[name] == restore.RunUnreachable {
			out = append(out, "")
			out = append(out, text.Hang(" "+text.SymWarn+" ", name+" can't be reached now. It is tried again for a while, and the same can be done there later: etcd-rewind.", w)...)
		}
	}
	return out
}

// commonText is what the plans of several nodes have in common, and where they
// differ.
func (p *Plans) commonText(o PlanText, w int) []string {
	var list text.About
	if r := p.Plan.Restore; r != nil {
		list.Add("snapshot", r.Snapshot+", revision "+text.Number(r.SnapshotRevision))
		list.Add("members", membersOf(r))
		list.Add("token", r.Token)
		say := text.Number(r.SnapshotRevision) + " + " + text.Number(int64(r.Bump)) + ", beyond what any client has seen"
		if r.Bump == 0 {
			say = "not raised"
		}
		list.Add("revision", say)
		if len(o.Excluded) > 0 {
			list.Add("excluded", text.Listed(o.Excluded)+": rejoin later")
		}
		if o.Changes != nil {
			list = append(list, text.Foreseen(o.Changes)...)
		}
	}
	for i, of := range p.All {
		name := of.Node
		if i < len(p.Names) {
			name = p.Names[i]
		}
		if of.Restore != nil {
			list.Add(name, of.Restore.Moves())
		}
	}
	out := append(text.Indent(1, text.Facts(list, w-1)), "")
	out = append(out, text.Hang(" ", "Every node runs its own plan (tab), and starts the next phase when all have finished the one before:", w)...)
	for i, ph := range steps.Phases {
		out = append(out, text.Hang("  "+text.Number(int64(i+1))+" "+text.Fit(ph.Name(), 11)+" ", PhaseMeans[ph], w)...)
	}
	return out
}

// membersOf names the restored cluster's members, and where they are.
func membersOf(r *steps.RestoreFacts) string {
	var all []string
	for _, m := range r.Members {
		for _, u := range m.PeerURLs {
			all = append(all, m.Name+"="+u)
		}
	}
	return strings.Join(all, ", ")
}

// stateWords say in which state an earlier run is on a node.
func stateWords(s steps.RunState) string {
	switch s {
	case "":
		return "has no such run: nothing was changed there"
	case restore.RunUnreachable:
		return "can't be reached"
	case steps.RunUnfinished:
		return "half restored: the run was interrupted"
	case steps.RunFailed:
		return "half restored: the run stopped or failed there"
	case steps.RunUndone:
		return "undone"
	}
	return string(s)
}

// paint makes steps bold, and colours what a diff adds and takes away.
func paint(look text.Look, lines []string) []string {
	out := make([]string, 0, len(lines))
	diff := false
	for _, l := range lines {
		text := strings.TrimLeft(l, " ")
		switch {
		case strings.HasPrefix(l, "Changes in "):
			diff = true
			l = look.Bold.Render(l)
		case diff && strings.HasPrefix(text, "+"):
			l = look.Good.Render(l)
		case diff && strings.HasPrefix(text, "-"):
			l = look.Bad.Render(l)
		case diff:
		case strings.HasPrefix(text, "$ "):
			l = look.Faint.Render(l)
		case len(l) > 3 && l[0] == ' ' && l[1] >= '0' && l[1] <= '9' || len(l) > 3 && l[0] >= '0' && l[0] <= '9':
			l = look.Bold.Render(l)
		}
		out = append(out, l)
	}
	return out
}
