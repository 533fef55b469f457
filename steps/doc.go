// Package steps is the engine: the facts about a node, the checks, the plan that
// is made of both, what each action does and how it is undone, the journal, and
// the run of a plan, which is reported in events. It handles one node, and stops
// at the phases that several have to reach together.
//
// It has no screens and no flags: those are in ui and cli. Several nodes are led
// by restore and fleet; snapshots, manifests and the node are read by the
// packages of those names.
package steps
