package ui

import (
	"strings"

	tea "github.com/charmbracelet/bubbletea"

	"etcd-rewind/ui/pane"
	"etcd-rewind/ui/text"
)

type overlayKind int

const (
	helpOverlay     overlayKind = iota // more about the step or the screen
	logsOverlay                        // a container's log
	commandsOverlay                    // the commands so far
	questionOverlay                    // asks something
)

// overlay takes the place of the body for a while; the run goes on below it.
type overlay struct {
	kind     overlayKind
	question *question
	pane.Log // of the other kinds only the page
}

type logsMsg struct {
	component string
	lines     []string
}

func newOverlay(k overlayKind) *overlay { return &overlay{kind: k} }

func (m *model) openLogs() tea.Cmd {
	at := 0
	_, step := m.run.Current()
	if strings.Contains(step, pane.Components[1]) {
		at = 1
	}
	m.over = &overlay{kind: logsOverlay, Log: pane.NewLog(pane.Components, at)}
	return m.readLogs()
}

func (m *model) readLogs() tea.Cmd {
	if !m.over.Due(m.now()) {
		return nil
	}
	component := m.over.Name()
	return func() tea.Msg { return logsMsg{component, m.backend.Logs(m.ctx, component)} }
}

func (o *overlay) logs(msg logsMsg) {
	if o.kind == logsOverlay {
		o.Set(msg.component, msg.lines)
	}
}

func (m *model) overlayKey(name string) tea.Cmd {
	o := m.over
	if o.kind == questionOverlay {
		return m.questionKey(name)
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
			o.Next()
			return m.readLogs()
		}
	}
	o.Key(name, m.bodyHeight()-2)
	return nil
}

func (m *model) overlayView(w, h int) ([]string, string, []pane.Hint) {
	o := m.over
	switch o.kind {
	case logsOverlay:
		return o.View(m.look, w, h)
	case commandsOverlay:
		body := m.run.CommandLog()
		if len(body) == 0 {
			body = []string{"No action has run yet."}
		}
		return o.Page.View(m.look, m.commandsTitle(), text.Narrow(body, w-2), w, h,
			pane.Hint{"/", "search"}, pane.Hint{"e", "export"}, pane.Hint{"↑↓", "scroll"})
	case questionOverlay:
		return o.question.View(m.look, w, h)
	}
	title, body := m.helpText(w - 3)
	return o.Page.View(m.look, title, body, w, h, pane.Hint{"/", "search"}, pane.Hint{"↑↓", "scroll"})
}

func (m *model) commandsTitle() string {
	return "Done so far, and how to do it by hand (times in " + m.now().Local().Format("MST") + ")"
}

// helpText explains the step that is looked at, or the screen.
func (m *model) helpText(w int) (title string, body []string) {
	var paragraphs []string
	switch m.screen {
	case runScreen:
		title, body, paragraphs = m.run.Help(w)
	case earlierScreen:
		title = "An interrupted run"
		paragraphs = []string{
			"etcd-rewind was killed, the machine was restarted, or a step failed and the run was not undone. The journal in the run's directory says what was done and what was under way.",
			"g resumes: what is done is not done again, and what was under way is done once more; every action is safe to do twice. An interrupted undo is resumed as an undo.",
			"u undoes: everything the run did is undone in reverse order, and the manifests are restored byte for byte.",
			"d redoes: after an undo that was interrupted, etcd runs on the restored data again.",
			"All show their plan first and ask for the node's name, and can be interrupted again. The commands are etcd-rewind resume, undo and redo.",
			"A new restore on top of an interrupted one is hardly ever what you want: n shows the node, and the check earlier-run blocks it.",
		}
	case runsScreen:
		title = "The runs of this node"
		paragraphs = []string{
			"Each restore is a run with a name, a journal and the manifests it kept, in a directory of its own. Undo and redo belong to the run that they are of.",
			"u undoes: the node is reverted to the state before the run, byte for byte. d redoes what was undone: etcd runs on the restored data again. g resumes a run that was interrupted.",
			"A run on several nodes is undone and redone on all of them. All show their plan first and ask for the node's name.",
			"untouched: the run ended before it changed anything. unreadable: its journal can't be read; etcd-rewind runs says why.",
		}
	case nodeScreen:
		title = "The node"
		paragraphs = []string{
			"A kubeadm control plane runs etcd and kube-apiserver as static pods: kubelet reads their manifests from a directory and runs what it finds there. Move a manifest out, and kubelet stops the pod; put one in, and kubelet starts it. That is how this restore stops and starts them, since the API is down meanwhile.",
			"The restore needs etcd as a static pod on this node, as the only member. Several members, and an etcd that runs elsewhere, are recognised and refused.",
		}
		if m.options.Nodes != nil {
			paragraphs[1] = "The restore needs etcd as a static pod. With several members all of them are restored as one, from here: restored alone, one would become a cluster of one beside the others. An etcd that runs elsewhere is recognised and refused."
		}
		if m.here.CanRepoint() {
			paragraphs = append(paragraphs, "p points etcd at the intact data that lies beside its own, without restoring anything: checked, planned, confirmed and undone as a restore is. The command is etcd-rewind repoint.")
		}
	case membersScreen:
		title = "The members"
		paragraphs = []string{
			"Members are known from etcd.yaml's --initial-cluster, from the running etcd and from the snapshot. kubeadm doesn't rewrite etcd.yaml when members join later, and the snapshot lists the members at the time it was taken; so you decide on those that are in one and not in the others.",
			"The others are reached through " + m.options.reachedBy() + ", with the hosts, users and keys of its own configuration; --rsh COMMAND names another one, --host NAME=HOST another host, and h does the same here. There it has to be root, or to become it by sudo without a password.",
			"o excludes a member: the restored cluster has only the others, and the node is rejoined later. Its etcd must not run again on the data it has.",
			"enter sends the snapshot to all of them, compares its sha256 there, and checks every node. Nothing else is changed by that.",
		}
	case chooseScreen:
		title = "The snapshot"
		paragraphs = []string{
			"Each file is inspected in a process of its own, one after the other: revision, keys, and whether its SHA-256 is right. `etcdctl snapshot save` puts that sum at the end of the file; a copied data file has none, so damage in it can't be seen.",
			"The age is that of the newest write in the snapshot, where there is one with a time, and the file's otherwise.",
			"Everything written to the cluster after the snapshot will be gone from it. The old data directory is kept.",
		}
	case diffScreen:
		title = "What the restore would change"
		paragraphs = []string{
			"The snapshot is compared with the cluster as it is now: with etcd when it answers, else with its data directory. Both are only read.",
			"+ is re-created: it is in the snapshot and not in the cluster. - is deleted: it was created since. ~ is reverted to what it was.",
			"space unfolds the marked line, f shows which fields differ, / searches, e writes all of it to a file. Values that might be secret are not shown.",
			"Events, leases and changes of status only are counted at the end: they change all the time.",
		}
	case confirmScreen:
		title = "The confirmation"
		paragraphs = []string{"Nothing was changed so far. The node's name starts the run; esc returns to the plan."}
	case checkScreen:
		title = "The checks"
		paragraphs = []string{
			"d, n, s and c change what a check may object to: the data directory, the revision, how kube-apiserver is stopped, the controllers. The checks run again then.",
			"An error blocks the restore. So does a warning, until you have read it and override it with space. Some errors can be overridden: space, then the name of the check.",
			"r runs all checks again, for example after you have moved a file away. What was overridden stays so as long as the check says the same.",
		}
	case planScreen:
		title = "The plan"
		paragraphs = []string{
			"This is everything that will be done, in this order, with the shell commands that do the same by hand. Nothing else is done.",
			"d: the restored data goes into a new directory beside the old one, on the same disk.",
			"n: the restored cluster begins at a revision beyond any that a client has seen, and what lies before is marked as compacted. So watches list again instead of trusting stale caches.",
			"s: the API server keeps no state. At once takes 0.2 s; gracefully, kubelet waits for clients, up to 30 s.",
			"c: kube-controller-manager and kube-scheduler hold what they have seen in memory; restarted, they see what etcd holds now.",
		}
	case summaryScreen:
		title = "Afterwards"
		paragraphs = []string{
			"The old data directory and the manifests as they were are kept; delete them when you are sure. Until then undo reverts the node, by renames.",
			"Pods that were started after the snapshot may still run without being known to the API; kubelets stop them once they list again.",
		}
	}
	for _, p := range paragraphs {
		if p == "" {
			continue
		}
		body = append(body, text.Wrap(p, w)...)
		body = append(body, "")
	}
	return title, body
}
