package ui

import (
	"strings"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"etcd-rewind/steps"
)

type overlayKind int

const (
	helpOverlay     overlayKind = iota // more about the step or the screen
	logsOverlay                        // a container's log
	commandsOverlay                    // the commands so far
	stopOverlay                        // asks: stop before the next action?
	backOverlay                        // asks: stop and put the node back?
	leaveOverlay                       // asks: leave the node as it is?
	withoutOverlay                     // asks: leave a member out for good?
)

// overlay takes the place of the body for a while; the run goes on below it.
type overlay struct {
	kind   overlayKind
	scroll scroller
	atEnd  bool // the last line was to be seen

	component int // of components: whose log is shown
	lines     []string
	reading   bool
	read      bool
	readAt    time.Time
	folded    []string // lines as they fit into foldedTo cells
	foldedTo  int
}

// logsEvery is how often a log that is shown is read again.
const logsEvery = time.Second / 4

// components are those whose logs can be shown.
var components = []string{"etcd", "kube-apiserver"}

type logsMsg struct {
	component string
	lines     []string
}

func newOverlay(k overlayKind) *overlay { return &overlay{kind: k} }

func (m *model) openLogs() tea.Cmd {
	m.over = newOverlay(logsOverlay)
	if strings.Contains(m.step().current, components[1]) {
		m.over.component = 1
	}
	return m.readLogs()
}

func (m *model) readLogs() tea.Cmd {
	o := m.over
	if o.reading || m.now().Sub(o.readAt) < logsEvery {
		return nil
	}
	o.reading, o.readAt = true, m.now()
	component := components[o.component]
	return func() tea.Msg { return logsMsg{component, m.backend.Logs(m.ctx, component)} }
}

func (o *overlay) logs(msg logsMsg) {
	if o.kind != logsOverlay {
		return
	}
	o.reading = false
	if msg.component != components[o.component] {
		return
	}
	// Follow the end of the log unless the user has scrolled up.
	follow := !o.read || o.atEnd
	o.lines, o.read, o.folded = cleanAll(msg.lines), true, nil
	if follow {
		o.scroll.key("end", 0)
	}
}

func (m *model) overlayKey(name string) tea.Cmd {
	o := m.over
	switch o.kind {
	case stopOverlay, backOverlay:
		switch name {
		case "s", "y", "u":
			if (name == "y") != (o.kind == backOverlay) || name == "u" && m.crew == nil {
				return nil
			}
			m.goBack = o.kind == backOverlay || name == "u"
			m.stepper.stopping = true
			m.over = nil
			return func() tea.Msg { m.engine.stop(); return nil }
		case "g", "n", "esc":
			m.over = nil
		}
		return nil
	case withoutOverlay:
		switch name {
		case "y":
			m.over = nil
			return m.leaveOut()
		case "n", "esc":
			m.over = nil
		}
		return nil
	case leaveOverlay:
		switch name {
		case "y":
			m.over = nil
			return m.answer(steps.Leave)
		case "n", "esc":
			m.over = nil
		}
		return nil
	}
	switch name {
	case "esc", "q", "enter":
		m.over = nil
		return nil
	case "?", "c":
		if (name == "?") == (o.kind == helpOverlay) {
			m.over = nil
			return nil
		}
	case "tab", "l":
		if o.kind == logsOverlay {
			o.component = (o.component + 1) % len(components)
			o.lines, o.read, o.reading, o.readAt, o.folded = nil, false, false, time.Time{}, nil
			return m.readLogs()
		}
	}
	o.scroll.key(name, m.bodyHeight()-2)
	return nil
}

func (m *model) overlayView(w, h int) ([]string, string, []hint) {
	o := m.over
	page := func(title string, body []string, help ...hint) ([]string, string, []hint) {
		seen, where := o.scroll.window(body, h-2)
		o.atEnd = o.scroll.top+h-2 >= len(body)
		return append([]string{" " + m.look.bold.Render(title), ""}, indent(1, seen)...), where, append(help, hint{"esc", "back"})
	}
	question := func(title string, text ...string) []string {
		lines := []string{"", " " + m.look.symbol(symWarn) + " " + m.look.bold.Render(title), ""}
		for _, t := range text {
			lines = append(lines, hang("   ", t, w-3)...)
			lines = append(lines, "")
		}
		return lines
	}
	switch o.kind {
	case logsOverlay:
		if o.folded == nil || o.foldedTo != w-2 {
			o.folded, o.foldedTo = narrow(o.lines, w-2), w-2
		}
		body := o.folded
		switch {
		case !o.read:
			body = []string{"Reading …"}
		case len(body) == 0:
			body = []string{"There is no log of it on this node."}
		}
		return page("Log of "+components[o.component], body, hint{"tab", "other component"}, hint{"↑↓", "scroll"})
	case commandsOverlay:
		body := m.step().commandLog()
		if len(body) == 0 {
			body = []string{"No action has run yet."}
		}
		return page("What was done so far; the commands do the same by hand", narrow(body, w-2), hint{"↑↓", "scroll"})
	case withoutOverlay:
		c := m.members.current()
		lines := question("Leave "+clean(c.Name)+" out for good?",
			"The restored cluster then has only "+listed(m.members.survivors())+". "+clean(c.Name)+" is not a member of it any more, and its etcd must never run again on the data it has: stop kubelet there, or keep the machine off.",
			"To join it anew, once the others are restored:")
		return append(lines[:len(lines)-1], indent(3, facts(joinAnew(), w-4))...), "",
			[]hint{{"y", "leave it out"}, {"n", "keep it"}}
	case stopOverlay:
		if m.crew != nil {
			lines := question("Stop the run?", m.crew.oneLine(m.now()),
				"s stops every node before its next action; what is being done is finished first, a wait ends at once. The nodes stay in between.",
				"u stops in the same way, and then puts all nodes back as they were.",
				"g lets it go on. It has not paused.")
			return lines, "", []hint{{"s", "stop"}, {"u", "undo on all nodes"}, {"g", "go on"}}
		}
		return question("Stop the run?",
				"Now: "+m.stepper.brief(m.now()),
				"s stops it before the next action; what is being done is finished first, a wait ends at once. The node stays in between until it is put back.",
				"g lets it go on. It has not paused."), "",
			[]hint{{"s", "stop before the next action"}, {"g", "go on"}}
	case backOverlay:
		if m.crew != nil {
			return question("Put all nodes back as they were?", m.crew.oneLine(m.now()),
					"The run stops before the next action of every node, and everything it did is undone on all of them, in reverse order. It has not paused while you read this."), "",
				[]hint{{"y", "stop and put back"}, {"n", "go on"}}
		}
		return question("Put the node back as it was?",
				"Now: "+m.stepper.brief(m.now()),
				"The run stops before its next action, and everything it did is undone in reverse order. The run has not paused while you read this."), "",
			[]hint{{"y", "stop and put back"}, {"n", "go on"}}
	case leaveOverlay:
		if m.crew != nil {
			return question("Leave all nodes as they are?",
					"The run ends here, on all nodes. Kubernetes' API may be away until they are put back or somebody puts them right.",
					steps.UndoCommand(m.crew.run, true)+" puts all of them back at any time."), "",
				[]hint{{"y", "leave them"}, {"n", "back"}}
		}
		return question("Leave the node as it is?",
				"The run ends here. Kubernetes' API may be away until the node is put back or somebody puts it right.",
				steps.UndoCommand(m.stepper.run, false)+" puts it back at any time."), "",
			[]hint{{"y", "leave it"}, {"n", "back"}}
	}
	title, body := m.helpText(w - 3)
	return page(title, body, hint{"↑↓", "scroll"})
}

// helpText explains the step that is looked at, or the screen.
func (m *model) helpText(w int) (title string, body []string) {
	var paragraphs []string
	switch m.screen {
	case runScreen:
		if m.crew != nil && !m.crew.inside && m.failure() == nil {
			title = "All nodes, in step"
			paragraphs = crewHelp(m.crew.kind)
			break
		}
		s := m.step().looked()
		if s == nil {
			return "Help", nil
		}
		title = clean(s.Title)
		paragraphs = []string{clean(s.Why)}
		for _, p := range strings.Split(s.More, "\n") {
			paragraphs = append(paragraphs, clean(p))
		}
		if f := m.step().failure; f != nil {
			body = append(narrow(failureText(f, m.step().plan, w), w), "", title+":")
			title = "What failed"
		}
	case earlierScreen:
		title = "A run that did not come to its end"
		paragraphs = []string{
			"etcd-rewind was killed, the machine was restarted, or a step failed and nobody went back. The journal in the run's directory says what was done and what was under way.",
			"g goes on: what is done is not done again, and what was under way is done once more; every action may be done twice. A run that was going back goes on going back.",
			"u goes back: everything the run did is undone in reverse order, and the manifests come back byte for byte.",
			"Both show their plan first and ask for the node's name, and both may be interrupted again. The commands are etcd-rewind resume and etcd-rewind undo.",
			"A new restore on top of an unfinished one hardly ever is what you want: n shows the node, and the check earlier-run stands in its way.",
		}
	case nodeScreen:
		title = "The node"
		paragraphs = []string{
			"A kubeadm control plane runs etcd and kube-apiserver as static pods: kubelet reads their manifests from a directory and runs what it finds there. Move a manifest out, and kubelet stops the pod; put one in, and kubelet starts it. That is how this restore stops and starts them, since the API is away meanwhile.",
			"The restore needs etcd as a static pod on this node, as the only member. Several members, and an etcd that runs elsewhere, are recognised and refused.",
		}
		if m.options.Fleet != nil {
			paragraphs[1] = "The restore needs etcd as a static pod. With several members all of them are restored as one, from here: restored alone, one would become a cluster of one beside the others. An etcd that runs elsewhere is recognised and refused."
		}
	case membersScreen:
		title = "The members"
		paragraphs = []string{
			"Members are known from etcd.yaml's --initial-cluster, from the running etcd and from the snapshot. kubeadm doesn't rewrite etcd.yaml when members join later, and the snapshot has those of its day; so you decide on those that are in one and not in the others.",
			"The others are reached through " + m.rsh() + ", with the hosts, users and keys of its own configuration; --rsh COMMAND names another one, --host NAME=HOST another host, and h does the same here. There it has to be root, or to become it by sudo without a password.",
			"o leaves a member out for good: the restored cluster has only the others, and the node joins anew later. Its etcd must not run again on the data it has.",
			"enter sends the snapshot to all of them, compares its sha256 there, and checks every node. Nothing else is changed by that.",
		}
	case chooseScreen:
		title = "The snapshot"
		paragraphs = []string{
			"Each file is looked into in a process of its own, one after the other: revision, keys, and whether its SHA-256 still holds. `etcdctl snapshot save` puts that sum at the end of the file; a copied data file has none, so damage in it can't be seen.",
			"The age is that of the newest write in the snapshot, where there is one with a time, and the file's otherwise.",
			"Everything written to the cluster after the snapshot will be gone from it. The old data directory is kept.",
		}
	case checkScreen:
		title = "The checks"
		paragraphs = []string{
			"An error blocks the restore. A warning is accepted with space once you have read it. Some errors can be overridden by somebody who knows better: space, then the name of the check.",
			"r runs all checks again, for example after you have moved a file away. What was accepted stays accepted as long as the check says the same.",
		}
	case planScreen:
		title = "The plan"
		paragraphs = []string{
			"This is everything that will be done, in this order, with the shell commands that do the same by hand. Nothing else is done.",
			"d: the restored data goes into a new directory beside the old one, on the same disk.",
			"n: the restored cluster begins at a revision beyond any that a client has seen, and what lies before is marked as compacted. So watches list anew instead of trusting stale caches.",
			"s: the API server keeps no state. At once takes 0.2 s; gracefully, kubelet waits for clients, up to 30 s.",
			"c: kube-controller-manager and kube-scheduler hold what they have seen in memory; restarted, they see what etcd holds now.",
		}
	case summaryScreen:
		title = "Afterwards"
		paragraphs = []string{
			"The old data directory and the manifests as they were are kept; delete them when you are sure. Until then undo puts the node back, by renames.",
			"Pods that were started after the snapshot may still run without being known to the API; kubelets end them as they list anew.",
		}
	}
	for _, p := range paragraphs {
		if p == "" {
			continue
		}
		body = append(body, wrap(p, w)...)
		body = append(body, "")
	}
	return title, body
}
