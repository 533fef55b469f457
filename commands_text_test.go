package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// Text that people paste into root's shell is made by trust.Shell and
// trust.Comment alone: what is in a command, or behind its #, may be the word
// of a snapshot, a ticket or another node.
func TestCommandsAreMadeInOnePlace(t *testing.T) {
	// What a command that is put together looks like in the source.
	command := regexp.MustCompile(`((^|[\s:;,("'])(etcd-rewind [a-z]+|chmod|chown|rm -rf?|mv|cp|sed|curl|crictl|etcdutl|etcdctl|kubeadm|systemctl restart|mkdir -p)( -{1,2}[a-z-]+)* ('\^)?|--(confirm|ticket|accept|override|host|without) |(^| )# )`)
	joined := regexp.MustCompile(command.String() + `$`)
	formatted := regexp.MustCompile(command.String() + `%(\[\d+\])?[sqv]`)
	files := token.NewFileSet()
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (path == "e2e" || path == "trust") {
			return fs.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(files, path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				if madeByTrust(n) {
					return false
				}
				for _, a := range n.Args {
					if s, ok := literal(a); ok && formatted.MatchString(s) {
						t.Errorf("%s: %q is formatted without trust.Shell", files.Position(n.Pos()), s)
					}
				}
			case *ast.BinaryExpr:
				if s, ok := lastLiteral(n.X); ok && n.Op == token.ADD && joined.MatchString(s) && !constant(n.Y) && !madeByTrust(n.Y) {
					t.Errorf("%s: %q is joined without trust.Shell", files.Position(n.Pos()), s)
				}
			case *ast.FuncDecl:
				if n.Name.Name == "Commands" && n.Recv != nil {
					onlyTrust(t, files, n.Body)
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

// onlyTrust refuses, in what prints an action's commands, all other ways to put
// text together.
func onlyTrust(t *testing.T, files *token.FileSet, body ast.Node) {
	ast.Inspect(body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			if madeByTrust(n) {
				return false
			}
			if sel, ok := n.Fun.(*ast.SelectorExpr); ok {
				if pkg, ok := sel.X.(*ast.Ident); ok && (pkg.Name == "fmt" || pkg.Name == "strings") {
					t.Errorf("%s: commands are made with %s.%s", files.Position(n.Pos()), pkg.Name, sel.Sel.Name)
				}
			}
		case *ast.BinaryExpr:
			if n.Op == token.ADD && !(constant(n.X) && constant(n.Y)) {
				t.Errorf("%s: commands are made with +", files.Position(n.Pos()))
			}
		}
		return true
	})
}

func madeByTrust(e ast.Expr) bool { return calls(e, "trust") != "" }

// calls is the function of a package that an expression calls, "" for none.
func calls(e ast.Expr, of string) string {
	call, ok := e.(*ast.CallExpr)
	if !ok {
		return ""
	}
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return ""
	}
	if pkg, ok := sel.X.(*ast.Ident); !ok || pkg.Name != of {
		return ""
	}
	return sel.Sel.Name
}

func constant(e ast.Expr) bool { _, ok := e.(*ast.BasicLit); return ok }

func literal(e ast.Expr) (string, bool) {
	lit, ok := e.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return "", false
	}
	s, err := strconv.Unquote(lit.Value)
	return s, err == nil
}

// lastLiteral is what stands before a +.
func lastLiteral(e ast.Expr) (string, bool) {
	if sum, ok := e.(*ast.BinaryExpr); ok {
		return literal(sum.Y)
	}
	return literal(e)
}
