package steps

import (
	"encoding/json"
	"strings"
	"testing"
)

// The version before journaled a condition in words only, and had but one.
func TestAStepOfTheVersionBeforeKeepsItsCondition(t *testing.T) {
	var s Step
	if err := json.Unmarshal([]byte(`{"id":"let-go","when":"only if kubelet ignores that a manifest is gone","actions":[]}`), &s); err != nil {
		t.Fatal(err)
	}
	r := &run{plan: &Plan{Steps: []Step{{ID: "prepare"}, s}}}
	if r.remedy(stuck("", "it is slow")) != nil || r.remedy(nil) != nil {
		t.Error("kubelet would be restarted for what that doesn't mend")
	}
	if got := r.remedy(ignores("it runs on")); got == nil || got.ID != "let-go" || got.ran(&r.mem) {
		t.Errorf("%+v", got)
	}
	if r.mem.KubeletRestarted = true; r.remedy(ignores("it runs on")) != nil {
		t.Error("kubelet would be restarted again and again")
	}
}

func TestAConditionThatIsNotKnownIsRefused(t *testing.T) {
	n := newFakeNode(t)
	p := n.restore(n.facts())
	p.Steps[0].If = "the moon is full"
	if err := p.vet(p.RunDir); err == nil || !strings.Contains(err.Error(), "the moon is full") {
		t.Errorf("%v", err)
	}
}
