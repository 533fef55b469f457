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
instead. Everything is below one directory and ends with this command.

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
	c.Flags().BoolVar(&p.outside, "no-namespaces", false, "use this machine's paths, ports and network")
	c.Flags().BoolVar(&p.keep, "keep", false, "keep the node's directory afterwards")
	c.PersistentPreRunE = func(*cobra.Command, []string) error {
		if p.output != "" && p.output != "text" && p.output != "json" {
			return fmt.Errorf("--output takes text or json, not %q", p.output)
		}
		if p.home != "" {
			return nil
		}
		var err error
		p.home, err = Home()
		return err
	}
	watch := false
	status := &cobra.Command{Use: "status", Short: "Show the time, the states, and what is still missing", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
		return p.status(c.Context(), c.OutOrStdout(), watch)
	}}
	status.Flags().BoolVarP(&watch, "watch", "w", false, "repeat until it is solved")
	c.AddCommand(
		status,
		&cobra.Command{Use: "list", Short: "List the exercises and your results", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error { return p.list(c.OutOrStdout()) }},
		&cobra.Command{Use: "grade", Short: "Grade the outcome", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
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
			return p.task(c.OutOrStdout(), s)
		}},
		&cobra.Command{Use: "hint", Short: "Show the next hint", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error { return p.hint(c.OutOrStdout()) }},
		&cobra.Command{Use: "clean", Short: "Remove what a crash left behind", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error { return p.clean(c.OutOrStdout()) }},
	)
	for _, sub := range c.Commands() {
		sub.Flags().StringVarP(&p.output, "output", "o", "text", "text or json: one object per line")
		_ = sub.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"text", "json"}, cobra.ShellCompDirectiveNoFileComp))
	}
	return c
}

type program struct {
	wizard       Wizard
	home, dir    string
	byHand, keep bool
	outside      bool          // of namespaces
	linger       time.Duration // another in tests
	output       string        // text or json
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
	// Once they run, Ctrl-C is the wizard's and the shell's.
	ctx, stop := signal.NotifyContext(c.Context(), syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	defer stop()
	starting, started := signal.NotifyContext(ctx, os.Interrupt)
	defer started()
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
		outside = mayEnter(starting, root)
	}
	s, end, err := startSession(starting, e, Config{Root: root, Linger: p.linger, Inside: outside == nil}, byHand)
	if err != nil {
		_ = os.RemoveAll(string(root))
		return err
	}
	started()
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

func (p *program) task(out io.Writer, s *session) error {
	e := s.exercise()
	line := TaskLine{"task", e.Name, e.Title, seconds(e.Limit), s.text(e.Story), s.text(e.Task)}
	printed, err := p.print(out, line)
	if !printed {
		tell(out, s)
	}
	return err
}

func isTerminal(in io.Reader) bool {
	f, ok := in.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

func (p *program) grade(ctx context.Context, out io.Writer, s *session) error {
	g := s.grade(ctx)
	if err := keep(p.home, s.result(g)); err != nil {
		fmt.Fprintln(os.Stderr, "the result was not saved:", err)
	}
	if printed, err := p.print(out, GradeLine{"grade", g}); err != nil {
		return err
	} else if !printed {
		printGrade(out, s, g)
	}
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
	line := HintLine{Type: "hint", Exercise: e.Name, Hints: []string{}, More: s.Hints < len(e.Hints)}
	for _, h := range e.Hints[:s.Hints] {
		line.Hints = append(line.Hints, s.text(h))
	}
	if printed, err := p.print(out, line); printed {
		return err
	}
	for i, h := range line.Hints {
		fmt.Fprint(out, fold(fmt.Sprintf("%d. ", i+1), h))
	}
	if !line.More {
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
		l := s.look(ctx)
		line := StatusLine{
			Type: "status", Running: s.running(), NodeRoot: string(s.Root), Components: map[string]string{},
			Readyz: l.ready.String(), Grade: s.grade(ctx),
		}
		for _, c := range components {
			line.Components[c] = l.running[c]
		}
		if l.dataDir != "" {
			line.DataDir = s.hereNamed(l.dataDir)
		}
		g := line.Grade
		if printed, err := p.print(out, line); err != nil {
			return err
		} else if !printed {
			if watch {
				fmt.Fprint(out, "\x1b[H\x1b[2J")
			}
			printStatus(out, s, line)
		}
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
	running, err := sessions(p.home)
	const columns = "%-24s%-8s%-9s%-20s%s\n"
	if p.output != "json" {
		fmt.Fprintf(out, columns, "EXERCISE", "LIMIT", "PASSED", "BEST, OF 100", "LAST, OF 100")
	}
	for _, e := range exercises {
		l := ExerciseLine{Type: "exercise", Name: e.Name, Title: e.Title, LimitSeconds: seconds(e.Limit)}
		for i := range all {
			r := &all[i]
			if r.Exercise != e.Name {
				continue
			}
			l.Tries++
			l.Last = r
			if r.Passed {
				l.Passed++
				if l.Best == nil || r.Seconds < l.Best.Seconds {
					l.Best = r
				}
			}
		}
		for _, s := range running {
			if s.Exercise == e.Name && s.running() {
				l.Running = append(l.Running, string(s.Root))
			}
		}
		if printed, err := p.print(out, l); err != nil {
			return err
		} else if !printed {
			fmt.Fprintf(out, columns+"  %s\n", e.Name, fmt.Sprintf("%d min", int(e.Limit.Minutes())), fmt.Sprintf("%d of %d", l.Passed, l.Tries), took(l.Best), took(l.Last), e.Title)
		}
	}
	for _, s := range running {
		if s.running() && p.output != "json" {
			fmt.Fprint(out, "\n"+fold("", "running: "+s.Exercise+" in "+string(s.Root)))
		}
	}
	return err
}

func (p *program) clean(out io.Writer) error {
	removed, kept, err := clean(p.home, p.dir)
	if printed, failed := p.print(out, CleanLine{"clean", removed, kept}); printed {
		return errors.Join(err, failed)
	}
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
