package backup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"etcd-rewind/defect"
	"etcd-rewind/problem"
	"etcd-rewind/snapshot"
)

// Entry is one backup in one store, as its record describes it.
type Entry struct {
	Store Store
	Name  string // of the record
	Round Round
	Node  string
	// Record is nil when it can't be believed, as Err says: it may have been
	// altered, or be of another program.
	Record *Record
	// Err is nil for a backup that is whole, as far as names and sizes show.
	Err *problem.Problem
	// Gone says that its file isn't there: there is nothing left to keep.
	Gone bool
}

// Snapshot is the backup as a source of snapshots; only of one with a record.
func (e *Entry) Snapshot() snapshot.Source { return Snapshot(e.Store, e.Record.SnapshotName()) }

// Listing is what there is in one store.
type Listing struct {
	Store   Store
	Entries []Entry // the newest first
	// Unread counts older records beyond what is read: maxRecords.
	Unread int
}

// Limits of a listing: at one round an hour 5000 rounds are half a year.
const (
	maxRecords     = 5000
	recordsAtOnce  = 8
	recordsTimeout = time.Minute // without any answer
)

// Records lists the backups in a store, those of one cluster, or of all when
// cluster is "". Records are authenticated with the key; when that is nil,
// they are only well-formed, and nobody knows who wrote them. What isn't a
// backup of this program is left out; what pretends to be one is an Entry with
// an error. Nothing but records is read. The error is a *problem.Problem.
func Records(ctx context.Context, s Store, k Key, cluster string) (*Listing, error) {
	l, err := records(ctx, s, k, cluster)
	if err != nil {
		if p := problem.Of(err); p != nil {
			return nil, p.About(s.Location())
		}
		return nil, problem.From(fmt.Errorf("%s: %w", s.Location(), err))
	}
	return l, nil
}

func records(ctx context.Context, s Store, k Key, cluster string) (*Listing, error) {
	prefix := ""
	if cluster != "" {
		if !uid.MatchString(cluster) {
			return nil, fmt.Errorf("%.50q is no cluster's UID", cluster)
		}
		prefix = cluster + "/"
	}
	objects, err := list(ctx, s, prefix)
	if err != nil {
		return nil, err
	}
	return among(ctx, s, k, objects)
}

// list has the objects below a prefix; what else a store names isn't asked for.
func list(ctx context.Context, s Store, prefix string) (objects []Object, err error) {
	err = patient(ctx, recordsTimeout, func(ctx context.Context, _ func()) error {
		objects, err = s.List(ctx, prefix)
		return err
	})
	return slices.DeleteFunc(objects, func(o Object) bool { return !strings.HasPrefix(o.Name, prefix) }), err
}

// among reads the records among the objects of a store.
func among(ctx context.Context, s Store, k Key, objects []Object) (*Listing, error) {
	l := &Listing{Store: s}
	l.Entries, l.Unread = newest(s, objects)
	err := patient(ctx, recordsTimeout, func(ctx context.Context, alive func()) error {
		return l.read(ctx, k, alive)
	})
	if err != nil {
		return nil, err
	}
	sizes := map[string]int64{}
	for _, e := range l.Entries {
		if e.Record != nil {
			sizes[e.Record.SnapshotName()], sizes[e.Record.SecretsName()] = -1, -1
		}
	}
	for _, o := range objects {
		if _, asked := sizes[o.Name]; asked {
			sizes[o.Name] = o.Size
		}
	}
	for i := range l.Entries {
		l.Entries[i].held(sizes)
	}
	return l, nil
}

// newest are the records among objects, as far as names show, the newest first,
// and how many more there are. Names are sorted before they are looked at: there
// may be a million.
func newest(s Store, objects []Object) (entries []Entry, more int) {
	type named struct{ round, name string }
	var all []named
	for _, o := range objects {
		if strings.HasSuffix(o.Name, recordSuffix) {
			_, rest, _ := strings.Cut(o.Name, "/")
			round, _, _ := strings.Cut(rest, "/")
			all = append(all, named{round, o.Name})
		}
	}
	slices.SortFunc(all, func(a, b named) int {
		return cmp.Or(strings.Compare(b.round, a.round), strings.Compare(a.name, b.name)) // as a text a round sorts like its time
	})
	for i, n := range all {
		if len(entries) == maxRecords {
			return entries, len(all) - i
		}
		if round, node, ok := splitRecord(n.name); ok {
			entries = append(entries, Entry{Store: s, Name: n.name, Round: round, Node: node})
		}
	}
	return entries, 0
}

// splitRecord takes the name of a record apart.
func splitRecord(name string) (Round, string, bool) {
	dir, file := path.Split(name)
	cluster, at, ok := strings.Cut(strings.TrimSuffix(dir, "/"), "/")
	node, isRecord := strings.CutSuffix(file, recordSuffix)
	if !ok || !isRecord || !uid.MatchString(cluster) || !nodeName.MatchString(node) {
		return Round{}, "", false
	}
	round, err := ParseRound(at)
	return round, node, err == nil
}

// read reads all records, a few at a time. A record that can't be believed is
// the entry's error; a store that doesn't answer is the listing's.
func (l *Listing) read(ctx context.Context, k Key, alive func()) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var all sync.WaitGroup
	next := make(chan int)
	for range min(recordsAtOnce, len(l.Entries)) {
		all.Go(defect.Do(func() {
			for i := range next {
				if err := l.Entries[i].read(ctx, k); err != nil {
					cancel(err)
				}
				alive()
			}
		}))
	}
	for i := range l.Entries {
		select {
		case next <- i:
			continue
		case <-ctx.Done():
		}
		break
	}
	close(next)
	all.Wait()
	return context.Cause(ctx)
}

func (e *Entry) read(ctx context.Context, k Key) error {
	r, err := e.Store.Get(ctx, e.Name)
	if errors.Is(err, fs.ErrNotExist) { // pruned meanwhile
		e.Gone, e.Err = true, problem.New("", "it was removed meanwhile")
		return nil
	}
	if err != nil {
		return err
	}
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(r, maxRecord+1))
	if err != nil {
		return err
	}
	if len(data) > maxRecord {
		err = errors.New("it is no record of a backup: it is too long")
	} else {
		e.Record, err = openRecord(e.Name, data, k)
	}
	if err != nil {
		hint := "who can write there? Don't restore from it before you know"
		if errors.Is(err, errLater) {
			hint = "use that version"
		}
		e.Err = problem.New(hint, "the record can't be believed: %w", err)
	}
	return nil
}

// held holds a record against what lies beside it.
func (e *Entry) held(sizes map[string]int64) {
	if e.Record == nil {
		return
	}
	files := []*File{&e.Record.File}
	names := []string{e.Record.SnapshotName()}
	if e.Record.Secrets != nil {
		files, names = append(files, e.Record.Secrets), append(names, e.Record.SecretsName())
	}
	for i, f := range files {
		switch got := sizes[names[i]]; {
		case got == f.Size:
		case got < 0:
			e.Gone = e.Gone || i == 0
			e.Err = problem.New("", "%s isn't there any more", f.Name)
		default:
			e.Err = problem.New("who can write there? Don't restore from it before you know", "%s isn't the file that was stored: it has %d bytes, not %d", f.Name, got, f.Size)
		}
		if e.Err != nil {
			return
		}
	}
}

func sortStored(all []Stored) {
	slices.SortStableFunc(all, func(a, b Stored) int {
		return cmp.Or(b.Round.Compare(a.Round.Time), strings.Compare(a.Cluster, b.Cluster), strings.Compare(a.Node, b.Node))
	})
}
