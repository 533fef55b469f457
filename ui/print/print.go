package print

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"etcd-rewind/restore"
	"etcd-rewind/snapshot"
	"etcd-rewind/steps"
	"etcd-rewind/trust"
	"etcd-rewind/ui/text"
)

// Comparison prints what restoring a snapshot would re-create, delete and revert.
func Comparison(w io.Writer, c *snapshot.Comparison, o text.DiffOptions) error {
	return printLines(w, text.Comparison(c, o, time.Now(), WidthOf(w)))
}

// Inspected prints what is in a snapshot.
func Inspected(w io.Writer, i text.Inspected) error {
	return printLines(w, text.Inspection(i, time.Now(), WidthOf(w)))
}

// Saved prints where a snapshot was saved.
func Saved(w io.Writer, info *snapshot.Info) error {
	return printLines(w, append(
		[]string{text.SymDone + " " + trust.Text(info.Name)},
		text.FactsWhole([]steps.Fact{
			{Name: "revision", Value: text.Number(info.Revision)},
			{Name: "keys", Value: text.Number(int64(info.Keys))},
			{Name: "size", Value: text.Size(info.Size)},
			{Name: "sha256", Value: info.SHA256},
		}, WidthOf(w))...,
	))
}

func printLines(w io.Writer, lines []string) error {
	l := text.NewLook(os.Getenv)
	for _, line := range lines {
		if _, err := fmt.Fprintln(w, l.Finish(strings.TrimRight(line, " "))); err != nil {
			return err
		}
	}
	return nil
}

// Plan prints all that a plan would do, for a dry run: every action with
// its shell commands, and the changes of the manifests.
func Plan(w io.Writer, p *steps.Plan) error {
	return printLines(w, text.PlanWhole(p, WidthOf(w)))
}

// Checked prints what the checks say of one or more nodes. With brief what
// is well is only counted.
func Checked(w io.Writer, all []restore.Checked, brief bool) error {
	wide := WidthOf(w)
	if len(all) == 1 {
		return printLines(w, text.Verdicts(all[0].Verdicts, brief, wide))
	}
	var lines []string
	for _, c := range all {
		if len(c.Verdicts) == 0 {
			continue
		}
		name := trust.Text(c.Node)
		if name == "" {
			name = text.TheCluster
		}
		lines = append(lines, name)
		for _, l := range text.Verdicts(c.Verdicts, brief, max(wide-2, minWidth)) {
			if l != "" {
				lines = append(lines, "  "+l)
			}
		}
	}
	return printLines(w, append(lines, ""))
}

// Standing prints where a run that did not come to its end has left the
// node, as steps.Standing says, and the two ways out.
func Standing(w io.Writer, run steps.RunInfo, standing []steps.Fact) error {
	lines := []string{"", text.SymWarn + " " + text.Interrupted}
	list := append(
		text.InterruptedFacts(run, standing),
		steps.Fact{Name: "to resume", Value: run.Command("resume")},
		steps.Fact{Name: "to undo", Value: run.Command("undo")},
	)
	return printLines(w, append(lines, text.Indent(4, text.FactsWhole(list, WidthOf(w)-4))...))
}

// Failure prints an error with its cause and what to do about it.
func Failure(w io.Writer, err error) error {
	cause, advice := text.Explain(err)
	lines := text.HangWhole(text.SymBad+" ", cause, WidthOf(w))
	if advice != "" {
		lines = append(lines, text.HangWhole("  → ", advice, WidthOf(w))...)
	}
	return printLines(w, lines)
}

// Runs prints a table of this node's runs. Their names are times in UTC.
func Runs(w io.Writer, runs []steps.RunInfo, now time.Time) error {
	if len(runs) == 0 {
		return printLines(w, []string{"No runs on this node."})
	}
	head, rows := text.Runs(runs, now)
	lines := []string{head + "snapshot"}
	for i, r := range runs {
		about := trust.Text(cmp.Or(r.Err, r.Snapshot))
		if text.Width(rows[i]+about) <= WidthOf(w) {
			lines = append(lines, rows[i]+about)
			continue
		}
		under := strings.Repeat(" ", text.Width(rows[i])-38) // below the time it was begun
		lines = append(append(lines, rows[i]), text.HangWhole(under, about, WidthOf(w))...)
	}
	return printLines(w, lines)
}

// Members prints who the members are, from where they are known, and how
// their nodes are reached.
func Members(w io.Writer, members []restore.Member) error {
	var list []steps.Fact
	for _, m := range members {
		are := slices.Clone(m.PeerURLs)
		switch {
		case m.Out:
			are = append(are, "excluded")
		case m.Local:
			are = append(are, "this node")
		case m.Facts != nil:
			are = append(are, "reached as "+m.Host)
		default:
			are = append(are, "not reached")
		}
		roles := text.Roles(m.Roles)
		if roles != "" && m.Facts != nil && !m.Out {
			are = append(are, roles)
		}
		say := strings.Join(are, ", ")
		if f := m.Facts; f != nil && !m.Out {
			if roles == "" || f.Runs(steps.RoleAPI) {
				say += "; API " + f.APIState
			}
			switch {
			case m.Apart: // etcd is asked on its own nodes
			case f.Live != nil:
				say += fmt.Sprintf("; etcd at revision %d", f.Live.Revision)
			default:
				say += "; etcd doesn't answer"
			}
		}
		list = append(list, steps.Fact{Name: trust.Text(m.Name), Value: trust.Text(say)})
	}
	return printLines(w, append(text.FactsWhole(list, WidthOf(w)), ""))
}

// Excluded prints how members that a restore has left out rejoin.
func Excluded(w io.Writer, names []string) error {
	return printLines(w, append([]string{""}, text.Excluded(names, WidthOf(w))...))
}
