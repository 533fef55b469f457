package print

import (
	"fmt"
	"io"
	"strings"
	"time"

	"etcd-rewind/backup"
	"etcd-rewind/problem"
	"etcd-rewind/steps"
	"etcd-rewind/trust"
	"etcd-rewind/ui/text"
)

// Head is what each line of JSON begins with.
type Head struct {
	Type string    `json:"type"`
	Time time.Time `json:"time"`
}

// What is printed of backups with --output json, one object a line.
type (
	BackupStepLine struct {
		Head
		backup.Event
	}
	BackupLine struct {
		Head
		*backup.Result
	}
	StoredLine struct {
		Head
		backup.Stored
	}
	BackupStatusLine struct {
		Head
		*backup.Status
	}
	PrunedLine struct {
		Head
		DryRun bool `json:"dry_run,omitempty"`
		*backup.Pruned
	}
	BackupTimerLine struct {
		Head
		Enabled bool          `json:"enabled"`
		Written bool          `json:"written"` // false with --print
		Units   []backup.Unit `json:"units,omitempty"`
		// Unproven says that nobody has opened a test file for the recipients.
		Unproven *problem.Problem `json:"unproven,omitempty"`
	}
	BackupInitLine struct {
		Head
		Config    string   `json:"config"`
		Key       string   `json:"key"`
		Locations []string `json:"locations"` // tried
		Kept      []string `json:"kept_in,omitempty"`
		// Opened are how many of the recipients the identity is.
		Opened     int `json:"opened"`
		Recipients int `json:"recipients"`
		// Unproven are those whose identity wasn't there.
		Unproven []string `json:"unproven,omitempty"`
		// Foreign are the backups there that were made with another key.
		Foreign int `json:"foreign,omitempty"`
	}
)

// BackupStep says what is done now, in a line; "" for what isn't worth one.
func BackupStep(e backup.Event) string {
	where := ""
	if e.Location != "" {
		where = " " + e.Location
	}
	what := map[backup.Step]string{
		backup.StepRound: "looking at", backup.StepSave: "saving etcd", backup.StepInclude: "including files", backup.StepSend: "sending to", backup.StepPrune: "pruning",
	}[e.Step]
	switch {
	case e.State == backup.Waiting:
		return "waiting for another node at" + where + ": " + e.Message
	case e.State != backup.Running:
		return ""
	case e.Step == backup.StepSend && e.Total > 0 && e.Done >= e.Total:
		return "reading back from" + where
	case e.Total > 0:
		return fmt.Sprintf("%s%s: %s of %s", what, where, steps.Bytes(e.Done), steps.Bytes(e.Total))
	}
	return what + where
}

// Backup prints how a backup went.
func Backup(w io.Writer, r *backup.Result) error {
	var lines []string
	if rec := r.Record; rec != nil {
		lines = append(lines, text.SymDone+" etcd at revision "+text.Number(rec.Revision)+", "+text.Number(int64(rec.Keys))+" keys: "+
			text.Size(rec.File.PlainSize)+", "+text.Size(rec.File.Size)+" compressed and encrypted")
		if s := rec.Secrets; s != nil {
			lines = append(lines, fmt.Sprintf("%s %s beside it, encrypted", text.SymDone, text.Plural(len(s.Content), "file", "files")))
		}
	}
	for _, l := range r.Locations {
		at := trust.Text(l.Location)
		switch {
		case l.OK && l.By != r.Node:
			lines = append(lines, text.SymDone+" "+at+": node "+trust.Text(l.By)+" has taken this round")
		case l.OK:
			done := "stored and read back"
			if p := l.Pruned; p != nil {
				done += fmt.Sprintf("; %s kept, %d removed", text.Plural(p.Kept, "round", "rounds"), len(p.Removed))
				if n := len(p.Locked); n > 0 {
					done += fmt.Sprintf(", %d locked", n)
				}
			}
			lines = append(lines, text.SymDone+" "+at+": "+done)
		}
		if l.Error != nil {
			lines = append(lines, failed(l.Error, WidthOf(w))...)
		}
	}
	if r.Error != nil && !anyOf(r.Locations, r.Error) {
		lines = append(lines, failed(r.Error, WidthOf(w))...)
	}
	return printLines(w, lines)
}

func anyOf(all []backup.Outcome, p *problem.Problem) bool {
	for _, l := range all {
		if l.Error == p {
			return true
		}
	}
	return false
}

func failed(p *problem.Problem, wide int) []string {
	cause, advice := text.Explain(p)
	lines := text.HangWhole(text.SymBad+" ", cause, wide)
	if advice != "" {
		lines = append(lines, text.HangWhole("  → ", advice, wide)...)
	}
	return lines
}

// Backups prints a table of backups; several says that they lie in several
// locations, clusters that they are of several clusters. unproven says that there
// was no key to authenticate them with.
func Backups(w io.Writer, all []backup.Stored, locations int, unproven bool, now time.Time) error {
	if len(all) == 0 {
		return printLines(w, []string{"No backups there."})
	}
	wide := WidthOf(w)
	node := 6
	for _, b := range all {
		node = max(node, min(text.Width(trust.Text(b.Node))+2, 24))
	}
	lines := []string{text.Fit("round (UTC)", 18) + text.Fit("taken", 14) + text.Fit("node", node) + text.Fit("revision", 12) + text.Fit("size", 10)}
	if unproven {
		lines = append([]string{text.SymWarn + " Not authenticated: there is no key here. Anyone who can write there may have made them.", ""}, lines...)
	}
	cluster := ""
	for _, b := range all {
		if b.Cluster != cluster && all[0].Cluster != all[len(all)-1].Cluster {
			lines, cluster = append(lines, "cluster "+b.Cluster), b.Cluster
		}
		row := text.Fit(b.Round.String(), 18)
		if r := b.Record; r != nil {
			row += text.Fit(steps.Ago(r.Taken, now), 14) + text.Fit(trust.Text(b.Node), node) + text.Fit(text.Number(r.Revision), 12) + text.Fit(text.Size(r.File.Size), 10)
			if len(b.Locations) < locations {
				row += "in " + trust.Text(strings.Join(b.Locations, ", "))
			}
		} else {
			row += text.Fit("", 14) + text.Fit(trust.Text(b.Node), node)
		}
		lines = append(lines, row)
		if b.Error != nil {
			lines = append(lines, text.HangWhole("  "+text.SymBad+" ", b.Error.Cause, wide)...)
		}
	}
	return printLines(w, lines)
}

// BackupStatus prints what lies where, and what is wrong with it.
func BackupStatus(w io.Writer, st *backup.Status, now time.Time) error {
	var lines []string
	wide := WidthOf(w)
	if st.OK {
		lines = append(lines, text.SymDone+" All is well")
	} else if st.Warning != nil {
		lines = append(lines, failed(st.Warning, wide)...)
	}
	timer := "off: etcd-rewind backup enable starts it"
	if !st.Enabled.IsZero() {
		timer = "every " + backup.Duration(time.Duration(st.EverySeconds)*time.Second).String()
	}
	if st.Outdated != nil {
		timer += ", out of date: etcd-rewind backup enable rewrites it"
	}
	facts := []steps.Fact{{Name: "timer", Value: timer}}
	if l := st.Last; l != nil {
		how := "well"
		if !l.OK {
			how = "failed"
		}
		facts = append(facts, steps.Fact{Name: "last here", Value: steps.Ago(l.Time, now) + ", " + how})
	}
	if d := st.Drill; d != nil {
		how := "proven, " + fmt.Sprintf("%.1f s to recovery", d.RecoverySeconds)
		if !d.Proven {
			how = "failed"
		}
		facts = append(facts, steps.Fact{Name: "last drill", Value: steps.Ago(d.Time, now) + ", " + how})
	} else if st.DrillTimer {
		facts = append(facts, steps.Fact{Name: "last drill", Value: "none yet"})
	}
	lines = append(lines, text.FactsWhole(facts, wide)...)
	for _, at := range st.Locations {
		lines = append(lines, "", trust.Text(at.Location))
		if at.Error != nil {
			lines = append(lines, text.Indent(2, failed(at.Error, wide-2))...)
			continue
		}
		facts := []steps.Fact{{Name: "last good", Value: "none"}}
		if r := at.Good; r != nil {
			facts[0].Value = fmt.Sprintf("%s, revision %d, by %s", steps.Ago(r.Taken, now), r.Revision, trust.Text(r.Node))
			facts = append(facts, steps.Fact{Name: "in all", Value: fmt.Sprintf("%s, %s, the oldest %s", text.Plural(at.Rounds, "round", "rounds"), text.Size(at.Bytes), steps.Ago(at.Oldest, now))})
		}
		if at.Failures > 0 {
			facts = append(facts, steps.Fact{Name: "failed since", Value: text.Plural(at.Failures, "backup", "backups") + " of this node"})
		}
		if at.Unread > 0 {
			facts = append(facts, steps.Fact{Name: "not read", Value: text.Plural(at.Unread, "older record", "older records")})
		}
		lines = append(lines, text.Indent(2, text.FactsWhole(facts, wide-2))...)
		for _, b := range at.Bad {
			lines = append(lines, text.Indent(2, text.HangWhole(text.SymBad+" ", b.Round.String()+" by "+b.Node+": "+b.Error.Cause, wide-2))...)
		}
	}
	return printLines(w, lines)
}

// Pruned prints what was removed from the locations, or would be.
func Pruned(w io.Writer, all []*backup.Pruned, dry bool) error {
	var lines []string
	for _, p := range all {
		verb := "removed"
		if dry {
			verb = "to be removed"
		}
		lines = append(lines, fmt.Sprintf("%s: %s kept, %d %s (%s)", trust.Text(p.Location), text.Plural(p.Kept, "round", "rounds"), len(p.Removed), verb, text.Size(p.Bytes)))
		for _, r := range p.Removed {
			lines = append(lines, "  "+r.String())
		}
		if len(p.Locked) > 0 {
			lines = append(lines, fmt.Sprintf("  %s locked in the store: tried again tomorrow", text.Plural(len(p.Locked), "round is", "rounds are")))
		}
		if p.Failed != nil {
			lines = append(lines, text.Indent(2, failed(p.Failed, WidthOf(w)-2))...)
		}
	}
	return printLines(w, lines)
}
