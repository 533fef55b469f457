package cli

import (
	"slices"
	"testing"
)

// Other programs can call every command that tells something.
func TestEveryCommandHasJSON(t *testing.T) {
	people := []string{"etcd-rewind agent", "etcd-rewind completion", "etcd-rewind help", "etcd-rewind practice"}
	root := Commands()
	seen := 0
	for _, c := range root.Commands() {
		if slices.Contains(people, c.CommandPath()) {
			continue
		}
		seen++
		if c.Flags().Lookup("output") == nil {
			t.Errorf("%s has no --output json", c.CommandPath())
		}
	}
	if seen < 10 {
		t.Errorf("only %d commands were found", seen)
	}
}
