package snapshot

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Bounds of Find for one directory: so many files are looked at (stat), and
// so many of those opened.
const (
	maxStat = 5000
	maxOpen = 200
)

// Candidate is a file that looks like a snapshot.
type Candidate struct {
	Path    string
	Size    int64
	ModTime time.Time
	Hash    Hash
	Format  Format   // how it is packed: Unpack does the rest
	Inside  int64    // of a packed one: about how many bytes unpacking it writes
	Err     *Problem // why it can't be used; nil when nothing is known against it
}

// UsualPlaces are the directories of this node in which snapshots are usually
// kept, those that exist, and the working directory.
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
	return uniqueDirs(dirs)
}

func uniqueDirs(dirs []string) []string {
	seen := map[string]bool{}
	var kept []string
	for _, d := range dirs {
		real, err := filepath.EvalSymlinks(d)
		if err != nil {
			continue
		}
		if st, err := os.Stat(real); err != nil || !st.IsDir() || seen[real] {
			continue
		}
		seen[real] = true
		kept = append(kept, d)
	}
	return kept
}

// Find looks in the directories themselves, not below them, for snapshots: by
// content, and by name for those that are bad, so that they are shown with the
// reason. Newest first. A directory that can't be read counts as empty.
func Find(dirs []string) []Candidate {
	var all []Candidate
	for _, dir := range uniqueDirs(dirs) {
		all = append(all, findIn(dir)...)
	}
	slices.SortStableFunc(all, func(a, b Candidate) int { return b.ModTime.Compare(a.ModTime) })
	return all
}

func findIn(dir string) []Candidate {
	entries, err := os.ReadDir(dir)
	if err != nil && len(entries) == 0 {
		return nil
	}
	// Those with a fitting name first: they must not fall out of the bounds
	// because of a crowd of others.
	slices.SortStableFunc(entries, func(a, b os.DirEntry) int {
		return btoi(named(b.Name())) - btoi(named(a.Name()))
	})
	type file struct {
		path  string
		named bool
		st    os.FileInfo
	}
	var files []file
	var found []Candidate
	for _, e := range entries[:min(len(entries), maxStat)] {
		f := file{path: filepath.Join(dir, e.Name()), named: named(e.Name())}
		f.st, err = os.Stat(f.path)
		if err != nil {
			if f.named {
				found = append(found, Candidate{Path: f.path, Err: openProblem(f.path, err)})
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
		c := Candidate{Path: f.path, Size: f.st.Size(), ModTime: f.st.ModTime()}
		info, format, err := QuickPacked(f.path)
		c.Format = format
		if err != nil {
			c.Err = asProblem(err)
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
		found = append(found, c)
	}
	return found
}

// named says whether a file's name is one that people give to snapshots.
func named(name string) bool {
	name = strings.ToLower(name)
	for _, ext := range []string{".gz", ".zst", ".tgz", ".tar", ".xz", ".bz2"} {
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
