package steps

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"os"
	"slices"
	"strings"
	"time"

	"etcd-rewind/manifest"
	"etcd-rewind/problem"
	"etcd-rewind/trust"
)

// The kinds of plans.
const (
	KindRestore = "restore"
	KindUndo    = "undo"
	KindRedo    = "redo" // from an undo, to what was restored
)

// Plan is what a run does, made from facts that were read, shown whole and
// only then run. It is plain data: the journal keeps it, and a later process
// can go back by it.
type Plan struct {
	Run     string `json:"run"`     // "20261120-212605", UTC
	Kind    string `json:"kind"`    // "restore", "undo" or "redo"
	Node    string `json:"node"`    // typed by the user to confirm
	Title   string `json:"title"`   // one line
	RunDir  string `json:"run_dir"` // journal, manifests kept, report
	Summary []Fact `json:"summary"` // what will be, for the screen
	Diffs   []Diff `json:"diffs"`   // manifests that change
	Steps   []Step `json:"steps"`

	Restore *RestoreFacts `json:"restore,omitempty"` // what the run restores, also when it is undone
	Reach   Reach         `json:"reach"`

	// Checks are what was looked at before an undo, a resume or a redo; the plan
	// isn't run while one of them blocks.
	Checks []Verdict `json:"checks,omitempty"`
	// Flags are what the command line has to say to reach this node's runs
	// again, for commands that are printed.
	Flags []string `json:"flags,omitempty"`

	// Lost says what was written since the restore that an undo takes back; ""
	// when nothing was, or for another plan.
	Lost string `json:"lost,omitempty"`

	// Afterwards is what there is to do after the run that it doesn't do itself; ""
	// when there is nothing.
	Afterwards string `json:"afterwards,omitempty"`

	// MustType says that --yes is not enough: the node's name has to be given.
	MustType bool `json:"must_type,omitempty"`

	ended  time.Time       // the last record of the run that is taken up again
	ran    int64           // the revision that the restored etcd began with; 0 when it was never started
	memory memory          // of the run that is taken up again
	done   map[string]bool // actions that a run that is resumed has done already
	target *target         // what etcd starts on; nil when the plan doesn't start it on other data
	accept []string
	// redo is of an undo the verb that switches to the restored data again, if any.
	redo string
}

// Diff is a change of one manifest as a unified diff.
type Diff struct {
	Path string `json:"path"`
	Text string `json:"text"`
}

// Step is what an engineer would say, "Stop kube-apiserver": a list of
// actions, with what a learner wants to know.
type Step struct {
	ID    string `json:"id"` // "stop-etcd"
	Title string `json:"title"`
	Why   string `json:"why"`  // one or two sentences, shown while it runs
	More  string `json:"more"` // a paragraph or two, shown with "?"
	// Outage says that the API is down while this step runs.
	Outage bool `json:"outage,omitempty"`
	// If is what has to come true for the step to run, When the same in words;
	// empty for a step that always runs.
	If      condition `json:"if,omitempty"`
	When    string    `json:"when,omitempty"`
	Actions []Planned `json:"actions"`
}

// Planned is an action with its place in the plan.
type Planned struct {
	ID string // "stop-etcd.2"
	Action
}

func planned(actions []Action) []Planned {
	var all []Planned
	for _, a := range actions {
		all = append(all, Planned{Action: a})
	}
	return all
}

type plannedJSON struct {
	ID       string          `json:"id"`
	Kind     string          `json:"kind"`
	Title    string          `json:"title"`
	Commands []string        `json:"commands"`
	With     json.RawMessage `json:"with"`
}

// MarshalJSON writes the action with its kind, so that it can be read back.
func (p Planned) MarshalJSON() ([]byte, error) {
	with, err := json.Marshal(p.Action)
	if err != nil {
		return nil, err
	}
	return json.Marshal(plannedJSON{ID: p.ID, Kind: p.Kind(), Title: p.Title(), Commands: p.Commands(), With: with})
}

// UnmarshalJSON reads what MarshalJSON wrote; an unknown kind is an error, it
// was written by another version.
func (p *Planned) UnmarshalJSON(data []byte) error {
	var j plannedJSON
	if err := json.Unmarshal(data, &j); err != nil {
		return err
	}
	a, err := newAction(j.Kind)
	if err != nil {
		return fmt.Errorf("action %s: %w", j.ID, err)
	}
	if err := json.Unmarshal(j.With, a); err != nil {
		return fmt.Errorf("action %s: %w", j.ID, err)
	}
	p.ID, p.Action = j.ID, a
	return nil
}

// actions are all actions of the plan, in order.
func (p *Plan) actions() iter.Seq[*Planned] {
	return func(yield func(*Planned) bool) {
		for i := range p.Steps {
			for j := range p.Steps[i].Actions {
				if !yield(&p.Steps[i].Actions[j]) {
					return
				}
			}
		}
	}
}

func (p *Plan) action(id string) *Planned {
	for a := range p.actions() {
		if a.ID == id {
			return a
		}
	}
	return nil
}

// has says whether one of the plan's actions is such a one.
func (p *Plan) has(such func(Action) bool) bool {
	for a := range p.actions() {
		if such(a.Action) {
			return true
		}
	}
	return false
}

// Serves says whether an API server is waited for on this node: etcd may run
// alone here.
func (p *Plan) Serves() bool {
	return p.has(func(a Action) bool { _, waits := a.(*WaitAPI); return waits })
}

// MeetsAPIServers says whether the API servers of other nodes take part, and are
// started there.
func (p *Plan) MeetsAPIServers() bool {
	return p.has(func(a Action) bool {
		w, ok := a.(*WaitNodes)
		return ok && slices.ContainsFunc(w.Others, func(o RemoteNode) bool { return o.ReadyURL != "" })
	})
}

// saved is the snapshot that was taken of the state that the run left, "" when
// none was.
func (p *Plan) saved() string {
	for a := range p.actions() {
		if save, ok := a.Action.(*Save); ok {
			if _, err := os.Stat(save.To); err == nil {
				return save.To
			}
		}
	}
	return ""
}

// number gives every action its ID.
func (p *Plan) number() {
	for i := range p.Steps {
		s := &p.Steps[i]
		for j := range s.Actions {
			s.Actions[j].ID = fmt.Sprintf("%s.%d", s.ID, j+1)
		}
	}
}

// RestoreFacts are what a restore is about, for the report, the list of runs,
// and the way back.
type RestoreFacts struct {
	Snapshot         string `json:"snapshot"` // the name of its source
	SnapshotSHA256   string `json:"snapshot_sha256,omitempty"`
	SnapshotRevision int64  `json:"snapshot_revision"`
	Bump             uint64 `json:"bump"`
	Token            string `json:"token"`
	OldDataDir       string `json:"old_data_dir"` // hostPath before
	DataDir          string `json:"data_dir"`     // hostPath after
	Staging          string `json:"staging"`      // where the restored data is until it is put in place
	// Aside is where the old data lies when the restored data has taken its path,
	// which is DataDir then; "" when it stays at OldDataDir.
	Aside       string `json:"aside,omitempty"`
	OldRevision int64  `json:"old_revision,omitempty"`
	// InPlace says that DataDir held the data before: etcd is only pointed there.
	InPlace bool `json:"in_place,omitempty"`
	// Home says that etcd's data was moved from OldDataDir to DataDir, and nothing
	// restored. What lay there is at Aside, "" where nothing did.
	Home bool `json:"home,omitempty"`
	// Members are those of the restored cluster, when several nodes are restored.
	Members []manifest.Member `json:"members,omitempty"`
	// Old is whose data etcd had, by its files: undo goes back to that and to
	// nothing else. Nil in a run of an older version.
	Old            *Data   `json:"old,omitempty"`
	Stop           StopHow `json:"stop"`
	KubeletRestart string  `json:"kubelet_restart"`
}

// Allowed is nil when nothing blocks a plan. What may have changed since it was
// shown is read again.
func (p *Plan) Allowed(ctx context.Context) error {
	if err := allowed(p.Checks); err != nil {
		return err
	}
	return p.proven(ctx)
}

func allowed(checks []Verdict) error {
	blocking := Blocking(checks)
	if len(blocking) == 0 {
		return nil
	}
	v := blocking[0]
	hint := v.Hint
	if v.Acceptable() && !strings.Contains(hint, "override") {
		hint = strings.TrimPrefix(hint+"; to override it: "+trust.Shell("--override %s", v.Check), "; ")
	}
	return problem.New(hint, "%s", v.Cause)
}
