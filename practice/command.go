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
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"etcd-rewind/steps"
	"etcd-rewind/trust"
)

// Brief is what the wizard is told about the exercise it is for.
type Brief struct {
	Title, Story, Task string
	Limit              time.Duration
	Snapshots          string // directory of the exercise's snapshots
	KubeletRestart     string // shell command that restarts the practice kubelet
	Kubeconfig         string
}

// Wizard runs the wizard on a practice node, until the user leaves it.
type Wizard func(ctx context.Context, opts steps.Options, b Brief) error

// Command is "practice" with all its subcommands.
func Command(wizard Wizard) *cobra.Command {
	p := &program{wizard: wizard}
	c := &cobra.Command{
		Use:   "practice [EXERCISE]",
		Short: "Practise on a control plane of your own, without root, network or cluster",
		Long: "Starts a control plane on this machine with an incident on it, and the wizard to solve it; with --by-hand a shell with\n" +
			"etcdctl, etcdutl, kubectl and crictl instead. Everything lies below one directory and ends with this command.\n\n" + catalogue(),
		Args:         cobra.MaximumNArgs(1),
		SilenceUsage: true,
		RunE:         p.start,
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return names(), cobra.ShellCompDirectiveNoFileComp
		},
	}
	c.PersistentFlags().StringVar(&p.home, "home", "", "directory of practice nodes and results (default ~/.local/state/etcd-rewind/practice)")
	c.PersistentFlags().StringVar(&p.dir, "dir", "", "directory of the practice node")
	c.Flags().BoolVar(&p.byHand, "by-hand", false, "solve it in a shell, without the wizard")
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
	out := c.OutOrStdout()
	fmt.Fprintf(out, "starting a control plane in %s\n", root)
	s, end, err := startSession(ctx, e, root, byHand, p.linger)
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
	if byHand {
		if err := shell(ctx, s, c.InOrStdin(), out, c.ErrOrStderr()); err != nil {
			return err
		}
	} else if err := p.wizard(ctx, s.options(), s.brief()); err != nil {
		return err
	}
	if now, err := openSession(root); err == nil {
		s.Hints = now.Hints // shown meanwhile, by other processes
	}
	return p.grade(context.WithoutCancel(ctx), out, s)
}

func (s *session) brief() Brief {
	e := s.exercise()
	return Brief{
		Title: e.Title, Story: e.text(e.Story, s.slash()), Task: e.text(e.Task, s.slash()), Limit: e.Limit,
		Snapshots: s.Root.Backups(), KubeletRestart: s.Root.Path("bin/systemctl") + " restart kubelet", Kubeconfig: s.Root.Kubeconfig(),
	}
}

func tell(out io.Writer, s *session) {
	e := s.exercise()
	fmt.Fprintf(out, "\n%s  (%s, %s)\n\n%s\n\n%s\n\n", e.Title, e.Name, e.Limit, fold(e.text(e.Story, s.slash())), fold("Task: "+e.text(e.Task, s.slash())))
}

// fold breaks a paragraph at 78 columns, between words.
func fold(text string) string {
	var b strings.Builder
	width := 0
	for i, word := range strings.Fields(text) {
		switch {
		case i == 0:
		case width+1+len(word) > 78:
			b.WriteByte('\n')
			width = 0
		default:
			b.WriteByte(' ')
			width++
		}
		b.WriteString(word)
		width += len(word)
	}
	return b.String()
}

// shell runs the user's shell, or the script on stdin, with the node's tools.
func shell(ctx context.Context, s *session, in io.Reader, out, errOut io.Writer) error {
	interactive := false
	if f, ok := in.(*os.File); ok {
		interactive = term.IsTerminal(int(f.Fd()))
	}
	cmd, err := trust.Command(ctx, "bash")
	bash := err == nil
	if !bash {
		if cmd, err = trust.Command(ctx, "/bin/sh"); err != nil {
			return err
		}
	}
	prompt := fmt.Sprintf("[%s] \\w$ ", s.Exercise)
	if interactive && bash {
		rc := s.Root.Path("bin/.bashrc")
		if err := os.WriteFile(rc, []byte(trust.Shell("PS1=%s\n", prompt)), 0o600); err != nil {
			return err
		}
		cmd.Args = append(cmd.Args, "--noprofile", "--rcfile", rc, "-i")
	}
	cmd.Dir = string(s.Root)
	// The person's own environment: it is their shell.
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "ETCD") || strings.HasPrefix(v, "PS1=")
	}),
		"PATH="+s.Root.Path("bin")+string(filepath.ListSeparator)+os.Getenv("PATH"),
		"KUBECONFIG="+s.Root.Kubeconfig(), rootEnv+"="+string(s.Root), "R="+string(s.Root), "PS1="+prompt,
	)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, errOut
	if !interactive {
		cmd.SysProcAttr = childAttr()
	} else {
		// It is for what runs in the shell, which would inherit that it is ignored.
		taken := make(chan os.Signal, 1)
		signal.Notify(taken, os.Interrupt)
		defer signal.Stop(taken)
	}
	place := "/etc/kubernetes, /var/lib, /var/log, /opt/backup and /run/containerd are the node's; etcd's port is " + strconv.Itoa(s.Ports.Etcd)
	if why := s.realPaths(ctx, cmd); why != nil {
		place = fmt.Sprintf("/ of the node is $R, %s (no real paths: %v)", s.Root, why)
	} else {
		s.RealPath = true
		if err := s.save(); err != nil {
			return err
		}
	}
	tell(out, s)
	fmt.Fprintf(out, "In this shell %s.\netcdctl, etcdutl, kubectl, crictl, systemctl and etcd-rewind are the node's.\n"+
		"etcd-rewind practice hint, status, grade; exit ends it all and grades.\n\n", place)
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return nil // of its last command: not ours to judge
	}
	return err
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
		note := ""
		if m.Bonus {
			note = " (extra)"
		}
		fmt.Fprintf(out, " %s %3d  %s%s", sign, m.Points, m.Title, note)
		switch {
		case m.Missed != "" && m.Why != "":
			fmt.Fprintf(out, ": %s\n        %s", m.Missed, m.Why)
		case m.Missed != "":
			fmt.Fprint(out, ": "+m.Missed)
		case m.Idle:
			fmt.Fprint(out, ": counts once something else is reached")
		}
		fmt.Fprintln(out)
	}
	fmt.Fprintf(out, "\nWith the wizard: %s\n", e.Wizard)
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
		fmt.Fprintf(out, "%d. %s\n", i+1, e.text(h, s.slash()))
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
		fmt.Fprintf(out, "  %-24s %s\n", "etcd's data", l.dataDir)
	}
	fmt.Fprintln(out)
	for _, m := range g.Marks {
		if m.Missed == "" {
			fmt.Fprintf(out, "  ✓ %s\n", m.Title)
		} else {
			fmt.Fprintf(out, "  · %s: %s\n", m.Title, m.Missed)
		}
	}
}

func (p *program) list(out io.Writer) error {
	all, err := results(p.home)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "EXERCISE\t\tLIMIT\tPASSED\tBEST\tLAST")
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
		fmt.Fprintf(w, "%s\t%s\t%s\t%d of %d\t%s\t%s\n", e.Name, e.Title, e.Limit, passed, tries, took(best), took(last))
	}
	if err := w.Flush(); err != nil {
		return err
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
	return fmt.Sprintf("%s %s, %d points", time.Duration(r.Seconds*float64(time.Second)).Round(time.Second), how, r.Points)
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
