package steps

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"etcd-rewind/manifest"
	"etcd-rewind/problem"
	"etcd-rewind/trust"
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

// SetAside renames a directory of the old data, so that the restored data can
// have its path.
type SetAside struct {
	Dir   string `json:"dir"`
	Aside string `json:"aside"`
}

func (*SetAside) Kind() string { return "set-aside" }

func (a *SetAside) Title() string { return "Rename the old data to " + a.Aside }

func (a *SetAside) Commands() []string {
	if filepath.Base(a.Dir) == memberDir {
		return []string{trust.Shell("mkdir -m 700 %s", filepath.Dir(a.Aside)), mv(a.Dir, a.Aside)}
	}
	return []string{mv(a.Dir, a.Aside)}
}

func (a *SetAside) do(_ context.Context, _ *run) (State, error) {
	if _, err := os.Lstat(a.Aside); err == nil { // nobody else has a directory of this name
		return Already, realDir(a.Aside)
	}
	if err := realDir(a.Dir); err != nil {
		return Failed, err
	}
	if up := filepath.Dir(a.Aside); filepath.Base(a.Dir) == memberDir {
		if err := ownSubdir(up); err != nil {
			return Failed, err
		}
		if err := likeOld(up, filepath.Dir(a.Dir)); err != nil {
			return Failed, err
		}
	}
	if err := manifest.Move(a.Dir, a.Aside); err != nil {
		return Failed, err
	}
	return Done, nil
}

func (a *SetAside) moved() bool {
	_, err := os.Lstat(a.Aside)
	return err == nil
}

func (a *SetAside) where(path string) string { return dataMoved(path, a.Dir, a.Aside) }

func (a *SetAside) places(v *vetter) { v.aside(a.Dir, a.Aside) }

// undo comes after that of the rename of the restored data, which has freed the
// path by then.
func (a *SetAside) undo() []Action {
	if !a.moved() {
		return nil
	}
	return []Action{&BringBack{Dir: a.Dir, Aside: a.Aside}}
}

// BringBack renames a directory of the old data to the path that it had.
type BringBack struct {
	Dir   string `json:"dir"`
	Aside string `json:"aside"`
}

func (*BringBack) Kind() string { return "bring-back" }

func (a *BringBack) Title() string { return "Rename the old data to " + a.Dir + " again" }

func (a *BringBack) Commands() []string { return []string{mv(a.Aside, a.Dir)} }

func (a *BringBack) do(_ context.Context, _ *run) (State, error) {
	_, errAside := os.Lstat(a.Aside)
	if _, err := os.Lstat(a.Dir); err == nil && errors.Is(errAside, fs.ErrNotExist) {
		return Already, realDir(a.Dir)
	}
	if err := realDir(a.Aside); err != nil {
		return Failed, err
	}
	if err := manifest.Move(a.Aside, a.Dir); err != nil {
		return Failed, err
	}
	return Done, nil
}

func (a *BringBack) moved() bool {
	_, err := os.Lstat(a.Aside)
	return errors.Is(err, fs.ErrNotExist)
}

func (a *BringBack) where(path string) string { return dataMoved(path, a.Aside, a.Dir) }

func (a *BringBack) places(v *vetter) { v.aside(a.Dir, a.Aside) }

func (*BringBack) undo() []Action { return nil }

// aside is a directory of the old data, and where it is renamed aside to.
func (v *vetter) aside(dir, aside string) {
	if !clean(dir) || !clean(aside) || aside != asideFor(dir, v.run) {
		v.refuse("the data directory", dir)
	}
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
		return e.File.Name() + " says that a program writes it: " + line
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
			return v.old + " has the name of what etcd has in a data directory", instead
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
			return asideFor(v.old, l.run) + " exists already", "look what it is and move it away"
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

// asides are where the old directories are after a swap.
func (l layout) asides() []Action {
	var all []Action
	for _, v := range l.moved() {
		if l.swap {
			all = append(all, &SetAside{Dir: v.old, Aside: asideFor(v.old, l.run)})
		}
	}
	return all
}

// layOut is the layout that the choices ask for.
func (f *Facts) layOut(c Choices, run string) layout {
	if c.Swap {
		return layOutSwap(&f.Etcd.EtcdSettings, run)
	}
	return layOut(&f.Etcd.EtcdSettings, c.DataDir, run)
}

// swapClash is the error of choices that exclude each other.
func (f *Facts) swapClash(c Choices) error {
	switch {
	case !c.Swap:
		return nil
	case c.InPlace:
		return problem.New("leave --swap out", "data that is there already is pointed at, and not swapped")
	case f.Etcd != nil && c.DataDir != "" && c.DataDir != swapPath(&f.Etcd.EtcdSettings):
		return problem.New("give one of them", "--swap keeps the path of the data, and --data-dir names another")
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
	f := p.Restore
	if f.Aside != "" {
		if _, err := os.Lstat(f.Aside); err == nil {
			return f.Aside
		}
	}
	return f.OldDataDir
}

// dataPath is where etcd's data lies on the node after the run.
func (b *builder) dataPath() string {
	if b.lay.swap {
		return b.f.Etcd.DataDir.Path
	}
	return b.f.Etcd.DataDir.Under(b.lay.volumes[0].new)
}
