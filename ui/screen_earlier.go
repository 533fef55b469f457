package ui

import (
	"slices"
	"strings"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"etcd-rewind/steps"
)

// earlierPane is about a run that broke off: where it has left the node.
type earlierPane struct {
	standing []steps.Fact
	read     time.Time // when that was so
	reading  bool
}

type standingMsg struct {
	run   string
	facts []steps.Fact
	at    time.Time
}

// readStanding asks anew, so that the times in it go on.
func (m *model) readStanding() tea.Cmd {
	e := &m.earlier
	if e.reading || m.facts == nil || m.facts.Unfinished == nil || m.now().Sub(e.read) < time.Second {
		return nil
	}
	e.reading = true
	run, now, standing := *m.facts.Unfinished, m.now(), m.options.standing
	return func() tea.Msg { return standingMsg{run.Run, standing(run, now), now} }
}

func (m *model) stood(msg standingMsg) {
	m.earlier.reading = false
	if u := m.facts; u != nil && u.Unfinished != nil && u.Unfinished.Run == msg.run {
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
		etcd = "answers, revision " + number(f.Live.Revision)
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

func (m *model) earlierView(w, h int) ([]string, string, []hint) {
	f := m.facts
	told := earlierFacts(*f.Unfinished, m.earlier.standing)
	for i := range told {
		if told[i].Value == f.Unfinished.Snapshot {
			told[i].Value = shortPath(clean(told[i].Value), w-24)
		}
	}
	lines := []string{" " + m.look.symbol(symWarn) + " " + m.look.bold.Render(standsWords), ""}
	lines = append(lines, indent(3, facts(told, w-4))...)
	lines = append(lines, "", "   The node as it is now:")
	lines = append(lines, indent(3, facts(nowFacts(f), w-4))...)
	lines = append(lines, "")
	var choices []string
	for _, c := range []choice{
		{"g", "go on: do what is left of it"},
		{"u", "go back: put the node back as it was before"},
		{"q", "leave it like this; both work later too"},
	} {
		choices = append(choices, "   "+m.look.bold.Render(c.key)+"  "+c.label)
	}
	if room := h - len(choices); len(lines) > room {
		lines = slices.DeleteFunc(lines, func(l string) bool { return l == "" })
		if len(lines) > room {
			lines = append(lines[:room-1], "   …")
		}
	}
	return append(lines, choices...), "", []hint{{"g", "go on"}, {"u", "go back"}, {"n", "the node"}, {"r", "read again"}, {"?", "help"}, {"q", "leave"}}
}

func (m *model) earlierKey(name string) tea.Cmd {
	switch name {
	case "g":
		return m.planAgain(again{run: m.facts.Unfinished.Run, resume: true, from: earlierScreen})
	case "u":
		return m.planAgain(again{run: m.facts.Unfinished.Run, from: earlierScreen})
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
		Cause: "run " + f.Unfinished.Run + " did not come to its end, and " + manifestDir(f) + " holds no manifest of " + strings.Join(gone, " and "),
		Hint:  "go on with that run, or go back from it: esc",
	}}
	for _, v := range verdicts {
		if v.Check != "earlier-run" && v.Check != "etcd-manifest" && v.Check != "api-manifest" {
			out = append(out, v)
		}
	}
	return out
}
