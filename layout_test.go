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

// Where a layout puts things is said in node/layout.go. The practice node and
// the end-to-end tests make such nodes; people's examples and the places in
// which snapshots are looked for are no layout, and what kubeadm assumes of its own ConfigMap
// isn't either. node/systemd.go starts the program.
func TestALayoutIsInOnePlace(t *testing.T) {
	elsewhere := map[string]bool{"node/layout.go": true, "node/vendor.go": true, "snapshot/find.go": true, "manifest/kubeadm.go": true, "node/systemd.go": true}
	paths := []string{"/etc/kubernetes", "/var/lib/kubelet", "/var/log/pods", "kubelet.service", "systemctl start kubelet", "systemctl restart", "journalctl"}
	found := 0
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			if d.Name() == "e2e" || d.Name() == "practice" || strings.HasPrefix(d.Name(), ".") && path != "." {
				return fs.SkipDir
			}
			return err
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		files := token.NewFileSet()
		file, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			lit, ok := n.(*ast.BasicLit)
			if !ok || lit.Kind != token.STRING {
				return true
			}
			is := strings.Trim(lit.Value, "\"`")
			bad := is == "kube-system" || is == "/var/lib/etcd"
			for _, p := range paths {
				bad = bad || strings.Contains(is, p)
			}
			switch {
			case !bad:
			case elsewhere[filepath.ToSlash(path)]:
				found++
			default:
				t.Errorf("%s: %s belongs into node.Layout", files.Position(lit.Pos()), lit.Value)
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if found == 0 {
		t.Error("nothing was found in node/layout.go: the test looks for the wrong things")
	}
}
