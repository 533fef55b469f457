package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"etcd-rewind/fleet"
	"etcd-rewind/steps"
)

// Every failure in docs/failures.md names the tests that hold it, and they
// exist. A row without one says that it is out of reach, and why.
func TestEveryFailureNamesATestThatExists(t *testing.T) {
	text, err := os.ReadFile("docs/failures.md")
	if err != nil {
		t.Fatal(err)
	}
	tests := allTests(t)
	named := regexp.MustCompile("`([^`]+)`")
	next := 1
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "| ") {
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), " | ")
		last := strings.TrimSpace(cells[len(cells)-1])
		if last == "test" {
			continue // the head
		}
		what := strings.TrimSpace(cells[0])
		if n, err := strconv.Atoi(what); err == nil {
			if n != next {
				t.Errorf("row %d comes where row %d should", n, next)
			}
			next = n + 1
			what = "row " + what
		}
		names := named.FindAllStringSubmatch(last, -1)
		if len(names) == 0 && (last != "–" || !strings.Contains(line, "out of reach: ")) {
			t.Errorf("%s names no test, and doesn't say why it is out of reach", what)
		}
		for _, n := range names {
			if !tests[n[1]] {
				t.Errorf("%s names a test that doesn't exist: %s", what, n[1])
			}
		}
		if rest := strings.Trim(named.ReplaceAllString(last, ""), " ,–"); rest != "" {
			t.Errorf("%s has more than tests in its last cell: %q", what, rest)
		}
	}
	if next != 43 {
		t.Errorf("the catalogue has 42 rows, the table %d", next-1)
	}
}

// docs/checks.md has every check that --override takes, and no other, and says
// of those of one node what the table in steps says.
func TestEveryCheckIsDocumented(t *testing.T) {
	text, err := os.ReadFile("docs/checks.md")
	if err != nil {
		t.Fatal(err)
	}
	told := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if name, rest, ok := strings.Cut(strings.TrimPrefix(line, "| `"), "` | "); ok && strings.HasPrefix(line, "| `") {
			told[name] = strings.TrimSpace(rest)
		}
	}
	for _, c := range steps.Checks() {
		if want := c.Title + " | " + c.Rows + " |"; told[c.Name] != want {
			t.Errorf("%s: %q, want %q", c.Name, told[c.Name], want)
		}
		delete(told, c.Name)
	}
	for _, name := range fleet.CheckNames() {
		if told[name] == "" {
			t.Errorf("%s isn't there", name)
		}
		delete(told, name)
	}
	for name := range told {
		t.Errorf("there is no check %s", name)
	}
}

// Every package says what is in it, where go doc looks.
func TestEveryPackageSaysWhatIsInIt(t *testing.T) {
	documented := map[string]bool{}
	err := filepath.WalkDir(".", func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || filepath.Ext(path) != ".go" || strings.Contains(path, "testdata") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments|parser.PackageClauseOnly)
		if err != nil {
			return err
		}
		dir := filepath.Dir(path)
		documented[dir] = documented[dir] || file.Doc != nil && len(file.Doc.Text()) > 60
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for dir, is := range documented {
		if !is {
			t.Errorf("package %s has no comment that says what is in it", dir)
		}
	}
}

// allTests are the names of this module's test functions and script files.
func allTests(t *testing.T) map[string]bool {
	tests := map[string]bool{}
	err := filepath.WalkDir(".", func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case strings.HasSuffix(path, ".txtar"):
			tests[e.Name()] = true
		case strings.HasSuffix(path, "_test.go"):
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			for _, d := range file.Decls {
				if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && strings.HasPrefix(f.Name.Name, "Test") && f.Name.Name != "TestMain" {
					tests[f.Name.Name] = true
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return tests
}
