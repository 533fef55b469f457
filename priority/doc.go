// Package priority has work that can wait yield to a control plane that can't: a
// backup, the staging of a restore, a drill.
package priority
