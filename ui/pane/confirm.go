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
	var lines []string
	say := func(sentence string) { lines = append(lines, text.Hang("   ", sentence, w-3)...) }
	switch {
	case p.Kind == steps.KindUndo:
		lines = append(lines, " "+l.Bold.Render(text.Cut(trust.Text(p.Title), w-2)), "")
		since := trust.Text(p.Lost)
		for _, o := range plans.All {
			since = cmp.Or(since, trust.Text(o.Lost))
		}
		if since != "" {
			warning := text.Hang("", "Written since the restore: "+since, w-6)
			for i, line := range warning {
				lead := "     "
				if i == 0 {
					lead = "   " + l.Symbol(text.SymWarn) + " "
				}
				lines = append(lines, lead+l.Bold.Render(line))
			}
			lines = append(lines, "")
		}
		say("The API is down until etcd runs on the data directory it had before. The manifests are restored byte for byte.")
		if since == "" {
			lines = append(lines, "")
			if !plans.Just {
				say("If the API is up again, what was written to it since stays in the restored data directory and is gone from the cluster.")
			} else {
				say("What was written to the cluster since the restore stays in the restored data directory and is gone from the cluster.")
			}
		}
	case plans.Verb == restore.Redo:
		lines = append(lines, " "+l.Bold.Render(text.Cut(trust.Text(p.Title), w-2)), "")
		say("The API is down until etcd runs on the restored data again.")
		lines = append(lines, "")
		say("What was written to the cluster since the undo stays in the old data directory and is gone from the cluster.")
		lines = append(lines, "")
		say("Nothing is deleted, and undo reverts it.")
	case plans.Verb != "":
		lines = append(lines, " "+l.Bold.Render(text.Cut(trust.Text(p.Title), w-2)), "")
		say("The run resumes where it was interrupted; what is done is not done again. The API is down until kube-apiserver is started.")
		lines = append(lines, "")
		if r := p.Restore; r != nil {
			say("The cluster is restored to the state of " + trust.Text(r.Snapshot) + ". What was written since then is gone from the cluster.")
			lines = append(lines, "")
		}
		say("Nothing is deleted: the old data and manifests are kept, and undo restores them.")
	default:
		lines = append(lines, " "+l.Bold.Render("From here on the cluster is changed"), "")
		if plans.Several() {
			lines[0] = " " + l.Bold.Render(text.Cut("From here on the cluster is changed, on "+text.Listed(plans.Names), w-2))
		}
		when, what, changes := info.Taken(), "the snapshot", "is restored"
		before := "The snapshot is restored beside the running etcd first. Then the API is down for some seconds; pods keep running."
		if r := p.Restore; r != nil && r.InPlace {
			what, changes = "the data in "+trust.Text(r.DataDir), "returns"
			before = "Nothing is restored: etcd runs on that data from here on. The API is down for some seconds; pods keep running."
		}
		from := " (the newest write in " + what + ")"
		if info.LastWrite.IsZero() {
			from = " (the file's time: no time in " + what + " can be read)"
		}
		say("The cluster " + changes + " to the state of " + steps.Moment(when) + ", " + steps.Ago(when, now) + from + ". What was written since then is gone from the cluster.")
		lines = append(lines, "")
		say(before)
		lines = append(lines, "")
		say("Nothing is deleted: the old data and manifests are kept, and undo restores them.")
		var accepted []string
		for _, v := range verdicts {
			if v.Accepted && !slices.Contains(accepted, v.Check) {
				accepted = append(accepted, v.Check)
			}
		}
		if len(accepted) > 0 {
			lines = append(lines, "")
			lines = append(lines, text.Hang("   "+l.Symbol(text.SymWarn)+" ", "overridden: "+strings.Join(accepted, ", "), w-3)...)
		}
	}
	ask := "   Type the node's name, %s, to start:"
	if plans.Several() {
		ask = "   Type this node's name, %s, to start on all of them:"
	}
	lines = append(lines, "", fmt.Sprintf(ask, l.Bold.Render(node)), "   "+c.Name.View(w-4))
	return lines, "", []Hint{{"enter", "start"}, {"esc", "back"}}
}
