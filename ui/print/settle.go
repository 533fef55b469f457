package print

import (
	"fmt"
	"io"
	"strings"

	"etcd-rewind/settle"
	"etcd-rewind/trust"
	"etcd-rewind/ui/text"
)

// Debts prints what a cluster owes after a restore, and what couldn't be looked
// at.
func Debts(w io.Writer, found *settle.Found) error {
	wide := WidthOf(w)
	var lines []string
	offered := 0
	for _, d := range found.Debts {
		if d.Offered {
			offered++
		}
		lines = append(lines, text.HangWhole(text.SymWarn+" ", strings.TrimSpace(d.Kind+"  "+trust.Text(d.Object)), wide)...)
		lines = append(lines, text.HangWhole("    ", trust.Text(d.Is), wide)...)
		lines = append(lines, text.HangWhole("  → ", trust.Text(d.Means), wide)...)
		for _, c := range d.Commands {
			lines = append(lines, "    $ "+trust.Text(c)) // on one line, to be pasted
		}
		lines = append(lines, "")
	}
	for _, u := range found.Unread {
		lines = append(lines, text.HangWhole(text.SymBad+" ", text.UnreadName(u)+": couldn't be looked at: "+trust.Text(u.Cause), wide)...)
		if u.Hint != "" {
			lines = append(lines, text.HangWhole("  → ", trust.Text(u.Hint), wide)...)
		}
	}
	switch {
	case len(found.Debts) > 0:
		lines = append(lines, fmt.Sprintf("%d found; %d can be settled here, one by one. Nothing was changed yet.", len(found.Debts), offered))
	case len(found.Unread) == 0:
		lines = append(lines, text.SymDone+" Nothing is owed, as far as was looked at.")
	}
	return printLines(w, append(lines, text.HangWhole("", text.Asked(found), wide)...))
}

// SettledDebt prints that a debt was settled.
func SettledDebt(w io.Writer, s settle.Settled) error {
	say := "settled: " + s.Name()
	if s.Said != "" {
		say += ": " + s.Said
	}
	return printLines(w, text.HangWhole(text.SymDone+" ", trust.Text(say), WidthOf(w)))
}
