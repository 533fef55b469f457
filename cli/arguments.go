package cli

import (
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"etcd-rewind/fleet"
	"etcd-rewind/steps"
	"etcd-rewind/ui/print"
	"etcd-rewind/ui/text"
)

// exitStatuses end the help of what runs something.
const exitStatuses = `

Exit status:
  0  done
  1  failed; the node is as it was before
  2  wrong usage, or not confirmed
  3  failed or interrupted; the node needs undo or resume
  4  blocked by a check; nothing was changed`

// described is a line of help that says what a flag or a command is.
var described = regexp.MustCompile(`^( +\S.*?\s{3,})(\S.*)$`)

// wrapUsage wraps the usage of root and its commands at the width of out.
func wrapUsage(root *cobra.Command, out io.Writer) {
	plain := root.UsageFunc()
	root.SetUsageFunc(func(c *cobra.Command) error {
		to := c.OutOrStderr()
		var usage strings.Builder
		c.SetOut(&usage)
		err := plain(c)
		c.SetOut(to)
		var lines []string
		for l := range strings.Lines(usage.String()) {
			l, lead := strings.TrimRight(l, "\n"), ""
			if m := described.FindStringSubmatch(l); m != nil {
				lead, l = m[1], m[2]
			}
			if l == "" {
				lines = append(lines, "")
			}
			lines = append(lines, text.HangWhole(lead, l, print.WidthOf(out))...)
		}
		_, _ = fmt.Fprintln(to, strings.Join(lines, "\n"))
		return err
	})
}

// overrides adds --override, and --accept as it was called before.
func overrides(c *cobra.Command, to *[]string) (check func() error) {
	f := c.Flags()
	f.StringSliceVar(to, "override", nil, "override a failed `CHECK` by name; may be repeated")
	f.StringSliceVar(to, "accept", nil, "the earlier name of --override")
	_ = f.MarkHidden("accept")
	complete := func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return checkNames(), cobra.ShellCompDirectiveNoFileComp
	}
	for _, name := range []string{"override", "accept"} {
		_ = c.RegisterFlagCompletionFunc(name, complete)
	}
	return func() error {
		all := checkNames()
		for _, name := range *to {
			// A run is named after its check: unreadable-run:20261120-120000.
			known, _, _ := strings.Cut(name, ":")
			if !slices.Contains(all, known) {
				return fmt.Errorf("--override: there is no check %q%s", name, didYouMean(name, all))
			}
		}
		return nil
	}
}

func checkNames() []string {
	all := fleet.CheckNames()
	for _, c := range steps.Checks() {
		all = append(all, c.Name)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// didYouMean suggests names as cobra does for commands; "" when none is near.
func didYouMean(word string, names []string) string {
	c := &cobra.Command{SuggestionsMinimumDistance: 3}
	for _, name := range names {
		c.AddCommand(&cobra.Command{Use: name, Run: func(*cobra.Command, []string) {}})
	}
	near := c.SuggestionsFor(word)
	if len(near) == 0 {
		return ""
	}
	return "\n\nDid you mean this?\n\t" + strings.Join(near, "\n\t")
}

// oneOf completes a flag's values.
func oneOf(c *cobra.Command, flag string, values ...string) {
	_ = c.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
}

// completeRuns completes the names of this node's runs, with their states.
func (a *app) completeRuns(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	err := a.onPracticeNode()
	if err != nil || len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	runs, err := a.session.Runs(c.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, r := range runs {
		names = append(names, r.Run+"\t"+string(r.State))
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
