package main

import (
	"os/exec"
	"strings"
	"testing"
)

// The house has an order: main → cli → ui, practice, fleet; ui → restore, and
// fleet → restore → steps → snapshot, manifest, node → trust. The engine knows
// nothing of screens, and screens nothing of how other nodes are reached. Below
// the wizard are its panes and below them the text.
func TestImportsPointDownwards(t *testing.T) {
	above := map[string][]string{ // of each package: what it must not know
		"problem":  {"cli", "ui", "practice", "fleet", "restore", "steps", "snapshot", "manifest", "node", "trust", "defect", "outbox"},
		"defect":   {"cli", "ui", "practice", "fleet", "restore", "steps", "snapshot", "manifest", "node", "trust"},
		"outbox":   {"cli", "ui", "practice", "fleet", "restore", "steps", "snapshot", "manifest", "node", "trust"},
		"trust":    {"cli", "ui", "practice", "fleet", "restore", "steps", "snapshot", "manifest", "node", "defect"},
		"manifest": {"cli", "ui", "practice", "fleet", "restore", "steps", "snapshot", "node"},
		"snapshot": {"cli", "ui", "practice", "fleet", "restore", "steps", "manifest", "node"},
		"node":     {"cli", "ui", "practice", "fleet", "restore", "steps", "manifest", "snapshot"},
		"steps":    {"cli", "ui", "practice", "fleet", "restore"},
		"restore":  {"cli", "ui", "practice", "fleet"},
		"fleet":    {"cli", "ui", "practice"},
		"practice": {"cli", "ui", "fleet"},
		"ui":       {"cli", "practice", "fleet"},
		"ui/pane":  {"cli", "practice", "fleet"},
		"ui/text":  {"cli", "practice", "fleet", "ui/pane"},
	}
	for pkg, not := range above {
		out, err := exec.Command("go", "list", "-deps", "etcd-rewind/"+pkg).Output()
		if err != nil {
			t.Fatal(err)
		}
		for dep := range strings.Lines(string(out)) {
			dep = strings.TrimSpace(dep)
			for _, n := range not {
				if dep == "etcd-rewind/"+n || strings.HasPrefix(dep, "etcd-rewind/"+n+"/") {
					t.Errorf("%s imports %s", pkg, dep)
				}
			}
			if keys := strings.Contains(dep, "charmbracelet/bubble"); keys && pkg != "ui" && pkg != "ui/pane" {
				t.Errorf("%s imports %s", pkg, dep)
			}
			if colours := strings.HasPrefix(dep, "github.com/charmbracelet/lipgloss"); colours && !strings.HasPrefix(pkg, "ui") {
				t.Errorf("%s imports %s", pkg, dep)
			}
		}
	}
}
