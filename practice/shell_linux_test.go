package practice

import (
	"os"
	"os/exec"
	"testing"
)

// Mounts that would hide the practice node itself are refused before the first
// one is made, and the shell stays the one without.
func TestNoRealPathsWhereTheyWouldHideTheNode(t *testing.T) {
	cmd := exec.Command("/bin/sh", "-c", "true")
	s := &session{Root: "/var/lib/somebody/practice", Socket: "/tmp/cri.sock"}
	if err := s.realPaths(t.Context(), cmd); err == nil {
		t.Error("the node lies below /var/lib, and the shell would have another /var/lib")
	}
	if cmd.Path != "/bin/sh" || len(cmd.Args) != 3 || cmd.SysProcAttr != nil || cmd.Env != nil {
		t.Errorf("the shell was changed: %v", cmd)
	}
	if _, err := os.Stat("/var/lib/somebody"); err == nil {
		t.Error("something was made on the machine")
	}
}
