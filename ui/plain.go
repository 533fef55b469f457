package ui

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

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
// wait sees. It prints the summary at the end.
func NewPlain(w io.Writer, o PlainOptions) *Printer {
	l, wide := text.NewLook(os.Getenv), textWidth(w)
	one := newPlain(w, o, wide)
	print := func(ev restore.NodeEvent) { one.event(ev.Event) }
	if len(o.Nodes) > 0 {
		print = newFleetPlain(w, o, wide).event
	}
	return &Printer{one: len(o.Nodes) == 0, out: newOutbox(func(what any) {
		switch what := what.(type) {
		case eventMsg:
			print(what.NodeEvent)
		case textMsg:
			_, _ = io.WriteString(w, l.Finish(string(what)))
		}
	})}
}

func newPlain(w io.Writer, o PlainOptions, wide int) *plain {
	return &plain{w: w, o: o, wide: wide, look: text.NewLook(os.Getenv), titles: map[string]string{}, begun: map[string]time.Time{}, told: map[string]time.Time{}, work: map[string]string{}}
}

// textWidth is how wide text for w may be.
func textWidth(w io.Writer) int {
	if p, ok := w.(*prefixed); ok {
		return max(textWidth(p.w)-text.Width(p.with), minPlainWidth)
	}
	if f, ok := w.(*os.File); ok {
		if n, _, err := term.GetSize(int(f.Fd())); err == nil && n > 0 {
			return max(n, minPlainWidth)
		}
	}
	return plainWidth
}

// minPlainWidth is what text needs to be read at all.
const minPlainWidth = 40

type plain struct {
	w    io.Writer
	wide int
	o    PlainOptions
	look text.Look

	plan  *steps.Plan
	start time.Time

	// By action: what it is, when it started, when it was last mentioned, and
	// in which phase of its work.
	titles      map[string]string
	begun, told map[string]time.Time
	work        map[string]string
}

// event prints what is worth a line.
func (p *plain) event(ev steps.Event) {
	if p.start.IsZero() {
		p.start = ev.Time
	}
	switch ev.Type {
	case steps.TypePlan:
		if ev.Plan != nil {
			if p.plan != nil {
				p.line("")
			}
			p.plan = ev.Plan
			p.line(trust.Text(ev.Plan.Title) + "   run " + trust.Text(ev.Plan.Run))
			p.line("")
		}
	case steps.TypeStep:
		p.step(ev)
	case steps.TypeAction:
		p.action(ev)
	case steps.TypeAsk:
		if ev.Failure != nil {
			p.line("")
			p.lines(text.Failure(ev.Failure, p.plan, p.wide))
		}
	case steps.TypeAnswer:
		p.at(ev, "  → "+choiceOf(steps.Choice(ev.Message), len(p.o.Nodes) > 0).label)
		p.line("")
	case steps.TypeResult:
		if ev.Result != nil {
			p.line("")
			p.lines(text.Summary(ev.Result, p.plan, p.wide))
		}
	}
}

func (p *plain) step(ev steps.Event) {
	title := ev.Step
	if p.plan != nil {
		for _, s := range p.plan.Steps {
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
		p.at(ev, text.SymNow+" "+title)
	case steps.Failed, steps.Stopped:
		p.at(ev, text.StateSymbol(ev.State)+" "+title+": "+string(ev.State))
	}
}

func (p *plain) action(ev steps.Event) {
	title := p.titles[ev.Action]
	switch ev.State {
	case steps.Started:
		p.titles[ev.Action] = trust.Text(ev.Message)
		p.begun[ev.Action], p.told[ev.Action] = ev.Time, ev.Time
		if p.o.Commands {
			for _, l := range text.Commands(ev.Commands) {
				p.at(ev, "    "+l)
			}
		}
	case steps.Waiting:
		p.waiting(ev, title)
	case steps.Stopped:
		p.at(ev, "  "+text.SymWarn+" "+strings.TrimSpace(title+" (stopped)"))
	default:
		took := ""
		if from, ok := p.begun[ev.Action]; ok {
			took = "  " + text.Seconds(ev.Time.Sub(from).Seconds())
		}
		switch ev.State {
		case steps.Already:
			took = "  already done"
		case steps.Failed:
			took += "  " + trust.Text(ev.Message)
		}
		p.at(ev, "  "+text.StateSymbol(ev.State)+" "+title+took)
	}
}

func (p *plain) waiting(ev steps.Event, title string) {
	if ev.Message != "" {
		p.at(ev, "    "+trust.Text(ev.Message))
		return
	}
	phase := ""
	if ev.Progress != nil {
		phase = ev.Progress.Phase
	}
	due := ev.Time.Sub(p.told[ev.Action]) >= stillEvery
	if !due && (phase == "" || phase == p.work[ev.Action]) {
		return
	}
	p.told[ev.Action], p.work[ev.Action] = ev.Time, phase
	switch {
	case ev.Progress != nil:
		p.at(ev, "    "+text.Progress(ev.Progress))
	default:
		p.at(ev, "  … "+title+", still waiting: "+text.Waited(ev.Waited, ev.Limit))
		p.lines(text.Indent(14, text.Sightings(ev.Seen, p.wide-14, func(s string) string { return s })))
	}
}

// at prints a line with the time since the start of the run.
func (p *plain) at(ev steps.Event, sentence string) {
	p.line(text.FitRight(text.Seconds(ev.Time.Sub(p.start).Seconds()), 8) + "  " + sentence)
}

func (p *plain) line(s string) { _, _ = fmt.Fprintln(p.w, p.look.Finish(strings.TrimRight(s, " "))) }

func (p *plain) lines(list []string) {
	for _, l := range list {
		p.line(l)
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
	if len(all) == 1 {
		return printVerdicts(w, all[0].Verdicts, brief)
	}
	for _, c := range all {
		if len(c.Verdicts) == 0 {
			continue
		}
		name := trust.Text(c.Node)
		if name == "" {
			name = theCluster
		}
		if err := printLines(w, []string{name}); err != nil {
			return err
		}
		if err := printVerdicts(&prefixed{w: w, with: "  "}, c.Verdicts, brief); err != nil {
			return err
		}
	}
	return printLines(w, []string{""})
}

// printVerdicts prints verdicts, errors and warnings first.
func printVerdicts(w io.Writer, verdicts []steps.Verdict, brief bool) error {
	c := newChecklist(nil)
	titles := 0
	for _, v := range verdicts {
		titles = max(titles, text.Width(trust.Text(v.Title)))
		if v.Accepted {
			c.given = append(c.given, v.Check)
		}
	}
	c.adopt(onThisNode(verdicts))
	lines := make([]string, 0, 2*len(verdicts)+2)
	for _, v := range c.verdicts {
		if brief && v.Level == steps.Pass {
			continue
		}
		lines = append(lines, text.HangWhole(text.LevelSymbol(v.Verdict)+" "+text.Fit(trust.Text(v.Title), titles)+"  ", trust.Text(v.Cause), textWidth(w))...)
		if v.Level != steps.Pass {
			if v.Hint != "" {
				lines = append(lines, text.HangWhole("    → ", trust.Text(v.Hint), textWidth(w))...)
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
	return printLines(w, lines)
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
