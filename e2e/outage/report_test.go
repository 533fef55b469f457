//go:build linux

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The pages are what outage.json has, with what was written by hand around it.
func TestTheDocumentationIsWhatWasMeasured(t *testing.T) {
	made, err := pages("../../docs")
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range made {
		is, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if string(is) != want {
			t.Errorf("%s isn't what outage.json has: go run ./e2e/outage -render -docs docs", path)
		}
	}
}

func TestWhatIsMeasuredIsKeptBesideWhatWasBefore(t *testing.T) {
	dir := t.TempDir()
	empty := "before\n" + madeBegins + "old\n" + madeEnds + "after\n"
	for _, name := range []string{"outage.md", "benchmarks.md"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(empty), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	rows := func(ratio float64) []row {
		return []row{{Way: handName, Database: small, Ratio: 1, AtWorst: 1, Median: 40, Worst: 40}, {Way: rewind.name, Database: small, Ratio: ratio, AtWorst: ratio, Median: 40 * ratio, Worst: 40 * ratio}}
	}
	for _, r := range []record{
		{Date: "2026-11-21", What: anOutage, On: "bare-1.34", Nodes: 1, Kubernetes: "1.34.4", Tuned: "a lot", Rows: rows(0.09)},
		{Date: "2026-11-25", What: anOutage, On: "bare-1.34", Nodes: 1, Kubernetes: "1.34.4", Rows: rows(0.14)},
		{Date: "2026-11-26", What: anOutage, On: "bare-1.34", Nodes: 3, Kubernetes: "1.34.4", Rows: rows(0.25)},
		{Date: "2026-11-26", What: anOutage, On: "bare-1.34", Nodes: 1, Kubernetes: "1.34.4", Rows: rows(0.12)},
		{Date: "2026-11-26", What: aRecovery, On: "bare-1.34", Nodes: 1, Kubernetes: "1.34.4", Rows: rows(0.2)},
		{Date: "2026-11-26", What: aRecovery, On: "bare-1.34", Nodes: 1, Kubernetes: "1.34.4", Rows: []row{{Way: rewind.name, Database: large, Ratio: 0.3}}},
	} {
		if err := keep(dir, r); err != nil {
			t.Fatal(err)
		}
		if err := writePages(dir); err != nil {
			t.Fatal(err)
		}
	}
	read := func(name string) string {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	page := read("outage.md")
	if !strings.HasPrefix(page, "before\n") || !strings.HasSuffix(page, "after\n") || strings.Contains(page, "old\n") {
		t.Errorf("what was written by hand is not kept:\n%s", page)
	}
	last := -1
	for _, line := range []string{
		"| One node, Kubernetes 1.34.4 | not tuned | **0.12** (0.12) | 4.8 s (4.8 s) | 40.0 s |",
		"| One node, Kubernetes 1.34.4 | not tuned | **0.14**",
		"| Three nodes on one machine, Kubernetes 1.34.4 | not tuned | **0.25**",
		"| One node, Kubernetes 1.34.4 | tuned | **0.09**",
		"**Not measured yet** on a machine that isn't tuned, with by hand in the same run: one node under systemd with Kubernetes 1.37 (`make bench-outage-systemd`).",
		"## One node, Kubernetes 1.34.4, not tuned",
		"## Three nodes on one machine",
		"## One node, Kubernetes 1.34.4, tuned",
	} {
		i := strings.Index(page, line)
		if i <= last {
			t.Errorf("%q is at %d, after %d:\n%s", line, i, last, page)
		}
		last = max(last, i)
	}
	if n := strings.Count(page, "\n## "); n != 3 {
		t.Errorf("%d are told in full, want the newest of each kind", n)
	}
	if b := read("benchmarks.md"); !strings.Contains(b, "### One node, Kubernetes 1.34.4, not tuned") || !strings.Contains(b, "### One node, Kubernetes 1.34.4, 2 GB alone, not tuned") || !strings.HasSuffix(b, "after\n") {
		t.Errorf("the benchmarks have no recovery:\n%s", b)
	}
	if svg := read("outage.svg"); !strings.Contains(svg, "etcd-rewind, small, 3 nodes") {
		t.Errorf("three nodes are not drawn:\n%s", svg)
	}
	if _, err := put("nothing is made here\n", "new"); err == nil {
		t.Error("a page without marks was replaced")
	}
}
