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
	// Unread counts older records that weren't read.
	Unread int

	claims []Object
}

// maxRecordBytes is for all records of a listing together; those of this program
// have 2 kB each.
var maxRecordBytes int64 = 64 << 20

// Clusters is how many clusters' backups there are.
func (l *Listing) Clusters() int {
	all := map[string]bool{}
	for _, e := range l.Entries {
		if e.Record != nil {
			all[e.Record.Cluster.KubeSystemUID] = true
		}
	}
	return len(all)
}

// Limits of a listing: at one round an hour 5000 rounds are half a year.
const (
	maxRecords     = 5000
	recordsAtOnce  = 8
	recordsTimeout = time.Minute // without any answer
	recordLimit    = 30 * time.Second
)

// Records lists the backups in a store, those of one cluster, or of all when
// cluster is "". Records are authenticated with the key; when that is nil,
// they are only well-formed, and nobody knows who wrote them. What isn't a
// backup of this program is left out; what pretends to be one is an Entry with
// an error. Nothing but records is read. The error is a *problem.Problem.
func Records(ctx context.Context, s Store, k Key, cluster string) (*Listing, error) {
	l, err := records(ctx, s, k, cluster, reading{})
	if err != nil {
		return nil, aboutStore(s, err)
	}
	return l, nil
}

// aboutStore is an error of a store, as a *problem.Problem.
func aboutStore(s Store, err error) error {
	if p := problem.Of(err); p != nil {
		return p.About(s.Location())
	}
	return problem.From(fmt.Errorf("%s: %w", s.Location(), err))
}

// reading is how records are read, the newest first.
type reading struct {
	enough   int // good ones of a cluster, the others are left unread; 0 for all
	progress func(Progress)
}

// Progress is how far the listing of a store is.
type Progress struct {
	Names   int // that it has listed so far, before any record is read
	Records int // of Total, that have been read
	Total   int
}

func (r reading) tell(p Progress) {
	if r.progress != nil {
		r.progress(p)
	}
}

const (
	namesAPage   = 1000
	recordsAPage = 8 * recordsAtOnce // are read before it is known whether there are enough
)

// records is Records, and with an error has what was read before.
func records(ctx context.Context, s Store, k Key, cluster string, how reading) (*Listing, error) {
	prefix := ""
	if cluster != "" {
		if !uid.MatchString(cluster) {
			return nil, fmt.Errorf("%.50q is not the UID of a cluster", cluster)
		}
		prefix = cluster + "/"
	}
	v, err := takeInventory(ctx, s, prefix, how)
	if err != nil {
		return nil, err
	}
	return v.read(ctx, s, k, how)
}

// read reads the records among the objects of a store. With an error it has those
// that were read before.
func (v *inventory) read(ctx context.Context, s Store, k Key, how reading) (*Listing, error) {
	l := &Listing{Store: s, claims: v.claims()}
	all, more := v.records(s)
	sizes := v.sizes()
	left := newBudget(maxRecordBytes)
	good := map[string]int{} // by cluster
	enough := func(e *Entry) bool { return how.enough > 0 && good[e.cluster()] >= how.enough }
	late := time.Now().Add(farAhead)
	some := recordsAPage
	if how.enough == 0 {
		some = max(len(all), 1)
	}
	for at := 0; at < len(all); at += some {
		page := slices.DeleteFunc(slices.Clone(all[at:min(at+some, len(all))]), func(e Entry) bool { return enough(&e) })
		err := patient(ctx, recordsTimeout, func(ctx context.Context, alive func()) error {
			return among(ctx, page, func(ctx context.Context, e *Entry) error {
				defer alive()
				n, err := e.read(ctx, k)
				if e.Record != nil && left.Add(-int64(n)) < 0 {
					e.Record, e.Err = nil, problem.New("who can write there?", "the record isn't read: the records there have more than %d MB together", maxRecordBytes>>20)
				}
				return err
			})
		})
		if err != nil {
			l.Unread = more + len(all) - len(l.Entries)
			return l, err
		}
		for i := range page {
			e := &page[i]
			e.held(sizes)
			if e.Err == nil && e.Round.Before(late) {
				good[e.cluster()]++
			}
		}
		l.Entries = append(l.Entries, page...)
		how.tell(Progress{Records: len(l.Entries), Total: len(all)})
	}
	l.Unread = more + len(all) - len(l.Entries)
	return l, nil
}

// cluster is the UID in the record's name.
func (e *Entry) cluster() string { return e.Name[:strings.IndexByte(e.Name, '/')] }

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

// among does something with all entries, a few at a time, and ends with the first
// error.
func among(ctx context.Context, entries []Entry, do func(context.Context, *Entry) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var all sync.WaitGroup
	next := make(chan *Entry)
	for range min(recordsAtOnce, len(entries)) {
		all.Go(defect.Do(func() {
			for e := range next {
				if err := do(ctx, e); err != nil {
					cancel(err)
				}
			}
		}))
	}
	for i := range entries {
		select {
		case next <- &entries[i]:
			continue
		case <-ctx.Done():
		}
		break
	}
	close(next)
	all.Wait()
	return context.Cause(ctx)
}

// read reads the entry's record, and says how many bytes it has. One that can't be
// believed is the entry's error; a store that doesn't answer is this one's.
func (e *Entry) read(ctx context.Context, k Key) (int, error) {
	// Some 2 kB: a store that sends them byte by byte is worse than one that sends nothing.
	ctx, cancel := context.WithTimeoutCause(ctx, recordLimit, problem.New("check the network and the store", "it took longer than %s for one record", recordLimit))
	defer cancel()
	data, err := e.fetch(ctx)
	if errors.Is(err, fs.ErrNotExist) { // pruned meanwhile
		e.Gone, e.Err = true, problem.New("", "it was removed meanwhile")
		return 0, nil
	}
	if err != nil && ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	if err != nil {
		return 0, err
	}
	if len(data) > maxRecord {
		err = errors.New("it is not the record of a backup: it is too long")
	} else {
		e.Record, err = openRecord(e.Name, data, k)
	}
	if err != nil {
		hint := "find out who can write there, and don't restore from it until you know"
		switch {
		case errors.Is(err, errLater):
			hint = "use that version"
		case errors.Is(err, errNotAuthentic):
			hint = formerKey
		}
		e.Err = problem.New(hint, "the record can't be trusted: %w", err)
	}
	return len(data), nil
}

func (e *Entry) fetch(ctx context.Context) ([]byte, error) {
	r, err := e.Store.Get(ctx, e.Name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(io.LimitReader(r, maxRecord+1))
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
		got, there := sizes[names[i]]
		switch {
		case !there:
			e.Gone = e.Gone || i == 0
			e.Err = problem.New("", "%s isn't there any more", f.Name)
		case got != f.Size:
			e.Err = problem.New("find out who can write there, and don't restore from it until you know", "%s isn't the file that was stored: it has %d bytes, not %d", f.Name, got, f.Size)
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
