package print

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/term"

	"etcd-rewind/restore"
	"etcd-rewind/steps"
	"etcd-rewind/trust"
	"etcd-rewind/ui/text"
)

// Options shape the lines of NewText.
type Options struct {
	Commands bool     // also print the shell commands of each action
	Nodes    []string // of a run on several nodes: their names, which go before each line
}

// stillEvery is how often a long wait is mentioned.
const stillEvery = 5 * time.Second

// Width is what text is wrapped at where no terminal says otherwise.
const Width = 80

// NewLines prints on w. With several nodes their names go before each line.
func NewLines(w io.Writer, o Options) *Lines {
	p := &Lines{w: w, o: o, wide: WidthOf(w), look: text.NewLook(os.Getenv), nodes: map[string]*nodeLines{}, waits: map[string]bool{}}
	for _, name := range append(o.Nodes, everyNode) {
		if len(o.Nodes) > 0 {
			p.names = max(p.names, text.Width(trust.Text(name)))
		}
	}
	return p
}

// everyNode stands for all nodes where a node's name does.
const everyNode = "all"

// WidthOf is how wide text for w may be: its terminal; for a file, a pipe, or a
// terminal that doesn't know, $COLUMNS, as man(1) has it; or Width.
func WidthOf(w io.Writer) int {
	if f, ok := w.(*os.File); ok {
		if n, _, err := term.GetSize(int(f.Fd())); err == nil && n > 0 {
			return max(n, minWidth)
		}
		if n, err := strconv.Atoi(os.Getenv("COLUMNS")); err == nil && n > 0 {
			return min(max(n, minWidth), maxWidth)
		}
	}
	return Width
}

// minWidth is what text needs to be read at all, and maxWidth what $COLUMNS may
// ask for.
const minWidth, maxWidth = 40, 10_000

// Lines prints the events of a run as lines of text, each when it comes.
type Lines struct {
	w     io.Writer
	wide  int
	names int // cells for the nodes' names; 0 for a node alone
	o     Options
	look  text.Look

	start time.Time
	nodes map[string]*nodeLines
	waits map[string]bool // actions that wait for the other nodes: printed once, for all
	hint  string          // of the last question: printed once
}

// nodeLines is what a printer knows of a node.
type nodeLines struct {
	p    *Lines
	lead string // before each line
	wide int    // of what follows
	plan *steps.Plan

	// By action: what it is, when it started, when it was last mentioned, and
	// in which phase of its work.
	titles      map[string]string
	begun, told map[string]time.Time
	work        map[string]string
}

func (p *Lines) node(name string) *nodeLines {
	n := p.nodes[name]
	if n == nil {
		n = &nodeLines{p: p, wide: p.wide, titles: map[string]string{}, begun: map[string]time.Time{}, told: map[string]time.Time{}, work: map[string]string{}}
		if p.names > 0 {
			n.lead = text.Fit(trust.Text(name), p.names) + "  "
			n.wide = max(p.wide-p.names-2, minWidth)
		}
		p.nodes[name] = n
	}
	return n
}

// Event prints what is worth a line.
func (p *Lines) Event(ev restore.NodeEvent) {
	if p.start.IsZero() {
		p.start = ev.Time
	}
	if p.names > 0 && ev.Node == "" {
		ev.Node = everyNode
	}
	n := p.node(ev.Node)
	switch ev.Type {
	case restore.TypePhase:
		n.at(ev.Time, text.SymDone+" "+trust.Text(ev.Message))
	case restore.TypeLink, restore.TypeLeft:
		n.at(ev.Time, text.SymWarn+" "+trust.Text(ev.Message))
	case steps.TypePlan:
		if ev.Plan != nil {
			n.begin(ev.Plan)
		}
	case steps.TypeStep:
		n.step(ev.Event)
	case steps.TypeAction:
		// A wait for the others that is over is printed once, for all; one that
		// lasts is worth a word.
		if !p.waits[ev.Action] || ev.State != steps.Done && ev.State != steps.Already {
			n.action(ev.Event)
		}
	case steps.TypeAsk:
		if ev.Failure != nil {
			p.hint = ev.Failure.Hint
			n.line("")
			n.lines(text.Failure(ev.Failure, n.plan, n.wide))
		}
	case steps.TypeAnswer:
		n.at(ev.Time, "  → "+text.ChoiceOf(steps.Choice(ev.Message), p.names > 0).Label)
		n.line("")
	case steps.TypeResult:
		if ev.Node == everyNode {
			ev.Node = ""
		}
		if r := ev.Ended(); r != nil { // how each of several ended is printed at the end
			p.end(r, n.plan)
		}
	}
}

func (p *Lines) end(r *restore.Result, plan *steps.Plan) {
	if f := r.Error; f != nil && f.Hint == p.hint {
		told := *f
		told.Hint = ""
		r.Error = &told
	}
	kind := ""
	for _, n := range p.nodes {
		if n.plan != nil {
			kind = n.plan.Kind
		}
	}
	e := text.Ended{Result: r, Plan: plan, Kind: kind, Several: p.names > 0, Down: r.DownSince()}
	for _, l := range append([]string{""}, e.SummaryWhole(p.wide)...) {
		p.line(l)
	}
}

func (p *Lines) line(s string) { _, _ = fmt.Fprintln(p.w, p.look.Finish(strings.TrimRight(s, " "))) }

// begin prints the plan that a node runs from here on.
func (n *nodeLines) begin(p *steps.Plan) {
	if n.plan != nil {
		n.line("")
	}
	n.plan = p
	for _, s := range p.Steps {
		for _, a := range s.Actions {
			if _, ok := a.Action.(*steps.WaitNodes); ok {
				n.p.waits[a.ID] = true
			}
		}
	}
	n.line(trust.Text(p.Title) + "   run " + trust.Text(p.Run))
	n.line("")
}

func (n *nodeLines) step(ev steps.Event) {
	title := ev.Step
	if n.plan != nil {
		for _, s := range n.plan.Steps {
			if s.ID == ev.Step {
				title = trust.Text(s.Title)
			}
		}
	}
	switch ev.State {
	case steps.Started:
		if ev.Away != nil {
			title += "   API down " + text.Seconds(*ev.Away)
		}
		n.at(ev.Time, text.SymNow+" "+title)
	case steps.Failed, steps.Stopped:
		n.at(ev.Time, text.StateSymbol(ev.State)+" "+title+": "+string(ev.State))
	}
}

func (n *nodeLines) action(ev steps.Event) {
	title := n.titles[ev.Action]
	switch ev.State {
	case steps.Started:
		n.titles[ev.Action] = trust.Text(ev.Message)
		n.begun[ev.Action], n.told[ev.Action] = ev.Time, ev.Time
		if n.p.o.Commands {
			for _, l := range text.Commands(ev.Commands) {
				n.at(ev.Time, "    "+l)
			}
		}
	case steps.Waiting:
		n.waiting(ev, title)
	case steps.Stopped:
		n.at(ev.Time, "  "+text.SymWarn+" "+strings.TrimSpace(title+" (stopped)"))
	default:
		took := ""
		if from, ok := n.begun[ev.Action]; ok {
			took = "  " + text.Seconds(ev.Time.Sub(from).Seconds())
		}
		switch ev.State {
		case steps.Already:
			took = "  already done"
		case steps.Failed:
			took += "  " + trust.Text(ev.Message)
		}
		n.at(ev.Time, "  "+text.StateSymbol(ev.State)+" "+title+took)
	}
}

func (n *nodeLines) waiting(ev steps.Event, title string) {
	if ev.Message != "" {
		n.at(ev.Time, "    "+trust.Text(ev.Message))
		return
	}
	phase := ""
	if ev.Progress != nil {
		phase = ev.Progress.Phase
	}
	due := ev.Time.Sub(n.told[ev.Action]) >= stillEvery
	if !due && (phase == "" || phase == n.work[ev.Action]) {
		return
	}
	n.told[ev.Action], n.work[ev.Action] = ev.Time, phase
	switch {
	case ev.Progress != nil:
		n.at(ev.Time, "    "+text.Progress(ev.Progress))
	default:
		n.at(ev.Time, "  … "+title+", still waiting: "+text.Waited(ev.Waited, ev.Limit))
		n.lines(text.Indent(14, text.Sightings(ev.Seen, n.wide-14, func(s string) string { return s })))
	}
}

// at prints a line with the time since the start of the run.
func (n *nodeLines) at(t time.Time, sentence string) {
	n.line(text.FitRight(text.Seconds(t.Sub(n.p.start).Seconds()), 8) + "  " + sentence)
}

// line prints a line with the node's name before it; with several nodes, there
// are no empty ones.
func (n *nodeLines) line(s string) {
	if n.lead == "" || strings.TrimSpace(s) != "" {
		n.p.line(n.lead + s)
	}
}

func (n *nodeLines) lines(list []string) {
	for _, l := range list {
		n.line(l)
	}
}
