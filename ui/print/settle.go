package print

import (
	"io"

	"etcd-rewind/settle"
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
