//go:build e2e && !linux

package e2e

import (
	"fmt"
	"os"
	"testing"
)

// TestMain fails rather than skips: who asks for these tests shall not believe
// that they have passed.
func TestMain(*testing.M) {
	fmt.Fprintln(os.Stderr, "FAIL: the end-to-end tests need Linux and root")
	os.Exit(1)
}
