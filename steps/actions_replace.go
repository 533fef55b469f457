package steps

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"etcd-rewind/manifest"
	"etcd-rewind/problem"
	"etcd-rewind/trust"
)

// ReplaceFile puts an edited file in the place of one with settings, by a rename
// in its directory: whoever reads it sees the one or the other.
type ReplaceFile struct {
	File string `json:"file"`
	From string `json:"from"` // what takes its place, in the run's directory
	// SHA256 of what is put there, Original of what was there; another content is
	// not touched.
	SHA256   string `json:"sha256"`
	Original string `json:"original"`
	Kept     string `json:"kept"`             // a copy of the original
	Undone   string `json:"undone"`           // where undo keeps what somebody has made of it since
	Reload   bool   `json:"reload,omitempty"` // systemd has to read it again
}

func (*ReplaceFile) Kind() string { return "replace-file" }

func (a *ReplaceFile) Title() string { return "Replace " + a.File }

func (a *ReplaceFile) Commands() []string {
	return reloaded(a.Reload, trust.Shell("cp -a --remove-destination %s %s", a.From, a.File))
}

// reloaded are commands after which systemd has to read its units again, or
// hasn't.
func reloaded(reload bool, cmds ...string) []string {
	if reload {
		cmds = append(cmds, "systemctl daemon-reload")
	}
	return cmds
}

func (a *ReplaceFile) do(ctx context.Context, r *run) (State, error) {
	return r.replace(ctx, a.File, a.Original, a.SHA256, a.Reload, func([]byte) error {
		data, err := os.ReadFile(a.From)
		if err != nil {
			return err
		}
		if sum(data) != a.SHA256 {
			return changedSince(a.From)
		}
		if err := replaceFile(a.File, data); err != nil {
			return err
		}
		r.point("in the middle", r.action.ID)
		return nil
	})
}

// replace turns a file from one content into another, by their SHA256; a third
// is somebody else's, and stays. What was done already is only read again by
// systemd, where reload says that it has to.
func (r *run) replace(ctx context.Context, file, from, to string, reload bool, put func(now []byte) error) (State, error) {
	now, err := os.ReadFile(file)
	if err != nil {
		return Failed, err
	}
	state := Already
	switch sum(now) {
	case to:
	case from:
		state = Done
		if err := put(now); err != nil {
			return Failed, err
		}
	default:
		return Failed, changedSince(file)
	}
	if reload {
		return state, r.world.ReloadUnits(ctx)
	}
	return state, nil
}

// replaceFile writes a file beside another, and renames it there. What is a link
// stays one: the file that it leads to is replaced.
func replaceFile(path string, data []byte) error {
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	aside := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".etcd-rewind")
	if err := writeOnce(aside, data, path); err != nil {
		return err
	}
	if err := os.Rename(aside, path); err != nil {
		return err
	}
	return manifest.SyncDir(filepath.Dir(path))
}

func (a *ReplaceFile) moved() bool {
	now, err := os.ReadFile(a.File)
	return err == nil && sum(now) == a.SHA256
}

// where: no directory is moved.
func (a *ReplaceFile) where(path string) string { return path }

func (a *ReplaceFile) placed() placed { return placed{a.File, a.Original, a.SHA256, a.Undone} }

func (a *ReplaceFile) places(v *vetter) {
	v.path(a.File)
	v.own(a.From, a.Kept, a.Undone)
}

// undo puts the original there again. What somebody has made of the file since
// is kept, as it is when the plan is shown.
func (a *ReplaceFile) undo() []Action {
	now, err := os.ReadFile(a.File)
	if err != nil || sum(now) == a.Original {
		return nil
	}
	return []Action{&RestoreFile{File: a.File, From: a.Kept, SHA256: a.Original, Now: sum(now), Undone: a.Undone, Reload: a.Reload}}
}

// RestoreFile puts a file with settings back as it was, byte for byte.
type RestoreFile struct {
	File   string `json:"file"`
	From   string `json:"from"` // the copy of it
	SHA256 string `json:"sha256"`
	Now    string `json:"now"`    // SHA256 of what is there; another content is not touched
	Undone string `json:"undone"` // where that is kept
	Reload bool   `json:"reload,omitempty"`
}

func (*RestoreFile) Kind() string { return "restore-file" }

func (a *RestoreFile) Title() string { return "Put " + a.File + " back as it was" }

func (a *RestoreFile) Commands() []string {
	return reloaded(a.Reload, trust.Shell("cp -a %s %s", a.File, a.Undone), trust.Shell("cp -a --remove-destination %s %s", a.From, a.File))
}

func (a *RestoreFile) do(ctx context.Context, r *run) (State, error) {
	return r.replace(ctx, a.File, a.Now, a.SHA256, a.Reload, a.restore)
}

func (a *RestoreFile) restore(now []byte) error {
	kept, err := os.ReadFile(a.From)
	if err != nil {
		return err
	}
	if sum(kept) != a.SHA256 {
		return problem.New("nothing was done with it", "%s is not the copy that the run made", a.From)
	}
	if _, err := os.Lstat(a.Undone); errors.Is(err, fs.ErrNotExist) {
		if err := writeOnce(a.Undone, now, a.From); err != nil {
			return err
		}
	}
	return replaceFile(a.File, kept)
}

func (a *RestoreFile) places(v *vetter) {
	v.path(a.File)
	v.own(a.From, a.Undone)
}

func (*RestoreFile) undo() []Action { return nil }
