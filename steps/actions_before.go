package steps

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"etcd-rewind/manifest"
	"etcd-rewind/trust"
)

// SetAside renames a directory of the old data, so that the restored data can
// have its path. Plans had it before there was [Swap]: their runs are still undone,
// redone and resumed by it. No plan that is made now has it.
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

// BringBack renames a directory of the old data to the path that it had. It is the
// way back of [SetAside].
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
