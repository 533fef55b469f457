package ui

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"etcd-rewind/defect"
	"etcd-rewind/problem"
	"etcd-rewind/restore"
	"etcd-rewind/snapshot"
	"etcd-rewind/steps"
	"etcd-rewind/trust"
	"etcd-rewind/ui/pane"
	"etcd-rewind/ui/text"
)

// way is the way to a run: what was found so far, what the user has chosen of
// it, and the commands that find more. It knows no screens and no keys. Each
// command takes what it needs along, and sends a message; what was asked before
// something newer is dropped by its number.
type way struct {
	ctx     context.Context
	backend Backend
	box     *mailbox
	now     func() time.Time
	options Options
	nodes   sessions     // what the flow goes through
	flow    restore.Flow // to the plan, as far as it has come

	here    pane.Node
	earlier pane.Earlier
	runs    pane.Runs
	picker  picker
	info    *snapshot.Info // once it is chosen
	diff    diffPane
	members pane.Members
	checks  pane.Checks
	choices pane.Choices
	plan    pane.Plans
	owed    owedPane
	again   *again // the plan is about an earlier run
}

// again is what the user wants of a run that is in the journal.
type again struct {
	run  string
	verb restore.Verb
	dir  string // of the run on this node, to do it on all its nodes; "" for this node alone
	from screen // where that began, and esc leads
}

type (
	discoveredMsg struct {
		facts    *steps.Facts
		err      error
		verdicts []steps.Verdict
		record   *restore.Record // of the run that broke off
	}
	liveMsg struct{ steps.RunInfo }
	// followedMsg comes through the mailbox, behind the last event.
	followedMsg struct {
		ended bool
		err   error
	}
	standingMsg struct {
		run   string
		facts []steps.Fact
		at    time.Time
	}
	// runsMsg brings the runs of this node, and with which nodes each was made.
	runsMsg struct {
		list []steps.RunInfo
		with [][]string
		err  error
	}
	membersMsg struct {
		asked int
		flow  restore.Flow
		names []string
		err   error
	}
	sendProgressMsg struct {
		asked       int
		node        string
		done, total int64
	}
	// sentMsg says that every node has the snapshot, with the same sha256.
	sentMsg    struct{ asked int }
	checkedMsg struct {
		asked int
		flow  restore.Flow
		err   error
	}
	// planMsg brings the plans, and what the checks say where they ran again.
	planMsg struct {
		asked   int
		flow    restore.Flow
		checked bool // a choice was changed
		plan    *steps.Plan
		all     []*steps.Plan
		names   []string
		states  map[string]steps.RunState
		err     error
	}
)

func (msg sendProgressMsg) Replaces(older any) (yes, further bool) {
	last, ok := older.(sendProgressMsg)
	return ok && msg.asked == last.asked && msg.node == last.node, false
}

// reset forgets all that was chosen.
func (w *way) reset() {
	o := &w.options
	w.diff.stop()
	w.picker.pause()
	asked := w.checks.Asked
	w.info, w.picker, w.diff = nil, newPicker(""), diffPane{asked: w.diff.asked + 1}
	w.here = pane.Node{Led: w.here.Led, Settles: w.here.Settles}
	w.choices, w.checks = pane.Choices{Choices: o.Choices}, pane.NewChecks(o.Choices.Accept)
	w.checks.Asked = asked + 1
	w.plan = pane.Plans{Asked: w.plan.Asked + 1}
	w.members = pane.Members{Asked: w.members.Asked + 1, Hosts: maps.Clone(o.Want.Hosts), Without: slices.Clone(o.Want.Without)}
}

// discover reads this node again, and whether a run is under way on it.
func (w *way) discover() tea.Cmd {
	w.here.Facts, w.here.Refusal, w.here.Early, w.here.InPlace = nil, nil, nil, nil
	w.earlier, w.again = pane.Earlier{}, nil
	w.nodes.open(w.ctx, w.local)
	s, f := w.nodes.session, restore.Flow{Engine: w.backend, Want: w.options.Want, Choices: w.settled()}
	return func() tea.Msg {
		// What can't be said here, the check of the lock says again.
		if live, err := w.backend.Live(w.ctx); err == nil && live != nil {
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
			msg.record = w.record(msg.facts.Unfinished.Dir)
		}
		return msg
	}
}

func (w *way) discovered(msg discoveredMsg) {
	w.here.Facts, w.here.Refusal, w.earlier.All = msg.facts, msg.err, msg.record
	if msg.facts != nil {
		w.here.Verdicts = pane.Explained(msg.facts, msg.verdicts)
		w.here.Judge(nil)
	}
}

// follow has another process's run report its events.
func (w *way) follow(info steps.RunInfo) tea.Cmd {
	return func() tea.Msg {
		go defect.Do(func() {
			ended, err := w.backend.Follow(w.ctx, info, func(ev steps.Event) { w.box.put(restore.NodeEvent{Event: ev}) })
			w.box.put(followedMsg{ended, err})
		})()
		return nil
	}
}

// standing asks where the interrupted run has left the node; again, so that the
// times in it go on.
func (w *way) standing() tea.Cmd {
	e := &w.earlier
	if e.Reading || !w.here.Unfinished() || w.now().Sub(e.Read) < time.Second {
		return nil
	}
	e.Reading = true
	run, now, standing := *w.here.Facts.Unfinished, w.now(), w.options.standing
	return func() tea.Msg { return standingMsg{run.Run, standing(run, now), now} }
}

func (w *way) stood(msg standingMsg) {
	w.earlier.Reading = false
	if w.here.Unfinished() && w.here.Facts.Unfinished.Run == msg.run {
		w.earlier.Standing, w.earlier.Read = msg.facts, msg.at
	}
}

// listRuns reads the runs of this node.
func (w *way) listRuns() tea.Cmd {
	w.runs.Busy = true
	return func() tea.Msg {
		list, err := w.backend.Runs(w.ctx)
		msg := runsMsg{list, make([][]string, len(list)), err}
		for i, r := range list {
			if rec := w.record(r.Dir); r.Fleet && rec != nil {
				msg.with[i] = rec.Names()
			}
		}
		return msg
	}
}

// findSnapshots searches the usual places.
func (w *way) findSnapshots() tea.Cmd {
	w.picker.Searching = true
	facts := w.here.Facts
	return func() tea.Msg { return candidatesMsg(w.backend.Candidates(w.ctx, facts)) }
}

// findElsewhere asks the places where backups lie; each is shown as it answers.
func (w *way) findElsewhere() tea.Cmd {
	if w.options.Elsewhere == nil {
		return nil
	}
	w.picker.Asking, w.picker.Asked = true, ""
	facts := w.here.Facts
	return func() tea.Msg {
		w.options.Elsewhere(w.ctx, facts, func(list []snapshot.Candidate) { w.box.put(elsewhereMsg(list)) }, func(what string) { w.box.put(askingMsg(what)) })
		return askedMsg{}
	}
}

// unlock takes the identity that was given.
func (w *way) unlock() tea.Cmd {
	path, passphrase, _ := w.picker.Identity()
	if path = strings.TrimSpace(path); path != "" {
		path = absolute(path)
	}
	w.picker.Opening()
	return func() tea.Msg {
		if path == "" && passphrase == "" {
			return unlockedMsg{problem.New("", "Neither a file nor a passphrase was given.")}
		}
		return unlockedMsg{w.options.Unlock(w.ctx, path, passphrase)}
	}
}

// inspect starts the next inspection, one at a time.
func (w *way) inspect() tea.Cmd {
	p := &w.picker
	path := p.Next()
	if p.cancel != nil || path == "" {
		return nil
	}
	ctx, cancel := context.WithCancel(w.ctx)
	p.cancel, p.path = cancel, path
	p.Look(path)
	return func() tea.Msg {
		info, err := w.backend.Inspect(ctx, path, func(done, total int64) {
			w.box.put(lookProgressMsg{path, done, total})
		})
		if ctx.Err() != nil {
			err = ctx.Err() // broken off: that says nothing about the file
		}
		return lookedMsg{path, info, err}
	}
}

// compare compares the chosen snapshot with the cluster, unless that was done.
func (w *way) compare() tea.Cmd {
	d := &w.diff
	if d.name == w.info.Name && (d.Busy || d.Result != nil) {
		return nil
	}
	d.stop()
	ctx, cancel := context.WithCancel(w.ctx)
	*d = diffPane{Diff: pane.Diff{Busy: true}, name: w.info.Name, asked: d.asked + 1, cancel: cancel}
	f := restore.Flow{Engine: w.backend, Want: restore.Want{Here: w.here.Facts, Info: w.info}}
	asked := d.asked
	return func() tea.Msg {
		c, err := f.Comparison(ctx, func(p snapshot.Progress) { w.box.put(compareProgressMsg{asked, p}) })
		return comparedMsg{asked, c, err}
	}
}

// several says whether all members are restored as one.
func (w *way) several() bool { return w.here.Several(w.info) }

// local is this node, without any other.
func (w *way) local() (restore.Nodes, error) { return &restore.Local{Engine: w.backend}, nil }

// begin begins the way to a plan on these nodes, with the chosen snapshot.
func (w *way) begin(nodes func() (restore.Nodes, error)) {
	want := w.options.Want
	want.Hosts, want.Without = maps.Clone(w.members.Hosts), slices.Clone(w.members.Without)
	want.Here, want.Info = w.here.Facts, w.info
	w.flow = restore.Flow{Engine: w.backend, Want: want}
	w.nodes.open(w.ctx, nodes)
}

// alone takes this node without any other.
func (w *way) alone() {
	p := &w.members
	p.Asked++
	p.Busy, p.Members, p.Names = false, nil, nil
	w.begin(w.local)
}

// findMembers reaches for all nodes again.
func (w *way) findMembers() tea.Cmd {
	p := &w.members
	p.Begin(w.now())
	w.checks.Asked++ // of nodes that are let go
	w.begin(func() (restore.Nodes, error) { return w.options.Nodes(nil), nil })
	asked, s, f := p.Asked, w.nodes.session, w.flowNow()
	return func() tea.Msg {
		msg := membersMsg{asked: asked}
		msg.err = s.do(func(ctx context.Context, n restore.Nodes) (err error) {
			f.Nodes = n
			err = f.Find(ctx)
			msg.names = slices.Sorted(slices.Values(n.Names()))
			return err
		})
		msg.flow = f
		return msg
	}
}

func (w *way) foundMembers(msg membersMsg) {
	if msg.asked == w.members.Asked {
		w.flow = msg.flow
		w.members.Set(msg.flow.Members, msg.names, msg.err)
		w.keptMembers()
	}
}

// keptMembers takes care that what was decided of members isn't asked again among
// the checks.
func (w *way) keptMembers() {
	for _, v := range w.flow.Found() {
		if v.Check == steps.CheckMembers && v.Level == steps.Warn && w.members.Kept() {
			w.checks.Accepted[pane.Judged{Verdict: v, On: text.TheCluster}.Key()] = v
		}
	}
}

// member is this node's name among the members.
func (w *way) member() string {
	for _, o := range w.members.Members {
		if o.Local {
			return o.Name
		}
	}
	return w.here.Member()
}

// settled are the choices with the checks accepted so far.
func (w *way) settled() steps.Choices {
	c := w.choices.Choices
	c.Accept = w.checks.Names()
	if p := w.here.InPlace; p != nil {
		c.InPlace, c.DataDir, c.Bump = true, p.DataDir, nil
	}
	return c
}

// flowNow is the flow so far, with the choices made, and the comparison where
// there is one by now.
func (w *way) flowNow() restore.Flow {
	f, d := w.flow, &w.diff
	f.Choices = w.settled()
	if d.Result != nil || d.Err != nil {
		f.Compared(d.Result, d.Err)
	}
	return f
}

// check runs the checks with the choices made so far. Several nodes get the
// snapshot before; a node alone is found here, as nothing is to be decided of it.
func (w *way) check() tea.Cmd {
	w.checks.Begin(w.members.Names, w.member(), w.flow.Sent())
	asked, s, f, there := w.checks.Asked, w.nodes.session, w.flowNow(), w.here.InPlace
	return func() tea.Msg {
		err := s.do(func(ctx context.Context, n restore.Nodes) error {
			f.Nodes = n
			if there != nil && f.Want.Info == nil {
				f.Inspect(ctx, there.Database, func(int64, int64) {})
			}
			if f.Members == nil {
				if err := f.Find(ctx); err != nil {
					return err
				}
			}
			if err := f.Send(ctx, func(node string, done, total int64) {
				w.box.put(sendProgressMsg{asked, node, done, total})
			}); err != nil {
				return err
			}
			w.box.put(sentMsg{asked})
			return f.Check(ctx, nil)
		})
		return checkedMsg{asked, f, err}
	}
}

func (w *way) checked(msg checkedMsg) {
	if msg.asked == w.checks.Asked {
		w.flow = msg.flow
		w.checks.Set(msg.flow.Checked, msg.err)
	}
}

// makePlan plans again; after a change of a choice the checks run again too,
// since a data directory may not do.
func (w *way) makePlan(changed bool) tea.Cmd {
	w.plan.Begin()
	asked, s, f, names := w.plan.Asked, w.nodes.session, w.flowNow(), w.members.Names
	return func() tea.Msg {
		msg := planMsg{asked: asked, names: names, checked: changed}
		msg.err = s.do(func(ctx context.Context, n restore.Nodes) (err error) {
			f.Nodes = n
			if changed {
				if err = f.Check(ctx, nil); err != nil {
					msg.checked = false
					return err
				}
			}
			if msg.all, err = f.Plan(ctx); err == nil {
				msg.plan = restore.PlanOf(msg.all, n.Here())
			}
			return err
		})
		msg.flow = f
		return msg
	}
}

// planAgain plans from the journal of an earlier run.
func (w *way) planAgain(a again) tea.Cmd {
	w.again = &a
	w.plan = pane.Plans{Busy: true, Asked: w.plan.Asked + 1, Verb: a.verb, Just: a.from == summaryScreen}
	rec, asked := restore.Record{Run: a.run}, w.plan.Asked
	w.nodes.open(w.ctx, func() (restore.Nodes, error) {
		if a.dir == "" {
			return w.local()
		}
		r := w.record(a.dir)
		if r == nil {
			return nil, &steps.Failure{Cause: "the record of the nodes isn't in " + a.dir, Hint: "do it on each node, without --fleet"}
		}
		rec = *r
		return w.options.Nodes(rec.Rsh), nil
	})
	s := w.nodes.session
	return func() tea.Msg {
		msg := planMsg{asked: asked}
		msg.err = s.do(func(ctx context.Context, n restore.Nodes) (err error) {
			f := restore.Flow{Nodes: n}
			if err = f.Open(ctx, rec); err != nil {
				return err
			}
			msg.states, msg.names = f.States, rec.Names()
			if msg.all, err = f.PlanAgain(ctx, a.verb); err != nil {
				return err
			}
			if msg.plan = f.Whole(a.verb, msg.all); a.dir != "" {
				msg.plan.RunDir = a.dir
			}
			return steps.Blocked(ctx, msg.all)
		})
		return msg
	}
}

// planned takes the plans; false for those that nobody waits for any more.
func (w *way) planned(msg planMsg) bool {
	if msg.asked != w.plan.Asked {
		return false
	}
	w.plan.Set(msg.plan, msg.all, msg.names, msg.states, msg.err)
	if w.again == nil {
		w.flow = msg.flow
		w.diff.tell(msg.plan)
		if msg.checked {
			w.checks.Adopt(pane.JudgedOf(msg.flow.Checked))
		}
	}
	return true
}

// record reads with whom an earlier run of this node was made; nil for one of
// this node alone.
func (w *way) record(runDir string) *restore.Record {
	if w.options.Nodes == nil || runDir == "" {
		return nil
	}
	rec, err := w.options.Record(runDir)
	if err != nil {
		return nil // it can be resumed and undone as a run of this node
	}
	rec.Paths = w.options.Want.Paths
	return rec
}

// repoint takes the older data beside etcd's own instead of a snapshot.
func (w *way) repoint() error {
	c, database, err := w.here.Facts.InPlace(w.here.Facts.Older[0].Dir, steps.Choices{})
	if err != nil {
		return err
	}
	w.here.InPlace, w.info = &pane.InPlace{DataDir: c.DataDir, Database: database}, nil
	w.picker.pause()
	w.diff.stop()
	w.diff = diffPane{asked: w.diff.asked + 1}
	w.alone()
	return nil
}

// typing says whether keys go into a line of text, but for the confirmation.
func (w *way) typing() bool {
	_, path := w.picker.Typed()
	_, _, identity := w.picker.Identity()
	return path || identity || w.checks.Asks() || w.choices.Asks() || w.members.Asks()
}

// title says what is done with a run, before there is a plan for it too.
func (a again) title(p *steps.Plan) string {
	switch {
	case p != nil:
		return trust.Text(p.Title)
	case a.verb == restore.Resume:
		return "Resume run " + trust.Text(a.run)
	case a.verb == restore.Redo:
		return "Redo run " + trust.Text(a.run)
	case a.dir != "":
		return "Undo on all nodes"
	default:
		return "Undo on this node"
	}
}

// reachedBy is how the others are reached, for people.
func (o *Options) reachedBy() string {
	if o.Rsh != "" {
		return trust.Text(o.Rsh)
	}
	return "ssh"
}
