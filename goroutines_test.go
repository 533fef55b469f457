package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
)

// A panic in any goroutine ends a run with its way back, and not with Go's
// status 2: so every goroutine begins in package defect. The practice node is
// nobody's control plane.
func TestGoroutinesAreGuarded(t *testing.T) {
	files := token.NewFileSet()
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (path == "e2e" || path == "practice" || path == "defect") {
			return fs.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(files, path, nil, 0)
		if err != nil {
			return err
		}
		guarded := func(e ast.Expr) bool { return calls(e, "defect") == "Do" }
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt:
				if !guarded(n.Call.Fun) {
					t.Errorf("%s: go without defect.Do", files.Position(n.Pos()))
				}
			case *ast.CallExpr:
				sel, ok := n.Fun.(*ast.SelectorExpr)
				if !ok || len(n.Args) == 0 {
					return true
				}
				if last := n.Args[len(n.Args)-1]; (sel.Sel.Name == "Go" || sel.Sel.Name == "AfterFunc") && !guarded(last) {
					t.Errorf("%s: %s without defect.Do", files.Position(n.Pos()), sel.Sel.Name)
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
