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
			return nil, fmt.Errorf("%.50q is not the UID of a cluster", cluster)
		}
		prefix = cluster + "/"
	}
	v, err := takeInventory(ctx, s, prefix)
	if err != nil {
		return nil, err
	}
	return v.read(ctx, s, k)
}

// read reads the records among the objects of a store.
func (v *inventory) read(ctx context.Context, s Store, k Key) (*Listing, error) {
	l := &Listing{Store: s, claims: v.claims()}
	l.Entries, l.Unread = v.records(s)
	left := newBudget(maxRecordBytes)
	err := patient(ctx, recordsTimeout, func(ctx context.Context, alive func()) error {
		return among(ctx, l.Entries, func(ctx context.Context, e *Entry) error {
			defer alive()
			n, err := e.read(ctx, k)
			if e.Record != nil && left.Add(-int64(n)) < 0 {
				e.Record, e.Err = nil, problem.New("who can write there?", "the record isn't read: the records there have more than %d MB together", maxRecordBytes>>20)
			}
			return err
		})
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
	for _, o := range v.objects {
		if _, asked := sizes[o.Name]; asked {
			sizes[o.Name] = o.Size
		}
	}
	for i := range l.Entries {
		l.Entries[i].held(sizes)
	}
	return l, nil
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
		switch got := sizes[names[i]]; {
		case got == f.Size:
		case got < 0:
			e.Gone = e.Gone || i == 0
			e.Err = problem.New("", "%s isn't there any more", f.Name)
		default:
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
