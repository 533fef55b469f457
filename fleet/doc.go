// Package fleet restores several control planes as one. A conductor on one of
// them has an agent on each: the same program, started over the user's own ssh,
// which does on its node what a single node's restore does, and waits at the end
// of each phase until the conductor lets it continue.
//
// The conductor's reaction to its agents' messages is a state machine without
// goroutines or a clock (machine.go); the runner around it transports. What is
// done on a node is in steps, what users see is in ui.
package fleet
