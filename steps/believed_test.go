package steps

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"etcd-rewind/trust"

	"golang.org/x/tools/txtar"
)

// A run whose journal can't be read may be one that stands, or was interrupted:
// it blocks what comes after, until it is named.
func TestARunThatCanNotBeReadBlocksUntilItIsNamed(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(dir string) error
	}{
		{"written by a newer version", func(dir string) error {
			return os.WriteFile(filepath.Join(dir, journalName), []byte(`{"v":99,"type":"plan"}`+"\n"), 0o600)
		}},
		{"damaged in the middle", func(dir string) error {
			return os.WriteFile(filepath.Join(dir, journalName), []byte(`{"v":1,"type":"plan","plan":{]}`+"\n"), 0o600)
		}},
		{"the plan is lost, and manifests lie aside", func(dir string) error {
			if err := os.WriteFile(filepath.Join(dir, journalName), nil, 0o600); err != nil {
				return err
			}
			return os.Mkdir(filepath.Join(dir, "aside"), 0o700)
		}},
		{"no journal, and manifests lie aside", func(dir string) error { return os.Mkdir(filepath.Join(dir, "aside"), 0o700) }},
		{"the journal is a directory", func(dir string) error { return os.Mkdir(filepath.Join(dir, journalName), 0o700) }},
		{"the journal is a link", func(dir string) error { return os.Symlink("/dev/null", filepath.Join(dir, journalName)) }},
		{"others may write to it", func(dir string) error { return os.Chmod(dir, 0o777) }},
		{"the run is a file", func(dir string) error {
			if err := os.Remove(dir); err != nil {
				return err
			}
			return os.WriteFile(dir, nil, 0o600)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			n := newFakeNode(t)
			e, _ := n.engine(nil)
			p := n.plan(Choices{})
			if !n.crashAt(e, p, crashed{"after the intent", "verify.1"}) {
				t.Fatal("it did not crash")
			}
			const later = "29991231-235959"
			dir := filepath.Join(n.stateDir(), later)
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := c.spoil(dir); err != nil {
				t.Fatal(err)
			}
			named := checkUnreadable + ":" + later
			runs, err := Runs(n.stateDir())
			if err != nil || len(runs) != 2 || runs[0].State != RunUnreadable || runs[0].Err == "" {
				t.Errorf("listed as %+v %v", runs, err)
			}
			for _, accept := range [][]string{nil, {checkUnreadable}, {"earlier-run"}} {
				_, undo := NewUndo(n.stateDir(), "", Terms{Accept: accept})
				_, first := NewUndo(n.stateDir(), p.Run, Terms{Accept: accept})
				_, resume := NewResume(n.stateDir(), "", Terms{Accept: accept})
				for _, err := range []error{undo, first, resume} {
					if err == nil || !strings.Contains(err.Error(), later) || !strings.Contains(hintOfErr(err), "--override "+named) {
						t.Errorf("accepted %v: %v", accept, err)
					}
				}
				if v := verdictOn(t, n, named, accept); !v.Blocks() || v.Cause == "" {
					t.Errorf("accepted %v, the check says %+v", accept, v)
				}
			}
			if v := verdictOn(t, n, named, []string{named}); v.Blocks() {
				t.Errorf("named, the check says %+v", v)
			}
			if _, err := NewUndo(n.stateDir(), "", Terms{Accept: []string{named}}); err != nil {
				t.Error(err)
			}
			if _, err := NewResume(n.stateDir(), "", Terms{Accept: []string{named}}); err != nil {
				t.Error(err)
			}
		})
	}
}

func verdictOn(t *testing.T, n *fakeNode, name string, accept []string) Verdict {
	t.Helper()
	for _, v := range Check(t.Context(), n.facts(), nil, Choices{Accept: accept}) {
		if v.Check == name {
			return v
		}
	}
	t.Errorf("no check %s", name)
	return Verdict{}
}

// A state directory that can't be read is not one without runs.
func TestRunsThatCanNotBeListedAreNotNone(t *testing.T) {
	n := newFakeNode(t)
	if err := os.WriteFile(n.stateDir(), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Runs(n.stateDir()); err == nil {
		t.Error("no error")
	}
	if v := verdictOn(t, n, checkUnreadable, []string{checkUnreadable}); !v.Blocks() {
		t.Errorf("the check says %+v", v)
	}
}

// What lies where others can write isn't obeyed, nor read further.
func TestAJournalThatOthersCouldHaveWrittenIsNotObeyed(t *testing.T) {
	chmod := func(mode os.FileMode, name ...string) func(stateDir, run string) error {
		return func(stateDir, run string) error {
			return os.Chmod(filepath.Join(append([]string{stateDir}, strings.Split(strings.ReplaceAll(filepath.Join(name...), "RUN", run), "/")...)...), mode)
		}
	}
	chown := func(name ...string) func(stateDir, run string) error {
		return func(stateDir, run string) error {
			return os.Lchown(filepath.Join(append([]string{stateDir}, strings.Split(strings.ReplaceAll(filepath.Join(name...), "RUN", run), "/")...)...), 65534, 65534)
		}
	}
	link := func(stateDir, run string) error {
		if err := os.Rename(stateDir, stateDir+".real"); err != nil {
			return err
		}
		return os.Symlink(stateDir+".real", stateDir)
	}
	n := restored(t, false)
	run := n.undo().Run
	for _, c := range []struct {
		name  string
		root  bool // changing owners is root's
		spoil func(stateDir, run string) error
	}{
		{"others may write to the state directory", false, chmod(0o777, ".")},
		{"others may write to the run's directory", false, chmod(0o775, "RUN")},
		{"others may write to the journal", false, chmod(0o666, "RUN", journalName)},
		{"the state directory is nobody's", true, chown(".")},
		{"the run's directory is nobody's", true, chown("RUN")},
		{"the journal is nobody's", true, chown("RUN", journalName)},
		{"the state directory is a link", false, link},
	} {
		if c.root && os.Geteuid() != 0 {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			copied := filepath.Join(t.TempDir(), "state")
			if err := os.CopyFS(copied, os.DirFS(n.stateDir())); err != nil {
				t.Fatal(err)
			}
			for _, dir := range []string{copied, filepath.Join(copied, run)} {
				if err := os.Chmod(dir, 0o700); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Chmod(filepath.Join(copied, run, journalName), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := c.spoil(copied, run); err != nil {
				t.Fatal(err)
			}
			for _, plan := range []func(string, string, Terms) (*Plan, error){NewUndo, NewResume, NewRedo} {
				if _, err := plan(copied, "", Terms{}); err == nil || !strings.Contains(err.Error(), "nothing in it is trusted") {
					t.Errorf("%v", err)
				}
			}
			if _, err := Follow(t.Context(), RunInfo{Run: run, Dir: filepath.Join(copied, run)}, func(Event) { t.Error("an event was reported") }); err == nil {
				t.Error("it was followed")
			}
		})
	}
}

// A journal that lies elsewhere than it says, or names what is none of its
// run's, is refused as a whole.
func TestAJournalNamesOnlyWhatItsRunMayTouch(t *testing.T) {
	n := restored(t, false)
	p := n.undo()
	data, err := os.ReadFile(filepath.Join(p.RunDir, journalName))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parseHistory(data, p.RunDir); err != nil {
		t.Fatal(err)
	}
	manifests := filepath.Join(n.root, "manifests")
	for _, c := range []struct{ name, from, to string }{
		{"another run directory", `"run_dir":"` + p.RunDir, `"run_dir":"/tmp/x`},
		{"another run", `"run":"` + p.Run, `"run":"20200101-000000`},
		{"a manifest elsewhere", `"file":"` + manifests + "/etcd.yaml", `"file":"/etc/cron.d/etcd`},
		{"a manifest that climbs", `"file":"` + manifests + "/etcd.yaml", `"file":"` + manifests + "/../etcd.yaml"},
		{"taken out to elsewhere", `"to":"` + p.RunDir + "/aside/etcd.yaml", `"to":"/root/.ssh/authorized_keys`},
		{"put in from elsewhere", `"from":"` + p.RunDir + "/new/etcd.yaml", `"from":"/tmp/etcd.yaml`},
		{"undone to elsewhere", `"undone":"` + p.RunDir + "/undone/etcd.yaml", `"undone":"/etc/shadow`},
		{"kept elsewhere", `"kept":"` + p.RunDir + "/kept/etcd.yaml", `"kept":"/etc/passwd`},
		{"another directory renamed", `"from":"` + p.Restore.Staging, `"from":"/home`},
		{"renamed to elsewhere", `"to":"` + p.Restore.DataDir, `"to":"/usr`},
		{"staged elsewhere", `"staging":"` + p.Restore.Staging, `"staging":"/usr`},
		{"saved elsewhere", `"to":"` + filepath.Dir(p.Restore.OldDataDir) + "/etcd-before", `"to":"/etc/etcd-before-x`},
		{"a pod with a quote", `"pod":"etcd-cp1"`, `"pod":"etcd';id;'"`},
		{"a kind nobody knows", `"kind":"restore"`, `"kind":"reformat"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			changed := strings.ReplaceAll(string(data), c.from, c.to)
			if changed == string(data) {
				t.Fatalf("the journal doesn't say %s", c.from)
			}
			if h, err := parseHistory([]byte(changed), p.RunDir); err == nil {
				t.Errorf("it was believed: %+v", h.restore.Restore)
			}
		})
	}
	t.Run("a copy", func(t *testing.T) {
		copied := filepath.Join(t.TempDir(), "state")
		if err := os.CopyFS(copied, os.DirFS(n.stateDir())); err != nil {
			t.Fatal(err)
		}
		if _, err := NewUndo(copied, "", Terms{}); err == nil || !strings.Contains(err.Error(), "doesn't belong to that run") {
			t.Errorf("%v", err)
		}
	})
}

// One's own journal is read however long a line is, and there is room for it on
// the disk.
func TestALongPlanIsReadAgain(t *testing.T) {
	n := newFakeNode(t)
	p := n.plan(Choices{})
	p.Summary = append(p.Summary, Fact{"long", strings.Repeat("x", 70<<20)})
	if room := p.room(); room < 4*70<<20 {
		t.Errorf("room for %d bytes only", room)
	}
	line, err := json.Marshal(record{V: journalVersion, Type: recPlan, Plan: p})
	if err != nil {
		t.Fatal(err)
	}
	h, err := parseHistory(line, p.RunDir)
	if err != nil || fact(h.restore.Summary, "long") == "" {
		t.Errorf("%v", err)
	}
}

// recorded is a node as the version before left it, with what it restored and
// what it left.
func recorded(t *testing.T, name string) *fakeNode {
	t.Helper()
	n := newFakeNode(t)
	n.pause(true)
	ar, err := txtar.ParseFile(filepath.Join("testdata/before", name+".txtar"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"} {
		if err := os.Remove(filepath.Join(n.root, "manifests", f+".yaml")); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.RemoveAll(filepath.Join(n.root, "lib/etcd")); err != nil {
		t.Fatal(err)
	}
	const was = "/recorded/node"
	here := func(data []byte) []byte { return []byte(strings.ReplaceAll(string(data), was, n.root)) }
	sums := map[string]string{}
	for i, f := range ar.Files {
		if filepath.Base(f.Name) != journalName {
			sums[sum(f.Data)] = sum(here(f.Data))
			ar.Files[i].Data = here(f.Data)
			continue
		}
		ar.Files[i].Data = bytesField.ReplaceAllFunc(f.Data, func(m []byte) []byte {
			g := bytesField.FindSubmatch(m)
			raw, err := base64.StdEncoding.DecodeString(string(g[2]))
			if err != nil {
				t.Fatal(err)
			}
			sums[sum(raw)] = sum(here(raw))
			return fmt.Appendf(nil, `"%s":"%s"`, g[1], base64.StdEncoding.EncodeToString(here(raw)))
		})
	}
	for _, f := range ar.Files {
		path := filepath.Join(n.root, f.Name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		data := f.Data
		if filepath.Base(path) == journalName {
			text := string(here(data))
			for from, to := range sums {
				text = strings.ReplaceAll(text, from, to)
			}
			data = []byte(text)
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if filepath.Base(path) == "data.json" {
			var d struct {
				ClusterID uint64 `json:"cluster_id"`
			}
			if err := json.Unmarshal(data, &d); err != nil {
				t.Fatal(err)
			}
			putEtcdFiles(t, filepath.Dir(path), d.ClusterID, 0)
		}
	}
	n.pause(false)
	return n
}

var bytesField = regexp.MustCompile(`"(old|data)":"([A-Za-z0-9+/=]{40,})"`)

// Runs that the version before made, or left half-way, are undone and resumed.
// They recorded nothing of the old data but the cluster of an etcd that ran:
// where none did, the undo has to be named.
func TestRunsOfTheVersionBefore(t *testing.T) {
	for _, c := range []struct {
		name   string
		accept []string
		resume bool
	}{
		{"restored", nil, false},
		{"restored-etcd-dead", []string{checkOldData}, false},
		{"interrupted", nil, true},
		{"undo-interrupted", nil, false},
		{"swapped", nil, false},
		{"swap-interrupted", nil, true},
	} {
		t.Run(c.name+", undo", func(t *testing.T) {
			t.Parallel()
			n := recorded(t, c.name)
			e, _ := n.engine(nil)
			p := n.undo()
			if err := p.Allowed(t.Context()); (err != nil) != (c.accept != nil) {
				t.Errorf("blocked by %v", err)
			}
			p, err := NewUndo(n.stateDir(), "", Terms{Accept: c.accept})
			if err != nil {
				t.Fatal(err)
			}
			if res := e.Run(t.Context(), p); !res.OK {
				t.Fatal(res.Error)
			}
			n.until("the old cluster runs", func() bool {
				s, err := n.Etcd(t.Context(), false)
				return err == nil && s.ClusterID == 0xaaaa && n.apiReady()
			})
			etcd, err := os.ReadFile(filepath.Join(n.root, "manifests/etcd.yaml"))
			if err != nil || !strings.Contains(string(etcd), "path: "+n.oldData()+"\n") {
				t.Errorf("%v: %s", err, etcd)
			}
		})
		if c.resume {
			t.Run(c.name+", resume", func(t *testing.T) {
				t.Parallel()
				n := recorded(t, c.name)
				e, _ := n.engine(nil)
				p, err := NewResume(n.stateDir(), "", Terms{})
				if err != nil {
					t.Fatal(err)
				}
				if res := e.Run(t.Context(), p); !res.OK || !n.runsRestored() {
					t.Fatalf("%+v", res.Error)
				}
			})
		}
	}
	t.Run("swapped, undo and redo", func(t *testing.T) {
		t.Parallel()
		n := recorded(t, "swapped")
		e, _ := n.engine(nil)
		if res := e.Run(t.Context(), n.undo()); !res.OK {
			t.Fatal(res.Error)
		}
		p, err := NewRedo(n.stateDir(), "", Terms{})
		if err != nil {
			t.Fatal(err)
		}
		if res := e.Run(t.Context(), p); !res.OK || !n.runsRestored() {
			t.Fatalf("%+v", res.Error)
		}
	})
	t.Run("undo-interrupted, redo", func(t *testing.T) {
		t.Parallel()
		n := recorded(t, "undo-interrupted")
		e, _ := n.engine(nil)
		p, err := NewRedo(n.stateDir(), "", Terms{})
		if err != nil {
			t.Fatal(err)
		}
		if res := e.Run(t.Context(), p); !res.OK || !n.runsRestored() {
			t.Fatalf("%+v", res.Error)
		}
	})
}

// FuzzJournal reads whatever a journal may hold. It never panics, and never
// yields a way back that touches anything outside of its run.
func FuzzJournal(f *testing.F) {
	const root = "/recorded/node"
	for _, name := range []string{"restored", "restored-etcd-dead", "interrupted", "undo-interrupted"} {
		ar, err := txtar.ParseFile(filepath.Join("testdata/before", name+".txtar"))
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range ar.Files {
			if filepath.Base(file.Name) != journalName {
				continue
			}
			run := filepath.Base(filepath.Dir(file.Name))
			for _, small := range smallJournals(f, file.Data) {
				f.Add(run, small)
				f.Add(run, small[:len(small)*3/4])
				f.Add(run, bytes.Replace(small, []byte(root+"/manifests/"), []byte("/etc/"), 1))
				f.Add(run, bytes.Replace(small, []byte(`"with":{`), []byte(`"with":null,"x":{`), 1))
			}
		}
	}
	f.Add("20261126-000000", []byte(`{"v":1,"type":"plan"}`))
	f.Add("20261126-000000", []byte(`{"v":1,"type":"plan","plan":{"kind":"restore","steps":[{"actions":[{}]}]}}`))
	f.Add("20261126-000000", []byte(`{"v":1,"type":"result","memory":null}`+"\n"+`{"v":1,"type":"end"}`))
	f.Fuzz(func(t *testing.T, run string, data []byte) {
		runDir := filepath.Join(root, "etcd-rewind", run)
		h, err := parseHistory(data, runDir)
		if err != nil {
			return
		}
		for _, plan := range []func(*history, Terms) (*Plan, error){undoPlan, redoPlan} {
			p, err := plan(h, Terms{})
			if err != nil {
				continue
			}
			allowed := []string{runDir, filepath.Clean(h.restore.Reach.Kubelet.StaticPodPath)}
			for _, path := range touchedBy(p) {
				if filepath.Clean(path) != path {
					t.Errorf("not clean: %q", path)
				}
				renamed := strings.Contains(filepath.Base(path), ".staging")
				if !slices.ContainsFunc(allowed, func(dir string) bool { return filepath.Dir(path) == dir || trust.Within(dir, path) }) && !renamed {
					t.Errorf("outside: %q", path)
				}
			}
		}
	})
}

// smallJournals are what a fuzzer can work with, of a journal of 100 kB: a plan
// of one action each, or of those that a redo needs, without the manifests'
// contents, and with what is remembered.
func smallJournals(f *testing.F, journal []byte) [][]byte {
	type object = map[string]any
	var thin func(v any) any
	thin = func(v any) any {
		switch v := v.(type) {
		case object:
			for _, k := range []string{"diffs", "summary", "why", "more", "title", "commands"} {
				delete(v, k)
			}
			for k := range v {
				v[k] = thin(v[k])
			}
		case []any:
			for i := range v {
				v[i] = thin(v[i])
			}
		case string:
			if len(v) > 200 {
				return ""
			}
		}
		return v
	}
	var plan, memory object
	last := "restore"
	for line := range bytes.Lines(journal) {
		var rec object
		if err := json.Unmarshal(line, &rec); err != nil {
			continue // torn
		}
		thin(rec)
		if p, ok := rec["plan"].(object); ok {
			if last, _ = p["kind"].(string); plan == nil {
				plan = p
			}
		}
		if m, ok := rec["memory"].(object); ok {
			memory = m
		}
	}
	if plan == nil || memory == nil {
		f.Fatal("no plan, or nothing remembered")
	}
	steps, _ := plan["steps"].([]any)
	made := func(ids []string, keep func(kind string) bool) []byte {
		var out bytes.Buffer
		var kept []any
		for _, s := range steps {
			s, _ := s.(object)
			var actions []any
			for _, a := range s["actions"].([]any) {
				if a, _ := a.(object); keep(a["kind"].(string)) {
					actions = append(actions, a)
					ids = append(ids, a["id"].(string))
				}
			}
			if len(actions) > 0 {
				kept = append(kept, object{"id": s["id"], "actions": actions})
			}
		}
		small := maps.Clone(plan)
		small["steps"] = kept
		recs := []object{{"type": "plan", "plan": small}}
		for _, id := range ids {
			recs = append(recs, object{"type": "intent", "action": id})
		}
		recs = append(recs, object{"type": "result", "action": ids[len(ids)-1], "state": "done", "memory": memory})
		if last != "restore" {
			back := maps.Clone(small)
			back["kind"], back["steps"] = last, nil
			recs = append(recs, object{"type": "plan", "plan": back})
		}
		enc := json.NewEncoder(&out)
		for _, rec := range recs {
			rec["v"] = 1
			if err := enc.Encode(rec); err != nil {
				f.Fatal(err)
			}
		}
		return out.Bytes()
	}
	var all [][]byte
	for _, kind := range []string{"prepare", "take-out", "rename", "put-in", "restart-kubelet"} {
		all = append(all, made(nil, func(k string) bool { return k == kind }))
	}
	return append(all,
		made(nil, func(k string) bool { return k == "stage" || k == "rename" }),
		made(nil, func(k string) bool {
			return slices.Contains([]string{"prepare", "rename", "put-in", "wait-etcd", "wait-data", "wait-api"}, k)
		}))
}

// touchedBy are the files and directories that a plan moves or writes; of a
// rename the one that has the run's name.
func touchedBy(p *Plan) []string {
	var paths []string
	for _, s := range p.Steps {
		for _, a := range s.Actions {
			switch a := a.Action.(type) {
			case *TakeOut:
				paths = append(paths, a.File, a.To)
			case *PutIn:
				paths = append(paths, a.File, a.From)
			case *WaitStarted:
				if a.File != "" {
					paths = append(paths, a.File)
				}
			case *Ready:
				for _, f := range a.Files {
					paths = append(paths, f.New, f.Undone, f.Like)
				}
			case *Rename:
				staging := a.From
				if !strings.Contains(filepath.Base(staging), ".staging") {
					staging = a.To
				}
				paths = append(paths, staging)
			}
		}
	}
	return paths
}

// pause makes kubelet look away while its node is changed by hand.
func (n *fakeNode) pause(paused bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.paused = paused
	clear(n.pods)
	n.boxes = nil
}
