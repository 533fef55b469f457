package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/google/licensecheck"
)

// allowed are the licences under which code may be part of a binary that is
// given away under Apache-2.0: they ask for their text to be passed on, which
// the notices do.
var allowed = []string{"Apache-2.0", "MIT", "BSD-2-Clause", "BSD-3-Clause", "ISC"}

// module is what is built in, and the directories of it that are.
type module struct {
	path, version, dir string
	packages           []string
}

// licence is one licence text of a module.
type licence struct {
	file string // within the module
	ids  []string
	text string
}

// readModules reads lines of: module, version, its directory, a package's
// directory, with tabs between them.
func readModules(r io.Reader) ([]*module, error) {
	var all []*module
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		f := strings.Split(lines.Text(), "\t")
		if len(f) != 4 {
			return nil, fmt.Errorf("a line of modules has %d fields: %q", len(f), lines.Text())
		}
		i := slices.IndexFunc(all, func(m *module) bool { return m.path == f[0] })
		if i < 0 {
			i, all = len(all), append(all, &module{path: f[0], version: f[1], dir: f[2]})
		}
		all[i].packages = append(all[i].packages, f[3])
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("no modules on standard input")
	}
	slices.SortFunc(all, func(a, b *module) int { return strings.Compare(a.path, b.path) })
	return all, lines.Err()
}

var licenceFile = regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice|unlicense)([.-].*)?$`)

// licences are those of the directories that are built in, and of all above
// them: parts of a module may have one of their own.
func (m *module) licences() ([]licence, error) {
	var dirs []string
	for _, dir := range append([]string{m.dir}, m.packages...) {
		for ; strings.HasPrefix(dir, m.dir); dir = filepath.Dir(dir) {
			dirs = append(dirs, dir)
		}
	}
	slices.Sort(dirs)
	var all []licence
	for _, dir := range slices.Compact(dirs) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if e.IsDir() || !licenceFile.MatchString(e.Name()) || strings.HasSuffix(e.Name(), ".go") {
				continue
			}
			path := filepath.Join(dir, e.Name())
			text, err := os.ReadFile(path)
			if err != nil {
				return nil, err
			}
			l := licence{text: strings.TrimSpace(string(text))}
			l.file, _ = filepath.Rel(m.dir, path)
			for _, match := range licensecheck.Scan(text).Match {
				if !slices.Contains(l.ids, match.ID) {
					l.ids = append(l.ids, match.ID)
				}
			}
			all = append(all, l)
		}
	}
	return all, nil
}

// spdx are the licences of a module, and an error when there is none or one
// that isn't allowed.
func (m *module) spdx() ([]string, error) {
	all, err := m.licences()
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, l := range all {
		for _, id := range l.ids {
			if !slices.Contains(allowed, id) {
				return nil, fmt.Errorf("%s: %s has %s, which is not among %v", m.path, l.file, id, allowed)
			}
			if !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
		}
	}
	if len(ids) == 0 {
		return nil, fmt.Errorf("%s has no licence that is known", m.path)
	}
	slices.Sort(ids)
	return ids, nil
}

// writeNotices writes every licence text once, under the modules that have it.
func writeNotices(w io.Writer, all []*module) error {
	of := map[string][]string{}
	var texts []string
	for _, m := range all {
		if _, err := m.spdx(); err != nil {
			return err
		}
		ls, err := m.licences()
		if err != nil {
			return err
		}
		for _, l := range ls {
			if of[l.text] == nil {
				texts = append(texts, l.text)
			}
			name := m.path + " " + m.version
			if l.file != filepath.Base(l.file) {
				name += " (" + filepath.ToSlash(filepath.Dir(l.file)) + ")"
			}
			of[l.text] = append(of[l.text], name)
		}
	}
	out := bufio.NewWriter(w)
	fmt.Fprintf(out, "etcd-rewind contains the following modules.\n")
	for _, text := range texts {
		fmt.Fprintf(out, "\n%s\n%s\n%s\n\n%s\n", strings.Repeat("=", 78), strings.Join(of[text], "\n"), strings.Repeat("=", 78), text)
	}
	return out.Flush()
}
