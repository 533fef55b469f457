package ui

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/term"

	"etcd-rewind/outbox"
	"etcd-rewind/restore"
	"etcd-rewind/steps"
	"etcd-rewind/trust"
	"etcd-rewind/ui/text"
)

// PlainOptions shape the lines of NewPlain.
type PlainOptions struct {
	Commands bool     // also print the shell commands of each action
	Nodes    []string // of a run on several nodes: their names, which go before each line
}

// stillEvery is how often a long wait is mentioned.
const stillEvery = 5 * time.Second

// plainWidth is what text is wrapped at where no terminal says otherwise.
const plainWidth = 80

// NewPlain returns a printer of events as lines of text: a line when a step
// starts, one for each action when it ends, and every five seconds what a long
// wait sees. With several nodes the node's name goes before each, and one line
// tells what all have reached. It prints the summary at the end.
func NewPlain(w io.Writer, o PlainOptions) *Printer {
	p := NewLines(w, o)
	return &Printer{one: len(o.Nodes) == 0, out: outbox.New(func(what any) {
		switch what := what.(type) {
		case restore.NodeEvent:
			p.Event(what)
		case textMsg:
			_, _ = io.WriteString(w, p.look.Finish(string(what)))
		}
	}, outbox.Post)}
}

// NewLines prints on w. With several nodes their names go before each line.
func NewLines(w io.Writer, o PlainOptions) *Lines {
	p := &Lines{w: w, o: o, wide: textWidth(w), look: text.NewLook(os.Getenv), nodes: map[string]*plainNode{}, waits: map[string]bool{}}
	for _, name := range append(o.Nodes, everyNode) {
		if len(o.Nodes) > 0 {
			p.names = max(p.names, text.Width(trust.Text(name)))
		}
	}
	return p
}

// everyNode stands for all nodes where a node's name does.
const everyNode = "all"

// textWidth is how wide text for w may be.
func textWidth(w io.Writer) int {
	if f, ok := w.(*os.File); ok {
		if n, _, err := term.GetSize(int(f.Fd())); err == nil && n > 0 {
			return max(n, minPlainWidth)
		}
	}
	return plainWidth
}

// minPlainWidth is what text needs to be read at all.
const minPlainWidth = 40

// Lines prints the events of a run as lines of text, each when it comes.
type Lines struct {
	w     io.Writer
	wide  int
	names int // cells for the nodes' names; 0 for a node alone
	o     PlainOptions
	look  text.Look

	start time.Time
	nodes map[string]*plainNode
	waits map[string]bool // actions that wait for the other nodes: told once, for all
	hint  string          // of the last question: told once
}

// plainNode is what a printer knows of a node.
type plainNode struct {
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

func (p *Lines) node(name string) *plainNode {
	n := p.nodes[name]
	if n == nil {
		n = &plainNode{p: p, wide: p.wide, titles: map[string]string{}, begun: map[string]time.Time{}, told: map[string]time.Time{}, work: map[string]string{}}
		if p.names > 0 {
			n.lead = text.Fit(trust.Text(name), p.names) + "  "
			n.wide = max(p.wide-p.names-2, minPlainWidth)
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
		// A wait for the others that is over is told once, for all; one that
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
		n.at(ev.Time, "  → "+choiceOf(steps.Choice(ev.Message), p.names > 0).label)
		n.line("")
	case steps.TypeResult:
		if ev.Node == everyNode {
			ev.Node = ""
		}
		if r := ev.Ended(); r != nil { // how each of several ended is told at the end
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

// begin tells the plan that a node runs from here on.
func (n *plainNode) begin(p *steps.Plan) {
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

func (n *plainNode) step(ev steps.Event) {
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

func (n *plainNode) action(ev steps.Event) {
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

func (n *plainNode) waiting(ev steps.Event, title string) {
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
func (n *plainNode) at(t time.Time, sentence string) {
	n.line(text.FitRight(text.Seconds(t.Sub(n.p.start).Seconds()), 8) + "  " + sentence)
}

// line prints a line with the node's name before it; with several nodes, there
// are no empty ones.
func (n *plainNode) line(s string) {
	if n.lead == "" || strings.TrimSpace(s) != "" {
		n.p.line(n.lead + s)
	}
}

func (n *plainNode) lines(list []string) {
	for _, l := range list {
		n.line(l)
	}
}

func printLines(w io.Writer, lines []string) error {
	l := text.NewLook(os.Getenv)
	for _, line := range lines {
		if _, err := fmt.Fprintln(w, l.Finish(strings.TrimRight(line, " "))); err != nil {
			return err
		}
	}
	return nil
}

// PrintPlan prints all that a plan would do, for a dry run: every action with
// its shell commands, and the changes of the manifests.
func PrintPlan(w io.Writer, p *steps.Plan) error {
	return printLines(w, printedPlan(p, textWidth(w)))
}

// printedPlan is a plan to be read from its end: what it comes to is told last,
// right before a question that may follow.
func printedPlan(p *steps.Plan, w int) []string {
	lines := append([]string{trust.Text(p.Title) + "   run " + trust.Text(p.Run), ""}, text.Steps(p, w)...)
	if len(p.Summary) > 0 {
		lines = append(lines, "", trust.Text(p.Title))
		lines = append(lines, text.Indent(1, text.FactsWhole(p.Summary, w-1))...)
	}
	return lines
}

// PrintChecked prints what the checks say of one or more nodes. With brief what
// is well is only counted.
func PrintChecked(w io.Writer, all []restore.Checked, brief bool) error {
	wide := textWidth(w)
	if len(all) == 1 {
		return printLines(w, verdictLines(all[0].Verdicts, brief, wide))
	}
	var lines []string
	for _, c := range all {
		if len(c.Verdicts) == 0 {
			continue
		}
		name := trust.Text(c.Node)
		if name == "" {
			name = theCluster
		}
		lines = append(lines, name)
		for _, l := range verdictLines(c.Verdicts, brief, max(wide-2, minPlainWidth)) {
			if l != "" {
				lines = append(lines, "  "+l)
			}
		}
	}
	return printLines(w, append(lines, ""))
}

// verdictLines are verdicts, errors and warnings first.
func verdictLines(verdicts []steps.Verdict, brief bool, w int) []string {
	titles := 0
	for _, v := range verdicts {
		titles = max(titles, text.Width(trust.Text(v.Title)))
	}
	order := []steps.Level{steps.Error, steps.Warn, steps.Pass}
	sorted := slices.SortedStableFunc(slices.Values(verdicts), func(a, b steps.Verdict) int {
		return cmp.Compare(slices.Index(order, a.Level), slices.Index(order, b.Level))
	})
	lines := make([]string, 0, 2*len(verdicts)+2)
	for _, v := range sorted {
		if brief && v.Level == steps.Pass {
			continue
		}
		lines = append(lines, text.HangWhole(text.LevelSymbol(v)+" "+text.Fit(trust.Text(v.Title), titles)+"  ", trust.Text(v.Cause), w)...)
		if v.Level != steps.Pass {
			if v.Hint != "" {
				lines = append(lines, text.HangWhole("    → ", trust.Text(v.Hint), w)...)
			}
			switch {
			case v.Accepted:
				lines = append(lines, "    accepted")
			case v.Acceptable():
				lines = append(lines, "    "+trust.Shell("--override %s", v.Check)+" overrides it")
			}
		}
	}
	if len(lines) > 0 {
		lines = append(lines, "")
	}
	lines = append(lines, "Checks: "+text.Tally(verdicts))
	if s := text.Blocked(verdicts); s != "" {
		lines = append(lines, s)
	}
	return lines
}

// PrintStanding prints where a run that did not come to its end has left the
// node, as steps.Standing tells, and the two ways out.
func PrintStanding(w io.Writer, run steps.RunInfo, standing []steps.Fact) error {
	lines := []string{"", text.SymWarn + " " + text.Interrupted}
	list := append(
		text.InterruptedFacts(run, standing),
		steps.Fact{Name: "to resume", Value: run.Command("resume")},
		steps.Fact{Name: "to undo", Value: run.Command("undo")},
	)
	return printLines(w, append(lines, text.Indent(4, text.FactsWhole(list, textWidth(w)-4))...))
}

// PrintFailure prints an error with its cause and what to do about it.
func PrintFailure(w io.Writer, err error) error {
	cause, advice := text.Explain(err)
	lines := text.HangWhole(text.SymBad+" ", cause, textWidth(w))
	if advice != "" {
		lines = append(lines, text.HangWhole("  → ", advice, textWidth(w))...)
	}
	return printLines(w, lines)
}

// PrintRuns prints a table of this node's runs. Their names are times in UTC.
func PrintRuns(w io.Writer, runs []steps.RunInfo, now time.Time) error {
	if len(runs) == 0 {
		return printLines(w, []string{"No runs on this node."})
	}
	wide := len("run (UTC)")
	for _, r := range runs {
		wide = max(wide, text.Width(trust.Text(r.Run)))
	}
	lines := []string{text.Fit("run (UTC)", wide+2) + text.Fit("begun", 14) + text.Fit("state", 12) + text.Fit("API down", 12) + "snapshot"}
	for _, r := range runs {
		away := ""
		if r.Outage > 0 {
			away = text.Seconds(r.Outage)
		}
		begun := ""
		if !r.Started.IsZero() {
			begun = steps.Ago(r.Started, now)
		}
		about := r.Snapshot
		if r.Err != "" {
			about = r.Err
		}
		lines = append(lines, text.Fit(trust.Text(r.Run), wide+2)+text.Fit(begun, 14)+text.Fit(string(r.State), 12)+text.Fit(away, 12)+trust.Text(about))
	}
	return printLines(w, lines)
}

// PrintMembers prints who the members are, from where they are known, and how
// their nodes are reached.
func PrintMembers(w io.Writer, members []restore.Member) error {
	var list []steps.Fact
	for _, m := range members {
		say := strings.Join(m.PeerURLs, ", ")
		switch {
		case m.Out:
			say += ", excluded"
		case m.Local:
			say += ", this node"
		case m.Facts != nil:
			say += ", reached as " + m.Host
		default:
			say += ", not reached"
		}
		if f := m.Facts; f != nil && !m.Out {
			say += "; API " + f.APIState
			switch {
			case f.Live != nil:
				say += fmt.Sprintf("; etcd at revision %d", f.Live.Revision)
			default:
				say += "; etcd doesn't answer"
			}
		}
		list = append(list, steps.Fact{Name: trust.Text(m.Name), Value: trust.Text(say)})
	}
	return printLines(w, append(text.FactsWhole(list, textWidth(w)), ""))
}

// PrintLeftOut prints how members that a restore has left out join anew.
func PrintLeftOut(w io.Writer, names []string) error {
	return printLines(w, append([]string{""}, text.Excluded(names, textWidth(w))...))
}
