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
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	etcd "go.etcd.io/etcd/api/v3/version"
	"golang.org/x/term"

	"etcd-rewind/backup"
	"etcd-rewind/defect"
	"etcd-rewind/drill"
	"etcd-rewind/fleet"
	"etcd-rewind/node"
	"etcd-rewind/restore"
	"etcd-rewind/settle"
	"etcd-rewind/snapshot"
	"etcd-rewind/steps"
	"etcd-rewind/trust"
	"etcd-rewind/ui"
	"etcd-rewind/ui/print"
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
	drill.Worker()
	practiceWorker()
	a := &app{in: os.Stdin, out: os.Stdout, err: os.Stderr, version: version}
	if isTerminal(a.err) && os.Getenv("TERM") != "dumb" { // such a one can't clear a line
		a.status = print.NewStatus(a.err)
	}
	defer defect.Recover()
	os.Exit(a.run(os.Args[1:]))
}

// Commands are all commands with their flags and help, for what is made from
// them: man pages and completions. They are not to be run.
func Commands() *cobra.Command { return (&app{}).root() }

// app is the command line.
type app struct {
	in       *os.File
	out, err io.Writer

	version string // of a release
	session steps.Session
	intro   string        // of the exercise that the wizard is for
	output  string        // text or json
	began   bool          // the arguments were right
	status  *print.Status // nil where no terminal shows it

	asking       *print.Answers // answers has it
	backupConfig string         // path
}

// exit is an exit status whose reason has been printed already.
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

// failure prints an error that came before anything was touched.
func (a *app) failure(err error) {
	if a.output == "json" {
		_ = print.JSONFailure(a.out, err, time.Now().UTC())
		return
	}
	_ = print.Failure(a.err, err)
	a.offerPractice(err)
}

// offerPractice points to the practice node on a machine that is no control
// plane.
func (a *app) offerPractice(err error) {
	if practises && a.output != "json" && steps.NoControlPlane(err) {
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
	var inLines bool
	c.Flags().BoolVar(&inLines, "plain", false, "ask in lines of text, for screen readers and simple terminals")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if inLines || os.Getenv("TERM") == "dumb" && term.IsTerminal(int(a.in.Fd())) && isTerminal(a.out) {
			return a.plain(c, &several)
		}
		return a.wizard(c, &several)
	}
	f := c.PersistentFlags()
	o := &a.session.Options
	f.StringVar(&o.KubeletConfig, "kubelet-config", "", "kubelet's configuration `file` (default: detected)")
	f.StringVar(&o.Manifests, "manifests", "", "kubelet's static pod `directory` (default: detected)")
	f.StringVar(&o.CRI, "cri", "", "container runtime's `socket` (default: detected)")
	f.StringVar(&o.EtcdUnit, "etcd-unit", "", "systemd `service` that runs etcd (default: detected)")
	f.StringArrayVar(&o.Identities, "identity", nil, "`file` of age identities or an SSH key, for an encrypted snapshot; may be repeated")
	f.StringVar(&o.PassphraseFile, "passphrase-file", "", "`file` with the passphrase of an encrypted snapshot")
	f.StringVar(&a.backupConfig, "backup-config", backup.ConfigPath, "configuration `file` with the locations of backups, for latest and the wizard's list")
	f.StringVar(&o.StateDir, "state-dir", "", "`directory` for journals and kept manifests (etcd-rewind beside the manifests)")
	c.AddCommand(a.restore(), a.repoint(), a.check(), a.inspect(), a.diff(), a.drill(), a.save(), a.backup(), a.undo(), a.redo(), a.resume(), a.runs(), a.report(), a.settle(), a.versionCommand(), a.ticket(), a.agent())
	c.AddCommand(a.practiceCommands()...)
	wrapUsage(c, a.out)
	// None of cobra's Set…Template: they reach text/template, for which the
	// linker keeps every method there is, 7 MB of them.
	return c
}

// begin runs when cobra has found nothing wrong with the arguments.
func (a *app) begin(*cobra.Command, []string) error {
	if a.output != "" && a.output != "text" && a.output != "json" {
		return fmt.Errorf("--output takes text or json, not %q", a.output)
	}
	if name := &a.session.Options.EtcdUnit; *name != "" {
		if !strings.HasSuffix(*name, ".service") {
			*name += ".service" // as systemctl does
		}
		if !node.UnitName(*name) {
			return fmt.Errorf("--etcd-unit: %s is not the name of a service", trust.Quote(trust.Clip(*name, 80)))
		}
	}
	a.began = true
	a.session.Elsewhere, a.session.Ask, a.session.Outdated = a.elsewhere, a.asker(), a.outdated
	return a.onPracticeNode()
}

func (a *app) outputFlag(c *cobra.Command) {
	c.Flags().StringVarP(&a.output, "output", "o", "text", "text or json: one object per line")
	oneOf(c, "output", "text", "json")
}

func (a *app) wizard(c *cobra.Command, several *fleetFlags) error {
	if !term.IsTerminal(int(a.in.Fd())) || !isTerminal(a.out) {
		a.began = false
		return errors.New("the wizard needs a terminal; without one: etcd-rewind --plain, or etcd-rewind restore SNAPSHOT --yes")
	}
	a.session.Ask = nil      // the terminal is the wizard's, and it asks itself
	var tried sync.WaitGroup // drills end with the wizard, and what they have made is removed
	defer tried.Wait()
	owed := &settling{a: a, rsh: strings.Fields(several.rsh), hosts: several.hosts}
	defer owed.close()
	res, err := ui.RunWizard(c.Context(), &a.session, a.leading(ui.Options{
		Version: a.buildVersion(), Choices: steps.Choices{KubeletRestart: a.session.Options.KubeletRestart}, Intro: a.intro, Drill: a.tryOut(&tried),
		Elsewhere: a.offered, Unlock: a.session.Unlock, Settling: owed,
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
	f.BoolVar(&ch.Swap, "swap", false, "rename the old data aside and give its path to the restored data: no file is edited")
	stop := f.String("stop", string(steps.StopNow), "how kube-apiserver is stopped: now, or graceful with kubelet's grace period")
	bump := f.Uint64("bump-revision", 0, "raise the revision by `N` (beyond the live one, or 1000000000); 0 turns it off")
	named := overrides(c, &ch.Accept)
	oneOf(c, "stop", string(steps.StopNow), string(steps.StopGraceful))
	f.BoolVar(&ch.KeepControllers, "keep-controllers", false, "leave kube-controller-manager and kube-scheduler running")
	f.BoolVar(&ch.NoSave, "no-save-before", false, "don't save a snapshot of the current cluster; its data directory is kept in any case")
	f.StringVar(&ch.KubeletRestart, "kubelet-restart-command", "", "shell `command` that restarts kubelet ("+node.Kubeadm.RestartKubelet()+")")
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
	several.add(c, "restore all control planes of the cluster as one, reached over ssh", true)
	c.Flags().BoolVarP(&yes, "yes", "y", false, "don't ask; when a step fails, revert the node")
	c.Flags().BoolVar(&dry, "dry-run", false, "show the plan and change nothing")
	a.outputFlag(c)
	c.MarkFlagsMutuallyExclusive("fleet", "ticket")
	c.PreRunE = func(c *cobra.Command, _ []string) error { return a.usage(errors.Join(settle(), several.check(c))) }
	c.RunE = func(c *cobra.Command, args []string) error {
		var ticket *fleet.Ticket
		if ticketFile != "" {
			var err error
			if ticket, err = fleet.ReadTicket(ticketFile); err != nil {
				return err
			}
		}
		f, ctx, done := a.flow(c.Context(), &several, strings.Fields(several.rsh), choices)
		defer done()
		if yes && !dry && ticket == nil && !several.on {
			a.session.AtOnce = &choices
		}
		if err := a.look(ctx, f, args[0], ticket, false); err != nil {
			return stopped(ctx, err)
		}
		return stopped(ctx, a.restoreAs(ctx, f, consent{yes: yes, dry: dry}))
	}
	return c
}

// usage marks an error as one of usage.
func (a *app) usage(err error) error {
	a.began = err == nil
	return err
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
	several.add(c, "check all control planes of the cluster, reached over ssh", true)
	a.outputFlag(c)
	c.PreRunE = func(c *cobra.Command, _ []string) error { return a.usage(errors.Join(settle(), several.check(c))) }
	c.RunE = func(c *cobra.Command, args []string) error {
		path := ""
		if len(args) > 0 {
			path = args[0]
		}
		f, ctx, done := a.flow(c.Context(), &several, strings.Fields(several.rsh), choices)
		defer done()
		return stopped(ctx, a.look(ctx, f, path, nil, true))
	}
	return c
}

func (a *app) undo() *cobra.Command {
	return a.ofARun(restore.Undo, "Revert the node to how it was before a run")
}

func (a *app) redo() *cobra.Command {
	return a.ofARun(restore.Redo, "Switch to the restored data again after an undo, even an interrupted one")
}

func (a *app) resume() *cobra.Command {
	return a.ofARun(restore.Resume, "Continue an interrupted run")
}

// ofARun is a command that runs a plan made from the journal of an earlier run.
func (a *app) ofARun(v restore.Verb, short string) *cobra.Command {
	var as consent
	var several fleetFlags
	verb := string(v)
	c := &cobra.Command{
		Use:               verb + " [RUN]",
		Short:             short,
		Long:              short + ".\n\nWithout RUN it takes the newest run that it applies to; etcd-rewind runs lists\nall runs." + exitStatuses,
		Example:           "  etcd-rewind " + verb + " --dry-run\n  etcd-rewind " + verb + "\n  etcd-rewind " + verb + " 20261120-120000 --yes",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeRuns,
		RunE: func(c *cobra.Command, args []string) error {
			run := ""
			if len(args) > 0 {
				run = args[0]
			}
			return a.again(c.Context(), v, run, &several, as)
		},
	}
	several.add(c, "on all control planes that the run was made on, reached over ssh", false)
	named := overrides(c, &a.session.Options.Accept)
	c.PreRunE = func(c *cobra.Command, _ []string) error { return a.usage(errors.Join(named(), several.check(c))) }
	c.Flags().StringVar(&a.session.Options.KubeletRestart, "kubelet-restart-command", "", "shell `command` that restarts kubelet ("+node.Kubeadm.RestartKubelet()+")")
	c.Flags().BoolVarP(&as.yes, "yes", "y", false, "don't ask")
	c.Flags().StringVar(&as.name, "confirm", "", "the node's `name`: confirms what is done to an old run, where --yes is not enough")
	c.Flags().BoolVar(&as.dry, "dry-run", false, "show the plan and change nothing")
	a.outputFlag(c)
	return c
}

func (a *app) runs() *cobra.Command {
	c := &cobra.Command{
		Use:   "runs",
		Short: "List the runs of this node, and what was settled after them",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			runs, err := a.session.Runs(c.Context())
			if err != nil {
				return err
			}
			dir, err := steps.StateDir(c.Context(), a.session.Options)
			if err != nil {
				return err
			}
			settled, err := settle.Read(dir)
			if err != nil {
				return err
			}
			if a.output == "json" {
				return errors.Join(writeRuns(a.out, runs), writeSettled(a.out, settled))
			}
			return errors.Join(print.Runs(a.out, runs, time.Now()), print.SettledDebts(a.out, settled))
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

func writeRuns(w io.Writer, runs []steps.RunInfo) error {
	enc := trust.JSON(w)
	for _, r := range runs {
		if err := enc.Encode(listedRun{"run", r}); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) versionCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			v := builtFrom{"version", a.buildVersion(), "v" + etcd.Version, runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH}
			if a.output == "json" {
				return trust.JSON(a.out).Encode(v)
			}
			_, err := fmt.Fprintln(a.out, "etcd-rewind", v.Version+"\netcdutl", v.Etcd)
			return err
		},
	}
	a.outputFlag(c)
	return c
}

// builtFrom is the object of version --output json.
type builtFrom struct {
	Type     string `json:"type"` // version
	Version  string `json:"version"`
	Etcd     string `json:"etcd"` // whose libraries restore and read snapshots
	Go       string `json:"go"`
	Platform string `json:"platform"`
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
