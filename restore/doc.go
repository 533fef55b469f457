// Package restore models a restore, undo or resume of one or more nodes: what
// the user wants, which nodes take part and what is known of them, what they
// report during a run, and how it ends. Nodes runs them, Flow is the way to the
// plan.
//
// What is done on one node is in steps. How other nodes are reached and kept in
// step is in fleet. What users see is in ui.
package restore
