package backup

import (
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"
)

// An upload that was killed leaves what no listing shows: a hidden file, or the
// parts of a multipart upload, which cost. Nobody goes on with one. What this node
// began is dead when its next backup runs, for it takes one at a time; of what
// another began nobody here knows whether it still goes on, so it has to be old, by
// the store's clock.

// Unfinished is an upload that goes on, or never will.
type Unfinished struct {
	// Name is that of the object; it ends with a slash where only its directory is
	// known.
	Name string
	// Age is the time since something came, where the store says that, else since
	// it began; by the store's own clock.
	Age time.Duration
}

// unfinishedFor is when whoever began an upload is gone: the timer's service ends
// after 6 hours.
const unfinishedFor = 72 * time.Hour

// claimingFor is the same for a claim, which is given up after a minute.
const claimingFor = 10 * time.Minute

// aside is where a file lies until it is whole: hidden, beside its name.
func aside(name string) string {
	return path.Join(path.Dir(name), ".etcd-rewind-"+path.Base(name)+"."+rand.Text()+".part")
}

var asideName = regexp.MustCompile(`^\.etcd-rewind-(?:([A-Za-z0-9._-]+)\.)?[A-Z0-9]+\.part$`)

// unfinishedIn says which object a file in a directory would have become.
func unfinishedIn(dir, file string) (name string, is bool) {
	m := asideName.FindStringSubmatch(file)
	if m == nil {
		return "", false
	}
	if dir == "." {
		return m[1], true
	}
	return dir + "/" + m[1], true
}

// keeper is how a store of files throws them away. Its removals remove the
// directories, too, that come to be empty.
type keeper struct {
	clock       func(dir string) (time.Time, error) // of whoever keeps the files
	remove      func(name string) error
	removeEmpty func(dir string) error
}

// deadUploads throws away what a walk through a store of files shows of uploads that
// are dead, and the directories of rounds that are empty: they have a nil entry.
func deadUploads(prefix string, dead func(Unfinished) bool, k keeper) func(dir string, e fs.DirEntry) error {
	var now time.Time
	return func(dir string, e fs.DirEntry) error {
		switch {
		case e != nil:
		case isRoundDir(dir):
			return k.removeEmpty(dir)
		default:
			return nil
		}
		name, is := unfinishedIn(dir, e.Name())
		if !is || !e.Type().IsRegular() || !strings.HasPrefix(name, prefix) {
			return nil
		}
		st, err := e.Info()
		if err == nil && now.IsZero() {
			now, err = k.clock(dir)
		}
		if err == nil && dead(Unfinished{name, now.Sub(st.ModTime())}) {
			err = k.remove(path.Join(dir, e.Name()))
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // whole meanwhile, or thrown away
		}
		return err
	}
}

// wholeFiles passes on what a walk through a store of files shows that is whole, and
// this program's by its name.
func wholeFiles(prefix string, f func(Object) error) func(dir string, e fs.DirEntry) error {
	return func(dir string, e fs.DirEntry) error {
		if e == nil {
			return nil
		}
		name := path.Join(dir, e.Name())
		if CheckName(name) != nil || !e.Type().IsRegular() || !strings.HasPrefix(name, prefix) {
			return nil
		}
		st, err := e.Info()
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case st.Size() < 0: // the other host may say anything
			return nil
		}
		return f(Object{name, st.Size(), st.ModTime()})
	}
}

// sweep throws away what any node has left long ago in a store, of one cluster.
func sweep(ctx context.Context, s Store, cluster string) error {
	return patient(ctx, idle, func(ctx context.Context, _ func()) error {
		return s.Sweep(ctx, cluster+"/", func(u Unfinished) bool { return u.Age > unfinishedFor && isOurs(u.Name) })
	})
}

// sweepOwn throws away what this node has left of some files, of which it uploads
// none now, and says whether there is no more of them: none that is younger than
// age, by which another node's is left alone, and none that can't be thrown away.
func sweepOwn(ctx context.Context, s Store, prefix string, names []string, age time.Duration) (clean bool) {
	young := false
	err := patient(ctx, idle, func(ctx context.Context, _ func()) error {
		return s.Sweep(ctx, prefix, func(u Unfinished) bool {
			switch {
			case !slices.Contains(names, u.Name):
				return false
			case age > 0 && u.Age < age:
				young = true
				return false
			}
			return true
		})
	})
	return err == nil && !young
}

// isOurs says whether a name is one of those that this program gives, or may be:
// then only its directory is known.
func isOurs(name string) bool {
	dir, file := path.Split(name)
	if !isRoundDir(strings.TrimSuffix(dir, "/")) {
		return false
	}
	if file == "" || file == clockName || strings.HasPrefix(file, claimPrefix) {
		return true
	}
	return slices.ContainsFunc([]string{snapshotSuffix, secretsSuffix, recordSuffix}, func(suffix string) bool {
		node, is := strings.CutSuffix(file, suffix)
		return is && nodeName.MatchString(node)
	})
}

// isRoundDir says whether a directory is that of a round.
func isRoundDir(dir string) bool {
	cluster, at, _ := strings.Cut(dir, "/")
	_, err := ParseRound(at)
	return err == nil && uid.MatchString(cluster)
}

// clockName is that of an empty file by which a store's clock is read.
const clockName = "clock"
