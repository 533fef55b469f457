// Package print is what commands write: events of a run as lines of text or as
// JSON, plans, verdicts, tables, and the questions that they ask. It knows no
// screen and no keys, and a reader that reads nothing holds up nobody.
package print
