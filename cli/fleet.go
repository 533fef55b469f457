package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"etcd-rewind/defect"
	"etcd-rewind/fleet"
	"etcd-rewind/restore"
	"etcd-rewind/snapshot"
	"etcd-rewind/steps"
	"etcd-rewind/trust"
	"etcd-rewind/ui"
)

// fleetFlags are those of commands that can lead several nodes.
type fleetFlags struct {
	on      bool
	rsh     string
	nodes   []string
	hosts   map[string]string
	without []string
}

// add adds the flags; rest says that the nodes are to be found, and not known
// from an earlier run.
func (o *fleetFlags) add(c *cobra.Command, what string, find bool) {
	f := c.Flags()
	f.BoolVar(&o.on, "fleet", false, what)
	if !find {
		o.shell(c)
	} else {
		o.reach(c)
		f.StringSliceVar(&o.nodes, "nodes", nil, "`hosts` of all control planes that take part (default: the members')")
		f.StringSliceVar(&o.without, "without", nil, "exclude member `NAME` from the restored cluster; rejoin it later")
	}
}

func (o *fleetFlags) shell(c *cobra.Command) {
	c.Flags().StringVar(&o.rsh, "rsh", "", "remote shell `command` to reach the other nodes with, called as COMMAND HOST 'command line' (ssh -o BatchMode=yes)")
}

// reach adds the flags that say how the other nodes are reached.
func (o *fleetFlags) reach(c *cobra.Command) {
	o.shell(c)
	c.Flags().StringToStringVar(&o.hosts, "host", nil, "`NAME=HOST`: where the member NAME is reached (its name, then its peer URL's address)")
}

// leading lets the wizard lead the nodes of all members.
func (a *app) leading(o ui.Options, several *fleetFlags) ui.Options {
	o.Rsh, o.Record = several.rsh, fleet.ReadRecord
	o.Want = restore.Want{Paths: a.paths(), Hosts: several.hosts}
	o.Nodes = func(rsh []string) restore.Nodes {
		if several.rsh != "" {
			rsh = strings.Fields(several.rsh)
		}
		return a.conductor(rsh)
	}
	return o
}

// check refuses flags that mean nothing without --fleet.
func (o *fleetFlags) check(c *cobra.Command) error {
	if o.on {
		return nil
	}
	for _, name := range []string{"rsh", "nodes", "host", "without"} {
		if f := c.Flags().Lookup(name); f != nil && f.Changed {
			return fmt.Errorf("--%s goes with --fleet", name)
		}
	}
	return nil
}

func (a *app) conductor(rsh []string) *fleet.Conductor {
	return &fleet.Conductor{Dialer: &fleet.Rsh{Command: rsh}, Rsh: rsh, Version: a.buildVersion()}
}

func (a *app) paths() restore.Paths {
	o := a.session.Options
	return restore.Paths{KubeletConfig: o.KubeletConfig, Manifests: o.Manifests, CRI: o.CRI, StateDir: o.StateDir, Accept: o.Accept, KubeletRestart: o.KubeletRestart}
}

// leads makes the context of a command that leads several nodes. A second Ctrl-C
// waits for no node, and ends the process when even that hangs.
func (a *app) leads(ctx context.Context, c *fleet.Conductor) (context.Context, func()) {
	return a.interruptible(ctx, "Stopping all nodes. Ctrl-C again leaves at once.", c.Leave)
}

// interruptible makes the context of a command that changes nodes: a dropped
// terminal ends nothing, Ctrl-C stops before the next action and is told by
// stopping. A second one calls leave, and ends the process soon after.
func (a *app) interruptible(ctx context.Context, stopping string, leave func()) (context.Context, func()) {
	signal.Ignore(syscall.SIGHUP, syscall.SIGPIPE)
	ctx, cancel := context.WithCancel(ctx)
	signals, over := make(chan os.Signal, 4), make(chan struct{})
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go defect.Do(func() {
		var late <-chan time.Time
		for n := 1; ; n++ {
			select {
			case <-over:
				return
			case <-late:
				endProcess(exitLeft)
				return
			case <-signals:
			}
			if n == 1 {
				cancel()
				// The terminal may take nothing.
				go defect.Do(func() { _, _ = fmt.Fprintln(a.err, stopping) })()
				continue
			}
			go defect.Do(leave)()
			late = time.After(leaveAfter)
		}
	})()
	return ctx, func() {
		signal.Stop(signals)
		close(over)
		cancel()
	}
}

// leaveAfter is how long the end of a run that was left may take to be told.
const leaveAfter = 2 * time.Second

// endProcess is another in tests.
var endProcess = os.Exit

// stopped says that nothing was changed when the user stops before a run.
func stopped(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return &steps.Failure{Cause: "interrupted before anything was changed"}
	}
	return err
}

// lookFleet finds the nodes, brings them the snapshot and checks them all. What
// blocks is told and ends the command; only says that nothing else follows.
func (a *app) lookFleet(ctx context.Context, c *fleet.Conductor, path string, o *fleetFlags, ch *steps.Choices, only bool) error {
	facts, err := a.session.Discover(ctx)
	if err != nil {
		return err
	}
	var info *snapshot.Info
	all := []restore.Checked{{}}
	if path != "" {
		if info, err = a.read(ctx, path); err != nil {
			all[0].Verdicts = append(all[0].Verdicts, steps.SnapshotVerdict(path, err))
			return a.judgeFleet(all, *ch, only)
		}
		if facts.Etcd != nil {
			if cmp, err := a.session.Compare(ctx, facts, info.Path, snapshot.CompareOptions{ExpectSHA256: info.SHA256}, a.progress()); err == nil {
				a.changes = ui.ComparisonSummary(cmp)
				all[0].Verdicts = append(all[0].Verdicts, steps.LineageVerdict(cmp))
			} else {
				all[0].Verdicts = append(all[0].Verdicts, steps.NotCompared(err))
			}
			a.saying("")
		}
	}
	members, verdicts, err := c.Discover(ctx, restore.Want{
		Paths: a.paths(), Info: info, Nodes: o.nodes, Hosts: o.hosts, Without: o.without,
	})
	if err != nil {
		return err
	}
	if a.output != "json" {
		if err := ui.PrintMembers(a.out, members); err != nil {
			return err
		}
	}
	all[0].Verdicts = append(verdicts, all[0].Verdicts...)
	steps.Accept(all[0].Verdicts, ch.Accept)
	if len(steps.Blocking(all[0].Verdicts)) > 0 {
		return a.judgeFleet(all, *ch, only)
	}
	if info != nil {
		if err := c.Send(ctx, a.sending()); err != nil {
			return err
		}
	}
	checked, err := c.Check(ctx, *ch)
	if err != nil {
		return err
	}
	return a.judgeFleet(append(all, checked...), *ch, only)
}

// sending shows how far the snapshot is on its way.
func (a *app) sending() func(node string, done, total int64) {
	return func(node string, done, total int64) {
		if done >= total {
			a.saying("")
			return
		}
		a.saying(fmt.Sprintf("sending the snapshot to %s: %s of %s", node, steps.Bytes(done), steps.Bytes(total)))
	}
}

// judgeFleet tells verdicts, and is the error for those that block.
func (a *app) judgeFleet(all []restore.Checked, ch steps.Choices, only bool) error {
	var flat []steps.Verdict
	for i := range all {
		steps.Accept(all[i].Verdicts, ch.Accept)
		flat = append(flat, all[i].Verdicts...)
	}
	blocked := len(steps.Blocking(flat)) > 0
	now := time.Now().UTC()
	var err error
	if a.output == "json" {
		if err = ui.JSONFleetVerdicts(a.out, all, now); err == nil && (only || blocked) {
			err = ui.JSONChecked(a.out, flat, now)
		}
	} else {
		err = ui.PrintFleetVerdicts(a.out, all, !only)
	}
	if err == nil && blocked {
		err = exit(exitBlocked)
	}
	return err
}

// restoreFleet restores all control planes as one.
func (a *app) restoreFleet(ctx context.Context, path string, o *fleetFlags, ch steps.Choices, yes, dry bool) error {
	c := a.conductor(strings.Fields(o.rsh))
	ctx, stop := a.leads(ctx, c)
	defer stop()
	defer func() { _ = c.Close() }()
	if err := a.lookFleet(ctx, c, path, o, &ch, false); err != nil {
		return stopped(ctx, err)
	}
	plans, err := c.Plan(ctx, ch)
	if err != nil {
		return stopped(ctx, err)
	}
	if a.changes != "" {
		plans[0].Summary = append(plans[0].Summary, steps.Fact{Name: "the restore", Value: a.changes})
	}
	if dry {
		return errors.Join(a.showPlans(plans), steps.Blocked(ctx, plans))
	}
	if err := steps.Blocked(ctx, plans); err != nil {
		return err
	}
	in, err := a.confirmFleet(plans, c.Here(), yes)
	if err != nil {
		return err
	}
	tell := a.printer(c.Names())
	defer func() { _ = tell.Close() }()
	res, err := c.Run(ctx, tell.NodeEvent, nodeAsker(tell, in))
	if err != nil {
		return err
	}
	if res.OK && len(o.without) > 0 && a.output != "json" && tell.Close() == nil {
		if err := ui.PrintLeftOut(a.out, o.without); err != nil {
			return err
		}
	}
	return status(res.ExitCode())
}

func nodesOf(plans []*steps.Plan) []string {
	var names []string
	for _, p := range plans {
		names = append(names, p.Node)
	}
	return names
}

func (a *app) showPlans(plans []*steps.Plan) error {
	for _, p := range plans {
		if err := a.showPlan(p); err != nil {
			return err
		}
	}
	return nil
}

// nodeAsker asks on in; without it nobody is there to ask.
func nodeAsker(tell *ui.Printer, in *ui.Answers) restore.Asker {
	if in == nil {
		return restore.Unattended
	}
	return tell.NodeAsker(in)
}

// confirmFleet shows the plans and asks for this node's name, once for all. It
// returns where to ask what else there is to ask, nil for nowhere.
func (a *app) confirmFleet(plans []*steps.Plan, here string, yes bool) (*ui.Answers, error) {
	if yes {
		return nil, nil
	}
	if a.output == "json" {
		return nil, a.usage(errors.New("--output json can't ask: add --yes"))
	}
	if err := a.showPlans(plans); err != nil {
		return nil, err
	}
	in := ui.NewAnswers(a.in)
	_, _ = fmt.Fprintf(a.out, "%d nodes: %s\n", len(plans), strings.Join(trust.Lines(nodesOf(plans)), ", "))
	if !in.Confirm(a.out, &steps.Plan{Node: here}) {
		_, _ = fmt.Fprintln(a.err, "Nothing was changed. (--yes doesn't ask.)")
		return nil, exit(exitUsage)
	}
	return in, nil
}

// fleetRun finds the record of a run on this node; "" is the newest one of a
// fleet in one of the states.
func (a *app) fleetRun(ctx context.Context, run string, states ...steps.RunState) (*restore.Record, error) {
	runs, err := a.session.Runs(ctx)
	if err != nil {
		return nil, err
	}
	for _, r := range runs {
		if err := r.Unreadable(run, a.session.Options.Accept); err != nil {
			return nil, err
		}
		if run != "" && r.Run != run || run == "" && !slices.Contains(states, r.State) {
			continue
		}
		rec, err := fleet.ReadRecord(r.Dir)
		if errors.Is(err, fs.ErrNotExist) {
			if run == "" {
				continue
			}
			return nil, &steps.Failure{Cause: "run " + run + " was made on this node alone", Hint: "omit --fleet"}
		}
		return rec, err
	}
	return nil, &steps.Failure{Cause: "no such multi-node run on this node", Hint: "etcd-rewind runs lists the runs of this node; any node that took part can lead the others"}
}

// ofAFleet leads the nodes of an earlier run again.
func (a *app) ofAFleet(ctx context.Context, run string, o *fleetFlags, undo, yes, dry bool, name string) error {
	open := []steps.RunState{steps.RunUnfinished, steps.RunFailed, steps.RunUntouched}
	if undo {
		open = []steps.RunState{steps.RunUnfinished, steps.RunFailed, steps.RunRestored}
	}
	rec, err := a.fleetRun(ctx, run, open...)
	if err != nil {
		return err
	}
	if o.rsh != "" {
		rec.Rsh = strings.Fields(o.rsh)
	}
	c := a.conductor(rec.Rsh)
	ctx, stop := a.leads(ctx, c)
	defer stop()
	defer func() { _ = c.Close() }()
	rec.Paths = a.paths()
	states, err := c.Open(ctx, *rec)
	if err != nil {
		return stopped(ctx, err)
	}
	var names []string
	for _, n := range rec.Nodes {
		names = append(names, n.Name)
		if a.output != "json" {
			_, _ = fmt.Fprintf(a.out, "%s: run %s is %s\n", trust.Text(n.Name), trust.Text(rec.Run), trust.Text(orNone(states[n.Name])))
		}
	}
	if undo {
		return a.undoFleet(ctx, c, names, yes, dry, name)
	}
	if dry {
		return a.usage(errors.New("--dry-run of resume is for one node: omit --fleet"))
	}
	var in *ui.Answers
	if !yes {
		if a.output == "json" {
			return a.usage(errors.New("--output json can't ask: add --yes"))
		}
		in = ui.NewAnswers(a.in)
		if !in.Confirm(a.out, &steps.Plan{Node: c.Here()}) {
			return exit(exitUsage)
		}
	}
	tell := a.printer(names)
	defer func() { _ = tell.Close() }()
	res, err := c.Resume(ctx, states, tell.NodeEvent, nodeAsker(tell, in))
	if err != nil {
		return err
	}
	return status(res.ExitCode())
}

func orNone(s steps.RunState) string {
	if s == "" {
		return "not there"
	}
	return string(s)
}

func (a *app) undoFleet(ctx context.Context, c *fleet.Conductor, names []string, yes, dry bool, name string) error {
	plans, err := c.PlanUndo(ctx)
	if err != nil {
		return stopped(ctx, err)
	}
	if len(plans) == 0 {
		return &steps.Failure{Cause: "the run has left nothing to undo on the nodes that can be reached"}
	}
	if dry {
		return errors.Join(a.showPlans(plans), steps.Blocked(ctx, plans))
	}
	if err := steps.Blocked(ctx, plans); err != nil {
		return err
	}
	for _, p := range plans {
		if yes && p.MustType && name != c.Here() {
			return &steps.Failure{
				Cause: "the restore is more than an hour old, and the cluster has gone on since",
				Hint:  "look at etcd-rewind undo --fleet --dry-run, then give the node's name: " + trust.Shell("--confirm %s", c.Here()),
			}
		}
	}
	in, err := a.confirmFleet(plans, c.Here(), yes)
	if err != nil {
		return err
	}
	tell := a.printer(names)
	defer func() { _ = tell.Close() }()
	return status(c.Undo(ctx, tell.NodeEvent, nodeAsker(tell, in)).ExitCode())
}

// ticket writes what nodes that don't reach each other have to have in common.
func (a *app) ticket() *cobra.Command {
	var choices steps.Choices
	var without []string
	c := &cobra.Command{
		Use:   "ticket SNAPSHOT FILE",
		Short: "Write a ticket to restore several nodes by hand, without ssh",
		Long: `Write a ticket to restore several nodes by hand, without ssh.

Carry FILE and the snapshot to every control plane, and start there, at about
the same time: etcd-rewind restore SNAPSHOT --ticket FILE. Each node waits for
the others, whom it sees by their ports.`,
		Args: cobra.ExactArgs(2),
	}
	settle := a.choiceFlags(c, &choices)
	c.Flags().StringSliceVar(&without, "without", nil, "exclude member `NAME` from the restored cluster; rejoin it later")
	a.outputFlag(c)
	c.PreRunE = func(*cobra.Command, []string) error { return a.usage(settle()) }
	c.RunE = func(c *cobra.Command, args []string) error {
		facts, err := a.session.Discover(c.Context())
		if err != nil {
			return err
		}
		info, err := a.session.Inspect(c.Context(), args[0], nil)
		if err != nil {
			return err
		}
		t, verdicts, err := fleet.NewTicket(c.Context(), facts, info, choices, without, time.Now())
		if err != nil {
			return err
		}
		if err := a.judgeFleet([]restore.Checked{{Verdicts: verdicts}}, choices, true); err != nil {
			return err
		}
		if err := t.Write(args[1]); err != nil {
			return err
		}
		if a.output != "json" {
			_, _ = fmt.Fprintf(a.out, "%s is for run %s. On every node: %s\n", trust.Text(args[1]), t.Run, trust.Shell("etcd-rewind restore %s --ticket %s", args[0], args[1]))
		}
		return nil
	}
	return c
}

// agent is what the conductor starts on every node.
func (a *app) agent() *cobra.Command {
	return &cobra.Command{
		Use:    "agent",
		Short:  "Serve a conductor on standard input and output; started by restore --fleet",
		Args:   cobra.NoArgs,
		Hidden: true,
		RunE: func(c *cobra.Command, _ []string) error {
			// It ends when its conductor is gone, and not before the node may
			// be left: a terminal's signals are none of its business.
			signal.Ignore(syscall.SIGHUP, syscall.SIGPIPE, os.Interrupt)
			ctx, stop := signal.NotifyContext(c.Context(), syscall.SIGTERM)
			defer stop()
			_ = fleet.Serve(ctx, a.in, a.out, &fleet.ThisNode{Session: &a.session}, a.buildVersion())
			return nil
		},
	}
}
