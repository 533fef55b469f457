// Package backup stores etcd's backups elsewhere: their configuration (Config),
// how a file is compressed and encrypted (Seal), the stores (Store), how a file
// is stored and read back (Keep), how a snapshot is fetched again (Snapshot),
// and the listing of backups by their records (Records). Retention, the timer's
// units and the state of backups are here, too. How a snapshot is read and
// restored is in snapshot and steps.
package backup

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"etcd-rewind/defect"
	"etcd-rewind/problem"
	"etcd-rewind/snapshot"
	"etcd-rewind/trust"
)

// Object is a file in a store.
type Object struct {
	Name string
	Size int64 // bytes
	Time time.Time
}

// Store is a place where backups lie. Its methods are safe for use by several
// goroutines and end with their context, whatever the place does; what they were
// in the middle of counts as not done. Names are checked by CheckName.
type Store interface {
	// Location is the URL of the place, without secrets.
	Location() string
	// Put stores size bytes of content. Before it has returned without an error
	// the name isn't there, and one that is there is never replaced
	// (fs.ErrExist).
	Put(ctx context.Context, name string, content io.Reader, size int64) error
	// Get opens an object; fs.ErrNotExist when it isn't there. ctx holds for
	// reading too.
	Get(ctx context.Context, name string) (io.ReadCloser, error)
	// Stat describes an object; fs.ErrNotExist when it isn't there.
	Stat(ctx context.Context, name string) (*Object, error)
	// List has all complete objects whose names begin with prefix, sorted by
	// name.
	List(ctx context.Context, prefix string) ([]Object, error)
	// Delete deletes an object. That it isn't there is no error; ErrLocked is below
	// the error when the store keeps it for some time yet.
	Delete(ctx context.Context, name string) error
	// Sweep throws away what uploads to names with this prefix have left unfinished:
	// those that dead says are, and rounds' directories with nothing in them. One that
	// goes on all the same fails.
	Sweep(ctx context.Context, prefix string, dead func(Unfinished) bool) error
}

// ErrLocked is that of an object which mustn't be deleted yet: an object lock, or
// a retention of the store's own.
var ErrLocked = errors.New("locked against deletion")

// Locked is ErrLocked with what the store says of it: nothing went wrong, and
// trying again before Until is no use.
type Locked struct {
	Name  string
	Until time.Time // zero when the store doesn't say
}

// Is says that it is an ErrLocked.
func (l *Locked) Is(target error) bool { return target == ErrLocked }

// Error says what is kept and until when.
func (l *Locked) Error() string {
	if l.Until.IsZero() {
		return l.Name + " is kept by a lock of the store"
	}
	return l.Name + " is kept by a lock of the store until " + l.Until.UTC().Format(time.RFC3339)
}

// maxListed bounds what List keeps in memory.
const maxListed = 200_000

// Each calls f for all complete objects whose names begin with prefix, in no
// order that can be relied on, and keeps none of them in memory where the store
// has them in pages. It ends with f's error.
func Each(ctx context.Context, s Store, prefix string, f func(Object) error) error {
	if s, ok := s.(interface {
		each(ctx context.Context, prefix string, f func(Object) error) error
	}); ok {
		return s.each(ctx, prefix, f)
	}
	all, err := s.List(ctx, prefix)
	for _, o := range all {
		if err := f(o); err != nil {
			return err
		}
	}
	return err
}

// collect is List by Each.
func collect(ctx context.Context, s Store, prefix string) ([]Object, error) {
	var all []Object
	err := Each(ctx, s, prefix, func(o Object) error {
		if len(all) == maxListed {
			return problem.New("give backups a prefix of their own, and keep fewer of them", "there are more than %d files", maxListed)
		}
		all = append(all, o)
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(all, func(a, b Object) int { return strings.Compare(a.Name, b.Name) })
	return slices.CompactFunc(all, func(a, b Object) bool { return a.Name == b.Name }), nil
}

// query has the parameters of a location, each once, and none but the known. The
// error quotes no value.
func query(u *url.URL, known []string) (map[string]string, error) {
	q, err := url.ParseQuery(u.RawQuery)
	switch {
	case err != nil:
		return nil, errors.New("what follows the ? can't be read")
	case u.User != nil:
		return nil, errors.New("it has a user or a password in it")
	case u.Fragment != "" || strings.HasSuffix(u.Host, ":") || u.Port() != "" && u.Scheme == "s3":
		return nil, errors.New("it has a port or a # in it")
	}
	values := map[string]string{}
	for name, all := range q {
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("%q is not a parameter here", trust.Clip(trust.Text(name), 40))
		}
		if len(all) != 1 || trust.Text(all[0]) != all[0] || len(all[0]) > 1000 {
			return nil, fmt.Errorf("%s= is given twice, or isn't one line", name)
		}
		values[name] = all[0]
	}
	return values, nil
}

// encode is query's reverse, as a person would write it: "" for none.
func encode(values map[string]string, order []string) string {
	var all []string
	for _, name := range order {
		if v := values[name]; v != "" {
			v = url.QueryEscape(v)
			v = strings.NewReplacer("%3A", ":", "%2F", "/").Replace(v)
			all = append(all, name+"="+v)
		}
	}
	if len(all) == 0 {
		return ""
	}
	return "?" + strings.Join(all, "&")
}

// Open makes a store of a location: file:///srv/backup, with ?mounted=true for a
// directory that has to be a mount, s3://bucket/prefix?endpoint=…, or
// sftp://host/path. Nothing is read or written. The error is a *problem.Problem.
func Open(location string) (Store, error) {
	const hint = "a location is a URL: file:///srv/backup, s3://bucket/prefix, sftp://host/path"
	u, err := url.Parse(location)
	if err != nil { // its text may hold a password
		return nil, problem.New(hint, "a location that isn't a URL")
	}
	switch u.Scheme {
	case "file":
		q := u.Query()
		mounted := q.Get("mounted")
		q.Del("mounted")
		switch {
		case u.Host != "" || u.User != nil || u.Fragment != "" || len(q) > 0 || mounted != "" && mounted != "true" && mounted != "false":
			return nil, problem.New("file:// takes a path, and ?mounted=true", "not the location of a directory: %s, or not its parameters", trust.Clip(trust.Text(u.Path), 200))
		case !filepath.IsAbs(u.Path) || filepath.Clean(u.Path) == "/":
			return nil, problem.New(hint, "not the path of a directory for backups: %q", u.Path)
		}
		return &Directory{Path: filepath.Clean(u.Path), Mounted: mounted == "true"}, nil
	case "s3":
		s, err := openS3(u)
		if err != nil {
			return nil, err
		}
		return s, nil
	case "sftp":
		s, err := openSFTP(u)
		if err != nil {
			return nil, err
		}
		return s, nil
	case "":
		return nil, problem.New(hint, "a location without its kind: %s", trust.Clip(trust.Text(u.Path), 200))
	}
	return nil, problem.New(hint, "locations of the kind %s:// aren't supported", u.Scheme)
}

var validName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,199}(/[A-Za-z0-9][A-Za-z0-9._-]{0,199})*$`)

// CheckName says what is wrong with the name of an object: it has a few parts
// with a slash in between, of letters, digits and ._-, and none of them is
// hidden or leads upwards.
func CheckName(name string) error {
	if len(name) > 500 || strings.Count(name, "/") > 7 || !validName.MatchString(name) {
		return fmt.Errorf("%.100q is not a valid name for a backup", name)
	}
	return nil
}

// Content is a file that is to be stored. Open is called once for each store.
type Content struct {
	Open   func() (io.ReadCloser, error)
	Size   int64  // bytes
	SHA256 string // hex
}

// Keep stores a file, reads it back and compares: a store that says that it has
// something is not believed. A store that takes or gives nothing for idle is
// given up. What was stored and isn't the same is deleted again, as far as the
// store lets that happen. The error is a *problem.Problem.
func Keep(ctx context.Context, s Store, name string, c Content, idle time.Duration) error {
	if err := keep(ctx, s, name, c, idle); err != nil {
		if p := problem.Of(err); p != nil {
			return p.About(s.Location())
		}
		return problem.From(fmt.Errorf("%s: %w", s.Location(), err))
	}
	return nil
}

func keep(ctx context.Context, s Store, name string, c Content, idle time.Duration) error {
	in, err := c.Open()
	if err != nil {
		return err
	}
	defer in.Close()
	err = patient(ctx, idle, func(ctx context.Context, alive func()) error {
		return s.Put(ctx, name, &lively{in, alive}, c.Size)
	})
	if err != nil {
		return err
	}
	sum, n := sha256.New(), int64(0)
	err = patient(ctx, idle, func(ctx context.Context, alive func()) error {
		out, err := s.Get(ctx, name)
		if err != nil {
			return err
		}
		defer out.Close()
		// A byte more than there should be is enough to know.
		n, err = io.Copy(sum, io.LimitReader(&lively{out, alive}, c.Size+1))
		return err
	})
	switch {
	case err != nil:
		return fmt.Errorf("reading back what was stored: %w", err)
	case n == c.Size && hex.EncodeToString(sum.Sum(nil)) == c.SHA256:
		return nil
	}
	what := "its sha256 differs"
	switch {
	case n < c.Size:
		what = fmt.Sprintf("%d bytes were sent, %d came back", c.Size, n)
	case n > c.Size:
		what = fmt.Sprintf("%d bytes were sent, more came back", c.Size)
	}
	if derr := patient(ctx, idle, func(ctx context.Context, _ func()) error { return s.Delete(ctx, name) }); derr != nil {
		what += fmt.Sprintf("; it couldn't be deleted either: %v", derr)
	}
	return problem.New("check the disk or the store for errors", "%s isn't what was stored: %s", name, what)
}

// patient ends f when it shows no sign of life for idle. Its signs of life are those
// of whoever waits with ctx, too.
func patient(ctx context.Context, idle time.Duration, f func(ctx context.Context, alive func()) error) error {
	with, watch := defect.Watch(ctx, idle, problem.New("check the disk, the mount or the server", "it transferred nothing for %s", idle))
	defer watch.Stop()
	alive := func() {
		watch.Alive()
		signOfLife(ctx)
	}
	err := f(context.WithValue(with, lifeKey{}, alive), alive)
	if err != nil && with.Err() != nil {
		return context.Cause(with)
	}
	return err
}

// lively is a reader whose reads are signs of life.
type lively struct {
	io.Reader
	alive func()
}

func (t *lively) Read(p []byte) (int, error) {
	n, err := t.Reader.Read(p)
	t.alive()
	return n, err
}

// Snapshot is a file in a store as a source of snapshots.
func Snapshot(s Store, name string) snapshot.Source {
	return snapshot.Source{Name: below(s, name), Open: func(ctx context.Context) (*snapshot.Stored, error) {
		o, err := s.Stat(ctx, name)
		if err != nil {
			return nil, aboutSnapshot(err)
		}
		r, err := s.Get(ctx, name)
		if err != nil {
			return nil, aboutSnapshot(err)
		}
		return &snapshot.Stored{ReadCloser: r, Size: o.Size, ModTime: o.Time}, nil
	}}
}
