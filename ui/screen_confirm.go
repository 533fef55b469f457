package ui

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	tea "github.com/charmbracelet/bubbletea"

	"etcd-rewind/steps"
	"etcd-rewind/trust"
	"etcd-rewind/ui/pane"
	"etcd-rewind/ui/text"
)

// confirmPane is the point of no return: the node's name has to be typed.
type confirmPane struct{ name *pane.Field }

func (m *model) confirmView(w int) ([]string, string, []pane.Hint) {
	p := m.plan.plan
	node := trust.Text(p.Node)
	var lines []string
	say := func(sentence string) { lines = append(lines, text.Hang("   ", sentence, w-3)...) }
	switch {
	case p.Kind == steps.KindUndo:
		lines = append(lines, " "+m.look.Bold.Render(text.Cut(trust.Text(p.Title), w-2)), "")
		since := trust.Text(p.Lost)
		for _, o := range m.plan.all {
			since = cmp.Or(since, trust.Text(o.Lost))
		}
		if since != "" {
			warning := text.Hang("", "Written since the restore: "+since, w-6)
			for i, l := range warning {
				lead := "     "
				if i == 0 {
					lead = "   " + m.look.Symbol(text.SymWarn) + " "
				}
				lines = append(lines, lead+m.look.Bold.Render(l))
			}
			lines = append(lines, "")
		}
		say("The API is down until etcd runs on the data directory it had before. The manifests are restored byte for byte.")
		if since == "" {
			lines = append(lines, "")
			if m.again.from == earlierScreen {
				say("If the API is up again, what was written to it since stays in the restored data directory and is gone from the cluster.")
			} else {
				say("What was written to the cluster since the restore stays in the restored data directory and is gone from the cluster.")
			}
		}
	case m.again != nil:
		lines = append(lines, " "+m.look.Bold.Render(text.Cut(trust.Text(p.Title), w-2)), "")
		say("The run resumes where it was interrupted; what is done is not done again. The API is down until kube-apiserver is started.")
		lines = append(lines, "")
		if r := p.Restore; r != nil {
			say("The cluster is restored to the state of " + trust.Text(r.Snapshot) + ". What was written since then is gone from the cluster.")
			lines = append(lines, "")
		}
		say("Nothing is deleted: the old data and manifests are kept, and undo restores them.")
	default:
		lines = append(lines, " "+m.look.Bold.Render("From here on the cluster is changed"), "")
		if m.plan.several() {
			lines[0] = " " + m.look.Bold.Render(text.Cut("From here on the cluster is changed, on "+text.Listed(m.plan.names), w-2))
		}
		info := m.flow.Want.Info
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
		say("The cluster " + changes + " to the state of " + steps.Moment(when) + ", " + steps.Ago(when, m.now()) + from + ". What was written since then is gone from the cluster.")
		lines = append(lines, "")
		say(before)
		lines = append(lines, "")
		say("Nothing is deleted: the old data and manifests are kept, and undo restores them.")
		var accepted []string
		for _, v := range m.checks.verdicts {
			if v.Accepted && !slices.Contains(accepted, v.Check) {
				accepted = append(accepted, v.Check)
			}
		}
		if len(accepted) > 0 {
			lines = append(lines, "")
			lines = append(lines, text.Hang("   "+m.look.Symbol(text.SymWarn)+" ", "overridden: "+strings.Join(accepted, ", "), w-3)...)
		}
	}
	ask := "   Type the node's name, %s, to start:"
	if m.plan.several() {
		ask = "   Type this node's name, %s, to start on all of them:"
	}
	lines = append(lines, "", fmt.Sprintf(ask, m.look.Bold.Render(node)), "   "+m.confirm.name.View(w-4))
	return lines, "", []pane.Hint{{"enter", "start"}, {"esc", "back"}}
}

func (m *model) confirmKey(k tea.KeyMsg) tea.Cmd {
	switch k.String() {
	case "esc":
		m.screen = planScreen
	case "enter":
		typed := strings.TrimSpace(m.confirm.name.Value())
		switch {
		case typed == m.plan.plan.Node:
			return m.startRun()
		case typed == "":
			m.note = "Nothing was started. Type the node's name, or esc for the plan."
		default:
			m.note = fmt.Sprintf("%q is not this node's name. Nothing was started.", trust.Text(typed))
		}
	default:
		m.confirm.name.Key(k)
	}
	return nil
}
