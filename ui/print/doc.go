// Package print is what commands write: events of a run as lines of text or as
// JSON, plans, verdicts, tables, and questions. It has no screens and no keys,
// and a reader that stops reading never blocks it.
package print
