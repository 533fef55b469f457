package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"etcd-rewind/fleet"
	"etcd-rewind/node"
	"etcd-rewind/problem"
	"etcd-rewind/restore"
	"etcd-rewind/settle"
	"etcd-rewind/snapshot"
	"etcd-rewind/steps"
	"etcd-rewind/trust"
	"etcd-rewind/ui/print"
)

// settle shows what the cluster owes after a restore, and settles of it what it
// is told to.
func (a *app) settle() *cobra.Command {
	var before string
	var chosen []string
	var far fleetFlags
	var swap, yes, dry bool
	var choices steps.Choices
	c := &cobra.Command{
		Use:   "settle",
		Short: "Show what the cluster still owes after a restore, and settle it",
		Long: `Show what the cluster still owes after a restore, and settle it.

etcd went back in time; kubelets, kubeadm, volumes and clients didn't. Each debt
is listed with its consequence and the commands that settle it. What is safe is
settled after a question, one by one; volumes, certificates and webhooks are
only listed. It works days later, too, and after a restore by hand.

It reads the API, etcd and this node; --fleet asks the kubelets of all nodes
over ssh, as a restore does, and --nodes those of the nodes you name. For a node
that can't be reached, it prints the command to run there.

After a restore by hand kubeadm-config names another directory than the one that
etcd runs on. settle updates it; --swap moves etcd's data to the directory that
it names instead, in a second, short outage: checked, planned and undone like a
restore.` + exitStatuses,
		Example: `  etcd-rewind settle                          # asks about each debt
  etcd-rewind settle --fleet                  # asks the other nodes' kubelets, too
  etcd-rewind settle --only kubeadm-config    # settles that one without asking
  etcd-rewind settle --swap --dry-run         # shows how the data would be moved
  etcd-rewind settle --before /var/lib/etcd-before-20261120-120000.db`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			for _, k := range chosen {
				if !slices.Contains(settle.Kinds(), k) {
					return a.usage(fmt.Errorf("there is no kind of debt %q; there are: %s", k, strings.Join(settle.Kinds(), ", ")))
				}
			}
			if !swap && (yes || dry || len(choices.Accept) > 0) {
				return a.usage(errors.New("--yes, --dry-run and --override are for --swap"))
			}
			if swap {
				if c.Flags().Changed("only") || c.Flags().Changed("fleet") || c.Flags().Changed("nodes") || c.Flags().Changed("before") {
					return a.usage(errors.New("--swap moves this node's data, and settles nothing else"))
				}
				return a.moveHome(c.Context(), choices, consent{yes: yes, dry: dry})
			}
			far.on = far.on || len(far.nodes) > 0
			if err := far.check(c); err != nil {
				return a.usage(err)
			}
			ctx, stop := interruptible(c.Context())
			defer stop()
			o := owed{before: before, named: far.nodes, hosts: far.hosts}
			if far.on {
				nodes := a.kubelets(strings.Fields(far.rsh))
				defer func() { _ = nodes.Close() }()
				o.nodes = nodes
			}
			found, f, err := a.owes(ctx, o, a.saying)
			if err != nil {
				return err
			}
			if err := a.showDebts(found); err != nil {
				return err
			}
			failed := a.settleAll(ctx, f, found.Debts, chosen)
			switch {
			case ctx.Err() != nil:
				return context.Cause(ctx)
			case failed:
				return exit(1)
			case len(found.Unread) > 0:
				return exit(exitBlocked)
			}
			return nil
		},
	}
	c.Flags().StringVar(&before, "before", "", "`snapshot` of the state before the restore (the one that the restore saved)")
	c.Flags().BoolVar(&far.on, "fleet", false, "ask the kubelets of all nodes, workers too, reached over ssh")
	c.Flags().StringSliceVar(&far.nodes, "nodes", nil, "ask the kubelets of these `hosts`, reached over ssh")
	far.reach(c)
	c.Flags().StringSliceVar(&chosen, "only", nil, "settle these `kinds` without asking, and nothing else")
	c.Flags().StringVar(&a.session.Options.KubeletRestart, "kubelet-restart-command", "", "shell `command` that restarts kubelet ("+node.Kubeadm.RestartKubelet()+")")
	oneOf(c, "only", settle.Kinds()...)
	c.Flags().BoolVar(&swap, "swap", false, "move etcd's data to the directory that kubeadm-config names")
	named := overrides(c, &choices.Accept)
	c.Flags().BoolVarP(&yes, "yes", "y", false, "don't ask; when a step fails, revert the node")
	c.Flags().BoolVar(&dry, "dry-run", false, "show the plan and change nothing")
	c.PreRunE = func(*cobra.Command, []string) error { return a.usage(named()) }
	a.outputFlag(c)
	return c
}

// moveHome moves etcd's data to where kubeadm expects it.
func (a *app) moveHome(ctx context.Context, choices steps.Choices, as consent) error {
	choices.KubeletRestart = a.session.Options.KubeletRestart
	f, ctx, done := a.flow(ctx, &fleetFlags{}, nil, choices)
	defer done()
	if err := a.discoverFor(ctx, f); err != nil {
		return err
	}
	var err error
	if f.Choices, err = f.Want.Here.Home(choices); err != nil {
		return err
	}
	if err := a.checkAll(ctx, f, false); err != nil {
		return err
	}
	return a.restoreAs(ctx, f, as)
}

// owed says what is looked at, besides the API, etcd and this node.
type owed struct {
	before string // snapshot of the state before the restore; "" to find it
	nodes  settle.Nodes
	named  []string
	hosts  map[string]string
}

// owes looks for what the cluster owes. tell hears what is being done, and "" at
// the end.
func (a *app) owes(ctx context.Context, o owed, tell func(string)) (*settle.Found, *steps.Facts, error) {
	tell("reading the node")
	f, err := a.session.Discover(ctx)
	if err != nil {
		return nil, nil, err
	}
	runs, err := a.session.Runs(ctx)
	if err != nil {
		return nil, nil, err
	}
	left, err := a.leftBehind(ctx, o.before, runs, tell)
	if err != nil {
		return nil, nil, err
	}
	found := settle.Find(ctx, &settle.Cluster{
		Facts: f, Before: left, Runs: runs, RestartCommand: a.session.Options.KubeletRestart, Nodes: o.nodes, Named: o.named, Hosts: o.hosts,
	}, tell)
	tell("")
	if ctx.Err() != nil {
		return nil, nil, context.Cause(ctx)
	}
	return found, f, nil
}

// leftBehind is the state before the restore, nil where no snapshot of it is
// known.
func (a *app) leftBehind(ctx context.Context, name string, runs []steps.RunInfo, tell func(string)) (*snapshot.Info, error) {
	if name == "" {
		movedTo := map[string]string{} // directories that a later run renamed aside
		for _, r := range runs {
			if r.State != steps.RunRestored || r.DataDir == "" {
				continue
			}
			if r.Home {
				movedTo[r.DataDir] = r.Aside
				continue
			}
			left := r.Left
			for dir, aside := range movedTo {
				if rest, ok := strings.CutPrefix(left, dir+"/"); ok {
					left = filepath.Join(aside, rest)
				}
			}
			copied := filepath.Join(filepath.Dir(r.DataDir), snapshot.SafetyCopy(r.Run))
			for _, file := range []string{copied, left} {
				if _, err := os.Stat(file); err == nil {
					name = file
					break
				}
			}
			break
		}
	}
	if name == "" {
		return nil, nil
	}
	tell("reading " + shortName(name))
	return a.session.Inspect(ctx, name, nil)
}

// debtLine and unreadLine are objects of settle --output json.
type (
	debtLine struct {
		Type string `json:"type"` // debt
		settle.Debt
	}
	unreadLine struct {
		Type string `json:"type"` // unread
		settle.Unread
	}
	settledLine struct {
		Type string `json:"type"` // settled
		settle.Settled
	}
)

func (a *app) showDebts(found *settle.Found) error {
	if a.output != "json" {
		return print.Debts(a.out, found)
	}
	to := trust.JSON(a.out)
	for _, d := range found.Debts {
		if err := to.Encode(debtLine{"debt", d}); err != nil {
			return err
		}
	}
	for _, u := range found.Unread {
		if err := to.Encode(unreadLine{"unread", u}); err != nil {
			return err
		}
	}
	return nil
}

// settleAll settles what was chosen, or what the user agrees to; without a
// terminal it only shows. It says whether something failed.
func (a *app) settleAll(ctx context.Context, f *steps.Facts, debts []settle.Debt, chosen []string) (failed bool) {
	ask := len(chosen) == 0 && a.output != "json" && term.IsTerminal(int(a.in.Fd())) && isTerminal(a.out)
	answers := print.NewAnswers(a.in)
	for _, d := range debts {
		if !d.Offered || ctx.Err() != nil {
			continue
		}
		if !slices.Contains(chosen, d.Kind) && (!ask || !answers.Agree(a.out, "Settle "+d.Name()+"?") || d.Sure != "" && !answers.Agree(a.out, d.Sure+" Do it?")) {
			continue
		}
		a.saying("settling " + trust.Text(d.Name()))
		done, err := settle.Do(ctx, f.StateDir, d)
		a.saying("")
		if a.output == "json" {
			err = errors.Join(err, trust.JSON(a.out).Encode(settledLine{"settled", done}))
		} else if err == nil {
			err = print.SettledDebt(a.out, done)
		}
		if err != nil {
			failed = true
			_ = print.Failure(a.err, problem.From(err).About(d.Name()))
		}
	}
	return failed
}

// settling is how the wizard finds what the cluster owes.
type settling struct {
	a     *app
	rsh   []string
	hosts map[string]string

	mu    sync.Mutex
	state string // directory of the record
	nodes *fleet.Kubelets
}

// kubelets reaches other nodes over a remote shell.
func (a *app) kubelets(rsh []string) *fleet.Kubelets {
	return &fleet.Kubelets{Dialer: &fleet.Rsh{Command: rsh}, Version: a.buildVersion(), Paths: restore.Paths{KubeletRestart: a.session.Options.KubeletRestart}}
}

// close ends the connections to other nodes.
func (s *settling) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.nodes != nil {
		_ = s.nodes.Close()
	}
}

func (s *settling) Find(ctx context.Context, others bool, tell func(string)) (*settle.Found, error) {
	o := owed{hosts: s.hosts}
	s.mu.Lock()
	if others && s.nodes == nil {
		s.nodes = s.a.kubelets(s.rsh)
	}
	if others {
		o.nodes = s.nodes
	}
	s.mu.Unlock()
	found, f, err := s.a.owes(ctx, o, tell)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state = f.StateDir
	return found, nil
}

func (s *settling) Settle(ctx context.Context, d settle.Debt) (settle.Settled, error) {
	s.mu.Lock()
	state := s.state
	s.mu.Unlock()
	return settle.Do(ctx, state, d)
}

// writeSettled writes what was settled as JSON, a line each.
func writeSettled(w io.Writer, all []settle.Settled) error {
	enc := trust.JSON(w)
	for _, s := range all {
		if err := enc.Encode(settledLine{"settled", s}); err != nil {
			return err
		}
	}
	return nil
}
