package practice

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"etcd-rewind/steps"
)

// Wizard runs the wizard on a practice node, until the user leaves it. intro is
// what has happened, and what is to be reached.
type Wizard func(ctx context.Context, opts steps.Options, intro string) error

// Command is "practice" with all its subcommands.
func Command(wizard Wizard) *cobra.Command {
	p := &program{wizard: wizard}
	c := &cobra.Command{
		Use:   "practice [EXERCISE]",
		Short: "Practise on a control plane of your own, without root, network or cluster",
		Long: `Starts a control plane on this machine with an incident on it, and the wizard to
solve it; with --by-hand a shell with etcdctl, etcdutl, kubectl and crictl
instead. Everything lies below one directory and ends with this command.

` + catalogue(),
		Args:         cobra.MaximumNArgs(1),
		SilenceUsage: true,
		RunE:         p.start,
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return names(), cobra.ShellCompDirectiveNoFileComp
		},
	}
	c.PersistentFlags().StringVar(&p.home, "home", "", "`directory` of nodes and results (below ~/.local/state)")
	c.PersistentFlags().StringVar(&p.dir, "dir", "", "`directory` of the practice node")
	c.Flags().BoolVar(&p.byHand, "by-hand", false, "solve it in a shell, without the wizard")
	c.Flags().BoolVar(&p.outside, "no-namespaces", false, "keep to this machine's paths, ports and network")
	c.Flags().BoolVar(&p.keep, "keep", false, "keep the node's directory afterwards")
	c.PersistentPreRunE = func(*cobra.Command, []string) error {
		if p.home != "" {
			return nil
		}
		var err error
		p.home, err = Home()
		return err
	}
	watch := false
	status := &cobra.Command{Use: "status", Short: "Time, states, and what is still missing", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
		return p.status(c.Context(), c.OutOrStdout(), watch)
	}}
	status.Flags().BoolVarP(&watch, "watch", "w", false, "repeat until it is solved")
	c.AddCommand(
		status,
		&cobra.Command{Use: "list", Short: "The exercises and your results", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error { return p.list(c.OutOrStdout()) }},
		&cobra.Command{Use: "grade", Short: "Judge the outcome", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
			s, err := current(p.home, p.dir)
			if err != nil {
				return err
			}
			return p.grade(c.Context(), c.OutOrStdout(), s)
		}},
		&cobra.Command{Use: "task", Short: "Show the story and the task again", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
			s, err := current(p.home, p.dir)
			if err != nil {
				return err
			}
			tell(c.OutOrStdout(), s)
			return nil
		}},
		&cobra.Command{Use: "hint", Short: "The next hint", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error { return p.hint(c.OutOrStdout()) }},
		&cobra.Command{Use: "clean", Short: "Remove what a crash has left", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error { return p.clean(c.OutOrStdout()) }},
	)
	return c
}

type program struct {
	wizard       Wizard
	home, dir    string
	byHand, keep bool
	outside      bool          // of namespaces
	linger       time.Duration // another in tests
}

func names() []string {
	var out []string
	for _, e := range exercises {
		out = append(out, e.Name)
	}
	return out
}

func catalogue() string {
	var b strings.Builder
	b.WriteString("Exercises:\n")
	for _, e := range exercises {
		fmt.Fprintf(&b, "  %-24s %s\n", e.Name, e.Title)
	}
	return b.String()
}

func (p *program) start(c *cobra.Command, args []string) error {
	name := exercises[0].Name
	if len(args) > 0 {
		name = args[0]
	}
	e := find(name)
	if e == nil {
		return fmt.Errorf("there is no exercise %q; there are: %s", name, strings.Join(names(), ", "))
	}
	byHand := p.byHand || e.ByHand
	// Ctrl-C is the wizard's and the shell's; the end of the terminal is ours.
	ctx, stop := signal.NotifyContext(c.Context(), syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	root, err := newRoot(p.home, p.dir, e.Name)
	if err != nil {
		return err
	}
	in, out := c.InOrStdin(), c.OutOrStdout()
	fmt.Fprint(out, fold("", "starting a control plane in "+string(root)))
	var outside error // why
	switch {
	case p.outside:
		outside = errors.New("--no-namespaces")
	case !byHand && !isTerminal(in):
		outside = errors.New("no terminal")
	default:
		outside = mayEnter(ctx, root)
	}
	s, end, err := startSession(ctx, e, Config{Root: root, Linger: p.linger, Inside: outside == nil}, byHand)
	if err != nil {
		_ = os.RemoveAll(string(root))
		return err
	}
	defer func() {
		end()
		if p.keep {
			fmt.Fprint(out, "\n"+fold("", "the node's files are in "+string(root)))
		} else if err := s.remove(); err != nil {
			fmt.Fprintln(out, err)
		}
	}()
	switch {
	case byHand:
		err = shell(ctx, s, in, out, c.ErrOrStderr(), outside)
	case s.Inside:
		err = s.runWizard(ctx, in, out, c.ErrOrStderr())
	default:
		err = p.wizard(ctx, s.options(), s.intro())
	}
	if err != nil {
		return err
	}
	if now, err := openSession(root); err == nil {
		s.Hints = now.Hints // shown meanwhile, by other processes
	}
	return p.grade(context.WithoutCancel(ctx), out, s)
}

func isTerminal(in io.Reader) bool {
	f, ok := in.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

func (p *program) grade(ctx context.Context, out io.Writer, s *session) error {
	g := s.grade(ctx)
	if err := keep(p.home, s.result(g)); err != nil {
		fmt.Fprintln(out, "the result was not saved:", err)
	}
	printGrade(out, s, g)
	if !g.Passed {
		return &NotPassedError{Exercise: s.Exercise, Points: g.Points}
	}
	return nil
}

// NotPassedError says that an exercise was graded and not passed; the grade has
// been printed.
type NotPassedError struct {
	Exercise string
	Points   int
}

func (e *NotPassedError) Error() string {
	return fmt.Sprintf("%s: not passed, %d of 100 points", e.Exercise, e.Points)
}

func (p *program) hint(out io.Writer) error {
	s, err := current(p.home, p.dir)
	if err != nil {
		return err
	}
	e := s.exercise()
	if s.Hints < len(e.Hints) {
		s.Hints++
		if err := s.save(); err != nil {
			return err
		}
	}
	for i, h := range e.Hints[:s.Hints] {
		fmt.Fprint(out, fold(fmt.Sprintf("%d. ", i+1), s.text(h)))
	}
	if s.Hints == len(e.Hints) {
		fmt.Fprintln(out, "There are no more hints.")
	}
	return nil
}

func (p *program) status(ctx context.Context, out io.Writer, watch bool) error {
	for {
		s, err := current(p.home, p.dir)
		if err != nil {
			return err
		}
		g := s.grade(ctx)
		if watch {
			fmt.Fprint(out, "\x1b[H\x1b[2J")
		}
		printStatus(ctx, out, s, g)
		if !watch || g.Passed || !s.running() {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
		}
	}
}

func (p *program) list(out io.Writer) error {
	all, err := results(p.home)
	if err != nil {
		return err
	}
	const columns = "%-24s%-8s%-9s%-20s%s\n"
	fmt.Fprintf(out, columns, "EXERCISE", "LIMIT", "PASSED", "BEST, OF 100", "LAST, OF 100")
	for _, e := range exercises {
		passed, tries := 0, 0
		var best, last *result
		for i := range all {
			r := &all[i]
			if r.Exercise != e.Name {
				continue
			}
			tries++
			last = r
			if r.Passed {
				passed++
				if best == nil || r.Seconds < best.Seconds {
					best = r
				}
			}
		}
		fmt.Fprintf(out, columns+"  %s\n", e.Name, fmt.Sprintf("%d min", int(e.Limit.Minutes())), fmt.Sprintf("%d of %d", passed, tries), took(best), took(last), e.Title)
	}
	running, err := sessions(p.home)
	for _, s := range running {
		if s.running() {
			fmt.Fprint(out, "\n"+fold("", "running: "+s.Exercise+" in "+string(s.Root)))
		}
	}
	return err
}

func (p *program) clean(out io.Writer) error {
	removed, kept, err := clean(p.home, p.dir)
	for _, r := range removed {
		fmt.Fprintln(out, "removed", r)
	}
	for _, k := range kept {
		fmt.Fprintln(out, "still running, kept:", k)
	}
	if err == nil && len(removed)+len(kept) == 0 {
		fmt.Fprintln(out, "nothing to remove")
	}
	return err
}
