package trust

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// gate is a kind of thing that crosses the boundary, what does that, and the
// files that may, each for a reason.
type gate struct {
	kind  string
	calls []string // package path and name; {} is a value of that type
	may   map[string]string
}

var gates = []gate{
	{
		"starts a program",
		[]string{
			"os/exec.Command", "os/exec.CommandContext", "os/exec.LookPath", "os/exec.Cmd{}", "os.StartProcess", "syscall.Exec", "syscall.ForkExec",
			"syscall.StartProcess", "golang.org/x/sys/unix.Exec", "plugin.Open",
		},
		map[string]string{
			"trust/command.go":         "the one place",
			"practice/inside_linux.go": "a worker becomes the program that Command or Self has found",
		},
	},
	{
		"connects to a host",
		[]string{
			"net.Dial", "net.DialTimeout", "net.DialTCP", "net.DialUDP", "net.DialUnix", "net.Dialer{}", "crypto/tls.Dial", "crypto/tls.DialWithDialer", "crypto/tls.Dialer{}",
			"net/http.Get", "net/http.Post", "net/http.PostForm", "net/http.Head", "net/http.Client{}", "net/http.DefaultClient", "net/http.Transport{}", "net/http.DefaultTransport",
			"google.golang.org/grpc.Dial", "google.golang.org/grpc.DialContext", "google.golang.org/grpc.NewClient", "go.etcd.io/etcd/client/v3.New",
			"k8s.io/client-go/metadata.NewForConfig", "k8s.io/client-go/kubernetes.NewForConfig", "k8s.io/client-go/metadata.NewForConfigAndClient", "k8s.io/client-go/rest.HTTPClientFor",
			"github.com/minio/minio-go/v7.New", "github.com/minio/minio-go/v7.NewCore",
		},
		map[string]string{
			"node/http.go":            "what node asks over HTTP; its callers have the URL from a manifest of root's, or from the person",
			"node/runtime.go":         "the runtime's socket, after Socket has judged it",
			"node/etcd.go":            "etcd of the manifest",
			"node/kms.go":             "the plugin's socket, as a file of root's names it; it gets a key that is encrypted, and its answer is thrown away",
			"node/objects.go":         "the API server of the kubeconfig",
			"drill/read.go":           "the API server that the drill has started, in a network namespace that is nothing but a loopback",
			"fleet/conductor.go":      "whether a port takes a connection; nothing is sent",
			"snapshot/live.go":        "the etcd that the person or a manifest names",
			"backup/store_s3.go":      "the store that the person or root's configuration names",
			"backup/store_s3_http.go": "its connections, and where this machine's role has its credentials",
		},
	},
}

// Everything that crosses the boundary does so in one place, or in one that is
// named here with its reason. Tests are no part of the program, and practice
// talks to servers of its own on the loopback.
func TestTheBoundaryIsCrossedInNamedPlacesOnly(t *testing.T) {
	used := map[string]bool{}
	eachFile(t, func(path string, file *ast.File, uses func(node ast.Node) string) {
		ast.Inspect(file, func(n ast.Node) bool {
			what := uses(n)
			if lit, ok := n.(*ast.CompositeLit); ok {
				what = uses(lit.Type) + "{}"
			}
			for _, g := range gates {
				if !slices.Contains(g.calls, what) || g.kind == "connects to a host" && strings.HasPrefix(path, "practice/") {
					continue
				}
				if g.may[path] == "" {
					t.Errorf("%s %s by %s: that is for %v", path, g.kind, what, sorted(g.may))
				}
				used[g.kind+" "+path] = true
			}
			return true
		})
	})
	for _, g := range gates {
		for path := range g.may {
			if !used[g.kind+" "+path] {
				t.Errorf("%s is named as one that %s, and doesn't", path, g.kind)
			}
		}
	}
}

// What is started is named by this program's own text; but the remote shell,
// which the person at the terminal names. A shell gets a command line in one
// place only: of the person's, or of root's journal.
func TestProgramsAreNamedByThisProgramsText(t *testing.T) {
	byThePerson := []string{"fleet/rsh.go"}
	shells := []string{"node/shell.go", "practice/shell.go"}
	calls := 0
	eachFile(t, func(path string, file *ast.File, uses func(node ast.Node) string) {
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || uses(call.Fun) != "etcd-rewind/trust.Command" {
				return true
			}
			calls++
			if len(call.Args) < 2 {
				t.Errorf("%s: trust.Command names no program", path)
				return true
			}
			name, ok := call.Args[1].(*ast.BasicLit)
			switch {
			case !ok && !slices.Contains(byThePerson, path):
				t.Errorf("%s starts a program whose name isn't written there", path)
			case ok && name.Value == `"ssh"`: // it gets no command line: the subsystem sftp
			case ok && strings.HasSuffix(strings.Trim(name.Value, `"`), "sh") && !slices.Contains(shells, path):
				t.Errorf("%s starts a shell", path)
			}
			return true
		})
	})
	if calls < 5 {
		t.Errorf("only %d calls of trust.Command were found: does this test still see them?", calls)
	}
}

// eachFile visits every file of the program. uses is the package path and the
// name of what an expression selects from another package, "" if it doesn't.
func eachFile(t *testing.T, visit func(path string, file *ast.File, uses func(ast.Node) string)) {
	t.Helper()
	files := 0
	err := filepath.WalkDir("..", func(at string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		path, _ := filepath.Rel("..", at)
		if e.IsDir() {
			if path == "e2e" || e.Name() == "testdata" || strings.HasPrefix(e.Name(), ".") && path != "." {
				return filepath.SkipDir
			}
			return nil
		}
		if filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), at, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		imports := map[string]string{}
		for _, i := range file.Imports {
			pkg, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return err
			}
			name := filepath.Base(pkg)
			switch {
			case i.Name != nil && i.Name.Name == ".":
				t.Errorf("%s imports %s into itself: nobody sees what it uses", path, pkg)
			case i.Name != nil:
				name = i.Name.Name
			case pkg == "go.etcd.io/etcd/client/v3":
				name = "clientv3"
			}
			imports[name] = pkg
		}
		files++
		visit(filepath.ToSlash(path), file, func(n ast.Node) string {
			s, ok := n.(*ast.SelectorExpr)
			if !ok {
				return ""
			}
			if x, ok := s.X.(*ast.Ident); ok && imports[x.Name] != "" {
				return imports[x.Name] + "." + s.Sel.Name
			}
			return ""
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 100 {
		t.Fatalf("only %d files were found", files)
	}
}

func sorted(m map[string]string) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
