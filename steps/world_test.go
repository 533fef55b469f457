package steps

import (
	"testing"
	"time"
)

func TestARestartCommandMayLeaveAProcessBehind(t *testing.T) {
	begun := time.Now()
	if err := (&thisNode{}).Shell(t.Context(), "sleep 5 & echo started"); err != nil {
		t.Error(err)
	}
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("it took %s", took)
	}
	if err := (&thisNode{}).Shell(t.Context(), "echo no such unit >&2; exit 5"); err == nil || err.Error() != "exit status 5: no such unit" {
		t.Errorf("%v", err)
	}
}
