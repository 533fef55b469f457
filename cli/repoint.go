package cli

import (
	"cmp"

	"github.com/spf13/cobra"

	"etcd-rewind/node"
	"etcd-rewind/steps"
)

// repoint runs etcd on data that lies on the node already, as after a typo in a
// hostPath. It is checked, planned and undone as a restore is.
func (a *app) repoint() *cobra.Command {
	var yes, dry bool
	var choices steps.Choices
	c := &cobra.Command{
		Use:   "repoint DATADIR",
		Short: "Point etcd at an existing data directory, without restoring anything",
		Long: `Point etcd at an existing data directory, without restoring anything.

For an etcd that serves a blank cluster because its hostPath leads to an empty
directory, while the intact data is elsewhere: etcd-rewind check names it.
DATADIR is the one that contains member. etcd continues to write there.` + exitStatuses,
		Example: "  etcd-rewind repoint /var/lib/etcd",
		Args:    cobra.ExactArgs(1),
	}
	f := c.Flags()
	named := overrides(c, &choices.Accept)
	f.BoolVar(&choices.KeepControllers, "keep-controllers", false, "leave kube-controller-manager and kube-scheduler running")
	f.StringVar(&choices.KubeletRestart, "kubelet-restart-command", "", "shell `command` that restarts kubelet ("+node.Kubeadm.RestartKubelet()+")")
	f.BoolVarP(&yes, "yes", "y", false, "don't ask; when a step fails, revert the node")
	f.BoolVar(&dry, "dry-run", false, "show the plan and change nothing")
	a.outputFlag(c)
	c.PreRunE = func(*cobra.Command, []string) error {
		choices.KubeletRestart = cmp.Or(choices.KubeletRestart, a.session.Options.KubeletRestart)
		return a.usage(named())
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		f, ctx, done := a.flow(c.Context(), &fleetFlags{}, nil, choices)
		defer done()
		if err := a.discoverFor(ctx, f); err != nil {
			return err
		}
		ch, database, err := f.Want.Here.InPlace(args[0], choices)
		if err != nil {
			return err
		}
		f.Choices = ch
		a.read(ctx, f, database)
		if err := a.checkAll(ctx, f, false); err != nil {
			return err
		}
		return a.restoreAs(ctx, f, consent{yes: yes, dry: dry})
	}
	return c
}
