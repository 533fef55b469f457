package steps

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"etcd-rewind/node"
	"etcd-rewind/problem"
	"etcd-rewind/snapshot"
	"etcd-rewind/trust"
)

// OlderData is a data directory beside etcd's that holds a cluster which was
// written to before the one that etcd serves was made: a typo in a hostPath
// makes kubelet create an empty directory, and etcd a blank cluster in it.
type OlderData struct {
	Dir      string
	Revision int64
	Keys     int
	Written  time.Time // the newest time in it, else of its file
}

// Limits of the search: it is made at each discovery, and must be quick where
// nothing is wrong.
const (
	maxBeside   = 500 // entries of a directory that are looked at
	maxOlder    = 8   // data directories that are read
	olderLimit  = 20 * time.Second
	clusterSoon = time.Minute // file times and objects' times differ a little
)

// blankSince is when the cluster was made that etcd serves, as far as it could
// be a blank one; zero when it isn't known.
func (f *Facts) blankSince(ctx context.Context) (uid string, since time.Time) {
	if f.Live == nil {
		if _, err := os.Stat(filepath.Join(f.Etcd.DataDir.Path, dbFile)); os.IsNotExist(err) {
			return "", f.Time // nothing is there at all
		}
		return "", time.Time{}
	}
	if f.Live.Denied != nil || f.API == nil {
		return "", time.Time{}
	}
	c, err := snapshot.AskCluster(ctx, f.SnapshotEtcd(), strings.TrimSuffix(f.API.EtcdPrefix, "/"))
	switch {
	case err != nil:
		return "", time.Time{}
	case c.None:
		return "", f.Time
	}
	return c.KubeSystemUID, c.Created
}

var dbFile = filepath.Join("member", "snap", "db")

// askOlder looks for older data. A cluster that was restored is as old as ever:
// its namespace kube-system was made long before, so nothing is read then.
func (f *Facts) askOlder(ctx context.Context) {
	if f.Etcd == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, olderLimit)
	defer cancel()
	uid, since := f.blankSince(ctx)
	if since.IsZero() {
		return
	}
	f.BlankSince = since
	f.Older = f.findOlder(ctx, uid, since)
}

func (f *Facts) findOlder(ctx context.Context, uid string, since time.Time) []OlderData {
	var found []OlderData
	read := 0
	for _, dir := range f.besideData() {
		db := filepath.Join(dir, dbFile)
		info, err := os.Lstat(db)
		if err != nil || !info.Mode().IsRegular() || info.ModTime().After(since.Add(clusterSoon)) || !f.ownedLikeData(dir) {
			continue
		}
		if read++; read > maxOlder || ctx.Err() != nil {
			break
		}
		held, err := snapshot.Inspect(ctx, db, nil)
		if err != nil || held.KubeSystemUID == "" || held.KubeSystemUID == uid {
			continue
		}
		o := OlderData{Dir: dir, Revision: held.Revision, Keys: held.Keys, Written: held.LastWrite}
		if o.Written.IsZero() {
			o.Written = info.ModTime()
		}
		if !o.Written.After(since.Add(clusterSoon)) {
			found = append(found, o)
		}
	}
	slices.SortStableFunc(found, func(a, b OlderData) int { return b.Written.Compare(a.Written) })
	return found
}

// besideData are the directories in which etcd's data may lie as well: what
// --data-dir usually is on the node, what kubeadm knows, what earlier runs made,
// and the siblings of the hostPath, outside and inside.
func (f *Facts) besideData() []string {
	own := filepath.Clean(f.Etcd.DataDir.HostPath)
	var dirs []string
	if !f.Own {
		dirs = append(dirs, f.Etcd.DataDir.Flag, f.Kubeadm.DataDir)
	}
	if runs, err := Runs(f.StateDir); err == nil {
		for _, r := range runs {
			dirs = append(dirs, r.DataDir)
		}
	}
	for _, parent := range []string{filepath.Dir(own), own} {
		for _, name := range namesIn(parent) {
			dirs = append(dirs, filepath.Join(parent, name))
		}
	}
	taken := map[string]bool{"": true, unlinked(f.Etcd.DataDir.Path): true, unlinked(own): true}
	for _, o := range f.OtherEtcds {
		taken[unlinked(o.DataDir.Path)] = true
	}
	var out []string
	for _, d := range dirs {
		if d == "" || !filepath.IsAbs(d) || taken[unlinked(d)] {
			continue
		}
		taken[unlinked(d)] = true
		out = append(out, filepath.Clean(d))
	}
	return out
}

func namesIn(dir string) []string {
	d, err := os.Open(dir)
	if err != nil {
		return nil
	}
	defer d.Close()
	names, _ := d.Readdirnames(maxBeside)
	slices.Sort(names)
	return names
}

// unlinked is a path without links, the path itself where that can't be had.
func unlinked(path string) string {
	if p, err := filepath.EvalSymlinks(path); err == nil {
		return p
	}
	return filepath.Clean(path)
}

// ownedLikeData says whether a directory belongs to root or to the owner of etcd's
// data: nobody else may offer one.
func (f *Facts) ownedLikeData(dir string) bool {
	uid, _, mode, _, err := node.Owner(dir)
	if err != nil || mode&0o022 != 0 {
		return false
	}
	mine, _, _, _, err := node.Owner(f.Etcd.DataDir.Path)
	return uid == 0 || uid == os.Geteuid() || err == nil && uid == mine
}

// older is the check for a blank etcd. (Row 9.)
func (k *checks) older() Verdict {
	f := k.f
	if k.c.InPlace {
		return ok("etcd is to be pointed at %s", k.c.DataDir)
	}
	if len(f.Older) == 0 {
		if f.BlankSince.IsZero() {
			return none
		}
		return ok("no other cluster's beside %s", f.Etcd.DataDir.HostPath)
	}
	o := f.Older[0]
	now := "holds nothing"
	if f.Live != nil {
		now = fmt.Sprintf("serves a blank cluster, made on %s, at revision %d", Moment(f.BlankSince), f.Live.Revision)
	}
	return warn("a restore loses more than needed; to point etcd there, with nothing lost: "+Command("repoint", o.Dir, f.Flags),
		"etcd on %s %s; older data of another cluster, %d keys at revision %d, written until %s, is in %s", f.Etcd.DataDir.HostPath, now,
		o.Keys, o.Revision, Moment(o.Written), trust.Text(o.Dir))
}

// inPlace is the check of a directory that etcd is to be pointed at.
func (k *checks) inPlace() Verdict {
	dir := k.c.DataDir
	if k.f.Etcd.WALDir != nil {
		return bad("change both volumes of "+k.f.Etcd.Source.Name()+" by hand", "etcd has a separate --wal-dir: the WAL of that data can't be found")
	}
	at := k.f.Etcd.DataDir.Under(dir)
	switch {
	case !filepath.IsAbs(dir):
		return bad("name it by its absolute path", "%s is not an absolute path", dir)
	case unlinked(at) == unlinked(k.f.Etcd.DataDir.Path):
		return bad("", "%s is where etcd's data is already", dir)
	case !thereIs(at):
		return bad("name the directory that has member in it", "%s is not there", at)
	case !k.f.ownedLikeData(at):
		return bad(trust.Shell("chown -R root: %[1]s && chmod 700 %[1]s", at)+", once you know what is in it",
			"%s doesn't belong to root or to the owner of etcd's data, or can be written to by others", at)
	}
	if _, err := os.Lstat(filepath.Join(at, dbFile)); err != nil {
		return bad("name the directory that has member in it", "%s holds no etcd data: %s", at, err)
	}
	return ok("%s, as it is", dir)
}

func thereIs(path string) bool {
	_, err := os.Lstat(path)
	return !os.IsNotExist(err)
}

// InPlace are the choices with which etcd is pointed at a data directory, and
// the database in it, which is read as a snapshot is.
func (f *Facts) InPlace(dataDir string, c Choices) (choices Choices, database string, err error) {
	if f.Etcd == nil {
		return c, "", f.EtcdErr
	}
	if dataDir, err = filepath.Abs(dataDir); err != nil {
		return c, "", err
	}
	c.InPlace, c.DataDir = true, dataDir
	if inside := f.Etcd.DataDir.Inside; inside != "" {
		host, ok := strings.CutSuffix(dataDir, "/"+inside)
		if !ok {
			return c, "", problem.New("restore the database in it instead", "etcd's data is in %s below the hostPath, and %s doesn't end with it", inside, dataDir)
		}
		c.DataDir = host
	}
	return c, filepath.Join(dataDir, dbFile), nil
}
