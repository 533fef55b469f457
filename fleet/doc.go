// Package fleet restores several control planes as one. A conductor on one of
// them leads an agent on each: the same program, started through the user's own
// ssh, which does on its node what a single node's restore does and waits at
// the end of each phase for the word to go on.
package fleet
