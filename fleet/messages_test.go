package fleet

import (
	"testing"

	"etcd-rewind/steps"
)

// Every state that an engine tells of has to come through: a node whose message
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
