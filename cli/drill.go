package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"etcd-rewind/backup"
	"etcd-rewind/drill"
	"etcd-rewind/problem"
	"etcd-rewind/snapshot"
	"etcd-rewind/steps"
	"etcd-rewind/trust"
	"etcd-rewind/ui"
	"etcd-rewind/ui/print"
	"etcd-rewind/ui/text"
)

// exitFailed is a drill whose backup is bad.
const exitFailed = 1

func (a *app) drill() *cobra.Command {
	var o drill.Options
	c := &cobra.Command{
		Use:   "drill [SNAPSHOT]",
		Short: "Prove a snapshot: start etcd and kube-apiserver on it, beside the cluster",
		Long: `Prove a snapshot: start etcd and kube-apiserver on it, beside the cluster.

The snapshot is verified and restored into a directory of its own. The
cluster's own etcd and kube-apiserver are started on it, in a network with only
a loopback, and every object is listed through the API, encrypted ones included.
Then all of it is removed. The cluster isn't touched, and nothing is sent
anywhere. SNAPSHOT may be a URL. Without one, or with latest, it is the
newest backup in the configured locations, or where none are configured the
newest snapshot on this node.

Exit status:
  0  proven
  1  the snapshot is bad, or this cluster can't use it
  2  wrong usage
  4  the drill couldn't run; that says nothing about the snapshot`,
		Example: `  etcd-rewind drill /backup/etcd.db
  etcd-rewind drill latest --output json
  etcd-rewind drill etcd.db --etcd /opt/etcd --kube-apiserver /opt/kube-apiserver`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			ctx, stop := interruptible(c.Context())
			defer stop()
			name := append(args, "")[0]
			r, err := a.drillOf(ctx, name, o)
			if kerr := a.keepDrill(ctx, name, r, err); kerr != nil && a.output != "json" {
				_, _ = fmt.Fprintln(a.err, "warning: the drill's result can't be saved:", trust.Text(problem.Line(kerr)))
			}
			if err != nil {
				return stopped(ctx, err)
			}
			if a.output == "json" {
				err = print.JSONDrill(a.out, r, time.Now().UTC())
			} else {
				err = print.Drill(a.out, r, time.Now())
			}
			if err == nil && !r.Proven {
				err = exit(exitFailed)
			}
			return err
		},
	}
	f := c.Flags()
	f.StringVar(&o.Dir, "dir", "", "`directory` for the drill's files (that of etcd's data)")
	f.StringVar(&o.Etcd, "etcd", "", "etcd `program` to start in place of the cluster's")
	f.StringVar(&o.APIServer, "kube-apiserver", "", "kube-apiserver `program` to start in place of the cluster's")
	f.StringVar(&o.EncryptionConfig, "encryption-config", "", "EncryptionConfiguration `file` to use in place of the cluster's")
	a.outputFlag(c)
	return c
}

// drillOf runs a drill of a snapshot; "" and latest are the newest one.
func (a *app) drillOf(ctx context.Context, name string, o drill.Options) (*drill.Report, error) {
	facts, err := a.discover(ctx)
	if ctx.Err() != nil {
		return nil, err
	}
	o.Facts, o.BuiltIn = facts, builtInEtcd() // without a control plane the facts are empty
	o.Tell = func(begun string, took *drill.Part) {
		if took == nil {
			a.saying(text.DrillDoing(begun))
		}
	}
	if name == "" {
		name = backup.Latest
	}
	if _, err := os.Stat(a.backupConfig); name == backup.Latest && errors.Is(err, fs.ErrNotExist) {
		if name, err = a.newest(ctx); err != nil {
			return nil, err
		}
	}
	return drill.Run(ctx, name, func(ctx context.Context) (*snapshot.Staged, error) { return a.stage(ctx, name) }, o)
}

// keepDrill keeps how a drill went where the backups keep how they did; those of
// the latest backup are for status, check and metrics, and the error says that
// they can't be kept. r is nil when it couldn't run.
func (a *app) keepDrill(ctx context.Context, name string, r *drill.Report, failed error) error {
	if ctx.Err() != nil {
		return nil // nobody's failure
	}
	dir, err := steps.BackupDir(ctx, a.session.Options)
	if err != nil {
		return err
	}
	all, _ := steps.ReadDrills(dir) // what can't be read is written again
	if r != nil && r.Proven {
		all.Seconds = r.Total
	}
	config, cerr := a.backups()
	if cerr != nil && !errors.Is(cerr, fs.ErrNotExist) {
		config, cerr = backup.Broken(a.backupConfig), nil
	}
	if cmp.Or(name, backup.Latest) != backup.Latest || cerr != nil {
		if _, err := os.Stat(dir); err == nil && r != nil {
			_ = all.Write(dir) // how long it takes here is nice to know
		}
		return nil
	}
	d := &steps.DrillResult{Time: time.Now().UTC(), Snapshot: backup.Latest}
	if r != nil {
		d.Snapshot, d.Taken, d.Proven, d.Error, d.Seconds = r.Snapshot, r.Taken, r.Proven, r.Fault, r.Total
	} else {
		d.Error = problem.From(failed)
	}
	if d.Proven {
		d.RecoverySeconds = r.Recovery
	}
	all.Latest = d
	return errors.Join(config.DrillMetrics(d), all.Write(dir))
}

// tryOut is how the wizard tries a snapshot. tried counts those under way.
func (a *app) tryOut(tried *sync.WaitGroup) ui.Drill {
	return func(ctx context.Context, f *steps.Facts, info *snapshot.Info, tell func(string)) (*drill.Report, error) {
		tried.Add(1)
		defer tried.Done()
		r, err := drill.Run(ctx, info.Name, func(ctx context.Context) (*snapshot.Staged, error) {
			return a.session.Stage(ctx, info.Name, nil)
		}, drill.Options{Facts: f, BuiltIn: builtInEtcd(), Tell: func(begun string, took *drill.Part) {
			if took == nil {
				tell(begun)
			}
		}})
		if err == nil {
			_ = a.keepDrill(ctx, info.Name, r, nil)
		}
		return r, err
	}
}

// newest is the newest good snapshot of this node.
func (a *app) newest(ctx context.Context) (string, error) {
	a.saying("searching for snapshots")
	defer a.saying("")
	for _, c := range a.session.Candidates(ctx, nil) {
		if c.Err == nil && !c.Safety && c.Owner == "" {
			return c.Path, nil
		}
	}
	return "", problem.New("name one: etcd-rewind drill SNAPSHOT", "no snapshot was found on this node")
}
