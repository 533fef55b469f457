package ui

import (
	"slices"
	"strings"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"etcd-rewind/restore"
	"etcd-rewind/steps"
	"etcd-rewind/trust"
	"etcd-rewind/ui/pane"
	"etcd-rewind/ui/text"
)

// earlierPane is about a run that broke off: where it has left the node.
type earlierPane struct {
	standing []steps.Fact
	read     time.Time // when that was so
	reading  bool

	all   *restore.Record // the run is one of several nodes
	alone bool            // but this node is settled without the others
}

// ofEarlier is what to do about the run, with all its nodes unless the user
// wants this one alone.
func (m *model) ofEarlier(verb restore.Verb) again {
	u := m.here.facts.Unfinished
	a := again{run: u.Run, verb: verb, from: earlierScreen}
	if m.earlier.together() {
		a.dir = u.Dir
	}
	return a
}

// together says whether the run is settled on all its nodes.
func (e *earlierPane) together() bool { return e.all != nil && !e.alone }

// ways are what can be done with the run.
func (e *earlierPane) ways(f *steps.Facts) []restore.Verb {
	return restore.Ways(*f.Unfinished, e.together())
}

type standingMsg struct {
	run   string
	facts []steps.Fact
	at    time.Time
}

// readStanding asks anew, so that the times in it go on.
func (m *model) readStanding() tea.Cmd {
	e := &m.earlier
	if e.reading || m.here.facts == nil || m.here.facts.Unfinished == nil || m.now().Sub(e.read) < time.Second {
		return nil
	}
	e.reading = true
	run, now, standing := *m.here.facts.Unfinished, m.now(), m.options.standing
	return func() tea.Msg { return standingMsg{run.Run, standing(run, now), now} }
}

func (m *model) stood(msg standingMsg) {
	m.earlier.reading = false
	if u := m.here.facts; u != nil && u.Unfinished != nil && u.Unfinished.Run == msg.run {
		m.earlier.standing, m.earlier.read = msg.facts, msg.at
	}
}

// missing are the names of the manifests that aren't in the directory.
func missing(f *steps.Facts) []string {
	there := func(name string) bool {
		if f.Manifests == nil {
			return false
		}
		file, _ := f.Manifests.Component(name)
		return file != nil
	}
	var list []string
	if f.Etcd == nil && !there(components[0]) {
		list = append(list, components[0])
	}
	if f.API == nil && !there(components[1]) {
		list = append(list, components[1])
	}
	return list
}

func manifestDir(f *steps.Facts) string {
	if f.Kubelet == nil {
		return "kubelet's directory"
	}
	return f.Kubelet.StaticPodPath
}

// nowFacts is how the node looks at this moment, whatever a journal says.
func nowFacts(f *steps.Facts) []steps.Fact {
	gone := missing(f)
	etcd := "answers"
	switch {
	case f.Live != nil:
		etcd = "answers, revision " + text.Number(f.Live.Revision)
	case f.LiveErr != nil:
		etcd = "doesn't answer: " + f.LiveErr.Error()
	}
	list := []steps.Fact{{Name: components[0], Value: etcd}, {Name: components[1], Value: f.APIState}}
	for i := range list {
		if slices.Contains(gone, list[i].Name) {
			list[i].Value = "not run: no manifest in " + manifestDir(f)
		}
	}
	return list
}

// view shows the run and the node as it is now, and what can be done.
func (e *earlierPane) view(l text.Look, f *steps.Facts, w, h int) ([]string, string, []pane.Hint) {
	told := text.InterruptedFacts(*f.Unfinished, e.standing)
	for i := range told {
		if told[i].Value == f.Unfinished.Snapshot {
			told[i].Value = text.ShortPath(trust.Text(told[i].Value), w-24)
		}
	}
	lines := []string{" " + l.Symbol(text.SymWarn) + " " + l.Bold.Render(text.Interrupted), ""}
	if e.all != nil {
		told = append(told, steps.Fact{Name: "made with", Value: text.Listed(e.all.Names()) + ", restored as one"})
	}
	lines = append(lines, text.Indent(3, text.Facts(told, w-4))...)
	lines = append(lines, "", "   The node as it is now:")
	lines = append(lines, text.Indent(3, text.Facts(nowFacts(f), w-4))...)
	lines = append(lines, "")
	choices, help := []string(nil), []pane.Hint(nil)
	offer := func(c, hint pane.Hint) {
		choices = append(choices, "   "+l.Bold.Render(c[0])+"  "+c[1])
		help = append(help, hint)
	}
	for _, v := range e.ways(f) {
		c := pane.Way(v, e.together(), e.alone)
		offer(c, pane.Hint{c[0], string(v)})
	}
	switch {
	case e.alone:
		offer(pane.Hint{"a", "all nodes together instead"}, pane.Hint{"a", "all nodes"})
	case e.all != nil:
		offer(pane.Hint{"a", "this node alone instead"}, pane.Hint{"a", "this node alone"})
	}
	choices = append(choices, "   "+l.Bold.Render("q")+"  leave it like this; all of it works later too")
	help = append(help, pane.Hint{"n", "the node"}, pane.Hint{"r", "read again"}, pane.Hint{"?", "help"}, pane.Hint{"q", "leave"})
	if room := h - len(choices); len(lines) > room {
		lines = slices.DeleteFunc(lines, func(line string) bool { return line == "" })
		if len(lines) > room {
			lines = append(lines[:room-1], "   …")
		}
	}
	return append(lines, choices...), "", help
}

func (m *model) earlierKey(name string) tea.Cmd {
	if v := pane.VerbOf(name, m.earlier.ways(m.here.facts)); v != "" {
		return m.planAgain(m.ofEarlier(v))
	}
	switch name {
	case "a":
		m.earlier.alone = m.earlier.all != nil && !m.earlier.alone
	case "n":
		m.screen = nodeScreen
	case "r":
		return m.discover()
	case "?":
		m.over = newOverlay(helpOverlay)
	case "q", "esc":
		return m.quit()
	}
	return nil
}

// explained takes out of the verdicts what an earlier run has brought about:
// that it moved manifests aside makes no node anything else than a control
// plane. One verdict says so instead.
func explained(f *steps.Facts, verdicts []steps.Verdict) []steps.Verdict {
	gone := missing(f)
	if f.Unfinished == nil || len(gone) == 0 {
		return verdicts
	}
	out := []steps.Verdict{{
		Check: "earlier-run", Title: "Earlier run", Level: steps.Error,
		Cause: "run " + f.Unfinished.Run + " was interrupted, and " + manifestDir(f) + " holds no manifest of " + strings.Join(gone, " and "),
		Hint:  "resume that run or undo it: esc",
	}}
	for _, v := range verdicts {
		if v.Check != steps.CheckEarlierRun && v.Check != steps.CheckEtcdManifest && v.Check != steps.CheckAPIManifest {
			out = append(out, v)
		}
	}
	return out
}
