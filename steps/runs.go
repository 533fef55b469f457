package steps

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"
)

// RunState says how a run ended.
type RunState string

// The states of a run.
const (
	RunRestored   RunState = "restored"   // the node runs on the restored data
	RunUndone     RunState = "undone"     // the node is as it was
	RunFailed     RunState = "failed"     // it ended on the way
	RunUnfinished RunState = "unfinished" // it broke off: no end is recorded
	RunUntouched  RunState = "untouched"  // it ended before anything was changed
	RunUnreadable RunState = "unreadable" // its journal can't be read
)

// RunInfo is one run of this node, as its journal tells.
type RunInfo struct {
	Run      string    `json:"run"`
	Dir      string    `json:"dir"`
	Started  time.Time `json:"started"`
	State    RunState  `json:"state"`
	Snapshot string    `json:"snapshot,omitempty"`
	DataDir  string    `json:"data_dir,omitempty"`
	Outage   float64   `json:"outage_seconds,omitempty"`
	Err      string    `json:"error,omitempty"`
	Fleet    bool      `json:"fleet,omitempty"` // it was one of several nodes
}

// Runs lists the runs in a state directory, the newest first. A directory that
// isn't there yet holds none.
func Runs(stateDir string) ([]RunInfo, error) {
	entries, err := os.ReadDir(stateDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var runs []RunInfo
	for _, e := range entries {
		if !e.IsDir() || !runName.MatchString(e.Name()) {
			continue
		}
		runs = append(runs, readRun(filepath.Join(stateDir, e.Name())))
	}
	slices.SortFunc(runs, func(a, b RunInfo) int { return cmp.Compare(b.Run, a.Run) })
	return runs, nil
}

var runName = regexp.MustCompile(`^\d{8}-\d{6}(-\d+)?$`)

func readRun(dir string) RunInfo {
	info := RunInfo{Run: filepath.Base(dir), Dir: dir}
	h, err := readHistory(dir)
	if err != nil {
		info.State, info.Err = RunUnreadable, err.Error()
		return info
	}
	info.Started = h.started
	info.Outage = h.memory.Outage
	if f := h.restore.Restore; f != nil {
		info.Snapshot, info.DataDir = f.Snapshot, f.DataDir
	}
	info.Fleet = h.restore.fleet()
	switch {
	case h.end == nil && h.last.Kind == KindRestore && len(undoActions(h)) == 0:
		info.State = RunUntouched // it broke off, but before the node knew of it
	case h.end == nil:
		info.State = RunUnfinished
	case h.last.Kind == KindUndo && h.end.Result != nil && h.end.Result.PutBack:
		info.State = RunUndone
	case h.end.Result != nil && h.end.Result.OK:
		info.State = RunRestored
	case h.end.Result != nil && h.end.Result.PutBack:
		info.State = RunUntouched
	default:
		info.State = RunFailed
		if r := h.end.Result; r != nil && r.Error != nil {
			info.Err = r.Error.Cause
		}
	}
	return info
}

func unfinished(stateDir string) *RunInfo {
	runs, err := Runs(stateDir)
	if err != nil {
		return nil
	}
	for _, r := range runs {
		if r.State == RunUnfinished || r.State == RunFailed {
			return &r
		}
	}
	return nil
}

// newRunName is the time in UTC. Names tell which run came last, which undo
// relies on: after a clock that was set back, and in the same second, a run is
// named a second after the newest.
func newRunName(stateDir string, now time.Time) string {
	const stamp = "20060102-150405"
	name := now.UTC().Format(stamp)
	entries, err := os.ReadDir(stateDir)
	if err != nil {
		return name // not there yet, or the run can't begin anyway
	}
	for _, e := range entries {
		if !runName.MatchString(e.Name()) || e.Name()[:len(stamp)] < name {
			continue
		}
		if last, err := time.Parse(stamp, e.Name()[:len(stamp)]); err == nil {
			name = last.Add(time.Second).Format(stamp)
		}
	}
	return name
}
