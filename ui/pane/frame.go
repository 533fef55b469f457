package pane

import (
	"strings"
	"time"

	"etcd-rewind/snapshot"
	"etcd-rewind/steps"
	"etcd-rewind/trust"
	"etcd-rewind/ui/text"
)

// Frame is what stands above and below every screen.
type Frame struct {
	Facts   *steps.Facts // of this node; nil until it was read
	Run     *Run
	OfRun   bool // the screen is about a run that was begun
	Title   string
	Stages  []Stage // of the way to a run; none where that is settled
	Cramped bool    // the names of the stages are many
}

// Stage is a part of the way to a run: over, or not. The first that isn't is the
// one that the user is in.
type Stage struct {
	Name string
	Over bool
}

// Head are the three lines above a screen, in w cells.
func (f *Frame) Head(l text.Look, now time.Time, w int) []string {
	left := " " + l.Bold.Render("etcd-rewind")
	switch p := f.Run.Plan; {
	case f.Facts != nil:
		parts := []string{trust.Text(f.Facts.Node)}
		if v := f.Facts.KubernetesVersion; v != "" {
			parts = append(parts, "Kubernetes "+trust.Text(strings.TrimPrefix(v, "v")))
		}
		if v := f.Facts.EtcdVersion; v != "" {
			parts = append(parts, "etcd "+trust.Text(v))
		}
		left += "   " + strings.Join(parts, " · ")
	case p != nil:
		left += "   " + trust.Text(p.Node)
	}
	right := f.State()
	if f.OfRun {
		right = f.Run.OutageText(l, now)
	}
	return []string{text.Apart(left, right+" ", w), text.Cut(f.Title, w), f.rule(l, w)}
}

// State says where the node stands before a run.
func (f *Frame) State() string {
	if f.Facts != nil && f.Facts.Unfinished != nil {
		return "a run is unfinished"
	}
	return "nothing changed yet"
}

// Small are the lines of a screen that holds hardly anything: what it needs, and
// where the node stands. ofRun keeps a run in sight.
func (f *Frame) Small(l text.Look, now time.Time, needs string, ofRun bool, w int) []string {
	if !ofRun {
		return []string{needs, f.State(), "ctrl-c quits"}
	}
	return append([]string{needs, ""}, f.Run.Small(l, now, w)...)
}

// rule says how far the user is.
func (f *Frame) rule(l text.Look, w int) string {
	parts, at := make([]string, 0, len(f.Stages)), true
	for _, s := range f.Stages {
		switch {
		case s.Over:
			parts = append(parts, l.Symbol(text.SymDone)+" "+s.Name)
		case at:
			parts, at = append(parts, l.Bold.Render(text.SymNow+" "+s.Name)), false
		default:
			parts = append(parts, text.SymLater+" "+s.Name)
		}
	}
	many := f.Cramped
	gap := " ── "
	switch {
	case w < 80:
		gap = "  "
	case w < 88 && many:
		gap = " ─ "
	}
	line := "── " + strings.Join(parts, gap) + " "
	switch {
	case len(parts) == 0:
		line = ""
	case w < 76 && many:
		line = strings.Join(parts, " ") + " "
	case w < 64:
		line = " " + strings.Join(parts, gap) + " "
	}
	return line + strings.Repeat("─", max(0, w-text.Width(line)))
}

// Foot is the line below a screen; where is the place in what can be scrolled,
// and assumed says that the terminal doesn't know its size.
func Foot(where string, assumed bool, w int) string {
	if assumed {
		where = strings.TrimPrefix(where+" · size unknown, 80×24 assumed: stty rows N cols N", " · ")
	}
	if where == "" {
		return strings.Repeat("─", w)
	}
	tail := " " + where + " ──"
	return strings.Repeat("─", max(0, w-text.Width(tail))) + tail
}

// NodeTitle is the second line of a screen about this node; f may be nil.
func NodeTitle(f *steps.Facts) string {
	if f == nil || f.Kubelet == nil {
		return " Restore a control plane's etcd from a snapshot"
	}
	version := ""
	if v := f.Kubelet.Version; v != "" {
		version = trust.Text(strings.TrimPrefix(v, "v")) + " · "
	}
	return " kubelet " + version + "manifests in " + trust.Text(f.Kubelet.StaticPodPath)
}

// SnapshotTitle is that of a screen about the chosen snapshot, in w cells.
func SnapshotTitle(i *snapshot.Info, now time.Time, w int) string {
	hash := "sha256 ok"
	if i.Hash != snapshot.HashOK {
		hash = "no sha256"
	}
	facts := "revision " + text.Number(i.Revision) + " · "
	if w >= 72 {
		facts += text.Plural(i.Keys, "key", "keys") + " · "
	}
	facts += text.Old(i.Taken(), now) + " · " + hash
	return " " + text.ShortPath(shownName(i.Name), max(12, w-len([]rune(facts))-5)) + "   " + facts
}
