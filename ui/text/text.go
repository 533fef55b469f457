// Package text is the wording and layout of everything that is shown, on a
// screen or in printed lines: numbers, durations, symbols and colours, facts of
// a plan, a result, a snapshot or a comparison, wrapped into so many cells. It
// has no keys and no screens, and does nothing but return text.
package text
