package steps_test

import (
	"fmt"
	"time"

	"etcd-rewind/steps"
)

// Names of runs are times, and only grow: undo relies on it, whatever the clock
// does.
func ExampleNextRunName() {
	noon := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	first := steps.NextRunName(noon)
	fmt.Println(first)
	fmt.Println(steps.NextRunName(noon.Add(-time.Hour), first))
	// Output:
	// 20261120-120000
	// 20261120-120001
}

// A check that failed can be overridden by name, if it can be at all.
func ExampleAccept() {
	verdicts := []steps.Verdict{
		{Check: "snapshot-hash", Level: steps.Error, Overridable: true, Cause: "no checksum to verify the content"},
		{Check: "root", Level: steps.Error, Cause: "not running as root"},
	}
	fmt.Println("refused:", steps.Accept(verdicts, []string{"snapshot-hash", "root"}))
	for _, v := range steps.Blocking(verdicts) {
		fmt.Println("blocks:", v.Check)
	}
	// Output:
	// refused: [root]
	// blocks: root
}
