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

// newRunName is the time in UTC; a second run within the same second gets a
// number.
func newRunName(stateDir string, now time.Time) string {
	name := now.UTC().Format("20060102-150405")
	for n := 2; ; n++ {
		if _, err := os.Lstat(filepath.Join(stateDir, name)); errors.Is(err, fs.ErrNotExist) {
			return name
		}
		name = now.UTC().Format("20060102-150405") + "-" + string(rune('0'+n))
	}
}
