// Package fleet restores several control planes as one. A conductor on one of
// them has an agent on each: the same program, started through the user's own
// ssh, which does on its node what a single node's restore does, and waits at
// the end of each phase for the word to continue.
//
// What the conductor makes of its agents' news is a state machine without
// goroutines or a clock (machine.go); the runner around it carries. What is done
// on a node is in steps, what people see in ui.
package fleet
