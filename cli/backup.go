package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"etcd-rewind/backup"
	"etcd-rewind/priority"
	"etcd-rewind/problem"
	"etcd-rewind/steps"
	"etcd-rewind/trust"
	"etcd-rewind/ui/print"
)

const backupStatuses = `

Exit status:
  0  done
  1  failed, everywhere or in one location
  2  wrong usage
  4  not begun; nothing was changed`

func (a *app) backup() *cobra.Command {
	var config string
	var scheduled bool
	c := &cobra.Command{
		Use:   "backup",
		Short: "Take an encrypted backup now, and send it to every location",
		Long: `Take an encrypted backup now, and send it to every location.

etcd's state is saved and verified, compressed, encrypted for the recipients of
the configuration, uploaded to each location and read back from there. Then
expired backups are removed. A failure in one location doesn't stop the others,
but nothing is removed then. etcd-rewind backup init writes the configuration.` + backupStatuses,
		Example: `  etcd-rewind backup init       # asks where, for whom and how often
  etcd-rewind backup            # takes one now
  etcd-rewind backup enable     # takes them on a timer
  etcd-rewind backup status     # what is stored where, and how old it is`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.takeBackup(c.Context(), config, scheduled) },
	}
	c.PersistentFlags().StringVar(&config, "config", "", "`file` of the configuration ("+backup.ConfigPath+")")
	c.Flags().BoolVar(&scheduled, "scheduled", false, "take the round that is due, unless another node has taken it")
	a.outputFlag(c)
	c.AddCommand(a.backupInit(&config), a.backupList(&config), a.backupStatus(&config), a.backupPrune(&config), a.backupEnable(&config), a.backupDisable())
	return c
}

// configured reads the configuration; where is its path, or "" for the usual one.
func (a *app) configured(ctx context.Context, where string) (*backup.Config, string, error) {
	dir, err := steps.BackupDir(ctx, a.session.Options)
	if err != nil {
		return nil, "", err
	}
	c, err := backup.Load(a.configPath(where, dir))
	return c, dir, err
}

// configPath is that of the machine's configuration, or of a practice node's own.
func (a *app) configPath(where, dir string) string {
	switch {
	case where != "":
		if abs, err := filepath.Abs(where); err == nil {
			return abs
		}
		return where
	case a.session.Options.Own:
		return filepath.Join(filepath.Dir(dir), "backup.yaml")
	}
	return backup.ConfigPath
}

// unitDir is where systemd's units lie; "" for a practice node, which has none.
func (a *app) unitDir() string {
	if a.session.Options.Own {
		return ""
	}
	return backup.UnitDir
}

// outdated says why the timer of this node's backups doesn't do what their
// configuration says; nil when it does, or none was set up here.
func (a *app) outdated(b *steps.Backups) *problem.Problem {
	dir := a.unitDir()
	if dir == "" || b.Config == "" {
		return nil
	}
	c, err := backup.Load(b.Config)
	switch {
	case err == nil:
		return c.Outdated(dir)
	case b.Enabled.IsZero() || errors.Is(err, fs.ErrPermission):
		return nil
	}
	return problem.From(err)
}

func (a *app) takeBackup(ctx context.Context, where string, scheduled bool) error {
	ctx, stop := interruptible(ctx)
	defer stop()
	c, dir, err := a.configured(ctx, where)
	if err != nil {
		path := a.configPath(where, dir)
		if _, there := os.Lstat(path); scheduled && dir != "" && there == nil { // nobody reads what a timer prints
			backup.Missed(backup.Broken(path), dir, err, time.Now())
		}
		return err
	}
	if scheduled && c.Schedule.Every == 0 {
		err := problem.New("add it to the configuration: schedule: {every: 1h}", "%s has no schedule", c.Path)
		backup.Missed(c, dir, err, time.Now())
		return err
	}
	discover := a.discover
	if scheduled {
		discover = func(ctx context.Context) (*steps.Facts, error) {
			return backup.Await(ctx, backup.BootLimit, a.discover, func(why error) {
				if a.output != "json" {
					_, _ = fmt.Fprintf(a.err, "waiting for etcd, %s at most: %s\n", backup.Duration(backup.BootLimit), trust.Text(problem.Line(why)))
				}
			})
		}
	}
	facts, err := discover(ctx)
	var node *backup.Node
	if err == nil {
		node, err = backup.Of(facts)
	}
	if err != nil {
		backup.Missed(c, dir, err, time.Now())
		return err
	}
	priority.GiveWay(backup.Nice)
	t := &backup.Taking{Config: c, Node: node, Dir: dir, Version: a.buildVersion(), Scheduled: scheduled, Tell: a.tellBackup()}
	res, err := t.Take(ctx)
	a.saying("")
	if err != nil {
		return err
	}
	if a.output == "json" {
		err = trust.JSON(a.out).Encode(print.BackupLine{Head: head("backup"), Result: res})
	} else {
		err = print.Backup(a.out, res)
	}
	if err == nil && !res.OK {
		err = exit(1)
	}
	return err
}

func head(kind string) print.Head { return print.Head{Type: kind, Time: time.Now().UTC()} }

// tellBackup shows what is done: lines of JSON, or a line on a terminal that goes
// away with the next.
func (a *app) tellBackup() func(backup.Event) {
	var mu sync.Mutex
	last := ""
	return func(e backup.Event) {
		mu.Lock()
		defer mu.Unlock()
		if a.output != "json" {
			if s := print.BackupStep(e); s != "" {
				a.saying(s)
			}
			return
		}
		// How far it is nobody reads every time.
		if now := string(e.Step) + string(e.State) + e.Location; now != last || e.State != backup.Running {
			last = now
			e.Done, e.Total = 0, 0
			_ = trust.JSON(a.out).Encode(print.BackupStepLine{Head: head("backup-step"), Event: e})
		}
	}
}

func (a *app) backupList(config *string) *cobra.Command {
	var locations []string
	var clusters bool
	c := &cobra.Command{
		Use:   "list",
		Short: "List the backups in all locations, by their records",
		Long: `List the backups in all locations, by their records.

Nothing else is read, and etcd isn't contacted. An altered record and a missing
file are shown. On a machine without the configuration, --location says where to
look; without the key, the records can't be authenticated.`,
		Example: "  etcd-rewind backup list\n  etcd-rewind backup list --location file:///mnt/nas",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, stop := interruptible(c.Context())
			defer stop()
			stores, key, cluster, err := a.where(ctx, *config, locations)
			if err != nil {
				return err
			}
			if clusters {
				cluster = ""
			}
			a.saying("reading the records")
			found := backup.Find(ctx, stores, key, cluster)
			a.saying("")
			all := found.Backups()
			if a.output == "json" {
				for _, b := range all {
					if err := trust.JSON(a.out).Encode(print.StoredLine{Head: head("stored-backup"), Stored: b}); err != nil {
						return err
					}
				}
			} else if err := print.Backups(a.out, all, len(stores), key == nil, time.Now()); err != nil {
				return err
			}
			var errs []error
			for _, err := range found.Errors {
				if err != nil {
					errs = append(errs, err)
				}
			}
			return errors.Join(errs...)
		},
	}
	c.Flags().StringArrayVar(&locations, "location", nil, "`URL` to read instead of those in the configuration; may be repeated")
	c.Flags().BoolVar(&clusters, "all-clusters", false, "also backups of other clusters stored there")
	a.outputFlag(c)
	return c
}

// where are the stores to look at, the key and the cluster, both empty when they
// aren't known.
func (a *app) where(ctx context.Context, config string, locations []string) ([]backup.Store, backup.Key, string, error) {
	c, dir, err := a.configured(ctx, config)
	if err != nil && len(locations) == 0 {
		return nil, nil, "", err
	}
	if err != nil {
		if config != "" {
			return nil, nil, "", err
		}
		c = &backup.Config{}
	}
	if len(locations) > 0 {
		c.Locations = locations
	}
	stores, err := c.Stores()
	if err != nil {
		return nil, nil, "", err
	}
	cluster := ""
	if b, err := steps.ReadBackups(dir); err == nil && b != nil && len(locations) == 0 {
		cluster = b.Cluster
	}
	return stores, c.Key, cluster, nil
}

func (a *app) backupStatus(config *string) *cobra.Command {
	c := &cobra.Command{
		Use:   "status",
		Short: "Show what is stored where, how old the last good backup is, what failed since",
		Long: `Show what is stored where, how old the last good backup is, what failed since.

The exit status is 1 when something is wrong: a location that can't be read, a
last good backup older than twice the schedule, a failure since, a record that
was altered or whose file is gone, a timer that no longer fits the
configuration.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, stop := interruptible(c.Context())
			defer stop()
			conf, dir, err := a.configured(ctx, *config)
			if err != nil {
				return err
			}
			stores, err := conf.Stores()
			if err != nil {
				return err
			}
			b, err := steps.ReadBackups(dir)
			if err != nil {
				return err
			}
			cluster := ""
			if b != nil {
				cluster = b.Cluster
			}
			a.saying("reading the records")
			drills, err := steps.ReadDrills(dir)
			if err != nil {
				return err
			}
			st := backup.Find(ctx, stores, conf.Key, cluster).Report(conf, stores, b, drills, a.unitDir(), time.Now())
			a.saying("")
			if a.output == "json" {
				err = trust.JSON(a.out).Encode(print.BackupStatusLine{Head: head("backup-status"), Status: st})
			} else {
				err = print.BackupStatus(a.out, st, time.Now())
			}
			if err == nil && !st.OK {
				err = exit(1)
			}
			return err
		},
	}
	a.outputFlag(c)
	return c
}

func (a *app) backupPrune(config *string) *cobra.Command {
	var dry bool
	c := &cobra.Command{
		Use:   "prune",
		Short: "Remove expired backups",
		Long: `Remove expired backups.

A backup does this by itself after it succeeded in every location. Only backups
with a record of this cluster, authenticated with its key, are removed; never
the newest good one, and never one dated in the future.` + backupStatuses,
		Example: "  etcd-rewind backup prune --dry-run",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, stop := interruptible(c.Context())
			defer stop()
			conf, dir, err := a.configured(ctx, *config)
			if err != nil {
				return err
			}
			a.saying("reading the records")
			all, err := backup.Prune(ctx, conf, dir, dry, time.Now())
			a.saying("")
			if err != nil {
				return err
			}
			ok := true
			for _, p := range all {
				ok = ok && p.Failed == nil
				if a.output == "json" {
					if err := trust.JSON(a.out).Encode(print.PrunedLine{Head: head("backup-prune"), DryRun: dry, Pruned: p}); err != nil {
						return err
					}
				}
			}
			if a.output != "json" {
				err = print.Pruned(a.out, all, dry)
			}
			if err == nil && !ok {
				err = exit(1)
			}
			return err
		},
	}
	c.Flags().BoolVar(&dry, "dry-run", false, "only show what would be removed")
	a.outputFlag(c)
	return c
}
