package ui

import (
	"fmt"
	"slices"
	"strings"
	"time"

	tea "github.com/charmbracelet/bubbletea"
	"github.com/charmbracelet/x/ansi"

	"etcd-rewind/steps"
	"etcd-rewind/trust"
	"etcd-rewind/ui/pane"
	"etcd-rewind/ui/text"
)

// stepper shows a run: the steps on the left, the one that is looked at on the
// right, a failure in their place. It is fed with events alone.
type stepper struct {
	plan  *steps.Plan
	run   string
	begun map[string]*progress // by step and by action ID

	current string // step that runs or ran last
	action  string // action that runs or ran last
	picked  string // step the user looks at; "" follows the run

	watched  bool           // another process runs it; this one only looks
	one      bool           // of several nodes: what is asked is for all of them
	failure  *steps.Failure // waits for an answer
	stopping bool
	ended    bool // nothing runs any more
	commands []command

	away     float64 // seconds at awayAt
	awayAt   time.Time
	counting bool
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

func (p *progress) over() bool { return p.state != steps.Started && p.state != steps.Waiting }

func (p *progress) took(now time.Time) float64 {
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

func newStepper(p *steps.Plan, before []command) stepper {
	return stepper{plan: p, run: p.Run, begun: map[string]*progress{}, commands: before}
}

func (s *stepper) kind() string {
	if s.plan == nil {
		return ""
	}
	return s.plan.Kind
}

func (s *stepper) get(id string) *progress {
	p := s.begun[id]
	if p == nil {
		p = &progress{}
		s.begun[id] = p
	}
	return p
}

// apply takes in an event.
func (s *stepper) apply(ev steps.Event) {
	switch {
	case ev.Away != nil:
		s.away, s.awayAt, s.counting = *ev.Away, ev.Time, true
	case s.counting && ev.Type == steps.TypePlan:
		s.counting = false // nobody knows how long it was after the last word of a run that broke off
	case s.counting:
		s.away += max(0, ev.Time.Sub(s.awayAt).Seconds())
		s.counting = false
	}
	switch ev.Type {
	case steps.TypePlan:
		// The engine changes to another plan when it goes back; and another
		// process's run may have broken off and been gone on with.
		if ev.Plan != nil && (s.watched || s.plan == nil || ev.Plan.Kind != s.plan.Kind) {
			s.plan, s.begun, s.current, s.picked, s.failure = ev.Plan, map[string]*progress{}, "", "", nil
		}
	case steps.TypeStep:
		s.step(ev)
	case steps.TypeAction:
		s.act(ev)
	case steps.TypeAnswer:
		s.failure = nil
	}
}

func (s *stepper) step(ev steps.Event) {
	p := s.get(ev.Step)
	p.state = ev.State
	switch ev.State {
	case steps.Started:
		p.from, p.to = ev.Time, time.Time{}
		s.current = ev.Step
	case steps.Unneeded:
	default:
		p.to = ev.Time
	}
}

func (s *stepper) act(ev steps.Event) {
	if ev.Action == "" {
		return
	}
	p := s.get(ev.Action)
	if ev.State == steps.Waiting && p.over() && p.state != "" {
		return // a late word about something that has ended
	}
	p.state, p.at = ev.State, ev.Time
	switch ev.State {
	case steps.Started:
		again := !p.from.IsZero()
		*p = progress{state: ev.State, from: ev.Time, at: ev.Time, limit: ev.Limit}
		s.current, s.action = ev.Step, ev.Action
		if st := s.get(ev.Step); st.over() {
			st.state = steps.Started
			if st.from.IsZero() {
				st.from = ev.Time
			}
		}
		if !again && len(ev.Commands) > 0 {
			s.commands = append(s.commands, command{ev.Action, trust.Text(ev.Message), ev.Commands, ev.Time})
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

func (s *stepper) asked(f *steps.Failure) {
	s.failure, s.picked = f, ""
}

func (s *stepper) end(r *steps.Result) {
	s.failure, s.stopping = nil, false
	s.counting, s.ended = false, true
	if r.OutageSeconds > 0 {
		s.away = r.OutageSeconds
	}
}

// awayText is the outage counter: live while the API is away.
func (s *stepper) awayText(l text.Look, now time.Time) string {
	if s.counting {
		return awayWords(l, s.away+max(0, now.Sub(s.awayAt).Seconds()), true)
	}
	return awayWords(l, s.away, false)
}

func awayWords(l text.Look, away float64, still bool) string {
	switch {
	case still:
		return l.Reverse.Bold(true).Render(" API down " + text.Seconds(away) + " ")
	case away > 0:
		return "API was down " + text.Seconds(away)
	}
	return ""
}

// offers is how a choice is asked for.
func (s *stepper) offers(c steps.Choice) choice { return choiceOf(c, s.one) }

// brief says in one line what is being done.
func (s *stepper) brief(now time.Time) string {
	st := s.find(s.current)
	if st == nil {
		return "starting"
	}
	sentence := trust.Text(st.Title)
	if a := s.title(s.action); a != "" {
		sentence = a
	}
	if p := s.begun[s.action]; p != nil {
		sentence += ", " + text.Waited(p.took(now), p.limit)
	}
	return sentence
}

func (s *stepper) find(id string) *steps.Step {
	if s.plan == nil {
		return nil
	}
	for i := range s.plan.Steps {
		if s.plan.Steps[i].ID == id {
			return &s.plan.Steps[i]
		}
	}
	return nil
}

// title of an action.
func (s *stepper) title(id string) string {
	if s.plan == nil {
		return ""
	}
	for _, st := range s.plan.Steps {
		for _, a := range st.Actions {
			if a.ID == id && a.Action != nil {
				return trust.Text(a.Title())
			}
		}
	}
	return ""
}

// looked is the step on the right side.
func (s *stepper) looked() *steps.Step {
	if st := s.find(s.picked); st != nil {
		return st
	}
	if st := s.find(s.current); st != nil {
		return st
	}
	if s.plan != nil && len(s.plan.Steps) > 0 {
		return &s.plan.Steps[0]
	}
	return nil
}

// pick moves to the step before or after the one looked at.
func (s *stepper) pick(by int) {
	st := s.looked()
	if st == nil {
		return
	}
	for i := range s.plan.Steps {
		if s.plan.Steps[i].ID == st.ID {
			i = max(0, min(len(s.plan.Steps)-1, i+by))
			s.picked = s.plan.Steps[i].ID
			return
		}
	}
}

func (m *model) answer(c steps.Choice) tea.Cmd {
	m.step().failure, m.over = nil, nil
	return func() tea.Msg { m.engine.answer(c); return nil }
}

func (m *model) runKey(name string) tea.Cmd {
	s := m.step()
	if f := s.failure; f != nil && !s.watched {
		for _, c := range f.Choices {
			if s.offers(c).key != name {
				continue
			}
			if s.offers(c).sure == "" {
				return m.answer(c)
			}
			m.askOnceMore(c, f)
			return nil
		}
	}
	switch name {
	case "up", "k":
		s.pick(-1)
	case "down", "j":
		s.pick(1)
	case "pgup", "b":
		s.pick(-5)
	case "pgdown", "f":
		s.pick(5)
	case "home", "g":
		s.pick(-1 << 20)
	case "end", "G":
		s.pick(1 << 20)
	case "?":
		m.over = newOverlay(helpOverlay)
	case "l":
		return m.openLogs()
	case "c":
		m.over = newOverlay(commandsOverlay)
	case "u":
		if m.result == nil && s.kind() != steps.KindUndo && m.failure() == nil && !s.watched {
			m.askToUndo()
		}
	case "esc", "enter":
		if m.crew != nil && m.crew.inside && s.picked == "" {
			m.crew.inside = false
			return nil
		}
		s.picked = ""
		if m.result != nil {
			m.screen = summaryScreen
		}
	case "q":
		if m.result != nil || s.watched {
			return m.leave()
		}
		m.note = "A run is under way; ctrl-c asks whether to stop it."
	}
	return nil
}

func (s *stepper) view(l text.Look, now time.Time, w, h int) ([]string, string, []pane.Hint) {
	if s.failure != nil {
		return s.failureView(l, w, h)
	}
	if s.plan == nil {
		return []string{"", "   Reading what it has done so far"}, "", []pane.Hint{{"q", "leave"}}
	}
	left := min(42, max(26, w*3/8))
	list := s.list(l, now, left, h)
	column := s.pane(l, now, w-left-4, h)
	lines := make([]string, 0, h)
	for i := range h {
		lines = append(lines, list[i]+" │ "+column[i])
	}
	help := []pane.Hint{{"?", "why"}, {"l", "logs"}, {"c", "commands so far"}}
	if s.kind() != steps.KindUndo && !s.watched && !s.ended {
		help = append(help, pane.Hint{"u", "undo"})
	}
	help = append(help, pane.Hint{"↑↓", "look at a step"})
	switch {
	case s.picked != "" && s.one:
		help = slices.Insert(help, 0, pane.Hint{"esc", "follow"})
	case s.picked != "":
		help = append(help, pane.Hint{"esc", "follow"})
	case s.one:
		help = slices.Insert(help, 0, pane.Hint{"esc", "all nodes"})
	}
	if s.watched {
		return lines, "", append(help, pane.Hint{"q", "leave"})
	}
	if s.ended {
		if s.picked == "" && !s.one {
			help = append(help, pane.Hint{"esc", "summary"})
		}
		return lines, "", append(help, pane.Hint{"q", "quit"})
	}
	where := ""
	if s.stopping {
		where = "stopping before the next action"
	}
	return lines, where, append(help, pane.Hint{"ctrl-c", "stop"})
}

// list is the left side: a line a step, with its state and the time it took.
func (s *stepper) list(l text.Look, now time.Time, w, h int) []string {
	var all []string
	at := 0
	looked := s.looked()
	for i, st := range s.plan.Steps {
		p := s.begun[st.ID]
		if p == nil {
			p = &progress{}
		}
		took := ""
		if !p.from.IsZero() {
			took = short(p.took(now))
		}
		title := text.Fit(trust.Text(st.Title), w-10)
		sym := text.StateSymbol(p.state)
		if p.state == "" && st.When != "" {
			sym = text.SymMaybe
			title = l.Faint.Render(title)
		}
		if looked != nil && st.ID == looked.ID {
			at = i
			if s.picked != "" {
				title = l.Reverse.Render(title)
			} else {
				title = l.Bold.Render(title)
			}
		}
		all = append(all, " "+l.Symbol(sym)+" "+title+" "+text.FitRight(took, 6))
	}
	var sc pane.Scroller
	sc.Top = max(0, at-h+2)
	seen, _ := sc.Window(all, h)
	return text.Box(seen, w, h)
}

// short writes a time in at most 6 cells.
func short(s float64) string {
	switch {
	case s < 99.95:
		return text.Seconds(s)
	case s < 1000:
		return fmt.Sprintf("%.0f s", s)
	default:
		return fmt.Sprintf("%d min", int(s)/60)
	}
}

// pane is the right side: why, the actions, what is seen, the command. What
// matters least gives way where the room is small.
func (s *stepper) pane(l text.Look, now time.Time, w, h int) []string {
	st := s.looked()
	if st == nil {
		return text.Box(nil, w, h)
	}
	title := l.Bold.Render(text.Cut(trust.Text(st.Title), w))
	why := text.Wrap(trust.Text(st.Why), w)
	if st.When != "" {
		why = append(why, text.Wrap(trust.Text(st.When), w)...)
	}
	doing, before, cmds := s.actions(l, now, st, w)

	const gaps = 3
	over := func() int { return 1 + len(why) + len(before) + len(doing) + len(cmds) + gaps - h }
	if n := over(); n > 0 && len(cmds) > 3 {
		keep := max(3, len(cmds)-n)
		cmds = append(cmds[:keep-1:keep-1], "…")
	}
	if n := over(); n > 0 && len(before) > 0 {
		before = before[min(n, len(before)):]
	}
	if n := over(); n > 0 && len(why) > 2 {
		keep := max(2, len(why)-n)
		why = append(why[:keep-1:keep-1], ansi.Truncate(why[keep-1], w-2, "")+" …")
	}
	if over() > 0 {
		cmds = nil
	}
	lines := append([]string{title, ""}, why...)
	if len(why) > 0 {
		lines = append(lines, "")
	}
	lines = append(append(lines, before...), doing...)
	lines = text.Box(lines, w, h-len(cmds))
	for _, c := range cmds {
		lines = append(lines, text.Fit(l.Faint.Render(c), w))
	}
	return lines[:h]
}

// actions are the actions of a step: those that are over, and from the running
// one on with what is seen; and the commands of the running one, or of all.
func (s *stepper) actions(l text.Look, now time.Time, st *steps.Step, w int) (doing, before, cmds []string) {
	running := false
	var all []string
	for _, a := range st.Actions {
		if a.Action == nil {
			continue
		}
		p := s.begun[a.ID]
		if p == nil {
			p = &progress{}
		}
		took := ""
		if !p.from.IsZero() {
			took = short(p.took(now))
			if !p.over() && p.limit > 0 {
				took = text.Waited(p.took(now), p.limit)
			}
		}
		title := trust.Text(a.Title())
		row := text.Apart(l.Symbol(text.StateSymbol(p.state))+" "+title, took, w)
		switch {
		case p.state == steps.Started || p.state == steps.Waiting || p.state == steps.Failed:
			running = true
			doing = append(doing, row)
			doing = append(doing, text.Indent(4, s.sees(l, p, w-4))...)
			cmds = wrapCommands(a.Commands(), w)
		case running:
			doing = append(doing, row)
		default:
			before = append(before, row)
		}
		all = append(all, a.Commands()...)
	}
	if !running {
		cmds = wrapCommands(all, w)
	}
	return doing, before, cmds
}

// sees is what is known about the running action.
func (s *stepper) sees(l text.Look, p *progress, w int) []string {
	lines := text.Sightings(p.seen, w, l.Symbol)
	if p.message != "" {
		lines = append(lines, text.Wrap(p.message, w)...)
	}
	if p.work != nil && !p.over() {
		lines = append(lines, text.Progress(p.work))
		if b := text.Bar(p.work.Done, p.work.Total, min(w, 40)); b != "" {
			lines = append(lines, b)
		}
	}
	return lines
}

func wrapCommands(commands []string, w int) []string {
	var out []string
	for _, l := range text.Commands(commands) {
		out = append(out, text.Narrow([]string{l}, w)...)
	}
	return out
}

// commandLog is every action that ran so far with its commands.
func (s *stepper) commandLog() []string {
	var out []string
	for _, c := range s.commands {
		out = append(out, c.at.Local().Format("15:04:05.0")+"  "+c.title)
		out = append(out, text.Indent(2, text.Commands(c.lines))...)
	}
	return out
}

// failureView is what a failure shows: cause and hint first, then the choices,
// then what was seen and logged, as far as there is room.
func (s *stepper) failureView(l text.Look, w, h int) ([]string, string, []pane.Hint) {
	f := s.failure
	lines := text.Hang(" "+l.Symbol(text.SymBad)+" ", text.FailureTitle(f, s.plan), w-1)
	lines[0] = l.Bold.Render(lines[0])
	if f.Waited > 0 {
		lines = append(lines, "   timed out after "+text.Seconds(f.Waited))
	}
	lines = append(lines, "")
	lines = append(lines, text.Indent(3, text.Facts(text.Advice(f.Cause, f.Hint), w-4))...)
	offered := f.Choices
	if s.watched {
		offered = nil // they are the other one's
	}
	if most := h - max(len(offered), 2) - 1; len(lines) > most {
		lines = append(lines[:most-1], "   … ? shows all of it")
	}
	var choices []string
	if s.watched {
		choices = text.Hang("   ", "The other session is waiting for an answer. This screen follows it.", w-4)
	}
	for i, c := range offered {
		o := s.offers(c)
		label := o.label
		if i == 0 {
			label += l.Faint.Render("   (recommended)")
		}
		choices = append(choices, "   "+l.Bold.Render(o.key)+"  "+label)
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
	lines = append(lines, more...)
	lines = append(lines, "")
	lines = append(lines, choices...)
	help := make([]pane.Hint, 0, len(offered)+4)
	for _, c := range offered {
		help = append(help, pane.Hint{s.offers(c).key, s.offers(c).word})
	}
	help = append(help, pane.Hint{"?", "why"}, pane.Hint{"c", "commands"}, pane.Hint{"l", "logs"})
	if s.watched {
		help = append(help, pane.Hint{"q", "leave"})
	}
	return lines, "", help
}
