package node

import (
	"slices"
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

// A service is known by its name, and by what it runs, whether it runs or not.
func TestServicesAreReadFromWhatSystemctlLists(t *testing.T) {
	const listed = `etcd-events.service loaded active running etcd for events
● etcd.service loaded failed failed etcd
* etcd@m1.service loaded inactive dead etcd m1
etcd-gone.service not-found inactive dead etcd-gone.service
etcd.socket loaded active listening a socket

etcd@.service disabled enabled
etcd.service enabled enabled
kv.service disabled enabled
--help.service enabled enabled
-.service enabled enabled
`
	want := []string{"etcd-events.service", "etcd.service", "etcd@m1.service", "kv.service"}
	if names := servicesIn(listed); !slices.Equal(names, want) {
		t.Errorf("%q", names)
	}
	const shown = `Id=kv.service
ExecStart={ path=/opt/kv/etcd ; argv[]=/opt/kv/etcd --name=m1 ; ignore_errors=no ; start_time=[n/a] }
LoadState=loaded

ExecStart={ path=/opt/kv/etcd ; argv[]=/opt/kv/etcd --name=m1 ; ignore_errors=no ; start_time=[n/a] }
Id=kv.service
LoadState=loaded

Id=masked.service
ExecStart={ path=/opt/kv/etcd ; argv[]=/opt/kv/etcd ; ignore_errors=no }
LoadState=masked

Id=--version.service
ExecStart={ path=/opt/kv/etcd ; argv[]=/opt/kv/etcd ; ignore_errors=no }
LoadState=loaded

Id=none.service
LoadState=loaded
`
	if all := commandsIn(shown); len(all) != 1 || all[0].Name != "kv.service" || !all[0].Names("etcd") {
		t.Errorf("%+v", all)
	}
}

func TestACommandNamesItsProgram(t *testing.T) {
	for argv, names := range map[string]bool{
		"/usr/local/bin/etcd --name=a": true,
		"/opt/etcd-v3.5.9 --name=a":    true,
		"/usr/bin/docker run --net=host -v /srv/kv:/data quay.io/coreos/etcd:v3.6.5 --name a":     true,
		"/usr/bin/nerdctl run registry:5000/etcd@sha256:0b1c":                                     true,
		`/bin/bash -c GOMAXPROCS=$(nproc) /usr/bin/etcd --data-dir="${ETCD_DATA_DIR}"`:            true,
		"/bin/sh -c exec '/usr/bin/etcd'":                                                         true,
		"/usr/bin/etcdctl endpoint health":                                                        false,
		"/usr/local/bin/etcd-backup.sh":                                                           false,
		"/usr/bin/kube-apiserver --etcd-servers=https://127.0.0.1:2379 --etcd-cafile=/etc/etcd/c": false,
	} {
		c := ServiceCommand{"a.service", "{ path=/x ; argv[]=" + argv + " ; ignore_errors=no ; start_time=[n/a] }"}
		if c.Names("etcd") != names {
			t.Errorf("%s: %t", argv, !names)
		}
	}
}

// A process is a service's by its cgroup: of systemd's own hierarchy, and also
// where it has made a cgroup below that.
func TestAProcessIsOfTheServiceInWhoseCgroupItIs(t *testing.T) {
	for cgroups, want := range map[string]string{
		"0::/system.slice/etcd.service\n":                                                   "etcd.service",
		"0::/system.slice/system-etcd.slice/etcd@m1.service\n":                              "etcd@m1.service",
		"12:memory:/docker/0b1c\n1:name=systemd:/system.slice/kv.service\n0::/init.scope\n": "kv.service",
		"0::/system.slice/etcd.service/init\n":                                              "etcd.service",
		"0::/user.slice/user-0.slice/session-1.scope\n":                                     "",
		"": "",
	} {
		if got := unitOfCgroup(cgroups); got != want {
			t.Errorf("%q: %q, want %q", cgroups, got, want)
		}
	}
}
