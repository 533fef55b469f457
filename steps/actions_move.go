package steps

import (
	"context"
	"fmt"
)

// Move gives etcd's data the path where kubeadm expects it, and renames aside what
// lies there. Of the paths of its swapping Staged is where the data lay, and Old
// what lies in its way: 0 for nothing.
type Move struct{ swapping }

func (*Move) Kind() string { return "move" }

func (a *Move) Title() string {
	if a.Old == 0 {
		return fmt.Sprintf("Rename etcd's data to %s", a.Dir)
	}
	return fmt.Sprintf("Rename %s to %s, and etcd's data to %s", a.Dir, a.Aside, a.Dir)
}

func (a *Move) Commands() []string {
	if a.Old == 0 {
		return []string{mv(a.Staged, a.Dir)}
	}
	return []string{mv(a.Dir, a.Aside), mv(a.Staged, a.Dir)}
}

func (a *Move) do(ctx context.Context, r *run) (State, error) {
	if a.Old == 0 {
		return (&Rename{From: a.Staged, To: a.Dir}).do(ctx, r)
	}
	return (&Swap{a.swapping}).do(ctx, r)
}

func (a *Move) moved() bool {
	if a.Old == 0 {
		return a.data() == a.Dir
	}
	return (&Swap{a.swapping}).moved()
}

// data is where etcd's data lies now.
func (s *swapping) data() string {
	if s.Old != 0 {
		return s.restoredAt()
	}
	if !isThere(s.Staged) && isThere(s.Dir) {
		return s.Dir
	}
	return s.Staged
}

func (a *Move) where(path string) string { return dataMoved(path, a.Staged, a.Dir) }

func (a *Move) places(v *vetter) { v.move(a.swapping) }

func (a *Move) undo() []Action {
	if a.Old == 0 && !a.moved() || a.Old != 0 && a.at() == a.Dir && !isThere(a.Aside) {
		return nil
	}
	return []Action{&MoveBack{a.swapping}}
}

// MoveBack gives etcd's data the path that it had, and what lay in its way too.
type MoveBack struct{ swapping }

func (*MoveBack) Kind() string { return "move-back" }

func (a *MoveBack) Title() string {
	if a.Old == 0 {
		return fmt.Sprintf("Rename etcd's data to %s again", a.Staged)
	}
	return fmt.Sprintf("Rename etcd's data to %s again, and %s to %s", a.Staged, a.Aside, a.Dir)
}

func (a *MoveBack) Commands() []string {
	if a.Old == 0 {
		return []string{mv(a.Dir, a.Staged)}
	}
	return []string{mv(a.Dir, a.Staged), mv(a.Aside, a.Dir)}
}

func (a *MoveBack) do(ctx context.Context, r *run) (State, error) {
	if a.Old == 0 {
		return (&Rename{From: a.Dir, To: a.Staged}).do(ctx, r)
	}
	return (&SwapBack{a.swapping}).do(ctx, r)
}

func (a *MoveBack) moved() bool {
	if a.Old == 0 {
		return !isThere(a.Dir) && isThere(a.Staged)
	}
	return (&SwapBack{a.swapping}).moved()
}

func (a *MoveBack) where(path string) string {
	return dataMoved(dataMoved(path, a.Aside, a.Staged), a.Dir, a.Staged)
}

func (a *MoveBack) places(v *vetter) { v.move(a.swapping) }

func (*MoveBack) undo() []Action { return nil }

// move is the directory of etcd's data before and after, as the run names both, and
// where what lies in its way is renamed aside to.
func (v *vetter) move(s swapping) {
	if !clean(s.Dir) || !clean(s.Staged) || s.Dir != v.home[1] || s.Staged != v.home[0] || s.Aside != asideFor(s.Dir, v.run) {
		v.refuse("the data directory", s.Dir)
	}
}
