package backup

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"maps"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"etcd-rewind/defect"
	"etcd-rewind/problem"
	"etcd-rewind/snapshot"
	"etcd-rewind/trust"
)

// Latest is the name of the newest good backup of this cluster.
const Latest = "latest"

// IsURL says whether a name of a snapshot is that of one in a store, as Source
// takes it.
func IsURL(name string) bool { return strings.Contains(name, "://") }

// Places are where the backups of a cluster lie, for whoever restores it.
type Places struct {
	Stores []Store
	Key    Key // that records are authenticated with; nil when it isn't known
	// Cluster is the one that is restored. What isn't known of it is "".
	Cluster ClusterID
	// Last is the UID of the cluster that this machine took its last backup of, ""
	// when it took none: it decides between several with the same CA.
	Last string
	// Progress, when it isn't nil, hears how far a place is; by one goroutine at a
	// time.
	Progress func(Store, Progress)
}

const (
	// lookIdle is how long a store may say nothing. A slow line takes its time, and
	// lookLimit is for all of it, however lively.
	lookIdle  = 40 * time.Second
	lookLimit = 15 * time.Minute
	// lookEnough is how many good backups of a cluster are looked for, the newest
	// first: no list shows more.
	lookEnough = 100
)

// Look lists what the places have, all at once, and reports each as soon as it
// has answered, or doesn't; tell is called by one goroutine at a time. Of a place
// that stops answering there may be the newest, with the error. The error is a
// *problem.Problem.
func (p *Places) Look(ctx context.Context, tell func(s Store, l *Listing, err error)) {
	var all sync.WaitGroup
	var mu sync.Mutex
	for _, s := range p.Stores {
		all.Go(defect.Do(func() {
			how := reading{enough: lookEnough, progress: func(at Progress) {
				mu.Lock()
				defer mu.Unlock()
				if p.Progress != nil {
					p.Progress(s, at)
				}
			}}
			with, cancel := context.WithTimeoutCause(ctx, lookLimit, problem.New("check the network and the store", "its listing took longer than %s", lookLimit))
			defer cancel()
			var l *Listing
			err := patient(with, lookIdle, func(ctx context.Context, _ func()) (err error) {
				l, err = records(ctx, s, p.Key, p.Cluster.KubeSystemUID, how)
				return err
			})
			if err != nil {
				err = aboutStore(s, err)
			}
			if l != nil {
				l.Entries = slices.DeleteFunc(l.Entries, func(e Entry) bool { return !p.ours(&e) })
			}
			mu.Lock()
			defer mu.Unlock()
			tell(s, l, err)
		}))
	}
	all.Wait()
}

// ours says whether an entry may be of the cluster that is restored.
func (p *Places) ours(e *Entry) bool {
	if e.Record == nil {
		return true
	}
	is, here := e.Record.Cluster, p.Cluster
	return here.KubeSystemUID == is.KubeSystemUID || here.KubeSystemUID == "" && (here.CASHA256 == "" || is.CASHA256 == "" || here.CASHA256 == is.CASHA256)
}

// Latest is the newest good backup in the places, from the first of them that
// gives it; unread are the causes of those that don't say what they have, which
// may be newer. The error is a *problem.Problem.
func (p *Places) Latest(ctx context.Context) (src snapshot.Source, unread []error, err error) {
	clusters := map[string][]Entry{} // by UID
	suspect, foreign := 0, 0
	p.Look(ctx, func(_ Store, l *Listing, err error) {
		if err != nil {
			unread = append(unread, err)
		}
		// Half a listing shows no other cluster's, and so not which is this one's.
		if l == nil || err != nil && p.Cluster.KubeSystemUID == "" && p.Last == "" {
			return
		}
		for _, e := range l.Entries {
			if e.Record == nil || e.Err != nil {
				suspect++
				if errors.Is(e.Err, errNotAuthentic) {
					foreign++
				}
				continue
			}
			id := e.Record.Cluster.KubeSystemUID
			clusters[id] = append(clusters[id], e)
		}
	})
	if ctx.Err() != nil {
		return src, unread, context.Cause(ctx)
	}
	if own := clusters[p.Last]; len(own) > 0 {
		clusters = map[string][]Entry{p.Last: own}
	}
	if len(clusters) > 1 {
		return src, unread, p.several(clusters)
	}
	var newest []Entry
	for _, all := range clusters {
		var future *problem.Problem
		if newest, future = newestOf(all, time.Now()); future != nil {
			unread = append(unread, future)
		}
	}
	switch {
	case len(newest) > 0:
		slices.SortFunc(newest, func(a, b Entry) int { return slices.Index(p.Stores, a.Store) - slices.Index(p.Stores, b.Store) })
		src := oneOf(newest)
		src.Doubt = p.Key.doubt(newest[0].Source().Name)
		return src, unread, nil
	case len(unread) > 0:
		return src, unread[1:], unread[0]
	case foreign > 0 && foreign == suspect:
		return src, nil, problem.New(formerKey, "no backup there can be trusted: %d made with another key than the one here, or changed afterwards", foreign)
	case suspect > 0:
		return src, nil, problem.New("see etcd-rewind backup status", "there are %d backups, and none of them can be trusted", suspect)
	}
	return src, nil, problem.Coded(snapshot.CodeMissing, "check that the location is right, and that it has backups of this cluster", "there is no backup in %s", p.Where())
}

// newestOf has the newest of a cluster's backups, as often as it is stored. One
// that is far in the future, which a wrong clock has named, is left out, as future
// says, unless all are: then the wrong clock is this machine's.
func newestOf(all []Entry, now time.Time) (newest []Entry, future *problem.Problem) {
	wrong := func(e Entry) bool { return e.Record.Taken.After(now.Add(farAhead)) || e.Round.After(now.Add(farAhead)) }
	if slices.ContainsFunc(all, func(e Entry) bool { return !wrong(e) }) {
		if i := slices.IndexFunc(all, wrong); i >= 0 {
			future = problem.New("name it, if it is the one", "%s is dated in the future, %s, and is left out", all[i].Source().Name, all[i].Record.Taken.UTC().Format(time.RFC3339))
		}
		all = slices.DeleteFunc(slices.Clone(all), wrong)
	}
	for _, e := range all {
		switch {
		case len(newest) == 0 || later(e.Record, newest[0].Record):
			newest = []Entry{e}
		case e.Name == newest[0].Name:
			newest = append(newest, e)
		}
	}
	return newest, future
}

// several is the error of places that have the backups of several clusters.
func (p *Places) several(clusters map[string][]Entry) error {
	const named = 5
	newest := map[string]Entry{}
	for id, all := range clusters {
		first, _ := newestOf(all, time.Now())
		newest[id] = first[0]
	}
	ids := slices.SortedFunc(maps.Keys(newest), func(a, b string) int {
		return cmp.Or(newest[b].Record.Taken.Compare(newest[a].Record.Taken), strings.Compare(a, b))
	})
	var say []string
	for _, id := range ids[:min(len(ids), named)] {
		r := newest[id].Record
		say = append(say, fmt.Sprintf("%s (newest %s, taken by %s)", id, r.Taken.UTC().Format("2006-01-02 15:04 UTC"), r.Node))
	}
	if more := len(ids) - named; more > 0 {
		say = append(say, fmt.Sprintf("and %d more", more))
	}
	return problem.New("name the cluster: "+below(newest[ids[0]].Store, ids[0]+"/"+Latest),
		"backups of %d clusters are stored there, and nothing on this machine shows which is its own: %s", len(ids), strings.Join(say, ", "))
}

// Where names the places.
func (p *Places) Where() string {
	var all []string
	for _, s := range p.Stores {
		all = append(all, s.Location())
	}
	return strings.Join(all, ", ")
}

func later(a, b *Record) bool {
	if c := a.Round.Compare(b.Round.Time); c != 0 {
		return c > 0
	}
	if c := a.Taken.Compare(b.Taken); c != 0 {
		return c > 0
	}
	return a.Node < b.Node
}

// oneOf is the same backup in several stores: what can't be opened in one is
// looked for in the next.
func oneOf(same []Entry) snapshot.Source {
	src := same[0].Source()
	src.Open = func(ctx context.Context) (*snapshot.Stored, error) {
		var errs []error
		for _, e := range same {
			st, err := e.Source().Open(ctx)
			if err == nil || ctx.Err() != nil {
				return st, err
			}
			errs = append(errs, err)
		}
		return nil, errs[0]
	}
	return src
}

// Source is the backup as a source of snapshots, which gives nothing but what the
// record says was stored; only of one with a record.
func (e *Entry) Source() snapshot.Source {
	src := Snapshot(e.Store, e.Record.SnapshotName())
	return held(src, &e.Record.File)
}

// held is a source whose bytes have to be those that were stored.
func held(src snapshot.Source, f *File) snapshot.Source {
	open := src.Open
	src.Open = func(ctx context.Context) (*snapshot.Stored, error) {
		st, err := open(ctx)
		if err != nil {
			return nil, err
		}
		st.Path = "" // all bytes have to be read, to the end
		h := &heldReader{ReadCloser: st.ReadCloser, sum: sha256.New(), want: f}
		if st.Size != f.Size {
			_ = st.Close()
			return nil, h.another()
		}
		st.ReadCloser = h
		return st, nil
	}
	return src
}

type heldReader struct {
	io.ReadCloser
	sum  hash.Hash
	want *File
	n    int64
}

func (h *heldReader) Read(p []byte) (int, error) {
	n, err := h.ReadCloser.Read(p)
	_, _ = h.sum.Write(p[:n])
	h.n += int64(n)
	if h.n > h.want.Size || errors.Is(err, io.EOF) && (h.n != h.want.Size || hex.EncodeToString(h.sum.Sum(nil)) != h.want.SHA256) {
		return 0, h.another()
	}
	return n, err
}

func (h *heldReader) another() error {
	return problem.Coded(snapshot.CodeDamagedHash, "find out who can write there, and use another backup until you know", "it isn't the file that was stored: its record has another size or sha256")
}

const sourceHint = "a backup's URL is that of a location with the file's name: file:///srv/backup/etcd.db, s3://BUCKET/PREFIX/FILE?endpoint=…, sftp://HOST/PATH/FILE; or LOCATION/latest"

// Source is what the URL of a backup means: a file in a store, of this program or
// of any other; with the name latest, the newest in that place. A record beside
// it has to agree with it; k authenticates that, when it is known. What can't be
// read of latest's place is its error. The error is a *problem.Problem.
func Source(ctx context.Context, location string, k Key, here ClusterID) (snapshot.Source, error) {
	var none snapshot.Source
	u, err := url.Parse(location)
	if err != nil { // its text may hold a password
		return none, problem.New(sourceHint, "the name of a snapshot that isn't a URL")
	}
	file := path.Clean("/" + u.Path)
	name, dir := path.Base(file), path.Dir(file)
	if name == "/" || strings.HasSuffix(u.Path, "/") {
		return none, problem.New(sourceHint, "not the URL of a backup: it has no file's name")
	}
	if u.Scheme == "file" {
		if s, err := Open(u.String()); err != nil || s == nil { // its parameters, and its host
			return none, err
		}
		if name != Latest {
			return vouched(ctx, snapshot.File(file), u, file, k)
		}
	}
	up := *u
	if id := path.Base(dir); name == Latest && uid.MatchString(id) {
		up.Path, up.RawPath = path.Dir(dir), ""
		if s, err := Open(up.String()); err == nil {
			p := Places{Stores: []Store{s}, Key: k, Cluster: ClusterID{KubeSystemUID: id}}
			src, _, err := p.Latest(ctx)
			if !problem.HasCode(err, snapshot.CodeMissing) { // else it is a location that is called so
				return src, err
			}
		}
	}
	up.Path, up.RawPath = dir, ""
	s, err := Open(up.String())
	if err != nil {
		return none, err
	}
	if name == Latest {
		p := Places{Stores: []Store{s}, Key: k, Cluster: here}
		src, _, err := p.Latest(ctx)
		return src, err
	}
	var get func(ctx context.Context) (io.ReadCloser, *Object, error)
	switch s := s.(type) {
	case *S3:
		get = func(ctx context.Context) (io.ReadCloser, *Object, error) {
			return s.get(ctx, strings.TrimPrefix(file, "/"))
		}
	case *SFTP:
		get = func(ctx context.Context) (io.ReadCloser, *Object, error) { return s.get(ctx, path.Join(s.dir, name)) }
	default:
		return none, problem.New(sourceHint, "not the URL of a backup")
	}
	if trust.Text(name) != name || len(name) > 255 {
		return none, problem.New(sourceHint, "not the name of a file")
	}
	src := snapshot.Source{Name: below(s, name), Open: func(ctx context.Context) (*snapshot.Stored, error) {
		r, o, err := get(ctx)
		if err != nil {
			return nil, aboutSnapshot(err)
		}
		return &snapshot.Stored{ReadCloser: r, Size: o.Size, ModTime: o.Time}, nil
	}}
	return vouched(ctx, src, u, file, k)
}

// formerKey is what to do about backups that were made with another key.
const formerKey = "if backup.key is a new one, as backup init makes it after a loss, add the former key to it as one more line; otherwise find out who can write there, and don't restore from it until you know"

// doubt is what is left to say of a backup whose record was read with a key: nil
// with one, for then it was authenticated.
func (k Key) doubt(name string) *problem.Problem {
	if k != nil {
		return nil
	}
	return problem.New("copy backup.key from where you keep it, or from another node, to "+KeyPath(ConfigPath)+" (mode 0600); otherwise inspect and diff the snapshot before you restore it",
		"without backup.key nobody knows who made %s: encryption shows who can read a backup, and anyone who can write there can store another", snapshot.BaseName(name))
}

// vouched is a file in a store, held to the record beside it if it is named as
// this program's are.
func vouched(ctx context.Context, src snapshot.Source, u *url.URL, file string, k Key) (snapshot.Source, error) {
	r, ours, err := recordBeside(ctx, u, file, k)
	switch {
	case err != nil:
		return snapshot.Source{}, err
	case r != nil:
		src = held(src, &r.File)
		src.Doubt = k.doubt(src.Name)
	case ours:
		src.Doubt = problem.New("use another backup, or inspect and diff this one before you restore it", "%s has no record beside it that can be read: nothing shows that it is the file that was stored", snapshot.BaseName(src.Name))
	}
	return src, nil
}

// below is the URL of a file in a store.
func below(s Store, name string) string {
	at, query, _ := strings.Cut(s.Location(), "?")
	at += "/" + name
	if query != "" {
		at += "?" + query
	}
	return at
}

// recordBeside is the record of a file that is named as this program's are, as ours
// says; nil when it isn't there, or can't be read just now: then nothing vouches
// for the file, as with any other.
func recordBeside(ctx context.Context, u *url.URL, file string, k Key) (r *Record, ours bool, err error) {
	node, named := strings.CutSuffix(path.Base(file), snapshotSuffix)
	round := path.Dir(file)
	cluster := path.Dir(round)
	name := path.Join(path.Base(cluster), path.Base(round), node+recordSuffix)
	if _, _, ok := splitRecord(name); !named || !ok {
		return nil, false, nil
	}
	up := *u
	up.Path, up.RawPath = path.Dir(cluster), ""
	s, err := Open(up.String())
	if err != nil {
		return nil, true, nil //nolint:nilerr // it lies at the root, where no location is
	}
	e := Entry{Store: s, Name: name}
	ctx, cancel := context.WithTimeout(ctx, lookIdle)
	defer cancel()
	if _, err := e.read(ctx, k); err != nil || e.Gone {
		return nil, true, nil //nolint:nilerr // said above
	}
	if e.Err != nil {
		return nil, true, e.Err
	}
	if path.Base(e.Record.SnapshotName()) != path.Base(file) {
		return nil, true, nil
	}
	return e.Record, true, nil
}

// aboutSnapshot is an error of a store as one of a snapshot.
func aboutSnapshot(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return problem.Coded(snapshot.CodeMissing, "check what is there", "there is no such backup")
	}
	return problem.From(err)
}

// Places are those of a configuration.
func (c *Config) Places(here ClusterID) (*Places, error) {
	p := &Places{Key: c.Key, Cluster: here}
	for _, l := range c.Locations {
		s, err := Open(l)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.Path, err)
		}
		p.Stores = append(p.Stores, s)
	}
	return p, nil
}

// CASHA256 is a cluster's, of its CA's certificate; "" when that can't be read.
func CASHA256(file string) string { return caSHA256(file) }
