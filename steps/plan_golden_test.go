package steps

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden plans")

// The plans for a node with stacked etcd, and the way back from them, are what
// people have read, and what journals hold: they change only on purpose.
func TestThePlansForAStackedNodeStayAsTheyAre(t *testing.T) {
	for name, c := range map[string]Choices{
		"restore":          {},
		"restore-graceful": {Stop: StopGraceful, KeepControllers: true},
		"restore-fleet":    {Fleet: fleetOfTheTests},
		"restore-swap":     {Swap: true},
	} {
		t.Run(name, inFakeTime(func(t *testing.T) {
			n := newFakeNode(t)
			plan := n.planAt(c)
			n.golden(name, plan)
			if name != "restore" {
				return
			}
			e, _ := n.engine(nil)
			if res := e.Run(t.Context(), plan); !res.OK {
				t.Fatal(res.Error)
			}
			undo := n.undo()
			n.golden("undo", undo)
			if res := e.Run(t.Context(), undo); !res.OK {
				t.Fatal(res.Error)
			}
			redo, err := NewRedo(filepath.Join(n.root, "etcd-rewind"), "", Terms{})
			if err != nil {
				t.Fatal(err)
			}
			n.golden("redo", redo)
		}))
	}
}

// dayOfThePlans is when the plans that are kept were made.
var dayOfThePlans = time.Date(2026, 11, 20, 21, 26, 5, 0, time.UTC)

func (n *fakeNode) planAt(c Choices) *Plan {
	n.t.Helper()
	f := n.facts()
	f.Time = dayOfThePlans
	p, err := NewRestore(f, snapshotOfTheTests, c)
	if err != nil {
		n.t.Fatal(err)
	}
	return p
}

// What differs from run to run of the test, and nothing else.
var volatile = []struct {
	what *regexp.Regexp
	is   string
}{
	{regexp.MustCompile(`[0-9a-f]{64}`), "SUM"},
	{regexp.MustCompile(`"(old|data)":"[A-Za-z0-9+/=]{100,}"`), `"$1":"BYTES"`},
	{regexp.MustCompile(`"(uid|gid|mode|old)":\d+`), `"$1":0`},
	{regexp.MustCompile(`written last on [^\n]*`), "written last"},
	{regexp.MustCompile(`, of \d\d\d\d-[^\n]*`), ""},
	{regexp.MustCompile(`\d+(\.\d+)? [kM]?B\b`), "N B"},
}

func (n *fakeNode) golden(name string, p *Plan) {
	n.t.Helper()
	var got strings.Builder
	for _, s := range p.Steps {
		fmt.Fprintf(&got, "%s: %s\n", s.ID, s.Title)
		for _, a := range s.Actions {
			with, err := json.Marshal(a.Action)
			if err != nil {
				n.t.Fatal(err)
			}
			fmt.Fprintf(&got, "  %s %s: %s\n    %s\n", a.ID, a.Kind(), a.Title(), with)
			for _, c := range a.Commands() {
				fmt.Fprintf(&got, "    $ %s\n", c)
			}
		}
	}
	for _, f := range p.Summary {
		fmt.Fprintf(&got, "%s: %s\n", f.Name, f.Value)
	}
	for _, d := range p.Diffs {
		got.WriteString(d.Text)
	}
	n.compare(filepath.Join("testdata", "plans", name+".golden"), got.String())
}

// compare holds a text about this node against the file that keeps it.
func (n *fakeNode) compare(path, text string) {
	n.t.Helper()
	text = strings.ReplaceAll(text, n.root, "ROOT")
	for _, v := range volatile {
		text = v.what.ReplaceAllString(text, v.is)
	}
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			n.t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			n.t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		n.t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), text); diff != "" {
		n.t.Errorf("%s has changed (-golden +now):\n%s", path, diff)
	}
}

func (p *Plan) step(id string) *Step {
	for i := range p.Steps {
		if p.Steps[i].ID == id {
			return &p.Steps[i]
		}
	}
	return nil
}
