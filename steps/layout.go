package steps

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"etcd-rewind/manifest"
	"etcd-rewind/node"
	"etcd-rewind/snapshot"
	"etcd-rewind/trust"
)

// All that decides where a restore writes, with links resolved: the new data is
// on the disk of the old, and nothing is ever written below an old directory.

var stamp = regexp.MustCompile(`-\d{8}-\d{6}(-\d+)?$`)

// realDataDir is a directory of etcd's without the symbolic link that it may be:
// what lies beside the link is on another disk, more often than not. Links
// above it lead beside it, too, and stay.
func realDataDir(dir string) string {
	dir = filepath.Clean(dir)
	if isLink(dir) {
		if real, err := node.Resolve(dir); err == nil {
			return real
		}
	}
	return dir
}

// newDataDir is beside the old one, or inside it when the old one is the root
// of a file system of its own: the new data belongs on the same disk.
func newDataDir(old, run string) string {
	old = realDataDir(old)
	if isMountRoot(old) {
		return filepath.Join(old, "etcd-"+run)
	}
	return stamp.ReplaceAllString(old, "") + "-" + run
}

func isMountRoot(dir string) bool {
	real, err := node.Resolve(dir)
	if err != nil {
		return false
	}
	own, err := node.DiskOf(real)
	return err == nil && filepath.Clean(own.MountPoint) == real
}

// BesideData is the directory in which etcd's data directory lies: on its disk,
// unless that is the root of one.
func (f *Facts) BesideData() string { return filepath.Dir(realDataDir(f.Etcd.DataDir.HostPath)) }

// stagedIn is the directory in which a restore is staged: on the disk of the new
// data, also where BesideData isn't.
func (f *Facts) stagedIn(c Choices) string {
	c = f.Settle(nil, c)
	if dir, err := filepath.Abs(c.DataDir); err == nil {
		c.DataDir = dir
	}
	return filepath.Dir(f.layOut(c, f.runName(c)).volumes[0].staging)
}

// repoint is a volume of etcd.yaml that gets a new hostPath.
type repoint struct {
	volume, old, new, staging string
	// inside says that it lies in the data volume's directory, and moves with it.
	inside bool
}

// layout is where the restored files are placed.
type layout struct {
	volumes           []repoint // the first is etcd's data
	stageData, walDir string    // where etcdutl writes
	etcd              *manifest.EtcdSettings
	// swap says that the new directories have the old ones' paths.
	swap bool
	// home says that etcd's own data is moved.
	home bool
	run  string
}

func layOut(e *manifest.EtcdSettings, dataDir, run string) layout {
	l := layout{etcd: e, run: run}
	data := repoint{volume: e.DataDir.Volume, old: e.DataDir.HostPath, new: dataDir, staging: stagingFor(dataDir, run)}
	l.volumes = []repoint{data}
	l.stageData = e.DataDir.Under(data.staging)
	if w := e.WALDir; w != nil {
		if w.Volume == data.volume {
			l.walDir = w.Under(data.staging)
			return l
		}
		wal := repoint{volume: w.Volume, old: w.HostPath}
		if rest, ok := below(data.old, w.HostPath); ok {
			// A volume inside the data directory: beside it would be inside, too. So
			// it gets the same place in the new one.
			wal.new, wal.staging, wal.inside = filepath.Join(data.new, rest), filepath.Join(data.staging, rest), true
		} else {
			wal.new = newDataDir(w.HostPath, run)
			wal.staging = stagingFor(wal.new, run)
		}
		l.volumes = append(l.volumes, wal)
		l.walDir = w.Under(wal.staging)
	}
	return l
}

// moved are the volumes whose directories are put in place each by itself.
func (l layout) moved() (own []repoint) {
	for _, v := range l.volumes {
		if !v.inside {
			own = append(own, v)
		}
	}
	return own
}

// stagingFor is a sibling of the directory, so that it is put in place by a
// rename, and named after the run, so that nobody else has it.
func stagingFor(dir, run string) string {
	if strings.HasSuffix(dir, run) {
		return dir + ".staging"
	}
	return dir + ".staging-" + run
}

// below says whether path is dir or lies in it, links resolved, and where.
func below(dir, path string) (rest string, ok bool) {
	d, errD := node.Resolve(dir)
	p, errP := node.Resolve(path)
	if errD != nil || errP != nil || !trust.Within(d, p) {
		return "", false
	}
	rest, err := filepath.Rel(d, p)
	return rest, err == nil
}

// collides says what is wrong when something new would lie below something old, or
// the reverse: every path that a run writes to is held against every directory
// that it promises to leave alone. An old directory that is the root of a file
// system has the new one in it, since there is no beside on that disk.
func (l layout) collides(f *Facts, run string) (cause, hint string) {
	type place struct{ what, path string }
	old := []place{{"the old data directory", l.etcd.DataDir.HostPath}, {"the old data", l.etcd.DataDir.Path}}
	if w := l.etcd.WALDir; w != nil {
		old = append(old, place{"the old WAL directory", w.Path})
	}
	new := []place{{"what this run keeps (--state-dir)", f.StateDir}, {"the snapshot of the current cluster", filepath.Join(f.BesideData(), snapshot.SafetyCopy(run))}}
	for _, v := range l.moved() {
		if !l.swap {
			new = append(new, place{"the new directory", v.new})
		}
		new = append(new, place{"the directory for staging", v.staging})
	}
	for _, n := range new {
		real, err := node.Resolve(n.path)
		if err != nil {
			return fmt.Sprintf("%s: %s", n.path, err), "name another place"
		}
		for _, o := range old {
			if rest, in := below(o.path, n.path); in {
				// Not member: that is what etcd itself has there.
				if child := filepath.Dir(rest) == "." && rest != "." && rest != "member"; child && strings.HasPrefix(n.what, "the ") && isMountRoot(o.path) {
					continue
				}
				return fmt.Sprintf("%s, %s%s, is inside %s, %s, which stays untouched", n.what, n.path, led(n.path, real), o.what, o.path),
					"choose a directory beside the old one"
			}
			if _, around := below(n.path, o.path); around && strings.HasPrefix(n.what, "the ") {
				return fmt.Sprintf("%s, %s%s, contains %s, %s, which stays untouched", n.what, n.path, led(n.path, real), o.what, o.path),
					"choose a directory beside the old one"
			}
		}
	}
	return "", ""
}

// led says where a path leads to, when that isn't what it says.
func led(path, real string) string {
	if filepath.Clean(path) == real {
		return ""
	}
	return " (which is " + real + ")"
}

// elsewhere says which of etcd's files would be placed on another disk than
// now: member or its WAL may be mounts of their own.
func (l layout) elsewhere() string {
	e := l.etcd
	type file struct{ what, now, then string }
	wal := file{"the WAL", filepath.Join(e.DataDir.Path, "member", "wal"), l.volumes[0].new}
	if e.WALDir != nil {
		wal.now, wal.then = e.WALDir.Path, l.volumes[len(l.volumes)-1].new
	}
	for _, f := range []file{{"the database", filepath.Join(e.DataDir.Path, "member", "snap"), l.volumes[0].new}, wal} {
		if _, err := os.Stat(f.now); err != nil {
			continue // there is no old data
		}
		now, err := node.DiskOf(f.now)
		if err != nil {
			continue
		}
		then, err := node.DiskOf(filepath.Dir(f.then))
		if err == nil && now.Device != then.Device {
			return fmt.Sprintf("%s is on the disk mounted at %s, and %s would be on the one at %s", f.what, now.MountPoint, f.then, then.MountPoint)
		}
	}
	return ""
}
