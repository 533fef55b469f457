package steps

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"etcd-rewind/problem"
	"etcd-rewind/trust"
)

// RunState says how a run ended.
type RunState string

// The states of a run.
const (
	RunRestored   RunState = "restored"   // the node runs on the restored data
	RunUndone     RunState = "undone"     // the node is as it was
	RunFailed     RunState = "failed"     // it ended on the way
	RunUnfinished RunState = "unfinished" // it was interrupted: no end is recorded
	RunUntouched  RunState = "untouched"  // it ended before anything was changed
	RunUnreadable RunState = "unreadable" // its journal can't be read
)

// RunInfo is one run of this node, as its journal records it.
type RunInfo struct {
	Run      string    `json:"run"`
	Dir      string    `json:"dir"`
	Started  time.Time `json:"started"`
	State    RunState  `json:"state"`
	Snapshot string    `json:"snapshot,omitempty"`
	DataDir  string    `json:"data_dir,omitempty"`
	Outage   float64   `json:"outage_seconds,omitempty"`
	Err      string    `json:"error,omitempty"`
	Fleet    bool      `json:"fleet,omitempty"`   // it was one of several nodes
	Undoing  bool      `json:"undoing,omitempty"` // what ran last of it is an undo, to its end or not
	Redoing  bool      `json:"redoing,omitempty"` // or a redo

	// Left is the database that the run left, where its data directory is kept; ""
	// when there was none.
	Left string `json:"-"`
	// OldDir is where etcd's data lay before, and ClusterID the restored data's, 0
	// when it isn't known.
	OldDir    string `json:"-"`
	ClusterID uint64 `json:"-"`
	// Home says that it moved etcd's data, and restored none; what lay in its way is
	// at Aside, "" where nothing did.
	Home  bool   `json:"-"`
	Aside string `json:"-"`
	// WentBack is when it began to take etcd's revision back, as an undo does; zero
	// where it didn't. Kubelets that run for longer wait for revisions that are gone.
	WentBack time.Time `json:"-"`

	hint  string   // for Err
	file  string   // that the snapshot is read from
	flags []string // that reach the node, as the run had them
}

// Unreadable is the error of a run whose journal can't be read, before the run
// that is asked for is found: it may stand on top of that one. It is nil for one
// that can be read, and for one that was named.
func (r RunInfo) Unreadable(asked string, accept []string) error {
	name := checkUnreadable + ":" + r.Run
	switch {
	case r.State != RunUnreadable:
		return nil
	case r.Run == asked:
		return problem.New(r.hint, "run %s can't be read: %s", r.Run, r.Err)
	case slices.Contains(accept, name):
		return nil
	}
	return problem.New(strings.TrimPrefix(r.hint+"; ", "; ")+"to ignore it: "+trust.Shell("--override %s", name), "run %s, which came later, can't be read: %s", r.Run, r.Err)
}

// stands says whether a run has left something on the node to undo.
func (r RunInfo) stands() bool {
	return r.State == RunRestored || r.State == RunFailed || r.State == RunUnfinished
}

// Runs lists the runs in a state directory, the newest first. A directory that
// isn't there yet holds none. What has a run's name and can't be read is listed
// as unreadable: it may be a run all the same.
func Runs(stateDir string) ([]RunInfo, error) {
	entries, err := os.ReadDir(stateDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		err = notTrusted(trust.Dir(stateDir))
	}
	if err != nil {
		return nil, fmt.Errorf("the runs of this node can't be read: %w", err)
	}
	var runs []RunInfo
	for _, e := range entries {
		if runName.MatchString(e.Name()) {
			runs = append(runs, readRun(filepath.Join(stateDir, e.Name())))
		}
	}
	slices.SortFunc(runs, func(a, b RunInfo) int { return cmp.Compare(b.Run, a.Run) })
	return runs, nil
}

func readRun(dir string) RunInfo {
	info := RunInfo{Run: filepath.Base(dir), Dir: dir}
	h, err := readHistory(dir)
	switch {
	case problem.HasCode(err, codeNoPlan) && hasNothing(dir):
		info.State = RunUntouched // interrupted before its plan was on the disk
		return info
	case err != nil:
		info.State = RunUnreadable
		info.Err, info.hint = problem.Explain(err)
		return info
	}
	info.Started = h.started
	info.Outage = h.memory.Outage
	if f := h.restore.Restore; f != nil {
		info.Snapshot, info.DataDir = f.Snapshot, f.DataDir
		info.OldDir, info.Home, info.Aside = f.OldDataDir, f.Home, f.Aside
		if st := h.staged(); st != nil {
			info.ClusterID = st.ClusterID
		}
		if f.Old != nil && !f.Old.blank() {
			info.Left = filepath.Join(f.Old.Dir, dbFile)
		}
	}
	if st := h.stage(); st != nil {
		info.file = st.Request.Snapshot
	}
	info.Fleet = h.restore.fleet()
	info.flags = h.last.Flags
	if h.last.Afterwards != "" {
		info.WentBack = h.lastBegan
	}
	info.Undoing, info.Redoing = h.last.Kind == KindUndo, h.last.Kind == KindRedo
	switch {
	case h.end == nil && h.last.Kind == KindRestore && len(undoActions(h)) == 0:
		info.State = RunUntouched // it was interrupted, but before the node knew of it
	case h.end == nil:
		info.State = RunUnfinished
	case h.last.Kind == KindUndo && h.end.Result != nil && h.end.Result.Reverted:
		info.State = RunUndone
	case h.end.Result != nil && h.end.Result.OK:
		info.State = RunRestored
	case h.end.Result != nil && h.end.Result.Reverted:
		info.State = RunUntouched
	default:
		info.State = RunFailed
		if r := h.end.Result; r != nil && r.Error != nil {
			info.Err = r.Error.Cause
		}
	}
	return info
}

// hasNothing says whether the directory of a run has nothing in it that a run
// with a plan would have made.
func hasNothing(dir string) bool {
	entries, err := os.ReadDir(dir)
	return err == nil && !slices.ContainsFunc(entries, func(e os.DirEntry) bool {
		return e.Name() != journalName && e.Name() != eventsName
	})
}

// unfinished is the newest run that was interrupted, and the runs that
// can't be read: what they did isn't known. When none can be listed there is one
// without a name.
func unfinished(stateDir string) (newest *RunInfo, unreadable []RunInfo) {
	runs, err := Runs(stateDir)
	if err != nil {
		cause, hint := problem.Explain(err)
		return nil, []RunInfo{{Dir: stateDir, State: RunUnreadable, Err: cause, hint: hint}}
	}
	for _, r := range runs {
		switch {
		case r.State == RunUnreadable:
			unreadable = append(unreadable, r)
		case newest == nil && (r.State == RunUnfinished || r.State == RunFailed):
			newest = &r
		}
	}
	return newest, unreadable
}

// newRunName names the next run of a node.
func newRunName(stateDir string, now time.Time) string {
	return NextRunName(now, NewestRunName(stateDir))
}

// NewestRunName is the name of the newest run in a state directory, whether or
// not it can be read; "" when there is none.
func NewestRunName(stateDir string) string {
	newest := ""
	entries, _ := os.ReadDir(stateDir) // not there yet, or the run can't begin anyway
	for _, e := range entries {
		if IsRunName(e.Name()) && e.Name() > newest {
			newest = e.Name()
		}
	}
	return newest
}

// NextRunName is the time in UTC. Names show which run came last, which undo
// relies on: after a clock that was set back, and in the same second, a run is
// named a second after the newest that is taken, on whichever node.
func NextRunName(now time.Time, taken ...string) string {
	name := now.UTC().Format(runStamp)
	for _, t := range taken {
		if !IsRunName(t) || t[:len(runStamp)] < name {
			continue
		}
		if last, err := time.Parse(runStamp, t[:len(runStamp)]); err == nil {
			name = last.Add(time.Second).Format(runStamp)
		}
	}
	return name
}
