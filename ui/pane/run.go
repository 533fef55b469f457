package pane

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"etcd-rewind/restore"
	"etcd-rewind/steps"
	"etcd-rewind/trust"
	"etcd-rewind/ui/text"
)

// Run shows a run on one or more nodes. A node alone is looked into from
// the start; of several, a list says what each does, and one can be looked
// into. It is fed with events alone.
type Run struct {
	Plan    *steps.Plan // this node's part of it, nil until it is known
	Kind    string      // steps.KindUndo also when the run is undone within itself
	Several bool        // nodes have names, and barriers
	nodes   []*nodeRun
	cur     int
	inside  bool // the steps of the current node are shown
	scroll  Scroller

	Watched  *steps.RunInfo // another process runs it; it is only looked at
	Told     *steps.Result  // the last one that process reported
	Stopping bool
	Result   *restore.Result // nil until it has ended

	begun  time.Time
	passed map[steps.Phase]time.Time // barriers that all nodes have reached, in this run
	open   int                       // how many of them
}

// NewRun shows a run before its first event. names are those of several
// nodes, and plans theirs, where they are known; nil for a node alone. The log
// of commands goes on from the view before.
func NewRun(p *steps.Plan, names []string, plans []*steps.Plan, before *Run) *Run {
	v := &Run{Plan: p, Several: len(names) > 0, inside: len(names) == 0, passed: map[steps.Phase]time.Time{}}
	if p != nil {
		v.Kind = p.Kind
	}
	if !v.Several {
		names, plans = []string{""}, []*steps.Plan{p}
	}
	for i, name := range names {
		n := &nodeRun{name: name, begun: map[string]*progress{}}
		// An undo's plans are those of the nodes with something to revert.
		if len(plans) == len(names) {
			n.plan = plans[i]
		}
		if before != nil {
			if o := before.node(name); o != nil {
				n.commands = o.commands
			}
		}
		v.nodes = append(v.nodes, n)
	}
	return v
}

// Resumes takes in how far a run has come that is resumed: a node that is
// through has nothing more to report.
func (v *Run) Resumes(states map[string]steps.RunState) {
	for _, n := range v.nodes {
		if states[n.name] == steps.RunRestored {
			n.reached, n.result = len(steps.Phases), &steps.Result{OK: true}
		}
	}
}

func (v *Run) current() *nodeRun { return v.nodes[v.cur] }

func (v *Run) node(name string) *nodeRun {
	for _, n := range v.nodes {
		if n.name == name {
			return n
		}
	}
	return nil
}

func (v *Run) names() []string {
	var names []string
	for _, n := range v.nodes {
		names = append(names, n.name)
	}
	return names
}

// run is the name of the run, "" until it is known.
func (v *Run) Name() string {
	switch {
	case v.Plan != nil:
		return v.Plan.Run
	case v.Watched != nil:
		return v.Watched.Run
	}
	return ""
}

// dir is where a run on several nodes is kept on this node, "" for one on this
// node alone.
func (v *Run) Dir() string {
	if !v.Several || v.Plan == nil {
		return ""
	}
	return v.Plan.RunDir
}

// Apply takes in an event.
func (v *Run) Apply(ev restore.NodeEvent) {
	if v.begun.IsZero() {
		v.begun = ev.Time
	}
	if ev.Type == restore.TypePhase {
		v.passed[ev.Phase] = ev.Time
		v.open = max(v.open, slices.Index(steps.Phases, ev.Phase)+1)
		for _, n := range v.nodes {
			if !n.left {
				n.reach(ev.Phase, ev.Time)
			}
		}
		return
	}
	n := v.node(ev.Node)
	if n == nil {
		return // of the end of them all
	}
	if ev.Type == steps.TypePlan && ev.Plan != nil {
		v.planned(n, ev.Plan)
	}
	n.apply(ev)
	if v.Watched != nil {
		v.watch(n, ev.Event)
	}
}

// planned takes the plan that a node runs from here on: what was shown before
// may be less than what it is.
func (v *Run) planned(n *nodeRun, p *steps.Plan) {
	switch {
	case v.Watched != nil || v.Plan == nil:
		v.Plan, v.Kind = p, p.Kind // that process's run may have been interrupted, and resumed
		n.restart()
	case p.Kind == steps.KindUndo && v.Kind != steps.KindUndo:
		v.Kind = p.Kind
		for _, o := range v.nodes {
			o.restart()
		}
	}
	n.plan, n.result = p, nil
}

// watch takes in what an event of another process means for this one.
func (v *Run) watch(n *nodeRun, ev steps.Event) {
	switch ev.Type {
	case steps.TypePlan:
		v.Told = nil
	case steps.TypeAsk:
		if ev.Failure != nil {
			v.Ask(n.name, ev.Failure)
		}
	case steps.TypeResult:
		v.Told = ev.Result
	}
}

// ask makes the node that asks the current one.
func (v *Run) Ask(node string, f *steps.Failure) {
	for i, n := range v.nodes {
		if n.name == node || !v.Several {
			v.cur, v.inside = i, !v.Several
			n.failure, n.picked = f, ""
		}
	}
}

// Failure waits for an answer, on any node.
func (v *Run) Failure() *steps.Failure {
	for _, n := range v.nodes {
		if n.failure != nil {
			return n.failure
		}
	}
	return nil
}

// end takes in how the run ended.
func (v *Run) End(r *restore.Result) {
	v.Result, v.Stopping = r, false
	v.Answered()
	for _, e := range r.Nodes {
		// A node with nothing to do has reported nothing.
		if n := v.node(e.Node); n != nil && n.result == nil && (e.State == restore.Restored || e.State == restore.Reverted || e.State == restore.Untouched) {
			n.result = &steps.Result{OK: e.State == restore.Restored || v.Kind == steps.KindUndo, Reverted: e.State != restore.Restored}
		}
	}
}

// Running says whether there is no end yet.
func (v *Run) Running() bool { return v.Result == nil }

// Outage is how long the API was down, from the first manifest moved on any node
// until it is back on all of them, or until now; still says that it isn't back.
func (v *Run) Outage(now time.Time) (since time.Time, seconds float64, still bool) {
	var back time.Time
	for _, n := range v.nodes {
		if n.since.IsZero() {
			continue
		}
		if since.IsZero() || n.since.Before(since) {
			since = n.since
		}
		still = still || n.down && !n.left
		if n.now.After(back) {
			back = n.now
		}
	}
	if since.IsZero() {
		return since, 0, false
	}
	if still {
		back = now
	}
	return since, max(0, back.Sub(since).Seconds()), still
}

// DownSince is since when the API is down at the end of the run, nil when it
// isn't. A node that can't be reached reported no end.
func (v *Run) DownSince() *time.Time {
	r := v.Result
	if r == nil {
		return nil
	}
	down := r.DownSince()
	if since, _, still := v.Outage(time.Time{}); down == nil && still && !r.OK && !r.Reverted {
		down = &since
	}
	return down
}

// OutageText is the outage for the header.
func (v *Run) OutageText(l text.Look, now time.Time) string {
	if down := v.DownSince(); down != nil {
		return l.Reverse.Bold(true).Render(" " + DownText(*down, now) + " ")
	}
	_, s, still := v.Outage(now)
	if r := v.Result; r != nil {
		still, s = false, cmp.Or(r.OutageSeconds, s)
	}
	switch {
	case still:
		return l.Reverse.Bold(true).Render(" API down " + text.Seconds(s) + " ")
	case s > 0:
		return "API was down " + text.Seconds(s)
	}
	return ""
}

// Ended is what there is to say about the end; leftOut are the members that have
// no part in the restored cluster.
func (v *Run) Ended(leftOut []string) text.Ended { return v.EndedAs(v.Result, leftOut) }

// EndedAs is ended with a result that the screen may not have seen.
func (v *Run) EndedAs(r *restore.Result, leftOut []string) text.Ended {
	e := text.Ended{Result: r, Plan: v.Plan, Kind: v.Kind, Several: v.Several, Down: r.DownSince(), Excluded: leftOut}
	if e.Down == nil {
		e.Down = v.DownSince()
	}
	return e
}

// OnNodes is what the run is on, in a sentence.
func (v *Run) OnNodes() string {
	if v.Several {
		return "all nodes"
	}
	return "the node"
}

// command is the command that does something with this run.
func (v *Run) Command(verb string) string { return text.Command(v.Plan, verb, v.Several) }

// WaysOut are the commands that resume and undo the run.
func (v *Run) WaysOut() []steps.Fact {
	if v.Plan == nil || v.Plan.Run == "" {
		return nil
	}
	var list []steps.Fact
	switch v.Kind {
	case steps.KindRestore:
		list = append(list, steps.Fact{Name: "Resume", Value: v.Command("resume")})
	case steps.KindRedo:
		list = append(list, steps.Fact{Name: "Redo", Value: v.Command("redo")})
	}
	return append(list, steps.Fact{Name: "Undo", Value: v.Command("undo")})
}

// CanUndo says whether there is something to revert.
func (v *Run) CanUndo() bool {
	return v.Result != nil && !v.Result.Reverted && v.Name() != "" && !(v.Kind == steps.KindUndo && v.Result.OK)
}

// CanResume says whether the run stopped on the way, so that the rest of it can
// still be done.
func (v *Run) CanResume() bool {
	return v.CanUndo() && !v.Result.OK && v.Kind == steps.KindRestore
}

// CanRedo says whether the restored data can be had again.
func (v *Run) CanRedo() bool {
	r := v.Result
	return r != nil && !r.NotBegun && v.Name() != "" && (r.Redo != "" || v.Kind == steps.KindRedo && !r.OK)
}

// apart says whether nodes wait for no other: undone or redone, each has a way
// of its own.
func (v *Run) apart() bool { return v.Kind == steps.KindUndo || v.Kind == steps.KindRedo }

// CanBeginAnew says whether the nodes are as a new restore needs them.
func (v *Run) CanBeginAnew() bool {
	return v.Result != nil && v.DownSince() == nil && (v.Result.OK || v.Result.Reverted)
}

// SummaryHelp are the keys of the summary.
func (v *Run) SummaryHelp() []Hint {
	var help []Hint
	if v.CanUndo() {
		help = append(help, Hint{"u", "undo"})
	}
	if v.CanResume() {
		help = append(help, Hint{"g", "resume"})
	}
	if v.CanRedo() {
		help = append(help, Hint{"d", "redo"})
	}
	if v.CanBeginAnew() {
		help = append(help, Hint{"n", "new restore"})
	}
	return append(help, Hint{"esc", "steps"}, Hint{"c", "commands"}, Hint{"l", "logs"}, Hint{"/", "search"}, Hint{"q", "quit"})
}

// move looks at another node or step; it says whether the key was one that does.
func (v *Run) Move(name string) bool {
	if f := v.Failure(); f != nil && v.Several {
		return name == "u" && !slices.Contains(f.Choices, steps.Revert)
	}
	n := v.current()
	if !v.inside {
		return v.moveInList(name)
	}
	switch name {
	case "up", "k":
		n.pick(-1)
	case "down", "j":
		n.pick(1)
	case "pgup", "b":
		n.pick(-5)
	case "pgdown", "f":
		n.pick(5)
	case "home", "g":
		n.pick(-1 << 20)
	case "end", "G":
		n.pick(1 << 20)
	case "tab":
		v.cur = (v.cur + 1) % len(v.nodes)
	case "esc", "enter":
		switch {
		case n.picked != "":
			n.picked = ""
			return v.Running() // with an end to return to, that as well
		case v.Several:
			v.inside = false
		default:
			return false
		}
	default:
		return false
	}
	return true
}

func (v *Run) moveInList(name string) bool {
	switch name {
	case "left":
		name = "up"
	case "right":
		name = "down"
	}
	if cur, ok := Move(v.cur, len(v.nodes), name, 5); ok {
		v.cur = cur
		return true
	}
	switch name {
	case "tab":
		v.cur = (v.cur + 1) % len(v.nodes)
	case "enter", " ":
		v.inside = true
	default:
		i, err := strconv.Atoi(name)
		if err != nil || i < 1 || i > len(v.nodes) {
			return false
		}
		v.cur = i - 1
	}
	return true
}

// view shows the run: a failure, the list of the nodes, or one node's steps.
func (v *Run) View(l text.Look, now time.Time, w, h int) ([]string, string, []Hint) {
	where := ""
	switch {
	case !v.Stopping || !v.Running():
	case v.Several:
		where = "every node stops before its next action"
	default:
		where = "stopping before the next action"
	}
	n := v.current()
	switch {
	case v.Failure() != nil:
		return v.failureView(l, now, w, h)
	case !v.inside:
		lines, more, help := v.listView(l, now, w, h)
		return lines, cmp.Or(where, more), help
	case !v.Several && n.plan == nil:
		return []string{"", "   Reading what it has done so far"}, "", []Hint{{"q", "leave"}}
	case !v.Several:
		return n.view(l, now, w, h), where, v.insideHelp(n)
	}
	head := []string{text.Cut(" "+l.Bold.Render(trust.Text(n.name))+l.Faint.Render("  one of "+text.Listed(v.names())), w), ""}
	if n.plan == nil || len(n.plan.Steps) == 0 {
		return append(head, "   Its steps aren't known yet."), where, []Hint{{"esc", "all nodes"}, {"ctrl-c", "stop"}}
	}
	return append(head, n.view(l, now, w, h-len(head))...), where, v.insideHelp(n)
}

// insideHelp are the keys where a node's steps are shown.
func (v *Run) insideHelp(n *nodeRun) []Hint {
	follow, help := Hint{"esc", "follow"}, []Hint(nil)
	if v.Several {
		if n.picked == "" {
			follow = Hint{"esc", "all nodes"}
		}
		help = append(help, follow, Hint{"tab", "next node"})
	}
	help = append(help, Hint{"?", "why"}, Hint{"l", "logs"}, Hint{"c", "commands so far"})
	if v.Kind != steps.KindUndo && v.Watched == nil && v.Running() {
		help = append(help, Hint{"u", "undo"})
	}
	help = append(help, Hint{"↑↓", "show a step"})
	if !v.Several && n.picked != "" {
		help = append(help, follow)
	}
	search := Hint{"/", "search"}
	switch {
	case v.Watched != nil && v.Running():
		return append(help, search, Hint{"q", "leave"})
	case v.Running():
		return append(help, search, Hint{"ctrl-c", "stop"})
	case n.picked == "" && !v.Several:
		help = append(help, Hint{"esc", "summary"})
	}
	return append(help, search, Hint{"q", "quit"})
}

// failureView is the failure of a node, and where the others are.
func (v *Run) failureView(l text.Look, now time.Time, w, h int) ([]string, string, []Hint) {
	var head []string
	i := slices.IndexFunc(v.nodes, func(o *nodeRun) bool { return o.failure != nil })
	n := v.nodes[i]
	if v.Several {
		at := "in the end"
		switch {
		case v.apart():
			at = "in the " + v.Kind
		case n.reached < len(steps.Phases):
			at = "before " + steps.Phases[n.reached].Name()
		}
		head = append(head, text.Cut(" "+l.Bold.Render(trust.Text(n.name))+", "+at, w))
		var others []string
		for _, o := range v.nodes {
			if o == n {
				continue
			}
			_, say, _ := v.now(o, now)
			if i := v.waits(o); i >= 0 {
				say = "waiting at " + steps.Phases[i].Name()
			}
			others = append(others, trust.Text(o.name)+": "+say)
		}
		about := text.Hang(" ", strings.Join(others, "; "), w-1)
		head = append(append(head, about[:min(2, len(about))]...), "")
	}
	offered := n.failure.Choices
	if v.Watched != nil {
		offered = nil // they are the other session's
	}
	var choices []text.Choice
	for _, c := range offered {
		choices = append(choices, text.ChoiceOf(c, v.Several))
	}
	help := make([]Hint, 0, len(choices)+4)
	for _, c := range choices {
		help = append(help, Hint{c.Key, c.Word})
	}
	help = append(help, Hint{"?", "why"}, Hint{"c", "commands"}, Hint{"l", "logs"})
	if v.Watched != nil {
		help = append(help, Hint{"q", "leave"})
	}
	return append(head, failureView(l, n.failure, n.plan, choices, w, h-len(head))...), "", help
}

// failureView is what a failure shows: cause and hint first, then the choices,
// then what was seen and logged, as far as there is room. Without choices
// another session waits for the answer.
func failureView(l text.Look, f *steps.Failure, p *steps.Plan, offered []text.Choice, w, h int) []string {
	lines := text.Hang(" "+l.Symbol(text.SymBad)+" ", text.FailureTitle(f, p), w-1)
	lines[0] = l.Bold.Render(lines[0])
	if f.Waited > 0 {
		lines = append(lines, "   timed out after "+text.Seconds(f.Waited))
	}
	lines = append(lines, "")
	lines = append(lines, text.Indent(3, text.Facts(text.Advice(f.Cause, f.Hint), w-4))...)
	if most := h - max(len(offered), 2) - 1; len(lines) > most {
		lines = append(lines[:most-1], "   … ? shows all of it")
	}
	var choices []string
	if len(offered) == 0 {
		choices = text.Hang("   ", "The other session is waiting for an answer. This screen follows it.", w-4)
	}
	for i, c := range offered {
		label := c.Label
		if i == 0 {
			label += l.Faint.Render("   (recommended)")
		}
		choices = append(choices, "   "+l.Bold.Render(c.Key)+"  "+label)
	}
	room := h - len(lines) - len(choices) - 1
	var more []string
	if len(f.Seen) > 0 && room > len(f.Seen)+1 {
		more = append(more, "")
		more = append(more, text.Indent(3, text.Sightings(f.Seen, w-4, l.Symbol))...)
	}
	if rest := room - len(more) - 2; len(f.Log) > 0 && rest > 0 {
		head := "Last log lines:"
		if f.LogPath != "" {
			head = text.CutLeft(trust.Text(f.LogPath), w-4)
		}
		more = append(more, "", "   "+l.Faint.Render(head))
		var log []string
		for _, line := range trust.Lines(f.Log) {
			log = append(log, text.Wrap(strings.TrimSpace(line), w-6)...)
		}
		for _, line := range log[max(0, len(log)-rest):] {
			more = append(more, "   │ "+line)
		}
	}
	more = more[:max(0, min(len(more), room))]
	lines = append(append(lines, more...), "")
	return append(lines, choices...)
}

// brief is what a very small terminal shows.
func (v *Run) brief(now time.Time, w int) []string {
	if !v.Several {
		return text.Wrap(v.Doing(now), w)
	}
	var lines []string
	for _, n := range v.nodes {
		_, sentence, took := v.now(n, now)
		lines = append(lines, text.Apart(trust.Text(n.name)+" "+sentence, took, w))
	}
	return lines
}

// doing says in a line what the run does now.
func (v *Run) Doing(now time.Time) string {
	var parts []string
	for _, n := range v.nodes {
		sentence, p := n.doing()
		switch {
		case v.Several:
			_, sentence, _ = v.now(n, now)
			sentence = trust.Text(n.name) + ": " + sentence
		case sentence == "":
			sentence = "starting"
		case p != nil:
			sentence += ", " + text.Waited(p.took(now), p.limit)
		}
		parts = append(parts, sentence)
	}
	return strings.Join(parts, "; ")
}

// help explains what is on the screen.
func (v *Run) Help(w int) Help {
	n := v.current()
	f := v.Failure()
	if !v.inside && f == nil {
		return Help{Title: "All nodes, in step", Paragraphs: barrierHelp(v.Kind)}
	}
	s := n.looked()
	if s == nil {
		return Help{Title: "Help"}
	}
	h := Help{Title: trust.Text(s.Title), Paragraphs: []string{trust.Text(s.Why)}}
	for _, p := range strings.Split(s.More, "\n") {
		h.Paragraphs = append(h.Paragraphs, trust.Text(p))
	}
	if f := n.failure; f != nil {
		h.Body = append(text.Narrow(text.Failure(f, n.plan, w), w), "", h.Title+":")
		h.Title = "What failed"
	}
	return h
}

// Rows are the steps of the node that is looked into, or the nodes, to be
// searched, and which of them is marked. While a failure waits for an answer
// there is nothing to search.
func (v *Run) Rows() (rows []string, at int) {
	n := v.current()
	switch {
	case v.Failure() != nil:
		return nil, 0
	case !v.inside:
		for _, o := range v.nodes {
			say, _ := o.doing()
			rows = append(rows, o.name+" "+say)
		}
		return rows, v.cur
	case n.plan != nil:
		for i, st := range n.plan.Steps {
			row := []string{st.Title}
			for _, a := range st.Actions {
				row = append(row, n.title(a.ID))
			}
			rows = append(rows, strings.Join(row, " "))
			if looked := n.looked(); looked != nil && looked.ID == st.ID {
				at = i
			}
		}
	}
	return rows, at
}

// Select marks another row.
func (v *Run) Select(i int) {
	if n := v.current(); v.inside {
		n.picked = n.plan.Steps[i].ID
		return
	}
	v.cur = i
}

// Watches says whether the run is another process's.
func (v *Run) Watches() bool { return v.Watched != nil }

// Small are the lines of a run, or of its end, on a screen that holds nothing
// else, in w cells.
func (v *Run) Small(l text.Look, now time.Time, w int) []string {
	if !v.Running() {
		symbol, sentence := v.Ended(nil).Ending()
		return text.Hang(l.Symbol(symbol)+" ", sentence, w)
	}
	lines := v.brief(now, w)
	if away := v.OutageText(l, now); away != "" {
		lines = append(lines, away)
	}
	switch {
	case v.Watches():
		lines = append(lines, text.Hang("", "run by another etcd-rewind", w)...)
	case v.Failure() != nil:
		lines = append(lines, text.Hang("", "Paused for your answer: make the window larger.", w)...)
	}
	return lines
}

// Answered says that no failure waits for an answer any more.
func (v *Run) Answered() {
	for _, n := range v.nodes {
		n.failure = nil
	}
}

// Current is the node that is looked at, with the step that runs there or ran
// last; no name for a node alone.
func (v *Run) Current() (name, step string) {
	n := v.current()
	return n.name, n.current
}

// RunDir is where the run that is looked at is kept, "" when that isn't known.
func (v *Run) RunDir() string {
	if p := v.current().plan; p != nil {
		return p.RunDir
	}
	return ""
}

// CommandLog is every action that ran so far on the node that is looked at, with
// its commands.
func (v *Run) CommandLog() []string {
	var out []string
	for _, c := range v.current().commands {
		out = append(out, c.at.Local().Format("15:04:05.0")+"  "+c.title)
		out = append(out, text.Indent(2, text.Commands(c.lines))...)
	}
	return out
}

// DownText says since when the API is down, and for how long that is.
func DownText(since, now time.Time) string {
	return fmt.Sprintf("API down since %s, %s", steps.Clock(since), text.Seconds(now.Sub(since).Seconds()))
}

// WatchedText is what the second line says about another process's run.
func (v *Run) WatchedText(w int) string {
	sentence := " run by another etcd-rewind; this screen is read-only"
	if !v.Running() {
		sentence = " run by another etcd-rewind; finished"
	}
	if name := trust.Text(v.Watched.Run); text.Width(sentence)+text.Width(name)+3 <= w {
		return text.Apart(sentence, name+" ", w)
	}
	return text.Cut(sentence, w)
}
