package steps

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// journalOfARun is a complete journal in a directory of its own.
func journalOfARun(t *testing.T) (dir string, lines []string) {
	t.Helper()
	n := newFakeNode(t)
	p := n.plan(Choices{})
	e, _ := n.engine(nil)
	if res := e.Run(t.Context(), p); !res.OK {
		t.Fatal(res.Error)
	}
	data, err := os.ReadFile(filepath.Join(p.RunDir, journalName))
	if err != nil {
		t.Fatal(err)
	}
	return p.RunDir, strings.SplitAfter(strings.TrimSpace(string(data)), "\n")
}

func TestTheJournalIsReadAfterACrash(t *testing.T) {
	dir, lines := journalOfARun(t)
	for _, c := range []struct {
		name  string
		data  string
		state RunState
		err   string
	}{
		{"whole", strings.Join(lines, ""), RunRestored, ""},
		{"the end is missing", strings.Join(lines[:len(lines)-1], ""), RunUnfinished, ""},
		{"the last line is torn", strings.Join(lines[:20], "") + lines[20][:len(lines[20])/2], RunUnfinished, ""},
		{"a line was torn, and the run continued later", strings.Join(lines[:4], "") + lines[4][:9] + "\n" + strings.Join(lines[4:], ""), RunRestored, ""},
		{"empty", "", RunUnreadable, "no plan"},
		{"the plan is torn", lines[0][:100], RunUnreadable, "no plan"},
		{"written by a newer version", `{"v":99,"type":"plan","plan":{"steps":"another shape"}}` + "\n", RunUnreadable, "newer version"},
		{"an action nobody knows", strings.ReplaceAll(strings.Join(lines, ""), `"kind":"take-out"`, `"kind":"teleport"`), RunUnreadable, "teleport"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := os.WriteFile(filepath.Join(dir, journalName), []byte(c.data), 0o600); err != nil {
				t.Fatal(err)
			}
			runs, err := Runs(filepath.Dir(dir))
			if err != nil || len(runs) != 1 {
				t.Fatalf("%+v %v", runs, err)
			}
			if runs[0].State != c.state || !strings.Contains(runs[0].Err, c.err) {
				t.Errorf("%s (%q), want %s (%q)", runs[0].State, runs[0].Err, c.state, c.err)
			}
		})
	}
}

func TestIntentIsOnTheDiskBeforeTheNodeIsTouched(t *testing.T) {
	n := newFakeNode(t)
	p := n.plan(Choices{})
	e, _ := n.engine(nil)
	sink := e.Sink
	e.Sink = func(ev Event) {
		sink(ev)
		if ev.Type == TypeAction && ev.State == Started {
			h, err := readHistory(p.RunDir)
			if err != nil || !h.began[ev.Action] {
				t.Errorf("%s starts without its intent in the journal (%v)", ev.Action, err)
			}
		}
	}
	if res := e.Run(t.Context(), p); !res.OK {
		t.Fatal(res.Error)
	}
}

func TestATornLineDoesNotSwallowTheNext(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, journalName), []byte(`{"v":1,"type":"pl`), 0o600); err != nil {
		t.Fatal(err)
	}
	j, err := openJournal(dir, leastRoom)
	if err != nil {
		t.Fatal(err)
	}
	if err := j.write(record{Type: recEnd}); err != nil {
		t.Fatal(err)
	}
	if err := j.close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, journalName))
	if err != nil {
		t.Fatal(err)
	}
	if lines := strings.Split(strings.TrimSpace(string(data)), "\n"); len(lines) != 2 {
		t.Errorf("%q", data)
	}
}

func TestAJournalIsNotFollowedThroughASymlink(t *testing.T) {
	dir := t.TempDir()
	target := filepath.Join(dir, "target")
	if err := os.Symlink(target, filepath.Join(dir, journalName)); err != nil {
		t.Fatal(err)
	}
	if _, err := openJournal(dir, leastRoom); err == nil {
		t.Error("it was opened")
	}
	if _, err := os.Stat(target); err == nil {
		t.Error("the target was written")
	}
}
