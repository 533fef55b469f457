package cli

import (
	"github.com/spf13/cobra"

	"etcd-rewind/steps"
	"etcd-rewind/trust"
)

// repoint runs etcd on data that lies on the node already, as after a typo in a
// hostPath. It is checked, planned and undone as a restore is.
func (a *app) repoint() *cobra.Command {
	var yes, dry bool
	var choices steps.Choices
	c := &cobra.Command{
		Use:   "repoint DATADIR",
		Short: "Point etcd at a data directory that is there, without restoring anything",
		Long: `Point etcd at a data directory that is there, without restoring anything.

For an etcd that serves a blank cluster because its hostPath leads to an empty
directory, while the intact data lies elsewhere: etcd-rewind check names it.
DATADIR has member in it. etcd goes on writing there.`,
		Example: "  etcd-rewind repoint /var/lib/etcd",
		Args:    cobra.ExactArgs(1),
	}
	f := c.Flags()
	f.StringSliceVar(&choices.Accept, "accept", nil, "override a `CHECK` by its name; may be given several times")
	f.BoolVar(&choices.KeepControllers, "keep-controllers", false, "leave kube-controller-manager and kube-scheduler running")
	f.StringVar(&choices.KubeletRestart, "kubelet-restart-command", "", "shell `command` that restarts kubelet (systemctl restart kubelet)")
	f.BoolVarP(&yes, "yes", "y", false, "don't ask; when a step fails the node is reverted")
	f.BoolVar(&dry, "dry-run", false, "show the plan and change nothing")
	a.outputFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		facts, err := a.discover(c.Context())
		if err != nil {
			return err
		}
		ch, database, err := facts.InPlace(args[0], choices)
		if err != nil {
			return err
		}
		info, bad := a.read(c.Context(), database)
		verdicts := a.session.Check(c.Context(), facts, info, ch)
		if bad != nil {
			verdicts = append(verdicts, steps.SnapshotVerdict(trust.Text(database), bad))
		}
		if err := a.judge(facts, verdicts, false); err != nil {
			return err
		}
		plan, err := a.session.Plan(facts, info, ch)
		if err != nil {
			return err
		}
		if dry {
			return a.showPlan(plan)
		}
		return a.execute(c.Context(), plan, yes)
	}
	return c
}
