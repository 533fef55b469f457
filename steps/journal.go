package steps

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"syscall"
	"time"

	"etcd-rewind/manifest"
	"etcd-rewind/problem"
	"etcd-rewind/snapshot"
)

// journalVersion changes when an older program could misread a journal.
const journalVersion = 1

// The files of a run's directory.
const (
	journalName = "journal.jsonl"
	eventsName  = "events.jsonl"
)

// Journal record types.
const (
	recPlan   = "plan"   // a plan is about to run; the second and later ones go back
	recIntent = "intent" // written before an action touches anything
	recResult = "result" // written after it
	recEnd    = "end"    // the plan ended, well or not
)

// record is one line of a run's journal: what was meant before it was done,
// and what came of it. It is only ever appended to and is on the disk before
// the node is touched.
type record struct {
	V       int       `json:"v"`
	Type    string    `json:"type"`
	Time    time.Time `json:"time"`
	Action  string    `json:"action,omitempty"` // Planned.ID
	State   State     `json:"state,omitempty"`
	Error   string    `json:"error,omitempty"`
	Plan    *Plan     `json:"plan,omitempty"`
	Memory  *memory   `json:"memory,omitempty"`
	Result  *Result   `json:"result,omitempty"`
	Command []string  `json:"commands,omitempty"`
}

// memory is what later actions, and a later process, need to know from
// earlier ones.
type memory struct {
	Staged           *snapshot.Restored   `json:"staged,omitempty"`
	Pods             map[string][]string  `json:"pods,omitempty"`  // pod → UIDs there while its manifest was out
	Begun            map[string][]string  `json:"begun,omitempty"` // pod → UIDs kubelet had begun with then
	Ended            map[string]time.Time `json:"-"`               // pod → when this process first saw it without containers
	APIBefore        string               `json:"api_before,omitempty"`
	AwaySince        time.Time            `json:"away_since,omitzero"`
	Outage           float64              `json:"outage_seconds,omitempty"`
	Revision         int64                `json:"revision,omitempty"`
	KubeletRestarted bool                 `json:"kubelet_restarted,omitempty"`
	Proven           bool                 `json:"proven,omitempty"` // etcd was ready with the restored data
	// Judged are ended containers that made a wait fail, by pod: tried again,
	// the wait looks for what comes after them.
	Judged map[string][]string `json:"judged,omitempty"`
	// Notes are what a person has to know or do afterwards although nothing
	// failed, by name; for the summary and the report.
	Notes []Fact `json:"notes,omitempty"`
}

// renew drops what belongs to the plan before, for one that goes another way.
func (m *memory) renew() { m.KubeletRestarted, m.Notes, m.Proven = false, nil, false }

// journal appends to a run's file.
type journal struct {
	f    *os.File
	torn bool // the last line is cut off: the disk was full
}

// openJournal opens or makes the journal of a run directory. The file is the
// user's only record after a crash: it is never followed through a symlink,
// and a torn last line is ended first, so that it can't swallow the next. room
// is how many bytes the run and its way back will write.
func openJournal(runDir string, room int64) (*journal, error) {
	if err := ownDir(runDir); err != nil {
		return nil, err
	}
	path := filepath.Join(runDir, journalName)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_APPEND|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the journal: %w", err)
	}
	j := &journal{f: f}
	if err := j.endTornLine(); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("open the journal: %w", err)
	}
	if err := j.reserve(room); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("open the journal: %w", err)
	}
	for _, dir := range []string{runDir, filepath.Dir(runDir)} {
		if err := manifest.SyncDir(dir); err != nil {
			_ = f.Close()
			return nil, err
		}
	}
	return j, nil
}

// room is how much a run and its way back write into the journal, in bytes: the
// plan, and one that goes back and one that goes there again, and for each
// action an intent and a result with what is remembered.
func (p *Plan) room() int64 {
	line, err := json.Marshal(p)
	if err != nil {
		return leastRoom
	}
	actions := 0
	for _, s := range p.Steps {
		actions += len(s.Actions)
	}
	return max(leastRoom, 4*int64(len(line))+3*int64(actions)*perAction)
}

const (
	leastRoom = 1 << 20
	perAction = 8 << 10
)

// reserve takes the disk space that the journal will need before anything is
// touched: a disk that fills up in the middle then stops neither the run nor
// the way back. A resumed run has its space already, or does
// without.
func (j *journal) reserve(room int64) error {
	info, err := j.f.Stat()
	if err != nil {
		return err
	}
	err = reserveBeyond(j.f, info.Size(), room)
	if info.Size() > 0 {
		return nil
	}
	return err
}

// release gives back what was reserved and not needed.
func (j *journal) release() {
	if info, err := j.f.Stat(); err == nil {
		_ = j.f.Truncate(info.Size()) // else it stays: one megabyte
	}
}

func (j *journal) endTornLine() error {
	info, err := j.f.Stat()
	if err != nil || info.Size() == 0 {
		return err
	}
	last := make([]byte, 1)
	if _, err := j.f.ReadAt(last, info.Size()-1); err != nil {
		return err
	}
	if last[0] == '\n' {
		return nil
	}
	_, err = j.f.Write([]byte("\n"))
	return err
}

func (j *journal) write(rec record) error {
	rec.V = journalVersion
	line, err := json.Marshal(rec)
	if err != nil {
		return fmt.Errorf("write the journal: %w", err)
	}
	if line = append(line, '\n'); j.torn {
		line = append([]byte{'\n'}, line...)
	}
	if n, err := j.f.Write(line); err != nil {
		j.torn = j.torn || n > 0
		return fmt.Errorf("write the journal: %w", err)
	}
	j.torn = false
	if err := j.f.Sync(); err != nil {
		return fmt.Errorf("write the journal: %w", err)
	}
	return nil
}

func (j *journal) close() error { return j.f.Close() }

// history is a journal read back.
type history struct {
	restore   *Plan
	last      *Plan // the plan that ran last: restore or undo
	lastBegan time.Time
	began     map[string]bool // actions of the restore with an intent
	done      map[string]bool // actions of the restore with a good result
	doing     string          // action with an intent and no result yet, "" when there is none
	memory    memory
	end       *record // of the last plan; nil when it was interrupted
	started   time.Time
	latest    time.Time // of all records
}

// readHistory reads the journal of a run, if it may be believed. A torn last
// line is what a crash leaves: the action in it had not begun.
func readHistory(runDir string) (*history, error) {
	if err := trusted(runDir); err != nil {
		return nil, err
	}
	path := filepath.Join(runDir, journalName)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errNoPlan(path)
	}
	if err != nil {
		return nil, err
	}
	return parseHistory(data, runDir)
}

// codeNoPlan is a run that ended before it had a plan.
const codeNoPlan = "no-plan"

func errNoPlan(path string) error {
	return problem.Coded(codeNoPlan, "", "the journal at %s holds no plan: the run ended before it touched anything", path)
}

func parseHistory(data []byte, runDir string) (*history, error) {
	path := filepath.Join(runDir, journalName)
	h := &history{began: map[string]bool{}, done: map[string]bool{}}
	records := 0
	for n := 1; len(data) > 0; n++ {
		var line []byte
		line, data, _ = bytes.Cut(data, []byte("\n"))
		if len(data) == 0 {
			line = bytes.TrimRight(line, "\x00") // a crash of the machine
		}
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		var rec record
		if err := json.Unmarshal(line, &rec); err != nil {
			var head struct{ V int }
			if json.Unmarshal(line, &head) == nil && head.V > journalVersion {
				return nil, newerJournal(path, head.V)
			}
			if torn(line) {
				continue
			}
			return nil, damagedJournal(path, n, err)
		}
		if rec.V > journalVersion {
			return nil, newerJournal(path, rec.V)
		}
		if err := h.add(rec, runDir); err != nil {
			return nil, damagedJournal(path, n, err)
		}
		records++
	}
	switch {
	case h.restore != nil:
		return h, nil
	case records == 0:
		return nil, errNoPlan(path)
	}
	return nil, damagedJournal(path, 1, errors.New("it doesn't begin with a plan"))
}

// torn says whether a line was cut off, by a crash or a full disk: it begins as
// a record does, and ends too early.
func torn(line []byte) bool {
	if !bytes.HasPrefix(line, []byte("{")) {
		return false
	}
	err := json.NewDecoder(bytes.NewReader(line)).Decode(new(json.RawMessage))
	return errors.Is(err, io.ErrUnexpectedEOF)
}

func damagedJournal(path string, line int, err error) error {
	if p := problem.Of(err); p != nil {
		return p
	}
	return problem.New("inspect it by hand: each line is a JSON object", "the journal at %s is damaged in line %d: %w", path, line, err)
}

func newerJournal(path string, v int) error {
	return problem.New("use the version of etcd-rewind that made the run", "the journal at %s was written by a newer version (format %d, this one supports %d)", path, v, journalVersion)
}

// add takes in one record; the error says why it can't be one of this journal.
func (h *history) add(rec record, runDir string) error {
	if rec.Time.After(h.latest) {
		h.latest = rec.Time
	}
	switch rec.Type {
	case recPlan:
		if rec.Plan == nil {
			return errors.New("a plan is missing")
		}
		if err := rec.Plan.vet(runDir); err != nil {
			return err
		}
		h.last, h.lastBegan, h.end, h.doing = rec.Plan, rec.Time, nil, ""
		switch {
		case h.restore == nil && rec.Plan.Kind != KindRestore:
			return errors.New("it begins with the plan of " + rec.Plan.Kind)
		case h.restore == nil:
			h.restore, h.started = rec.Plan, rec.Time
		case rec.Plan.Kind == KindRedo:
			// All that the run does is done again, also what it had not come to.
			for _, s := range h.restore.Steps {
				for _, a := range s.Actions {
					h.began[a.ID] = h.began[a.ID] || s.always()
				}
			}
		}
	case recIntent:
		h.doing = rec.Action
		if h.last == nil || h.last.Kind == KindUndo {
			return nil
		}
		if h.last.Kind == KindRestore {
			h.began[rec.Action] = true
		}
		// A crash in the middle of the first move leaves no result that says
		// since when the API is down.
		if a := h.last.action(rec.Action); h.memory.AwaySince.IsZero() && h.memory.Outage == 0 && a != nil {
			if RoleAPI.stops(a.Action) {
				h.memory.AwaySince = rec.Time
			}
		}
	case recResult:
		h.doing = ""
		if rec.Memory != nil {
			h.memory = *rec.Memory
		}
		if h.last != nil && h.last.Kind == KindRestore && rec.State != Failed {
			h.done[rec.Action] = true
		}
	case recEnd:
		h.end = &rec
	}
	return nil
}

var runName = regexp.MustCompile(`^\d{8}-\d{6}(-\d+)?$`)

const runStamp = "20060102-150405"

// IsRunName says whether s can be the name of a run, which is that of a
// directory.
func IsRunName(s string) bool {
	if !runName.MatchString(s) {
		return false
	}
	_, err := time.Parse(runStamp, s[:len(runStamp)])
	return err == nil
}
