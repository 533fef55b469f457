package steps

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"etcd-rewind/manifest"
	"etcd-rewind/problem"
	"etcd-rewind/snapshot"
	"etcd-rewind/trust"
)

// A way is planned only where it leads to: before an undo or a redo moves
// anything, the data that etcd will start on is read, and held against what was
// recorded of it. A directory that isn't there any more would otherwise be made
// by kubelet (DirectoryOrCreate), and a blank cluster would boot, on which
// kubelets end all pods.

// Data is where an etcd's data lies on the node, and whose it was when the run
// was planned.
type Data struct {
	Dir string `json:"dir"`           // of --data-dir, on the node
	WAL string `json:"wal,omitempty"` // of --wal-dir, "" when it is inside
	snapshot.Identity
}

// readTarget is the limit for reading whose data a directory holds: some pages,
// of a disk that may be what is sick.
const readTarget = 5 * time.Second

// dataOf reads whose data the etcd of a manifest has.
func dataOf(ctx context.Context, e *manifest.EtcdSettings) (*Data, error) {
	d := &Data{Dir: e.DataDir.Path}
	if e.WALDir != nil {
		d.WAL = e.WALDir.Path
	}
	var err error
	d.Identity, err = d.now(ctx)
	return d, err
}

func (d *Data) now(ctx context.Context) (snapshot.Identity, error) {
	ctx, cancel := context.WithTimeout(ctx, readTarget)
	defer cancel()
	return snapshot.Identify(ctx, d.Dir, d.WAL)
}

// blank says that there was no database at all.
func (d *Data) blank() bool { return d.Size == 0 }

// target is the data that a plan lets etcd start on.
type target struct {
	check string // the name of its check
	what  string // "the old data"
	data  Data
	// recorded is false for a run of a version that recorded nothing but the
	// running etcd's cluster ID, which may be 0 too.
	recorded bool
	instead  string // what may be done when it isn't there
}

const (
	checkOldData      = "old-data"
	checkRestoredData = "restored-data"
)

// verdict reads the data as it is now and says whether it is what the run
// left. What isn't known is no match.
func (t *target) verdict(ctx context.Context) (Verdict, snapshot.Identity) {
	id, err := t.data.now(ctx)
	v := t.compare(id)
	if err != nil {
		v = bad("check the disk, then try again", "%s can't be read: %s", t.what, err)
	}
	v.Check, v.Title = t.check, strings.ToUpper(t.what[:1])+t.what[1:]
	if v.Level != Pass {
		v.Hint = strings.TrimPrefix(v.Hint+"; "+t.instead, "; ")
	}
	return v, id
}

func (t *target) compare(is snapshot.Identity) Verdict {
	was, dir := t.data.Identity, t.data.Dir
	sameFile := t.recorded && was.Inode == is.Inode && was.Size == is.Size && was.Size > 0
	switch {
	case is.Size == 0 && t.recorded && t.data.blank():
		return wrong("to boot a blank cluster all the same, override "+t.check,
			"%s held no etcd data when the run began, and holds none now: a blank cluster would boot, and kubelets would stop all pods", dir)
	case is.Size == 0:
		return bad("it was moved, deleted, or is on a disk that isn't mounted: put it back there, then try again",
			"%s isn't in %s any more (%s): a blank cluster would boot, and kubelets would stop all pods", t.what, dir, is.DatabaseErr)
	case t.recorded && t.data.blank():
		return wrong("", "%s held no etcd data when the run began, and holds some of cluster %x now", dir, is.ClusterID)
	case !is.Database && !sameFile:
		return bad("it is not what the run left there", "%s can't be used: the database in %s: %s", t.what, dir, is.DatabaseErr)
	case was.ClusterID != 0 && is.ClusterID == 0 && !sameFile, was.ClusterID != 0 && is.ClusterID == 0 && was.WALErr == "":
		return bad("it is not what the run left there", "cannot tell whether %s in %s is cluster %x's: %s", t.what, dir, was.ClusterID, is.WALErr)
	case was.ClusterID != 0 && is.ClusterID != 0 && is.ClusterID != was.ClusterID:
		return bad("it is not what the run left there", "%s in %s is another cluster's: %x, not %x", t.what, dir, is.ClusterID, was.ClusterID)
	case was.MemberID != 0 && is.MemberID != 0 && is.MemberID != was.MemberID:
		return bad("it is not what the run left there", "%s in %s is another member's: %x, not %x", t.what, dir, is.MemberID, was.MemberID)
	case t.recorded && was.Inode != 0 && is.Inode != was.Inode && is.Modified.Before(was.Modified):
		// Of the same cluster, but a copy that was made earlier.
		return wrong("", "%s in %s is older than what the run left there: another file, written last on %s, not after %s",
			t.what, dir, is.Modified.Local().Format(time.DateTime), was.Modified.Local().Format(time.DateTime))
	case is.Committed < was.Committed:
		// Whatever its date is.
		return wrong("", "%s in %s is older than what the run left there: its WAL ends at index %d, and not at %d or later", t.what, dir, is.Committed, was.Committed)
	case was.ClusterID == 0 && !sameFile:
		return wrong("", "cannot tell whether %s is what the run left there: the run recorded no cluster ID; it is cluster %x's, written last on %s", dir, is.ClusterID, Moment(is.Modified))
	}
	return ok("%s", t.say(is))
}

// say describes data for the plan.
func (t *target) say(is snapshot.Identity) string {
	of := "its cluster ID can't be read, but it is the same file as before"
	if is.ClusterID != 0 {
		of = fmt.Sprintf("cluster %x", is.ClusterID)
	}
	return fmt.Sprintf("%s: %s, %s, written last on %s", t.data.Dir, of, Bytes(is.Size), Moment(is.Modified))
}

// oldTarget is the data that a run left, to which an undo goes back.
func (h *history) oldTarget() (*target, error) {
	t := &target{check: checkOldData, what: "the old data"}
	if h.staged() != nil {
		t.instead = "the restored data is kept at " + h.restore.Restore.place()
	}
	if h.restore.Restore.Old != nil {
		t.data, t.recorded = *h.restore.Restore.Old, true
	} else {
		// A run of a version that recorded nothing: its manifest says where.
		old, err := h.oldEtcd()
		if err != nil {
			return nil, err
		}
		t.data.Dir = old.DataDir.Path
		if old.WALDir != nil {
			t.data.WAL = old.WALDir.Path
		}
	}
	for a := range h.restore.actions() {
		switch s := a.Action.(type) {
		case *Swap:
			t.data.Dir, t.data.WAL = s.oldNow(t.data.Dir), s.oldNow(t.data.WAL)
		case *Move:
			t.data.Dir = s.data()
		case *SetAside:
			if s.moved() {
				t.data.Dir, t.data.WAL = s.where(t.data.Dir), s.where(t.data.WAL)
			}
		}
	}
	if t.data.ClusterID == 0 {
		for a := range h.restore.actions() {
			if s, ok := a.Action.(stopping); ok && s.stops().role == RoleEtcd {
				if was := s.before(); was != nil {
					t.data.ClusterID = was.ClusterID
				}
			}
		}
	}
	return t, nil
}

// oldEtcd reads the manifest of etcd that the run took out, from the journal.
func (h *history) oldEtcd() (*manifest.Etcd, error) {
	for a := range h.restore.actions() {
		prepare, ok := a.Action.(*Prepare)
		if !ok {
			continue
		}
		for _, f := range prepare.Files {
			file, err := manifest.Parse(f.Manifest, f.Old)
			if err != nil {
				continue
			}
			if e, err := manifest.ReadEtcd(file); err == nil {
				return e, nil
			}
		}
	}
	return nil, problem.New("", "the journal of run %s doesn't record where the old data is", h.restore.Run)
}

// restoredTarget is the data that a run restored, to which a redo goes.
func (h *history) restoredTarget() (*target, error) {
	staged := h.staged()
	if adopted := h.adopted(); staged != nil && adopted != nil {
		t := &target{check: checkRestoredData, what: "the data that etcd was pointed at", recorded: true, data: Data{Dir: adopted.DataDir}}
		t.data.ClusterID, t.data.MemberID, t.data.Size = staged.ClusterID, staged.MemberID, max(staged.Bytes, 1)
		return t, nil
	}
	stage, placed := h.stage(), false
	if staged == nil || stage == nil {
		return nil, problem.New("start a new restore", "run %s has no restored data to switch to", h.restore.Run)
	}
	dir, wal := stage.Request.DataDir, stage.Request.WALDir
	for a := range h.restore.actions() {
		if s, ok := a.Action.(*Swap); ok {
			placed = placed || s.restoredAt() == s.Dir
			dir, wal = s.restoredNow(dir), s.restoredNow(wal)
		} else if m, ok := a.Action.(moving); ok && m.moved() {
			placed = true
			dir, wal = m.where(dir), m.where(wal)
		}
	}
	t := &target{check: checkRestoredData, what: "the restored data", recorded: true, data: Data{Dir: dir, WAL: wal}}
	t.data.ClusterID, t.data.MemberID, t.data.Size = staged.ClusterID, staged.MemberID, max(staged.Bytes, 1)
	if !placed {
		t.instead = "etcd-rewind restore stages it again"
	}
	return t, nil
}

// moving is an action that moves a directory of data to where it belongs.
type moving interface {
	Action
	// moved says whether that is done.
	moved() bool
	// where is the place, after that, of the data that etcd is to start on and that
	// lay at path before.
	where(path string) string
}

// moved is where a path below from lies when that is renamed to to.
func moved(path, from, to string) string {
	if path != "" && trust.Within(from, path) {
		return filepath.Join(to, strings.TrimPrefix(path, from))
	}
	return path
}

func (h *history) staged() *snapshot.Restored { return h.memory.Staged }

func (h *history) adopted() *Adopt {
	for a := range h.restore.actions() {
		if adopt, ok := a.Action.(*Adopt); ok {
			return adopt
		}
	}
	return nil
}

func (h *history) stage() *Stage {
	for a := range h.restore.actions() {
		if st, ok := a.Action.(*Stage); ok {
			return st
		}
	}
	return nil
}

// keptAt is where the restored data is after an undo.
func (f *RestoreFacts) keptAt() string {
	if f.InPlace {
		return f.DataDir
	}
	if f.Home {
		return f.OldDataDir
	}
	return f.Staging
}

// place is where the restored data lies now.
func (f *RestoreFacts) place() string {
	if _, err := os.Lstat(f.Staging); err != nil {
		if _, err := os.Lstat(f.DataDir); err == nil {
			return f.DataDir
		}
	}
	return f.Staging
}

// proven is nil when the data that etcd will start on is the one that was
// meant, as far as it goes now.
func (p *Plan) proven(ctx context.Context) error {
	if p.target == nil {
		return nil
	}
	t := *p.target
	for a := range p.actions() {
		// What the plan itself has moved by now.
		if m, ok := a.Action.(moving); ok && m.moved() {
			t.data.Dir, t.data.WAL = m.where(t.data.Dir), m.where(t.data.WAL)
		}
	}
	v, _ := t.verdict(ctx)
	checks := []Verdict{v}
	Accept(checks, p.accept)
	return allowed(checks)
}
