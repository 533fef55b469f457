// Package pane has the parts of the wizard's screens that don't depend on the
// wizard: each has its own state, takes keys by plain methods, and draws itself
// from values. Nothing here reads a file, starts a goroutine or uses the model.
package pane
