package steps

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The command that restarts kubelet runs as root: nothing in the caller's
// environment decides what its words mean.
func TestTheRestartCommandSeesAFixedEnvironment(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "systemctl"), []byte("#!/bin/sh\ntouch "+dir+"/was-run\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	t.Setenv("ENV", dir+"/systemctl")
	t.Setenv("LD_PRELOAD_OF_A_TEST", "x")
	out := filepath.Join(dir, "env")
	n := &thisNode{}
	if err := n.Shell(t.Context(), "env >"+out+"; command -v systemctl >>"+out+" || true"); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{dir + ":", "LD_PRELOAD_OF_A_TEST", dir + "/systemctl"} {
		if strings.Contains(string(raw), bad) {
			t.Errorf("%q is in what it sees:\n%s", bad, raw)
		}
	}
}
