package steps

import (
	"slices"
	"strings"
	"testing"
	"unicode"
)

// Whatever a file, a node or a member of a snapshot is called: the report shows
// it as text. It begins no heading, ends no block and moves no cursor.
func TestTheReportHoldsNamesAsText(t *testing.T) {
	const evil = "x\x1b]0;t\n# heading\n```\n<b>|`\u202e\u009b\x7f"
	r := &run{engine: &Engine{}, plan: &Plan{
		Kind: KindRestore, Title: "Restore " + evil, Node: evil, Run: "20261120-120000",
		Summary: []Fact{{"snapshot", evil}}, Diffs: []Diff{{Path: "/m/etcd.yaml", Text: "+" + evil + "\n"}},
		Steps: []Step{{Title: evil, Actions: []Planned{{ID: "verify.1", Action: &Verify{Node: evil}}}}},
	}}
	text := reportText(r, &Result{
		Summary: []Fact{{"old data", evil}}, Undo: "etcd-rewind undo 20261120-120000", Redo: "etcd-rewind redo 20261120-120000",
		Error: &Failure{Title: evil, Cause: evil, Hint: evil, Log: []string{evil, "````"}},
	})
	for _, c := range text {
		if c != '\n' && (unicode.IsControl(c) || unicode.Is(unicode.Cf, c)) {
			t.Fatalf("%q is in the report raw", c)
		}
	}
	fence := ""
	var headings []string
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case fence == "" && strings.HasPrefix(line, "```"):
			fence = line[:len(line)-len(strings.TrimLeft(line, "`"))]
		case fence != "" && line == fence:
			fence = ""
		case fence == "" && strings.HasPrefix(line, "#"):
			headings = append(headings, line)
		case fence == "" && strings.Contains(line, "<b>"):
			t.Errorf("markup: %s", line)
		}
	}
	if fence != "" {
		t.Error("a block has no end")
	}
	if len(headings) != 6 || slices.Contains(headings, "# heading") {
		t.Errorf("headings: %q", headings)
	}
}
