// Package ui is the wizard: its screens, the way through them, and the run that
// they show. What it draws with is in package pane, what it says in package text,
// and what commands print of the same events in package print.
package ui

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
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
	// none. Follow tells its events, those so far too, until it ends or its
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
	Want   restore.Want // what the command line says of the members
	Rsh    string       // the remote shell as it is shown; "" for ssh

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
		m.farewell(out, result)
		return result, nil
	}
	if err != nil && !m.runner.isGone() {
		// The screen broke. The run, if there is one, goes on and tells the
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
		m.farewell(out, result)
		return result, nil // what was done on the node counts for more than the screen
	}
	if m.watches() && !m.run.Running() {
		m.farewell(out, m.run.Result)
	}
	if errors.Is(err, tea.ErrProgramKilled) && ctx.Err() != nil {
		err = nil
	}
	return nil, err
}

// farewell prints what stays in the scrollback.
func (m *model) farewell(out io.Writer, r *restore.Result) {
	w := m.w
	if w < minWidth {
		w = print.Width
	}
	lines := []string{""}
	if p := m.run.Plan; p != nil {
		lines = append(lines, fmt.Sprintf("etcd-rewind   %s   run %s", trust.Text(p.Node), trust.Text(p.Run)), "")
	}
	lines = append(append(lines, m.run.EndedAs(r, m.leftOut()).SummaryWhole(w)...), "")
	for _, line := range lines {
		_, _ = fmt.Fprintln(out, m.look.Finish(line))
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
)

// stages are the screens in the order of a restore, as the user sees it; those
// of a run come after it.
var stages = []screen{discovering, earlierScreen, runsScreen, nodeScreen, chooseScreen, diffScreen, membersScreen, checkScreen, planScreen, confirmScreen, runScreen, summaryScreen}

// after says whether a screen comes behind another one.
func (s screen) after(o screen) bool { return slices.Index(stages, s) > slices.Index(stages, o) }

// ofRun says whether a screen shows a run, or its end.
func (s screen) ofRun() bool { return s == runScreen || s == summaryScreen }

// The smallest size that holds every screen.
const (
	minWidth  = 60
	minHeight = 20
)

// model is the one tea.Model; the screens' parts are plain structs with plain
// methods. Update does nothing that can wait: that is left to commands.
type model struct {
	ctx     context.Context
	backend Backend
	runner  *runner
	box     *mailbox
	now     func() time.Time
	look    text.Look
	options Options

	w, h    int
	assumed bool // the terminal doesn't say how large it is
	screen  screen
	note    string // something to tell, at the bottom, until the next key
	ticking bool

	here        pane.Node
	summaryPage pane.Page
	earlier     pane.Earlier
	runs        pane.Runs
	picker      picker
	info        *snapshot.Info
	diff        diffPane
	checks      pane.Checks
	choices     pane.Choices
	plan        pane.Plans
	confirm     pane.Confirm
	run         *pane.Run
	over        *overlay
	search      pane.Search
	asked       any       // the question on the screen, as asking has it
	askedAt     time.Time // when it was drawn first

	again *again // the plan, confirm and run screens are about an earlier run

	members  pane.Members
	nodes    sessions     // what the flow goes through
	flow     restore.Flow // to the plan, as far as it has come
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
		ctx: ctx, backend: b, box: box, runner: newRunner(ctx, box), run: pane.NewRun(nil, nil, nil, nil),
		w: assumedWidth, h: assumedHeight, now: time.Now, look: text.NewLook(os.Getenv), options: o, choices: pane.Choices{Choices: o.Choices},
	}
	m.here.Led = o.Nodes != nil
	m.members.Hosts, m.members.Without = maps.Clone(o.Want.Hosts), slices.Clone(o.Want.Without)
	m.picker = newPicker(o.Snapshot)
	m.checks = pane.NewChecks(o.Choices.Accept)
	return m
}

type (
	tickMsg       time.Time
	discoveredMsg struct {
		facts    *steps.Facts
		err      error
		verdicts []steps.Verdict
		record   *restore.Record // of the run that broke off
	}
)

func (m *model) Init() tea.Cmd {
	return tea.Batch(m.box.listen, m.discover(), m.tick())
}

func (m *model) discover() tea.Cmd {
	m.screen, m.here.Facts, m.here.Refusal, m.here.Early = discovering, nil, nil, nil
	m.earlier, m.again, m.here.InPlace = pane.Earlier{}, nil, nil
	if m.watches() {
		m.run = pane.NewRun(nil, nil, nil, nil)
	}
	m.nodes.open(m.ctx, m.local)
	s, f := m.nodes.session, restore.Flow{Engine: m.backend, Want: m.options.Want, Choices: m.settled()}
	return func() tea.Msg {
		// What can't be told here, the check of the lock tells again.
		if live, err := m.backend.Live(m.ctx); err == nil && live != nil {
			return liveMsg{*live}
		}
		var msg discoveredMsg
		msg.err = s.do(func(ctx context.Context, n restore.Nodes) error {
			f.Nodes = n
			if err := f.Discover(ctx); err != nil {
				return err
			}
			return errors.Join(f.Find(ctx), f.Check(ctx, nil)) // what the node says by itself
		})
		msg.facts = f.Want.Here
		for _, c := range f.Checked {
			msg.verdicts = append(msg.verdicts, c.Verdicts...)
		}
		if msg.err == nil && msg.facts.Unfinished != nil {
			msg.record = m.readRecord(msg.facts.Unfinished.Dir)
		}
		return msg
	}
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
	run := m.screen == runScreen && m.run.Running() || m.screen.ofRun() && m.run.DownSince() != nil
	return run || m.screen == discovering || m.screen == earlierScreen ||
		m.screen == chooseScreen && m.picker.busy() || m.screen == runsScreen && m.runs.Busy || m.screen == checkScreen && m.checks.Busy || m.screen == diffScreen && m.diff.Busy ||
		m.screen == membersScreen && m.members.Busy || m.screen == planScreen && m.plan.Busy || m.over != nil && m.over.kind == logsOverlay
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
		m.resize(msg.Width, msg.Height)
	case tea.KeyMsg:
		return m.key(msg)
	case tickMsg:
		m.ticking = false
		if m.over != nil && m.over.kind == logsOverlay {
			return m.readLogs()
		}
		if m.screen == earlierScreen {
			return m.readStanding()
		}
	case signalMsg:
		return m.signal(msg)

	case discoveredMsg:
		return m.discovered(msg)
	case standingMsg:
		m.stood(msg)
	case liveMsg:
		return m.follow(msg.RunInfo)
	case followedMsg:
		return m.followed(msg)
	case runsMsg:
		m.listed(msg)
	case candidatesMsg:
		m.picker.Found(msg)
		return m.lookInside()
	case lookProgressMsg:
		m.picker.Progress(msg.path, msg.done, msg.total)
	case lookedMsg:
		return m.looked(msg)
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

	case restore.NodeEvent:
		if m.run.Watched != nil && msg.Type == steps.TypeAsk {
			m.over = nil
		}
		m.run.Apply(msg)
	case askMsg:
		return m.askAbout(msg)
	case finishedMsg:
		return m.finished(msg)
	case exportedMsg:
		m.exported(msg)
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

func (m *model) resize(w, h int) {
	m.w, m.h, m.assumed = w, h, w <= 0 || h <= 0
	if m.assumed {
		m.w, m.h = assumedWidth, assumedHeight
	}
}

// atWork says whether the engine is at work, so that leaving isn't possible.
func (m *model) atWork() bool { return m.screen == runScreen && m.run.Running() && !m.watches() }

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

// interrupt is ctrl-c during a run: it asks first.
func (m *model) interrupt() {
	if m.run.Failure() != nil {
		m.note = "Paused for your answer: choose one of the keys above."
		return
	}
	m.ask(askToStop(m.run, m.now))
}

func (m *model) small() bool { return m.w < minWidth || m.h < minHeight }

func (m *model) key(k tea.KeyMsg) tea.Cmd {
	m.note = ""
	name := k.String()
	if name == "ctrl+z" {
		if m.atWork() {
			m.note = "A run is under way: ctrl-z works before and after it."
			return nil
		}
		return tea.Suspend
	}
	if name == "ctrl+c" {
		if m.atWork() {
			m.interrupt()
			return nil
		}
		if q := m.asking(); q != nil && !m.tooSoon() {
			return m.quit() // once more
		}
		return m.leave()
	}
	if m.tooSoon() {
		return nil // meant for what was there before
	}
	if m.small() {
		if m.tinyQuestion() != nil {
			return m.questionKey(name)
		}
		return nil // nobody should press keys blindly
	}
	if m.search.Asks() {
		return m.searchKey(k)
	}
	switch name {
	case "/":
		if _, ok := m.searched(); ok {
			m.search.Open(m.look)
			return nil
		}
	case "e":
		if cmd, ok := m.exportKey(); ok {
			return cmd
		}
	}
	if m.over != nil {
		return m.overlayKey(name)
	}
	switch m.screen {
	case discovering:
		if name == "q" {
			return m.quit()
		}
	case earlierScreen:
		return m.earlierKey(name)
	case runsScreen:
		return m.runsKey(name)
	case nodeScreen:
		return m.nodeKey(name)
	case chooseScreen:
		return m.chooseKey(k)
	case diffScreen:
		return m.diffKey(name)
	case membersScreen:
		return m.membersKey(k)
	case checkScreen:
		return m.checkKey(k)
	case planScreen:
		return m.planKey(k)
	case confirmScreen:
		return m.confirmKey(k)
	case runScreen:
		return m.runKey(name)
	case summaryScreen:
		return m.summaryKey(name)
	}
	return nil
}

// bodyHeight is the number of lines between header and footer.
func (m *model) bodyHeight() int { return m.h - 5 }

// View is always h lines of w cells.
func (m *model) View() string {
	m.frames.Add(1)
	m.askedFor()
	if m.small() {
		return m.look.Finish(strings.Join(text.Box(m.smallView(), m.w, m.h), "\n"))
	}
	h := m.bodyHeight()
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
	lines := []string{m.header(), m.subHeader(), m.topRule()}
	lines = append(lines, text.Box(body, m.w, h)...)
	lines = append(lines, note...)
	lines = append(lines, m.bottomRule(where), pane.HelpLine(m.look, help, m.w))
	return m.look.Finish(strings.Join(text.Box(lines, m.w, m.h), "\n"))
}

// body is the part of the screen that differs: its lines, the place in what
// can be scrolled, and the keys.
func (m *model) body(w, h int) (lines []string, where string, help []pane.Hint) {
	if m.over != nil {
		return m.overlayView(w, h)
	}
	switch m.screen {
	case discovering:
		return pane.DiscoveringView(m.look, m.now(), w)
	case earlierScreen:
		return m.earlier.View(m.look, m.here.Facts, w, h)
	case runsScreen:
		return m.runs.View(m.look, m.now(), w, h)
	case nodeScreen:
		return m.here.View(m.look, pane.NodeText{Intro: m.options.Intro, Version: m.options.Version, ReachedBy: m.options.reachedBy()}, m.watches(), w, h)
	case chooseScreen:
		return m.picker.View(m.look, m.now(), w, h)
	case diffScreen:
		return m.diff.View(m.look, m.now(), w, h)
	case membersScreen:
		return m.members.View(m.look, m.now(), m.options.reachedBy(), m.here.CanBeAlone(), w, h)
	case checkScreen:
		if m.choices.Asks() {
			return m.choices.View(m.look, w)
		}
		return m.checks.View(m.look, m.now(), pane.ChangeKeys(m.here.InPlace != nil), w, h)
	case planScreen:
		if m.choices.Asks() {
			return m.choices.View(m.look, w)
		}
		return m.plan.View(m.look, m.now(), pane.PlanText{Choices: &m.choices, InPlace: m.here.InPlace != nil, Excluded: m.members.Without, Changes: m.diff.Result}, w, h)
	case confirmScreen:
		return m.confirm.View(m.look, m.now(), &m.plan, m.flow.Want.Info, m.checks.Verdicts, w)
	case runScreen:
		return m.run.View(m.look, m.now(), w, h)
	default:
		return m.summaryView(w, h)
	}
}

func (m *model) header() string {
	left := " " + m.look.Bold.Render("etcd-rewind")
	if f := m.here.Facts; f != nil {
		parts := []string{trust.Text(f.Node)}
		if f.KubernetesVersion != "" {
			parts = append(parts, "Kubernetes "+trust.Text(strings.TrimPrefix(f.KubernetesVersion, "v")))
		}
		if f.EtcdVersion != "" {
			parts = append(parts, "etcd "+trust.Text(f.EtcdVersion))
		}
		left += "   " + strings.Join(parts, " · ")
	}
	if p := m.run.Plan; m.here.Facts == nil && p != nil {
		left += "   " + trust.Text(p.Node)
	}
	right := "nothing changed yet "
	switch {
	case m.screen.ofRun(), m.watches(), m.again != nil && m.again.from == summaryScreen:
		right = m.run.OutageText(m.look, m.now()) + " "
	case m.here.Facts != nil && m.here.Facts.Unfinished != nil:
		right = "a run is unfinished "
	}
	return text.Apart(left, right, m.w)
}

func (m *model) subHeader() string {
	switch {
	case m.again != nil:
		return text.Cut(" "+m.again.title(m.plan.Plan), m.w)
	case m.watches():
		return m.run.WatchedText(m.w)
	case m.here.InPlace != nil:
		return text.Cut(" Point etcd at "+trust.Text(m.here.InPlace.DataDir)+", without restoring anything", m.w)
	case m.info != nil && m.screen.after(chooseScreen):
		i := m.info
		hash := "sha256 ok"
		if i.Hash != snapshot.HashOK {
			hash = "no sha256"
		}
		facts := fmt.Sprintf("revision %d · ", i.Revision)
		if m.w >= 72 {
			facts += text.Plural(i.Keys, "key", "keys") + " · "
		}
		facts += text.Old(i.Taken(), m.now()) + " · " + hash
		n := max(12, m.w-len([]rune(facts))-5)
		return text.Cut(" "+text.ShortPath(trust.Text(m.info.Name), n)+"   "+facts, m.w)
	case m.here.Facts != nil && m.here.Facts.Kubelet != nil:
		k := m.here.Facts.Kubelet
		version := ""
		if k.Version != "" {
			version = trust.Text(strings.TrimPrefix(k.Version, "v")) + " · "
		}
		return text.Cut(" kubelet "+version+"manifests in "+trust.Text(k.StaticPodPath), m.w)
	}
	return " Restore a control plane's etcd from a snapshot"
}

// topRule says how far the user is.
func (m *model) topRule() string {
	if m.again != nil || m.watches() || m.screen.ofRun() || m.screen == earlierScreen || m.screen == runsScreen {
		return strings.Repeat("─", m.w)
	}
	type stage struct {
		name   string
		screen screen // the first that comes behind it
	}
	stages := []stage{{"node", chooseScreen}, {"snapshot", membersScreen}, {"members", checkScreen}, {"checks", planScreen}, {"plan", confirmScreen}, {"confirm", runScreen}, {"run", summaryScreen}}
	several := m.several()
	if !several {
		stages[1].screen = checkScreen
		stages = slices.Delete(stages, 2, 3)
	}
	if m.here.InPlace != nil {
		stages = slices.Delete(stages, 1, 2)
		stages[0].screen = checkScreen
	}
	names, at := make([]string, 0, len(stages)), 0
	for i, s := range stages {
		names = append(names, s.name)
		if m.screen == s.screen || m.screen.after(s.screen) {
			at = i + 1
		}
	}
	parts := make([]string, 0, len(names))
	for i, n := range names {
		switch {
		case i < at:
			n = m.look.Symbol(text.SymDone) + " " + n
		case i == at:
			n = m.look.Bold.Render(text.SymNow + " " + n)
		default:
			n = text.SymLater + " " + n
		}
		parts = append(parts, n)
	}
	gap := " ── "
	switch {
	case m.w < 80:
		gap = "  "
	case m.w < 88 && several:
		gap = " ─ "
	}
	line := "── " + strings.Join(parts, gap) + " "
	switch {
	case m.w < 76 && several:
		line = strings.Join(parts, " ") + " "
	case m.w < 64:
		line = " " + strings.Join(parts, gap) + " "
	}
	return line + strings.Repeat("─", max(0, m.w-text.Width(line)))
}

func (m *model) bottomRule(where string) string {
	if m.assumed {
		where = strings.TrimPrefix(where+" · size unknown, 80×24 assumed: stty rows N cols N", " · ")
	}
	if where == "" {
		return strings.Repeat("─", m.w)
	}
	tail := " " + where + " ──"
	return strings.Repeat("─", max(0, m.w-text.Width(tail))) + tail
}

// tinyQuestion is a question with its answers on a screen that is small, nil
// when there is none or it doesn't fit.
func (m *model) tinyQuestion() []string {
	if m.over == nil || m.over.kind != questionOverlay {
		return nil
	}
	return m.over.question.Small(m.w, m.h)
}

// smallView keeps a run in sight on a screen that holds nothing else.
func (m *model) smallView() []string {
	if q := m.tinyQuestion(); q != nil {
		return q
	}
	lines := []string{fmt.Sprintf("needs %d×%d, is %d×%d", minWidth, minHeight, m.w, m.h)}
	if !m.screen.ofRun() {
		state := "nothing changed yet"
		if m.here.Facts != nil && m.here.Facts.Unfinished != nil {
			state = "a run is unfinished"
		}
		return append(lines, state, "ctrl-c quits")
	}
	if !m.run.Running() {
		symbol, sentence := m.run.Ended(nil).Ending()
		return append(append(lines, ""), text.Hang(m.look.Symbol(symbol)+" ", sentence, m.w)...)
	}
	lines = append(append(lines, ""), m.run.Brief(m.now(), m.w)...)
	if away := m.run.OutageText(m.look, m.now()); away != "" {
		lines = append(lines, away)
	}
	switch {
	case m.watches():
		lines = append(lines, text.Hang("", "run by another etcd-rewind", m.w)...)
	case m.run.Failure() != nil:
		lines = append(lines, text.Hang("", "Paused for your answer: make the window larger.", m.w)...)
	}
	return lines
}
