package steps

import (
	"os"
	"strings"
	"testing"
	"time"

	"etcd-rewind/snapshot"
)

// What would go wrong when systemd starts etcd is known before.
func TestWhatSystemdWouldMakeOfTheStartIsSeenBefore(t *testing.T) {
	for _, c := range []struct {
		name, check string
		spoil       func(n *fakeNode, f *Facts, u *unitEtcd, c *Choices, info *snapshot.Info)
		level       Level
		says        string
	}{
		{"as it should be", "unit-settings", func(*fakeNode, *Facts, *unitEtcd, *Choices, *snapshot.Info) {}, Pass, "etcd.env"},
		{"a setting twice", "unit-settings", func(n *fakeNode, f *Facts, u *unitEtcd, _ *Choices, _ *snapshot.Info) {
			file := u.unit.Fragment
			data, err := os.ReadFile(file)
			n.must(err)
			n.must(os.WriteFile(file, []byte(strings.Replace(string(data), "/bin/etcd", "/bin/etcd --name=cp1", 1)), 0o644))
			e, err := readUnit(t.Context(), u.unit, n.systemd.found().host)
			n.must(err)
			u.Etcd = e
		}, Error, "--name ("},
		{"a setting twice, for an etcd that bears it", "unit-settings", func(n *fakeNode, f *Facts, u *unitEtcd, _ *Choices, _ *snapshot.Info) {
			u.Twice = append(u.Twice, u.Twice...)
			f.EtcdVersion = "3.3.27"
		}, Pass, ""},
		{"files that systemd has not read", "unit-settings", func(_ *fakeNode, _ *Facts, u *unitEtcd, _ *Choices, _ *snapshot.Info) { u.unit.NeedReload = true }, Error, "changed after systemd read"},
		{"another command than the files have", "unit-settings", func(_ *fakeNode, _ *Facts, u *unitEtcd, _ *Choices, _ *snapshot.Info) {
			u.unit.ExecStart = "{ path=/usr/local/bin/etcd ; argv[]=/usr/local/bin/etcd --name=x ; ignore_errors=no ; start_time=[n/a] }"
		}, Error, "--name=x"},
		{"the same command", "unit-settings", func(_ *fakeNode, _ *Facts, u *unitEtcd, _ *Choices, _ *snapshot.Info) {
			u.unit.ExecStart = "{ path=/usr/local/bin/etcd ; argv[]=/usr/local/bin/etcd ; ignore_errors=no ; start_time=[n/a] }"
		}, Pass, ""},
		{"enough time", "unit-start", func(*fakeNode, *Facts, *unitEtcd, *Choices, *snapshot.Info) {}, Pass, "1m30s"},
		{"too little time for so much", "unit-start", func(_ *fakeNode, _ *Facts, _ *unitEtcd, _ *Choices, info *snapshot.Info) { info.Size = 8 << 30 }, Warn, "TimeoutStartSec"},
		{"too little time, and no second start", "unit-start", func(_ *fakeNode, _ *Facts, u *unitEtcd, _ *Choices, info *snapshot.Info) {
			info.Size, u.unit.Restart = 8<<30, "no"
		}, Warn, "not started again (Restart=no)"},
		{"too little time, and few starts", "unit-start", func(_ *fakeNode, _ *Facts, u *unitEtcd, _ *Choices, info *snapshot.Info) {
			info.Size, u.unit.StartBurst, u.unit.StartInterval = 8<<30, 3, time.Hour
		}, Warn, "3 times in 1h0m0s (StartLimitBurst), and then no more"},
		{"enough time for one, and too little for a quorum", "unit-start", func(_ *fakeNode, _ *Facts, _ *unitEtcd, c *Choices, info *snapshot.Info) {
			info.Size, c.Fleet = 2<<30, fleetOfTheTests
		}, Warn, "an etcd that waits for 2 of 3 members with 2.1 GB of data"},
		{"enough time for one", "unit-start", func(_ *fakeNode, _ *Facts, _ *unitEtcd, _ *Choices, info *snapshot.Info) { info.Size = 2 << 30 }, Pass, "1m30s"},
		{"enough time for a quorum", "unit-start", func(_ *fakeNode, _ *Facts, _ *unitEtcd, c *Choices, info *snapshot.Info) {
			info.Size, c.Fleet = 1<<30, fleetOfTheTests
		}, Pass, "1m30s"},
		{"an election longer than that", "unit-start", func(_ *fakeNode, _ *Facts, u *unitEtcd, c *Choices, info *snapshot.Info) {
			info.Size, u.unit.TimeoutStart, c.Fleet = 1<<20, 10*time.Second, fleetOfTheTests
		}, Warn, "an etcd that waits for 2 of 3 members"},
		{"no limit", "unit-start", func(_ *fakeNode, _ *Facts, u *unitEtcd, _ *Choices, info *snapshot.Info) {
			info.Size, u.unit.TimeoutStart = 8<<30, 0
		}, Pass, ""},
		{"nothing else starts it", "unit-others", func(*fakeNode, *Facts, *unitEtcd, *Choices, *snapshot.Info) {}, Pass, "nothing starts etcd.service"},
		{"a socket starts it", "unit-others", func(_ *fakeNode, _ *Facts, u *unitEtcd, _ *Choices, _ *snapshot.Info) {
			u.unit.TriggeredBy, u.unit.States = []string{"etcd.socket"}, map[string]string{"etcd.socket": "active"}
		}, Error, "etcd.socket starts etcd.service again"},
		{"a timer that is stopped", "unit-others", func(_ *fakeNode, _ *Facts, u *unitEtcd, _ *Choices, _ *snapshot.Info) {
			u.unit.TriggeredBy, u.unit.States = []string{"etcd.timer"}, map[string]string{"etcd.timer": "inactive"}
		}, Pass, ""},
		{"another unit upholds it", "unit-others", func(_ *fakeNode, _ *Facts, u *unitEtcd, _ *Choices, _ *snapshot.Info) {
			u.unit.UpheldBy, u.unit.States = []string{"kubernetes.target"}, map[string]string{"kubernetes.target": "active"}
		}, Error, "kubernetes.target"},
		{"it may not be stopped", "unit-others", func(_ *fakeNode, _ *Facts, u *unitEtcd, _ *Choices, _ *snapshot.Info) { u.unit.CanStop = false }, Error, "stop or start"},
		{"its stop reboots the machine", "unit-others", func(_ *fakeNode, _ *Facts, u *unitEtcd, _ *Choices, _ *snapshot.Info) {
			u.unit.SuccessAction = "reboot"
		}, Error, "reboot"},
		{"its failure reboots the machine", "unit-others", func(_ *fakeNode, _ *Facts, u *unitEtcd, _ *Choices, _ *snapshot.Info) {
			u.unit.FailureAction = "reboot-force"
		}, Warn, "reboot-force"},
		{"too many starts reboot the machine", "unit-others", func(_ *fakeNode, _ *Facts, u *unitEtcd, _ *Choices, _ *snapshot.Info) {
			u.unit.StartLimitAction = "reboot"
		}, Warn, "StartLimitAction"},
		{"another is stopped with it", "unit-others", func(_ *fakeNode, _ *Facts, u *unitEtcd, _ *Choices, _ *snapshot.Info) {
			u.unit.Dependents, u.unit.States = []string{"flanneld.service"}, map[string]string{"flanneld.service": "active"}
		}, Warn, "stops flanneld.service with etcd.service"},
		{"a program writes it", "managed-file", func(n *fakeNode, _ *Facts, u *unitEtcd, _ *Choices, _ *snapshot.Info) {
			n.must(os.WriteFile(n.systemd.env, []byte("# Managed by Puppet\n"+n.systemd.envNow()+"\n"), 0o644))
			e, err := readUnit(t.Context(), u.unit, n.systemd.found().host)
			n.must(err)
			u.Etcd = e
		}, Pass, "keeps its path"},
		{"a program writes it, and a directory is named", "managed-file", func(n *fakeNode, f *Facts, u *unitEtcd, c *Choices, _ *snapshot.Info) {
			n.must(os.WriteFile(n.systemd.env, []byte("# Ansible managed\n"+n.systemd.envNow()+"\n"), 0o644))
			e, err := readUnit(t.Context(), u.unit, n.systemd.found().host)
			n.must(err)
			u.Etcd, c.DataDir = e, n.oldData()+"-2"
		}, Warn, "Ansible managed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newFakeNode(t, inSystemd)
			f := n.facts()
			u, is := f.Etcd.unit()
			if !is {
				t.Fatal("etcd is no service")
			}
			info, choices := *snapshotOfTheTests, Choices{}
			c.spoil(n, f, &u, &choices, &info)
			f.Etcd = &Etcd{u.EtcdSettings, u}
			for _, v := range Check(t.Context(), f, &info, choices) {
				if v.Check == c.check {
					if v.Level != c.level || !strings.Contains(v.Cause, c.says) {
						t.Errorf("%+v", v)
					}
					return
				}
			}
			t.Error("it isn't checked")
		})
	}
}
