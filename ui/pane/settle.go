package pane

import (
	"fmt"
	"strings"
	"time"

	"etcd-rewind/settle"
	"etcd-rewind/trust"
	"etcd-rewind/ui/text"
)

// Settle lists what a cluster owes after a restore. What is settled stays in the
// list, with what came of it.
type Settle struct {
	Busy  bool   // it is being looked for
	Doing string // what is being done then
	Since time.Time
	Err   error

	found   *settle.Found
	results map[int]settle.Settled // of the debts that were settled, or weren't
	skipped map[int]bool
	working *int // the debt that is being settled; nil for none
	at      int
	scroll  Scroller
}

// Set takes what was found.
func (s *Settle) Set(found *settle.Found, err error) {
	*s = Settle{found: found, Err: err}
}

// Current is the debt that is marked; nil for none.
func (s *Settle) Current() *settle.Debt {
	if s.Busy || s.found == nil || s.at >= len(s.found.Debts) {
		return nil
	}
	return &s.found.Debts[s.at]
}

// Found is what was found; nil before.
func (s *Settle) Found() *settle.Found {
	if s.Busy {
		return nil
	}
	return s.found
}

// Begin says that the marked debt is being settled.
func (s *Settle) Begin(now time.Time) {
	at := s.at
	s.working, s.Since = &at, now
}

// Working says whether a debt is being settled.
func (s *Settle) Working() bool { return s.working != nil }

// Settled takes what came of the debt that was being settled, and goes on to the
// next that can be.
func (s *Settle) Settled(r settle.Settled) {
	if s.working == nil {
		return
	}
	if s.results == nil {
		s.results = map[int]settle.Settled{}
	}
	s.results[*s.working], s.working = r, nil
}

// open says whether a debt can be settled here and wasn't yet.
func (s *Settle) open(i int) bool {
	r, tried := s.results[i]
	return s.found.Debts[i].Offered && !s.skipped[i] && (!tried || !r.Done)
}

// next marks the next debt that is open.
func (s *Settle) next() {
	for n := 1; n < len(s.found.Debts); n++ {
		if i := (s.at + n) % len(s.found.Debts); s.open(i) {
			s.at = i
			return
		}
	}
}

// Press takes a key; h is the height of the pane, and note what there is to say.
func (s *Settle) Press(name string, h int) (w Wish, note string) {
	if s.working != nil {
		if name == "?" {
			return ShowHelp, ""
		}
		if name == "q" || name == "esc" {
			return None, "It is being settled. ctrl-c leaves it in the middle."
		}
		return None, ""
	}
	if w = among(name, Quit, Back, ShowHelp); w != None || s.Busy {
		return w, ""
	}
	switch name {
	case "r":
		return Refresh, ""
	case "a":
		if s.found != nil && len(s.found.Others) > 0 {
			return AskNodes, ""
		}
		return None, ""
	}
	d := s.Current()
	if d == nil {
		return None, ""
	}
	if to, ok := Move(s.at, s.rows(), name, h/2); ok {
		s.at = to
		return None, ""
	}
	switch name {
	case "s":
		if s.open(s.at) {
			if s.skipped == nil {
				s.skipped = map[int]bool{}
			}
			s.skipped[s.at] = true
			s.next()
		}
	case "enter", "right":
		switch r, tried := s.results[s.at]; {
		case tried && r.Done:
			s.next()
		case !d.Offered:
			return None, "This one is up to you: the commands show what to check. etcd-rewind doesn't change it."
		default:
			delete(s.skipped, s.at)
			return SettleIt, ""
		}
	}
	return None, ""
}

// rows is how many rows the list has.
func (s *Settle) rows() int { return len(s.found.Debts) }

// Rows are the debts, to be searched; the one at At is marked.
func (s *Settle) Rows() []string {
	var rows []string
	if s.found != nil && !s.Busy {
		for _, d := range s.found.Debts {
			rows = append(rows, text.DebtTitle(d.Kind)+" "+d.Name()+" "+d.Is)
		}
	}
	return rows
}

// At is the debt that is marked.
func (s *Settle) At() int { return s.at }

// Select marks another debt.
func (s *Settle) Select(i int) { s.at = i }

// Done are the debts that were settled, with what came of them.
func (s *Settle) Done() []settle.Settled {
	var out []settle.Settled
	for i := range s.rowsOrNone() {
		if r, ok := s.results[i]; ok {
			out = append(out, r)
		}
	}
	return out
}

func (s *Settle) rowsOrNone() int {
	if s.found == nil {
		return 0
	}
	return s.rows()
}

const owedTitle = "What the cluster still owes"

// View shows the list and the marked debt in w cells and h lines.
func (s *Settle) View(l text.Look, now time.Time, w, h int) ([]string, string, []Hint) {
	help := []Hint{{"r", "check again"}, {"/", "search"}, {"e", "export"}, {"?", "help"}, {"esc", "back"}, {"q", "quit"}}
	switch {
	case s.Busy:
		lines := []string{" " + text.Spin(now) + " " + l.Bold.Render("Checking what the cluster still owes"), ""}
		lines = append(lines, text.Hang("   ", trust.Text(s.Doing)+", "+text.Seconds(now.Sub(s.Since).Seconds()), w-1)...)
		lines = append(lines, "")
		lines = append(lines, text.Hang("   ", "etcd went back in time; kubelets, kubeadm, volumes and clients didn't. The two are compared. Nothing is changed.", w-1)...)
		return text.Box(lines, w, h), "", []Hint{help[3], help[4], help[5]}
	case s.Err != nil:
		return text.Box(why(l, text.SymBad, "Can't find out what the cluster owes", s.Err, w), w, h), "", []Hint{help[0], help[3], help[4], help[5]}
	case s.found == nil:
		return text.Box(nil, w, h), "", help
	}
	if len(s.found.Others) > 0 {
		help = append([]Hint{{"a", "ask the other nodes"}}, help...)
	}
	foot := s.foot(l, w)
	if len(s.found.Debts) == 0 {
		symbol, say := text.SymDone, "The cluster owes nothing, as far as could be checked"
		if len(s.found.Unread) > 0 {
			symbol, say = text.SymWarn, "Nothing was found, but not everything could be checked"
		}
		lines := append([]string{" " + l.Symbol(symbol) + " " + l.Bold.Render(say), ""}, foot...)
		return text.Box(lines, w, h), "", help
	}
	head := []string{text.Apart(" "+l.Bold.Render(owedTitle), s.count()+" ", w), ""}
	detail := s.detail(l, now, w)
	// The list gets a third of the screen at least, the detail what it needs.
	room := max(3, min(s.rows(), h-len(head)-len(detail)-1), min(s.rows(), h/3))
	s.scroll.Show(s.at, s.at, room)
	from, to, where := s.scroll.Span(s.rows(), room)
	lines := head
	for i := from; i < to; i++ {
		lines = append(lines, s.row(l, i, w))
	}
	lines = append(append(lines, ""), detail...)
	if len(foot) > 0 && len(lines)+1+len(foot) <= h {
		lines = append(append(lines, ""), foot...)
	}
	if len(lines) > h {
		lines = append(lines[:h-1], l.Faint.Render("   … ? shows all of it"))
	}
	switch d := s.Current(); {
	case s.working != nil:
		help = []Hint{{"?", "help"}, {"ctrl-c", "leave"}}
	case d.Offered && s.open(s.at):
		help = append([]Hint{{"enter", "settle it"}, {"s", "skip"}, {"↑↓", "choose"}}, help...)
	default:
		help = append([]Hint{{"↑↓", "choose"}}, help...)
	}
	return text.Box(lines, w, h), where, help
}

// count says how much is left.
func (s *Settle) count() string {
	open, look, done := 0, 0, 0
	for i, d := range s.found.Debts {
		switch {
		case s.open(i):
			open++
		case s.results[i].Done:
			done++
		case !d.Offered:
			look++
		}
	}
	var parts []string
	for _, p := range []struct {
		n    int
		what string
	}{{open, "to settle here"}, {done, "settled"}, {look, "to look at"}} {
		if p.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", p.n, p.what))
		}
	}
	return strings.Join(parts, ", ")
}

// row is a debt in one line.
func (s *Settle) row(l text.Look, i, w int) string {
	d := &s.found.Debts[i]
	r, tried := s.results[i]
	symbol, tail := text.SymWarn, ""
	switch {
	case s.working != nil && *s.working == i:
		symbol, tail = text.SymNow, "being settled"
	case tried && r.Done:
		symbol, tail = text.SymDone, "settled"
	case tried:
		symbol, tail = text.SymBad, "failed"
	case s.skipped[i]:
		symbol, tail = text.SymLater, "skipped"
	case !d.Offered:
		symbol = text.SymLater
	}
	row := strings.TrimSpace(text.DebtTitle(d.Kind) + "   " + trust.Text(d.Object))
	row = text.Cut(row, w-5-text.Width(tail)-1)
	mark := "  "
	if i == s.at {
		mark, row = text.SymNow+" ", l.Bold.Render(row)
	}
	return text.Apart(mark+l.Symbol(symbol)+" "+row, tail+" ", w)
}

// detail is the marked debt: what was seen, what follows, and what settles it.
func (s *Settle) detail(l text.Look, now time.Time, w int) []string {
	d := s.Current()
	lines := text.Hang("   ", trust.Text(d.Is), w-1)
	lines = append(lines, text.Hang("   → ", trust.Text(d.Means), w-1)...)
	for _, c := range d.Commands {
		lines = append(lines, text.Hang("   $ ", trust.Text(c), w-1)...)
	}
	lines = append(lines, "")
	r, tried := s.results[s.at]
	switch {
	case s.working != nil && *s.working == s.at:
		return append(lines, "   "+text.Spin(now)+" Being settled, "+text.Seconds(now.Sub(s.Since).Seconds()))
	case tried && r.Done:
		return append(lines, text.Hang("   "+l.Symbol(text.SymDone)+" ", "Settled: "+trust.Text(r.Said)+".", w-1)...)
	case tried:
		lines = append(lines, text.Hang("   "+l.Symbol(text.SymBad)+" ", "Not settled: "+trust.Text(r.Error), w-1)...)
		return append(lines, text.Hang("   ", "enter tries it again: it is safe to do twice.", w-1)...)
	case d.Offered:
		return append(lines, text.Hang("   ", l.Bold.Render("enter")+" does that, after a question.", w-1)...)
	}
	return append(lines, text.Hang("   ", "Up to you: etcd-rewind doesn't change this.", w-1)...)
}

// foot says what couldn't be looked at, and who was asked.
func (s *Settle) foot(l text.Look, w int) []string {
	var lines []string
	for i, u := range s.found.Unread {
		if i == 3 && len(s.found.Unread) > 4 {
			lines = append(lines, fmt.Sprintf("   and %d more; e writes all to a file", len(s.found.Unread)-i))
			break
		}
		lines = append(lines, text.Hang("   "+l.Symbol(text.SymBad)+" ", text.UnreadName(u)+": couldn't be checked: "+trust.Text(u.Cause), w-1)...)
	}
	return append(lines, text.Hang("   ", text.Asked(s.found, "a asks them over ssh"), w-1)...)
}

// Help is about the marked debt, or about debts.
func (s *Settle) Help() Help {
	d := s.Current()
	if d == nil {
		return Help{Title: owedTitle, Paragraphs: []string{
			"A restore sets etcd back in time. Kubelets, kubeadm, volumes and clients of the API are as they were a minute ago, and may disagree with the restored objects.",
			"What is safe is settled from here, one by one, each after a question. The rest is up to you, with the commands to check it. Volumes are never deleted.",
			"It works days later, too, and after a restore by hand: etcd-rewind settle.",
		}}
	}
	h := Help{Title: text.DebtTitle(d.Kind), Paragraphs: []string{text.DebtLesson(d.Kind), "Seen: " + trust.Text(d.Name()) + ": " + trust.Text(d.Is), "Consequence: " + trust.Text(d.Means)}}
	for _, c := range d.Commands {
		h.Paragraphs = append(h.Paragraphs, "$ "+trust.Text(c))
	}
	if d.Sure != "" {
		h.Paragraphs = append(h.Paragraphs, trust.Text(d.Sure))
	}
	return h
}
