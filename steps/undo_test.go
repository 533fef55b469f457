package steps

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"etcd-rewind/manifest"
	"etcd-rewind/node"
	"etcd-rewind/problem"
)

// restored runs a restore on a new node. etcd may be dead before it: then
// nothing but its files shows whose data it had.
func restored(t *testing.T, etcdDead bool) *fakeNode {
	t.Helper()
	n := newFakeNode(t)
	f := n.facts()
	if etcdDead {
		f.Live, f.APIReady = nil, false
	}
	n.restore(f)
	return n
}

func (n *fakeNode) restore(f *Facts) *Plan {
	n.t.Helper()
	p, err := NewRestore(f, snapshotOfTheTests, Choices{})
	if err != nil {
		n.t.Fatal(err)
	}
	e, _ := n.engine(nil)
	if res := e.Run(n.t.Context(), p); !res.OK {
		n.t.Fatal(res.Error)
	}
	return p
}

func (n *fakeNode) stateDir() string { return filepath.Join(n.root, "etcd-rewind") }
func (n *fakeNode) oldData() string  { return filepath.Join(n.root, "lib/etcd") }

// runsRestored says whether the node runs as the restore left it.
func (n *fakeNode) runsRestored() bool {
	s, err := n.Etcd(context.Background(), false)
	return err == nil && s.ClusterID == 0xbbbb && n.apiReady()
}

// Whatever has become of the old data, an undo that would not lead back to it
// is refused before anything is touched, and the plan says so. Where the data
// is back, it works.
func TestAnUndoIsRefusedWhenItsTargetIsNotThere(t *testing.T) {
	other := func(n *fakeNode) { // another cluster's data, as a backup tool may put it there
		putEtcdFiles(n.t, n.oldData(), 0xcccc, 3)
	}
	aside := func(n *fakeNode) {
		if err := os.Rename(n.oldData(), n.oldData()+".aside"); err != nil {
			n.t.Fatal(err)
		}
	}
	without := func(name string) func(*fakeNode) {
		return func(n *fakeNode) {
			if err := os.RemoveAll(filepath.Join(n.oldData(), name)); err != nil {
				n.t.Fatal(err)
			}
		}
	}
	for _, c := range []struct {
		name, cause string
		spoil       func(*fakeNode)
	}{
		{"moved away", "isn't in", aside},
		{"moved away, and an empty directory in its place", "isn't in", func(n *fakeNode) {
			aside(n)
			if err := os.Mkdir(n.oldData(), 0o700); err != nil {
				n.t.Fatal(err)
			}
		}},
		{"member is a mount that is gone", "isn't in", without("member")},
		{"without its WAL", "cannot tell whether", without("member/wal")},
		{"another cluster's", "another cluster's", other},
		{"the restored cluster's own", "another cluster's", func(n *fakeNode) { putEtcdFiles(n.t, n.oldData(), 0xbbbb, 0) }},
		{"cut off", "can't be used", func(n *fakeNode) {
			if err := os.Truncate(filepath.Join(n.oldData(), "member/snap/db"), 100); err != nil {
				n.t.Fatal(err)
			}
		}},
	} {
		for _, dead := range []bool{true, false} {
			name := c.name + ", etcd ran"
			if dead {
				name = c.name + ", etcd was dead"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				n := restored(t, dead)
				c.spoil(n)
				before := n.picture()
				for _, accept := range [][]string{nil, {checkOldData}} {
					p, err := NewUndo(n.stateDir(), "", Terms{Accept: accept})
					if err != nil {
						t.Fatal(err)
					}
					if told := fact(p.Summary, "etcd will run on"); !strings.Contains(told, c.cause) {
						t.Errorf("the plan says %q, not %q", told, c.cause)
					}
					e, events := n.engine(nil)
					res := e.Run(t.Context(), p)
					if res.ExitCode() != 4 || res.Error == nil || !strings.Contains(res.Error.Cause, c.cause) {
						t.Fatalf("exit status %d: %+v", res.ExitCode(), res.Error)
					}
					if len(*events) != 1 || !n.runsRestored() {
						t.Errorf("something was done: %d events", len(*events))
					}
				}
				if diff := cmp.Diff(before, n.picture()); diff != "" {
					t.Error(diff)
				}
			})
		}
	}
	t.Run("and works when the data is back", func(t *testing.T) {
		t.Parallel()
		n := restored(t, true)
		aside(n)
		p := n.undo()
		e, _ := n.engine(nil)
		if res := e.Run(t.Context(), p); res.ExitCode() != 4 {
			t.Fatalf("%+v", res)
		}
		if err := os.Rename(n.oldData()+".aside", n.oldData()); err != nil {
			t.Fatal(err)
		}
		if res := e.Run(t.Context(), n.undo()); !res.OK {
			t.Fatal(res.Error)
		}
		n.until("the old cluster runs", func() bool {
			s, err := n.Etcd(t.Context(), false)
			return err == nil && s.ClusterID == 0xaaaa
		})
	})
	t.Run("and what goes away after the plan was shown is seen too", func(t *testing.T) {
		t.Parallel()
		n := restored(t, false)
		p := n.undo()
		aside(n)
		e, _ := n.engine(nil)
		if res := e.Run(t.Context(), p); res.ExitCode() != 4 || !n.runsRestored() {
			t.Fatalf("%+v", res)
		}
	})
}

// A WAL that can't be read names no cluster. The same files are a match, and
// others are not.
func TestDataOfAnUnknownClusterIsNoMatch(t *testing.T) {
	spoilWAL := func(n *fakeNode) {
		names, err := filepath.Glob(filepath.Join(n.oldData(), "member/wal/*"))
		if err != nil || len(names) != 1 {
			n.t.Fatal(names, err)
		}
		if err := os.WriteFile(names[0], []byte("damaged"), 0o600); err != nil {
			n.t.Fatal(err)
		}
	}
	n := newFakeNode(t)
	spoilWAL(n)
	f := n.facts()
	f.Live, f.APIReady = nil, false
	n.restore(f)
	if err := n.undo().Allowed(t.Context()); err != nil {
		t.Errorf("the same files: %v", err)
	}
	db := filepath.Join(n.oldData(), "member/snap/db")
	data, err := os.ReadFile(db)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(db+".new", append(data, data...), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(db+".new", db); err != nil {
		t.Fatal(err)
	}
	if err := n.undo().Allowed(t.Context()); err == nil || !strings.Contains(err.Error(), "cannot tell whether") {
		t.Errorf("other files: %v", err)
	}
}

// Where there was no data at all before the restore, an undo would boot a blank
// cluster. The restore's plan says so, and only its name overrides it.
func TestAnUndoToNothingHasToBeNamed(t *testing.T) {
	n := newFakeNode(t)
	f := n.facts()
	f.Live, f.APIReady = nil, false
	if err := os.RemoveAll(filepath.Join(n.oldData(), "member")); err != nil {
		t.Fatal(err)
	}
	p := n.restore(f)
	if told := fact(p.Summary, "old data"); !strings.Contains(told, "an undo would boot a blank cluster") {
		t.Errorf("the restore's plan says %q", told)
	}
	err := n.undo().Allowed(t.Context())
	if why := problem.Of(err); why == nil || !strings.Contains(why.Cause, "blank cluster") || !strings.Contains(why.Hint, checkOldData) {
		t.Errorf("%v", err)
	}
	named, err := NewUndo(n.stateDir(), "", Terms{Accept: []string{checkOldData}})
	if err != nil {
		t.Fatal(err)
	}
	e, _ := n.engine(nil)
	if res := e.Run(t.Context(), named); !res.OK {
		t.Fatal(res.Error)
	}
}

// When a run fails and its way back is gone, undoing isn't offered: it would
// end in a blank cluster.
func TestAFailedRunDoesNotOfferAnUndoThatLeadsNowhere(t *testing.T) {
	n := newFakeNode(t)
	n.mu.Lock()
	n.broken["etcd-cp1"] = true // on whatever data it starts next
	n.mu.Unlock()
	var asked []Failure
	e, _ := n.engine(func(f Failure) Choice {
		asked = append(asked, f)
		return f.Choices[0]
	})
	sink := e.Sink
	e.Sink = func(ev Event) {
		if sink(ev); ev.Step == "start-etcd" && ev.Type == TypeStep && ev.State == Started {
			if err := os.Rename(n.oldData(), n.oldData()+".aside"); err != nil {
				t.Error(err)
			}
		}
	}
	f := n.facts()
	f.Live, f.APIReady = &node.EtcdStatus{ClusterID: 0xaaaa, Revision: 900, Keys: 50}, true
	p, err := NewRestore(f, snapshotOfTheTests, Choices{})
	if err != nil {
		t.Fatal(err)
	}
	res := e.Run(t.Context(), p)
	if len(asked) == 0 || asked[0].Choices[0] != Leave || !strings.Contains(asked[0].Hint, "undo is blocked") {
		t.Fatalf("asked %+v", asked)
	}
	for _, c := range asked[0].Choices {
		if c == Revert {
			t.Error("undo is offered")
		}
	}
	if res.ExitCode() != 3 {
		t.Errorf("exit status %d", res.ExitCode())
	}
}

// The cluster that a node goes back to is compared with its files once it runs,
// also when nothing else showed whose it was.
func TestTheOldClusterIsComparedWithItsFiles(t *testing.T) {
	n := newFakeNode(t)
	f := n.facts()
	f.Live = nil // the API was ready, and etcd refused to answer (auth)
	n.restore(f)
	var compared []uint64
	for _, s := range n.undo().Steps {
		for _, a := range s.Actions {
			if w, ok := a.Action.(*WaitEtcd); ok {
				compared = append(compared, w.ClusterID)
			}
		}
	}
	if len(compared) != 1 || compared[0] != 0xaaaa {
		t.Errorf("compared with %x", compared)
	}
	if err := (&WaitEtcd{}).compare(nil, &node.EtcdStatus{ClusterID: 0xaaaa}); err == nil {
		t.Error("an unknown cluster matches")
	}
}

// An undo that was interrupted, at any point, can be turned round: the restored
// cluster runs again, and can be undone again.
func TestARedoComesBackFromAnyPointOfAnUndo(t *testing.T) {
	first := restored(t, false)
	var points []crashed
	for _, s := range first.undo().Steps {
		for _, a := range s.Actions {
			if s.When == "" {
				points = append(points, crashed{"after the intent", a.ID})
			}
		}
	}
	for _, at := range append(points, crashed{"at the end", ""}) {
		t.Run(at.action+" "+at.point, func(t *testing.T) {
			t.Parallel()
			n := newFakeNode(t)
			before := n.picture()
			n.restore(n.facts())
			e, _ := n.engine(nil)
			if died := n.crashAt(e, n.undo(), at); died != (at.action != "") {
				t.Fatal("it died:", died)
			}
			if at.action != "" {
				runs, err := Runs(n.stateDir())
				if err != nil || len(runs) != 1 || !strings.Contains(fact(Standing(runs[0], time.Now()), "to redo"), "etcd-rewind redo "+runs[0].Run) {
					t.Errorf("a redo isn't named: %v %+v", err, Standing(runs[0], time.Now()))
				}
			}
			redo, err := NewRedo(n.stateDir(), "", Terms{})
			if err != nil {
				t.Fatal(err)
			}
			if res := e.Run(t.Context(), redo); !res.OK || res.ExitCode() != 0 || !n.runsRestored() {
				t.Fatalf("%+v", res.Error)
			}
			if runs, err := Runs(n.stateDir()); err != nil || runs[0].State != RunRestored {
				t.Errorf("%+v %v", runs, err)
			}
			if res := e.Run(t.Context(), n.undo()); !res.OK {
				t.Fatal(res.Error)
			}
			if diff := cmp.Diff(before, n.picture()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A redo may be interrupted, too.
func TestARedoThatIsInterruptedIsResumed(t *testing.T) {
	undone := func(t *testing.T) (*fakeNode, *Engine, *Plan) {
		n := restored(t, false)
		e, _ := n.engine(nil)
		if res := e.Run(t.Context(), n.undo()); !res.OK {
			t.Fatal(res.Error)
		}
		p, err := NewRedo(n.stateDir(), "", Terms{})
		if err != nil {
			t.Fatal(err)
		}
		return n, e, p
	}
	_, _, plan := undone(t)
	for _, s := range plan.Steps {
		for _, a := range s.Actions {
			if s.When != "" {
				continue
			}
			t.Run(a.ID, func(t *testing.T) {
				t.Parallel()
				n, e, p := undone(t)
				if !n.crashAt(e, p, crashed{"before the result", a.ID}) {
					t.Fatal("it did not crash")
				}
				again, err := NewResume(n.stateDir(), "", Terms{})
				if err != nil {
					t.Fatal(err)
				}
				if res := e.Run(t.Context(), again); !res.OK || !n.runsRestored() {
					t.Fatalf("%+v", res.Error)
				}
			})
		}
	}
}

// A redo is refused when what was restored isn't there.
func TestARedoIsRefusedWithoutTheRestoredData(t *testing.T) {
	n := restored(t, false)
	e, _ := n.engine(nil)
	p := n.undo()
	if res := e.Run(t.Context(), p); !res.OK {
		t.Fatal(res.Error)
	} else if report, err := os.ReadFile(res.Report); err != nil || res.Redo != "etcd-rewind redo "+p.Run || !strings.Contains(string(report), res.Redo) {
		t.Errorf("the redo isn't named: %q, %v\n%s", res.Redo, err, report)
	}
	if err := os.RemoveAll(p.Restore.Staging); err != nil {
		t.Fatal(err)
	}
	redo, err := NewRedo(n.stateDir(), "", Terms{})
	if err != nil {
		t.Fatal(err)
	}
	if res := e.Run(t.Context(), redo); res.ExitCode() != 4 || !n.apiReady() {
		t.Errorf("%+v", res)
	}
}

// replace gives kubelet another manifest, as it takes it at once.
func (n *fakeNode) replace(name string, data []byte) {
	n.t.Helper()
	file := filepath.Join(n.root, "manifests", name+".yaml")
	if err := os.Remove(file); err != nil {
		n.t.Fatal(err)
	}
	n.until("kubelet has finished with it", func() bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		return n.pods[name+"-cp1"] == nil
	})
	n.write("manifests/."+name, data)
	if err := os.Rename(filepath.Join(filepath.Dir(file), "."+name), file); err != nil {
		n.t.Fatal(err)
	}
	n.until("kubelet has started it", n.apiReady)
}

// A manifest that somebody has changed since the run, as an upgrade does, is
// shown as a diff, and reverted only when that is overridden by name.
func TestAnEditSinceTheRunIsShownAndNamed(t *testing.T) {
	n := restored(t, false)
	api := filepath.Join(n.root, "manifests/kube-apiserver.yaml")
	data, err := os.ReadFile(api)
	if err != nil {
		t.Fatal(err)
	}
	upgraded := strings.Replace(string(data), "image: registry.k8s.io/kube-apiserver:v1.", "image: registry.k8s.io/kube-apiserver:v2.", 1)
	if upgraded == string(data) {
		t.Fatal("the manifest has another image")
	}
	n.replace("kube-apiserver", []byte(upgraded))
	p := n.undo()
	if len(p.Diffs) != 1 || !strings.Contains(p.Diffs[0].Text, "+    image: registry.k8s.io/kube-apiserver:v2.") {
		t.Errorf("the diff is %+v", p.Diffs)
	}
	e, _ := n.engine(nil)
	res := e.Run(t.Context(), p)
	if res.ExitCode() != 4 || !strings.Contains(res.Error.Cause, "edited by somebody") || !strings.Contains(res.Error.Hint, checkEdited) {
		t.Fatalf("%+v", res.Error)
	}
	named, err := NewUndo(n.stateDir(), "", Terms{Accept: []string{checkEdited}})
	if err != nil {
		t.Fatal(err)
	}
	if res := e.Run(t.Context(), named); !res.OK {
		t.Fatal(res.Error)
	}
	kept, err := os.ReadFile(filepath.Join(p.RunDir, "undone/kube-apiserver.yaml"))
	if err != nil || string(kept) != upgraded {
		t.Errorf("the edit isn't kept: %v", err)
	}
}

// Etcd's revision goes back, and kubelets wait for those that they have seen. The
// undo restarts this node's when all else is done, and says what it can't do.
func TestAnUndoRestartsKubelet(t *testing.T) {
	n := restored(t, false)
	undo := n.undo()
	if told := fact(undo.Summary, "afterwards"); !strings.Contains(told, "restarted: on each other node, systemctl restart kubelet (or here, etcd-rewind settle --fleet)") || told != undo.Afterwards {
		t.Errorf("the plan says %q, and its end %q", told, undo.Afterwards)
	}
	e, _ := n.engine(nil)
	sink := e.Sink
	e.Sink = func(ev Event) {
		if sink(ev); ev.Step == "undo-"+renewStep && ev.Type == TypeStep && ev.State == Started {
			if !n.apiReady() || n.restarts > 0 {
				t.Errorf("kubelet is restarted before the API is ready, or for the %d. time", n.restarts+1)
			}
		}
	}
	begun := time.Now()
	if res := e.Run(t.Context(), undo); !res.OK || n.restarts != 1 || fact(res.Summary, "kubelet") != "" {
		t.Errorf("%v, kubelet was restarted %d times, %+v", res.Error, n.restarts, res.Summary)
	}
	// What has run since before that misses changes.
	if runs, err := Runs(n.stateDir()); err != nil || runs[0].WentBack.Before(begun) || runs[0].WentBack.After(time.Now()) {
		t.Errorf("the revision goes back since %s, %v", runs[0].WentBack, err)
	}
}

// An undo whose last step can't be done is done all the same, and says it.
func TestAnUndoThatCannotRestartKubeletIsDone(t *testing.T) {
	n := restored(t, false)
	n.shellErr = errors.New("exit status 1")
	e, events := n.engine(func(f Failure) Choice {
		t.Errorf("it asks: %+v", f)
		return Leave
	})
	res := e.Run(t.Context(), n.undo())
	if told := fact(res.Summary, "kubelet"); !res.OK || !res.Reverted || res.ExitCode() != 0 || !strings.Contains(told, "restarts kubelet failed: exit status 1") {
		t.Errorf("%v, exit status %d, %q", res.Error, res.ExitCode(), told)
	}
	if !slices.ContainsFunc(*events, func(ev Event) bool { return ev.Step == "undo-"+renewStep && ev.State == Warned }) {
		t.Error("the step shows no warning")
	}
	if report, err := os.ReadFile(res.Report); err != nil || !strings.Contains(string(report), "exit status 1") {
		t.Errorf("%v: the report doesn't say it:\n%s", err, report)
	}
}

// Where no client has seen the restored data, or there is no kubelet, none is
// restarted.
func TestAnUndoRestartsNoKubeletWithoutNeed(t *testing.T) {
	renews := func(p *Plan) bool { return p.step("undo-"+renewStep) != nil }
	diedIn := func(c Choices, such func(Action) bool) *Plan {
		n := newFakeNode(t)
		ahead := node.RemoteState{API: node.PortRefuses, APIReady: true, Peer: node.PortRefuses, ClusterID: 0xbbbb}
		n.see("cp2", ahead)
		n.see("cp3", ahead)
		p := n.plan(c)
		e, _ := n.engine(nil)
		for a := range p.actions() {
			if such(a.Action) {
				if !n.crashAt(e, p, crashed{"before the result", a.ID}) {
					t.Fatal("it did not crash")
				}
				return n.undo()
			}
		}
		t.Fatal("the plan has no such action")
		return nil
	}
	for _, c := range []struct {
		name  string
		undo  *Plan
		where string // "" when no kubelet is restarted
	}{
		{"kube-apiserver was stopped", diedIn(Choices{}, RoleAPI.stops), ""},
		{"etcd was started", diedIn(Choices{}, RoleEtcd.starts), ""},
		{"kube-apiserver was started", diedIn(Choices{}, RoleAPI.starts), "on each other node"},
		{"etcd was started, and other nodes may have been faster", diedIn(Choices{Fleet: fleetOfTheTests}, RoleEtcd.starts), "on nodes that are not part of this run"},
	} {
		if renews(c.undo) != (c.where != "") || !strings.Contains(c.undo.Afterwards, c.where) || c.where == "" && c.undo.Afterwards != "" {
			t.Errorf("%s: kubelet is restarted: %v, afterwards %q", c.name, renews(c.undo), c.undo.Afterwards)
		}
	}

	inFakeTime(func(t *testing.T) {
		n := newFakeNode(t, inSystemd, "kube-apiserver", "kube-controller-manager", "kube-scheduler")
		f := n.facts()
		f.Kubelet, f.KubeletErr = nil, &noKubelet{n.root}
		f.Reach = f.reach()
		n.restore(f)
		p, err := NewUndo(n.stateDir(), "", Terms{Accept: []string{CheckAPIServers}})
		if err != nil {
			t.Fatal(err)
		}
		if renews(p) || !strings.Contains(p.Afterwards, "on each node, systemctl restart kubelet") {
			t.Errorf("an etcd host: kubelet is restarted: %v, afterwards %q", renews(p), p.Afterwards)
		}
	})(t)
}

// A kubelet whose healthz is switched off can't be asked whether it is back.
func TestAKubeletWithoutHealthzIsRestarted(t *testing.T) {
	n := newFakeNode(t)
	n.unwell = errors.New("kubelet's healthz is switched off")
	f := n.facts()
	f.Reach.Kubelet.HealthzURL = ""
	n.restore(f)
	e, _ := n.engine(nil)
	if res := e.Run(t.Context(), n.undo()); !res.OK || n.restarts != 1 || fact(res.Summary, "kubelet") != "" {
		t.Errorf("%v, kubelet was restarted %d times, %+v", res.Error, n.restarts, res.Summary)
	}
}

// The annotation that makes a new pod is the run's own edit.
func TestAFreshAnnotationIsNoEdit(t *testing.T) {
	n := restored(t, false)
	data, err := os.ReadFile(filepath.Join(n.root, "manifests/kube-apiserver.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if data, err = manifest.Annotate(data, restartedAt, "another time"); err != nil {
		t.Fatal(err)
	}
	n.replace("kube-apiserver", data)
	if err := n.undo().Allowed(t.Context()); err != nil {
		t.Error(err)
	}
}

// A run that was killed after the API was back is as old as its last record.
func TestTheUndoOfAnOldUnfinishedRunHasToBeTyped(t *testing.T) {
	n := newFakeNode(t)
	e, _ := n.engine(nil)
	month := time.Now().Add(-30 * 24 * time.Hour)
	e.Now = func() time.Time { return month.Add(time.Since(month.Add(30 * 24 * time.Hour))) }
	p := n.plan(Choices{})
	var last string
	for _, a := range p.step("verify").Actions {
		last = a.ID
	}
	if !n.crashAt(e, p, crashed{"after the intent", last}) {
		t.Fatal("it did not crash")
	}
	ask := func(context.Context, node.EtcdConfig, bool) (*node.EtcdStatus, error) {
		return &node.EtcdStatus{ClusterID: 0xbbbb, Revision: 500 + int64(p.Restore.Bump) + 77}, nil
	}
	undo := n.undo()
	sinceThen(t.Context(), undo, ask, time.Now())
	if told := fact(undo.Summary, "written since"); !undo.MustType || !strings.HasPrefix(told, "revisions: 77, in 30 days") || undo.Lost != told {
		t.Errorf("typed %v, written since %q", undo.MustType, told)
	}
}

// What reaches the node is given again with every command that is printed, and
// the runtime given now is the one that is used.
func TestPrintedCommandsCarryTheFlagsTheyNeed(t *testing.T) {
	n := newFakeNode(t)
	o := Options{Options: node.Options{KubeletConfig: "/etc/my kubelet.yaml"}, StateDir: n.stateDir()}
	f := n.facts()
	f.Flags = o.Flags()
	p := n.restore(f)
	want := "etcd-rewind undo " + p.Run + " --kubelet-config '/etc/my kubelet.yaml' --state-dir " + n.stateDir()
	report, err := os.ReadFile(filepath.Join(p.RunDir, "report.md"))
	if err != nil || !strings.Contains(string(report), want) {
		t.Errorf("the report doesn't say %s (%v)", want, err)
	}
	undo, err := NewUndo(n.stateDir(), "", Terms{CRI: "unix:///run/other.sock", Flags: o.Flags()})
	if err != nil {
		t.Fatal(err)
	}
	if undo.Reach.Kubelet.CRIEndpoint != "unix:///run/other.sock" {
		t.Errorf("--cri is ignored: %s", undo.Reach.Kubelet.CRIEndpoint)
	}
	if _, err := NewUndo(n.stateDir(), "20200101-000000", Terms{Flags: o.Flags()}); err == nil || !strings.Contains(hintOfErr(err), "--state-dir") {
		t.Errorf("%v: %s", err, hintOfErr(err))
	}
}

func hintOfErr(err error) string {
	_, hint := problem.Explain(err)
	return hint
}

// A journal decides neither on which node it is used nor which command root
// runs there.
func TestAJournalOfAnotherNodeOrWithItsOwnCommandIsNamed(t *testing.T) {
	n := newFakeNode(t)
	p, err := NewRestore(n.facts(), snapshotOfTheTests, Choices{KubeletRestart: "service kubelet restart"})
	if err != nil {
		t.Fatal(err)
	}
	e, _ := n.engine(nil)
	if res := e.Run(t.Context(), p); !res.OK {
		t.Fatal(res.Error)
	}
	if undo := p.Command("undo"); !strings.HasSuffix(undo, " --kubelet-restart-command 'service kubelet restart'") {
		t.Errorf("the printed command is refused: %s", undo)
	}
	here := &node.Kubelet{NodeName: "cp1", StaticPodPath: filepath.Join(n.root, "manifests")}
	elsewhere := *here
	elsewhere.NodeName = "cp2"
	others := *here
	others.StaticPodPath = t.TempDir()
	for _, c := range []struct {
		name  string
		t     Terms
		cause string
	}{
		{"the command isn't given", Terms{Kubelet: here}, "service kubelet restart"},
		{"the command is given", Terms{Kubelet: here, KubeletRestart: "service kubelet restart"}, ""},
		{"another command is given", Terms{Kubelet: here, KubeletRestart: "rc-service kubelet restart"}, ""},
		{"the command is overridden", Terms{Kubelet: here, Accept: []string{checkRestart}}, ""},
		{"another node", Terms{Kubelet: &elsewhere, KubeletRestart: "true"}, "made on the node cp1, and this is cp2"},
		{"another node, overridden", Terms{Kubelet: &elsewhere, KubeletRestart: "true", Accept: []string{checkThisNode}}, ""},
		{"other manifests", Terms{Kubelet: &others, KubeletRestart: "true"}, "made with the manifests in"},
		{"no kubelet is found", Terms{KubeletErr: errors.New("no kubelet"), KubeletRestart: "true"}, "no kubelet"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := NewUndo(n.stateDir(), "", c.t)
			if err != nil {
				t.Fatal(err)
			}
			err = p.Allowed(t.Context())
			if c.cause == "" && err != nil || c.cause != "" && (err == nil || !strings.Contains(err.Error(), c.cause)) {
				t.Errorf("%v, want %q", err, c.cause)
			}
			want := "service kubelet restart"
			if c.t.KubeletRestart != "" {
				want = c.t.KubeletRestart
			}
			for _, a := range p.step(stuckKubeletStep).Actions {
				if r, ok := a.Action.(*RestartKubelet); ok && r.Command != want {
					t.Errorf("%q would be run", r.Command)
				}
			}
		})
	}
}

// The API was down before the run: that isn't the run's outage, and is said.
func TestWhatWasDownBeforeIsSaid(t *testing.T) {
	n := newFakeNode(t)
	n.mu.Lock()
	n.broken["kube-apiserver-cp1"] = true
	n.endBox(&n.boxes[n.pods["kube-apiserver-cp1"].box])
	n.mu.Unlock()
	n.until("the API is down", func() bool { return !n.apiReady() })
	f := n.facts()
	p, err := NewRestore(f, snapshotOfTheTests, Choices{})
	if err != nil {
		t.Fatal(err)
	}
	e, _ := n.engine(nil)
	sink := e.Sink
	e.Sink = func(ev Event) {
		if sink(ev); ev.Step == "start-kube-apiserver" {
			n.mu.Lock()
			n.broken["kube-apiserver-cp1"] = false
			n.mu.Unlock()
		}
	}
	res := e.Run(t.Context(), p)
	if !res.OK || !res.DownBefore || !strings.Contains(fact(res.Summary, "API down"), "already before this run") {
		t.Errorf("%+v %+v", res, res.Error)
	}
}

// Who stops a run in the middle learns since when the API is down, and both
// ways on.
func TestAStoppedRunNamesBothWays(t *testing.T) {
	n := newFakeNode(t)
	ctx, stop := context.WithCancel(t.Context())
	e, _ := n.engine(nil)
	sink := e.Sink
	e.Sink = func(ev Event) {
		if sink(ev); ev.Step == "stop-etcd" {
			stop()
		}
	}
	res := e.Run(ctx, n.plan(Choices{}))
	if res.OK || res.DownSince == nil || !strings.Contains(fact(res.Summary, "API down"), "still down") {
		t.Fatalf("%+v", res)
	}
	for _, want := range []string{"the API is down since", "etcd-rewind resume ", "etcd-rewind undo "} {
		if !strings.Contains(res.Error.Hint, want) {
			t.Errorf("the hint %q doesn't say %q", res.Error.Hint, want)
		}
	}
}

// etcd's manifest has to come back byte for byte, so kubelet must have finished with
// the restored pod. Its lists say when; where they can't be counted, it gets the
// time that it takes at most.
func TestAnUndoWaitsForKubeletsListAndNoLonger(t *testing.T) {
	for _, c := range []struct {
		name        string
		blind       bool
		least, most time.Duration
	}{
		{"counted", false, 0, time.Second},
		{"not counted", true, 2 * time.Second, 4 * time.Second},
	} {
		t.Run(c.name, inFakeTime(func(t *testing.T) {
			n := restored(t, false)
			n.mu.Lock()
			n.listless = c.blind
			if n.listless {
				n.metrics = errors.New("unauthorized")
			}
			n.mu.Unlock()
			time.Sleep(time.Second) // one that has just begun ends at once
			e, _ := n.engine(nil)
			pace := fakePace
			pace.settle = 2 * time.Second
			e.pace = &pace
			res := e.Run(t.Context(), n.undo())
			if !res.OK || n.works(0xaaaa) != nil {
				t.Fatalf("%v; %v", res.Error, n.works(0xaaaa))
			}
			if took := time.Duration(res.OutageSeconds * float64(time.Second)); took < c.least || took > c.most {
				t.Errorf("the API was down for %s", took)
			}
		}))
	}
}

// Kubelet has begun with the restored etcd when the run is stopped, and makes its
// sandbox while the undo has the manifest out again: it isn't taken for the old etcd, and the
// old one goes in when kubelet has finished with it.
func TestAnUndoSeesThePodThatKubeletHasBegunWith(t *testing.T) {
	inFakeTime(func(t *testing.T) {
		n := newFakeNode(t)
		ctx, stop := context.WithCancel(t.Context())
		e, _ := n.engine(nil)
		sink := e.Sink
		e.Sink = func(ev Event) {
			sink(ev)
			if ev.Type != TypeAction || !strings.HasPrefix(ev.Message, "Move etcd.yaml in") {
				return
			}
			if ev.State == Started {
				n.mu.Lock()
				n.slowness = 500 * time.Millisecond
				n.mu.Unlock()
			} else {
				stop()
			}
		}
		if res := e.Run(ctx, n.plan(Choices{})); res.OK {
			t.Fatal("it wasn't stopped")
		}
		boxes := 0
		n.until("kubelet has begun with the restored etcd", func() bool {
			n.mu.Lock()
			defer n.mu.Unlock()
			boxes = n.next
			p := n.pods["etcd-cp1"]
			return p != nil && p.state == "begun"
		})
		e, _ = n.engine(nil)
		res := e.Run(t.Context(), n.undo())
		if !res.OK || n.works(0xaaaa) != nil {
			t.Fatalf("%+v; %v", res.Error, n.works(0xaaaa))
		}
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.next == boxes {
			t.Error("the restored etcd was never started: the test is about nothing")
		}
		for uid := range n.tooEarly {
			t.Errorf("pod %s was put in before kubelet had finished with another", uid)
		}
	})(t)
}

// Of two that are waited for together, one has started, and kubelet has begun with the other.
func TestAPodUnderWayIsSeenBesideOneThatHasStarted(t *testing.T) {
	n := newFakeNode(t)
	n.mu.Lock()
	n.paused = true
	scheduler := n.pods["kube-scheduler-cp1"]
	r := &run{world: n, mem: memory{Begun: map[string][]string{}}}
	for _, p := range n.pods {
		if p != scheduler {
			r.mem.Begun[scheduler.name] = append(r.mem.Begun[scheduler.name], p.uid)
		}
	}
	pods := []string{"kube-controller-manager-cp1", scheduler.name}
	n.mu.Unlock()
	if late, err := r.underWay(t.Context(), pods); late || err != nil {
		t.Errorf("all have sandboxes: %t, %v", late, err)
	}
	n.mu.Lock()
	n.boxes[scheduler.box].Ready = false
	n.mu.Unlock()
	if late, err := r.underWay(t.Context(), pods); !late || err != nil {
		t.Errorf("one has none: %t, %v", late, err)
	}
}

// As in a restore, the API server starts when etcd has opened its data, and of those
// it is known whose they are. And the controllers are not waited for longer than they run.
func TestTheOutageOfAnUndoHasWhatARestoresHas(t *testing.T) {
	n := restored(t, false)
	var order []string
	var plan []Action
	for _, s := range n.undo().Steps {
		for _, a := range s.Actions {
			if s.always() {
				plan = append(plan, a.Action)
			}
		}
	}
	for _, a := range plan {
		switch a := a.(type) {
		case *WaitRelist:
			order = append(order, "list")
		case *TakeOut:
			if a.API {
				order = append(order, "API out")
			}
		case *PutIn:
			if a.API {
				order = append(order, "API in")
			}
		case *WaitData:
			if a.ClusterID != 0xaaaa {
				t.Errorf("etcd's cluster is to be %x", a.ClusterID)
			}
			order = append(order, "data")
		case *WaitEtcd:
			order = append(order, "etcd")
		case *WaitAPI:
			order = append(order, "API")
		case *WaitForgotten:
			if len(a.Pods) > 1 && !a.Later {
				t.Errorf("%s before the outage", a.Title())
			}
		}
	}
	if want := []string{"list", "API out", "data", "API in", "etcd", "API"}; !slices.Equal(order, want) {
		t.Errorf("%v, want %v", order, want)
	}
}

func TestAnUndoRefusesAnEtcdThatHasOpenedOtherData(t *testing.T) {
	a := &WaitData{ClusterID: 0xaaaa}
	if a.right(nil, 0xaaaa) != nil || a.right(nil, 0xbbbb) == nil {
		t.Error("another cluster is taken for the old one")
	}
}

// A run that isn't an undo may take the revision back, too.
func TestARunThatMayTakeTheRevisionBackRestartsKubelet(t *testing.T) {
	live, none := &node.EtcdStatus{ClusterID: 0xaaaa, Revision: 900, Keys: 50}, (*node.EtcdStatus)(nil)
	bump := func(n uint64) Choices { return Choices{Bump: &n} }
	for _, c := range []struct {
		name string
		live *node.EtcdStatus
		c    Choices
		want bool
	}{
		{"the revision is raised beyond the live one", live, Choices{}, false},
		{"the live one is unknown, and it is raised", none, Choices{}, false},
		{"it is raised too little", live, bump(300), true},
		{"it is raised enough", live, bump(500), false},
		{"it isn't raised, and the live one is unknown", none, bump(0), true},
	} {
		n := newFakeNode(t)
		f := n.facts()
		f.Live, f.APIReady = c.live, c.live != nil
		p, err := NewRestore(f, snapshotOfTheTests, c.c)
		if err != nil {
			t.Fatal(err)
		}
		if is := p.step(renewStep) != nil; is != c.want || (p.Afterwards != "") != c.want || fact(p.Summary, "afterwards") != p.Afterwards {
			t.Errorf("%s: kubelet is restarted: %v, afterwards %q", c.name, is, p.Afterwards)
		}
	}

	n := newFakeNode(t)
	p, err := NewRestore(n.facts(), snapshotOfTheTests, bump(0))
	if err != nil {
		t.Fatal(err)
	}
	e, _ := n.engine(nil)
	if res := e.Run(t.Context(), p); !res.OK || n.restarts != 1 || fact(res.Summary, "afterwards") == "" {
		t.Fatalf("%v, kubelet was restarted %d times, %+v", res.Error, n.restarts, res.Summary)
	}
	if res := e.Run(t.Context(), n.undo()); !res.OK || n.restarts != 2 {
		t.Fatalf("%v, kubelet was restarted %d times", res.Error, n.restarts)
	}
	redo, err := NewRedo(n.stateDir(), "", Terms{})
	if err != nil {
		t.Fatal(err)
	}
	if res := e.Run(t.Context(), redo); !res.OK || n.restarts != 3 {
		t.Errorf("%v, kubelet was restarted %d times", res.Error, n.restarts)
	}
}
