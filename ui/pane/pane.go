// Package pane holds the parts of the wizard's screens that need nothing of the
// wizard: each has its own state, takes keys by plain methods, and draws itself
// from data. Nothing here reads a file, starts a goroutine or knows the model.
package pane
