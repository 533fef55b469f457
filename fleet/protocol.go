package fleet

import (
	"encoding/json"

	"etcd-rewind/problem"
	"etcd-rewind/restore"
	"etcd-rewind/steps"
	"etcd-rewind/trust"
)

// protocolVersion changes when a conductor and an agent could misunderstand
// each other.
const protocolVersion = 4

// What passes between conductor and agent is one JSON object a line: requests
// on the agent's standard input, messages on its standard output. Only a piece
// of a snapshot is followed by bytes that are no line.
type request struct {
	ID int64           `json:"id,omitempty"`
	Do string          `json:"do"`
	W  json.RawMessage `json:"with,omitempty"`

	// For the words that need no answer.
	Phase  steps.Phase      `json:"phase,omitempty"`  // of go
	Choice steps.Choice     `json:"choice,omitempty"` // of answer
	Seen   []steps.Sighting `json:"seen,omitempty"`   // of seen
	At     int64            `json:"at,omitempty"`     // of piece: where in the snapshot it belongs
	Bytes  int              `json:"bytes,omitempty"`  // of piece: so many follow
	Plain  int              `json:"plain,omitempty"`  // of piece: what follows is zstd's, of so many bytes
}

// Requests that are answered; one at a time.
const (
	doUse       = "use"
	doFacts     = "facts"
	doPut       = "put"
	doCheck     = "check"
	doPlan      = "plan"
	doRun       = "run"
	doUndo      = string(restore.Undo) // of an earlier run
	doRedo      = string(restore.Redo)
	doResume    = string(restore.Resume)
	doPlanAgain = "plan-" // and one of these: it is planned and not run
	doRuns      = "runs"
	doFree      = "free" // no when another process has a run under way
	doDrop      = "drop" // remove the snapshot that was put

	// After a restore; of workers, too.
	doKubelet        = "kubelet"
	doRestartKubelet = "restart-kubelet"
)

// Words that aren't answered; they may come while a request is under way.
const (
	doPing   = "ping"
	doPiece  = "piece"
	doGo     = "go"
	doSeen   = "seen"
	doAnswer = "answer"
	doStop   = "stop"
	doBye    = "bye"
)

// message is a line of an agent.
type message struct {
	Hello *hello `json:"etcd_rewind_agent,omitempty"` // the first line, and only that

	ID int64            `json:"id,omitempty"` // of the request that is answered
	W  json.RawMessage  `json:"with,omitempty"`
	No *problem.Problem `json:"no,omitempty"`

	Event *steps.Event `json:"event,omitempty"`
	// Past says that the node was let past the barrier by an earlier conductor.
	Past    bool           `json:"past,omitempty"`
	Barrier steps.Phase    `json:"barrier,omitempty"` // the node waits at the end of this phase
	Ask     *steps.Failure `json:"ask,omitempty"`
	Send    *wanted        `json:"send,omitempty"`
	Put     int64          `json:"put,omitempty"` // bytes of the snapshot that are there
	Pong    bool           `json:"pong,omitempty"`
	// Busy says that what was asked for makes progress: a snapshot is being read.
	Busy bool `json:"busy,omitempty"`
}

// helloMark begins an agent's first line; what a login shell says before it is
// skipped.
const helloMark = `{"etcd_rewind_agent":`

type hello struct {
	Protocol int    `json:"protocol"`
	Version  string `json:"version"`
}

// Codes of problems that the conductor acts on, besides a restore.Verb: that one
// applies to the run, and not the one that was asked for.
const codeLocked = "locked" // another run is under way, perhaps one that is just ending

// clipped is a problem of another node, short enough to be shown.
func clipped(p *problem.Problem) *problem.Problem {
	return &problem.Problem{Cause: trust.Clip(p.Cause, 4096), Hint: trust.Clip(p.Hint, 4096), Code: trust.Clip(p.Code, 64)}
}

// Order is what a node has to restore.
type Order struct {
	Snapshot string        `json:"snapshot"`         // path on the node
	Name     string        `json:"name,omitempty"`   // of the snapshot, as the user gave it
	SHA256   string        `json:"sha256,omitempty"` // snapshot.Info.SHA256 that the conductor's user has seen
	Choices  steps.Choices `json:"choices"`
}

// planReply has no plan when there is nothing to plan.
type planReply struct {
	Plan *steps.Plan `json:"plan"`
}

// RunOf names a run of a node.
type RunOf struct {
	Run string `json:"run"`
}

// putOrder announces a snapshot; pieces follow when the node doesn't have it.
type putOrder struct {
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"` // of the whole file, with its trailer
}

// wanted asks for a snapshot's pieces: those after what has arrived in an earlier
// try. A conductor that has something else there begins at 0.
type wanted struct {
	From   int64  `json:"from"`
	SHA256 string `json:"sha256"` // of the bytes before
}

type putReply struct {
	Path string `json:"path"`
	Have bool   `json:"have,omitempty"` // from an earlier try
}

// pieceSize bounds what is sent at once, so that other messages can pass.
const pieceSize = 256 << 10
