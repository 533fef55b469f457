package steps

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"etcd-rewind/problem"
	"etcd-rewind/trust"
)

// A journal is read as root and says what is moved where. So it is read only
// from where nobody else can write, and what it says is held against where it
// lies: its own files are in its directory, manifests in the one directory of
// its node's kubelet, data in a directory and its staging sibling. A journal
// that was copied, or made by somebody else, is refused as a whole.

// trusted says whether the journal of a run may be believed: the state
// directory, the run's directory and the journal belong to this user or to
// root, are no links, and others can't write to them.
func trusted(runDir string) error { return Trusted(runDir, journalName, eventsName) }

// Trusted says whether files in a run's directory may be obeyed. Those that
// aren't there are no error.
func Trusted(runDir string, names ...string) error {
	for _, dir := range []string{filepath.Dir(runDir), runDir} {
		if err := trust.Dir(dir); err != nil {
			return notTrusted(err)
		}
	}
	for _, name := range names {
		path := filepath.Join(runDir, name)
		if err := trust.Own(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return notTrusted(err)
		}
	}
	return nil
}

func notTrusted(err error) error {
	p := problem.Of(err)
	if p == nil {
		return err
	}
	hint := "name the state directory of this node with --state-dir"
	if p.Hint != "" {
		hint = p.Hint + ", or " + hint
	}
	return problem.New(hint, "%s: nothing in it is trusted", p.Cause)
}

// vetter holds the paths of a plan against where its journal lies.
type vetter struct {
	run, runDir, manifests string
	staging                []string  // the staging directories of renames
	home                   [2]string // where data is moved from and to; empty in a run that moves none
	err                    error
}

func (v *vetter) refuse(what, path string) {
	if v.err == nil {
		v.err = problem.New("it was copied from another node, or is damaged: undo and resume work only on the run's node and in its directory", "the journal of run %s names %s %s, which doesn't belong to that run", v.run, what, trust.Quote(trust.Clip(path, 200)))
	}
}

func clean(path string) bool { return filepath.IsAbs(path) && filepath.Clean(path) == path }

// path is one that is only named.
func (v *vetter) path(paths ...string) {
	for _, path := range paths {
		if !clean(path) {
			v.refuse("the path", path)
		}
	}
}

// manifest is a file in kubelet's directory.
func (v *vetter) manifest(paths ...string) {
	for _, path := range paths {
		if !clean(path) || filepath.Dir(path) != v.manifests {
			v.refuse("the manifest", path)
		}
	}
}

// manifestIf is a file in kubelet's directory, or none.
func (v *vetter) manifestIf(paths ...string) {
	v.manifest(slices.DeleteFunc(slices.Clone(paths), func(p string) bool { return p == "" })...)
}

// own is a file in one of the run's own directories.
func (v *vetter) own(paths ...string) {
	for _, path := range paths {
		if !clean(path) || !slices.Contains(ownDirs, filepath.Base(filepath.Dir(path))) || filepath.Dir(filepath.Dir(path)) != v.runDir {
			v.refuse("the file", path)
		}
	}
}

// ownDirs are the directories in a run's directory.
var ownDirs = []string{"kept", "new", "aside", "undone"}

// renamed is a directory of restored data, and where it is staged.
func (v *vetter) renamed(from, to string) {
	switch {
	case clean(from) && clean(to) && (from == stagingFor(to, v.run) || from == stagedFor(to, v.run)):
		v.staging = append(v.staging, stagingFor(to, v.run))
	case clean(from) && clean(to) && (to == stagingFor(from, v.run) || to == stagedFor(from, v.run)):
		v.staging = append(v.staging, stagingFor(from, v.run))
	default:
		v.refuse("the data directory", from)
	}
}

// staged is a directory that is below one that is renamed.
func (v *vetter) staged(paths ...string) {
	for _, path := range paths {
		if !clean(path) || !slices.ContainsFunc(v.staging, func(dir string) bool { return trust.Within(dir, path) }) {
			v.refuse("the staging directory", path)
		}
	}
}

var podName = regexp.MustCompile(`^[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?$`)

func (v *vetter) pod(names ...string) {
	for _, name := range names {
		if !podName.MatchString(name) {
			v.refuse("the pod", name)
		}
	}
}

// vet holds a plan that was read from a journal against where that lies.
func (p *Plan) vet(runDir string) error {
	v := &vetter{run: filepath.Base(runDir), runDir: p.RunDir, manifests: filepath.Clean(p.Reach.Kubelet.StaticPodPath)}
	if p.Run != v.run || !runName.MatchString(p.Run) {
		v.refuse("the run", p.Run)
	}
	if !clean(p.RunDir) || !sameDir(p.RunDir, runDir) {
		v.refuse("the run directory", p.RunDir)
	}
	if p.Reach.Kubelet.StaticPodPath != "" && !clean(v.manifests) {
		v.refuse("the manifest directory", p.Reach.Kubelet.StaticPodPath)
	}
	switch p.Kind {
	case KindRestore, KindUndo, KindRedo:
	default:
		v.refuse("the kind of plan", p.Kind)
	}
	if r := p.Restore; r == nil {
		v.refuse("no", "restore")
	} else if r.DataDir == "" && r.Staging == "" {
		// This node has no etcd.
	} else if !clean(r.DataDir) || r.Staging != stagingFor(r.DataDir, v.run) && r.Staging != stagingFor(filepath.Join(r.DataDir, memberDir), v.run) {
		v.refuse("the data directory", r.DataDir)
	}
	if r := p.Restore; r != nil && r.Home {
		v.home = [2]string{r.OldDataDir, r.DataDir}
	}
	var last []Action // what is staged is known by the renames
	for _, s := range p.Steps {
		if _, known := conditions[s.condition()]; !known && !s.always() {
			v.refuse("the condition", string(s.If))
		}
		for _, a := range s.Actions {
			if a.Action == nil {
				v.refuse("an action that is", "missing")
			} else if _, stages := a.Action.(*Stage); stages {
				last = append(last, a.Action)
			} else {
				a.Action.places(v)
			}
		}
	}
	for _, a := range last {
		a.places(v)
	}
	return v.err
}

// sameDir says whether two paths are one directory, links resolved.
func sameDir(a, b string) bool {
	if filepath.Clean(a) == filepath.Clean(b) {
		return true
	}
	ia, errA := os.Stat(a)
	ib, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(ia, ib)
}
