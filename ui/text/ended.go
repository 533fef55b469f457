package text

import (
	"strings"
	"time"

	"etcd-rewind/restore"
	"etcd-rewind/steps"
	"etcd-rewind/trust"
)

// Ended is what there is to say about the end of a run.
type Ended struct {
	*restore.Result
	Plan     *steps.Plan // of this node; nil when it isn't known
	Kind     string      // of the plan that was run last
	Several  bool        // it was led on several nodes
	Down     *time.Time  // since when the API is down, nil when it isn't
	Excluded []string    // members that have no part in the restored cluster
}

// Command is the command that does something with a plan's run: with that of
// several nodes on all of them.
func Command(p *steps.Plan, verb string, several bool) string {
	if several {
		verb += " --fleet"
	}
	return p.Command(verb)
}

// Left is what there is to say of a run that this process leaves in the middle.
// Its journal is in order at any moment: it is as if it were killed.
func Left(p *steps.Plan, several bool) *steps.Failure {
	undo := Command(p, "undo", several)
	on := "resume"
	if p.Kind == steps.KindRedo {
		on = "redo" // several nodes resume it by its own verb
	}
	ways := Command(p, on, several) + " continues, " + undo + " reverts it"
	if p.Kind == steps.KindUndo {
		ways = undo + " continues"
	}
	return &steps.Failure{Cause: "left in the middle of run " + p.Run, Hint: ways}
}

// outage is a sentence on the API, "" when it was not stopped.
func (e Ended) outage() string {
	switch {
	case e.Down != nil:
		return " The API is down since " + steps.Clock(*e.Down) + "."
	case e.OutageSeconds == 0:
		return ""
	case e.DownBefore():
		return " API down " + Seconds(e.OutageSeconds) + ", and before the run."
	}
	return " API down " + Seconds(e.OutageSeconds) + "."
}

// Ending says in one line how a run ended, with the symbol for it.
func (e Ended) Ending() (symbol, sentence string) {
	verb, node, are, restored, half := "Restored: ", "the node", "is", "the API server answers with the snapshot's data", "The node is half restored"
	if e.Plan != nil && e.Plan.Restore != nil && e.Plan.Restore.Home {
		verb, restored = "Moved: ", "etcd's data is in "+trust.Text(e.Plan.Restore.DataDir)+", and the API server answers"
	}
	if e.Plan != nil && e.Plan.Restore != nil && e.Plan.Restore.InPlace {
		verb, restored = "Repointed: ", "the API server answers with the data in "+trust.Text(e.Plan.Restore.DataDir)
	}
	if e.Plan != nil && !e.Plan.Serves() {
		restored = "etcd serves the snapshot's data"
		if !e.Plan.MeetsAPIServers() {
			restored += ". Start kube-apiserver on its nodes"
		}
	}
	if n := len(e.Nodes); n > 1 || n == 0 && e.Several {
		node = "all nodes" // how each ended isn't known
		if n > 0 {
			node = "all " + Plural(n, "node", "nodes")
		}
		are, restored, half = "are", node+" serve the snapshot's data, as one cluster", "Nodes are half restored"
		if n > 0 {
			half += "; see below"
		}
	}
	switch {
	case e.ExitCode() == 4:
		return SymWarn, "Not started. Nothing was changed."
	case e.OK && e.Kind == steps.KindUndo:
		return SymDone, "Undone: " + node + " " + are + " as before the restore." + e.outage()
	case e.OK:
		return SymDone, verb + restored + "." + e.outage()
	case e.Reverted && e.OutageSeconds == 0 && (e.Plan == nil || e.Plan.Serves()):
		return SymBad, "Not restored. Nothing was changed on the cluster."
	case e.Reverted:
		return SymBad, "Not restored. The run was undone: " + node + " " + are + " as before." + e.outage()
	case e.Kind == steps.KindUndo:
		return SymBad, "The undo was not finished: undo again, or inspect " + node + "." + e.outage()
	default:
		return SymBad, "Not restored. " + half + ": undo it, or inspect " + node + "." + e.outage()
	}
}

// Summary is what a screen says after a run.
func (e Ended) Summary(w int) []string { return e.summary(w, Hang) }

// SummaryWhole is Summary for text that is printed: no word is broken.
func (e Ended) SummaryWhole(w int) []string { return e.summary(w, HangWhole) }

func (e Ended) summary(w int, hang func(lead, s string, w int) []string) []string {
	symbol, sentence := e.Ending()
	out := hang(symbol+" ", sentence, w)
	if f := e.Error; f != nil && !e.OK {
		out = append(out, "")
		if !e.Several { // the cause names the node
			out = append(out, Indent(2, hang("", FailureTitle(f, e.Plan), w-2))...)
		}
		out = append(out, Indent(2, layFacts(Advice(f.Cause, f.Hint), w-2, hang))...)
	}
	if list := e.facts(); len(list) > 0 {
		out = append(out, "")
		out = append(out, Indent(2, layFacts(list, w-2, hang))...)
	}
	if len(e.Excluded) > 0 && !e.Reverted {
		out = append(append(out, ""), Indent(2, Excluded(e.Excluded, w-2))...)
	}
	return out
}

// facts are what a summary lists: how each node ended, or what the engine says
// of the only one, and the ways on.
func (e Ended) facts() []steps.Fact {
	var list About
	report := "" // the summary of a node names neither it nor the ways on
	for _, n := range e.Nodes {
		if e.Several {
			list = append(list, nodeEnding(n)...)
		}
		if r := n.Result; r != nil {
			if report == "" {
				report = r.Report
			}
			if !e.Several {
				list = append(list, r.Summary...)
			}
		}
	}
	if !e.Reverted {
		if e.Several {
			list.Add("kept", "the old data and manifests on every node, untouched")
		}
		if each := e.Several && len(e.Nodes) > 0; !each && !e.OK && e.Plan != nil && e.Kind == steps.KindRestore {
			list.Add("resume", Command(e.Plan, "resume", e.Several))
		}
		list.Add("undo", e.Undo)
	}
	list.Add("redo", e.Redo)
	if e.Several && (e.OK || e.Reverted) && e.Plan != nil { // the summary of a node says it
		list.Add("afterwards", trust.Text(e.Plan.Afterwards))
	}
	if e.Several && report != "" {
		report += ", on each node"
	}
	list.Add("report", report)
	return list
}

// nodeEnding says how a node ended, and what brings it to where the others are.
// What failed has been said before.
func nodeEnding(n restore.NodeResult) []steps.Fact {
	say := string(n.State)
	if r := n.Result; n.State == restore.Restored && r != nil && r.DataDir != "" {
		say += ": etcd runs from " + r.DataDir
	}
	if n.Phase != "" && (n.State == restore.HalfWay || n.State == restore.Unreachable) {
		say += ", reached: " + n.Phase.Name()
	}
	if n.Cause != "" && !n.Told {
		say += "; " + trust.Text(n.Cause)
	}
	list := []steps.Fact{{Name: trust.Text(n.Node), Value: say}}
	for i, do := range n.Do {
		name := "  run there"
		if i > 0 {
			name = "  or"
		}
		list = append(list, steps.Fact{Name: name, Value: do})
	}
	return list
}

// Excluded says how members that a restore has left out rejoin.
func Excluded(names []string, w int) []string {
	return append(HangWhole("", "Excluded: "+Listed(names)+". Rejoin each as a new member:", w), Indent(2, FactsWhole(Rejoin(), w-2))...)
}

// Rejoin is how a node that was left out becomes a member again.
func Rejoin() []steps.Fact {
	return []steps.Fact{
		{Name: "there", Value: "kubeadm reset"},
		{Name: "here", Value: "kubeadm init phase upload-certs --upload-certs; kubeadm token create --print-join-command"},
		{Name: "there", Value: "the command that was printed, with --control-plane --certificate-key KEY"},
	}
}

// Listed writes names as a person does: "cp1, cp2 and cp3".
func Listed(names []string) string {
	names = trust.Lines(names)
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	return strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1]
}
