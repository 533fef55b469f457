package pane

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"etcd-rewind/restore"
	"etcd-rewind/snapshot"
	"etcd-rewind/steps"
	"etcd-rewind/trust"
	"etcd-rewind/ui/text"
)

// Confirm is the point of no return: the node's name has to be typed.
type Confirm struct{ Name *Field }

// View says what starting the plans does; info is the snapshot, and verdicts
// are what the checks say.
func (c *Confirm) View(l text.Look, now time.Time, plans *Plans, info *snapshot.Info, verdicts []Judged, w int) ([]string, string, []Hint) {
	p := plans.Plan
	node := trust.Text(p.Node)
	title, kept := trust.Text(p.Title), "Nothing is deleted: the old data and manifests are kept, and undo restores them."
	var warned, warning string // before what follows, and after it
	var say []string
	switch {
	case p.Kind == steps.KindUndo:
		for _, o := range append([]*steps.Plan{p}, plans.All...) {
			warned = cmp.Or(warned, trust.Text(o.Lost))
		}
		say = []string{"The API is down until etcd runs on the data it had before. Every file the run changed is restored byte for byte."}
		switch {
		case warned != "":
			warned = "Written since the restore: " + warned
		case plans.Just:
			say = append(say, "What was written to the cluster since the restore stays in the restored data directory and is gone from the cluster.")
		default:
			say = append(say, "If the API is up again, what was written to it since stays in the restored data directory and is gone from the cluster.")
		}
	case plans.Verb == restore.Redo:
		say = []string{
			"The API is down until etcd runs on the restored data again.",
			"What was written to the cluster since the undo stays in the old data directory and is gone from the cluster.",
			"Nothing is deleted, and undo reverts it.",
		}
	case plans.Verb != "":
		say = []string{"The run resumes where it was interrupted; what is done is not done again. The API is down until kube-apiserver is started."}
		if r := p.Restore; r != nil && r.Home {
			say = append(say, "etcd's data is moved to "+trust.Text(r.DataDir)+". It stays the same.")
		} else if r != nil {
			say = append(say, "The cluster is restored to the state of "+trust.Text(r.Snapshot)+". What was written since then is gone from the cluster.")
		}
		say = append(say, kept)
	default:
		title = "From here on the cluster is changed"
		if plans.Several() {
			title += ", on " + text.Listed(plans.Names)
		}
		what, changes := "the snapshot", "is restored"
		before := "The snapshot is restored beside the running etcd first. Then the API is down for some seconds; pods keep running."
		if r := p.Restore; r != nil && r.InPlace {
			what, changes = "the data in "+trust.Text(r.DataDir), "returns"
			before = "Nothing is restored: etcd runs on that data from here on. The API is down for some seconds; pods keep running."
		}
		from := " (the newest write in " + what + ")"
		if info.LastWrite.IsZero() {
			from = " (the file's time: no time in " + what + " can be read)"
		}
		say = []string{
			"The cluster " + changes + " to the state of " + steps.Moment(info.Taken()) + ", " + steps.Ago(info.Taken(), now) + from + ". What was written since then is gone from the cluster.",
			before, kept,
		}
		var accepted []string
		for _, v := range verdicts {
			if v.Accepted && !slices.Contains(accepted, v.Check) {
				accepted = append(accepted, v.Check)
			}
		}
		if len(accepted) > 0 {
			warning = "overridden: " + strings.Join(accepted, ", ")
		}
	}
	lines := []string{" " + l.Bold.Render(text.Cut(title, w-2)), ""}
	if warned != "" {
		mark := l.Symbol(text.SymWarn)
		for _, line := range text.Wrap(warned, w-6) {
			lines = append(lines, "   "+mark+" "+l.Bold.Render(line))
			mark = " "
		}
		lines = append(lines, "")
	}
	for i, s := range say {
		if i > 0 {
			lines = append(lines, "")
		}
		lines = append(lines, text.Hang("   ", s, w-3)...)
	}
	if warning != "" {
		lines = append(append(lines, ""), text.Hang("   "+l.Symbol(text.SymWarn)+" ", warning, w-3)...)
	}
	ask := "   Type the node's name, %s, to start:"
	if plans.Several() {
		ask = "   Type this node's name, %s, to start on all of them:"
	}
	lines = append(lines, "", fmt.Sprintf(ask, l.Bold.Render(node)), "   "+c.Name.View(w-4))
	return lines, "", []Hint{{"enter", "start"}, {"esc", "back"}}
}
