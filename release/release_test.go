package main

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"etcd-rewind/cli"
)

// builtIn are the modules of a package, as release/build lists them.
func builtIn(t *testing.T, args ...string) []*module {
	t.Helper()
	format := `{{$dir := .Dir}}{{with .Module}}{{if not .Main}}{{.Path}}{{"\t"}}{{.Version}}{{"\t"}}{{.Dir}}{{"\t"}}{{$dir}}{{end}}{{end}}`
	list := exec.Command("go", append([]string{"list", "-deps", "-f", format}, args...)...)
	list.Stderr = os.Stderr
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	all, err := readModules(bytes.NewReader(out))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestNoDependencyHasALicenceThatForbidsGivingItAway(t *testing.T) {
	for name, args := range map[string][]string{
		"the binary for nodes": {"-tags", "nopractice,grpcnotrace", ".."},
		"with practice":        {".."},
	} {
		t.Run(name, func(t *testing.T) {
			all := builtIn(t, args...)
			if len(all) < 20 {
				t.Errorf("only %d modules were found", len(all))
			}
			for _, m := range all {
				if _, err := m.spdx(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestALicenceThatIsNotAllowedIsNamed(t *testing.T) {
	for name, c := range map[string]struct{ file, text, want string }{
		"another licence": {"COPYING", "This program is free software: you can redistribute it and/or modify it under the terms of the GNU Affero General Public License as published by the Free Software Foundation, either version 3 of the License, or (at your option) any later version.", "AGPL-3.0"},
		"in a part of it": {"part/LICENSE", "This program is free software; you can redistribute it and/or modify it under the terms of the GNU General Public License as published by the Free Software Foundation; version 2 of the License.", "GPL-2.0"},
		"an unknown one":  {"LICENSE", "All rights reserved. Ask first.", "no licence that is known"},
		"none":            {"README", "", "no licence that is known"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, c.file)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(c.text), 0o644); err != nil {
				t.Fatal(err)
			}
			m := &module{path: "example.org/it", dir: dir, packages: []string{filepath.Dir(path)}}
			_, err := m.spdx()
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "example.org/it") {
				t.Errorf("it says %v, not %s", err, c.want)
			}
			if err := writeNotices(&bytes.Buffer{}, []*module{m}); err == nil {
				t.Error("the notices are written all the same")
			}
		})
	}
}

func TestTheNoticesNameEveryModuleAndItsLicence(t *testing.T) {
	all := builtIn(t, "..")
	var out bytes.Buffer
	if err := writeNotices(&out, all); err != nil {
		t.Fatal(err)
	}
	for _, m := range all {
		if !strings.Contains(out.String(), m.path+" "+m.version) {
			t.Errorf("%s isn't in the notices", m.path)
		}
	}
	for _, want := range []string{"Apache License", "Permission is hereby granted", "klauspost/compress v"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q isn't in the notices", want)
		}
	}
}

func TestTheBillOfMaterialsIsWhatTheBinaryWasBuiltFrom(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	all := builtIn(t, "-test", ".")
	var out bytes.Buffer
	if err := writeSBOM(&out, self, "v1.2.3", all); err != nil {
		t.Fatal(err)
	}
	var b bom
	if err := json.Unmarshal(out.Bytes(), &b); err != nil {
		t.Fatal(err)
	}
	if c := b.Metadata.Component; c.Version != "v1.2.3" || len(c.Hashes) != 1 {
		t.Errorf("it is about %+v", c)
	}
	found := false
	for _, c := range b.Components {
		if len(c.Licences) == 0 || !strings.HasPrefix(c.PURL, "pkg:golang/") {
			t.Errorf("%+v", c)
		}
		found = found || c.Name == "go.etcd.io/bbolt"
	}
	if !found {
		t.Error("bbolt isn't in it")
	}
	if err := writeSBOM(&out, self, "v1.2.3", all[:1]); err == nil {
		t.Error("a module without a licence is let pass")
	}
}

func TestEveryCommandHasAManPageThatSaysWhatItsHelpSays(t *testing.T) {
	dir := t.TempDir()
	if err := manPages(cli.Commands(), dir); err != nil {
		t.Fatal(err)
	}
	request := regexp.MustCompile(`^\.(TH|SH|PP|TP|B|br|nf|fi)\b`)
	var visit func(c *cobra.Command)
	visit = func(c *cobra.Command) {
		if c.Hidden {
			return
		}
		data, err := os.ReadFile(filepath.Join(dir, pageName(c)+".8"))
		if err != nil {
			t.Error(err)
			return
		}
		for line := range strings.Lines(string(data)) {
			if strings.HasPrefix(line, "'") || strings.HasPrefix(line, ".") && !request.MatchString(line) {
				t.Errorf("%s has a line that isn't text: %s", pageName(c), line)
			}
		}
		page := plain(string(data))
		wants := []string{c.Short, ".SH NAME", ".SH SEE ALSO"}
		c.NonInheritedFlags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden {
				_, means := pflag.UnquoteUsage(f)
				wants = append(wants, "--"+f.Name, means)
			}
		})
		for line := range strings.Lines(c.Long + "\n" + c.Example) {
			line = strings.TrimSpace(line)
			if code, means, ok := strings.Cut(line, "  "); ok && len(code) == 1 {
				line = means // of an exit status
			}
			if line != "Exit status:" {
				wants = append(wants, line)
			}
		}
		for _, want := range wants {
			if !strings.Contains(page, want) {
				t.Errorf("%s doesn't say %q:\n%s", pageName(c), want, page)
			}
		}
		for _, sub := range c.Commands() {
			visit(sub)
		}
	}
	root := cli.Commands()
	visit(root)
	if !root.HasSubCommands() {
		t.Error("there are no commands")
	}
}

// plain undoes what roff asks for.
func plain(page string) string {
	return strings.NewReplacer(`\fB`, "", `\fI`, "", `\fR`, "", `\-`, "-", `\&`, "", `\e`, `\`).Replace(page)
}

func TestWhatIsMadeIsTheSameWhenItIsMadeAgain(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "1767225600")
	made := func() map[string]string {
		dir, all := t.TempDir(), map[string]string{}
		for _, what := range []string{"man", "completions"} {
			if err := run([]string{what, filepath.Join(dir, what)}, nil, nil); err != nil {
				t.Fatal(err)
			}
		}
		if err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			data, err := os.ReadFile(path)
			all[strings.TrimPrefix(path, dir)] = string(data)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return all
	}
	first, second := made(), made()
	if len(first) < 15 {
		t.Errorf("only %d files were made", len(first))
	}
	for name, text := range first {
		if second[name] != text {
			t.Errorf("%s is another the second time", name)
		}
	}
	if !strings.Contains(first["/man/etcd-rewind.8"], `"2026-01-01"`) {
		t.Error("the page's day isn't the sources'")
	}
}

func TestWrongArgumentsAreAnsweredWithTheUsage(t *testing.T) {
	for _, args := range [][]string{nil, {"man"}, {"sbom", "x"}, {"what"}} {
		if err := run(args, strings.NewReader(""), &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "usage:") {
			t.Errorf("%v: %v", args, err)
		}
	}
	if err := run([]string{"notices"}, strings.NewReader(""), &bytes.Buffer{}); err == nil {
		t.Error("no modules are notices without any")
	}
}
