package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"strings"

	"golang.org/x/term"

	"etcd-rewind/backup"
	"etcd-rewind/defect"
	"etcd-rewind/problem"
	"etcd-rewind/snapshot"
	"etcd-rewind/steps"
	"etcd-rewind/trust"
)

// elsewhere finds a snapshot that lies where backups do: its URL, or the newest
// of this cluster.
func (a *app) elsewhere(ctx context.Context, f *steps.Facts, name string) (src snapshot.Source, is bool, err error) {
	switch {
	case name == backup.Latest:
		src, err = a.latest(ctx, f)
		return src, true, err
	case backup.IsURL(name):
		key, err := a.backupKey()
		if err == nil {
			src, err = backup.Source(ctx, name, key, clusterOf(f))
		}
		return src, true, err
	}
	return src, false, nil
}

// latest is the newest good backup of this cluster in all locations of the
// configuration.
func (a *app) latest(ctx context.Context, f *steps.Facts) (snapshot.Source, error) {
	c, err := a.backups()
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return snapshot.Source{}, problem.New("name the place: LOCATION/latest, as in s3://BUCKET/PREFIX/latest?endpoint=…, or the file itself", "there is no %s, which has the locations of backups", a.backupConfig)
		}
		return snapshot.Source{}, err
	}
	places, err := c.Places(clusterOf(f))
	if err != nil {
		return snapshot.Source{}, err
	}
	places.Last = a.lastCluster(ctx)
	a.saying("asking " + places.Where() + " for the latest backup")
	defer a.saying("")
	places.Progress = func(s backup.Store, p backup.Progress) { a.saying(s.Location() + ": " + howFar(p)) }
	src, unread, err := places.Latest(ctx)
	for _, u := range unread {
		if err == nil && a.output != "json" {
			_, _ = fmt.Fprintln(a.err, "warning: there may be a later backup than this:", trust.Text(problem.Line(u)))
		}
	}
	return src, err
}

// howFar says how far the listing of a place is.
func howFar(p backup.Progress) string {
	if p.Total > 0 {
		return fmt.Sprintf("%d of %d records read", p.Records, p.Total)
	}
	return fmt.Sprintf("%d files listed", p.Names)
}

// lastCluster is the UID of the cluster that this node took its last backup of, ""
// when that isn't known.
func (a *app) lastCluster(ctx context.Context) string {
	dir, err := steps.BackupDir(ctx, a.session.Options)
	if err != nil {
		return ""
	}
	b, err := steps.ReadBackups(dir)
	if err != nil || b == nil {
		return ""
	}
	return b.Cluster
}

// offeredAtMost is how many backups of one place the wizard's list has.
const offeredAtMost = 100

// offered reports the backups in all locations of the configuration, by their
// records; each backup once, and a location that can't be read as what it is. It
// says meanwhile how far it is.
func (a *app) offered(ctx context.Context, f *steps.Facts, tell func([]snapshot.Candidate), say func(string)) {
	c, err := a.backups()
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var places *backup.Places
	if err == nil {
		places, err = c.Places(clusterOf(f))
	}
	if err != nil {
		tell([]snapshot.Candidate{{Path: a.backupConfig, From: "the configuration of the backups", Err: problem.From(err)}})
		return
	}
	places.Progress = func(_ backup.Store, p backup.Progress) { say(howFar(p)) }
	seen := map[string]bool{} // by the record's name
	places.Look(ctx, func(s backup.Store, l *backup.Listing, err error) {
		at := s.Location()
		if err != nil {
			p := problem.From(err)
			p.Cause = strings.TrimPrefix(p.Cause, at+": ") // its row says where
			tell([]snapshot.Candidate{{Path: at, From: at, Err: p}})
		}
		if l == nil {
			return
		}
		var list []snapshot.Candidate
		clusters := l.Clusters()
		for _, e := range l.Entries {
			if len(list) == offeredAtMost {
				break
			}
			if seen[e.Name] || e.Gone {
				continue
			}
			seen[e.Name] = true
			one := snapshot.Candidate{Path: backup.Snapshot(s, e.Name).Name, From: at, Format: snapshot.Age, Err: e.Err, ModTime: e.Round.Time}
			if r := e.Record; r != nil {
				one.Path, one.Size, one.ModTime = e.Source().Name, r.File.Size, r.Taken
				one.Revision, one.Keys = r.Revision, r.Keys
				if clusters > 1 { // nothing here shows which is this machine's
					one.From = at + ", of cluster " + r.Cluster.KubeSystemUID
				}
			}
			list = append(list, one)
		}
		tell(list)
	})
}

// backups is the configuration of this node's backups, fs.ErrNotExist when there
// is none. Those of a machine are none of a practice node on it.
func (a *app) backups() (*backup.Config, error) {
	if a.session.Options.Own && a.backupConfig == backup.ConfigPath {
		return nil, fs.ErrNotExist
	}
	return backup.Load(a.backupConfig)
}

// backupKey is the key that records are authenticated with; nil on a machine
// without a configuration.
func (a *app) backupKey() (backup.Key, error) {
	key, err := backup.ReadKey(backup.KeyPath(a.backupConfig))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil, nil
	}
	return key, err
}

// clusterOf is what this node knows of its cluster without its etcd.
func clusterOf(f *steps.Facts) (id backup.ClusterID) {
	if f != nil && f.API != nil {
		id.CASHA256 = backup.CASHA256(f.API.ClientCA)
	}
	return id
}

// shortName is a snapshot's name on a line that has little room.
func shortName(name string) string { return snapshot.BaseName(name) }

// asker asks for a passphrase on the terminal; nil where there is none. What is
// typed isn't shown.
func (a *app) asker() snapshot.Ask {
	tty := a.in
	if tty == nil || !term.IsTerminal(int(tty.Fd())) {
		return nil
	}
	return func(what string) (string, error) {
		a.saying("")
		fd := int(tty.Fd())
		was, err := term.GetState(fd)
		if err != nil {
			return "", err
		}
		defer func() { _ = term.Restore(fd, was) }()
		defer defect.Terminal(func() { _ = term.Restore(fd, was) })()
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
		defer stop()
		_, _ = fmt.Fprintf(a.err, "Passphrase of %s: ", trust.Text(what))
		said, err := defect.Await(ctx, func() ([]byte, error) { return term.ReadPassword(fd) })
		_, _ = fmt.Fprintln(a.err)
		if ctx.Err() != nil {
			return "", context.Canceled
		}
		return string(said), err
	}
}
