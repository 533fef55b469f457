package ui

import (
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
	drillOverlay                       // tries the snapshot
)

// overlay takes the place of the body for a while; the run goes on below it.
type overlay struct {
	kind     overlayKind
	question *question
	tryout   *tryout
	pane.Log // of the other kinds only the page
}

type logsMsg struct {
	component string
	lines     []string
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
		do, ok := o.question.Key(name)
		if !ok {
			return nil
		}
		if m.over = nil; do == nil {
			return nil
		}
		return do(m)
	}
	if o.kind == drillOverlay {
		if name == "esc" || !o.tryout.busy && (name == "q" || name == "enter") {
			o.tryout.cancel()
			m.over = nil
			return nil
		}
		o.Key(name, m.h-chrome-2)
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
			o.Next()
			return m.readLogs()
		}
	}
	o.Key(name, m.h-chrome-2)
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
		return o.Page.View(m.look, commandsTitle(m.now()), text.Narrow(body, w-2), w, h,
			pane.Hint{"/", "search"}, pane.Hint{"e", "export"}, pane.Hint{"↑↓", "scroll"})
	case questionOverlay:
		return o.question.View(m.look, w, h)
	case drillOverlay:
		return o.tryout.view(&o.Page, m.look, m.now(), w, h)
	}
	help := m.help(w - 3)
	return o.Page.View(m.look, help.Title, help.Lines(w-3), w, h, pane.Hint{"/", "search"}, pane.Hint{"↑↓", "scroll"})
}
