package snapshot

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"etcd-rewind/defect"
	"etcd-rewind/problem"
)

// Bounds of Find for one directory: so many names are read, so many files are
// looked at (stat), and so many of those opened.
const (
	maxNames = 100_000
	maxStat  = 5000
	maxOpen  = 200
)

// searchLimit is how long Find searches in all: a mount that hangs, or a
// directory full of archives, mustn't keep the others from being shown.
const searchLimit = 5 * time.Second

// Candidate is a file that looks like a snapshot.
type Candidate struct {
	Path    string
	Size    int64
	ModTime time.Time
	Hash    Hash
	Format  Format // how it is packed: Stage does the rest
	Inside  int64  // of a packed one: about how many bytes unpacking it writes
	Safety  bool   // saved by an earlier run before it changed anything
	// Owner is the user whose file it is when that is neither root nor this
	// user, "uid 1000": others may have made it, despite its name.
	Owner string
	// From is where it lies, when that isn't this node; Path is its URL then, and
	// ModTime, Revision and Keys are what its record says.
	From     string
	Revision int64
	Keys     int
	Err      *problem.Problem // why it can't be used; nil when nothing is known against it
}

// SafetyCopy is the name of the snapshot that a run saves beforehand.
func SafetyCopy(run string) string { return "etcd-before-" + run + ".db" }

var safetyCopy = regexp.MustCompile(`^etcd-before-\d{8}-\d{6}(-\d+)?\.db$`)

// UsualPlaces are the directories of this node in which snapshots are usually
// kept, those that exist, and the working directory. Some may be the same.
func UsualPlaces() []string {
	var dirs []string
	if wd, err := os.Getwd(); err == nil {
		dirs = append(dirs, wd)
	}
	for _, pattern := range []string{
		"/var/backups", "/var/backups/etcd*", "/var/lib/etcd-backup*", "/var/lib/etcd-snapshot*",
		"/opt", "/opt/*backup*", "/opt/etcd*", "/root", "/home/*", "/backup", "/backup/etcd*", "/backups",
		"/etcd-backup*", "/mnt/*backup*", "/srv", "/srv/*backup*", "/data/*backup*", "/tmp", "/var/tmp",
		"/etc/kubernetes/tmp", "/var/lib/rancher/*/server/db/snapshots",
	} {
		found, _ := filepath.Glob(pattern) // the patterns are well-formed
		dirs = append(dirs, found...)
	}
	return dirs
}

// Find looks in the directories themselves, not below them, for snapshots: by
// content, and by name for those that are bad, so that they are shown with the
// reason. Newest first, and the safety copies of earlier runs after all others.
// A directory that can't be read counts as empty. After 5 s, or when ctx ends,
// it returns what was found by then; a directory that wasn't searched to its end
// is a Candidate whose Err says so.
func Find(ctx context.Context, dirs []string) []Candidate {
	ctx, cancel := context.WithTimeout(ctx, searchLimit)
	defer cancel()
	done := make(chan struct{})
	var all sync.WaitGroup
	places := make([]*searched, len(dirs))
	for i, dir := range dirs {
		places[i] = &searched{dir: dir}
		// A call that hangs in the kernel can only be left behind.
		all.Go(defect.Do(func() { places[i].search(ctx) }))
	}
	go defect.Do(func() { all.Wait(); close(done) })()
	select {
	case <-done:
	case <-ctx.Done():
	}
	var found []Candidate
	seen := map[string]bool{}
	for _, p := range places {
		real, in := p.soFar()
		if real != "" && seen[real] {
			continue
		}
		seen[real] = true
		found = append(found, in...)
	}
	slices.SortStableFunc(found, func(a, b Candidate) int {
		if a.Safety != b.Safety {
			return btoi(a.Safety) - btoi(b.Safety)
		}
		if c := b.ModTime.Compare(a.ModTime); c != 0 {
			return c
		}
		return strings.Compare(a.Path, b.Path)
	})
	return found
}

// searched is a directory that is searched.
type searched struct {
	dir string

	mu    sync.Mutex
	real  string // links resolved; "" for what isn't a directory
	found []Candidate
	done  bool
}

func (p *searched) add(c Candidate) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.found = append(p.found, c)
}

// soFar is what was found so far.
func (p *searched) soFar() (real string, found []Candidate) {
	p.mu.Lock()
	defer p.mu.Unlock()
	found = slices.Clone(p.found)
	if !p.done {
		found = append(found, Candidate{Path: p.dir, Err: problem.Coded(CodeUnreadable, "type the path of the file, or search again",
			"not searched to the end: it took longer than %d s", int(searchLimit.Seconds()))})
	}
	return p.real, found
}

// namesIn reads the names in a directory, at most maxNames of them and those
// that fit a snapshot first: they must not fall out of the bounds because of a
// crowd of others.
func namesIn(ctx context.Context, dir string) (names []string, more bool) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, false
	}
	defer f.Close()
	var fitting, others []string
	for read := 0; ; {
		batch, err := f.Readdirnames(1000)
		for _, n := range batch {
			switch {
			case named(n) && len(fitting) < maxStat:
				fitting = append(fitting, n)
			case !named(n) && len(others) < maxStat:
				others = append(others, n)
			}
		}
		if read += len(batch); err != nil || ctx.Err() != nil || read >= maxNames {
			slices.Sort(fitting)
			slices.Sort(others)
			names = append(fitting, others...)
			return names[:min(len(names), maxStat)], err == nil && read >= maxNames
		}
	}
}

func (p *searched) search(ctx context.Context) {
	real, err := filepath.EvalSymlinks(p.dir)
	if err == nil {
		if st, serr := os.Stat(real); serr != nil || !st.IsDir() {
			real = ""
		}
	}
	p.mu.Lock()
	p.real = real
	p.mu.Unlock()
	if real != "" {
		p.in(ctx)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done = ctx.Err() == nil
}

func (p *searched) in(ctx context.Context) {
	names, more := namesIn(ctx, p.dir)
	if more {
		p.add(Candidate{Path: p.dir, Err: problem.Coded(CodeUnreadable, "type the path of the file", "not searched to the end: it has more than %d entries", maxNames)})
	}
	type file struct {
		path  string
		named bool
		st    os.FileInfo
	}
	var files []file
	for _, name := range names {
		if ctx.Err() != nil {
			return
		}
		f := file{path: filepath.Join(p.dir, name), named: named(name)}
		if linkOfAnother(f.path) {
			continue
		}
		var err error
		if f.st, err = os.Stat(f.path); err != nil {
			if f.named {
				p.add(Candidate{Path: f.path, Err: openProblem(f.path, err)})
			}
			continue
		}
		if f.st.Mode().IsRegular() {
			files = append(files, f)
		}
	}
	slices.SortStableFunc(files, func(a, b file) int {
		if a.named != b.named {
			return btoi(b.named) - btoi(a.named)
		}
		return b.st.ModTime().Compare(a.st.ModTime())
	})
	for _, f := range files[:min(len(files), maxOpen)] {
		if ctx.Err() != nil {
			return
		}
		c := Candidate{Path: f.path, Size: f.st.Size(), ModTime: f.st.ModTime(), Owner: owner(f.st), Safety: safetyCopy.MatchString(filepath.Base(f.path))}
		info, format, err := QuickPacked(f.path)
		c.Format = format
		if err != nil {
			c.Err = problem.Of(err)
			// Only a file that was meant to be a snapshot is worth a line.
			if !f.named && (c.Err.Code != CodeTruncated || format != Raw) {
				continue
			}
		} else {
			c.Hash = info.Hash
			if format != Raw {
				c.Inside = info.TotalSize
			}
		}
		p.add(c)
	}
}

// named says whether a file's name is one that people give to snapshots.
func named(name string) bool {
	name = strings.ToLower(name)
	for _, ext := range []string{".age", ".gz", ".zst", ".tgz", ".tar", ".xz", ".bz2"} {
		name = strings.TrimSuffix(name, ext)
	}
	for _, end := range []string{".db", ".snap", ".snapshot"} {
		if strings.HasSuffix(name, end) {
			return true
		}
	}
	return strings.Contains(name, "backup") || strings.Contains(name, "etcd-snapshot")
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}
