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
func Debts(w io.Writer, debts []settle.Debt, unread []settle.Unread) error {
	wide := WidthOf(w)
	var lines []string
	offered := 0
	for _, d := range debts {
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
	for _, u := range unread {
		lines = append(lines, text.HangWhole(text.SymBad+" ", u.Kind+": couldn't be looked at: "+trust.Text(u.Cause), wide)...)
		if u.Hint != "" {
			lines = append(lines, text.HangWhole("  → ", trust.Text(u.Hint), wide)...)
		}
	}
	switch {
	case len(debts) > 0:
		lines = append(lines, fmt.Sprintf("%d found; %d can be settled here, one by one. Nothing was changed yet.", len(debts), offered))
	case len(unread) == 0:
		lines = append(lines, text.SymDone+" nothing is owed, as far as this node sees")
	}
	return printLines(w, lines)
}

// SettledDebt prints that a debt was settled.
func SettledDebt(w io.Writer, d settle.Debt) error {
	return printLines(w, text.HangWhole(text.SymDone+" ", strings.TrimSpace("settled: "+d.Kind+" "+trust.Text(d.Object)), WidthOf(w)))
}
