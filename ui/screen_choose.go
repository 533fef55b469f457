package ui

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"etcd-rewind/snapshot"
	"etcd-rewind/steps"
	"etcd-rewind/trust"
	"etcd-rewind/ui/pane"
	"etcd-rewind/ui/text"
)

// lookedAtUnasked is how many of the newest snapshots are looked into without
// being highlighted: it reads whole files next to a live etcd.
const lookedAtUnasked = 20

// picker is the list of snapshots.
type picker struct {
	loading bool // candidates are being searched for
	entries []entry
	cur     int // -1 for none
	scroll  pane.Scroller

	cancel  context.CancelFunc // of the inspection under way
	path    string             // what it looks at
	forward bool               // go on as soon as the highlighted one is known to be good

	typing  *pane.Field
	matches []string // what tab found
}

type entry struct {
	path   string
	size   int64
	mod    time.Time
	packed snapshot.Format // when it has to be unpacked first; that waits until it is chosen
	inside int64           // of a packed one: about how many bytes that writes
	info   *snapshot.Info
	bad    error // why it can't be chosen
	typed  bool
	safety bool   // an earlier run saved it
	owner  string // another user, "" for root or this one
	done   int64
	total  int64
	inWork bool
}

func (e entry) seen() bool { return e.info != nil || e.bad != nil }

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

func newPicker(preselected string) picker {
	p := picker{loading: true}
	if preselected != "" {
		if abs, err := filepath.Abs(preselected); err == nil {
			preselected = abs
		}
		p.entries = []entry{{path: preselected, typed: true}}
	}
	return p
}

func (p *picker) busy() bool { return p.loading || p.cancel != nil }

// found adds what the search brought; what was typed stays on top, what was
// highlighted stays highlighted.
func (p *picker) found(list []snapshot.Candidate) {
	p.loading = false
	at := ""
	if e := p.current(); e != nil {
		at = e.path
	}
	for _, c := range list {
		e := entry{path: c.Path, size: c.Size, mod: c.ModTime, safety: c.Safety, owner: c.Owner}
		switch {
		case c.Err != nil:
			e.bad = c.Err
		case c.Format != snapshot.Raw:
			e.packed, e.inside = c.Format, c.Inside
		}
		if i := p.index(c.Path); i >= 0 {
			if !p.entries[i].seen() && !p.entries[i].inWork {
				e.packed, e.typed = "", true
				p.entries[i] = e
			}
			continue
		}
		p.entries = append(p.entries, e)
	}
	// What a restore is for comes first; what an earlier run has saved is the
	// state that somebody wanted to leave.
	slices.SortStableFunc(p.entries, func(a, b entry) int {
		return cmp.Or(cmp.Compare(b2i(b.typed), b2i(a.typed)), cmp.Compare(b2i(a.safety), b2i(b.safety)))
	})
	switch {
	case at != "":
		p.cur = p.index(at)
	case len(p.entries) > 0 && p.entries[0].safety:
		p.cur = -1 // none of them is chosen by default
	default:
		p.cur = 0
	}
}

func (p *picker) index(path string) int {
	return slices.IndexFunc(p.entries, func(e entry) bool { return e.path == path })
}

func (p *picker) current() *entry {
	if p.cur < 0 || p.cur >= len(p.entries) {
		return nil
	}
	return &p.entries[p.cur]
}

func (p *picker) progress(msg lookProgressMsg) {
	if i := p.index(msg.path); i >= 0 {
		p.entries[i].done, p.entries[i].total = msg.done, msg.total
	}
}

// next is the path to look into next, "" when there is none: the highlighted
// one first, then the newest. A packed one comes when it is chosen: unpacking
// writes to the node's disk.
func (p *picker) next() string {
	if e := p.current(); e != nil && !e.seen() && (e.packed == "" || p.forward) {
		return e.path
	}
	for i, e := range p.entries {
		if i >= lookedAtUnasked {
			break
		}
		if !e.seen() && e.packed == "" {
			return e.path
		}
	}
	return ""
}

// pause breaks the inspection off; it begins anew when the screen comes back.
func (p *picker) pause() {
	if p.cancel != nil {
		p.cancel()
	}
	p.forward = false
}

func (m *model) findSnapshots() tea.Cmd {
	m.picker.loading = true
	facts := m.facts
	return func() tea.Msg { return candidatesMsg(m.backend.Candidates(m.ctx, facts)) }
}

// lookInside starts the next inspection, one at a time.
func (m *model) lookInside() tea.Cmd {
	p := &m.picker
	path := p.next()
	if p.cancel != nil || path == "" || (m.screen != nodeScreen && m.screen != chooseScreen) {
		return nil
	}
	ctx, cancel := context.WithCancel(m.ctx)
	p.cancel, p.path = cancel, path
	p.entries[p.index(path)].inWork = true
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
	i := p.index(msg.path)
	if i < 0 {
		return nil
	}
	e := &p.entries[i]
	e.inWork, e.done, e.total = false, 0, 0
	switch {
	case errors.Is(msg.err, context.Canceled):
	case msg.err != nil:
		e.bad = msg.err
	case e.packed != "":
		e.info = msg.info
	default:
		e.info, e.size, e.mod = msg.info, msg.info.Size, msg.info.ModTime
	}
	if p.forward && i == p.cur {
		p.forward = false
		return tea.Batch(m.choose(), m.lookInside())
	}
	return m.lookInside()
}

// choose takes the highlighted snapshot and goes on to the checks.
func (m *model) choose() tea.Cmd {
	p := &m.picker
	e := p.current()
	switch {
	case e == nil && len(p.entries) > 0:
		m.note = "Only safety copies of earlier runs were found: the states that those runs replaced. ↓ chooses one, p takes the path of a backup."
	case e == nil:
		m.note = "There is no snapshot to choose. Type its path with p."
	case e.bad != nil:
		cause, _ := text.Explain(e.bad)
		m.note = filepath.Base(trust.Text(e.path)) + " can't be restored: " + cause
	case e.info == nil:
		p.forward = true
		m.note = "Reading it first; it is chosen once it was read."
		if e.packed != "" {
			m.note = "Unpacking it first; it is chosen once it was read."
		}
		return m.lookInside()
	default:
		p.pause()
		m.info, m.note = e.info, ""
		return m.compare()
	}
	return nil
}

func (m *model) chooseKey(k tea.KeyMsg) tea.Cmd {
	p := &m.picker
	if p.typing != nil {
		return m.typePath(k)
	}
	moved := p.cur
	if cur, ok := pane.Move(p.cur, len(p.entries), k.String(), 5); ok {
		p.cur = cur
	}
	switch k.String() {
	case "p":
		p.typing, p.matches = pane.NewField(m.look, ""), nil
		return nil
	case "r":
		m.picker.pause()
		m.picker.entries = slices.DeleteFunc(m.picker.entries, func(e entry) bool { return !e.typed })
		for i, e := range m.picker.entries {
			m.picker.entries[i] = entry{path: e.path, typed: true}
		}
		p.cur = 0
		return m.findSnapshots()
	case "enter", "right":
		return m.choose()
	case "esc", "left":
		m.screen = nodeScreen
		p.forward = false
		return nil
	case "?":
		m.over = newOverlay(helpOverlay)
	case "q":
		return m.quit()
	}
	if p.cur != moved {
		p.forward = false
		return m.lookInside()
	}
	return nil
}

func (m *model) typePath(k tea.KeyMsg) tea.Cmd {
	p := &m.picker
	switch k.String() {
	case "esc":
		p.typing, p.matches = nil, nil
		return nil
	case "tab":
		typed := p.typing.Value()
		return func() tea.Msg { return complete(typed) }
	case "enter":
		path := strings.TrimSpace(p.typing.Value())
		p.typing, p.matches = nil, nil
		if path == "" {
			return nil
		}
		path = absolute(path)
		if i := p.index(path); i >= 0 {
			// Typing a path again means looking again.
			p.entries[i] = entry{path: path, typed: true}
			p.cur = i
		} else {
			p.entries = slices.Insert(p.entries, 0, entry{path: path, typed: true})
			p.cur = 0
		}
		return m.lookInside()
	}
	p.matches = nil
	p.typing.Key(k)
	return nil
}

func (p *picker) complete(msg completedMsg) {
	if p.typing == nil || p.typing.Value() != msg.typed {
		return
	}
	p.typing.Set(msg.longest)
	p.matches = msg.matches
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

// taken is when a snapshot's content is from: its newest write, where that
// could be read, else the file's time.
func taken(i *snapshot.Info) time.Time {
	if !i.LastWrite.IsZero() {
		return i.LastWrite
	}
	return i.ModTime
}

func (p *picker) view(l text.Look, now time.Time, w, h int) ([]string, string, []pane.Hint) {
	if p.typing != nil {
		return p.typingView(w, h)
	}
	help := []pane.Hint{{"enter", "choose"}, {"p", "type a path"}, {"/", "search"}, {"r", "search again"}, {"?", "help"}, {"esc", "back"}, {"q", "quit"}}
	lines := []string{" " + l.Bold.Render("Which snapshot is the cluster to go back to?"), ""}
	if len(p.entries) == 0 {
		if p.loading {
			return append(lines, "   Searching the usual places …"), "", help[1:]
		}
		lines = append(lines, "   No snapshot was found in the usual places or the working directory.", "")
		lines = append(lines, text.Hang("   ", "Type its path with p. A snapshot is what `etcdctl snapshot save` writes; a copied member/snap/db works too, with a warning.", w-2)...)
		return lines, "", help[1:]
	}

	details := p.details(l, now, w-4)
	room := h - 5 // title, blank, column heads, blank, and the rule above the details
	tall := max(3, min(len(details), room*3/5))
	rows := max(1, min(len(p.entries), room-tall))
	details = details[:min(len(details), h-4-rows)]
	p.scroll.Show(max(0, p.cur), max(0, p.cur), rows)

	c := columnsFor(w, p.longestName())
	lines = append(lines, l.Faint.Render(c.row(" ", "file", "written", "size", "revision", "keys", "version", "hash")))
	from, to, where := p.scroll.Span(len(p.entries), rows)
	for i, e := range p.entries[from:to] {
		row := p.row(e, c, now)
		if from+i == p.cur {
			row = l.Reverse.Render(text.Fit(text.SymNow+row[1:], w))
		}
		lines = append(lines, row)
	}
	lines = append(lines, "")
	lines = append(lines, text.Indent(3, details)...)
	return lines, where, help
}

type columns struct{ name, version, keys int }

// columnsFor gives names of files the room they need before anything else.
func columnsFor(w, name int) columns {
	c := columns{version: 8, keys: 8}
	fits := func() bool {
		c.name = w - 4 - 9 - 9 - 12 - c.keys - c.version - 8
		return c.name > name && w >= 70
	}
	if !fits() {
		c.version = 0
	}
	if !fits() {
		c.keys = 0
	}
	fits()
	return c
}

// longestName is the width of the longest name of a file, without its
// directory.
func (p *picker) longestName() int {
	n := 0
	for _, e := range p.entries {
		n = max(n, text.Width(filepath.Base(trust.Text(e.path))))
	}
	return n
}

func (c columns) row(sym, name, age, size, revision, keys, version, hash string) string {
	s := " " + sym + " " + text.Fit(name, c.name) + text.FitRight(age, 9) + text.FitRight(size, 9) + text.FitRight(revision, 12)
	if c.keys > 0 {
		s += text.FitRight(keys, c.keys)
	}
	if c.version > 0 {
		s += text.FitRight(version, c.version)
	}
	return s + "  " + hash
}

func (p *picker) row(e entry, c columns, now time.Time) string {
	name := text.ShortPath(trust.Text(e.path), c.name-1)
	sz := ""
	if e.size > 0 {
		sz = text.Size(e.size)
	}
	switch {
	case e.bad != nil:
		a := ""
		if !e.mod.IsZero() {
			a = steps.Age(e.mod, now)
		}
		cause, _ := text.Explain(e.bad)
		return " " + text.SymBad + " " + text.Fit(name, c.name) + text.FitRight(a, 9) + text.FitRight(sz, 9) + "  " + cause
	case e.info != nil:
		i := e.info
		sym, hash := text.SymDone, "ok"
		if i.Hash != snapshot.HashOK {
			sym, hash = text.SymWarn, "none"
		}
		if e.safety {
			hash = "safety"
		}
		return c.row(sym, name, steps.Age(taken(i), now), sz, text.Number(i.Revision), text.Number(int64(i.Keys)), versionOf(i), hash)
	default:
		state := ""
		if e.packed != "" {
			state = "compressed, " + string(e.packed)
		}
		if e.inWork {
			state = "looking inside"
			if e.total > 0 {
				state = fmt.Sprintf("looking inside, %d %%", text.Percent(e.done, e.total))
			}
		}
		a := ""
		if !e.mod.IsZero() {
			a = steps.Age(e.mod, now)
		}
		return " " + text.SymLater + " " + text.Fit(name, c.name) + text.FitRight(a, 9) + text.FitRight(sz, 9) + "  " + state
	}
}

func versionOf(i *snapshot.Info) string {
	if i.StorageVersion == "" {
		return "< 3.6"
	}
	return trust.Text(i.StorageVersion)
}

// details is what is known about the highlighted snapshot.
func (p *picker) details(l text.Look, now time.Time, w int) []string {
	e := p.current()
	if e == nil {
		return text.Wrap("Only safety copies of earlier runs were found. Each holds the state that its run replaced: to revert a run, undo it instead (etcd-rewind runs). ↓ chooses one, p takes the path of a backup.", w)
	}
	path := text.CutMiddle(trust.Text(e.path), w)
	about := []string{l.Bold.Render(path)}
	if e.safety {
		about = append(about, text.Wrap(text.SymWarn+" a safety copy: the state that an earlier run replaced", w)...)
	}
	if e.owner != "" {
		about = append(about, text.Wrap(text.SymWarn+" belongs to "+trust.Text(e.owner)+": check where it comes from", w)...)
	}
	if e.bad != nil {
		cause, advice := text.Explain(e.bad)
		return append(about, text.Facts(text.Advice(cause, advice), w)...)
	}
	if e.info == nil {
		if !e.inWork && e.packed != "" {
			return append(about, text.Wrap("compressed: "+string(e.packed)+". Enter unpacks it on the disk of etcd's data, about "+text.Size(e.inside)+
				", and looks inside. The unpacked file is deleted when you leave.", w)...)
		}
		if !e.inWork {
			return append(about, "not inspected yet")
		}
		doing := "looking inside"
		if e.packed != "" {
			doing = "unpacking it, then looking inside"
		}
		lines := append(about, doing)
		if e.total > 0 {
			lines = append(lines, text.Size(e.done)+" of "+text.Size(e.total), text.Bar(e.done, e.total, min(w, 40)))
		}
		return lines
	}
	i := e.info
	// A copy has a newer time, and a quiet cluster writes nothing: what is in it
	// tells more than the file, and neither tells all.
	last := "unknown: no time in it can be read"
	if !i.LastWrite.IsZero() {
		last = steps.Moment(i.LastWrite) + ", " + steps.Ago(i.LastWrite, now)
	}
	list := []steps.Fact{{Name: "Last write", Value: last}, {Name: "File", Value: "of " + steps.Moment(i.ModTime) + ", " + steps.Ago(i.ModTime, now)}}
	if i.Hash == snapshot.HashOK {
		list = append(list, steps.Fact{Name: "SHA-256", Value: "verified, " + i.SHA256[:min(16, len(i.SHA256))] + "…"})
	} else {
		list = append(list, steps.Fact{Name: "SHA-256", Value: "none: looks like a copied data file, so damage can't be ruled out"})
	}
	members := make([]string, 0, len(i.Members))
	for _, mb := range i.Members {
		members = append(members, mb.Name)
	}
	list = append(list, steps.Fact{Name: "Nodes", Value: names(i.Nodes)}, steps.Fact{Name: "Namespaces", Value: names(i.Namespaces)})
	if len(members) > 0 {
		list = append(list, steps.Fact{Name: "Members", Value: text.OrNone(members)})
	}
	if len(i.Alarms) > 0 {
		list = append(list, steps.Fact{Name: "Alarms", Value: text.OrNone(i.Alarms)})
	}
	if len(i.EncryptedPrefixes) > 0 {
		list = append(list, steps.Fact{Name: "Encrypted", Value: "at rest with " + text.OrNone(i.EncryptedPrefixes)})
	}
	return append(about, text.Facts(list, w)...)
}

func names(objects []snapshot.Object) string {
	if len(objects) == 0 {
		return "none"
	}
	list := make([]string, 0, 8)
	for i, o := range objects {
		if i == 8 && len(objects) > 9 {
			list = append(list, fmt.Sprintf("and %d more", len(objects)-i))
			break
		}
		list = append(list, trust.Text(o.Name))
	}
	return strings.Join(list, ", ")
}

func (p *picker) typingView(w, h int) ([]string, string, []pane.Hint) {
	lines := []string{" Path of the snapshot:", "", " " + p.typing.View(w-2), ""}
	var names []string
	for _, n := range p.matches {
		names = append(names, trust.Text(n))
	}
	lines = append(lines, text.Indent(3, text.Columns(names, w-6, h-len(lines)))...)
	return lines, "", []pane.Hint{{"enter", "look inside"}, {"tab", "complete"}, {"esc", "back"}}
}
