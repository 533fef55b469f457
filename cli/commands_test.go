package cli

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// Other programs can call every command that reports something.
func TestEveryCommandHasJSON(t *testing.T) {
	people := []string{"etcd-rewind agent", "etcd-rewind completion", "etcd-rewind help", "etcd-rewind practice"}
	root := Commands()
	seen := 0
	for _, c := range root.Commands() {
		if slices.Contains(people, c.CommandPath()) {
			continue
		}
		seen++
		if c.Flags().Lookup("output") == nil {
			t.Errorf("%s has no --output json", c.CommandPath())
		}
	}
	if seen < 10 {
		t.Errorf("only %d commands were found", seen)
	}
}

// What blocks is overridden with the flag that the refusal names.
func TestEveryCommandThatACheckBlocksHasOverride(t *testing.T) {
	for _, name := range []string{"restore", "repoint", "check", "ticket", "undo", "redo", "resume"} {
		c, _, err := Commands().Find([]string{name})
		if err != nil {
			t.Fatal(err)
		}
		if c.Flags().Lookup("override") == nil {
			t.Errorf("%s has no --override", name)
		}
		if old := c.Flags().Lookup("accept"); old == nil || !old.Hidden {
			t.Errorf("%s doesn't take the old name of --override, or shows it", name)
		}
	}
}

// Help is read on consoles of 80 columns.
func TestHelpFitsAConsole(t *testing.T) {
	var help func(c *cobra.Command)
	help = func(c *cobra.Command) {
		if c.Name() == "completion" {
			return // cobra's own
		}
		var out bytes.Buffer
		c.SetOut(&out)
		if err := c.Help(); err != nil {
			t.Error(err)
		}
		for l := range strings.Lines(out.String()) {
			if len(strings.TrimRight(l, "\n")) > 80 {
				t.Errorf("%s --help is wider than 80 columns:\n%s", c.CommandPath(), l)
			}
		}
		for _, sub := range c.Commands() {
			help(sub)
		}
	}
	help(Commands())
}
