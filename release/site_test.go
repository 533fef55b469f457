package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Every page of the documentation is in the site, and every link in it leads to
// a file of the site, and to a heading there.
func TestTheSiteHasEveryPageAndItsLinksLeadSomewhere(t *testing.T) {
	dir := t.TempDir()
	if err := site("..", dir); err != nil {
		t.Fatal(err)
	}
	docs, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, doc := range docs {
		rel := strings.TrimPrefix(filepath.ToSlash(doc), "../")
		if rel != "docs/README.md" && !slices.ContainsFunc(sitePages, func(p struct{ from, to, title string }) bool { return p.from == rel }) {
			t.Errorf("%s isn't in the site: name it in sitePages", rel)
		}
	}
	links := 0
	for _, page := range sitePages {
		text := file(t, dir, page.to+".html")
		for _, m := range regexp.MustCompile(`(?:href|src|srcset)="([^"]*)"`).FindAllStringSubmatch(text, -1) {
			path, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(path, ":") {
				continue
			}
			links++
			if path == "" {
				path = page.to + ".html"
			}
			if _, err := os.Stat(filepath.Join(dir, path)); err != nil {
				t.Errorf("%s links to %s, which isn't in the site", page.to, m[1])
				continue
			}
			if anchor != "" && !strings.Contains(file(t, dir, path), `id="`+anchor+`"`) {
				t.Errorf("%s links to %s: there is no such heading", page.to, m[1])
			}
		}
		if strings.Contains(text, "<script") {
			t.Errorf("%s has a script", page.to)
		}
	}
	if links < 250 {
		t.Errorf("only %d links were found", links)
	}
	if index := file(t, dir, "index.html"); !strings.Contains(index, "wizard-dark.svg") || !strings.Contains(index, "<table>") {
		t.Error("the first page has no picture or no table")
	}
}

func file(t *testing.T, dir, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
