//go:build race

package snapshot

// raced says that the race detector is built in, which takes many times the
// memory that a database can need.
const raced = true
