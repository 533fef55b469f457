package ui

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"etcd-rewind/manifest"
	"etcd-rewind/node"
	"etcd-rewind/problem"
	"etcd-rewind/snapshot"
	"etcd-rewind/steps"
)

// noon is the moment at which all tests play.
var noon = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

// act is an action that only says what it would do.
type act struct {
	steps.Action
	title    string
	commands []string
}

func (a act) Kind() string                 { return "fake" }
func (a act) Title() string                { return a.title }
func (a act) Commands() []string           { return a.commands }
func (a act) MarshalJSON() ([]byte, error) { return []byte("{}"), nil }

func step(id, title, why string, outage bool, actions ...act) steps.Step {
	s := steps.Step{
		ID: id, Title: title, Why: why, Outage: outage,
		More: "A longer text for a learner about \"" + title + "\": what kubelet does meanwhile, what it costs when it is done otherwise, and where this was measured.",
	}
	for i, a := range actions {
		p := steps.Planned{ID: fmt.Sprintf("%s.%d", id, i+1), Action: a}
		if api := (&steps.WaitAPI{URL: "https://10.0.0.11:6443/readyz"}); a.title == api.Title() {
			p.Action = api // what tells that an API server is waited for here
		}
		s.Actions = append(s.Actions, p)
	}
	return s
}

const manifests = "/etc/kubernetes/manifests"

func restorePlan() *steps.Plan {
	runDir := "/etc/kubernetes/etcd-rewind/20261120-120000"
	stuck := step("let-go", "Restart the stuck kubelet", "kubelet ignores that the manifests are gone. With the manifests out, a restarted kubelet no longer knows these pods.", true,
		act{title: "Restart kubelet", commands: []string{"systemctl restart kubelet"}})
	stuck.When = "only if kubelet ignores that a manifest is gone"
	return &steps.Plan{
		Run: "20261120-120000", Kind: steps.KindRestore, Node: "cp1", Title: "Restore before.db on cp1", RunDir: runDir,
		Summary: []steps.Fact{
			{Name: "snapshot", Value: "/var/backups/before.db, revision 1000000675, 328 keys"},
			{Name: "data directory", Value: "/var/lib/etcd → /var/lib/etcd-20261120-120000"},
			{Name: "old data", Value: "stays where it is, untouched"},
			{Name: "revision", Value: "1000000675 + 200000210, beyond the live 1000000802"},
		},
		Diffs: []steps.Diff{{Path: manifests + "/etcd.yaml", Text: "--- /etc/kubernetes/manifests/etcd.yaml\n+++ /etc/kubernetes/manifests/etcd.yaml\n@@ -85,7 +85,7 @@\n   - hostPath:\n-      path: /var/lib/etcd\n+      path: /var/lib/etcd-20261120-120000\n       type: DirectoryOrCreate\n     name: etcd-data\n"}},
		Steps: []steps.Step{
			step("prepare", "Keep a way back", "The manifests are copied and the new ones written, while the cluster still runs.", false,
				act{title: "Keep copies of the manifests, prepare the new ones", commands: []string{"mkdir -p -m 700 " + runDir + "/{kept,new,aside,undone}", "cp -a " + manifests + "/etcd.yaml " + runDir + "/kept/etcd.yaml"}}),
			step("stage", "Stage the restore", "etcdutl restores the snapshot beside the new data directory. The cluster still runs.", false,
				act{title: "Restore the snapshot into /var/lib/.etcd-rewind-20261120-120000-etcd", commands: []string{"etcdutl snapshot restore /var/backups/before.db --data-dir /var/lib/.etcd-rewind-20261120-120000-etcd --name cp1 --initial-cluster cp1=https://10.0.0.11:2380 --initial-advertise-peer-urls https://10.0.0.11:2380 --initial-cluster-token etcd-rewind-20261120-120000 --bump-revision 200000210 --mark-compacted"}}),
			step("stop-kube-apiserver", "Stop kube-apiserver", "Nothing may write to etcd while its data is swapped. kubelet stops a static pod when its manifest leaves the directory.", true,
				act{title: "Move kube-apiserver.yaml aside", commands: []string{"mv -n " + manifests + "/kube-apiserver.yaml " + runDir + "/aside/"}},
				act{title: "Wait until kubelet stops kube-apiserver-cp1", commands: []string{"while curl -skf -m 0.3 -o /dev/null https://10.0.0.11:6443/readyz; do sleep 0.05; done"}},
				act{title: "Stop kube-apiserver-cp1 over CRI", commands: []string{"crictl stopp $(crictl pods -q --name '^kube-apiserver-cp1$')"}},
				act{title: "Wait until the containers of kube-apiserver-cp1 are gone"}),
			stuck,
			step("stop-etcd", "Stop etcd", "etcd exits 0.1 s after kubelet's signal. A new pod of the same name starts at once only when kubelet has finished with the old one.", true,
				act{title: "Move etcd.yaml aside", commands: []string{"mv -n " + manifests + "/etcd.yaml " + runDir + "/aside/"}},
				act{title: "Wait for the cleanup of etcd-cp1", commands: []string{"sleep 2.2"}}),
			step("start-etcd", "Start etcd on the restored data", "The staged directory is renamed into place, etcd.yaml with the new hostPath is moved in. Then etcd is asked whether it holds what was restored.", true,
				act{title: "Rename the restored data to /var/lib/etcd-20261120-120000", commands: []string{"mv -nT /var/lib/.etcd-rewind-20261120-120000-etcd /var/lib/etcd-20261120-120000"}},
				act{title: "Move etcd.yaml in", commands: []string{"cp " + runDir + "/new/etcd.yaml " + manifests + "/.etcd.yaml.new", "mv " + manifests + "/.etcd.yaml.new " + manifests + "/etcd.yaml"}},
				act{title: "Wait until kubelet starts etcd-cp1"},
				act{title: "Wait until etcd is ready with the restored data", commands: []string{"until curl -sf http://127.0.0.1:2381/readyz; do sleep 0.1; done"}}),
			step("start-kube-apiserver", "Start kube-apiserver", "Its manifest is moved back with one annotation changed: a new pod without a crash history starts at once.", true,
				act{title: "Move kube-apiserver.yaml in", commands: []string{"mv " + manifests + "/.kube-apiserver.yaml.new " + manifests + "/kube-apiserver.yaml"}},
				act{title: "Wait until kube-apiserver is ready"}),
			step("restart-controllers", "Restart controllers", "kube-controller-manager and kube-scheduler start with empty caches. The API is already back.", false,
				act{title: "Move kube-controller-manager.yaml aside"}, act{title: "Move kube-controller-manager.yaml in"}),
			step("verify", "Verify", "The API is asked for its namespaces and nodes: the same names and UIDs as in the snapshot.", false,
				act{title: "Compare the API's namespaces and nodes with the snapshot", commands: []string{"kubectl get namespaces,nodes"}}),
		},
		Restore: &steps.RestoreFacts{
			Snapshot: "/var/backups/before.db", SnapshotRevision: 1000000675, Bump: 200000210,
			OldDataDir: "/var/lib/etcd", DataDir: "/var/lib/etcd-20261120-120000", Stop: steps.StopNow,
		},
	}
}

func undoPlan() *steps.Plan {
	return &steps.Plan{
		Run: "20261120-120000", Kind: steps.KindUndo, Node: "cp1", Title: "Put cp1 back as it was before run 20261120-120000",
		Summary: []steps.Fact{{Name: "etcd will run on", Value: "/var/lib/etcd"}, {Name: "manifests", Value: "byte for byte as they were"}},
		Steps: []steps.Step{
			step("undo-start-etcd", "Stop etcd, set the restored data aside", "The restored data is renamed back to where it was staged. Nothing is deleted.", true,
				act{title: "Move etcd.yaml aside"}, act{title: "Wait for the cleanup of etcd-cp1"}),
			step("undo-stop-etcd", "Start etcd on the old data", "The manifest is restored byte for byte, and with it the data directory, which nothing has written to since.", true,
				act{title: "Move etcd.yaml in", commands: []string{"mv a b"}}, act{title: "Wait until etcd is ready"}),
			step("undo-stop-kube-apiserver", "Start kube-apiserver", "Its manifest comes back byte for byte.", true,
				act{title: "Move kube-apiserver.yaml in"}, act{title: "Wait until kube-apiserver is ready"}),
		},
	}
}

func someFacts() *steps.Facts {
	return &steps.Facts{
		Node: "cp1", Time: noon, StateDir: "/etc/kubernetes/etcd-rewind",
		Kubelet: &node.Kubelet{Version: "v1.34.4", StaticPodPath: manifests, NodeName: "cp1"},
		Etcd: steps.EtcdOfPod(&manifest.Etcd{
			EtcdSettings: manifest.EtcdSettings{Name: "cp1", DataDir: manifest.Location{HostPath: "/var/lib/etcd", Path: "/var/lib/etcd"}},
			File:         &manifest.File{Path: manifests + "/etcd.yaml"},
		}),
		API:               steps.APIOfPod(&manifest.APIServer{File: &manifest.File{Path: manifests + "/kube-apiserver.yaml"}}),
		KubernetesVersion: "1.34.4", EtcdVersion: "3.6.10", Runtime: "containerd 1.6.20",
		APIReady: true, APIState: "ready",
		Live: &node.EtcdStatus{Revision: 1000000802, Version: "3.6.10", DBSize: 525_312, Keys: 331, Members: make([]node.EtcdMember, 1)},
	}
}

func someCandidates() []snapshot.Candidate {
	return []snapshot.Candidate{
		{Path: "/var/backups/after.db", Size: 532_512, ModTime: noon.Add(-2 * time.Minute)},
		{Path: "/var/backups/before.db", Size: 528_416, ModTime: noon.Add(-12 * time.Minute)},
		{Path: "/var/backups/cut.db", Size: 200_000, ModTime: noon.Add(-time.Hour), Err: &problem.Problem{Code: "truncated", Cause: "truncated: its own pages end at 528384 bytes, the file at 200000", Hint: "copy it again, or take another one"}},
		{Path: "/root/copied.db", Size: 524_288, ModTime: noon.Add(-26 * time.Hour)},
	}
}

func someInfo(path string) *snapshot.Info {
	i := &snapshot.Info{
		Name: path, Path: path, Size: 528_416, ModTime: noon.Add(-12 * time.Minute), SHA256: strings.Repeat("9f86d081", 8), Hash: snapshot.HashOK,
		Revision: 1000000675, Keys: 328, StorageVersion: "3.6.0",
		Members:    []snapshot.Member{{ID: 1, Name: "cp1", PeerURLs: []string{"https://10.0.0.11:2380"}}},
		Namespaces: []snapshot.Object{{Name: "default"}, {Name: "kube-node-lease"}, {Name: "kube-public"}, {Name: "kube-system"}, {Name: "payments"}, {Name: "shop"}},
		Nodes:      []snapshot.Object{{Name: "cp1"}},
		LastWrite:  noon.Add(-12*time.Minute - 20*time.Second),
	}
	switch {
	case strings.HasSuffix(path, "after.db"):
		i.Revision, i.Keys, i.Size, i.ModTime, i.LastWrite = 1000000802, 331, 532_512, noon.Add(-2*time.Minute), noon.Add(-2*time.Minute)
	case strings.HasSuffix(path, "copied.db"):
		i.Hash, i.SHA256, i.Size, i.ModTime, i.LastWrite = snapshot.HashMissing, "", 524_288, noon.Add(-26*time.Hour), noon.Add(-26*time.Hour)
		i.StorageVersion, i.EncryptedPrefixes, i.Alarms = "", []string{"aescbc:key1"}, []string{"NOSPACE"}
	}
	return i
}

func goodVerdicts() []steps.Verdict {
	return []steps.Verdict{
		{Check: "root", Title: "Root", Level: steps.Pass, Cause: "running as root"},
		{Check: "lock", Title: "Other runs", Level: steps.Pass, Cause: "no other run on this node"},
		{Check: "manifest-directory", Title: "Manifest directory", Level: steps.Pass, Cause: manifests + ", 4 files (from /var/lib/kubelet/config.yaml)"},
		{Check: "disk-space", Title: "Disk space", Level: steps.Pass, Cause: "12.1 GB free on /var/lib, 1.2 MB needed"},
	}
}

func someVerdicts() []steps.Verdict {
	return append(
		goodVerdicts(),
		steps.Verdict{Check: "snapshot-age", Title: "Age", Level: steps.Warn, Cause: "the snapshot is 26 h old: what was written since is gone from the cluster", Hint: "take a newer one if there is one"},
		steps.Verdict{Check: "hash", Title: "SHA-256", Level: steps.Warn, Cause: "the file has no hash: it looks like a copied data file, so damage in it can't be ruled out", Hint: "prefer a file written by etcdctl snapshot save"},
		steps.Verdict{Check: "room", Title: "Disk space", Level: steps.Error, Overridable: true, Cause: "0.9 GB free on /var/lib, 1.2 GB needed", Hint: "make room, or choose another data directory"},
	)
}

// fake is a Backend that plays a run.
type fake struct {
	facts      *steps.Facts
	discover   error
	candidates []snapshot.Candidate
	bad        map[string]error // by path, what Inspect says
	verdicts   [][]steps.Verdict
	early      []steps.Verdict
	planErr    error
	pace       time.Duration // between two events
	failAt     string        // action that fails until it is retried
	refuse     error         // a run can't begin
	fleet      *fakeFleet    // the other members
	members    []string      // of the snapshots

	list    []steps.RunInfo // of this node
	listErr error

	standing []steps.Fact // of the run in facts.Unfinished
	since    string       // written since the restore, in the undo's plan
	resumes  *steps.Plan  // what PlanResume gives; nil is the rest of a restore
	live     *steps.RunInfo
	told     []steps.Event // by the other process
	dies     bool          // it doesn't come to its end
	lost     error         // it can't be followed
	followed chan struct{} // the other process goes on as long as this is open

	mu        sync.Mutex
	inspected []string
	checked   []steps.Choices
	planned   []steps.Choices
	chosen    []steps.Choice
	runs      []string // kinds
	ran       []string // actions done
	trace     string   // a file that lists them too
	hold      chan struct{}
	holdAt    string
	deaf      bool // to being stopped, while it is held
}

func newFake() *fake {
	return &fake{facts: someFacts(), candidates: someCandidates(), verdicts: [][]steps.Verdict{goodVerdicts()}}
}

func (f *fake) Discover(context.Context) (*steps.Facts, error) {
	f.wait()
	if f.discover != nil {
		return nil, f.discover
	}
	return f.facts, nil
}

func (f *fake) wait() {
	if f.pace > 0 {
		time.Sleep(4 * f.pace)
	}
}

func (f *fake) Candidates(context.Context, *steps.Facts) []snapshot.Candidate { return f.candidates }

func (f *fake) Inspect(ctx context.Context, path string, progress func(done, total int64)) (*snapshot.Info, error) {
	f.wait()
	f.mu.Lock()
	f.inspected = append(f.inspected, path)
	f.mu.Unlock()
	progress(100, 200)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err := f.bad[path]; err != nil {
		return nil, err
	}
	if f.members != nil {
		return someInfoOf(path, f.members), nil
	}
	return someInfo(path), nil
}

func (f *fake) Check(_ context.Context, _ *steps.Facts, info *snapshot.Info, c steps.Choices) []steps.Verdict {
	f.wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	if info == nil {
		return f.early
	}
	f.checked = append(f.checked, c)
	return f.verdicts[min(len(f.checked), len(f.verdicts))-1]
}

func (f *fake) Plan(_ *steps.Facts, _ *snapshot.Info, c steps.Choices) (*steps.Plan, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.planned = append(f.planned, c)
	if f.planErr != nil {
		return nil, f.planErr
	}
	p := restorePlan()
	if c.DataDir != "" {
		p.Restore.DataDir = c.DataDir
	}
	if p.Restore.InPlace = c.InPlace; c.InPlace {
		p.Title = "Point etcd at " + c.DataDir + " on cp1"
	}
	if c.Bump != nil {
		p.Restore.Bump = *c.Bump
	}
	return p, nil
}

func (f *fake) PlanUndo(context.Context, string) (*steps.Plan, error) {
	f.wait()
	p := undoPlan()
	if f.since != "" {
		p.Summary = append(p.Summary, steps.Fact{Name: "written since", Value: f.since})
		p.Lost = f.since
	}
	return p, f.planErr
}

func (f *fake) PlanResume(context.Context, string) (*steps.Plan, error) {
	f.wait()
	if f.resumes != nil {
		return f.resumes, nil
	}
	return resumePlan(), f.planErr
}

func (f *fake) PlanRedo(context.Context, string) (*steps.Plan, error) {
	f.wait()
	return redoPlan(), f.planErr
}

func (f *fake) Runs(context.Context) ([]steps.RunInfo, error) {
	f.wait()
	return f.list, f.listErr
}

// redoPlan is a way to the restored data again.
func redoPlan() *steps.Plan {
	p := restorePlan()
	p.Kind, p.Title = steps.KindRedo, "Redo run "+p.Run+" on cp1: to the restored data again"
	p.Summary = []steps.Fact{{Name: "run", Value: p.Run + ", of 2026-11-20 12:00:00 UTC"}, {Name: "old data", Value: "stays at /var/lib/etcd, with what was written to it since the undo"}}
	p.Steps, p.Diffs = p.Steps[2:7], nil
	return p
}

// someRuns are runs of all kinds, the newest first.
func someRuns() []steps.RunInfo {
	return []steps.RunInfo{
		{Run: "20261120-110000", Started: noon.Add(-time.Hour), State: steps.RunUndone, Undoing: true, Outage: 4.2, Snapshot: "/var/backups/before.db", DataDir: "/var/lib/etcd-20261120-110000"},
		{Run: "20261119-080000", Started: noon.Add(-28 * time.Hour), State: steps.RunRestored, Outage: 5.9, Snapshot: "/mnt/backups/production/etcd/cp1/etcd-nightly-20261118.db.gz", DataDir: "/var/lib/etcd-20261119-080000"},
		{Run: "20261118-080000", State: steps.RunUntouched},
		{Run: "20261117-080000", State: steps.RunUnreadable, Err: "journal: unexpected end"},
	}
}

// Compare is not asked: these tests go from the snapshot to the checks.
func (f *fake) Compare(context.Context, *steps.Facts, *snapshot.Info, snapshot.CompareOptions, func(snapshot.Progress)) (*snapshot.Comparison, error) {
	return nil, errors.New("not compared")
}

func resumePlan() *steps.Plan {
	p := restorePlan()
	p.Title = "Go on: " + p.Title
	return p
}

func (f *fake) Live(context.Context) (*steps.RunInfo, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.live, nil
}

// Follow reports what the other process has reported, and waiting for its end.
func (f *fake) Follow(ctx context.Context, _ steps.RunInfo, sink func(steps.Event)) (bool, error) {
	for _, ev := range f.told {
		if f.pace > 0 {
			time.Sleep(f.pace)
			ev.Time = time.Now()
		}
		sink(ev)
	}
	if f.followed != nil {
		select {
		case <-f.followed:
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.live = nil
	return !f.dies, f.lost
}

// brokeOff is a node that a run has left on its way, with the manifests aside.
func (f *fake) brokeOff() {
	f.facts.Unfinished = &steps.RunInfo{Run: "20261120-120000", State: steps.RunUnfinished, Snapshot: "/var/backups/before.db"}
	f.facts.Etcd, f.facts.EtcdErr = nil, errors.New("there is no manifest of etcd in "+manifests)
	f.facts.API, f.facts.APIErr, f.facts.APIReady, f.facts.APIState = nil, errors.New("there is no manifest of kube-apiserver in "+manifests), false, "no manifest"
	f.facts.Live, f.facts.LiveErr = nil, f.facts.EtcdErr
	f.facts.KubernetesVersion, f.facts.EtcdVersion = "", ""
	f.early = []steps.Verdict{
		{Check: "earlier-run", Title: "Earlier run", Level: steps.Error, Overridable: true, Cause: "run 20261120-120000 was interrupted", Hint: "put it back first"},
		{Check: "etcd-manifest", Title: "etcd's manifest", Level: steps.Error, Cause: f.facts.EtcdErr.Error(), Hint: "an etcd outside the cluster's pods can't be restored"},
		{Check: "api-manifest", Title: "kube-apiserver's manifest", Level: steps.Error, Cause: f.facts.APIErr.Error()},
	}
	f.standing = someStanding()
}

func someStanding() []steps.Fact {
	return []steps.Fact{
		{Name: "run", Value: "20261120-120000, begun 12m3s ago"},
		{Name: "snapshot", Value: "/var/backups/before.db"},
		{Name: "it was", Value: "restoring"},
		{Name: "done last", Value: "Move etcd.yaml aside"},
		{Name: "in the middle of", Value: "Wait for the cleanup of etcd-cp1"},
		{Name: "API", Value: "away for 11m58s"},
	}
}

// stand is steps.Standing of the fake: the last fact goes with the time.
func (f *fake) stand(_ steps.RunInfo, now time.Time) []steps.Fact {
	list := slices.Clone(f.standing)
	if n := len(list) - 1; n >= 0 && !now.Equal(noon) {
		list[n].Value = "away for " + (11*time.Minute + 58*time.Second + now.Sub(noon).Round(time.Second)).String()
	}
	return list
}

func (f *fake) Logs(_ context.Context, component string) []string {
	return []string{component + " says hello", "{\"level\":\"info\",\"msg\":\"ready to serve client requests\"}"}
}

var errHeld = errors.New("stopped")

// Run plays a plan: every action starts, sees something, ends.
func (f *fake) Run(ctx context.Context, p *steps.Plan, sink func(steps.Event), ask steps.Asker) (*steps.Result, error) {
	if f.refuse != nil {
		return nil, f.refuse
	}
	f.mu.Lock()
	f.runs = append(f.runs, p.Kind)
	f.mu.Unlock()
	t := &teller{fake: f, sink: sink, run: p.Run}
	t.emit(steps.Event{Type: steps.TypePlan, Plan: p, State: steps.Started})
	res := &steps.Result{OK: true, DataDir: "/var/lib/etcd-20261120-120000", Undo: "etcd-rewind undo " + p.Run, Report: "/etc/kubernetes/etcd-rewind/" + p.Run + "/report.md"}
	fail := f.play(ctx, t, p, ask)
	if fail != nil {
		res.OK, res.Error = false, fail
		if f.lastChoice() == steps.Revert {
			u := undoPlan()
			t.emit(steps.Event{Type: steps.TypePlan, Plan: u, State: steps.Started})
			_ = f.play(context.Background(), t, u, ask)
			res.Reverted, t.away = true, false
		}
	}
	res.OutageSeconds = t.outage
	if t.away && !res.OK {
		res.DownSince = &t.since
	}
	if p.Kind == steps.KindUndo {
		res.Reverted, res.Undo = res.OK, ""
	}
	if res.OK && res.Reverted {
		res.Redo = steps.Command("redo", p.Run, nil)
	}
	if res.OK && p.Kind == steps.KindRestore {
		res.Summary = []steps.Fact{
			{Name: "etcd runs from", Value: res.DataDir},
			{Name: "revision", Value: "1200000885 (snapshot 1000000675, raised by 200000210)"},
			{Name: "old data", Value: "/var/lib/etcd, untouched"},
			{Name: "old manifests", Value: p.RunDir + "/aside"},
		}
	}
	t.emit(steps.Event{Type: steps.TypeResult, State: steps.Done, Result: res})
	return res, nil
}

func (f *fake) lastChoice() steps.Choice {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.chosen) == 0 {
		return ""
	}
	return f.chosen[len(f.chosen)-1]
}

func (f *fake) play(ctx context.Context, t *teller, p *steps.Plan, ask steps.Asker) *steps.Failure {
	for _, s := range p.Steps {
		if s.When != "" {
			t.emit(steps.Event{Type: steps.TypeStep, Step: s.ID, State: steps.Unneeded})
			continue
		}
		t.away = s.Outage
		t.emit(steps.Event{Type: steps.TypeStep, Step: s.ID, State: steps.Started})
		for _, a := range s.Actions {
			if ctx.Err() != nil {
				t.emit(steps.Event{Type: steps.TypeAction, Step: s.ID, Action: a.ID, State: steps.Stopped})
				t.emit(steps.Event{Type: steps.TypeStep, Step: s.ID, State: steps.Failed})
				return &steps.Failure{Step: s.ID, Action: a.ID, Title: a.Title(), Cause: "you stopped the run", Hint: "etcd-rewind undo " + p.Run + " puts the node back as it was"}
			}
			for {
				err := f.one(ctx, t, s, a)
				if err == nil {
					break
				}
				fail := someFailure()
				fail.Step, fail.Action, fail.Title = s.ID, a.ID, a.Title()
				t.emit(steps.Event{Type: steps.TypeAction, Step: s.ID, Action: a.ID, State: steps.Failed, Message: fail.Cause})
				t.emit(steps.Event{Type: steps.TypeAsk, Step: s.ID, Action: a.ID, State: steps.Failed, Failure: fail})
				c := ask(*fail)
				f.mu.Lock()
				f.chosen = append(f.chosen, c)
				f.mu.Unlock()
				t.emit(steps.Event{Type: steps.TypeAnswer, Step: s.ID, Message: string(c)})
				if c == steps.Revert || c == steps.Leave {
					t.emit(steps.Event{Type: steps.TypeStep, Step: s.ID, State: steps.Failed})
					return fail
				}
			}
		}
		t.emit(steps.Event{Type: steps.TypeStep, Step: s.ID, State: steps.Done})
	}
	return nil
}

func heldUntil(ctx context.Context, hold <-chan struct{}, deaf bool) {
	if deaf {
		ctx = context.WithoutCancel(ctx)
	}
	select {
	case <-hold:
	case <-ctx.Done():
	}
}

func (f *fake) one(ctx context.Context, t *teller, s steps.Step, a steps.Planned) error {
	ev := steps.Event{Type: steps.TypeAction, Step: s.ID, Action: a.ID, State: steps.Started, Message: a.Title(), Commands: a.Commands()}
	waits := strings.HasPrefix(a.Title(), "Wait ")
	if waits {
		ev.Limit = 60
	}
	t.emit(ev)
	if f.holdAt == a.ID {
		heldUntil(ctx, f.hold, f.deaf)
	}
	f.mu.Lock()
	fails := f.failAt == a.ID && len(f.chosen) == 0
	f.mu.Unlock()
	for i := range 8 {
		ev := steps.Event{Type: steps.TypeAction, Step: s.ID, Action: a.ID, State: steps.Waiting}
		switch {
		case waits:
			ev.Waited, ev.Limit = float64(i)/10, 60
			ev.Seen = []steps.Sighting{{What: "pod", Is: "6f3c… gone → 91ab… created", OK: i > 3}, {What: "container", Is: fmt.Sprintf("running 0.%d s", i), OK: i > 5}, {What: "/readyz", Is: "not asked yet"}}
		case s.ID == "stage":
			ev.Progress = &steps.Progress{Phase: "copy", Done: int64(i) * 300_000_000, Total: 2_460_000_000}
		default:
			continue
		}
		t.emit(ev)
	}
	if fails {
		return errHeld
	}
	f.mu.Lock()
	f.ran = append(f.ran, a.ID)
	if f.trace != "" {
		_ = os.WriteFile(f.trace, []byte(strings.Join(f.ran, "\n")+"\n"), 0o600)
	}
	f.mu.Unlock()
	t.emit(steps.Event{Type: steps.TypeAction, Step: s.ID, Action: a.ID, State: steps.Done, Message: a.Title()})
	return nil
}

func someFailure() *steps.Failure {
	return &steps.Failure{
		Cause:  "etcd did not become ready within 60 s: it can't open its data, permission denied",
		Hint:   "compare owner and mode of /var/lib/etcd-20261120-120000 with those of /var/lib/etcd",
		Waited: 60.2,
		Seen:   []steps.Sighting{{What: "container", Is: "ended (4 times)"}, {What: "/readyz", Is: "refused"}, {What: "data", Is: "not asked yet"}},
		Log: []string{
			`{"level":"info","ts":"2026-11-20T11:59:58Z","caller":"etcdmain/etcd.go:73","msg":"Running: ","args":["etcd","--advertise-client-urls=https://10.0.0.11:2379"]}`,
			"\x1b[31m{\"level\":\"fatal\",\"ts\":\"2026-11-20T11:59:59Z\",\"msg\":\"failed to open database\",\"error\":\"open /var/lib/etcd/member/snap/db: permission denied\"}\x1b[0m",
		},
		LogPath: "/var/log/pods/kube-system_etcd-cp1_91ab7d0e5c2f4a6b8d9e0f1a2b3c4d5e/etcd/4.log",
		Choices: []steps.Choice{steps.Revert, steps.WaitOn, steps.Retry, steps.Leave},
	}
}

// teller gives events their time: a tenth of a second apart without a pace.
type teller struct {
	fake   *fake
	sink   func(steps.Event)
	run    string
	n      int
	away   bool
	since  time.Time
	outage float64
}

func (t *teller) emit(ev steps.Event) {
	t.n++
	ev.Run, ev.Time = t.run, noon.Add(time.Duration(t.n)*100*time.Millisecond)
	if t.fake.pace > 0 {
		time.Sleep(t.fake.pace)
		ev.Time = time.Now()
	}
	if t.away {
		if t.since.IsZero() {
			t.since = ev.Time
		}
		t.outage = ev.Time.Sub(t.since).Seconds()
		o := t.outage
		ev.Away = &o
	}
	t.sink(ev)
}
