package fleet

import (
	"slices"
	"testing"

	"etcd-rewind/restore"
	"etcd-rewind/steps"
)

// A node whose API server is only slow is no reason to undo the restore on all
// nodes: not for a person, and not when nobody is there.
func TestASlowNodeIsNoReasonToUndoThemAll(t *testing.T) {
	slow := []steps.Choice{steps.WaitOn, steps.Leave, steps.Retry, steps.Revert}
	failed := []steps.Choice{steps.Revert, steps.WaitOn, steps.Retry, steps.Leave}
	for _, c := range []struct {
		name         string
		own          []steps.Choice
		first, alone steps.Choice
	}{
		{"slow", slow, steps.WaitOn, steps.Leave},
		{"failed", failed, steps.Revert, steps.Revert},
	} {
		n := &nodeRun{}
		r := &machine{nodes: []*nodeRun{n, {}}}
		tr := &trouble{node: n, Trouble: restore.Trouble{Failure: steps.Failure{Choices: c.own}}}
		tr.Failure.Choices = r.choices(tr)
		if got := tr.Failure.Choices; got[0] != c.first || !slices.Contains(got, steps.Revert) || !slices.Contains(got, steps.Leave) {
			t.Errorf("%s: %v, want %s first", c.name, got, c.first)
		}
		if got := restore.Unattended(tr.Trouble); got != c.alone {
			t.Errorf("%s: unattended %s, want %s", c.name, got, c.alone)
		}
	}
}
