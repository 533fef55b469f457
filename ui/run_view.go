package ui

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
	"etcd-rewind/ui/pane"
	"etcd-rewind/ui/text"
)

// runView shows a run on one or more nodes. A node alone is looked into from
// the start; of several, a list says what each does, and one can be looked
// into. It is fed with events alone.
type runView struct {
	plan    *steps.Plan // this node's part of it, nil until it is known
	kind    string      // steps.KindUndo also when the run is undone within itself
	several bool        // nodes have names, and barriers
	nodes   []*nodeRun
	cur     int
	inside  bool // the steps of the current node are shown
	scroll  pane.Scroller

	watched  *steps.RunInfo // another process runs it; it is only looked at
	told     *steps.Result  // the last one that process told
	stopping bool
	result   *restore.Result // nil until it has ended

	begun  time.Time
	passed map[steps.Phase]time.Time // barriers that all nodes have reached, in this run
	open   int                       // how many of them
}

// newRunView shows a run before its first event. names are those of several
// nodes, and plans theirs, where they are known; nil for a node alone. The log
// of commands goes on from the view before.
func newRunView(p *steps.Plan, names []string, plans []*steps.Plan, before *runView) *runView {
	v := &runView{plan: p, several: len(names) > 0, inside: len(names) == 0, passed: map[steps.Phase]time.Time{}}
	if p != nil {
		v.kind = p.Kind
	}
	if !v.several {
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

// resumes takes in how far a run has come that is resumed: a node that is
// through has nothing more to tell.
func (v *runView) resumes(states map[string]steps.RunState) {
	for _, n := range v.nodes {
		if states[n.name] == steps.RunRestored {
			n.reached, n.result = len(steps.Phases), &steps.Result{OK: true}
		}
	}
}

func (v *runView) current() *nodeRun { return v.nodes[v.cur] }

func (v *runView) node(name string) *nodeRun {
	for _, n := range v.nodes {
		if n.name == name {
			return n
		}
	}
	return nil
}

func (v *runView) names() []string {
	var names []string
	for _, n := range v.nodes {
		names = append(names, n.name)
	}
	return names
}

// run is the name of the run, "" until it is known.
func (v *runView) run() string {
	switch {
	case v.plan != nil:
		return v.plan.Run
	case v.watched != nil:
		return v.watched.Run
	}
	return ""
}

// dir is where a run on several nodes is kept on this node, "" for one on this
// node alone.
func (v *runView) dir() string {
	if !v.several || v.plan == nil {
		return ""
	}
	return v.plan.RunDir
}

// apply takes in an event.
func (v *runView) apply(ev restore.NodeEvent) {
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
	if v.watched != nil {
		v.watch(n, ev.Event)
	}
}

// planned takes the plan that a node runs from here on: what was shown before
// may be less than what it is.
func (v *runView) planned(n *nodeRun, p *steps.Plan) {
	switch {
	case v.watched != nil || v.plan == nil:
		v.plan, v.kind = p, p.Kind // that process's run may have been interrupted, and resumed
		n.restart()
	case p.Kind == steps.KindUndo && v.kind != steps.KindUndo:
		v.kind = p.Kind
		for _, o := range v.nodes {
			o.restart()
		}
	}
	n.plan, n.result = p, nil
}

// watch takes in what an event of another process means for this one.
func (v *runView) watch(n *nodeRun, ev steps.Event) {
	switch ev.Type {
	case steps.TypePlan:
		v.told = nil
	case steps.TypeAsk:
		if ev.Failure != nil {
			v.ask(n.name, ev.Failure)
		}
	case steps.TypeResult:
		v.told = ev.Result
	}
}

// ask makes the node that asks the current one.
func (v *runView) ask(node string, f *steps.Failure) {
	for i, n := range v.nodes {
		if n.name == node || !v.several {
			v.cur, v.inside = i, !v.several
			n.failure, n.picked = f, ""
		}
	}
}

// failure waits for an answer, on any node.
func (v *runView) failure() *steps.Failure {
	for _, n := range v.nodes {
		if n.failure != nil {
			return n.failure
		}
	}
	return nil
}

// end takes in how the run ended.
func (v *runView) end(r *restore.Result) {
	v.result, v.stopping = r, false
	for _, n := range v.nodes {
		n.failure = nil
	}
	for _, e := range r.Nodes {
		// A node with nothing to do has told nothing.
		if n := v.node(e.Node); n != nil && n.result == nil && (e.State == restore.Restored || e.State == restore.Reverted || e.State == restore.Untouched) {
			n.result = &steps.Result{OK: e.State == restore.Restored || v.kind == steps.KindUndo, PutBack: e.State != restore.Restored}
		}
	}
}

// running says whether there is no end yet.
func (v *runView) running() bool { return v.result == nil }

// outage is how long the API was down, from the first manifest moved on any node
// until it is back on all of them, or until now; still says that it isn't back.
func (v *runView) outage(now time.Time) (since time.Time, seconds float64, still bool) {
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

// downSince is since when the API is down at the end of the run, nil when it
// isn't. A node that can't be reached told no end.
func (v *runView) downSince() *time.Time {
	r := v.result
	if r == nil {
		return nil
	}
	down := r.DownSince()
	if since, _, still := v.outage(time.Time{}); down == nil && still && !r.OK && !r.PutBack {
		down = &since
	}
	return down
}

// outageText is the outage for the header.
func (v *runView) outageText(l text.Look, now time.Time) string {
	if down := v.downSince(); down != nil {
		return l.Reverse.Bold(true).Render(" " + downText(*down, now) + " ")
	}
	_, s, still := v.outage(now)
	if r := v.result; r != nil {
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

// ended is what there is to tell of the end; leftOut are the members that have
// no part in the restored cluster.
func (v *runView) ended(leftOut []string) text.Ended { return v.endedAs(v.result, leftOut) }

// endedAs is ended with a result that the screen may not have seen.
func (v *runView) endedAs(r *restore.Result, leftOut []string) text.Ended {
	e := text.Ended{Result: r, Plan: v.plan, Kind: v.kind, Several: v.several, Down: r.DownSince(), Excluded: leftOut}
	if e.Down == nil {
		e.Down = v.downSince()
	}
	return e
}

// onNodes is what the run is on, in a sentence.
func (v *runView) onNodes() string {
	if v.several {
		return "all nodes"
	}
	return "the node"
}

// command is the command that does something with this run.
func (v *runView) command(verb string) string { return text.Command(v.plan, verb, v.several) }

// waysOut are the commands that resume and undo the run.
func (v *runView) waysOut() []steps.Fact {
	if v.plan == nil || v.plan.Run == "" {
		return nil
	}
	var list []steps.Fact
	if v.kind == steps.KindRestore {
		list = append(list, steps.Fact{Name: "Resume", Value: v.command("resume")})
	}
	return append(list, steps.Fact{Name: "Undo", Value: v.command("undo")})
}

// canUndo says whether there is something to revert.
func (v *runView) canUndo() bool {
	return v.result != nil && !v.result.PutBack && v.run() != "" && !(v.kind == steps.KindUndo && v.result.OK)
}

// canResume says whether the run stopped on the way, so that the rest of it can
// still be done.
func (v *runView) canResume() bool {
	return v.canUndo() && !v.result.OK && v.kind == steps.KindRestore
}

// canRedo says whether the restored data can be had again.
func (v *runView) canRedo() bool {
	r := v.result
	return r != nil && !r.NotBegun && v.run() != "" && (r.Redo != "" || v.kind == steps.KindRedo && !r.OK)
}

// apart says whether nodes wait for no other: undone or redone, each has a way
// of its own.
func (v *runView) apart() bool { return v.kind == steps.KindUndo || v.kind == steps.KindRedo }

// canBeginAnew says whether the nodes are as a new restore needs them.
func (v *runView) canBeginAnew() bool {
	return v.result != nil && v.downSince() == nil && (v.result.OK || v.result.PutBack)
}

// summaryHelp are the keys of the summary.
func (v *runView) summaryHelp() []pane.Hint {
	var help []pane.Hint
	if v.canUndo() {
		help = append(help, pane.Hint{"u", "undo"})
	}
	if v.canResume() {
		help = append(help, pane.Hint{"g", "resume"})
	}
	if v.canRedo() {
		help = append(help, pane.Hint{"d", "redo"})
	}
	if v.canBeginAnew() {
		help = append(help, pane.Hint{"n", "new restore"})
	}
	return append(help, pane.Hint{"esc", "steps"}, pane.Hint{"c", "commands"}, pane.Hint{"l", "logs"}, pane.Hint{"/", "search"}, pane.Hint{"q", "quit"})
}

// move looks at another node or step; it says whether the key was one that does.
func (v *runView) move(name string) bool {
	if f := v.failure(); f != nil && v.several {
		return name == "u" && !slices.Contains(f.Choices, steps.PutBack)
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
			return v.running() // with an end to return to, that as well
		case v.several:
			v.inside = false
		default:
			return false
		}
	default:
		return false
	}
	return true
}

func (v *runView) moveInList(name string) bool {
	switch name {
	case "left":
		name = "up"
	case "right":
		name = "down"
	}
	if cur, ok := pane.Move(v.cur, len(v.nodes), name, 5); ok {
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
func (v *runView) view(l text.Look, now time.Time, w, h int) ([]string, string, []pane.Hint) {
	where := ""
	switch {
	case !v.stopping || !v.running():
	case v.several:
		where = "every node stops before its next action"
	default:
		where = "stopping before the next action"
	}
	n := v.current()
	switch {
	case v.failure() != nil:
		return v.failureView(l, now, w, h)
	case !v.inside:
		lines, more, help := v.listView(l, now, w, h)
		return lines, cmp.Or(where, more), help
	case !v.several && n.plan == nil:
		return []string{"", "   Reading what it has done so far"}, "", []pane.Hint{{"q", "leave"}}
	case !v.several:
		return n.view(l, now, w, h), where, v.insideHelp(n)
	}
	head := []string{text.Cut(" "+l.Bold.Render(trust.Text(n.name))+l.Faint.Render("  one of "+text.Listed(v.names())), w), ""}
	if n.plan == nil || len(n.plan.Steps) == 0 {
		return append(head, "   Nothing is known of its steps yet."), where, []pane.Hint{{"esc", "all nodes"}, {"ctrl-c", "stop"}}
	}
	return append(head, n.view(l, now, w, h-len(head))...), where, v.insideHelp(n)
}

// insideHelp are the keys where a node's steps are shown.
func (v *runView) insideHelp(n *nodeRun) []pane.Hint {
	follow, help := pane.Hint{"esc", "follow"}, []pane.Hint(nil)
	if v.several {
		if n.picked == "" {
			follow = pane.Hint{"esc", "all nodes"}
		}
		help = append(help, follow, pane.Hint{"tab", "next node"})
	}
	help = append(help, pane.Hint{"?", "why"}, pane.Hint{"l", "logs"}, pane.Hint{"c", "commands so far"})
	if v.kind != steps.KindUndo && v.watched == nil && v.running() {
		help = append(help, pane.Hint{"u", "undo"})
	}
	help = append(help, pane.Hint{"↑↓", "look at a step"})
	if !v.several && n.picked != "" {
		help = append(help, follow)
	}
	search := pane.Hint{"/", "search"}
	switch {
	case v.watched != nil && v.running():
		return append(help, search, pane.Hint{"q", "leave"})
	case v.running():
		return append(help, search, pane.Hint{"ctrl-c", "stop"})
	case n.picked == "" && !v.several:
		help = append(help, pane.Hint{"esc", "summary"})
	}
	return append(help, search, pane.Hint{"q", "quit"})
}

// failureView is the failure of a node, and where the others are.
func (v *runView) failureView(l text.Look, now time.Time, w, h int) ([]string, string, []pane.Hint) {
	var head []string
	i := slices.IndexFunc(v.nodes, func(o *nodeRun) bool { return o.failure != nil })
	n := v.nodes[i]
	if v.several {
		at := "in the end"
		switch {
		case v.apart():
			at = "in the " + v.kind
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
	if v.watched != nil {
		offered = nil // they are the other session's
	}
	var choices []text.Choice
	for _, c := range offered {
		choices = append(choices, text.ChoiceOf(c, v.several))
	}
	help := make([]pane.Hint, 0, len(choices)+4)
	for _, c := range choices {
		help = append(help, pane.Hint{c.Key, c.Word})
	}
	help = append(help, pane.Hint{"?", "why"}, pane.Hint{"c", "commands"}, pane.Hint{"l", "logs"})
	if v.watched != nil {
		help = append(help, pane.Hint{"q", "leave"})
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
func (v *runView) brief(now time.Time, w int) []string {
	if !v.several {
		return text.Wrap(v.doing(now), w)
	}
	var lines []string
	for _, n := range v.nodes {
		_, sentence, took := v.now(n, now)
		lines = append(lines, text.Apart(trust.Text(n.name)+" "+sentence, took, w))
	}
	return lines
}

// doing says in a line what the run does now.
func (v *runView) doing(now time.Time) string {
	var parts []string
	for _, n := range v.nodes {
		sentence, p := n.doing()
		switch {
		case v.several:
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
func (v *runView) help(w int) (title string, body, paragraphs []string) {
	n := v.current()
	f := v.failure()
	if !v.inside && f == nil {
		return "All nodes, in step", nil, barrierHelp(v.kind)
	}
	s := n.looked()
	if s == nil {
		return "Help", nil, nil
	}
	title = trust.Text(s.Title)
	paragraphs = []string{trust.Text(s.Why)}
	for _, p := range strings.Split(s.More, "\n") {
		paragraphs = append(paragraphs, trust.Text(p))
	}
	if f := n.failure; f != nil {
		body = append(text.Narrow(text.Failure(f, n.plan, w), w), "", title+":")
		title = "What failed"
	}
	return title, body, paragraphs
}

// commandLog is every action that ran so far on a node, with its commands.
func (n *nodeRun) commandLog() []string {
	var out []string
	for _, c := range n.commands {
		out = append(out, c.at.Local().Format("15:04:05.0")+"  "+c.title)
		out = append(out, text.Indent(2, text.Commands(c.lines))...)
	}
	return out
}

// downText says since when the API is down, and for how long that is.
func downText(since, now time.Time) string {
	return fmt.Sprintf("API down since %s, %s", steps.Clock(since), text.Seconds(now.Sub(since).Seconds()))
}

// watchedText is what the second line tells of another process's run.
func (v *runView) watchedText(w int) string {
	sentence := " run by another etcd-rewind; this screen is read-only"
	if !v.running() {
		sentence = " run by another etcd-rewind; finished"
	}
	if name := trust.Text(v.watched.Run); text.Width(sentence)+text.Width(name)+3 <= w {
		return text.Apart(sentence, name+" ", w)
	}
	return text.Cut(sentence, w)
}
