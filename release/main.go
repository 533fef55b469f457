// Release makes what is shipped beside the binary: man pages, completions,
// the licences of what is built in, and a bill of materials. It is a program of
// its own, so that none of this is in the binary for nodes.
package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"etcd-rewind/backup"
	"etcd-rewind/cli"
)

const usage = `usage:
  release man DIR          man pages of all commands
  release completions DIR  completions for bash, zsh and fish
  release units DIR        systemd's units for backups
  release site DIR         the documentation as HTML, from the working directory
  release notices          reads lines of make modules, writes all licences
  release sbom BINARY VERSION
                           reads lines of make modules, writes CycloneDX`

func main() {
	if err := run(os.Args[1:], os.Stdin, os.Stdout); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func run(args []string, in io.Reader, out io.Writer) error {
	what := strings.Join(args[:min(1, len(args))], "")
	switch {
	case what == "man" && len(args) == 2:
		return manPages(cli.Commands(), args[1])
	case what == "completions" && len(args) == 2:
		return completions(args[1])
	case what == "units" && len(args) == 2:
		return units(args[1])
	case what == "site" && len(args) == 2:
		return site(".", args[1])
	case what == "notices" && len(args) == 1:
		all, err := readModules(in)
		if err != nil {
			return err
		}
		return writeNotices(out, all)
	case what == "sbom" && len(args) == 3:
		all, err := readModules(in)
		if err != nil {
			return err
		}
		return writeSBOM(out, args[1], args[2], all)
	}
	return fmt.Errorf("%s", usage)
}

// units writes those of the backups' timer.
func units(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, u := range backup.Packaged("/usr/bin/etcd-rewind") {
		if err := os.WriteFile(filepath.Join(dir, u.Name), []byte(u.Text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// completions writes each shell's completion under the name that it looks for.
func completions(dir string) error {
	root := cli.Commands()
	for name, generate := range map[string]func(io.Writer) error{
		"bash/etcd-rewind":      func(w io.Writer) error { return root.GenBashCompletionV2(w, true) },
		"zsh/_etcd-rewind":      root.GenZshCompletion,
		"fish/etcd-rewind.fish": func(w io.Writer) error { return root.GenFishCompletion(w, true) },
	} {
		if err := writeFile(filepath.Join(dir, name), generate); err != nil {
			return err
		}
	}
	return nil
}

func writeFile(path string, write func(io.Writer) error) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	if err := write(w); err != nil {
		_ = f.Close()
		return err
	}
	if err := w.Flush(); err != nil {
		_ = f.Close()
		return err
	}
	return f.Close()
}
