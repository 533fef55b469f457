package steps

import (
	"context"
	"errors"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"etcd-rewind/node"
	"etcd-rewind/snapshot"
)

// etcd under systemd is restored, undone and redone like one in a pod; no other
// unit is told anything.
func TestAnEtcdUnderSystemdIsRestored(t *testing.T) {
	for _, way := range []string{"the file with its settings is edited", "swapped", "the whole control plane is units"} {
		t.Run(way, inFakeTime(func(t *testing.T) {
			kind := inSystemd
			if strings.HasPrefix(way, "the whole") {
				kind = allInSystemd
			}
			n := newFakeNode(t, kind)
			before, env := n.picture(), n.systemd.envNow()
			e, events := n.engine(nil)
			plan := n.plan(Choices{Swap: way == "swapped"})
			if res := e.Run(t.Context(), plan); !res.OK {
				t.Fatal(res.Error)
			}
			if err := n.works(0xbbbb); err != nil {
				t.Fatalf("not restored: %v", err)
			}
			if same := n.systemd.envNow() == env; same != (way == "swapped") {
				t.Errorf("its environment file is now\n%s", n.systemd.envNow())
			}
			var shown []string
			for _, ev := range *events {
				for _, s := range ev.Seen {
					if s.What == "unit" || s.What == "etcd.service" {
						shown = append(shown, strings.Fields(s.Is)[0])
					}
				}
			}
			if shown = slices.Compact(shown); !slices.Contains(shown, "inactive") || !slices.Contains(shown, "active,") && !slices.Contains(shown, "active") && kind == inSystemd {
				t.Errorf("the screen has seen %v", shown)
			}
			if res := e.Run(t.Context(), n.undo()); !res.OK {
				t.Fatal(res.Error)
			}
			if diff := cmp.Diff(before, n.picture()); diff != "" {
				t.Errorf("undone, the node differs:\n%s", diff)
			}
			redo, err := NewRedo(filepath.Join(n.root, "etcd-rewind"), "", Terms{})
			if err != nil {
				t.Fatal(err)
			}
			if res := e.Run(t.Context(), redo); !res.OK {
				t.Fatal(res.Error)
			}
			if err := n.works(0xbbbb); err != nil {
				t.Errorf("not redone: %v", err)
			}
			if len(n.systemd.left) > 0 {
				t.Errorf("other units: %v", n.systemd.left)
			}
			if kind == inSystemd {
				return
			}
			for _, name := range []string{"kube-controller-manager.service", "kube-scheduler.service"} {
				if !n.systemd.runs(name) || n.systemd.units[name].starts != 4 {
					t.Errorf("%s was started %d times, want by the boot, the restore, the undo and the redo", name, n.systemd.units[name].starts)
				}
			}
		}))
	}
}

// What systemd does with a service shows while it is waited for.
func TestTheStatesOfAServiceAreShown(t *testing.T) {
	inFakeTime(func(t *testing.T) {
		n := newFakeNode(t, inSystemd)
		n.mu.Lock()
		n.systemd.stops, n.systemd.slow = time.Second, time.Second
		n.mu.Unlock()
		e, events := n.engine(nil)
		if res := e.Run(t.Context(), n.plan(Choices{})); !res.OK {
			t.Fatal(res.Error)
		}
		shown := map[string][]string{} // by the action
		for _, ev := range *events {
			for _, s := range ev.Seen {
				if s.What == "unit" || s.What == "etcd.service" {
					shown[ev.Action] = slices.Compact(append(shown[ev.Action], s.Is))
				}
			}
		}
		var all []string
		for _, action := range slices.Sorted(maps.Keys(shown)) {
			all = append(all, shown[action]...)
		}
		for _, want := range []string{"deactivating (stop-sigterm), process 1001", "inactive", "activating (start), process 1002"} {
			if !slices.Contains(all, want) {
				t.Errorf("%q isn't among %q", want, all)
			}
		}
	})(t)
}

// A service that ends again and again, and one that systemd gives up, end the
// wait with the journal's last lines; retry starts it although it has failed.
func TestAServiceThatFailsToStartIsShownWithItsJournal(t *testing.T) {
	for given, says := range map[int]string{0: "etcd.service starts and ends again", 2: "etcd.service has failed (exit-code)"} {
		t.Run(says, inFakeTime(func(t *testing.T) {
			n := newFakeNode(t, inSystemd)
			before := n.picture()
			var failed []Failure
			e, _ := n.engine(func(f Failure) Choice {
				failed = append(failed, f)
				if len(failed) == 1 && given > 0 {
					n.systemd.broken = false
					return Retry
				}
				n.systemd.broken = false
				return Revert
			})
			plan := n.plan(Choices{})
			e.crash = func(_, action string) { // once the old one has stopped
				if a := plan.action(action); a != nil && RoleEtcd.starts(a.Action) && len(failed) == 0 {
					n.mu.Lock()
					n.systemd.broken, n.systemd.is.StartBurst, n.systemd.is.StartInterval, n.systemd.log = true, given, time.Hour, []string{"listen tcp 127.0.0.1:2379: bind: address already in use"}
					n.mu.Unlock()
				}
			}
			res := e.Run(t.Context(), plan)
			if len(failed) == 0 || !strings.HasPrefix(failed[0].Cause, says) || len(failed[0].Log) == 0 || failed[0].LogPath != "journalctl -u etcd.service" {
				t.Fatalf("%+v", failed)
			}
			if given > 0 {
				if !res.OK || n.works(0xbbbb) != nil {
					t.Errorf("started again, it is not restored: %+v", res.Error)
				}
				return
			}
			if !res.Reverted || !maps.Equal(before, n.picture()) {
				t.Errorf("not reverted: %+v", res.Error)
			}
			n.until("the node works as before", func() bool { return n.works(0xaaaa) == nil })
		}))
	}
}

// A service has no manifest, no image and no pod: what is said of it names none.
func TestWhatIsSaidOfAServiceNamesNoManifest(t *testing.T) {
	for _, k := range known {
		cause, hint := likelyCauseOfUnit([]string{k.words})
		for _, word := range []string{"manifest", "etcd.yaml", "image", "crictl", "kubeadm", "runAsUser", "hostPath"} {
			if strings.Contains(cause+hint, word) {
				t.Errorf("%s: %s; %s", k.words, cause, hint)
			}
		}
	}
	inFakeTime(func(t *testing.T) {
		n := newFakeNode(t, allInSystemd)
		e, _ := n.engine(nil)
		plan := n.plan(Choices{})
		if res := e.Run(t.Context(), plan); !res.OK {
			t.Fatal(res.Error)
		}
		for _, p := range []*Plan{plan, n.undo()} {
			for _, f := range p.Summary {
				if strings.Contains(f.Name+f.Value, "manifest") {
					t.Errorf("%s: %+v", p.Kind, f)
				}
			}
			for a := range p.actions() {
				if _, is := a.Action.(*RestartKubelet); is {
					continue // it watches the API, whatever runs that
				}
				if strings.Contains(a.Title(), "manifest") || strings.Contains(a.Title(), "kubelet") {
					t.Errorf("%s: %s", p.Kind, a.Title())
				}
			}
		}
	})(t)
}

// A machine that boots in the middle of a run starts its services: what the run
// had stopped is stopped once more before data is moved, on either way.
func TestAServiceThatTheBootHasStartedIsStoppedAgain(t *testing.T) {
	for _, way := range []string{"resume", "undo"} {
		t.Run(way, inFakeTime(func(t *testing.T) {
			n := newFakeNode(t, inSystemd)
			before := n.picture()
			e, _ := n.engine(nil)
			if !n.crashAt(e, n.plan(Choices{}), crashed{"before the result", "start-etcd.1"}) {
				t.Fatal("it did not crash")
			}
			if err := n.StartUnit(t.Context(), "etcd.service"); err != nil {
				t.Fatal(err)
			}
			n.until("the boot has started etcd", func() bool { s, err := n.Etcd(t.Context(), false); return err == nil && s.ClusterID == 0xaaaa })
			moved := false // while it ran
			e.crash = func(point, action string) {
				n.mu.Lock()
				defer n.mu.Unlock()
				_, runs := n.systemd.etcd()
				moved = moved || runs && point == "after the intent" && (action == "start-etcd.1" || action == "undo-start-etcd.3")
			}
			dir := filepath.Join(n.root, "etcd-rewind")
			plan, want := NewResume, uint64(0xbbbb)
			if way == "undo" {
				plan, want = NewUndo, 0xaaaa
			}
			p, err := plan(dir, "", Terms{})
			if err != nil {
				t.Fatal(err)
			}
			if res := e.Run(t.Context(), p); !res.OK {
				t.Fatal(res.Error)
			}
			if moved {
				t.Error("its data was moved while it ran")
			}
			if n.until("it runs", func() bool { return n.works(want) == nil }); way == "undo" && !maps.Equal(before, n.picture()) {
				t.Error("undone, the node differs")
			}
		}))
	}
}

// What runs as a service is found as one, in its role: without kubelet's manifests,
// and without a kubelet.
func TestAControlPlaneOfServicesIsFound(t *testing.T) {
	t.Run("all of it", inFakeTime(func(t *testing.T) {
		n := newFakeNode(t, allInSystemd)
		f := n.facts()
		if !slices.Equal(f.Roles(), Roles) || f.onPods() || f.API.Source.Name() != "kube-apiserver.service" || f.Reach.API.ReadyURL != "https://10.77.0.11:6443/readyz" {
			t.Errorf("%v %v %+v", f.Roles(), f.onPods(), f.API)
		}
		f.Kubelet, f.KubeletErr = nil, &noKubelet{n.root}
		info := *snapshotOfTheTests
		info.Nodes = []snapshot.Object{{Name: "worker1", UID: "w"}}
		for _, v := range Check(t.Context(), f, &info, Choices{}) {
			switch v.Check {
			case "snapshot-node", CheckEtcdManifest, CheckAPIManifest, CheckAPIServers, "etcd-servers", "unit-settings", "unit-others":
				if v.Level != Pass {
					t.Errorf("%+v", v)
				}
			case "kubelet", "container-runtime", "manifest-directory", "stray-manifests", "same-file-system":
				t.Errorf("checked on a node of services: %+v", v)
			}
		}
	}))
	t.Run("one that came with a package, and isn't used", inFakeTime(func(t *testing.T) {
		n := newFakeNode(t, allInSystemd)
		f := n.facts()
		s := n.systemd.found()
		ask := s.ask
		s.ask = func(ctx context.Context, name string) (*node.Unit, error) {
			u, err := ask(ctx, name)
			if name == "kube-apiserver.service" {
				u.Active, u.FileState, u.PID = "inactive", "disabled", 0
			}
			return u, err
		}
		f.API, f.Etcd, f.Controllers, f.EtcdErr, f.APIErr = nil, nil, nil, nil, nil
		f.readManifests(t.Context())
		if f.readUnits(t.Context(), s); f.Runs(RoleAPI) || !f.Runs(RoleEtcd) {
			t.Errorf("%v", f.Roles())
		}
	}))
	t.Run("one whose command isn't understood", inFakeTime(func(t *testing.T) {
		n := newFakeNode(t, allInSystemd)
		n.write("etc/systemd/system/kube-apiserver.service", []byte("[Service]\nExecStart=/usr/local/bin/hyperkube apiserver\n"))
		// Not "no API server": it would run while etcd's data is replaced.
		if f := n.discovered(); f.API != nil || !f.Runs(RoleAPI) || f.usable(true) == nil {
			t.Errorf("%v, %v", f.API, f.APIErr)
		}
	}))
	t.Run("etcd's unit is masked", inFakeTime(func(t *testing.T) {
		n := newFakeNode(t, inSystemd)
		f := n.facts()
		s := n.systemd.found()
		s.ask = func(_ context.Context, name string) (*node.Unit, error) {
			return &node.Unit{Name: name, Load: "masked"}, nil
		}
		f.Etcd, f.EtcdErr = nil, nil
		f.readManifests(t.Context())
		if f.readUnits(t.Context(), s); f.EtcdErr == nil || !strings.Contains(f.EtcdErr.Error(), "etcd.service is masked") {
			t.Error(f.EtcdErr)
		}
	}))
}

// What systemd doesn't say, or a disk doesn't give, isn't absent, and holds up
// nobody for long.
func TestAServiceThatCannotBeReadIsNotAbsent(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(s *systemd, stop chan struct{})
		says  string
	}{
		"systemd says nothing of it": {func(s *systemd, _ chan struct{}) {
			s.ask = func(context.Context, string) (*node.Unit, error) {
				return nil, errors.New("it says MainPID twice")
			}
		}, "systemd doesn't say what etcd.service is: it says MainPID twice"},
		"its files are on a disk that hangs": {func(s *systemd, stop chan struct{}) {
			s.host.Read = func(string) ([]byte, error) {
				<-stop
				return nil, errors.New("stale file handle")
			}
		}, "the files of etcd.service can't be read: the disk with the files of etcd.service has not answered for 3 s"},
	} {
		t.Run(name, inFakeTime(func(t *testing.T) {
			n := newFakeNode(t, inSystemd)
			f, s, stop := n.facts(), n.systemd.found(), make(chan struct{})
			defer close(stop)
			c.spoil(s, stop)
			f.Etcd, f.EtcdErr = nil, nil
			f.readManifests(t.Context())
			begun := time.Now()
			f.readUnits(t.Context(), s)
			if f.EtcdErr == nil || f.EtcdErr.Error() != c.says || !f.Runs(RoleEtcd) || time.Since(begun) > unitsLimit {
				t.Errorf("after %s: %v, %v", time.Since(begun), f.EtcdErr, f.Roles())
			}
		}))
	}
}

// A run, its undo and a redo start a service three times within minutes. Where
// systemd allows fewer, its count starts again each time.
func TestAServiceThatMayRarelyBeStartedIsStarted(t *testing.T) {
	for _, how := range []string{"rarely", "rarely and not enabled", "often"} {
		t.Run(how, inFakeTime(func(t *testing.T) {
			n := newFakeNode(t, inSystemd)
			rarely := how != "often"
			n.systemd.loose = rarely && how != "rarely"
			n.systemd.is.StartBurst, n.systemd.is.StartInterval = 5, 10*time.Second // systemd's own
			if rarely {
				n.systemd.is.StartBurst, n.systemd.is.StartInterval = 2, time.Hour
			}
			e, _ := n.engine(nil)
			if res := e.Run(t.Context(), n.plan(Choices{})); !res.OK {
				t.Fatal(res.Error)
			}
			for range 2 {
				time.Sleep(10 * time.Second) // a real node isn't that fast
				if res := e.Run(t.Context(), n.undo()); !res.OK {
					t.Fatal(res.Error)
				}
				redo, err := NewRedo(filepath.Join(n.root, "etcd-rewind"), "", Terms{})
				if err != nil {
					t.Fatal(err)
				}
				if res := e.Run(t.Context(), redo); !res.OK {
					t.Fatal(res.Error)
				}
			}
			if told := slices.Contains(n.systemd.told, "reset-failed etcd.service"); told != rarely {
				t.Errorf("%v", n.systemd.told)
			}
		}))
	}
}

// Of services everything starts with the machine: in the middle of a run that is
// etcd, the API server on it, and its controllers. All are stopped before data is
// moved, and those that have seen the other data are restarted.
func TestABootStartsTheWholeControlPlane(t *testing.T) {
	type moment struct{ way, when string }
	var moments []moment
	for _, when := range []string{"start-etcd.1", "start-kube-apiserver.1", "start-kube-apiserver.3"} {
		moments = append(moments, moment{"resume", when}, moment{"undo", when})
	}
	for _, m := range moments {
		way := m.way
		t.Run(way+" after "+m.when, inFakeTime(func(t *testing.T) {
			n := newFakeNode(t, allInSystemd)
			before := n.picture()
			e, _ := n.engine(nil)
			p := n.plan(Choices{Swap: true})
			if !n.crashAt(e, p, crashed{"before the result", m.when}) {
				t.Fatal("it did not crash")
			}
			n.mu.Lock()
			n.systemd.boot()
			n.mu.Unlock()
			n.until("the boot has started all", func() bool { return n.works(0xbbbb) == nil })
			moved := ""
			e.crash = func(point, action string) {
				n.mu.Lock()
				defer n.mu.Unlock()
				if point == "in the middle" && strings.Contains(action, "start-etcd") && (n.systemd.runs("etcd.service") || n.systemd.runs("kube-apiserver.service")) {
					moved = action
				}
			}
			plan, want := NewResume, uint64(0xbbbb)
			if way == "undo" {
				plan, want = NewUndo, 0xaaaa
			}
			p, err := plan(n.stateDir(), "", Terms{})
			n.must(err)
			if res := e.Run(t.Context(), p); !res.OK {
				t.Fatal(res.Error)
			}
			n.until("it runs", func() bool { return n.works(want) == nil })
			if moved != "" {
				t.Errorf("%s moved data while something ran on it", moved)
			}
			if way == "undo" && !maps.Equal(before, n.picture()) {
				t.Error("undone, the node differs")
			}
			told := slices.Index(n.systemd.told, "stop kube-scheduler.service")
			if again := slices.Index(n.systemd.told, "start kube-scheduler.service"); told < 0 || again < told {
				t.Errorf("the scheduler still knows the other data: %v", n.systemd.told)
			}
			if api := slices.Index(n.systemd.told, "start kube-apiserver.service"); api >= 0 && api < told {
				t.Errorf("the API server is back before the scheduler has stopped: %v", n.systemd.told)
			}
		}))
	}
}

// A controller that has seen the other data is never there with the API back: its
// service is told to stop before kube-apiserver's is told to start.
func TestServicesOfControllersAreStoppedBeforeTheAPIServerStarts(t *testing.T) {
	inFakeTime(func(t *testing.T) {
		n := newFakeNode(t, allInSystemd)
		e, _ := n.engine(nil)
		run := func(p *Plan) {
			t.Helper()
			n.mu.Lock()
			n.systemd.told = nil
			n.mu.Unlock()
			if res := e.Run(t.Context(), p); !res.OK {
				t.Fatal(res.Error)
			}
			told := n.systemd.told
			for _, name := range []string{"kube-controller-manager.service", "kube-scheduler.service"} {
				stop, api, start := slices.Index(told, "stop "+name), slices.Index(told, "start kube-apiserver.service"), slices.Index(told, "start "+name)
				if stop < 0 || api < stop || start < api || !n.systemd.runs(name) {
					t.Errorf("%s: %q", p.Title, told)
				}
			}
		}
		run(n.plan(Choices{}))
		run(n.undo())
		redo, err := NewRedo(n.stateDir(), "", Terms{})
		n.must(err)
		run(redo)
	})(t)
}
