package ui

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	tea "github.com/charmbracelet/bubbletea"

	"etcd-rewind/snapshot"
	"etcd-rewind/ui/pane"
)

// picker is the list of snapshots, and the inspection that is under way.
type picker struct {
	pane.Picker
	cancel context.CancelFunc // nil for none
	path   string             // what it looks at
}

type (
	candidatesMsg   []snapshot.Candidate
	lookProgressMsg struct {
		path        string
		done, total int64
	}
	lookedMsg struct {
		path string
		info *snapshot.Info
		err  error
	}
	completedMsg struct {
		typed, longest string
		matches        []string
	}
)

func (msg lookProgressMsg) Replaces(older any) (yes, further bool) {
	last, ok := older.(lookProgressMsg)
	return ok && msg.path == last.path, false
}

func newPicker(preselected string) picker {
	if preselected != "" {
		preselected = absolute(preselected)
	}
	return picker{Picker: pane.NewPicker(preselected)}
}

func (p *picker) busy() bool { return p.Searching || p.cancel != nil }

// pause breaks the inspection off; it begins anew when the screen comes back.
func (p *picker) pause() {
	if p.cancel != nil {
		p.cancel()
	}
	p.Wait()
}

func (m *model) findSnapshots() tea.Cmd {
	m.picker.Searching = true
	facts := m.here.Facts
	return func() tea.Msg { return candidatesMsg(m.backend.Candidates(m.ctx, facts)) }
}

// lookInside starts the next inspection, one at a time.
func (m *model) lookInside() tea.Cmd {
	p := &m.picker
	path := p.Next()
	if p.cancel != nil || path == "" || (m.screen != nodeScreen && m.screen != chooseScreen) {
		return nil
	}
	ctx, cancel := context.WithCancel(m.ctx)
	p.cancel, p.path = cancel, path
	p.Look(path)
	return func() tea.Msg {
		info, err := m.backend.Inspect(ctx, path, func(done, total int64) {
			m.box.put(lookProgressMsg{path, done, total})
		})
		if ctx.Err() != nil {
			err = ctx.Err() // broken off: that says nothing about the file
		}
		return lookedMsg{path, info, err}
	}
}

func (m *model) looked(msg lookedMsg) tea.Cmd {
	p := &m.picker
	if p.cancel != nil && msg.path == p.path {
		p.cancel()
		p.cancel = nil
	}
	if p.Looked(msg.path, msg.info, msg.err) {
		return tea.Batch(m.choose(), m.lookInside())
	}
	return m.lookInside()
}

// choose takes the highlighted snapshot and goes on to the checks.
func (m *model) choose() tea.Cmd {
	info, note := m.picker.Choose()
	m.note = note
	if info == nil {
		return m.lookInside()
	}
	m.picker.pause()
	m.info = info
	return m.compare()
}

func (m *model) chooseKey(k tea.KeyMsg) tea.Cmd {
	p := &m.picker
	name := k.String()
	if typed, ok := p.Typed(); ok {
		switch name {
		case "tab":
			return func() tea.Msg { return complete(typed) }
		case "enter":
			if typed = strings.TrimSpace(typed); typed != "" {
				typed = absolute(typed)
			}
			p.Add(typed)
			return m.lookInside()
		case "esc":
			p.Add("")
		default:
			p.TypeKey(k)
		}
		return nil
	}
	switch name {
	case "p":
		p.Type(m.look)
	case "r":
		p.pause()
		p.Forget()
		return m.findSnapshots()
	case "enter", "right":
		return m.choose()
	case "esc", "left":
		m.screen = nodeScreen
		p.Wait()
	case "?":
		m.over = newOverlay(helpOverlay)
	case "q":
		return m.quit()
	default:
		p.Key(name)
		return m.lookInside()
	}
	return nil
}

func absolute(path string) string {
	if rest, ok := strings.CutPrefix(path, "~/"); ok {
		if home, err := os.UserHomeDir(); err == nil {
			path = filepath.Join(home, rest)
		}
	}
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

// complete finds what a typed path may go on with: the longest common start,
// and the names when there is more than one.
func complete(typed string) completedMsg {
	msg := completedMsg{typed: typed, longest: typed}
	dir, start := filepath.Split(typed)
	look := dir
	if look == "" {
		look = "."
	}
	items, err := os.ReadDir(absolute(look))
	if err != nil {
		return msg
	}
	for _, it := range items {
		name := it.Name()
		if !strings.HasPrefix(name, start) || (start == "" && strings.HasPrefix(name, ".")) {
			continue
		}
		if st, err := os.Stat(filepath.Join(absolute(look), name)); err == nil && st.IsDir() {
			name += "/"
		}
		msg.matches = append(msg.matches, name)
	}
	if len(msg.matches) == 0 {
		return msg
	}
	common := msg.matches[0]
	for _, n := range msg.matches[1:] {
		for !strings.HasPrefix(n, common) {
			common = common[:len(common)-1]
		}
	}
	msg.longest = dir + strings.ToValidUTF8(common, "")
	if len(msg.matches) == 1 {
		msg.matches = nil
	}
	return msg
}
