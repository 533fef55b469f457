package steps

import (
	"time"

	"etcd-rewind/problem"
)

// State says where a step or an action is in its life.
type State string

// The states of a step or an action, in the order in which they can come.
const (
	Started  State = "started"
	Waiting  State = "waiting"  // alive: new sightings or progress, many times
	Done     State = "done"     // the node shows that it is so
	Already  State = "already"  // nothing to do: the node was like this before
	Warned   State = "warning"  // not done, which fails nothing; a note says what is left to do
	Unneeded State = "unneeded" // a step with a condition that did not come true
	Failed   State = "failed"
	Stopped  State = "stopped" // the user stopped the run before or during it
)

// States are all of them.
var States = []State{Started, Waiting, Done, Already, Warned, Unneeded, Failed, Stopped}

// Event types, in Event.Type.
const (
	TypePlan   = "plan"   // first of a run: Event.Plan is set
	TypeStep   = "step"   // a step changed its state
	TypeAction = "action" // an action changed its state, or a wait saw something
	TypeAsk    = "ask"    // the engine waits for an answer: Event.Failure is set
	TypeAnswer = "answer" // what was chosen, in Event.Message
	TypeResult = "result" // last of a run: Event.Result is set
)

// Event is one line of what the engine reports. The wizard, the plain printer
// and the JSON printer show the same events; JSON prints them as they are.
type Event struct {
	Type    string    `json:"type"`
	Time    time.Time `json:"time"`
	Run     string    `json:"run"`
	Step    string    `json:"step,omitempty"`   // Step.ID
	Action  string    `json:"action,omitempty"` // Action ID, "stop-etcd.2": unique in a plan
	State   State     `json:"state,omitempty"`
	Message string    `json:"message,omitempty"` // one line for a person

	// Commands do the same by hand; set when an action starts.
	Commands []string `json:"commands,omitempty"`
	// Seen is all that a wait sees at this moment, in a fixed order.
	Seen []Sighting `json:"seen,omitempty"`
	Etcd EtcdState  `json:"etcd,omitempty"`
	// Waited and Limit are seconds; Limit is 0 where nothing is waited for.
	Waited   float64   `json:"waited_seconds,omitempty"`
	Limit    float64   `json:"limit_seconds,omitempty"`
	Progress *Progress `json:"progress,omitempty"`

	// Away is how many seconds the API has been away; nil before and after.
	Away *float64 `json:"api_away_seconds,omitempty"`

	Plan    *Plan    `json:"plan,omitempty"`
	Failure *Failure `json:"failure,omitempty"`
	*Result
}

// Supersedes says that the event is newer news of the wait that last, the event
// before it, reported: who hasn't seen last needs only this one.
func (ev *Event) Supersedes(last Event) bool {
	return ev.Type == last.Type && ev.Action == last.Action && ev.State == Waiting && last.State == Waiting &&
		last.Message == "" && (ev.Seen != nil || last.Seen == nil) && (ev.Etcd != "" || last.Etcd == "") && (ev.Progress != nil || last.Progress == nil)
}

// EtcdState is what a wait sees of this node's etcd that other nodes wait for.
type EtcdState string

// The states of etcd.
const (
	EtcdStopped EtcdState = "stopped" // the one before: none of its containers runs
	// EtcdServes is a restored etcd that is there, ready or not. Then it serves its
	// peers too, which it begins to do before (StartEtcd, embed).
	EtcdServes EtcdState = "serves"
)

// Sighting is one thing that a wait looks at and what it is now, for example
// "pod" and "6f3c… gone → 91ab… created".
type Sighting struct {
	What string `json:"what"`
	Is   string `json:"is"`
	OK   bool   `json:"ok"` // as it has to be for the wait to end
}

// Progress of an action that has a known amount of work; Done and Total are
// bytes, Total is 0 when it isn't known.
type Progress struct {
	Phase string `json:"phase"`
	Done  int64  `json:"done"`
	Total int64  `json:"total"`
}

// Failure is what the user gets to see when an action fails.
type Failure struct {
	Step   string `json:"step"`
	Action string `json:"action"`
	Title  string `json:"title"` // the action's title

	Cause string `json:"cause"`
	Hint  string `json:"hint,omitempty"`

	Waited  float64    `json:"waited_seconds,omitempty"`
	Seen    []Sighting `json:"seen,omitempty"`
	Log     []string   `json:"log,omitempty"` // the container's last lines
	LogPath string     `json:"log_path,omitempty"`

	// Choices that make sense here, the recommended one first.
	Choices []Choice `json:"choices,omitempty"`
}

func (f *Failure) Error() string { return f.Cause }

func (f *Failure) Unwrap() error { return problem.New(f.Hint, "%s", f.Cause) }

// Choice is an answer to a Failure.
type Choice string

// The choices of a node's engine; their values are what journals and events hold.
const (
	WaitOn       Choice = "wait"            // the same limit once more
	Retry        Choice = "retry"           // the action again; a pod that was refused gets a fresh UID
	RestartStuck Choice = "restart-kubelet" // run the plan's conditional step for a kubelet that ignores removed manifests
	Revert       Choice = "undo"            // revert the node to the state before the run
	Leave        Choice = "leave"           // stop here; etcd-rewind undo works later
)

// AllChoices are those that a node's engine can offer.
var AllChoices = []Choice{WaitOn, Retry, RestartStuck, Revert, Leave}

// Result ends a run.
type Result struct {
	OK bool `json:"ok"`
	// OutageSeconds is the outage of this run: from the API's last good answer
	// after its manifest was moved until /readyz is ready again, or until now
	// while it isn't; 0 when nothing was moved. What it was down before isn't in
	// it: DownBefore says that it was.
	OutageSeconds float64    `json:"outage_seconds"`
	DownBefore    bool       `json:"down_before,omitempty"` // the API was not ready when the run stopped it
	DownSince     *time.Time `json:"down_since,omitempty"`  // the API is down at the end of the run
	DataDir       string     `json:"data_dir,omitempty"`
	Revision      int64      `json:"revision,omitempty"`
	Reverted      bool       `json:"put_back,omitempty"` // the node is as it was before the run
	Undo          string     `json:"undo,omitempty"`     // the command that goes back
	Redo          string     `json:"redo,omitempty"`     // after an undo, the command that switches to the restored data again
	Report        string     `json:"report,omitempty"`   // path of the Markdown report
	Summary       []Fact     `json:"summary,omitempty"`  // for people: what runs from where, what is kept where
	Error         *Failure   `json:"error,omitempty"`

	refused bool // it did not begin: another run holds the lock, the runtime is down
}

// Fact is a line of a summary: a name and what it is.
type Fact struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// ExitCode is the process's exit status for this result: 0 done, 1 failed and
// reverted, 3 failed and the node needs undo or a look, 4 not begun.
func (r *Result) ExitCode() int {
	switch {
	case r.OK:
		return 0
	case r.refused:
		return 4
	case r.Reverted:
		return 1
	default:
		return 3
	}
}

// Refused says that the run did not begin.
func (r *Result) Refused() bool { return r.refused }

// NotBegun is the result of a run that did not begin, for example because
// another one is under way: nothing was changed, and the node is no worse.
func NotBegun(cause, hint string) *Result {
	return &Result{Reverted: true, refused: true, Error: &Failure{Cause: cause, Hint: hint}}
}

// Asker decides what to do about a failure. It is called from the engine's
// goroutine and may take as long as a person takes.
type Asker func(Failure) Choice

// Unattended is the Asker for a run that nobody watches: it does what is
// recommended.
func Unattended(f Failure) Choice {
	if len(f.Choices) == 0 {
		return Leave
	}
	if f.Choices[0] == WaitOn {
		return Leave // the engine has waited as long as it makes sense unattended
	}
	return f.Choices[0]
}
