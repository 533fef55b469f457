package node

import (
	"os/exec"
	"testing"
	"time"
)

func TestAKubeletThatIsGoneWasRestarted(t *testing.T) {
	kubelet := &exec.Cmd{Path: "/bin/sleep", Args: []string{"kubelet", "60"}}
	if err := kubelet.Start(); err != nil {
		t.Fatal(err)
	}
	k := &Kubelet{PID: kubelet.Process.Pid}
	// A moment after exec the command line is still empty.
	for end := time.Now().Add(5 * time.Second); k.Restarted(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it runs, and is missed")
		}
	}
	_ = kubelet.Process.Kill()
	_ = kubelet.Wait()
	if !k.Restarted() {
		t.Error("it is gone, and isn't missed")
	}
	if (&Kubelet{}).Restarted() {
		t.Error("none was found, and one is missed")
	}
}
