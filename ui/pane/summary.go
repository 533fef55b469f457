package pane

import (
	"slices"

	"etcd-rewind/ui/text"
)

// Summary shows how a run ended.
type Summary struct {
	Page
	Settles bool // what the cluster owes can be shown
}

// Press takes a key; h is the height of the pane.
func (s *Summary) Press(name string, r *Run, h int) (w Wish, note string) {
	switch {
	case s.owes(r) && (name == "enter" || name == "o"):
		return ShowOwed, ""
	case name == "enter":
		return None, "q quits; the summary stays in the terminal."
	case name == "s":
		return Back, ""
	case name == "u" && r.CanUndo():
		return Undo, ""
	case name == "g" && r.CanResume():
		return Resume, ""
	case name == "d" && r.CanRedo():
		return Redo, ""
	case name == "n" && r.CanBeginAnew():
		return BeginAnew, ""
	}
	if w = among(name, Quit, Back, ShowCommands, ShowLogs, ShowHelp); w == None {
		s.Page.Key(name, h)
	}
	return w, ""
}

// owes says whether something may be left to settle.
func (s *Summary) owes(r *Run) bool {
	return s.Settles && r.Result != nil && r.Result.OK && !r.Watches()
}

// View shows the end of a run in w cells and h lines; excluded are the members
// that have no part in the restored cluster.
func (s *Summary) View(l text.Look, r *Run, excluded []string, w, h int) ([]string, string, []Hint) {
	lines := append([]string{""}, text.Indent(1, r.Ended(excluded).Summary(w-2))...)
	for i, line := range lines {
		if i > 0 && line == "" {
			break
		}
		lines[i] = l.Bold.Render(line)
	}
	if len(lines)+2 <= h {
		lines = append(lines, "", l.Faint.Render("   This summary stays in the terminal when you quit."))
	}
	seen, where := s.Show(lines, h)
	help := r.SummaryHelp()
	if s.owes(r) {
		help = append([]Hint{{"enter", "what the cluster still owes"}}, help...)
	}
	if where != "" {
		help = slices.Insert(help, len(help)-1, Hint{"↑↓", "scroll"})
	}
	return seen, where, help
}
