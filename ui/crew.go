package ui

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"etcd-rewind/node"
	"etcd-rewind/restore"
	"etcd-rewind/steps"
	"etcd-rewind/trust"
	"etcd-rewind/ui/pane"
	"etcd-rewind/ui/text"
)

// crew shows a run on several nodes: the phases of all of them, and the steps
// of one. It is fed with events alone.
type crew struct {
	run    string
	kind   string
	nodes  []*hand
	cur    int
	inside bool // the steps of the current node are shown

	begun  time.Time
	passed map[steps.Phase]time.Time // all nodes came so far then, in this run
	open   int                       // phases that all nodes have come to
	scroll pane.Scroller

	gone, back time.Time // the API, on any node and on all
	away       float64   // as the result has it
	result     *restore.Result
}

// hand is one node of a crew.
type hand struct {
	name    string
	stepper stepper
	of      *steps.Plan            // that meets is of
	meets   map[string]steps.Phase // by action
	came    [7]time.Time           // by the index of the phase
	so      int                    // phases come to
	away    bool                   // its API
	left    bool                   // the others go on without it
	link    steps.State            // Waiting: it is tried again; Failed: it is out of reach
	linkAt  time.Time
	says    string // about the link
	ended   *steps.Result
	asked   bool // its failure waits for an answer
	lost    bool // that is that it can't be reached
}

func newCrew(p *steps.Plan, names []string, plans []*steps.Plan, commands map[string][]command) *crew {
	c := &crew{run: p.Run, kind: p.Kind, passed: map[steps.Phase]time.Time{}}
	for i, name := range names {
		h := &hand{name: name, stepper: newStepper(&steps.Plan{Run: p.Run, Kind: p.Kind, Node: name}, commands[name])}
		h.stepper.one = true
		// An undo's plans are those of the nodes with something to put back.
		if len(plans) == len(names) {
			h.stepper.plan = plans[i]
		}
		h.stepper.watched = false
		c.nodes = append(c.nodes, h)
	}
	return c
}

// goesOn takes in how far a run has come that is gone on with: a node that is
// through has nothing more to tell.
func (c *crew) goesOn(states map[string]steps.RunState) {
	for _, h := range c.nodes {
		if states[h.name] == steps.RunRestored {
			h.so, h.ended = len(steps.Phases), &steps.Result{OK: true}
		}
	}
}

func (c *crew) current() *hand { return c.nodes[c.cur] }

func (c *crew) hand(name string) *hand {
	for _, h := range c.nodes {
		if h.name == name {
			return h
		}
	}
	return nil
}

// apply takes in an event.
func (c *crew) apply(ev restore.NodeEvent) {
	if c.begun.IsZero() {
		c.begun = ev.Time
	}
	if ev.Type == restore.TypePhase {
		c.passed[ev.Phase] = ev.Time
		c.open = max(c.open, slices.Index(steps.Phases, ev.Phase)+1)
		for _, h := range c.nodes {
			if !h.left {
				h.come(ev.Phase, ev.Time)
			}
		}
		return
	}
	h := c.hand(ev.Node)
	if h == nil {
		return
	}
	switch ev.Type {
	case restore.TypeLink:
		h.link, h.linkAt, h.says = ev.State, ev.Time, trust.Text(ev.Message)
		return
	case restore.TypeLeft:
		h.left = true
		return
	case steps.TypeResult:
		h.ended = ev.Result
	case steps.TypePlan:
		h.ended = nil
		if ev.Plan != nil {
			// What it was shown with before may be less than what it is.
			h.stepper.plan = ev.Plan
			if ev.Plan.Kind == steps.KindUndo && c.kind != steps.KindUndo {
				c.goBack()
			}
		}
	case steps.TypeAnswer:
		h.asked = false
	}
	c.clock(h, ev)
	h.stepper.apply(ev.Event)
	h.meet(ev)
}

// goBack begins an undo within the run.
func (c *crew) goBack() {
	c.kind = steps.KindUndo
	for _, h := range c.nodes {
		h.ended, h.left, h.asked = nil, false, false
		h.stepper.begun, h.stepper.current, h.stepper.action, h.stepper.picked = map[string]*progress{}, "", "", ""
	}
}

// clock keeps the outage: from the first manifest moved on any node until the
// API is back on all of them.
func (c *crew) clock(h *hand, ev restore.NodeEvent) {
	if ev.Away != nil {
		if c.gone.IsZero() {
			c.gone = ev.Time.Add(-time.Duration(*ev.Away * float64(time.Second)))
		}
		h.away = true
		c.back = time.Time{}
		return
	}
	if !h.away {
		return
	}
	h.away = false
	if !slices.ContainsFunc(c.nodes, func(o *hand) bool { return o.away && !o.left }) {
		c.back = ev.Time
	}
}

func (c *crew) awayText(l text.Look, now time.Time) string {
	switch {
	case c.result != nil:
		return awayWords(l, c.away, false)
	case c.gone.IsZero():
		return ""
	case c.back.IsZero():
		return awayWords(l, max(0, now.Sub(c.gone).Seconds()), true)
	}
	return awayWords(l, c.back.Sub(c.gone).Seconds(), false)
}

// meet notes the phases that a node's plan says it has come to.
func (h *hand) meet(ev restore.NodeEvent) {
	if ev.Type != steps.TypeAction || h.stepper.plan == nil {
		return
	}
	if h.of != h.stepper.plan {
		h.of, h.meets = h.stepper.plan, map[string]steps.Phase{}
		for _, s := range h.of.Steps {
			for _, a := range s.Actions {
				if m, ok := a.Action.(*steps.WaitNodes); ok {
					h.meets[a.ID] = m.Phase
				}
			}
		}
	}
	if p, ok := h.meets[ev.Action]; ok && ev.State != steps.Failed && ev.State != steps.Stopped {
		h.come(p, ev.Time)
	}
}

func (h *hand) come(p steps.Phase, at time.Time) {
	i := slices.Index(steps.Phases, p)
	if i >= 0 && i < len(h.came) && h.came[i].IsZero() {
		h.came[i] = at
	}
	h.so = max(h.so, i+1)
}

// asked makes the node that asks the current one.
func (c *crew) asked(node string, away bool) {
	for i, h := range c.nodes {
		if h.name == node {
			c.cur, c.inside = i, false
			h.asked, h.lost = true, away
		}
	}
}

func (c *crew) failure() *steps.Failure {
	for _, h := range c.nodes {
		if h.stepper.failure != nil {
			return h.stepper.failure
		}
	}
	return nil
}

func (c *crew) end(r *restore.Result) {
	c.result = r
	for _, h := range c.nodes {
		h.stepper.failure, h.asked = nil, false
		h.stepper.counting, h.stepper.ended = false, true
	}
	if r == nil {
		c.result = &restore.Result{Run: c.run, PutBack: true}
		return
	}
	c.away = r.OutageSeconds
	for _, n := range r.Nodes {
		// A node with nothing to do has told nothing.
		if h := c.hand(n.Node); h != nil && h.ended == nil && (n.State == restore.Restored || n.State == restore.Reverted || n.State == restore.Untouched) {
			h.ended = &steps.Result{OK: n.State == restore.Restored || c.kind == steps.KindUndo, PutBack: n.State != restore.Restored}
		}
	}
}

// takes says whether a key is for the screen of all nodes, and does it.
func (c *crew) takes(m *model, name string) bool {
	if c.failure() != nil {
		return name == "u" && !slices.Contains(c.failure().Choices, steps.PutBack)
	}
	if name == "l" && m.facts != nil && c.current().name != m.localMember() {
		m.note = "Logs are read on this node only. Those of " + c.current().name + " are there, in " + node.Kubeadm.PodLogs + "."
		return true
	}
	if c.inside {
		if name == "tab" {
			c.cur = (c.cur + 1) % len(c.nodes)
			return true
		}
		return false
	}
	switch name {
	case "left":
		name = "up"
	case "right":
		name = "down"
	}
	if cur, ok := pane.Move(c.cur, len(c.nodes), name, 5); ok {
		c.cur = cur
		return true
	}
	switch name {
	case "tab":
		c.cur = (c.cur + 1) % len(c.nodes)
	case "enter", " ":
		c.inside = true
	default:
		if n, err := strconv.Atoi(name); err == nil && n >= 1 && n <= len(c.nodes) {
			c.cur = n - 1
			return true
		}
		return false
	}
	return true
}

// localMember is this node's name among the members.
func (m *model) localMember() string {
	for _, o := range m.members.members {
		if o.Local {
			return o.Name
		}
	}
	if m.facts.Etcd != nil {
		return m.facts.Etcd.Name
	}
	return m.facts.Node
}

var phaseMeans = map[steps.Phase]string{
	steps.PhaseStaged:    "restored data beside the old; the cluster still runs",
	steps.PhaseAPIGone:   "no kube-apiserver runs: nothing writes any more",
	steps.PhaseEtcdOut:   "no etcd runs on the old data",
	steps.PhasePlaced:    "the restored data is where etcd looks for it",
	steps.PhaseEtcdReady: "etcd has a quorum, one cluster ID, every member",
	steps.PhaseAPIReady:  "kube-apiserver is ready",
	steps.PhaseVerified:  "the API shows what the snapshot holds",
}

func crewHelp(kind string) []string {
	if kind == steps.KindUndo {
		return []string{
			"All nodes are undone at the same time, each by its own journal: the manifests are restored byte for byte, and etcd runs on the data it had before. A quorum of the old members is needed until the first one is ready.",
			"enter shows the steps of a node; ↑↓ choose one.",
		}
	}
	out := make([]string, 0, len(steps.Phases)+2)
	out = append(out, "Every node runs its own steps, and waits at the end of each phase until all have reached it. So no old API server and no old etcd is left when the first restored etcd starts. enter shows the steps of a node; ↑↓ choose one.")
	for _, p := range steps.Phases {
		out = append(out, p.Name()+": "+phaseMeans[p]+".")
	}
	return append(out, "A node that can't be reached stops at its next wait. It is retried for a minute; then you are asked.")
}

// behind are the nodes that the others wait for at a phase.
func (c *crew) behind(i int) []string {
	var names []string
	for _, h := range c.nodes {
		if !h.left && h.so <= i {
			names = append(names, h.name)
		}
	}
	return names
}

// waits says at which phase a node waits for others, -1 for none.
func (c *crew) waits(h *hand) int {
	i := h.so - 1
	if c.kind == steps.KindUndo || i < c.open || h.left || h.ended != nil {
		return -1
	}
	return i
}

// now says what a node does at this moment, and since when.
func (c *crew) now(h *hand, now time.Time) (symbol, sentence, took string) {
	since := func(t time.Time) string { return text.Seconds(now.Sub(t).Seconds()) }
	switch f := h.stepper.failure; {
	case f != nil:
		return text.SymBad, trust.Text(f.Cause), ""
	case h.left:
		return text.SymSkipped, "left as it is: the others continue without it", ""
	case h.link == steps.Waiting:
		return text.SymWarn, "reconnecting…", since(h.linkAt)
	case h.link == steps.Failed:
		return text.SymBad, "can't be reached: " + h.says, ""
	}
	if r := h.ended; r != nil {
		switch {
		case r.OK && c.kind == steps.KindUndo:
			return text.SymDone, "undone", ""
		case r.OK:
			return text.SymDone, "restored", ""
		case r.PutBack:
			return text.SymWarn, "stopped; nothing changed", ""
		case r.Error != nil:
			return text.SymBad, "stopped: " + trust.Text(r.Error.Cause), ""
		}
		return text.SymBad, "stopped, unfinished", ""
	}
	if i := c.waits(h); i >= 0 {
		if late := c.behind(i); len(late) > 0 {
			return text.SymWaits, "waiting for " + text.Listed(late), since(h.came[i])
		}
	}
	s := &h.stepper
	st := s.find(s.current)
	if st == nil {
		return text.SymLater, "starting", ""
	}
	sentence = trust.Text(st.Title)
	if a := s.title(s.action); a != "" {
		sentence = a
	}
	p := s.begun[s.action]
	if p == nil {
		return text.SymNow, sentence, ""
	}
	if p.state == steps.Failed || p.state == steps.Stopped {
		return text.StateSymbol(p.state), sentence, ""
	}
	return text.SymNow, sentence, text.Waited(p.took(now), p.limit)
}

// oneLine says where the nodes are, for a question about the run.
func (c *crew) oneLine(now time.Time) string {
	var parts []string
	for _, h := range c.nodes {
		_, text, _ := c.now(h, now)
		parts = append(parts, h.name+": "+text)
	}
	return "Now: " + strings.Join(parts, "; ")
}

// brief is what a very small terminal shows.
func (c *crew) brief(now time.Time, w int) []string {
	var lines []string
	for _, h := range c.nodes {
		_, sentence, took := c.now(h, now)
		lines = append(lines, text.Apart(trust.Text(h.name)+" "+sentence, took, w))
	}
	return lines
}

// shortNames shortens names so that what they differ in is left: hosts have
// long tails, and numbers at the end of long heads.
func shortNames(names []string, w int) []string {
	out := trust.Lines(names)
	wide := func() bool {
		return slices.ContainsFunc(out, func(n string) bool { return text.Width(n) > w })
	}
	if wide() && len(out) > 1 {
		// The domain.
		tail := out[0]
		for _, n := range out[1:] {
			for !strings.HasSuffix(n, tail) {
				_, size := cutRune(tail)
				tail = tail[size:]
			}
		}
		if i := strings.IndexByte(tail, '.'); i >= 0 {
			for j, n := range out {
				out[j] = strings.TrimSuffix(n, tail[i:])
			}
		}
	}
	for i, n := range out {
		out[i] = text.CutLeft(n, w)
	}
	return out
}

func cutRune(s string) (rune, int) {
	for i, r := range s {
		if i > 0 {
			return r, i
		}
	}
	return 0, len(s)
}

// phaseRows are the phases of all nodes: a row for a phase, a column for a
// node, so that a phase that not all have come to is seen as one.
func (c *crew) phaseRows(l text.Look, now time.Time, w int) []string {
	const label = 12
	col := min(18, (w-label-1)/len(c.nodes))
	head := strings.Repeat(" ", label)
	for i, n := range shortNames(c.names(), col-2) {
		n = text.Fit(n, col-1)
		if i == c.cur {
			n = l.Bold.Render(n)
		}
		head += n + " "
	}
	rows := []string{head}
	for i, p := range steps.Phases {
		row := " " + text.Fit(p.Name(), label-1)
		for _, h := range c.nodes {
			sym, took := c.cell(h, i, now)
			row += text.Fit(l.Symbol(sym)+text.FitRight(took, min(8, col-3)), col)
		}
		if rest := w - label - col*len(c.nodes) - 2; rest >= 40 {
			row += l.Faint.Render(text.Cut(phaseMeans[p], rest))
		}
		rows = append(rows, row)
	}
	return rows
}

// cell is a node at a phase.
func (c *crew) cell(h *hand, i int, now time.Time) (symbol, took string) {
	from := c.begun
	if i > 0 {
		from = c.passed[steps.Phases[i-1]]
	}
	span := func(to time.Time) string {
		if from.IsZero() || to.IsZero() {
			return ""
		}
		return short(max(0, to.Sub(from).Seconds()))
	}
	switch {
	case h.so > i && i < c.open:
		return text.SymDone, span(h.came[i])
	case h.so > i:
		return text.SymWaits, span(h.came[i])
	case h.so < i, c.waits(h) >= 0:
		return text.SymLater, ""
	case h.left:
		return text.SymSkipped, ""
	case h.stepper.failure != nil || h.link == steps.Failed || h.ended != nil && !h.ended.OK:
		return text.SymBad, ""
	case h.link == steps.Waiting:
		return text.SymWarn, ""
	case h.stepper.current == "":
		return text.SymLater, ""
	case c.result != nil:
		return text.SymLater, ""
	}
	return text.SymNow, span(now)
}

// nodeLines are what a node does now, in at most n lines.
func (c *crew) nodeLines(l text.Look, i int, name string, n, w int, now time.Time) []string {
	h, in := c.nodes[i], text.Width(name)+7
	sym, sentence, took := c.now(h, now)
	mark := "  "
	if i == c.cur {
		mark, name = text.SymNow+" ", l.Bold.Render(name)
	}
	lead := " " + mark + name + "  " + l.Symbol(sym) + " "
	lines := []string{text.Apart(lead+sentence, took, w-1)}
	if n < 2 || h.left {
		return lines
	}
	var more []string
	switch {
	case h.link == steps.Waiting:
		more = text.Wrap(h.says, w-in-1)
	case h.ended != nil || c.waits(h) >= 0:
	default:
		s := &h.stepper
		if c.kind == steps.KindUndo && s.plan != nil {
			for k, st := range s.plan.Steps {
				if st.ID == s.current {
					more = append(more, fmt.Sprintf("step %d of %d: %s", k+1, len(s.plan.Steps), trust.Text(st.Title)))
				}
			}
		}
		if p := s.begun[s.action]; p != nil {
			more = append(more, s.sees(l, p, w-in-1)...)
		}
		if n > 5 {
			if st := s.find(s.current); st != nil {
				more = append(text.Wrap(trust.Text(st.Why), w-in-1), more...)
			}
		}
	}
	return append(lines, text.Indent(in, more[:min(len(more), n-1)])...)
}

func (m *model) crewView(w, h int) ([]string, string, []pane.Hint) {
	c, l, now := m.crew, m.look, m.now()
	if c.failure() != nil {
		return c.failureView(l, now, w, h)
	}
	where := ""
	if m.stepper.stopping && m.result == nil {
		where = "every node stops before its next action"
	}
	if c.inside {
		head := " " + l.Bold.Render(trust.Text(c.current().name)) + l.Faint.Render("  one of "+text.Listed(c.names()))
		s := &c.current().stepper
		if len(s.plan.Steps) == 0 {
			return []string{text.Cut(head, w), "", "   Nothing is known of its steps yet."}, where, []pane.Hint{{"esc", "all nodes"}, {"ctrl-c", "stop"}}
		}
		lines, _, help := s.view(l, now, w, h-2)
		if m.result != nil {
			help = help[:len(help)-1]
		}
		return append([]string{text.Cut(head, w), ""}, lines...), where, append([]pane.Hint{help[0], {"tab", "next node"}}, help[1:]...)
	}
	var lines []string
	if c.kind != steps.KindUndo {
		lines = append(c.phaseRows(l, now, w), "")
	} else {
		lines = append(lines, " "+l.Bold.Render("All nodes are undone, at the same time"), "")
	}
	short, names := shortNames(c.names(), w/4), 0
	for _, n := range short {
		names = max(names, text.Width(n))
	}
	room := h - len(lines)
	each := max(1, room/len(c.nodes))
	gap := each > 3
	if gap {
		each--
	}
	var all []string
	first, last := 0, 0
	for i := range c.nodes {
		if i == c.cur {
			first = len(all)
		}
		all = append(all, c.nodeLines(l, i, text.Fit(short[i], names), each, w, now)...)
		if i == c.cur {
			last = len(all) - 1
		}
		if gap && i < len(c.nodes)-1 {
			all = append(all, "")
		}
	}
	c.scroll.Show(first, last, room)
	seen, more := c.scroll.Window(all, room)
	help := []pane.Hint{{"enter", "its steps"}, {"↑↓", "node"}, {"?", "why"}, {"l", "logs"}, {"c", "commands"}}
	if m.result == nil {
		if c.kind != steps.KindUndo {
			help = slices.Insert(help, 3, pane.Hint{"u", "undo"})
		}
		help = append(help, pane.Hint{"ctrl-c", "stop"})
	} else {
		help = append(help, pane.Hint{"esc", "summary"}, pane.Hint{"q", "quit"})
	}
	return append(lines, seen...), cmp.Or(where, more), help
}

func (c *crew) names() []string {
	var names []string
	for _, h := range c.nodes {
		names = append(names, h.name)
	}
	return names
}

// failureView is the failure of a node, and where the others are.
func (c *crew) failureView(l text.Look, now time.Time, w, h int) ([]string, string, []pane.Hint) {
	node := c.nodes[slices.IndexFunc(c.nodes, func(o *hand) bool { return o.stepper.failure != nil })]
	at := "in the end"
	if node.so < len(steps.Phases) {
		at = "before " + steps.Phases[node.so].Name()
	}
	if c.kind == steps.KindUndo {
		at = "in the undo"
	}
	sentence := " " + l.Bold.Render(trust.Text(node.name)) + ", " + at
	var lines []string
	lines = append(lines, text.Cut(sentence, w))
	var others []string
	for _, o := range c.nodes {
		if o == node {
			continue
		}
		_, say, _ := c.now(o, now)
		if i := c.waits(o); i >= 0 {
			say = "waiting at " + steps.Phases[i].Name()
		}
		others = append(others, trust.Text(o.name)+": "+say)
	}
	about := text.Hang(" ", strings.Join(others, "; "), w-1)
	lines = append(append(lines, about[:min(2, len(about))]...), "")
	body, where, help := node.stepper.failureView(l, w, h-len(lines))
	return append(lines, body...), where, help
}

// leftOut are the members that the run on the screen has left out for good.
func (m *model) leftOut() []string {
	if m.again != nil && m.again.from == earlierScreen {
		return nil
	}
	return m.members.without
}
