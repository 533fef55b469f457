package node

import (
	"strings"
	"testing"
)

// A unit's command is printed as it is, with line feeds: nothing in it may pass
// for something that systemd says.
func TestAUnitsCommandSpeaksForNobody(t *testing.T) {
	const honest = "Id=etcd.service\nLoadState=loaded\nActiveState=active\nSubState=running\nMainPID=42\nExecStart={ path=/usr/bin/etcd ; argv[]=/usr/bin/etcd --name=a ; ignore_errors=no }\n"
	u, err := readUnit([]byte(honest))
	if err != nil || u.PID != 42 || u.Stopped() {
		t.Fatalf("%+v, %v", u, err)
	}
	two, err := readUnit([]byte(honest + "ExecStart={ path=/usr/bin/other }\nNobodyAsked=1\nNobodyAsked=2\n"))
	if err != nil || !strings.Contains(two.ExecStart, "/usr/bin/etcd") || !strings.Contains(two.ExecStart, " ; { path=/usr/bin/other") {
		t.Errorf("%+v, %v", two, err)
	}
	for _, lie := range []string{"ActiveState=inactive", "MainPID=0", "Id=sshd.service"} {
		said := strings.Replace(honest, "--name=a", "--name=a\n"+lie+"\n", 1)
		if u, err := readUnit([]byte(said)); err == nil {
			t.Errorf("%s: %+v", lie, u)
		}
	}
}
