package print

import (
	"io"

	"etcd-rewind/settle"
	"etcd-rewind/steps"
	"etcd-rewind/trust"
	"etcd-rewind/ui/text"
)

// Debts prints what a cluster owes after a restore, and what couldn't be looked
// at.
func Debts(w io.Writer, found *settle.Found) error {
	return printLines(w, text.Owed(found, WidthOf(w)))
}

// SettledDebt prints that a debt was settled.
func SettledDebt(w io.Writer, s settle.Settled) error {
	say := "settled: " + s.Name()
	if s.Said != "" {
		say += ": " + s.Said
	}
	return printLines(w, text.HangWhole(text.SymDone+" ", trust.Text(say), WidthOf(w)))
}

// SettledDebts prints what was settled after restores; nothing where that is
// nothing.
func SettledDebts(w io.Writer, all []settle.Settled) error {
	if len(all) == 0 {
		return nil
	}
	lines := []string{"", "Settled after a restore:"}
	for _, s := range all {
		symbol, say := text.SymDone, s.Said
		switch {
		case s.Error != "":
			symbol, say = text.SymBad, s.Error
		case !s.Done:
			symbol, say = text.SymWarn, "interrupted: etcd-rewind settle looks again"
		}
		lines = append(lines, text.HangWhole("  "+symbol+" ", trust.Text(steps.Moment(s.Time)+"  "+s.Name()+": "+say), WidthOf(w))...)
	}
	return printLines(w, lines)
}
