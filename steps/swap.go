package steps

import (
	"os"
	"path/filepath"
	"strings"

	"etcd-rewind/manifest"
	"etcd-rewind/problem"
	"etcd-rewind/unit"
)

// New data has two ways to be etcd's: a directory of its own, which the file with
// etcd's settings is edited to name; or the path of the old one, which is renamed
// aside, and then no file is edited. What writes that file from elsewhere would
// turn an edit back, and etcd would start on the old data.

// memberDir is what etcd has in a data directory. Where that is the root of a
// disk, and can't be renamed, it is swapped instead: the other data lies beside it
// then, in directories that etcd ignores.
const memberDir = "member"

// asideFor is where a directory is renamed aside to: beside it, so that it is a
// rename, and named after the run, so that nobody else has it. What is renamed of
// a data directory is one there, too.
func asideFor(dir, run string) string {
	if filepath.Base(dir) == memberDir {
		return filepath.Join(filepath.Dir(dir), "etcd-before-"+run, memberDir)
	}
	return dir + "-before-" + run
}

// stagedFor is what of the staged data is renamed to a directory.
func stagedFor(dir, run string) string {
	if filepath.Base(dir) == memberDir {
		return filepath.Join(stagingFor(dir, run), memberDir)
	}
	return stagingFor(dir, run)
}

// holding is the data directory that a directory is, or is member of.
func holding(dir string) string {
	if filepath.Base(dir) == memberDir {
		return filepath.Dir(dir)
	}
	return dir
}

// dataMoved is where data at path lies when from is renamed to to.
func dataMoved(path, from, to string) string {
	if path != "" && filepath.Base(from) == memberDir && filepath.Base(to) == memberDir && path == filepath.Dir(from) {
		return holding(to)
	}
	return moved(path, from, to)
}

// managedSource is a source of settings that can say who writes it.
type managedSource interface {
	// managed says why an edit of where the data is wouldn't last, or isn't
	// possible; "" when nothing is said against one.
	managed() string
}

// SwapBecause says why the restored data is to take the path of the old one
// unless somebody decides otherwise; "" when a directory of its own is as good.
func (f *Facts) SwapBecause() string {
	if f.Etcd == nil {
		return ""
	}
	if m, ok := f.Etcd.Source.(managedSource); ok {
		return m.managed()
	}
	return ""
}

func (e podEtcd) managed() string {
	if line, n := unit.Managed(e.File.Data); n > 0 {
		return e.File.Name() + " is marked as generated: " + line
	}
	return ""
}

// swapPath is the directory that is swapped: etcd's own, links resolved.
func swapPath(e *manifest.EtcdSettings) string { return realDataDir(e.DataDir.Path) }

// layOutSwap is the layout where the restored data takes the old one's path.
func layOutSwap(e *manifest.EtcdSettings, run string) layout {
	dir := swapPath(e)
	l := layout{etcd: e, swap: true, run: run}
	if isMountRoot(dir) {
		dir = filepath.Join(dir, memberDir)
	}
	l.volumes = []repoint{{volume: e.DataDir.Volume, old: dir, new: dir, staging: stagingFor(dir, run)}}
	l.stageData = l.volumes[0].staging
	if w := e.WALDir; w != nil {
		if rest, in := below(dir, w.Path); in {
			l.walDir = filepath.Join(stagedFor(dir, run), rest)
			return l
		}
		wal := realDataDir(w.Path)
		l.volumes = append(l.volumes, repoint{volume: w.Volume, old: wal, new: wal, staging: stagingFor(wal, run)})
		l.walDir = l.volumes[1].staging
	}
	return l
}

// layOutHome is the layout where etcd's own data takes another path.
func layOutHome(e *manifest.EtcdSettings, to, run string) layout {
	l := layout{etcd: e, run: run, home: true}
	l.volumes = []repoint{{volume: e.DataDir.Volume, old: e.DataDir.HostPath, new: to, staging: e.DataDir.HostPath}}
	return l
}

// real gives old data the paths under which a swap renames it.
func (l layout) real(d *Data) {
	dir := l.volumes[0].old
	d.Dir = holding(dir)
	if d.WAL == "" {
		return
	}
	if rest, in := below(dir, d.WAL); in {
		d.WAL = filepath.Join(dir, rest)
	} else {
		d.WAL = l.volumes[1].old
	}
}

// unswappable says why directories can't be renamed, and what may be done
// instead.
func (l layout) unswappable() (cause, hint string) {
	const instead = "choose a directory with --data-dir"
	for _, v := range l.moved() {
		if filepath.Base(v.old) == memberDir && !isMountRoot(filepath.Dir(v.old)) {
			return v.old + " has a name that etcd uses in a data directory", instead
		}
		if isMountRoot(v.old) {
			return v.old + " is a mount of its own: it can't be renamed", instead
		}
		if !thereIs(v.old) {
			return "there is no " + v.old + " to rename aside", instead
		}
		if err := realDir(v.old); err != nil {
			return err.Error(), instead
		}
		if _, err := os.Lstat(asideFor(v.old, l.run)); err == nil {
			return asideFor(v.old, l.run) + " exists already", "check what it is and move it away"
		}
		if member := filepath.Join(v.old, memberDir); isMountRoot(member) {
			return member + " is a mount of its own, and would go with the old data", instead
		}
	}
	if e := l.etcd; e.WALDir != nil {
		if rest, in := below(l.volumes[0].old, e.WALDir.Path); in && rest != "." && isMountRoot(e.WALDir.Path) {
			return e.WALDir.Path + " is a mount of its own, and would go with the old data", instead
		}
	}
	var lost []string
	for _, f := range []struct{ flag, path string }{
		{"cert-file", l.etcd.Cert},
		{"key-file", l.etcd.Key},
		{"trusted-ca-file", l.etcd.TrustedCA},
		{"peer-cert-file", l.etcd.PeerCert},
		{"peer-key-file", l.etcd.PeerKey},
		{"peer-trusted-ca-file", l.etcd.PeerTrustedCA},
	} {
		if _, in := below(l.volumes[0].old, f.path); in && f.path != "" {
			lost = append(lost, f.flag)
		}
	}
	if len(lost) > 0 {
		return "the data directory also holds the files of " + strings.Join(lost, ", ") + ": they would go with the old data", "move those files elsewhere first"
	}
	return "", ""
}

// layOut is the layout that the choices ask for.
func (f *Facts) layOut(c Choices, run string) layout {
	if c.Home {
		return layOutHome(&f.Etcd.EtcdSettings, c.DataDir, run)
	}
	if c.Swap {
		return layOutSwap(&f.Etcd.EtcdSettings, run)
	}
	return layOut(&f.Etcd.EtcdSettings, c.DataDir, run)
}

// swapClash is the error of choices that exclude each other.
func (f *Facts) swapClash(c Choices) error {
	switch {
	case !c.Swap || c.Home:
		return nil
	case c.InPlace:
		return problem.New("leave --swap out", "existing data is pointed at, not swapped")
	case f.Etcd != nil && c.DataDir != "" && c.DataDir != swapPath(&f.Etcd.EtcdSettings):
		return problem.New("give one of them", "--swap keeps the path of the data, and --data-dir names another")
	}
	if _, unit := f.Etcd.unit(); unit && len(f.layOut(c, "").volumes) > 1 {
		return problem.New("name a new directory with --data-dir", "the WAL has a directory of its own: if the machine boots between the two swaps, systemd would start etcd on data and a WAL that don't belong together")
	}
	return nil
}

// oldAt is where the old data lies after the run; before an undo has renamed it
// back.
func (f *RestoreFacts) oldAt() string {
	if f.Aside != "" {
		return f.Aside
	}
	return f.OldDataDir
}

// Moves says where etcd's data was and will be, on one line.
func (f *RestoreFacts) Moves() string {
	if f.Home {
		return f.OldDataDir + " → " + f.DataDir + ", by renames"
	}
	if f.DataDir == "" {
		return "no etcd here: kube-apiserver and the controllers are stopped and started"
	}
	if f.Aside != "" {
		return f.DataDir + ", swapped: the old data is renamed, no file is edited"
	}
	return f.OldDataDir + " → " + f.DataDir
}

// stays says where the old data lies while etcd runs on the restored data.
func (f *RestoreFacts) stays() string {
	if f.Aside != "" {
		return "renamed to " + f.Aside
	}
	return "stays at " + f.OldDataDir
}

// oldNow is where the old data lies at this moment.
func (p *Plan) oldNow() string {
	at := p.Restore.OldDataDir
	for a := range p.actions() {
		switch t := a.Action.(type) {
		case *Swap:
			at = t.oldNow(at)
		case *SwapBack:
			at = t.oldNow(at)
		case *Move:
			at = t.data()
		case *MoveBack:
			at = t.data()
		case *SetAside:
			if t.moved() {
				at = t.where(at)
			}
		}
	}
	return at
}

// dataPath is where etcd's data lies on the node after the run.
func (b *builder) dataPath() string {
	if b.lay.swap {
		return b.f.Etcd.DataDir.Path
	}
	return b.f.Etcd.DataDir.Under(b.lay.volumes[0].new)
}
