// Package steps is the engine: what is known of a node, the checks, the plan that
// is made of both, what each action of it does and how it is undone, the journal,
// and the run of a plan, which is reported in events. It knows one node, and stops
// at the phases that several have to reach together.
//
// It has no screen and no flags: those are ui's and cli's. How several nodes are
// led is restore's and fleet's; how snapshots, manifests and the node are read is
// in the packages of those names.
package steps
