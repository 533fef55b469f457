package matrix

import (
	"cmp"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite docs/supported.md")

const (
	begins = "<!-- This table is made by make supported. -->\n"
	ends   = "<!-- Here it ends. -->\n"
)

func TestTheDocumentationHasTheTables(t *testing.T) {
	const path = "../../docs/supported.md"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	rest, want := string(text), ""
	for _, table := range []string{Table(), WeakerTable()} {
		before, after, ok := strings.Cut(rest, begins)
		_, after, ok2 := strings.Cut(after, ends)
		if !ok || !ok2 {
			t.Fatalf("%s doesn't say where two tables begin and end", path)
		}
		want += before + begins + table + ends
		rest = after
	}
	want += rest
	if string(text) == want {
		return
	}
	if !*update {
		t.Fatalf("%s is not what the tables say: make supported", path)
	}
	if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
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
		if len(e.Targets) == 0 {
			t.Errorf("nothing runs %s", e.Name)
		}
		for _, target := range e.Targets {
			_, rest, ok := strings.Cut(string(text), "\n"+target+":")
			recipe, _, _ := strings.Cut(rest, "\n\n")
			recipe = strings.ReplaceAll(recipe, "$(VERSIONS)", string(regexp.MustCompile(`(?m)^VERSIONS = .*$`).Find(text)))
			if !ok || e.Systemd && !strings.Contains(recipe, e.Name) {
				t.Errorf("make %s doesn't run %s", target, e.Name)
			}
		}
	}
	// CI's targets are all that make e2e calls, at once or through another.
	for _, target := range ofCI {
		if !regexp.MustCompile(`(?m)^\t\$\(MAKE\) .*\b` + target + `( |$)`).Match(text) {
			t.Errorf("make e2e doesn't call %s", target)
		}
	}
}

// What the second table says is tested is: by a target or by tests that there are.
func TestWhatIsKnownByLessIsTested(t *testing.T) {
	makefile, err := os.ReadFile("../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range Weakers {
		if target, ok := strings.CutPrefix(w.By, "make "); ok {
			if !strings.Contains(string(makefile), "\n"+target+":") {
				t.Errorf("%s: there is no %s", w.What, w.By)
			}
			continue
		}
		words := strings.Fields(w.By)
		var names string
		for i, word := range words {
			if folder, ok := strings.CutPrefix(word, "./"); ok {
				names += testsIn(t, filepath.Join("../..", folder))
			}
			if i > 0 && words[i-1] == "-run" {
				for part := range strings.SplitSeq(strings.Trim(word, "'"), "|") {
					if !regexp.MustCompile(`(?m)^func Test\w*` + part).MatchString(names) {
						t.Errorf("%s: %s runs no test %q", w.What, w.By, part)
					}
				}
			}
		}
		if w.By != "" && names == "" {
			t.Errorf("%s: %q runs no test", w.What, w.By)
		}
	}
}

func testsIn(t *testing.T, folder string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(text)
	}
	return all.String()
}

// Versions in the documentation are the tables', or are named here with what
// they are: no claim of what was tested.
func TestVersionsInTheDocumentationAreTheTables(t *testing.T) {
	otherwise := map[string]string{
		"docs/external-etcd.md: etcd 3.4":   "how etcd reads its settings",
		"docs/failures.md: etcd 3.4":        "what an old etcdctl did",
		"docs/failures.md: Kubernetes 1.22": "kubelet's source, on a simulated kubelet",
	}
	versions, used := Versions(), map[string]bool{}
	versions["Debian"] = []string{"12"}
	programs := map[string]string{"kubeadm": "Kubernetes", "kubelet": "Kubernetes", "kube-apiserver": "Kubernetes"}
	mention := regexp.MustCompile(`\b(Kubernetes|kubeadm|kubelet|kube-apiserver|containerd|etcd|docker|podman|versitygw|OpenSSH|Debian)\s+v?(\d+(?:\.\d+)+|12)((?:(?:,| and| to| or|/) v?\d+\.\d+(?:\.\d+)?)*)`)
	// A whole version of Kubernetes may stand alone.
	alone := regexp.MustCompile(`(?:on|\|) v?(1\.[23]\d\.\d+)`)
	amount := regexp.MustCompile(`^(?:\d| ?(?:s|×|GB|MB|%|ms|times)\b| ×)`)
	more := regexp.MustCompile(`\d+\.\d+(?:\.\d+)?`)
	look := func(file, program, version string) {
		known := versions[program]
		at := file + ": " + program + " " + version
		if slices.ContainsFunc(known, func(v string) bool { return v == version || strings.HasPrefix(v, version+".") }) {
			return
		}
		if otherwise[at] == "" {
			t.Errorf("%s %s isn't in the tables (%s)", at, version, strings.Join(known, ", "))
		}
		used[at] = true
	}
	files, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for _, path := range append(files, "../../README.md", "../../CHANGELOG.md") {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		file := strings.TrimPrefix(path, "../../")
		seen := func(pattern *regexp.Regexp, each func(found []string)) {
			for _, at := range pattern.FindAllSubmatchIndex(text, -1) {
				if !amount.Match(text[at[1]:]) {
					each(pattern.FindStringSubmatch(string(text[at[0]:at[1]])))
					count++
				}
			}
		}
		seen(mention, func(found []string) {
			for _, version := range append(more.FindAllString(found[3], -1), found[2]) {
				look(file, cmp.Or(programs[found[1]], found[1]), version)
			}
		})
		seen(alone, func(found []string) { look(file, "Kubernetes", found[1]) })
	}
	for at := range otherwise {
		if !used[at] {
			t.Errorf("%s isn't there any more", at)
		}
	}
	if count < 30 {
		t.Errorf("only %d versions were seen", count)
	}
}

// EventedPLEG made lists rare, and doesn't any more.
func TestWhoseKubeletListsSeldom(t *testing.T) {
	for name, want := range map[string]bool{"evented-1.36": true, "evented-1.37": false, "systemd-1.36": false, "systemd-1.34": false} {
		e, err := One(name)
		if err != nil {
			t.Fatal(err)
		}
		if got := e.ListsSeldom(); got != want {
			t.Errorf("%s: lists seldom: %v, want %v", name, got, want)
		}
	}
}
