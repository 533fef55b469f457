// Package ui is the wizard: its screens, the way through them, and the run that
// they show. The parts of the screens are in package pane, the texts in package
// text, and what commands print of the same events in package print.
package ui

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	tea "github.com/charmbracelet/bubbletea"
	"golang.org/x/term"

	"etcd-rewind/defect"
	"etcd-rewind/restore"
	"etcd-rewind/snapshot"
	"etcd-rewind/steps"
	"etcd-rewind/trust"
	"etcd-rewind/ui/pane"
	"etcd-rewind/ui/print"
	"etcd-rewind/ui/text"
)

// Backend is what the wizard asks of this node. Its methods are called from
// goroutines of their own and may take their time.
type Backend interface {
	restore.Engine
	Candidates(ctx context.Context, f *steps.Facts) []snapshot.Candidate
	// Live is the run that another process has under way, nil when there is
	// none. Follow reports its events, those so far too, until it ends or its
	// process is gone; ended says which.
	Live(ctx context.Context) (*steps.RunInfo, error)
	Follow(ctx context.Context, info steps.RunInfo, sink func(steps.Event)) (ended bool, err error)
	// Runs lists the runs of this node, the newest first.
	Runs(ctx context.Context) ([]steps.RunInfo, error)
	// Logs returns the last lines of a component's log, the oldest first:
	// "etcd", "kube-apiserver".
	Logs(ctx context.Context, component string) []string
}

// Options are what the command line has said already.
type Options struct {
	Snapshot string // highlighted at first; "" for none
	Choices  steps.Choices
	Version  string // of this program, shown on the first screen
	Intro    string // what the user is here for, shown there first; "" for nothing

	// Nodes leads the nodes of a cluster with several members;
	// nil for a wizard that only restores the node it runs on. rsh is the
	// remote shell of the run that is resumed or undone, nil for a new one.
	Nodes func(rsh []string) restore.Nodes
	// Record reads with which nodes an earlier run was made; set with Nodes.
	Record func(runDir string) (*restore.Record, error)
	// Elsewhere finds the backups that lie elsewhere, reports each place as it
	// answers, and says meanwhile how far it is; Unlock takes the identity, or with path "" the passphrase, of an
	// encrypted snapshot. nil where there is nothing of the kind.
	Elsewhere func(ctx context.Context, f *steps.Facts, tell func([]snapshot.Candidate), say func(string))
	Unlock    func(ctx context.Context, path, passphrase string) error
	Want      restore.Want // what the command line says of the members
	Rsh       string       // the remote shell as it is shown; "" for ssh

	// Drill tries a snapshot before the plan; nil for none.
	Drill Drill
	// Settling finds and settles what the cluster owes after a restore; nil for none.
	Settling Settling

	standing func(steps.RunInfo, time.Time) []steps.Fact // nil means steps.Standing
	skipDiff bool                                        // of tests without a comparison
}

// RunWizard shows the wizard on the terminal until the user leaves it, and
// prints what came of it below. It returns the result of what was run, nil when
// nothing was; the error is about the terminal.
//
// A run goes on when the terminal goes away: RunWizard returns when it has
// ended, and answers a failure as Unattended does. A run of another process
// that was looked at is no result.
func RunWizard(ctx context.Context, b Backend, o Options) (*restore.Result, error) {
	if was, err := term.GetState(int(os.Stdin.Fd())); err == nil {
		defer defect.Terminal(func() {
			// Out of the alternate screen, with a cursor, without mouse and paste.
			_, _ = fmt.Fprint(os.Stdout, "\x1b[?1049l\x1b[?25h\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?2004l")
			_ = term.Restore(int(os.Stdin.Fd()), was)
		})()
	}
	return runWizard(ctx, b, o, os.Stdin, os.Stdout)
}

func runWizard(ctx context.Context, b Backend, o Options, in io.Reader, out io.Writer) (*restore.Result, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	m := newModel(ctx, b, o)
	defer m.box.close()
	// Signals are ours: bubbletea would end the program in the middle of a run.
	p := tea.NewProgram(m, tea.WithInput(in), tea.WithOutput(out), tea.WithAltScreen(), tea.WithoutSignalHandler(), tea.WithFPS(30))
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM, syscall.SIGQUIT)
	defer signal.Stop(stop)
	ended := make(chan struct{})
	watched := make(chan struct{})
	deaf := make(chan struct{}) // the screen doesn't take a signal
	go defect.Do(func() {
		defer close(watched)
		parent := ctx.Done()
		var late <-chan time.Time // after a signal to end
		var frames int64
		for {
			select {
			case <-hup:
				m.runner.leave(io.Discard)
				p.Kill()
			case s := <-stop:
				m.box.put(signalMsg{end: s != os.Interrupt})
				if s != os.Interrupt {
					late, frames = time.After(deafAfter), m.frames.Load()
				}
			case <-parent:
				m.box.put(signalMsg{end: true})
				parent, late, frames = nil, time.After(deafAfter), m.frames.Load()
			case <-late:
				if now := m.frames.Load(); now != frames {
					late, frames = time.After(deafAfter), now
					break
				}
				// Its terminal takes nothing, so the screen stands still: the
				// run is stopped all the same.
				late = nil
				m.runner.leave(io.Discard)
				m.runner.stop()
				close(deaf)
			case <-ended:
				return
			}
		}
	})()

	shown := make(chan error, 1)
	go defect.Do(func() {
		_, err := p.Run()
		shown <- err
	})()
	var err error
	select {
	case err = <-shown:
	case <-deaf:
		result := m.runner.wait()
		close(ended)
		<-watched
		return result, nil
	}
	if m.left {
		close(ended)
		<-watched
		if m.run.Several {
			m.nodes.abandon(leaveAfter)
		}
		result := m.runner.left()
		farewell(out, m.look, m.w, m.run.EndedAs(result, m.excluded()))
		return result, nil
	}
	if err != nil && !m.runner.isGone() {
		// The screen broke. The run, if there is one, goes on and prints the
		// rest as text.
		m.runner.leave(out)
	} else {
		m.runner.leave(io.Discard)
		err = nil
	}
	result := m.runner.wait()
	m.nodes.close()
	m.nodes.closing.Wait()
	close(ended)
	<-watched
	if result != nil {
		farewell(out, m.look, m.w, m.run.EndedAs(result, m.excluded()))
		tellSettled(out, m.look, m.owed.kept)
		return result, nil // what was done on the node counts for more than the screen
	}
	if m.run.Watches() && !m.run.Running() {
		farewell(out, m.look, m.w, m.run.EndedAs(m.run.Result, m.excluded()))
	}
	tellSettled(out, m.look, m.owed.kept)
	if errors.Is(err, tea.ErrProgramKilled) && ctx.Err() != nil {
		err = nil
	}
	return nil, err
}

// farewell prints what stays in the scrollback.
func farewell(out io.Writer, l text.Look, w int, e text.Ended) {
	if w < minWidth {
		w = print.Width
	}
	lines := []string{""}
	if p := e.Plan; p != nil {
		lines = append(lines, fmt.Sprintf("etcd-rewind   %s   run %s", trust.Text(p.Node), trust.Text(p.Run)), "")
	}
	for _, line := range append(append(lines, e.SummaryWhole(w)...), "") {
		_, _ = fmt.Fprintln(out, l.Finish(line))
	}
}

// signalMsg asks the wizard to stop, as ctrl-c does; end also closes it.
type signalMsg struct{ end bool }

// deafAfter is how long the screen may stand still after a signal to end.
const deafAfter = 2 * time.Second

// screen is where in the wizard the user is.
type screen int

const (
	discovering   screen = iota
	earlierScreen        // a run that broke off; the node comes after it
	runsScreen           // all of them; the node leads there
	nodeScreen
	chooseScreen
	diffScreen
	membersScreen // of a cluster with several
	checkScreen
	planScreen
	confirmScreen
	runScreen
	summaryScreen
	owedScreen // what the cluster owes; the node and the summary lead there
)

// stages are the screens in the order of a restore, as the user sees it; those
// of a run come after it.
var stages = []screen{discovering, earlierScreen, runsScreen, nodeScreen, chooseScreen, diffScreen, membersScreen, checkScreen, planScreen, confirmScreen, runScreen, summaryScreen, owedScreen}

// after says whether a screen comes behind another one.
func (s screen) after(o screen) bool { return slices.Index(stages, s) > slices.Index(stages, o) }

// ofRun says whether a screen shows a run, or its end.
func (s screen) ofRun() bool { return s == runScreen || s == summaryScreen }

// The smallest size that holds every screen.
const (
	minWidth  = 60
	minHeight = 20
)

func tooSmall(w, h int) bool { return w < minWidth || h < minHeight }

// chrome is how many lines are above and below the body.
const chrome = 5

// model is the one tea.Model: it routes messages and keys. The way to a run is
// way, what a screen shows are plain parts with plain methods. Update does nothing
// that can wait: that is left to commands.
type model struct {
	way
	runner  *runner
	run     *pane.Run
	look    text.Look
	w, h    int
	assumed bool // the terminal doesn't say how large it is
	screen  screen
	note    string // something to say, at the bottom, until the next key
	ticking bool

	confirm pane.Confirm
	summary pane.Summary
	over    *overlay
	search  pane.Search
	asked   any       // the question on the screen, as asking has it
	askedAt time.Time // when it was drawn first

	undoNext bool         // when the run has ended: undo it at once
	endAfter bool         // when the run has ended: close
	left     bool         // the run is left in the middle
	frames   atomic.Int64 // how many were drawn
}

func newModel(ctx context.Context, b Backend, o Options) *model {
	box := newMailbox()
	if o.standing == nil {
		o.standing = steps.Standing
	}
	m := &model{
		way:    way{ctx: ctx, backend: b, box: box, now: time.Now, options: o},
		runner: newRunner(ctx, box), run: pane.NewRun(nil, nil, nil, nil), look: text.NewLook(os.Getenv), w: assumedWidth, h: assumedHeight,
	}
	m.here.Led, m.here.Settles, m.summary.Settles = o.Nodes != nil, o.Settling != nil, o.Settling != nil
	m.reset()
	m.picker = newPicker(o.Snapshot)
	return m
}

type tickMsg time.Time

func (m *model) Init() tea.Cmd {
	return tea.Batch(m.box.listen, m.discover(), m.tick())
}

// tick keeps what moves moving; there are no ticks while nothing does.
func (m *model) tick() tea.Cmd {
	if m.ticking || !m.moves() {
		return nil
	}
	m.ticking = true
	return tea.Tick(frameTime, func(t time.Time) tea.Msg { return tickMsg(t) })
}

func (m *model) moves() bool {
	busy := map[screen]bool{
		discovering: true, earlierScreen: true, runsScreen: m.runs.Busy, chooseScreen: m.picker.busy(), diffScreen: m.diff.Busy,
		membersScreen: m.members.Busy, checkScreen: m.checks.Busy, planScreen: m.plan.Busy, runScreen: m.run.Running(), owedScreen: m.owed.Busy || m.owed.Working(),
	}
	return busy[m.screen] || m.screen.ofRun() && m.run.DownSince() != nil || m.over != nil && (m.over.kind == logsOverlay || m.over.kind == drillOverlay && m.over.tryout.busy)
}

func (m *model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	var cmd tea.Cmd
	if mail, ok := msg.(mailMsg); ok {
		cmds := []tea.Cmd{m.box.listen}
		for _, one := range mail {
			cmds = append(cmds, m.handle(one))
		}
		cmd = tea.Batch(cmds...)
	} else {
		cmd = m.handle(msg)
	}
	if t := m.tick(); t != nil {
		cmd = tea.Batch(cmd, t)
	}
	return m, cmd
}

func (m *model) handle(msg tea.Msg) tea.Cmd {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.w, m.h, m.assumed = msg.Width, msg.Height, msg.Width <= 0 || msg.Height <= 0
		if m.assumed {
			m.w, m.h = assumedWidth, assumedHeight
		}
	case tea.KeyMsg:
		return m.key(msg)
	case tickMsg:
		m.ticking = false
		switch {
		case m.over != nil && m.over.kind == logsOverlay:
			return m.readLogs()
		case m.screen == earlierScreen:
			return m.standing()
		}
	case signalMsg:
		return m.signal(msg)

	case discoveredMsg:
		return m.discovered(msg)
	case standingMsg:
		m.stood(msg)
	case runsMsg:
		m.runs.Busy, m.runs.List, m.runs.With, m.runs.Err = false, msg.list, msg.with, msg.err
	case candidatesMsg:
		m.picker.Found(msg)
		return m.lookInside()
	case elsewhereMsg:
		m.picker.Also(msg)
		return m.lookInside()
	case askingMsg:
		m.picker.Asked = string(msg)
	case askedMsg:
		m.picker.Asking = false
	case unlockedMsg:
		m.picker.Opened(msg.err)
		return m.lookInside()
	case lookProgressMsg:
		m.picker.Progress(msg.path, msg.done, msg.total)
	case lookedMsg:
		if m.picker.looked(msg) {
			return tea.Batch(m.choose(), m.lookInside())
		}
		return m.lookInside()
	case completedMsg:
		m.picker.Complete(msg.typed, msg.longest, msg.matches)
	case compareProgressMsg:
		m.diff.progress(msg)
	case comparedMsg:
		m.diff.compared(msg)
	case membersMsg:
		m.foundMembers(msg)
	case sendProgressMsg:
		m.checks.Progress(msg.asked, msg.node, msg.done, msg.total)
	case sentMsg:
		m.checks.Sent(msg.asked)
	case checkedMsg:
		m.checked(msg)
	case planMsg:
		return m.planned(msg)
	case tryoutMsg:
		if m.over != nil && m.over.tryout == msg.of {
			msg.of.told(msg)
		}
		if r := msg.report; r != nil && r.Proven && m.here.Facts != nil {
			m.here.Facts.Drills.Seconds = r.Total
		}

	case owedDoingMsg:
		if msg.asked == m.owed.asked && m.owed.Busy {
			m.owed.Doing = msg.doing
		}
	case owedMsg:
		m.foundOwed(msg)
	case settledMsg:
		m.wasSettled(msg)

	case liveMsg:
		m.run = pane.NewRun(nil, nil, nil, nil)
		m.run.Watched = &msg.RunInfo
		m.screen, m.again = runScreen, nil
		return m.follow(msg.RunInfo)
	case followedMsg:
		return m.followed(msg)
	case restore.NodeEvent:
		if m.run.Watches() && msg.Type == steps.TypeAsk {
			m.over = nil
		}
		m.run.Apply(msg)
	case askMsg:
		return m.failed(msg)
	case finishedMsg:
		return m.finished(msg)
	case exportedMsg:
		if m.note = "Written to " + trust.Text(msg.path); msg.err != nil {
			m.note = "Not written: " + trust.Text(msg.err.Error())
		}
	case logsMsg:
		if m.over != nil {
			m.over.logs(msg)
		}
	}
	return nil
}

// The size that is assumed of a terminal that doesn't know its own: a serial
// console, IPMI, docker exec -t, script.
const (
	assumedWidth  = 80
	assumedHeight = 24
)

// discover begins at the first screen.
func (m *model) discover() tea.Cmd {
	m.screen = discovering
	if m.run.Watches() {
		m.run = pane.NewRun(nil, nil, nil, nil)
	}
	return m.way.discover()
}

func (m *model) discovered(msg discoveredMsg) tea.Cmd {
	m.way.discovered(msg)
	m.screen = nodeScreen
	var stands tea.Cmd
	if m.here.Unfinished() {
		m.screen, stands = earlierScreen, m.standing()
	}
	if m.here.Refused() {
		return stands
	}
	return tea.Batch(stands, m.findSnapshots(), m.findElsewhere())
}

// lookInside inspects snapshots while the user may choose one.
func (m *model) lookInside() tea.Cmd {
	if m.screen != nodeScreen && m.screen != chooseScreen {
		return nil
	}
	return m.inspect()
}

// choose takes the highlighted snapshot and compares it.
func (m *model) choose() tea.Cmd {
	if m.options.Unlock != nil && m.picker.AskIdentity(m.look) {
		m.note = ""
		m.picker.Wait()
		return nil
	}
	info, note := m.picker.Choose()
	m.note = note
	if info == nil {
		return m.lookInside()
	}
	m.picker.pause()
	m.info = info
	m.screen = diffScreen
	if m.options.skipDiff {
		return m.on()
	}
	return m.compare()
}

// toMembers shows the members of the cluster, as it is known with the chosen
// snapshot.
func (m *model) toMembers() tea.Cmd {
	m.screen = membersScreen
	if m.nodes.session != nil && m.flow.Want.Info == m.info && len(m.members.Names) > 0 && m.members.Err == nil {
		return nil
	}
	return m.findMembers()
}

// toChecks shows the checks, and makes them.
func (m *model) toChecks() tea.Cmd {
	if m.nodes.session == nil {
		return m.toMembers() // nobody is there to be checked
	}
	m.screen = checkScreen
	return m.check()
}

// toPlan shows the plan; changed says that a choice was.
func (m *model) toPlan(changed bool) tea.Cmd {
	if m.nodes.session == nil {
		return m.toMembers()
	}
	m.screen = planScreen
	return m.makePlan(changed)
}

func (m *model) planned(msg planMsg) tea.Cmd {
	switch {
	case !m.way.planned(msg):
	case m.again != nil:
		start := m.undoNext && msg.err == nil
		if m.undoNext = false; start {
			return m.startRun()
		}
	case msg.checked:
		m.note = text.Blocked(m.checks.Plain())
	}
	return nil
}

// startRun runs what was planned.
func (m *model) startRun() tea.Cmd {
	p := &m.plan
	m.screen, m.over, m.note = runScreen, nil, ""
	m.run = pane.NewRun(p.Plan, p.Names, p.All, m.run)
	if m.again != nil && m.again.verb != restore.Undo {
		m.run.Resumes(p.States)
	}
	plan, names, s := p.Plan, p.Names, m.nodes.session
	return func() tea.Msg { m.runner.start(plan, names, s); return nil }
}

// finished takes the result of a run.
func (m *model) finished(msg finishedMsg) tea.Cmd {
	m.over, m.note, m.screen = nil, "", summaryScreen
	m.run.End(msg.Result)
	if m.endAfter {
		return tea.Quit
	}
	if m.undoNext && m.run.CanUndo() {
		return m.wish(pane.Undo)
	}
	m.undoNext = false
	return nil
}

// failed shows a failure that waits for an answer.
func (m *model) failed(msg askMsg) tea.Cmd {
	m.over, m.note, m.screen = nil, "", runScreen
	f := msg.Failure
	f.Choices = slices.Clone(f.Choices)
	m.run.Ask(msg.Node, &f)
	if m.endAfter {
		return m.answer(restore.Unattended(msg.Trouble))
	}
	return nil
}

// answer answers the failure on the screen.
func (m *model) answer(c steps.Choice) tea.Cmd {
	m.run.Answered()
	m.over = nil
	return func() tea.Msg { m.runner.answer(c); return nil }
}

// followed is the end: of the run, or of the process that ran it.
func (m *model) followed(msg followedMsg) tea.Cmd {
	v := m.run
	m.over = nil
	switch {
	case msg.err != nil:
		m.here.Refusal, m.screen = msg.err, nodeScreen
	case msg.ended && v.Told != nil:
		v.End(restore.Alone(v.Name(), "", v.Told))
		m.screen = summaryScreen
	default:
		cmd := m.discover()
		m.note = "The etcd-rewind that ran this has exited, and the run was interrupted."
		return cmd
	}
	return nil
}

// atWork says whether the engine is at work, so that leaving isn't possible.
func (m *model) atWork() bool { return m.screen == runScreen && m.run.Running() && !m.run.Watches() }

func (m *model) signal(msg signalMsg) tea.Cmd {
	if !m.atWork() {
		return m.quit()
	}
	if !msg.end {
		m.interrupt()
		return nil
	}
	m.endAfter = true
	m.run.Stopping = true
	m.runner.stop()
	if f := m.run.Failure(); f != nil {
		return m.answer(steps.Unattended(*f))
	}
	return nil
}

func (m *model) quit() tea.Cmd {
	m.picker.pause()
	return tea.Quit
}

// excluded are the members that have no part in what the run on the screen has
// restored.
func (m *model) excluded() []string {
	if m.again != nil && m.again.from != summaryScreen || !m.run.Several {
		return nil
	}
	return m.members.Without
}

// View is always h lines of w cells.
func (m *model) View() string {
	m.frames.Add(1)
	if q := m.asking(); q != m.asked {
		m.asked, m.askedAt = q, m.now()
	}
	frame := m.frame()
	if tooSmall(m.w, m.h) {
		lines := m.over.small(m.w, m.h)
		if lines == nil {
			needs := fmt.Sprintf("needs %d×%d, is %d×%d", minWidth, minHeight, m.w, m.h)
			lines = frame.Small(m.look, m.now(), needs, m.screen.ofRun(), m.w)
		}
		return m.look.Finish(strings.Join(text.Box(lines, m.w, m.h), "\n"))
	}
	h := m.h - chrome
	var note []string
	if m.search.Asks() {
		note = []string{m.search.View(m.w)}
		h--
	} else if m.note != "" {
		note = text.Hang(" "+m.look.Symbol(text.SymWarn)+" ", m.note, m.w-1)
		note = note[:min(len(note), 4)]
		h -= len(note)
	}
	body, where, help := m.body(m.w, h)
	lines := append(frame.Head(m.look, m.now(), m.w), text.Box(body, m.w, h)...)
	lines = append(lines, note...)
	lines = append(lines, pane.Foot(where, m.assumed, m.w), pane.HelpLine(m.look, help, m.w))
	return m.look.Finish(strings.Join(text.Box(lines, m.w, m.h), "\n"))
}

// body is the part of the screen that differs: its lines, the place in what
// can be scrolled, and the keys.
func (m *model) body(w, h int) (lines []string, where string, help []pane.Hint) {
	l, now := m.look, m.now()
	if m.over != nil {
		return m.overlayView(w, h)
	}
	if m.choices.Asks() {
		return m.choices.View(l, w)
	}
	switch m.screen {
	case discovering:
		return pane.DiscoveringView(l, now, w)
	case earlierScreen:
		return m.earlier.View(l, m.here.Facts, w, h)
	case runsScreen:
		return m.runs.View(l, now, w, h)
	case nodeScreen:
		return m.here.View(l, pane.NodeText{Intro: m.options.Intro, Version: m.options.Version, ReachedBy: m.options.reachedBy()}, m.run.Watches(), w, h)
	case chooseScreen:
		return m.picker.View(l, now, w, h)
	case diffScreen:
		return m.diff.View(l, now, w, h)
	case membersScreen:
		return m.members.View(l, now, m.options.reachedBy(), m.here.CanBeAlone(), w, h)
	case checkScreen:
		lines, where, hints := m.checks.View(l, now, pane.ChangeKeys(m.here.InPlace != nil), w, h)
		if m.mayTryOut() {
			hints = slices.Insert(hints, min(1, len(hints)), pane.Hint{"t", m.tryItFirst()})
		}
		return lines, where, hints
	case planScreen:
		return m.plan.View(l, now, pane.PlanText{Choices: &m.choices, InPlace: m.here.InPlace != nil, Excluded: m.members.Without, Changes: m.diff.Result}, w, h)
	case confirmScreen:
		return m.confirm.View(l, now, &m.plan, m.flow.Want.Info, m.checks.Verdicts, w)
	case runScreen:
		return m.run.View(l, now, w, h)
	case owedScreen:
		return m.owed.View(l, now, w, h)
	default:
		return m.summary.View(l, m.run, m.excluded(), w, h)
	}
}

// help explains what is on the screen, in w cells.
func (m *model) help(w int) pane.Help {
	switch m.screen {
	case runScreen:
		return m.run.Help(w)
	case membersScreen:
		return m.members.Help(m.options.reachedBy())
	case discovering:
		return pane.Help{}
	}
	return map[screen]interface{ Help() pane.Help }{
		earlierScreen: &m.earlier, runsScreen: &m.runs, nodeScreen: &m.here, chooseScreen: &m.picker, diffScreen: &m.diff,
		checkScreen: &m.checks, planScreen: &m.plan, confirmScreen: &m.confirm, summaryScreen: &m.summary, owedScreen: &m.owed,
	}[m.screen].Help()
}

// frame is what stands around the screen.
func (m *model) frame() pane.Frame {
	watches, there := m.run.Watches(), m.here.InPlace
	f := pane.Frame{Facts: m.here.Facts, Run: m.run, OfRun: m.screen.ofRun() || m.screen == owedScreen && m.owed.from == summaryScreen || watches || m.again != nil && m.again.from == summaryScreen}
	switch {
	case m.screen == owedScreen:
		f.Title = " After a restore: etcd went back in time, and the rest of the cluster didn't"
	case m.again != nil:
		f.Title = " " + m.again.title(m.plan.Plan)
	case watches:
		f.Title = m.run.WatchedText(m.w)
	case there != nil:
		f.Title = " Point etcd at " + trust.Text(there.DataDir) + ", without restoring anything"
	case m.info != nil && m.screen.after(chooseScreen):
		f.Title = pane.SnapshotTitle(m.info, m.now(), m.w)
	default:
		f.Title = pane.NodeTitle(m.here.Facts)
	}
	if m.again != nil || watches || m.screen.ofRun() || m.screen == earlierScreen || m.screen == runsScreen || m.screen == owedScreen {
		return f
	}
	f.Cramped = m.several()
	for _, s := range []struct {
		name string
		next screen // the first that comes behind it
	}{{"node", chooseScreen}, {"snapshot", membersScreen}, {"members", checkScreen}, {"checks", planScreen}, {"plan", confirmScreen}, {"confirm", runScreen}, {"run", summaryScreen}} {
		if s.name == "members" && !f.Cramped || s.name == "snapshot" && there != nil {
			continue
		}
		f.Stages = append(f.Stages, pane.Stage{Name: s.name, Over: m.screen == s.next || m.screen.after(s.next)})
	}
	return f
}
