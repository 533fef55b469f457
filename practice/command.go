package practice

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"etcd-rewind/steps"
	"etcd-rewind/trust"
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
	status := &cobra.Command{Use: "status", Short: "Time, states, and what the grader still misses", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
		return p.status(c.Context(), c.OutOrStdout(), watch)
	}}
	status.Flags().BoolVarP(&watch, "watch", "w", false, "go on until it is solved")
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
	fmt.Fprintf(out, "starting a control plane in %s\n", root)
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
			fmt.Fprintf(out, "\nthe node's files are in %s\n", root)
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

func tell(out io.Writer, s *session) {
	e := s.exercise()
	fmt.Fprintf(out, "\n%s  (%s, %s)\n\n%s\n%s\n", e.Title, e.Name, e.Limit, fold("", s.text(e.Story)), fold("", "Task: "+s.text(e.Task)))
}

// fold breaks a text between words at 80 columns, after a prefix and below it.
func fold(prefix, text string) string {
	var b strings.Builder
	b.WriteString(prefix)
	indent := utf8.RuneCountInString(prefix)
	width := indent
	for i, word := range strings.Fields(text) {
		n := utf8.RuneCountInString(word)
		switch {
		case i == 0:
		case width+1+n > 80:
			b.WriteString("\n" + strings.Repeat(" ", indent))
			width = indent
		default:
			b.WriteByte(' ')
			width++
		}
		b.WriteString(word)
		width += n
	}
	b.WriteByte('\n')
	return b.String()
}

// runWizard runs the wizard inside the node, as a process of its own.
func (s *session) runWizard(ctx context.Context, in io.Reader, out, errOut io.Writer) error {
	cmd, err := trust.Self(ctx)
	if err != nil {
		return err
	}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, errOut
	cmd.Env = append(s.environ(), introEnv+"=1")
	var exit *exec.ExitError
	if err := s.run(cmd); err != nil && !errors.As(err, &exit) {
		return err
	}
	return nil // what went wrong was on the screen, and is graded
}

// environ is the person's own environment, with what the tools need: it is
// their terminal.
func (s *session) environ() []string {
	return append(slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "ETCD") }),
		"PATH="+s.named().root.tools()+string(filepath.ListSeparator)+os.Getenv("PATH"),
		"KUBECONFIG="+s.named().root.Kubeconfig(), rootEnv+"="+string(s.Root),
	)
}

// run runs a program to its end, inside the node where that can be had.
func (s *session) run(cmd *exec.Cmd) error {
	if s.Inside {
		leave, err := s.enter(cmd)
		if err != nil {
			return err
		}
		defer leave()
	}
	// Ctrl-C is for what runs there, which would inherit that it is ignored.
	taken := make(chan os.Signal, 1)
	signal.Notify(taken, os.Interrupt)
	defer signal.Stop(taken)
	return cmd.Run()
}

// shell runs the user's shell, or the script on stdin, with the node's tools.
// outside is why it isn't inside the node.
func shell(ctx context.Context, s *session, in io.Reader, out, errOut io.Writer, outside error) error {
	cmd, err := trust.Command(ctx, "bash")
	bash := err == nil
	if !bash {
		if cmd, err = trust.Command(ctx, "/bin/sh"); err != nil {
			return err
		}
	}
	prompt := fmt.Sprintf("[%s] \\w$ ", s.Exercise)
	switch {
	case !isTerminal(in):
		cmd.SysProcAttr = childAttr()
	case bash:
		rc := filepath.Join(s.Root.tools(), ".bashrc")
		if err := os.WriteFile(rc, []byte(trust.Shell("PS1=%s\n", prompt)), 0o600); err != nil {
			return err
		}
		cmd.Args = append(cmd.Args, "--noprofile", "--rcfile", rc, "-i")
	}
	root := strings.TrimSuffix(string(s.named().root), "/")
	cmd.Dir = string(s.Root)
	cmd.Env = append(s.environ(), "R="+root, "PS1="+prompt)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, errOut
	tell(out, s)
	place := fmt.Sprintf("In this shell paths and ports are a real node's: /etc/kubernetes, /var/lib, /var/log, /opt/backup, %s, etcd at %s. "+
		"It has no other network.", realView.socket, realView.ports.etcdURL())
	if outside != nil {
		place = fmt.Sprintf("In this shell / of the node is $R, %s, and etcd is at %s: a real node's paths and ports can't be had here (%v).", root, s.Ports.etcdURL(), outside)
	}
	fmt.Fprint(out, fold("", place), "etcdctl, etcdutl, kubectl, crictl, systemctl and etcd-rewind are the node's.\n"+
		"etcd-rewind practice hint, status, grade; exit ends it all and grades.\n\n")
	var exit *exec.ExitError
	if err := s.run(cmd); err != nil && !errors.As(err, &exit) {
		return err
	}
	return nil // an exit status is that of its last command: not ours to judge
}

func (p *program) grade(ctx context.Context, out io.Writer, s *session) error {
	g := s.grade(ctx)
	if err := keep(p.home, s.result(g)); err != nil {
		fmt.Fprintln(out, "the result could not be kept:", err)
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

func printGrade(out io.Writer, s *session, g Grade) {
	e := s.exercise()
	verdict := "passed"
	switch {
	case !g.Passed:
		verdict = "not passed"
	case g.Late:
		verdict = "passed, but late"
	}
	fmt.Fprintf(out, "\n%s: %s, %d of 100 points, %s of %s", e.Name, verdict, g.Points, g.Took.Round(time.Second), e.Limit)
	if g.Hints > 0 {
		fmt.Fprintf(out, ", %d hints", g.Hints)
	}
	fmt.Fprint(out, "\n\n")
	for _, m := range g.Marks {
		sign := "✓"
		switch {
		case m.Missed != "":
			sign = "✗"
		case m.Idle:
			sign = "–"
		}
		text := m.Title
		if m.Bonus {
			text += " (extra)"
		}
		switch {
		case m.Missed != "":
			text += ": " + m.Missed
		case m.Idle:
			text += ": counts once something else is reached"
		}
		fmt.Fprint(out, fold(fmt.Sprintf(" %s %3d  ", sign, m.Points), text))
		if m.Why != "" {
			fmt.Fprint(out, fold("        ", m.Why))
		}
	}
	fmt.Fprint(out, "\n", fold("", "With the wizard: "+s.text(e.Wizard)))
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

func printStatus(ctx context.Context, out io.Writer, s *session, g Grade) {
	l := s.look(ctx)
	fmt.Fprintf(out, "%s  %s of %s", s.Exercise, g.Took.Round(time.Second), s.exercise().Limit)
	if !s.running() {
		fmt.Fprint(out, "  (the node doesn't run any more)")
	}
	fmt.Fprintln(out)
	for _, c := range components {
		fmt.Fprintf(out, "  %-24s %s\n", c, cmp.Or(l.running[c], "no container"))
	}
	fmt.Fprintf(out, "  %-24s %s\n", "/readyz", l.ready)
	if l.dataDir != "" {
		fmt.Fprintf(out, "  %-24s %s\n", "etcd's data", s.hereNamed(l.dataDir))
	}
	fmt.Fprintln(out)
	for _, m := range g.Marks {
		if m.Missed == "" {
			fmt.Fprint(out, fold("  ✓ ", m.Title))
		} else {
			fmt.Fprint(out, fold("  · ", m.Title+": "+m.Missed))
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
			fmt.Fprintf(out, "\nunder way: %s in %s\n", s.Exercise, s.Root)
		}
	}
	return err
}

func took(r *result) string {
	if r == nil {
		return "-"
	}
	how := "wizard"
	if r.ByHand {
		how = "by hand"
	}
	return fmt.Sprintf("%s %s, %d", time.Duration(r.Seconds*float64(time.Second)).Round(time.Second), how, r.Points)
}

func (p *program) clean(out io.Writer) error {
	removed, kept, err := clean(p.home, p.dir)
	for _, r := range removed {
		fmt.Fprintln(out, "removed", r)
	}
	for _, k := range kept {
		fmt.Fprintln(out, "left alone, it is under way:", k)
	}
	if err == nil && len(removed)+len(kept) == 0 {
		fmt.Fprintln(out, "nothing is left to remove")
	}
	return err
}
