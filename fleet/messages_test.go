package fleet

import (
	"testing"

	"etcd-rewind/restore"
	"etcd-rewind/steps"
)

// Every state that an engine reports has to come through: a node whose message
// is refused is a node that is lost.
func TestEveryStateOfAnEventComesThrough(t *testing.T) {
	for _, s := range steps.States {
		if err := valid(message{Event: &steps.Event{Type: steps.TypeAction, State: s}}); err != nil {
			t.Error(err)
		}
	}
	for _, e := range []steps.EtcdState{steps.EtcdStopped, steps.EtcdServes} {
		if err := valid(message{Event: &steps.Event{Type: steps.TypeAction, Etcd: e}}); err != nil {
			t.Error(err)
		}
	}
	if valid(message{Event: &steps.Event{Type: steps.TypeAction, Etcd: "elsewhere"}}) == nil || valid(message{Event: &steps.Event{Type: steps.TypeAction, State: "odd"}}) == nil {
		t.Error("a state that nobody knows passes")
	}
}

// What a node offers is put to the user as a question: only what this version knows.
func TestANodeOffersKnownChoicesOnly(t *testing.T) {
	for _, c := range []struct {
		offered []steps.Choice
		ok      bool
	}{
		{nil, true},
		{steps.AllChoices, true},
		{[]steps.Choice{"rm -rf"}, false},
		{[]steps.Choice{restore.ContinueWithout}, false}, // the conductor's to offer
		{[]steps.Choice{steps.Retry, steps.Retry}, false},
	} {
		f := &steps.Failure{Choices: c.offered}
		for _, m := range []message{{Ask: f}, {Event: &steps.Event{Type: steps.TypeAsk, Failure: f}}} {
			if err := valid(m); (err == nil) != c.ok {
				t.Errorf("%q: %v", c.offered, err)
			}
		}
	}
}
