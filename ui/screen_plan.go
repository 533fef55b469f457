package ui

import (
	"cmp"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	tea "github.com/charmbracelet/bubbletea"

	"etcd-rewind/restore"
	"etcd-rewind/steps"
	"etcd-rewind/trust"
	"etcd-rewind/ui/pane"
	"etcd-rewind/ui/text"
)

// planPane shows the plan and the choices that shape it.
type planPane struct {
	busy   bool
	turn   int
	plan   *steps.Plan
	err    error
	scroll pane.Scroller
	lines  []string // as they were drawn

	typing *pane.Field
	what   string // what is being typed: "directory" or "bump"

	all    []*steps.Plan             // of all nodes of a cluster with several members
	at     int                       // the node whose plan is shown, counted from 1; 0 for what they have in common
	states map[string]steps.RunState // of the earlier run, by node
}

type (
	planMsg struct {
		turn     int
		plan     *steps.Plan
		err      error
		checked  bool // a choice was changed, so the checks ran again
		verdicts []judged
		all      []*steps.Plan // of all nodes
	}
	againPlanMsg struct {
		turn int
		plan *steps.Plan
		err  error

		all    []*steps.Plan // of all nodes that there is something to put back on
		states map[string]steps.RunState
	}
)

// again is what the user wants of a run that is in the journal: to go back from
// it, or on with it.
type again struct {
	run    string
	resume bool
	from   screen // where that began, and esc leads

	all *restore.Record // with these nodes; nil for this node alone
	dir string          // of the run on this node, to read that from
}

func (m *model) planTitle() string {
	switch p := m.plan.plan; {
	case p != nil:
		return trust.Text(p.Title)
	case m.again.resume:
		return "Resume run " + trust.Text(m.again.run)
	case m.again.all != nil:
		return "Undo on all nodes"
	default:
		return "Undo on this node"
	}
}

// makePlan plans anew; after a change of a choice the checks run again too,
// since a data directory may not do.
func (m *model) makePlan(changed bool) tea.Cmd {
	p := &m.plan
	p.turn++
	p.busy, p.err, p.typing = true, nil, nil
	if m.together() {
		return m.planAll(changed)
	}
	p.all, p.states = nil, nil
	turn, facts, info, choices, diff := p.turn, m.facts, m.info, m.settled(), m.diff
	return func() tea.Msg {
		msg := planMsg{turn: turn, checked: changed}
		if changed {
			msg.verdicts = onThisNode(diff.verdict(m.backend.Check(m.ctx, facts, info, choices)))
		}
		msg.plan, msg.err = m.backend.Plan(facts, info, choices)
		return msg
	}
}

func (m *model) planned(msg planMsg) {
	p := &m.plan
	if msg.turn != p.turn {
		return
	}
	p.busy, p.plan, p.err = false, msg.plan, msg.err
	p.all, p.at = msg.all, min(p.at, len(msg.all))
	m.diff.tell(p.plan)
	p.scroll.Top = 0
	if msg.checked {
		m.checks.adopt(msg.verdicts)
		m.note = text.Blocked(m.checks.plain())
	}
}

// planAgain plans from the journal of an earlier run.
func (m *model) planAgain(a again) tea.Cmd {
	m.again, m.screen = &a, planScreen
	m.plan = planPane{busy: true, turn: m.plan.turn + 1}
	if a.all != nil || a.dir != "" {
		return m.planAllAgain(a)
	}
	turn := m.plan.turn
	makePlan := m.backend.PlanUndo
	if a.resume {
		makePlan = m.backend.PlanResume
	}
	return func() tea.Msg {
		plan, err := makePlan(m.ctx, a.run)
		if err == nil {
			err = plan.Allowed(m.ctx)
		}
		return againPlanMsg{turn: turn, plan: plan, err: err}
	}
}

// planUndo plans to go back to before the last run.
func (m *model) planUndo() tea.Cmd {
	return m.planAgain(again{run: m.stepper.run, from: summaryScreen, dir: m.crewDir()})
}

func (m *model) plannedAgain(msg againPlanMsg) tea.Cmd {
	if msg.turn != m.plan.turn {
		return nil
	}
	m.plan.busy, m.plan.plan, m.plan.err = false, msg.plan, msg.err
	m.plan.all, m.plan.states = msg.all, msg.states
	if m.goBack && msg.err == nil {
		m.goBack = false
		return m.startRun()
	}
	m.goBack = false
	return nil
}

func (m *model) planKey(k tea.KeyMsg) tea.Cmd {
	p := &m.plan
	if p.typing != nil {
		return m.choiceKey(k)
	}
	name := k.String()
	switch name {
	case "q":
		return m.quit()
	case "?":
		m.over = newOverlay(helpOverlay)
		return nil
	case "esc", "left":
		p.turn++
		p.busy = false
		if m.again != nil {
			m.screen, m.again = m.again.from, nil
		} else {
			m.screen = checkScreen
		}
		return nil
	}
	if p.busy {
		return nil
	}
	if m.again == nil {
		if cmd, ok := m.change(name); ok {
			return cmd
		}
	}
	switch name {
	case "enter", "right":
		return m.toConfirm()
	case "tab":
		if len(p.all) > 0 {
			p.at = (p.at + 1) % (len(p.all) + 1)
			p.scroll.Top = 0
		}
		return nil
	case "r":
		if m.again != nil {
			return m.planAgain(*m.again)
		}
		return m.makePlan(true)
	}
	p.scroll.Key(name, m.bodyHeight()-m.choiceLines())
	return nil
}

// change changes a choice by its key, on the screen of the plan or of the
// checks; it says whether the key was one of those.
func (m *model) change(name string) (tea.Cmd, bool) {
	c, p := &m.choices, &m.plan
	r := m.restoreFacts()
	switch name {
	case "d":
		value := c.DataDir
		if r != nil && m.screen == planScreen {
			value = r.DataDir
		}
		p.typing, p.what = pane.NewField(m.look, value), "directory"
		return nil, true
	case "n":
		value := ""
		if c.Bump != nil {
			value = strconv.FormatUint(*c.Bump, 10)
		} else if r != nil && m.screen == planScreen {
			value = strconv.FormatUint(r.Bump, 10)
		}
		p.typing, p.what = pane.NewField(m.look, value), "bump"
		return nil, true
	case "s":
		if c.Stop == steps.StopGraceful {
			c.Stop = steps.StopNow
		} else {
			c.Stop = steps.StopGraceful
		}
		m.note = "kube-apiserver is stopped at once, over CRI."
		if c.Stop == steps.StopGraceful {
			m.note = "kube-apiserver is stopped gracefully: up to 30 s more."
		}
		return m.changed(), true
	case "c":
		c.KeepControllers = !c.KeepControllers
		m.note = "Controllers are restarted after the restore."
		if c.KeepControllers {
			m.note = "Controllers are left running."
		}
		return m.changed(), true
	}
	return nil, false
}

// changed checks anew, and plans anew where the plan is on the screen.
func (m *model) changed() tea.Cmd {
	m.plan.typing = nil
	if m.screen == checkScreen {
		return m.check()
	}
	m.note = "" // the rows above the plan say it
	return m.makePlan(true)
}

func (m *model) toConfirm() tea.Cmd {
	if m.plan.plan == nil {
		m.note = "There is no plan to confirm."
		return nil
	}
	if m.again == nil {
		if s := text.Blocked(m.checks.plain()); s != "" {
			m.note = s + ". esc returns to them."
			return nil
		}
	}
	m.confirm = confirmPane{name: pane.NewField(m.look, "")}
	m.screen = confirmScreen
	return nil
}

func (m *model) restoreFacts() *steps.RestoreFacts {
	if m.plan.plan == nil {
		return nil
	}
	return m.plan.plan.Restore
}

// choiceKey types a data directory or a revision bump; empty means the default.
func (m *model) choiceKey(k tea.KeyMsg) tea.Cmd {
	p := &m.plan
	switch k.String() {
	case "esc":
		p.typing = nil
		return nil
	case "enter":
		value := strings.TrimSpace(p.typing.Value())
		if p.what == "directory" {
			if value != "" && !filepath.IsAbs(value) {
				m.note = "The data directory has to be an absolute path."
				return nil
			}
			m.choices.DataDir = value
			return m.changed()
		}
		m.choices.Bump = nil
		if value != "" {
			n, err := strconv.ParseUint(value, 10, 62)
			if err != nil {
				m.note = "The revision bump has to be a whole number; 0 turns it off, nothing means the default."
				return nil
			}
			m.choices.Bump = &n
		}
		return m.changed()
	}
	p.typing.Key(k)
	return nil
}

// choiceRows are the choices with the key that changes each.
func (m *model) choiceRows(w int) []string {
	c := m.choices
	dir, bump := "beside the old one", "beyond the live revision"
	if r := m.restoreFacts(); r != nil {
		dir = trust.Text(r.DataDir)
		bump = "+" + strconv.FormatUint(r.Bump, 10) + ", and everything before is marked as compacted"
		if r.Bump == 0 {
			bump = "not raised: clients may trust stale caches"
		}
	}
	stop := "at once, over CRI; it keeps no state"
	if c.Stop == steps.StopGraceful {
		stop = "gracefully: kubelet's grace period, up to 30 s more"
	}
	controllers := "restarted after the restore"
	if c.KeepControllers {
		controllers = "left running"
	}
	row := func(key, name, value string) string {
		return text.Cut(" "+m.look.Bold.Render(key)+"  "+text.Fit(name, 15)+"  "+value, w)
	}
	return []string{
		row("d", "data directory", text.CutLeft(dir, w-21)),
		row("n", "revision", bump),
		row("s", "stop API server", stop),
		row("c", "controllers", controllers),
	}
}

func (m *model) choiceLines() int {
	if m.again != nil {
		return 2
	}
	return 6
}

func (m *model) planView(w, h int) ([]string, string, []pane.Hint) {
	p := &m.plan
	if p.typing != nil {
		return m.choiceView(w)
	}
	help := []pane.Hint{{"enter", "confirm"}, {"↑↓", "scroll"}, {"d n s c", "change"}, {"/", "search"}, {"e", "export"}, {"?", "help"}, {"esc", "back"}, {"q", "quit"}}
	if m.again != nil {
		help = []pane.Hint{{"enter", "confirm"}, {"↑↓", "scroll"}, {"/", "search"}, {"e", "export"}, {"esc", "back"}, {"q", "quit"}}
	}
	if len(p.all) > 0 {
		help = slices.Insert(help, 1, pane.Hint{"tab", "each node"})
	}
	var lines []string
	if m.again == nil {
		lines = append(m.choiceRows(w), "")
	}
	switch {
	case p.busy:
		lines = append(lines, " "+text.Spin(m.now())+" "+m.look.Bold.Render("Planning"))
		return lines, "", help[1:]
	case p.err != nil:
		cause, advice := text.Explain(p.err)
		lines = append(lines, " "+m.look.Symbol(text.SymBad)+" "+m.look.Bold.Render("There is no plan"), "")
		return append(lines, text.Indent(3, text.Facts(text.Advice(cause, advice), w-4))...), "", help[1:]
	case p.plan == nil:
		return lines, "", help[1:]
	}
	title, sentence := trust.Text(p.plan.Title), []string(nil)
	switch {
	case p.at > 0:
		title, sentence = trust.Text(p.all[p.at-1].Title), text.Plan(p.all[p.at-1], w-1)
	case m.manyNodes():
		title, sentence = m.planAllTitle(), m.planAllText(w-1)
	default:
		sentence = text.Plan(p.plan, w-1)
	}
	tail := "  the commands do the same by hand"
	if m.manyNodes() && p.at == 0 {
		tail = ""
	}
	lines = append(lines, text.Cut(" "+m.look.Bold.Render(title)+m.look.Faint.Render(tail), w))
	h -= len(lines)
	p.lines = text.Narrow(sentence, w-1)
	seen, where := p.scroll.Window(m.paint(p.lines), h)
	return append(lines, seen...), where, help
}

// paint makes steps bold, and colours what a diff adds and takes away.
func (m *model) paint(lines []string) []string {
	out := make([]string, 0, len(lines))
	diff := false
	for _, l := range lines {
		text := strings.TrimLeft(l, " ")
		switch {
		case strings.HasPrefix(l, "Changes in "):
			diff = true
			l = m.look.Bold.Render(l)
		case diff && strings.HasPrefix(text, "+"):
			l = m.look.Good.Render(l)
		case diff && strings.HasPrefix(text, "-"):
			l = m.look.Bad.Render(l)
		case diff:
		case strings.HasPrefix(text, "$ "):
			l = m.look.Faint.Render(l)
		case len(l) > 3 && l[0] == ' ' && l[1] >= '0' && l[1] <= '9' || len(l) > 3 && l[0] >= '0' && l[0] <= '9':
			l = m.look.Bold.Render(l)
		}
		out = append(out, l)
	}
	return out
}

func (m *model) choiceView(w int) ([]string, string, []pane.Hint) {
	p := &m.plan
	var lines []string
	if p.what == "directory" {
		lines = append(lines, " "+m.look.Bold.Render("Data directory for the restored data, on the node:"), "")
		lines = append(lines, text.Hang("   ", "It must not exist yet, and lie on the same disk as the old one, since it is moved into place by a rename. Empty means the default.", w-2)...)
	} else {
		lines = append(lines, " "+m.look.Bold.Render("How much to add to the snapshot's revision:"), "")
		lines = append(lines, text.Hang("   ", "Clients remember revisions they have seen. When the restored cluster begins beyond all of them, watches list again instead of trusting stale caches. Empty means the default, 0 turns it off.", w-2)...)
	}
	lines = append(lines, "", "   "+p.typing.View(w-4))
	return lines, "", []pane.Hint{{"enter", "take it"}, {"esc", "back"}}
}

// confirmPane is the point of no return: the node's name has to be typed.
type confirmPane struct{ name *pane.Field }

func (m *model) confirmView(w int) ([]string, string, []pane.Hint) {
	p := m.plan.plan
	node := trust.Text(p.Node)
	var lines []string
	say := func(sentence string) { lines = append(lines, text.Hang("   ", sentence, w-3)...) }
	switch {
	case p.Kind == steps.KindUndo:
		lines = append(lines, " "+m.look.Bold.Render(text.Cut(trust.Text(p.Title), w-2)), "")
		since := trust.Text(p.Lost)
		for _, o := range m.plan.all {
			since = cmp.Or(since, trust.Text(o.Lost))
		}
		if since != "" {
			warning := text.Hang("", "Written since the restore: "+since, w-6)
			for i, l := range warning {
				lead := "     "
				if i == 0 {
					lead = "   " + m.look.Symbol(text.SymWarn) + " "
				}
				lines = append(lines, lead+m.look.Bold.Render(l))
			}
			lines = append(lines, "")
		}
		say("The API is down until etcd runs on the data directory it had before. The manifests are restored byte for byte.")
		if since == "" {
			lines = append(lines, "")
			if m.again.from == earlierScreen {
				say("If the API is up again, what was written to it since stays in the restored data directory and is gone from the cluster.")
			} else {
				say("What was written to the cluster since the restore stays in the restored data directory and is gone from the cluster.")
			}
		}
	case m.again != nil:
		lines = append(lines, " "+m.look.Bold.Render(text.Cut(trust.Text(p.Title), w-2)), "")
		say("The run resumes where it was interrupted; what is done is not done again. The API is down until kube-apiserver is started.")
		lines = append(lines, "")
		if r := p.Restore; r != nil {
			say("The cluster is restored to the state of " + trust.Text(r.Snapshot) + ". What was written since then is gone from the cluster.")
			lines = append(lines, "")
		}
		say("Nothing is deleted: the old data and manifests are kept, and undo restores them.")
	default:
		lines = append(lines, " "+m.look.Bold.Render("From here on the cluster is changed"), "")
		if m.together() {
			lines[0] = " " + m.look.Bold.Render(text.Cut("From here on the cluster is changed, on "+text.Listed(m.members.names), w-2))
		}
		when, from := m.info.Taken(), " (the newest write in the snapshot)"
		if m.info.LastWrite.IsZero() {
			from = " (the file's time: no time in the snapshot can be read)"
		}
		say("The cluster is restored to the state of " + steps.Moment(when) + ", " + steps.Ago(when, m.now()) + from + ". What was written since then is gone from the cluster.")
		lines = append(lines, "")
		say("The snapshot is restored beside the running etcd first. Then the API is down for some seconds; pods keep running.")
		lines = append(lines, "")
		say("Nothing is deleted: the old data and manifests are kept, and undo restores them.")
		var accepted []string
		for _, v := range m.checks.verdicts {
			if v.Accepted && !slices.Contains(accepted, v.Check) {
				accepted = append(accepted, v.Check)
			}
		}
		if len(accepted) > 0 {
			lines = append(lines, "")
			lines = append(lines, text.Hang("   "+m.look.Symbol(text.SymWarn)+" ", "accepted: "+strings.Join(accepted, ", "), w-3)...)
		}
	}
	ask := "   Type the node's name, %s, to start:"
	if m.manyNodes() {
		ask = "   Type this node's name, %s, to start on all of them:"
	}
	lines = append(lines, "", fmt.Sprintf(ask, m.look.Bold.Render(node)), "   "+m.confirm.name.View(w-4))
	return lines, "", []pane.Hint{{"enter", "start"}, {"esc", "back"}}
}

func (m *model) confirmKey(k tea.KeyMsg) tea.Cmd {
	switch k.String() {
	case "esc":
		m.screen = planScreen
	case "enter":
		typed := strings.TrimSpace(m.confirm.name.Value())
		switch {
		case typed == m.plan.plan.Node:
			return m.startRun()
		case typed == "":
			m.note = "Nothing was started. Type the node's name, or esc for the plan."
		default:
			m.note = fmt.Sprintf("%q is not this node's name. Nothing was started.", trust.Text(typed))
		}
	default:
		m.confirm.name.Key(k)
	}
	return nil
}

// startRun hands the plan to the engine.
func (m *model) startRun() tea.Cmd {
	plan := m.plan.plan
	m.screen, m.result, m.over, m.note, m.watched = runScreen, nil, nil, "", nil
	if m.manyNodes() {
		return m.startAll()
	}
	m.crew = nil
	m.stepper = newStepper(plan, m.stepper.commands)
	return func() tea.Msg {
		m.engine.start(plan)
		return nil
	}
}

// finished takes the result of a run.
func (m *model) finished(msg finishedMsg) tea.Cmd {
	r := msg.Result
	m.result = &r
	if m.crew != nil {
		m.crew.end(msg.all)
		if c := m.crew; r.DownSince == nil && !c.gone.IsZero() && c.back.IsZero() && !r.OK && !r.PutBack {
			m.result.DownSince = &c.gone // a node that can't be reached told no end
		}
	}
	m.over, m.note = nil, ""
	m.stepper.end(&r)
	m.screen = summaryScreen
	if m.endAfter {
		return tea.Quit
	}
	if m.goBack && !r.PutBack && m.stepper.run != "" {
		return m.planUndo()
	}
	m.goBack = false
	return nil
}

func (m *model) summaryView(w, h int) ([]string, string, []pane.Hint) {
	lines := append([]string{""}, text.Indent(1, m.ended().Summary(w-2))...)
	for i, l := range lines {
		if i > 0 && l == "" {
			break
		}
		lines[i] = m.look.Bold.Render(l)
	}
	return m.summaryPage(lines, h)
}

// summaryPage is as much of a summary as fits.
func (m *model) summaryPage(lines []string, h int) ([]string, string, []pane.Hint) {
	if len(lines)+2 <= h {
		lines = append(lines, "", m.look.Faint.Render("   This summary stays in the terminal when you quit."))
	}
	seen, where := m.summaryScroll.Window(lines, h)
	help := m.summaryHelp()
	if where != "" {
		help = slices.Insert(help, len(help)-1, pane.Hint{"↑↓", "scroll"})
	}
	return seen, where, help
}

func (m *model) summaryHelp() []pane.Hint {
	var help []pane.Hint
	if m.canUndo() {
		help = append(help, pane.Hint{"u", "undo"})
	}
	if m.canGoOn() {
		help = append(help, pane.Hint{"g", "resume"})
	}
	if m.canBeginAnew() {
		help = append(help, pane.Hint{"n", "new restore"})
	}
	return append(help, pane.Hint{"esc", "steps"}, pane.Hint{"c", "commands"}, pane.Hint{"l", "logs"}, pane.Hint{"q", "quit"})
}

// canUndo says whether there is something to put back.
func (m *model) canUndo() bool {
	return m.result != nil && !m.result.PutBack && m.stepper.run != "" && !(m.stepper.kind() == steps.KindUndo && m.result.OK)
}

// canBeginAnew says whether the node is as a new restore needs it.
func (m *model) canBeginAnew() bool {
	return m.result != nil && m.result.DownSince == nil && (m.result.OK || m.result.PutBack)
}

// canGoOn says whether the run stopped on the way, so that the rest of it can
// still be done.
func (m *model) canGoOn() bool {
	return m.canUndo() && !m.result.OK && m.stepper.kind() == steps.KindRestore
}

func (m *model) summaryKey(name string) tea.Cmd {
	switch name {
	case "q", "enter":
		if name == "enter" {
			m.note = "q quits; the summary stays in the terminal."
			return nil
		}
		return m.leave()
	case "esc", "left", "s":
		m.screen = runScreen
	case "u":
		if m.canUndo() {
			return m.planUndo()
		}
	case "g":
		if m.canGoOn() {
			return m.planAgain(again{run: m.stepper.run, resume: true, from: summaryScreen, dir: m.crewDir()})
		}
	case "n":
		if m.canBeginAnew() {
			return m.beginAnew()
		}
	case "c":
		m.over = newOverlay(commandsOverlay)
	case "l":
		return m.openLogs()
	case "?":
		m.over = newOverlay(helpOverlay)
	default:
		m.summaryScroll.Key(name, m.bodyHeight())
	}
	return nil
}

// beginAnew goes to the first screen, with nothing chosen yet.
func (m *model) beginAnew() tea.Cmd {
	o := m.options
	m.result, m.info, m.choices = nil, nil, o.Choices
	m.diff.stop()
	m.diff = diffPane{turn: m.diff.turn + 1}
	m.picker.pause()
	m.picker = newPicker("")
	m.checks = checklist{turn: m.checks.turn + 1, given: slices.Clone(o.Choices.Accept), accepted: map[string]steps.Verdict{}}
	m.plan = planPane{turn: m.plan.turn + 1}
	m.members = membersPane{turn: m.members.turn + 1, hosts: maps.Clone(o.Want.Hosts), without: slices.Clone(o.Want.Without)}
	m.stepper, m.alone = stepper{begun: map[string]*progress{}}, false
	m.summaryScroll, m.nodeScroll = pane.Scroller{}, pane.Scroller{}
	return m.discover()
}
