package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The house has an order: main → cli → ui, practice, fleet; ui → restore, and
// fleet → restore → steps → snapshot, unit, manifest, node → trust; unit → manifest. The engine knows
// nothing of screens, and screens nothing of how other nodes are reached. Below
// the wizard are its panes and below them the text.
func TestImportsPointDownwards(t *testing.T) {
	above := map[string][]string{ // of each package: what it must not know
		"problem":  {"cli", "ui", "practice", "fleet", "drill", "restore", "steps", "snapshot", "manifest", "unit", "node", "trust", "defect", "outbox"},
		"defect":   {"cli", "ui", "practice", "fleet", "drill", "restore", "steps", "snapshot", "manifest", "unit", "node", "trust"},
		"outbox":   {"cli", "ui", "practice", "fleet", "drill", "restore", "steps", "snapshot", "manifest", "unit", "node", "trust"},
		"priority": {"cli", "ui", "practice", "fleet", "drill", "restore", "steps", "snapshot", "manifest", "unit", "node", "trust", "defect", "problem"},
		"trust":    {"cli", "ui", "practice", "fleet", "drill", "restore", "steps", "snapshot", "manifest", "unit", "node", "defect"},
		"pipe":     {"cli", "ui", "practice", "fleet", "drill", "restore", "steps", "snapshot", "manifest", "unit", "node", "outbox"},
		"manifest": {"cli", "ui", "practice", "fleet", "drill", "restore", "steps", "snapshot", "unit", "node"},
		"unit":     {"cli", "ui", "practice", "fleet", "drill", "restore", "steps", "snapshot", "node"},
		"snapshot": {"cli", "ui", "practice", "fleet", "drill", "restore", "steps", "manifest", "unit", "node"},
		"node":     {"cli", "ui", "practice", "fleet", "drill", "restore", "steps", "manifest", "unit", "snapshot"},
		"backup":   {"cli", "ui", "practice", "fleet", "restore", "drill"},
		"drill":    {"cli", "ui", "practice", "fleet", "restore"},
		"steps":    {"cli", "ui", "practice", "fleet", "drill", "restore", "backup"},
		"restore":  {"cli", "ui", "practice", "fleet", "drill", "backup"},
		"fleet":    {"cli", "ui", "practice", "drill"},
		"practice": {"cli", "ui", "fleet", "drill"},
		"ui":       {"cli", "practice", "fleet"},
		"ui/pane":  {"cli", "practice", "fleet", "ui/print"},
		"ui/print": {"cli", "practice", "fleet", "ui/pane"},
		"ui/text":  {"cli", "practice", "fleet", "ui/pane", "ui/print"},
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

// Text and panes get values: they read no file, start nothing, and ask no node.
func TestTextAndPanesGetValues(t *testing.T) {
	pure := map[string]bool{"steps.Age": true, "steps.Ago": true, "steps.Moment": true, "steps.Clock": true, "steps.Blocking": true, "restore.Ways": true, "settle.Foretell": true, "snapshot.BareName": true, "snapshot.BaseName": true}
	for _, dir := range []string{"ui/text", "ui/pane"} {
		files, err := filepath.Glob(dir + "/*.go")
		if err != nil || len(files) == 0 {
			t.Fatal(files, err)
		}
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			fset := token.NewFileSet()
			file, err := parser.ParseFile(fset, name, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			for _, i := range file.Imports {
				if path := strings.Trim(i.Path.Value, `"`); slices.Contains([]string{"os", "os/exec", "net", "net/http", "io/fs", "sync"}, path) {
					t.Errorf("%s imports %s", name, path)
				}
			}
			ast.Inspect(file, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.GoStmt:
					t.Errorf("%s: a goroutine", fset.Position(n.Pos()))
				case *ast.CallExpr:
					called := types.ExprString(n.Fun)
					if room, _, ok := strings.Cut(called, "."); ok && slices.Contains([]string{"steps", "restore", "settle", "snapshot", "node", "manifest"}, room) && !pure[called] && !strings.Contains(called, "]") { // a value's method
						t.Errorf("%s calls %s", fset.Position(n.Pos()), called)
					}
				case *ast.SelectorExpr:
					if is := types.ExprString(n); slices.Contains([]string{"restore.Nodes", "restore.Flow", "restore.Engine", "restore.Local", "steps.Engine", "context.Context"}, is) {
						t.Errorf("%s knows %s", fset.Position(n.Pos()), is)
					}
				}
				return true
			})
		}
	}
}
