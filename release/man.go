package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// section is that of commands for root.
const section = "8"

// manPages writes a page for each command that help shows.
func manPages(root *cobra.Command, dir string) error {
	root.InitDefaultCompletionCmd()
	root.InitDefaultVersionFlag()
	var all func(c *cobra.Command) error
	all = func(c *cobra.Command) error {
		c.InitDefaultHelpFlag()
		path := filepath.Join(dir, pageName(c)+"."+section)
		if err := writeFile(path, func(w io.Writer) error { return manPage(w, c) }); err != nil {
			return err
		}
		for _, sub := range c.Commands() {
			// That of each shell is shown by completion --help.
			if sub.IsAvailableCommand() && c.Name() != "completion" {
				if err := all(sub); err != nil {
					return err
				}
			}
		}
		return nil
	}
	return all(root)
}

func pageName(c *cobra.Command) string { return strings.ReplaceAll(c.CommandPath(), " ", "-") }

// manPage writes a command's help as a man page: the same text, in man's order.
func manPage(w io.Writer, c *cobra.Command) error {
	var b strings.Builder
	fmt.Fprintf(&b, ".TH %s %s \"%s\" \"etcd-rewind\" \"System administration\"\n", strings.ToUpper(pageName(c)), section, day())
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", escaped(pageName(c)), escaped(c.Short))
	b.WriteString(".SH SYNOPSIS\n")
	if c.Runnable() {
		fmt.Fprintf(&b, ".B %s\n", escaped(c.UseLine()))
	}
	if c.HasAvailableSubCommands() {
		fmt.Fprintf(&b, ".br\n.B %s\n", escaped(c.CommandPath()+" COMMAND"))
	}
	b.WriteString(".SH DESCRIPTION\n")
	about, status, _ := strings.Cut(longText(c), "\n\nExit status:\n")
	b.WriteString(roff(about))
	if c.HasAvailableSubCommands() {
		b.WriteString(".SH COMMANDS\n")
		for _, sub := range c.Commands() {
			if sub.IsAvailableCommand() {
				fmt.Fprintf(&b, ".TP\n.B %s\n%s\n", escaped(sub.Name()), escaped(sub.Short))
			}
		}
	}
	options(&b, "OPTIONS", c.NonInheritedFlags())
	options(&b, "OPTIONS OF ALL COMMANDS", c.InheritedFlags())
	if status != "" {
		b.WriteString(".SH EXIT STATUS\n")
		for line := range strings.Lines(status) {
			if code, means, ok := strings.Cut(strings.TrimSpace(line), "  "); ok {
				fmt.Fprintf(&b, ".TP\n.B %s\n%s\n", code, escaped(means))
			}
		}
	}
	if c.Example != "" {
		b.WriteString(".SH EXAMPLES\n" + verbatim(strings.Split(c.Example, "\n")))
	}
	b.WriteString(".SH SEE ALSO\n" + seeAlso(c))
	_, err := io.WriteString(w, b.String())
	return err
}

func longText(c *cobra.Command) string {
	if c.Long != "" {
		return c.Long
	}
	return c.Short + "."
}

func options(b *strings.Builder, title string, flags *pflag.FlagSet) {
	if !flags.HasAvailableFlags() {
		return
	}
	fmt.Fprintf(b, ".SH %s\n", title)
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		value, means := pflag.UnquoteUsage(f)
		name := "\\fB" + escaped("--"+f.Name) + "\\fR"
		if f.Shorthand != "" {
			name = "\\fB" + escaped("-"+f.Shorthand) + "\\fR, " + name
		}
		if value != "" {
			name += " \\fI" + escaped(value) + "\\fR"
		}
		switch f.DefValue {
		case "", "false", "0", "[]", "0s":
		default:
			means += " (default " + f.DefValue + ")"
		}
		fmt.Fprintf(b, ".TP\n%s\n%s\n", name, escaped(means))
	})
}

func seeAlso(c *cobra.Command) string {
	var pages []string
	if c.HasParent() {
		pages = append(pages, pageName(c.Parent()))
	}
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() && c.Name() != "completion" {
			pages = append(pages, pageName(sub))
		}
	}
	for i, p := range pages {
		pages[i] = "\\fB" + escaped(p) + "\\fR(" + section + ")"
	}
	return strings.Join(append(pages, "/usr/share/doc/etcd\\-rewind"), ",\n") + "\n"
}

// roff sets paragraphs; what is indented stays as it is.
func roff(text string) string {
	var b strings.Builder
	for i, p := range strings.Split(strings.Trim(text, "\n"), "\n\n") {
		if i > 0 {
			b.WriteString(".PP\n")
		}
		var kept []string
		for line := range strings.Lines(p) {
			line = strings.TrimRight(line, "\n")
			if strings.HasPrefix(line, " ") || strings.HasPrefix(line, "\t") {
				kept = append(kept, line)
				continue
			}
			b.WriteString(verbatim(kept))
			kept = nil
			b.WriteString(escaped(line) + "\n")
		}
		b.WriteString(verbatim(kept))
	}
	return b.String()
}

func verbatim(lines []string) string {
	if len(lines) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString(".PP\n.nf\n")
	for _, line := range lines {
		b.WriteString(escaped(line) + "\n")
	}
	b.WriteString(".fi\n")
	return b.String()
}

// escaped is text as roff shows it: a hyphen that can be pasted, and no line
// that is taken for a request.
func escaped(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`, "\t", "        ").Replace(s)
	if strings.HasPrefix(s, ".") || strings.HasPrefix(s, "'") {
		s = `\&` + s
	}
	return s
}

// day is that of the sources, so that a page is the same when it is made again.
func day() string {
	seconds, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64)
	if err != nil {
		return ""
	}
	return time.Unix(seconds, 0).UTC().Format(time.DateOnly)
}
