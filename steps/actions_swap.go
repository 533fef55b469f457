package steps

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"etcd-rewind/manifest"
	"etcd-rewind/problem"
	"etcd-rewind/trust"
)

// swapping are the three paths of a swap. A machine may boot at any point of it,
// and systemd then starts etcd on what lies at Dir: so the two directories are
// exchanged at once where the file system can do that, and Dir is never without
// data. Which of the paths has the old data shows how far a swap has come.
type swapping struct {
	Dir    string `json:"dir"`    // of etcd
	Staged string `json:"staged"` // of the restored data before, and after an undo
	Aside  string `json:"aside"`  // of the old data while etcd runs on the restored one
	// Old is the inode of the old data's directory, which it keeps when it is
	// renamed.
	Old uint64 `json:"old"`
}

// inode is that of a directory, 0 where there is none.
func inode(path string) uint64 {
	if info, err := os.Lstat(path); err == nil && info.IsDir() {
		if s, ok := info.Sys().(*syscall.Stat_t); ok {
			return s.Ino
		}
	}
	return 0
}

func isThere(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// at is the path that has the old data's directory now, "" when none has.
func (s *swapping) at() string {
	for _, path := range []string{s.Aside, s.Staged, s.Dir} {
		if inode(path) == s.Old && s.Old != 0 {
			return path
		}
	}
	return ""
}

// restoredAt is the path that has the restored data.
func (s *swapping) restoredAt() string {
	switch s.at() {
	case s.Staged:
		return s.Dir
	case s.Aside:
		if !isThere(s.Staged) {
			return s.Dir
		}
	case s.Dir:
		if isThere(s.Aside) {
			return s.Aside
		}
	}
	return s.Staged
}

// oldNow is where old data lies now that has its place at path.
func (s *swapping) oldNow(path string) string {
	if at := s.at(); at != "" && at != s.Dir {
		return dataMoved(path, s.Dir, at)
	}
	return path
}

// restoredNow is where restored data lies now that was staged at path.
func (s *swapping) restoredNow(path string) string {
	if at := s.restoredAt(); at != s.Staged {
		return dataMoved(path, s.Staged, at)
	}
	return path
}

func (s *swapping) lost() error {
	return problem.New("find out where it is; nothing is moved until it is back", "the old data is neither in %s nor in %s nor in %s", s.Dir, s.Aside, s.Staged)
}

// makeAside makes the directory that member goes to, where that is what is
// swapped.
func (s *swapping) makeAside() error {
	if filepath.Base(s.Dir) != memberDir {
		return nil
	}
	up := filepath.Dir(s.Aside)
	if err := ownSubdir(up); err != nil {
		return err
	}
	return likeOld(up, filepath.Dir(s.Dir))
}

// free keeps aside what somebody has put at etcd's path while a swap was
// interrupted: etcd itself, which makes a directory that isn't there.
func (s *swapping) free(r *run) error {
	if !isThere(s.Dir) {
		return nil
	}
	if err := realDir(s.Dir); err != nil {
		return err
	}
	to := s.found()
	if err := manifest.Move(s.Dir, to); err != nil {
		return err
	}
	r.say("%s held other data, made while the run was interrupted: it is kept at %s", s.Dir, to)
	return nil
}

// found is where data is kept that is neither the old nor the restored one.
func (s *swapping) found() string {
	aside := s.Aside
	if filepath.Base(s.Dir) == memberDir {
		aside = filepath.Dir(aside)
	}
	i := strings.LastIndex(aside, "-before-")
	if i < 0 {
		return aside + "-found"
	}
	first := aside[:i] + "-found-" + aside[i+len("-before-"):]
	name := first
	for n := 2; isThere(name) && n < 100; n++ {
		name = fmt.Sprintf("%s-%d", first, n)
	}
	return name
}

// stranger says whether data lies at etcd's path that is neither the old nor the
// restored one.
func (s *swapping) stranger() bool {
	return s.at() == s.Aside && isThere(s.Staged) && isThere(s.Dir)
}

// stands says in words what a swap that was interrupted has left at which path;
// nil for one that wasn't.
func (s *swapping) stands() []Fact {
	at := s.at()
	switch {
	case at == "":
		return []Fact{{"old data", problem.Line(s.lost())}}
	case at == s.Dir && !isThere(s.Aside), at == s.Aside && !isThere(s.Staged) && isThere(s.Dir):
		return nil
	}
	facts := []Fact{{"half swapped", fmt.Sprintf("the old data is in %s, the restored data in %s", at, s.restoredAt())}}
	if s.stranger() {
		facts = append(facts, Fact{"found there", fmt.Sprintf("%s holds other data, made while the run was interrupted: it will be kept at %s", s.Dir, s.found())})
	}
	return facts
}

// swap renames until settled is true. Each round is one rename, and the next one
// looks again: it may be another process's.
func (s *swapping) swap(r *run, next func(old string) (func() error, bool)) (State, error) {
	for state := Already; ; state = Done {
		old := s.at()
		if old == "" {
			return Failed, s.lost()
		}
		rename, settled := next(old)
		if settled {
			return state, realDir(s.Dir)
		}
		if err := rename(); err != nil {
			return Failed, err
		}
		r.point("in the middle", r.action.ID)
	}
}

// exchange gives each of two directories the other's path, or does instead what
// needs only renames.
func (r *run) exchange(a, b string, instead func() error) error {
	exchange := manifest.Exchange
	if r.engine.exchange != nil {
		exchange = r.engine.exchange
	}
	for _, path := range []string{a, b} {
		if err := realDir(path); err != nil {
			return err
		}
	}
	err := exchange(a, b)
	if errors.Is(err, manifest.ErrNoExchange) {
		return instead()
	}
	return err
}

// Swap gives the path of the old data to the restored one, and renames the old
// data aside.
type Swap struct{ swapping }

func (*Swap) Kind() string { return "swap" }

func (a *Swap) Title() string {
	return fmt.Sprintf("Rename the old data to %s, and the restored data to %s", a.Aside, a.Dir)
}

func (a *Swap) Commands() []string {
	cmds := []string{mv(a.Dir, a.Aside), mv(a.Staged, a.Dir)}
	if filepath.Base(a.Dir) == memberDir {
		return append([]string{trust.Shell("mkdir -m 700 %s", filepath.Dir(a.Aside))}, cmds...)
	}
	return cmds
}

func (a *Swap) do(_ context.Context, r *run) (State, error) {
	return a.swap(r, func(old string) (func() error, bool) {
		staged := isThere(a.Staged)
		switch {
		case old == a.Aside && !staged:
			return nil, true
		case old == a.Aside: // on its way by two renames
			return func() error {
				if err := a.free(r); err != nil {
					return err
				}
				return manifest.Move(a.Staged, a.Dir)
			}, false
		case old == a.Staged: // exchanged
			return func() error { return a.setAside(a.Staged) }, false
		case isThere(a.Aside): // an undo has exchanged them
			return func() error { return manifest.Move(a.Aside, a.Staged) }, false
		}
		return func() error { return r.exchange(a.Staged, a.Dir, func() error { return a.setAside(a.Dir) }) }, false
	})
}

func (s *swapping) setAside(from string) error {
	if err := s.makeAside(); err != nil {
		return err
	}
	return manifest.Move(from, s.Aside)
}

func (a *Swap) moved() bool { return a.at() == a.Aside && !isThere(a.Staged) && isThere(a.Dir) }

// where is for the restored data.
func (a *Swap) where(path string) string {
	return dataMoved(dataMoved(path, a.Staged, a.Dir), a.Aside, a.Dir)
}

func (a *Swap) places(v *vetter) { v.swap(a.swapping) }

func (a *Swap) undo() []Action {
	if a.at() == a.Dir && !isThere(a.Aside) {
		return nil
	}
	return []Action{&SwapBack{a.swapping}}
}

// SwapBack gives the old data its path again, and renames the restored one to
// where it was staged.
type SwapBack struct{ swapping }

func (*SwapBack) Kind() string { return "swap-back" }

func (a *SwapBack) Title() string {
	return fmt.Sprintf("Rename the restored data to %s, and the old data to %s again", a.Staged, a.Dir)
}

func (a *SwapBack) Commands() []string {
	return []string{mv(a.Dir, a.Staged), mv(a.Aside, a.Dir)}
}

func (a *SwapBack) do(_ context.Context, r *run) (State, error) {
	return a.swap(r, func(old string) (func() error, bool) {
		switch staged := isThere(a.Staged); {
		case old == a.Dir && !isThere(a.Aside):
			return nil, true
		case old == a.Dir: // exchanged
			return func() error { return manifest.Move(a.Aside, a.Staged) }, false
		case old == a.Staged: // what is undone was interrupted when it had exchanged them
			return func() error { return r.exchange(a.Staged, a.Dir, func() error { return a.setAside(a.Staged) }) }, false
		case staged || !isThere(a.Dir):
			return func() error {
				if err := a.free(r); err != nil {
					return err
				}
				return manifest.Move(a.Aside, a.Dir)
			}, false
		}
		return func() error {
			return r.exchange(a.Aside, a.Dir, func() error { return manifest.Move(a.Dir, a.Staged) })
		}, false
	})
}

func (a *SwapBack) moved() bool { return a.at() == a.Dir && !isThere(a.Aside) }

// where is for the old data.
func (a *SwapBack) where(path string) string {
	return dataMoved(dataMoved(path, a.Aside, a.Dir), a.Staged, a.Dir)
}

func (a *SwapBack) places(v *vetter) { v.swap(a.swapping) }

func (*SwapBack) undo() []Action { return nil }

// swap is a directory of data, where the restored one is staged, and where the
// old one is renamed aside to.
func (v *vetter) swap(s swapping) {
	if !clean(s.Dir) || s.Aside != asideFor(s.Dir, v.run) || s.Staged != stagedFor(s.Dir, v.run) {
		v.refuse("the data directory", s.Dir)
		return
	}
	v.staging = append(v.staging, stagingFor(s.Dir, v.run))
}
