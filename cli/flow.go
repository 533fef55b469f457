package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"etcd-rewind/fleet"
	"etcd-rewind/restore"
	"etcd-rewind/snapshot"
	"etcd-rewind/steps"
	"etcd-rewind/trust"
	"etcd-rewind/ui/print"
	"etcd-rewind/ui/text"
)

// What the commands do with one node or several is here, once: the nodes are
// behind restore.Nodes.

// flow begins what a command does with this node, or with --fleet with all of
// them. done ends it.
func (a *app) flow(ctx context.Context, o *fleetFlags, rsh []string, ch steps.Choices) (f *restore.Flow, with context.Context, done func()) {
	f = &restore.Flow{Engine: &a.session, Choices: ch, Want: restore.Want{Paths: a.paths()}}
	if !o.on {
		f.Nodes = &restore.Local{Engine: &a.session}
		return f, ctx, func() {}
	}
	f.Want.Nodes, f.Want.Hosts, f.Want.Without = o.nodes, o.hosts, o.without
	f.Nodes = a.conductor(rsh)
	ctx, stop := a.leads(ctx, f.Nodes)
	return f, ctx, func() { _ = f.Nodes.Close(); stop() }
}

// several says whether a flow is about several nodes, by names.
func several(n restore.Nodes) bool { return len(n.Names()) > 0 }

// look reads this node and the snapshot, and checks every node. What blocks is
// printed and ends the command; only says that nothing else follows. What a ticket
// decides, which may be nil, is added to the choices.
func (a *app) look(ctx context.Context, f *restore.Flow, name string, ticket *fleet.Ticket, only bool) error {
	nothing := a.discoverFor(ctx, f)
	switch {
	case nothing == nil:
	case only && name == "" && steps.NoControlPlane(nothing) && !several(f.Nodes):
		// The checks say what is missing.
		err := a.checkAll(ctx, f, only)
		a.offerPractice(nothing)
		return err
	default:
		return nothing
	}
	if name != "" {
		a.read(ctx, f, name)
	}
	if here, info := f.Want.Here, f.Want.Info; ticket != nil && info != nil {
		if here.Etcd == nil && !here.Apart() {
			return here.EtcdErr
		}
		var err error
		if f.Choices, err = ticket.Choices(f.Choices, here, info); err != nil {
			return err
		}
	}
	f.Compare(ctx, a.progress())
	a.saying("")
	return a.checkAll(ctx, f, only)
}

func (a *app) discoverFor(ctx context.Context, f *restore.Flow) error {
	a.saying("reading the node")
	defer a.saying("")
	return f.Discover(ctx)
}

// read reads a whole snapshot and shows how far it is.
func (a *app) read(ctx context.Context, f *restore.Flow, name string) {
	tell, what := a.progress(), "reading "+shortName(name)
	a.saying(what)
	f.Inspect(ctx, name, func(done, total int64) { tell(snapshot.Progress{Phase: what, Done: done, Total: total}) })
	a.saying("")
	if info := f.Want.Info; info != nil && info.Packed != nil && a.output != "json" {
		how := "compressed; unpacked"
		if info.Packed.Age {
			how = "encrypted; decrypted"
		}
		_, _ = fmt.Fprintf(a.err, "%s is %s to %s, deleted on exit\n", trust.Text(info.Name), how, trust.Text(info.Path))
	}
}

// checkAll finds the nodes and checks them.
func (a *app) checkAll(ctx context.Context, f *restore.Flow, only bool) error {
	if err := f.Find(ctx); err != nil {
		return err
	}
	if several(f.Nodes) && a.output != "json" {
		if err := print.Members(a.out, f.Members); err != nil {
			return err
		}
	}
	if err := f.Check(ctx, a.sending()); err != nil {
		return err
	}
	err := a.judge(f.Checked, only)
	if u := f.Want.Here.Unfinished; u != nil && a.output != "json" {
		if err := print.Standing(a.out, *u, steps.Standing(*u, time.Now())); err != nil {
			return err
		}
	}
	return err
}

// judge prints verdicts, and is the error for those that block. only says that
// nothing follows but the exit status.
func (a *app) judge(all []restore.Checked, only bool) error {
	blocked := false
	for _, c := range all {
		blocked = blocked || len(steps.Blocking(c.Verdicts)) > 0
	}
	var err error
	if a.output == "json" {
		err = print.JSONChecked(a.out, all, only || blocked, time.Now().UTC())
	} else {
		err = print.Checked(a.out, all, !only)
	}
	if err == nil && blocked {
		err = exit(exitBlocked)
	}
	return err
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

// consent says how a plan is agreed to.
type consent struct {
	yes, dry bool
	name     string // of this node, where --yes is not enough
}

// restoreAs plans the restore that was looked at, and runs it.
func (a *app) restoreAs(ctx context.Context, f *restore.Flow, as consent) error {
	plans, err := f.Plan(ctx)
	if err != nil {
		return err
	}
	if f.Changes != nil {
		plans[0].Summary = append(plans[0].Summary, text.Foreseen(f.Changes)...)
	}
	return a.execute(ctx, f, plans, as)
}

// execute asks, runs what was planned and prints what happens. A dropped
// connection ends nothing; Ctrl-C stops before the next action.
func (a *app) execute(ctx context.Context, f *restore.Flow, plans []*steps.Plan, as consent) error {
	if as.dry {
		if err := a.showPlans(plans); err != nil {
			return err
		}
		return steps.Blocked(ctx, plans)
	}
	if err := steps.Blocked(ctx, plans); err != nil {
		return err
	}
	n := f.Nodes
	for _, p := range plans {
		if as.yes && p.MustType && as.name != n.Here() {
			undo := "undo"
			if several(n) {
				undo += " --fleet"
			}
			return &steps.Failure{
				Cause: "the restore is more than an hour old, or the clock was set back, and the cluster has changed since",
				Hint:  "look at " + p.Command(undo+" --dry-run") + ", then give the node's name: " + trust.Shell("--confirm %s", n.Here()),
			}
		}
	}
	var in *print.Answers
	if !as.yes {
		var err error
		if in, err = a.confirm(n, plans); err != nil {
			return err
		}
	}
	if !several(n) {
		with, stop := a.interruptible(ctx, "Stopping before the next action. Ctrl-C again exits at once.", func() { _ = print.Failure(a.err, text.Left(plans[0], false)) })
		defer stop()
		ctx = with
	}
	tell := a.printer(n.Names())
	defer func() { _ = tell.Close() }()
	ask := restore.Unattended
	if in != nil {
		ask = tell.Asker(in)
	}
	res, err := n.Run(ctx, tell.Event, ask)
	if err != nil {
		return err
	}
	if without := f.Want.Without; res.OK && len(without) > 0 && a.output != "json" && tell.Close() == nil {
		if err := print.Excluded(a.out, without); err != nil {
			return err
		}
	}
	return status(res.ExitCode())
}

// confirm shows the plans and asks for this node's name, once for all. It
// returns where to ask what else there is to ask.
func (a *app) confirm(n restore.Nodes, plans []*steps.Plan) (*print.Answers, error) {
	if a.output == "json" {
		return nil, a.usage(errors.New("--output json can't ask: add --yes"))
	}
	if err := a.showPlans(plans); err != nil {
		return nil, err
	}
	if several(n) && len(plans) > 0 {
		var names []string
		for _, p := range plans {
			names = append(names, trust.Text(p.Node))
		}
		_, _ = fmt.Fprintf(a.out, "%d nodes: %s\n", len(names), strings.Join(names, ", "))
	}
	in := a.answers()
	if !in.Confirm(a.out, n.Here()) {
		_, _ = fmt.Fprintln(a.err, "Nothing was changed. (--yes doesn't ask.)")
		return nil, exit(exitUsage)
	}
	return in, nil
}

// showPlans prints plans; as JSON with the end of a dry run.
func (a *app) showPlans(plans []*steps.Plan) error {
	if a.output != "json" {
		for _, p := range plans {
			if err := print.Plan(a.out, p); err != nil {
				return err
			}
		}
		return nil
	}
	tell, now := print.NewJSON(a.out), time.Now().UTC()
	run := ""
	for _, p := range plans {
		run = p.Run
		tell.Event(restore.NodeEvent{Event: steps.Event{Type: steps.TypePlan, Time: now, Run: run, Plan: p}})
	}
	tell.Event(restore.NodeEvent{Event: steps.Event{
		Type: steps.TypeResult, Time: now, Run: run, State: steps.Unneeded, Message: "a dry run: nothing was done", Result: &steps.Result{OK: true},
	}})
	return tell.Close()
}

// printer prints a run as it was asked for. It never holds up the run.
func (a *app) printer(nodes []string) *print.Printer {
	if a.output == "json" {
		return print.NewJSON(a.out)
	}
	return print.NewText(a.out, print.Options{Nodes: nodes})
}

// again does with an earlier run what the verb says; "" is the newest that it
// applies to.
func (a *app) again(ctx context.Context, v restore.Verb, run string, o *fleetFlags, as consent) error {
	rec := restore.Record{Run: run}
	if o.on {
		found, err := a.record(ctx, run, v)
		if err != nil {
			return err
		}
		rec = *found
		rec.Paths = a.paths()
		if o.rsh != "" {
			rec.Rsh = strings.Fields(o.rsh)
		}
	}
	f, ctx, done := a.flow(ctx, o, rec.Rsh, steps.Choices{})
	defer done()
	if err := f.Open(ctx, rec); err != nil {
		return stopped(ctx, err)
	}
	for _, n := range rec.Nodes {
		if a.output != "json" {
			_, _ = fmt.Fprintf(a.out, "%s: run %s is %s\n", trust.Text(n.Name), trust.Text(rec.Run), trust.Text(orNone(f.States[n.Name])))
		}
	}
	plans, err := f.PlanAgain(ctx, v)
	if err != nil {
		return stopped(ctx, err)
	}
	return a.execute(ctx, f, plans, as)
}
