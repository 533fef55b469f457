package restore

import (
	"slices"
	"time"

	"etcd-rewind/steps"
)

// Event types of all nodes together, in Event.Type; those of a node are the
// engine's.
const (
	TypePhase = "phase" // all nodes have come to the end of a phase: Phase is set
	TypeLink  = "link"  // a node dropped off, or is there again
	TypeLeft  = "left"  // the others continue without a node
)

// NodeEvent is one line of what a run reports: an event of a node's engine, by
// this process's clock, or one of all nodes together, with Node empty. A node
// that is restored alone has no name either.
type NodeEvent struct {
	Node string `json:"node,omitempty"`
	steps.Event
	Phase steps.Phase `json:"phase,omitempty"`
	// Nodes are how each node ended; of the result of several.
	Nodes []NodeResult `json:"nodes,omitempty"`
}

// Replaces says whether the event is newer news of the wait that older is about,
// and goes on past the events of other nodes (outbox.News).
func (ev NodeEvent) Replaces(older any) (yes, further bool) {
	last, ok := older.(NodeEvent)
	return ok && ev.Node == last.Node && ev.Supersedes(last.Event), ok && last.Node != "" && last.Node != ev.Node
}

// NodeState says how a node ended.
type NodeState string

// How a node ends.
const (
	Restored    NodeState = "restored"
	Reverted    NodeState = "reverted"    // as it was before the run
	Untouched   NodeState = "untouched"   // nothing was stopped, no file was replaced
	HalfWay     NodeState = "unfinished"  // its run was interrupted or failed; its journal is there
	Unreachable NodeState = "unreachable" // nobody knows; it is at or after Phase
)

// NodeResult is how a node ended.
type NodeResult struct {
	Node  string      `json:"node"`
	State NodeState   `json:"state"`
	Phase steps.Phase `json:"phase,omitempty"` // the last it came to
	Cause string      `json:"cause,omitempty"`
	// Told says that Cause is what the Error of the result is about.
	Told bool `json:"-"`
	// Do are the commands that bring it to where the others are, to be run on
	// that node.
	Do     []string      `json:"do,omitempty"`
	Result *steps.Result `json:"result,omitempty"` // nil without one
}

// Result ends a run, on one node or on several.
type Result struct {
	Run           string         `json:"run"`
	OK            bool           `json:"ok"`
	OutageSeconds float64        `json:"outage_seconds"` // first manifest moved on any node until all API servers are ready
	Reverted      bool           `json:"put_back,omitempty"`
	Undo          string         `json:"undo,omitempty"` // the command that reverts it
	Redo          string         `json:"redo,omitempty"` // after an undo, the command that switches to the restored data again
	Error         *steps.Failure `json:"error,omitempty"`
	Nodes         []NodeResult   `json:"nodes"`

	NotBegun bool `json:"-"` // nothing was done
	Left     bool `json:"-"` // the user left while nodes were at work
}

// Alone is the result of a run on a node alone.
func Alone(run, node string, r *steps.Result) *Result {
	n := NodeResult{Node: node, State: HalfWay, Result: r}
	switch {
	case r.Refused():
		n.State = Untouched
	case r.Reverted:
		n.State = Reverted
	case r.OK:
		n.State = Restored
	}
	return &Result{
		Run: run, OK: r.OK, OutageSeconds: r.OutageSeconds, Reverted: r.Reverted, Undo: r.Undo, Redo: r.Redo, Error: r.Error,
		Nodes: []NodeResult{n}, NotBegun: r.Refused(),
	}
}

// Ended is the result in an event, of one node or of several; nil for
// any other event, and for the end of one of several.
func (e NodeEvent) Ended() *Result {
	r := e.Result
	switch {
	case e.Type != steps.TypeResult || r == nil || e.Node != "":
		return nil
	case len(e.Nodes) == 0:
		return Alone(e.Run, "", r)
	}
	return &Result{Run: e.Run, OK: r.OK, OutageSeconds: r.OutageSeconds, Reverted: r.Reverted, Undo: r.Undo, Redo: r.Redo, Error: r.Error, Nodes: e.Nodes}
}

// DownSince is since when the API is down on any node at the end, nil when it
// isn't.
func (r *Result) DownSince() *time.Time {
	var first *time.Time
	for _, n := range r.Nodes {
		if n.Result != nil && n.Result.DownSince != nil && (first == nil || n.Result.DownSince.Before(*first)) {
			first = n.Result.DownSince
		}
	}
	return first
}

// DownBefore says that the API was down on a node before the run stopped it.
func (r *Result) DownBefore() bool {
	return slices.ContainsFunc(r.Nodes, func(n NodeResult) bool { return n.Result != nil && n.Result.DownBefore })
}

// ExitCode is the process's exit status: 0 done, 1 failed and every node is as
// it was, 3 failed and a node needs undo or a look, 4 not begun.
func (r *Result) ExitCode() int {
	switch {
	case r.OK:
		return 0
	case r.Left:
		return 3
	case r.NotBegun:
		return 4
	case r.Reverted:
		return 1
	}
	return 3
}

// ContinueWithout is an answer to a Trouble besides those to a failure of a
// single node: the others continue, and the node stays as it is. An undo is for
// all nodes, and so is leaving.
const ContinueWithout steps.Choice = "go-on-without"

// Trouble is a node that failed, or that can't be reached any more.
type Trouble struct {
	Node    string
	Away    bool // it can't be reached
	Failure steps.Failure
}

// Asker decides what to do about a trouble; one of Failure.Choices, the
// recommended one first. It may take as long as a person takes.
type Asker func(Trouble) steps.Choice

// Unattended is the Asker for a run that nobody watches.
func Unattended(t Trouble) steps.Choice {
	return steps.Unattended(t.Failure)
}
