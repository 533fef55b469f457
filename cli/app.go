// Package cli is the command line: flags, arguments and exit statuses. What a
// command does is in the packages below.
package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"
	etcd "go.etcd.io/etcd/api/v3/version"
	"golang.org/x/term"

	"etcd-rewind/defect"
	"etcd-rewind/fleet"
	"etcd-rewind/snapshot"
	"etcd-rewind/steps"
	"etcd-rewind/trust"
	"etcd-rewind/ui"
)

// Exit statuses, besides those of a run (steps.Result.ExitCode).
const (
	exitUsage   = 2
	exitLeft    = 3
	exitBlocked = 4
)

// Main runs the command line of this process and ends it. The processes that
// the program starts of itself end in here too. version may be empty.
func Main(version string) {
	snapshot.Worker()
	practiceWorker()
	a := &app{in: os.Stdin, out: os.Stdout, err: os.Stderr, version: version}
	if isTerminal(a.err) {
		a.status = ui.NewStatus(a.err)
	}
	defer defect.Recover()
	os.Exit(a.run(os.Args[1:]))
}

// app is the command line.
type app struct {
	in       *os.File
	out, err io.Writer

	version string // of a release
	session steps.Session
	output  string     // text or json
	began   bool       // the arguments were right
	status  *ui.Status // nil where no terminal shows it
	changes string     // what a restore brings back, takes away and turns back
}

// exit is an exit status whose reason has been told already.
type exit int

func (e exit) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

func (a *app) run(args []string) int {
	defer func() {
		_ = a.session.Close()
		if a.status != nil {
			a.status.Close()
		}
	}()
	cobra.EnableTraverseRunHooks = true // practice has a hook of its own
	cobra.EnablePrefixMatching = false  // etcdctl, which is in practice, turns it on: "u" would undo
	root := a.root()
	root.SetArgs(args)
	root.SetOut(a.out)
	root.SetErr(a.err)
	c, err := root.ExecuteContextC(context.Background())
	var status exit
	switch {
	case err == nil:
		return 0
	case errors.As(err, &status):
		return int(status)
	case !a.began:
		_, _ = fmt.Fprintf(a.err, "%s\n\nUsage: %s\nSee %s --help.\n", strings.TrimRight(err.Error(), "\n"), c.UseLine(), c.CommandPath())
		return exitUsage
	}
	a.failure(err)
	return exitBlocked
}

// failure tells an error that came before anything was touched.
func (a *app) failure(err error) {
	if a.output == "json" {
		_ = ui.JSONFailure(a.out, err, time.Now().UTC())
		return
	}
	_ = ui.PrintFailure(a.err, err)
	if practises && steps.NoControlPlane(err) {
		_, _ = fmt.Fprintln(a.err, "To practise on a control plane of your own: etcd-rewind practice")
	}
}

func (a *app) root() *cobra.Command {
	c := &cobra.Command{
		Use:   "etcd-rewind",
		Short: "Restore a kubeadm control plane's etcd from a snapshot",
		Long: `Restore a kubeadm control plane's etcd from a snapshot.

Without a command it starts the wizard: choose a snapshot, see what is wrong
before anything is touched, read the plan, and watch every step. Nothing is
deleted, and etcd-rewind undo reverts the node.` + exitStatuses,
		Example: `  etcd-rewind                                  # the wizard
  etcd-rewind check /backup/etcd.db            # would a restore work?
  etcd-rewind restore /backup/etcd.db --dry-run
  etcd-rewind restore /backup/etcd.db          # asks before it begins
  etcd-rewind undo                             # revert the last run`,
		Version:           a.buildVersion(),
		SilenceErrors:     true,
		SilenceUsage:      true,
		PersistentPreRunE: a.begin,
	}
	var several fleetFlags
	several.reach(c)
	c.RunE = func(c *cobra.Command, _ []string) error { return a.wizard(c, &several) }
	f := c.PersistentFlags()
	o := &a.session.Options
	f.StringVar(&o.KubeletConfig, "kubelet-config", "", "kubelet's configuration `file` (found by itself)")
	f.StringVar(&o.Manifests, "manifests", "", "kubelet's static pod `directory` (found by itself)")
	f.StringVar(&o.CRI, "cri", "", "container runtime's `socket` (found by itself)")
	f.StringVar(&o.StateDir, "state-dir", "", "`directory` for journals and manifests kept (etcd-rewind beside the manifests)")
	c.AddCommand(a.restore(), a.repoint(), a.check(), a.inspect(), a.diff(), a.save(), a.undo(), a.redo(), a.resume(), a.runs(), a.versionCommand(), a.ticket(), a.agent())
	c.AddCommand(a.practiceCommands()...)
	c.SetVersionTemplate("etcd-rewind {{.Version}}\n")
	return c
}

// begin runs when cobra has found nothing wrong with the arguments.
func (a *app) begin(*cobra.Command, []string) error {
	if a.output != "" && a.output != "text" && a.output != "json" {
		return fmt.Errorf("--output takes text or json, not %q", a.output)
	}
	a.began = true
	return a.onPracticeNode()
}

func (a *app) outputFlag(c *cobra.Command) {
	c.Flags().StringVarP(&a.output, "output", "o", "text", "text or json: one object a line")
	oneOf(c, "output", "text", "json")
}

func (a *app) wizard(c *cobra.Command, several *fleetFlags) error {
	if !term.IsTerminal(int(a.in.Fd())) || !isTerminal(a.out) {
		a.began = false
		return errors.New("the wizard needs a terminal; without one: etcd-rewind restore SNAPSHOT --yes")
	}
	res, err := ui.RunWizard(c.Context(), &a.session, a.leading(ui.Options{
		Version: a.buildVersion(), Choices: steps.Choices{KubeletRestart: a.session.Options.KubeletRestart},
	}, several))
	if err != nil || res == nil {
		return err
	}
	return status(res.ExitCode())
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

func status(code int) error {
	if code == 0 {
		return nil
	}
	return exit(code)
}

func (a *app) choiceFlags(c *cobra.Command, ch *steps.Choices) (settle func() error) {
	f := c.Flags()
	f.StringVar(&ch.DataDir, "data-dir", "", "new data `directory` on the node (a sibling of the old one)")
	stop := f.String("stop", string(steps.StopNow), "how kube-apiserver is stopped: now, or graceful with kubelet's grace period")
	bump := f.Uint64("bump-revision", 0, "raise the revision by `N` (beyond the live one, or 1000000000); 0 turns it off")
	named := overrides(c, &ch.Accept)
	oneOf(c, "stop", string(steps.StopNow), string(steps.StopGraceful))
	f.BoolVar(&ch.KeepControllers, "keep-controllers", false, "leave kube-controller-manager and kube-scheduler running")
	f.StringVar(&ch.KubeletRestart, "kubelet-restart-command", "", "shell `command` that restarts kubelet (systemctl restart kubelet)")
	return func() error {
		switch steps.StopHow(*stop) {
		case steps.StopNow, steps.StopGraceful:
			ch.Stop = steps.StopHow(*stop)
		default:
			return fmt.Errorf("--stop takes now or graceful, not %q", *stop)
		}
		if f.Changed("bump-revision") {
			ch.Bump = bump
		}
		ch.KubeletRestart = cmp.Or(ch.KubeletRestart, a.session.Options.KubeletRestart)
		return named()
	}
}

func (a *app) restore() *cobra.Command {
	var yes, dry bool
	var choices steps.Choices
	c := &cobra.Command{
		Use:   "restore SNAPSHOT",
		Short: "Restore a snapshot, as lines of text or JSON",
		Long: `Restore a snapshot, as lines of text or JSON.

The node and the snapshot are checked, the plan is shown, and nothing is changed
before the node's name is typed. A failed check blocks the restore; some can be
overridden by name.` + exitStatuses,
		Example: `  etcd-rewind restore /backup/etcd.db --dry-run
  etcd-rewind restore /backup/etcd.db
  etcd-rewind restore /backup/etcd.db.gz --yes --output json
  etcd-rewind restore /backup/etcd.db --override snapshot-hash
  etcd-rewind restore /backup/etcd.db --fleet --rsh 'ssh -o BatchMode=yes'`,
		Args: cobra.ExactArgs(1),
	}
	settle := a.choiceFlags(c, &choices)
	var several fleetFlags
	var ticketFile string
	c.Flags().StringVar(&ticketFile, "ticket", "", "restore in step with other nodes that have the same ticket `file`, without ssh")
	several.add(c, "restore all control planes of the cluster as one, reached through ssh", true)
	c.Flags().BoolVarP(&yes, "yes", "y", false, "don't ask; when a step fails, revert the node")
	c.Flags().BoolVar(&dry, "dry-run", false, "show the plan and change nothing")
	a.outputFlag(c)
	c.MarkFlagsMutuallyExclusive("fleet", "ticket")
	c.PreRunE = func(c *cobra.Command, _ []string) error { return a.usage(errors.Join(settle(), several.check(c))) }
	c.RunE = func(c *cobra.Command, args []string) error {
		if several.on {
			return a.restoreFleet(c.Context(), args[0], &several, choices, yes, dry)
		}
		var ticket *fleet.Ticket
		if ticketFile != "" {
			var err error
			if ticket, err = fleet.ReadTicket(ticketFile); err != nil {
				return err
			}
		}
		facts, info, err := a.look(c.Context(), args[0], &choices, ticket, false)
		if err != nil {
			return err
		}
		plan, err := a.session.Plan(facts, info, choices)
		if err != nil {
			return err
		}
		if a.changes != "" {
			plan.Summary = append(plan.Summary, steps.Fact{Name: "the restore", Value: a.changes})
		}
		if dry {
			return a.showPlan(plan)
		}
		return a.execute(c.Context(), plan, yes)
	}
	return c
}

// usage marks an error as one of usage.
func (a *app) usage(err error) error {
	a.began = err == nil
	return err
}

// look discovers the node, reads the snapshot and checks both. What blocks is
// told and ends the command; only says that nothing else follows. What a ticket
// decides, which may be nil, is added to the choices.
func (a *app) look(ctx context.Context, path string, choices *steps.Choices, ticket *fleet.Ticket, only bool) (*steps.Facts, *snapshot.Info, error) {
	facts, err := a.discover(ctx)
	if err != nil {
		return nil, nil, err
	}
	var info *snapshot.Info
	var bad error
	if path != "" {
		info, bad = a.read(ctx, path)
	}
	if ticket != nil && info != nil {
		if facts.Etcd == nil {
			return nil, nil, facts.EtcdErr
		}
		if *choices, err = ticket.Choices(*choices, facts.Etcd.Name, info); err != nil {
			return nil, nil, err
		}
	}
	verdicts := a.session.Check(ctx, facts, info, *choices)
	if info != nil && facts.Etcd != nil {
		c, err := a.session.Compare(ctx, facts, info.Path, snapshot.CompareOptions{ExpectSHA256: info.SHA256}, a.progress())
		a.saying("")
		var p *snapshot.Problem
		switch {
		case err == nil:
			a.changes = ui.ComparisonSummary(c)
			verdicts = append(verdicts, steps.LineageVerdict(c))
			steps.Accept(verdicts, choices.Accept)
		case errors.As(err, &p) && p.Code == snapshot.CodeChanged:
			bad = err // another file has its name now
		default:
			verdicts = append(verdicts, steps.NotCompared(err))
		}
	}
	if bad != nil {
		verdicts = append(verdicts, steps.SnapshotVerdict(path, bad))
	}
	return facts, info, a.judge(facts, verdicts, only)
}

// read reads a whole snapshot and shows how far it is.
func (a *app) read(ctx context.Context, path string) (*snapshot.Info, error) {
	tell := a.progress()
	a.saying("reading " + filepath.Base(path))
	info, err := a.session.Inspect(ctx, path, func(done, total int64) {
		tell(snapshot.Progress{Phase: "reading " + filepath.Base(path), Done: done, Total: total})
	})
	a.saying("")
	if err == nil && info.Path != path && a.output != "json" {
		_, _ = fmt.Fprintf(a.err, "%s is compressed; unpacked to %s, deleted on exit\n", trust.Text(path), trust.Text(info.Path))
	}
	return info, err
}

// judge tells verdicts, and is the error for those that block. only
// says that nothing follows but the exit status.
func (a *app) judge(facts *steps.Facts, verdicts []steps.Verdict, only bool) error {
	blocked := len(steps.Blocking(verdicts)) > 0
	now := time.Now().UTC()
	var err error
	switch {
	case a.output == "json":
		if err = ui.JSONVerdicts(a.out, verdicts, now); err == nil && (only || blocked) {
			err = ui.JSONChecked(a.out, verdicts, now)
		}
	default:
		if err = ui.PrintVerdicts(a.out, verdicts, !only); err == nil && facts.Unfinished != nil {
			err = ui.PrintStanding(a.out, *facts.Unfinished, steps.Standing(*facts.Unfinished, now))
		}
	}
	if err == nil && blocked {
		err = exit(exitBlocked)
	}
	return err
}

// execute asks, runs a plan and prints what happens. A dropped connection ends
// nothing; Ctrl-C stops before the next action.
func (a *app) execute(ctx context.Context, plan *steps.Plan, yes bool) error {
	in := ui.NewAnswers(a.in)
	if !yes {
		if a.output == "json" {
			return a.usage(errors.New("--output json can't ask: add --yes"))
		}
		if err := ui.PrintPlan(a.out, plan); err != nil {
			return err
		}
		if !in.Confirm(a.out, plan) {
			_, _ = fmt.Fprintln(a.err, "Nothing was changed. (--yes doesn't ask.)")
			return exit(exitUsage)
		}
	}
	ctx, stop := a.interruptible(ctx, "Stopping before the next action. Ctrl-C again leaves at once.", func() { a.left(plan) })
	defer stop()
	tell := a.printer(nil)
	defer func() { _ = tell.Close() }()
	ask := ui.Unattended
	if !yes {
		ask = tell.Asker(in)
	}
	res, err := a.session.Run(ctx, plan, tell.Event, ask)
	if err != nil {
		return err
	}
	return status(res.ExitCode())
}

// left tells what to do about a run that was left in the middle. Its journal is
// in order at any moment: a run that is left is one that was killed.
func (a *app) left(p *steps.Plan) {
	ways := p.Command("resume") + " continues, " + p.Command("undo") + " reverts the node to how it was"
	if p.Kind == steps.KindUndo {
		ways = p.Command("undo") + " continues"
	}
	_ = ui.PrintFailure(a.err, &steps.Failure{Cause: "left in the middle of run " + p.Run, Hint: ways})
}

// printer prints a run as it was asked for. It never holds up the run.
func (a *app) printer(nodes []string) *ui.Printer {
	if a.output == "json" {
		return ui.NewJSON(a.out)
	}
	return ui.NewPlain(a.out, ui.PlainOptions{Nodes: nodes})
}

func (a *app) check() *cobra.Command {
	var choices steps.Choices
	c := &cobra.Command{
		Use:   "check [SNAPSHOT]",
		Short: "Check the node, and a snapshot, and change nothing",
		Long:  `Check the node, and a snapshot, and change nothing.` + exitStatuses,
		Example: `  etcd-rewind check
  etcd-rewind check /backup/etcd.db
  etcd-rewind check /backup/etcd.db --fleet`,
		Args: cobra.MaximumNArgs(1),
	}
	settle := a.choiceFlags(c, &choices)
	var several fleetFlags
	several.add(c, "check all control planes of the cluster, reached through ssh", true)
	a.outputFlag(c)
	c.PreRunE = func(c *cobra.Command, _ []string) error { return a.usage(errors.Join(settle(), several.check(c))) }
	c.RunE = func(c *cobra.Command, args []string) error {
		path := ""
		if len(args) > 0 {
			path = args[0]
		}
		if several.on {
			lead := a.conductor(strings.Fields(several.rsh))
			defer func() { _ = lead.Close() }()
			return a.lookFleet(c.Context(), lead, path, &several, &choices, true)
		}
		_, _, err := a.look(c.Context(), path, &choices, nil, true)
		return err
	}
	return c
}

func (a *app) undo() *cobra.Command {
	return a.ofARun("undo [RUN]", "Revert the node to how it was before a run", a.session.PlanUndo)
}

func (a *app) redo() *cobra.Command {
	return a.ofARun("redo [RUN]", "Go to the restored data again after an undo, also an interrupted one", a.session.PlanRedo)
}

func (a *app) resume() *cobra.Command {
	return a.ofARun("resume [RUN]", "Continue an interrupted run", a.session.PlanResume)
}

// ofARun is a command that runs a plan made from the journal of an earlier run.
func (a *app) ofARun(use, short string, makePlan func(context.Context, string) (*steps.Plan, error)) *cobra.Command {
	var yes, dry bool
	var name string
	var several fleetFlags
	verb, _, _ := strings.Cut(use, " ")
	c := &cobra.Command{
		Use:               use,
		Short:             short,
		Long:              short + ".\n\nWithout RUN it is the newest run that it applies to; etcd-rewind runs lists them." + exitStatuses,
		Example:           "  etcd-rewind " + verb + " --dry-run\n  etcd-rewind " + verb + "\n  etcd-rewind " + verb + " 20261120-120000 --yes",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeRuns,
		RunE: func(c *cobra.Command, args []string) error {
			run := ""
			if len(args) > 0 {
				run = args[0]
			}
			if several.on {
				return a.ofAFleet(c.Context(), run, &several, strings.HasPrefix(use, "undo"), yes, dry, name)
			}
			plan, err := makePlan(c.Context(), run)
			if err != nil {
				return err
			}
			if dry {
				if err := a.showPlan(plan); err != nil {
					return err
				}
				return plan.Allowed(c.Context())
			}
			if err := plan.Allowed(c.Context()); err != nil {
				return err
			}
			if yes && plan.MustType && name != plan.Node {
				return &steps.Failure{
					Cause: "the restore is more than an hour old, and the cluster has gone on since",
					Hint:  "look at etcd-rewind undo --dry-run, then give the node's name: " + trust.Shell("--confirm %s", plan.Node),
				}
			}
			return a.execute(c.Context(), plan, yes)
		},
	}
	if !strings.HasPrefix(use, "redo") {
		several.add(c, "on all control planes that the run was made on, reached through ssh", false)
	}
	named := overrides(c, &a.session.Options.Accept)
	c.PreRunE = func(c *cobra.Command, _ []string) error { return a.usage(errors.Join(named(), several.check(c))) }
	c.Flags().StringVar(&a.session.Options.KubeletRestart, "kubelet-restart-command", "", "shell `command` that restarts kubelet (systemctl restart kubelet)")
	c.Flags().BoolVarP(&yes, "yes", "y", false, "don't ask")
	c.Flags().StringVar(&name, "confirm", "", "the node's `name`: confirms the undo of an old run, where --yes is not enough")
	c.Flags().BoolVar(&dry, "dry-run", false, "show the plan and change nothing")
	a.outputFlag(c)
	return c
}

// showPlan prints a plan that isn't run.
func (a *app) showPlan(p *steps.Plan) error {
	if a.output == "json" {
		tell, now := ui.NewJSON(a.out), time.Now().UTC()
		tell.Event(steps.Event{Type: steps.TypePlan, Time: now, Run: p.Run, Plan: p})
		tell.Event(steps.Event{Type: steps.TypeResult, Time: now, Run: p.Run, State: steps.Unneeded, Message: "a dry run: nothing was done", Result: &steps.Result{OK: true}})
		return tell.Close()
	}
	return ui.PrintPlan(a.out, p)
}

func (a *app) runs() *cobra.Command {
	c := &cobra.Command{
		Use:   "runs",
		Short: "List the runs of this node",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			runs, err := a.session.Runs(c.Context())
			if err != nil {
				return err
			}
			if a.output == "json" {
				enc := trust.JSON(a.out)
				for _, r := range runs {
					if err := enc.Encode(listedRun{"run", r}); err != nil {
						return err
					}
				}
				return nil
			}
			return ui.PrintRuns(a.out, runs)
		},
	}
	a.outputFlag(c)
	return c
}

// listedRun is one object of runs --output json.
type listedRun struct {
	Type string `json:"type"` // run
	steps.RunInfo
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintf(a.out, "etcd-rewind %s\netcdutl v%s\n", a.buildVersion(), etcd.Version)
			return err
		},
	}
}

func (a *app) buildVersion() string {
	if a.version != "" {
		return a.version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
