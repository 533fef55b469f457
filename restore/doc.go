// Package restore says what a restore, undo or resume of one or more nodes is
// made of: what is wanted, which nodes there are and what is known of them,
// what they report while they are at work, and how it ends. Nodes is what runs
// them.
//
// What is done on one node is in steps. How other nodes are reached, and kept in
// step, is in fleet. What people see is in ui.
package restore
