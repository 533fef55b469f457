package pane

import (
	"slices"
	"time"

	"etcd-rewind/restore"
	"etcd-rewind/steps"
	"etcd-rewind/trust"
)

// nodeRun is a run on one node: its steps and actions, and with several nodes
// the barriers that it has reached. It is fed with events alone.
type nodeRun struct {
	name  string      // as events have it; "" for a node alone
	plan  *steps.Plan // nil until it is known
	begun map[string]*progress

	current string // step that runs or ran last
	action  string // action that runs or ran last
	picked  string // step the user looks at; "" follows the run

	failure  *steps.Failure // waits for an answer
	result   *steps.Result  // nil until it has ended
	commands []command

	// The outage here, by its API server's last word.
	down       bool
	since, now time.Time // while it is down, and the end of it afterwards

	barred   *steps.Plan            // whose barriers they are
	barriers map[string]steps.Phase // by action
	reached  int                    // barriers
	at       [7]time.Time           // when, by the index of the phase
	left     bool                   // the others continue without it

	link     steps.State // Waiting: it is tried again; Failed: it is out of reach; Warned: it says nothing
	linkAt   time.Time
	linkText string
}

// progress is where a step or an action is.
type progress struct {
	state    steps.State
	from, to time.Time

	at            time.Time // of what follows
	message       string
	seen          []steps.Sighting
	waited, limit float64
	work          *steps.Progress
}

func (p progress) over() bool { return p.state != steps.Started && p.state != steps.Waiting }

func (p progress) took(now time.Time) float64 {
	if p.from.IsZero() {
		return 0
	}
	if p.over() {
		now = p.to
	}
	return max(0, now.Sub(p.from).Seconds())
}

// command is a line of the command log.
type command struct {
	action string
	title  string
	lines  []string
	at     time.Time
}

// restart forgets how far a run has come: another plan is run.
func (n *nodeRun) restart() {
	n.begun, n.current, n.action, n.picked = map[string]*progress{}, "", "", ""
	n.failure, n.result, n.left = nil, nil, false
}

func (n *nodeRun) get(id string) *progress {
	p := n.begun[id]
	if p == nil {
		p = &progress{}
		n.begun[id] = p
	}
	return p
}

// of is the progress of a step or an action to look at, also when none was made.
func (n *nodeRun) of(id string) progress {
	if p := n.begun[id]; p != nil {
		return *p
	}
	return progress{}
}

// Apply takes in an event of this node.
func (n *nodeRun) apply(ev restore.NodeEvent) {
	switch ev.Type {
	case restore.TypeLink:
		n.link, n.linkAt, n.linkText = ev.State, ev.Time, trust.Text(ev.Message)
		return
	case restore.TypeLeft:
		n.left = true
		return
	}
	if n.link == steps.Warned { // it says something again
		n.link = ""
	}
	n.clock(ev.Event)
	switch ev.Type {
	case steps.TypeStep:
		n.step(ev.Event)
	case steps.TypeAction:
		n.act(ev.Event)
		n.barrier(ev.Event)
	case steps.TypeAnswer:
		n.failure = nil
	case steps.TypeResult:
		n.result = ev.Result
	}
}

// clock keeps the outage. What passes between the last word of a run that was
// interrupted and the plan that resumes it is unknown, and not counted.
func (n *nodeRun) clock(ev steps.Event) {
	switch {
	case ev.Away != nil:
		n.down, n.now = true, ev.Time
		n.since = ev.Time.Add(-time.Duration(*ev.Away * float64(time.Second)))
	case n.down:
		n.down = false
		if ev.Type != steps.TypePlan {
			n.now = ev.Time
		}
	}
}

func (n *nodeRun) step(ev steps.Event) {
	p := n.get(ev.Step)
	p.state = ev.State
	switch ev.State {
	case steps.Started:
		p.from, p.to = ev.Time, time.Time{}
		n.current = ev.Step
	case steps.Unneeded:
	default:
		p.to = ev.Time
	}
}

func (n *nodeRun) act(ev steps.Event) {
	if ev.Action == "" {
		return
	}
	p := n.get(ev.Action)
	if ev.State == steps.Waiting && p.over() && p.state != "" {
		return // a late word about something that has ended
	}
	p.state, p.at = ev.State, ev.Time
	switch ev.State {
	case steps.Started:
		again := !p.from.IsZero()
		*p = progress{state: ev.State, from: ev.Time, at: ev.Time, limit: ev.Limit}
		n.current, n.action = ev.Step, ev.Action
		if st := n.get(ev.Step); st.over() {
			st.state = steps.Started
			if st.from.IsZero() {
				st.from = ev.Time
			}
		}
		if !again && len(ev.Commands) > 0 {
			n.commands = append(n.commands, command{ev.Action, trust.Text(ev.Message), ev.Commands, ev.Time})
		}
	case steps.Waiting:
		if ev.Message != "" {
			p.message = trust.Text(ev.Message)
		}
		if ev.Seen != nil {
			p.seen, p.waited = ev.Seen, ev.Waited
		}
		if ev.Limit > 0 {
			p.limit = ev.Limit
		}
		if ev.Progress != nil {
			p.work = ev.Progress
		}
	default:
		p.to = ev.Time
		if p.from.IsZero() {
			p.from = ev.Time
		}
	}
}

// barrier notes the barriers that the node's plan says it has reached.
func (n *nodeRun) barrier(ev steps.Event) {
	if n.plan == nil {
		return
	}
	if n.barred != n.plan {
		n.barred, n.barriers = n.plan, map[string]steps.Phase{}
		for _, s := range n.barred.Steps {
			for _, a := range s.Actions {
				if m, ok := a.Action.(*steps.WaitNodes); ok {
					n.barriers[a.ID] = m.Phase
				}
			}
		}
	}
	if p, ok := n.barriers[ev.Action]; ok && ev.State != steps.Failed && ev.State != steps.Stopped {
		n.reach(p, ev.Time)
	}
}

// reach notes a phase that the node has finished.
func (n *nodeRun) reach(p steps.Phase, at time.Time) {
	i := slices.Index(steps.Phases, p)
	if i >= 0 && i < len(n.at) && n.at[i].IsZero() {
		n.at[i] = at
	}
	n.reached = max(n.reached, i+1)
}

func (n *nodeRun) find(id string) *steps.Step {
	if n.plan == nil {
		return nil
	}
	for i := range n.plan.Steps {
		if n.plan.Steps[i].ID == id {
			return &n.plan.Steps[i]
		}
	}
	return nil
}

// title of an action.
func (n *nodeRun) title(id string) string {
	if n.plan == nil {
		return ""
	}
	for _, st := range n.plan.Steps {
		for _, a := range st.Actions {
			if a.ID == id && a.Action != nil {
				return trust.Text(a.Title())
			}
		}
	}
	return ""
}

// looked is the step that is looked at.
func (n *nodeRun) looked() *steps.Step {
	if st := n.find(n.picked); st != nil {
		return st
	}
	if st := n.find(n.current); st != nil {
		return st
	}
	if n.plan != nil && len(n.plan.Steps) > 0 {
		return &n.plan.Steps[0]
	}
	return nil
}

// pick moves to the step before or after the one looked at.
func (n *nodeRun) pick(by int) {
	st := n.looked()
	if st == nil {
		return
	}
	for i := range n.plan.Steps {
		if n.plan.Steps[i].ID == st.ID {
			i = max(0, min(len(n.plan.Steps)-1, i+by))
			n.picked = n.plan.Steps[i].ID
			return
		}
	}
}

// doing says what is done at this moment, "" before anything is, and the
// progress of that, which may be nil.
func (n *nodeRun) doing() (sentence string, p *progress) {
	st := n.find(n.current)
	if st == nil {
		return "", nil
	}
	sentence = trust.Text(st.Title)
	if a := n.title(n.action); a != "" {
		sentence = a
	}
	return sentence, n.begun[n.action]
}
