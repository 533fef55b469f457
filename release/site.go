package main

import (
	"bytes"
	"fmt"
	"html"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/parser"
	renderer "github.com/yuin/goldmark/renderer/html"
)

// The pages of the site, by what they are called in it. Their order is that of
// the menu.
var sitePages = []struct{ from, to, title string }{
	{"README.md", "index", "etcd-rewind"},
	{"docs/incident.md", "incident", "In an incident"},
	{"docs/after.md", "after", "After the restore"},
	{"docs/cheatsheet.md", "cheatsheet", "Cheat sheet"},
	{"docs/preparing.md", "preparing", "Preparing"},
	{"docs/backup.md", "backup", "Backups"},
	{"docs/drill.md", "drill", "Drill"},
	{"docs/after.md", "after", "After a restore"},
	{"docs/fleet.md", "fleet", "Several control planes"},
	{"docs/external-etcd.md", "external-etcd", "etcd on hosts of its own"},
	{"docs/failures.md", "failures", "What can go wrong"},
	{"docs/checks.md", "checks", "Checks"},
	{"docs/supported.md", "supported", "What is supported"},
	{"docs/practice.md", "practice", "Practising"},
	{"docs/how-it-works.md", "how-it-works", "How it works"},
	{"docs/supported.md", "supported", "What it is tested on"},
	{"docs/security.md", "security", "What is trusted"},
	{"docs/outage.md", "outage", "The outage"},
	{"docs/benchmarks.md", "benchmarks", "Benchmarks"},
	{"docs/output.md", "output", "JSON and exit statuses"},
	{"CHANGELOG.md", "changes", "Changes"},
	{"CONTRIBUTING.md", "contributing", "Contributing"},
	{"docs/developing.md", "developing", "Developing"},
	{"SECURITY.md", "reporting", "Reporting a vulnerability"},
}

// siteFiles are taken as they are.
var siteFiles = []string{"docs/*.svg", "docs/*.json", "LICENSE"}

const siteHead = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>%s</title>
<style>
body { font: 16px/1.55 system-ui, sans-serif; margin: 0 auto; max-width: 76rem; padding: 1rem; display: flex; flex-wrap: wrap; gap: 0 2rem }
nav { flex: 0 0 12rem } nav a { display: block; padding: .15rem 0 } main { flex: 1 1 34rem; min-width: 0 }
[aria-current] { font-weight: bold }
pre { overflow-x: auto; padding: .7rem; background: color-mix(in srgb, CanvasText 7%%, Canvas) }
code { font: .9em ui-monospace, monospace } table { border-collapse: collapse; display: block; overflow-x: auto }
td, th { border: 1px solid color-mix(in srgb, CanvasText 25%%, Canvas); padding: .25rem .6rem; text-align: left; vertical-align: top }
img { max-width: 100%%; height: auto } @media print { nav { display: none } }
</style>
`

// site writes the documentation as files that need no server and no script.
func site(from, to string) error {
	// The README has a picture element; all text is the project's own.
	md := goldmark.New(goldmark.WithExtensions(extension.GFM), goldmark.WithParserOptions(parser.WithAutoHeadingID()), goldmark.WithRendererOptions(renderer.WithUnsafe()))
	for _, page := range sitePages {
		text, err := os.ReadFile(filepath.Join(from, page.from))
		if err != nil {
			return err
		}
		var body bytes.Buffer
		if err := md.Convert(text, &body); err != nil {
			return err
		}
		var menu strings.Builder
		for _, other := range sitePages {
			mark := ""
			if other.to == page.to {
				mark = ` aria-current="page"`
			}
			fmt.Fprintf(&menu, "<a href=\"%s.html\"%s>%s</a>\n", other.to, mark, html.EscapeString(other.title))
		}
		title := page.title
		if page.to != "index" {
			title += " – etcd-rewind"
		}
		if err := writeFile(filepath.Join(to, page.to+".html"), func(w io.Writer) error {
			_, err := fmt.Fprintf(w, siteHead+"<nav>\n%s</nav>\n<main>\n%s</main>\n</html>\n", html.EscapeString(title), menu.String(), relinked(page.from, body.String()))
			return err
		}); err != nil {
			return err
		}
	}
	for _, pattern := range siteFiles {
		files, err := filepath.Glob(filepath.Join(from, pattern))
		if err != nil {
			return err
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(to, filepath.Base(file)), data, 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}

var relativeLink = regexp.MustCompile(`((?:href|src|srcset)=")([^"#:]+)([#"])`)

// relinked makes links between files of the repository links between pages.
func relinked(page, body string) string {
	return relativeLink.ReplaceAllStringFunc(body, func(link string) string {
		m := relativeLink.FindStringSubmatch(link)
		path := filepath.ToSlash(filepath.Join(filepath.Dir(page), m[2]))
		to := filepath.Base(path)
		for _, p := range sitePages {
			if p.from == path {
				to = p.to + ".html"
			}
		}
		if path == "docs/README.md" {
			to = "index.html"
		}
		return m[1] + to + m[3]
	})
}
