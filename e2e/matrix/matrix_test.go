package matrix

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite docs/supported.md")

const (
	begins = "<!-- The table is made by make supported. -->\n"
	ends   = "<!-- Here the table ends. -->\n"
)

func TestTheDocumentationHasTheTable(t *testing.T) {
	const path = "../../docs/supported.md"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), begins)
	now, after, ok2 := strings.Cut(rest, ends)
	if !ok || !ok2 {
		t.Fatalf("%s doesn't say where the table begins and ends", path)
	}
	if now == Table() {
		return
	}
	if !*update {
		t.Fatalf("%s is not what the table says: make supported", path)
	}
	if err := os.WriteFile(path, []byte(before+begins+Table()+ends+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

// The versions are those that are built. Debian's containerd is asked itself,
// where the nodes are.
func TestTheVersionsAreThoseOfTheParts(t *testing.T) {
	for _, e := range Entries {
		for _, part := range []struct{ folder, module, want string }{
			{e.KubernetesPart, "k8s.io/kubernetes", e.Kubernetes},
			{e.ContainerdPart, "github.com/containerd/containerd/v2", e.Containerd},
			{e.EtcdPart, "go.etcd.io/etcd/server/v3", e.Etcd},
		} {
			if part.folder == "" {
				continue
			}
			text, err := os.ReadFile(filepath.Join("..", "parts", part.folder, "go.mod"))
			if err != nil {
				t.Fatal(err)
			}
			line := regexp.MustCompile(`(?m)^(?:require)?\s*` + regexp.QuoteMeta(part.module) + ` v(\S+)$`).FindSubmatch(text)
			if line == nil || string(line[1]) != part.want {
				t.Errorf("%s: %s builds %q of %s, the table says %s", e.Name, part.folder, line, part.module, part.want)
			}
		}
	}
}

// What the table says is run is run: by a target that there is.
func TestTheTargetsAreThere(t *testing.T) {
	text, err := os.ReadFile("../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range Entries {
		_, rest, ok := strings.Cut(string(text), "\n"+e.Target+":")
		recipe, _, _ := strings.Cut(rest, "\n\n")
		recipe = strings.ReplaceAll(recipe, "$(VERSIONS)", string(regexp.MustCompile(`(?m)^VERSIONS = .*$`).Find(text)))
		if !ok || e.Systemd && !strings.Contains(recipe, e.Name) {
			t.Errorf("make %s doesn't run %s", e.Target, e.Name)
		}
	}
}

// EventedPLEG made lists rare, and doesn't any more.
func TestWhoseKubeletListsSeldom(t *testing.T) {
	for name, want := range map[string]bool{"evented-1.36": true, "evented-1.37": false, "systemd-1.36": false, "systemd-1.34": false} {
		entries, err := Named(name)
		if err != nil {
			t.Fatal(err)
		}
		if got := entries[0].ListsSeldom(); got != want {
			t.Errorf("%s: lists seldom: %v, want %v", name, got, want)
		}
	}
}
