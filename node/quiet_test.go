package node

import (
	"os"
	"os/exec"
	"testing"
)

func TestLibrariesNeverWriteToTheScreen(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), envNoise+"=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if len(out) > 0 {
		t.Errorf("written over the screen:\n%s", out)
	}
}
