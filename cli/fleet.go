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
	"etcd-rewind/steps"
	"etcd-rewind/trust"
	"etcd-rewind/ui"
	"etcd-rewind/ui/print"
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
	c.Flags().StringToStringVar(&o.hosts, "host", nil, "where a member is reached, as `NAME=HOST` (its name, then its peer URL's address)")
	c.Flags().Lookup("host").DefValue = "" // not: (default [])
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
	return &fleet.Conductor{Dialer: &fleet.Rsh{Command: rsh}, Rsh: rsh, Version: a.buildVersion(), Silent: a.silent()}
}

// silent says which nodes haven't answered: on a terminal all the time, else now and
// then, for whoever reads it later.
func (a *app) silent() func(who string) {
	next, count := 1, 0
	return func(who string) {
		if who != "" {
			who = "waiting for " + who
		}
		if a.output != "json" && a.status != nil {
			a.saying(who)
			return
		}
		if count++; who == "" {
			next, count = 1, 0
		}
		if who == "" || count < next {
			return
		}
		next = min(2*next, next+30)
		if a.output == "json" {
			tell := print.NewJSON(a.out)
			tell.Event(restore.NodeEvent{Event: steps.Event{Type: restore.TypeLink, Time: time.Now().UTC(), State: steps.Warned, Message: who}})
			_ = tell.Close()
			return
		}
		_, _ = fmt.Fprintln(a.err, trust.Text(who))
	}
}

func (a *app) paths() restore.Paths {
	o := a.session.Options
	return restore.Paths{KubeletConfig: o.KubeletConfig, Manifests: o.Manifests, CRI: o.CRI, EtcdUnit: o.EtcdUnit, StateDir: o.StateDir, Accept: o.Accept, KubeletRestart: o.KubeletRestart}
}

// leads makes the context of a command that leads several nodes. A second Ctrl-C
// waits for no node, and ends the process when even that hangs.
func (a *app) leads(ctx context.Context, n restore.Nodes) (context.Context, func()) {
	return a.interruptible(ctx, "Stopping all nodes. Ctrl-C again exits at once.", n.Leave)
}

// interruptible makes the context of a command that changes nodes: a dropped
// terminal ends nothing, Ctrl-C stops before the next action and prints
// stopping. A second one, or Ctrl-\, calls leave, and ends the process soon after.
func (a *app) interruptible(ctx context.Context, stopping string, leave func()) (context.Context, func()) {
	signal.Ignore(syscall.SIGHUP, syscall.SIGPIPE)
	ctx, cancel := context.WithCancel(ctx)
	signals, over := make(chan os.Signal, 4), make(chan struct{})
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGQUIT)
	go defect.Do(func() {
		var late <-chan time.Time
		for {
			var s os.Signal
			select {
			case <-over:
				return
			case <-late:
				a.removeStaged()
				endProcess(exitLeft)
				return
			case s = <-signals:
			}
			first := ctx.Err() == nil
			cancel()
			if first && s != syscall.SIGQUIT {
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

// leaveAfter is how long reporting the end of a run that was left may take, and
// then how long removing what was decrypted for it may.
const leaveAfter = 2 * time.Second

// removeStaged removes what was unpacked, as the end of run does. Its disk may hang.
func (a *app) removeStaged() {
	ctx, cancel := context.WithTimeout(context.Background(), leaveAfter)
	defer cancel()
	_, _ = defect.Await(ctx, func() (struct{}, error) { return struct{}{}, a.session.Close() })
}

// endProcess is another in tests.
var endProcess = os.Exit

// stopped says that nothing was changed when the user stops before a run.
func stopped(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return &steps.Failure{Cause: "interrupted before anything was changed"}
	}
	return err
}

// record is the record of a run on this node that was made with others; "" is
// the newest one that the verb applies to.
func (a *app) record(ctx context.Context, run string, v restore.Verb) (*restore.Record, error) {
	applies := map[restore.Verb][]steps.RunState{
		restore.Resume: {steps.RunUnfinished, steps.RunFailed, steps.RunUntouched},
		restore.Undo:   {steps.RunUnfinished, steps.RunFailed, steps.RunRestored},
		restore.Redo:   {steps.RunUnfinished, steps.RunFailed, steps.RunUndone},
	}[v]
	runs, err := a.session.Runs(ctx)
	if err != nil {
		return nil, err
	}
	for _, r := range runs {
		if err := r.Unreadable(run, a.session.Options.Accept); err != nil {
			return nil, err
		}
		if run != "" && r.Run != run || run == "" && !slices.Contains(applies, r.State) {
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
	return nil, &steps.Failure{Cause: "no such multi-node run on this node", Hint: steps.Command("runs", "", a.session.Options.Flags()) + " lists the runs of this node; it works on any node that took part"}
}

func orNone(s steps.RunState) string {
	if s == "" {
		return "not there"
	}
	return string(s)
}

// ticket writes what nodes that don't reach each other have to have in common.
func (a *app) ticket() *cobra.Command {
	var choices steps.Choices
	var without []string
	c := &cobra.Command{
		Use:   "ticket SNAPSHOT FILE",
		Short: "Write a ticket to restore several nodes by hand, without ssh",
		Long: `Write a ticket to restore several nodes by hand, without ssh.

Copy FILE and the snapshot to every control plane, and run there, at about the
same time: etcd-rewind restore SNAPSHOT --ticket FILE. Each node waits for the
others, whose ports it watches.`,
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
		steps.Accept(verdicts, choices.Accept)
		if err := a.judge([]restore.Checked{{Verdicts: verdicts}}, true); err != nil {
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
			signal.Ignore(syscall.SIGHUP, syscall.SIGPIPE, os.Interrupt, syscall.SIGQUIT)
			ctx, stop := signal.NotifyContext(c.Context(), syscall.SIGTERM)
			defer stop()
			_ = fleet.Serve(ctx, a.in, a.out, &fleet.ThisNode{Session: &a.session}, a.buildVersion())
			return nil
		},
	}
}
