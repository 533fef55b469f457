package cli

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"etcd-rewind/problem"
	"etcd-rewind/snapshot"
	"etcd-rewind/steps"
	"etcd-rewind/trust"
	"etcd-rewind/ui/print"
	"etcd-rewind/ui/text"
)

func (a *app) inspect() *cobra.Command {
	c := &cobra.Command{
		Use:   "inspect FILE",
		Short: "Verify a snapshot, show its contents and whether this node can use it",
		Long: `Verify a snapshot, show its contents and whether this node can use it.

FILE may be compressed (.gz, .zst, .tar.gz): it is unpacked beside the data
directory and deleted on exit. It may be encrypted with age: --identity opens
it. Of Secrets only names are read. The exit status is 4 for a file that isn't
intact.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			ctx, stop := interruptible(c.Context())
			defer stop()
			facts, ferr := a.discover(ctx)
			info, err := a.inspected(ctx, args[0])
			if err != nil {
				return err
			}
			i := text.Inspected{Info: info}
			if ferr != nil {
				i.NoNode = ferr.Error()
			} else {
				i.Node, i.Verdicts = facts.Node, steps.CheckSnapshot(ctx, facts, info, steps.Choices{})
			}
			if a.output == "json" {
				return print.JSONInspected(a.out, i, time.Now().UTC())
			}
			return print.Inspected(a.out, i)
		},
	}
	a.outputFlag(c)
	return c
}

func (a *app) diff() *cobra.Command {
	var opts text.DiffOptions
	var compare snapshot.CompareOptions
	c := &cobra.Command{
		Use:   "diff SNAPSHOT [SNAPSHOT]",
		Short: "Show what restoring a snapshot would re-create, delete and revert",
		Long: `Show what restoring a snapshot would re-create, delete and revert.

It is compared with another snapshot, or with this node's etcd as it is now:
over its API when it answers, else with its data directory, which is only read.
Of Secrets only names are shown.`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(c *cobra.Command, args []string) error {
			ctx, stop := interruptible(c.Context())
			defer stop()
			facts, ferr := a.discover(ctx)
			then, err := a.stage(ctx, args[0])
			if err != nil {
				return err
			}
			var other snapshot.Other
			var now *snapshot.Staged
			switch {
			case len(args) == 2:
				if now, err = a.stage(ctx, args[1]); err != nil {
					return err
				}
				other.Snapshot = now.Path
			case ferr != nil:
				return ferr
			default:
				if other, err = facts.Other(); err != nil {
					return err
				}
			}
			compare.Noise = opts.List
			result, err := snapshot.Compare(ctx, then.Path, other, compare, a.progress())
			if err != nil {
				return about(args[0], len(args) == 1, err)
			}
			result.Snapshot.From, result.Snapshot.Doubt = then.Name, then.Doubt
			if now != nil {
				result.Other.From, result.Other.Doubt = now.Name, now.Doubt
			}
			if a.output == "json" {
				return print.JSONComparison(a.out, result, time.Now().UTC())
			}
			return print.Comparison(a.out, result, opts)
		},
	}
	c.Flags().BoolVar(&opts.Fields, "fields", false, "show every field that differs, but no values that might be secret")
	c.Flags().BoolVar(&opts.List, "all", false, "list every object, also events, leases and changes of status")
	a.outputFlag(c)
	return c
}

func (a *app) save() *cobra.Command {
	c := &cobra.Command{
		Use:   "save [FILE]",
		Short: "Take a snapshot of this node's etcd and verify it",
		Long: `Take a snapshot of this node's etcd and verify it.

FILE may be a directory, and is the working directory when it isn't given: the
file is then named after the node, the revision and the time. No file is ever
overwritten.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			ctx, stop := interruptible(c.Context())
			defer stop()
			facts, err := a.discover(ctx)
			if err != nil {
				return err
			}
			info, err := a.session.Save(ctx, facts, append(args, "")[0], a.progress())
			if err != nil {
				return err
			}
			if a.output == "json" {
				return print.JSONInspected(a.out, text.Inspected{Info: info, NoNode: "it was just saved here"}, time.Now().UTC())
			}
			return print.Saved(a.out, info)
		},
	}
	a.outputFlag(c)
	return c
}

func interruptible(ctx context.Context) (context.Context, context.CancelFunc) {
	ends := []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGQUIT}
	if !signal.Ignored(syscall.SIGHUP) { // nohup
		ends = append(ends, syscall.SIGHUP)
	}
	return signal.NotifyContext(ctx, ends...)
}

// inspected is a snapshot, staged if need be and read whole.
func (a *app) inspected(ctx context.Context, name string) (*snapshot.Info, error) {
	file, err := a.stage(ctx, name)
	if err != nil {
		return nil, err
	}
	tell := a.progress()
	info, err := file.Inspect(ctx, func(done, total int64) {
		tell(snapshot.Progress{Phase: "hash", Done: done, Total: total})
	})
	return info, about(name, true, err)
}

func (a *app) stage(ctx context.Context, name string) (*snapshot.Staged, error) {
	tell := a.progress()
	file, err := a.session.Stage(ctx, name, func(done, total int64) {
		tell(snapshot.Progress{Phase: "unpack", Done: done, Total: total})
	})
	return file, about(name, true, err)
}

// about names the snapshot in a Problem.
func about(name string, named bool, err error) error {
	if p := problem.Of(err); named && p != nil && p.Code != snapshot.CodeOther {
		return p.About(shortName(name))
	}
	return err
}

// discover reads the node. What doesn't answer may take seconds.
func (a *app) discover(ctx context.Context) (*steps.Facts, error) {
	a.saying("reading the node")
	defer a.saying("")
	return a.session.Discover(ctx)
}

// saying shows what is being done, on one line of a terminal that goes away
// with the next; "" leaves none. Elsewhere it says nothing.
func (a *app) saying(what string) {
	if a.output != "json" && a.status != nil {
		a.status.Say(trust.Text(what))
	}
}

// progress says how far a long reading is.
func (a *app) progress() func(snapshot.Progress) {
	return func(p snapshot.Progress) {
		if p.Total == 0 || p.Done >= p.Total {
			a.saying("")
			return
		}
		a.saying(fmt.Sprintf("%s %d %%", p.Phase, p.Done*100/p.Total))
	}
}
