package pane

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"etcd-rewind/snapshot"
	"etcd-rewind/steps"
	"etcd-rewind/trust"
	"etcd-rewind/ui/text"
)

// lookedAtUnasked is how many of the newest snapshots are looked into without
// being highlighted: it reads whole files next to a live etcd.
const lookedAtUnasked = 20

// Picker is the list of snapshots to choose from, and the line to type the path
// of another one into.
type Picker struct {
	Searching bool   // for candidates
	Asking    bool   // the places where backups lie
	Asked     string // how far that is, "" while nothing is known

	entries []entry
	at      int // -1 for none
	scroll  Scroller
	forward bool // the highlighted one is chosen as soon as it is known to be good
	moved   bool // the user has highlighted it

	typing  *Field
	matches []string // with what was typed
	unlock  *identity
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
	from   string // where it lies, when that isn't this node
	rev    int64  // by its record; 0 when there is none
	keys   int
	done   int64
	total  int64
	inWork bool
}

func (e entry) rank() int {
	switch {
	case e.typed:
		return 0
	case e.safety:
		return 2
	}
	return 1
}

func (e entry) seen() bool { return e.info != nil || e.bad != nil }

// NewPicker is a list that the search has yet to fill; path is highlighted, ""
// for none.
func NewPicker(path string) Picker {
	p := Picker{Searching: true}
	if path != "" {
		p.entries = []entry{{path: path, typed: true}}
	}
	return p
}

// Found adds what the search brought; what was typed stays on top, what was
// highlighted stays highlighted.
func (p *Picker) Found(list []snapshot.Candidate) {
	p.Searching = false
	p.Also(list)
}

// Also adds what lies elsewhere. When it has the newest, that is highlighted, unless
// the user has highlighted another, or waits for it.
func (p *Picker) Also(list []snapshot.Candidate) {
	at := ""
	if e := p.current(); e != nil && (p.moved || p.forward || e.typed) {
		at = e.path
	}
	for _, c := range list {
		e := entry{path: c.Path, size: c.Size, mod: c.ModTime, safety: c.Safety, owner: c.Owner, from: c.From, rev: c.Revision, keys: c.Keys}
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
		if a.rank() != b.rank() || a.typed {
			return cmp.Compare(a.rank(), b.rank())
		}
		return b.mod.Compare(a.mod)
	})
	switch {
	case at != "":
		p.at = p.index(at)
	case len(p.entries) > 0 && p.entries[0].safety:
		p.at = -1 // none of them is chosen by default
	default:
		p.at = 0
	}
	p.preselect()
}

// preselect highlights the newest backup that can be restored, until the user
// has highlighted one.
func (p *Picker) preselect() {
	if e := p.current(); e == nil || e.bad == nil || e.typed || p.moved || p.forward {
		return
	}
	if i := slices.IndexFunc(p.entries, func(e entry) bool { return e.bad == nil && !e.safety }); i >= 0 {
		p.at = i
	}
}

// passedOver says why a newer one isn't highlighted, or of the user's own choice
// that a backup of later is stored elsewhere; "" when there is nothing to say.
func (p *Picker) passedOver(now time.Time) string {
	if p.moved {
		return p.storedLater(now)
	}
	if p.at < 1 {
		return ""
	}
	var newer []entry
	for _, e := range p.entries[:p.at] {
		if e.bad != nil && !e.typed {
			newer = append(newer, e)
		}
	}
	switch len(newer) {
	case 0:
		return ""
	case 1:
		cause, _ := text.Explain(newer[0].bad)
		return "selected because the newer " + filepath.Base(shownName(newer[0].path)) + " can't be restored: " + cause
	}
	return "selected because the " + text.Number(int64(len(newer))) + " newer ones can't be restored"
}

// storedLater names a backup elsewhere that is newer than the snapshot which is
// highlighted, "" without one.
func (p *Picker) storedLater(now time.Time) string {
	at := p.current()
	for _, e := range p.entries {
		if e.from != "" && e.bad == nil && e.rev > 0 && at.from == "" && e.mod.After(at.taken()) {
			return "a later backup is stored, taken " + steps.Ago(e.mod, now) + ": " + shownName(e.path)
		}
	}
	return ""
}

// taken is when the content is from, as far as that is known.
func (e *entry) taken() time.Time {
	if e.info != nil && e.info.Taken().After(e.mod) {
		return e.info.Taken()
	}
	return e.mod
}

func (p *Picker) index(path string) int {
	return slices.IndexFunc(p.entries, func(e entry) bool { return e.path == path })
}

func (p *Picker) current() *entry {
	if p.at < 0 || p.at >= len(p.entries) {
		return nil
	}
	return &p.entries[p.at]
}

// Next is the path to look into next, "" when there is none: the highlighted
// one first, then the newest. A packed one comes when it is chosen: unpacking
// writes to the node's disk.
func (p *Picker) Next() string {
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

// Look says that a snapshot is being looked into.
func (p *Picker) Look(path string) { p.entries[p.index(path)].inWork = true }

// Progress says how far that is, in bytes.
func (p *Picker) Progress(path string, done, total int64) {
	if i := p.index(path); i >= 0 {
		p.entries[i].done, p.entries[i].total = done, total
	}
}

// Looked takes what is in a snapshot, or why it can't be restored. It says
// whether the user waits for it to be chosen.
func (p *Picker) Looked(path string, info *snapshot.Info, err error) bool {
	i := p.index(path)
	if i < 0 {
		return false
	}
	e := &p.entries[i]
	e.inWork, e.done, e.total = false, 0, 0
	switch {
	case errors.Is(err, context.Canceled):
	case err != nil:
		e.bad = err
	case e.packed != "":
		e.info = info
	default:
		e.info, e.size, e.mod = info, info.Size, info.ModTime
	}
	p.preselect()
	return p.forward && i == p.at
}

// Choose is the highlighted snapshot, nil while it can't be chosen: note says
// why.
func (p *Picker) Choose() (info *snapshot.Info, note string) {
	e := p.current()
	p.forward, p.moved = false, e != nil
	switch {
	case e == nil && len(p.entries) > 0:
		note = "Only safety copies of earlier runs were found: the states that those runs replaced. ↓ chooses one, p takes the path of a backup."
	case e == nil:
		note = "There is no snapshot to choose. Type its path with p."
	case e.bad != nil:
		cause, _ := text.Explain(e.bad)
		note = filepath.Base(shownName(e.path)) + " can't be restored: " + cause
	case e.info == nil:
		p.forward = true
		note = "Reading it first; then it is chosen."
		if e.packed != "" {
			note = "Unpacking it first; then it is chosen."
			switch {
			case e.from != "":
				note = "Fetching it first; then it is chosen."
			case e.packed == snapshot.Age:
				note = "Decrypting it first; then it is chosen."
			}
		}
	default:
		return e.info, ""
	}
	return nil, note
}

// Wait says that nothing is chosen before the user chooses again.
func (p *Picker) Wait() { p.forward = false }

// Forget drops all but the paths that were typed, for a new search.
func (p *Picker) Forget() {
	p.entries = slices.DeleteFunc(p.entries, func(e entry) bool { return !e.typed })
	for i, e := range p.entries {
		p.entries[i] = entry{path: e.path, typed: true}
	}
	p.at, p.forward, p.moved = 0, false, false
}

// Key takes a key that highlights another snapshot.
func (p *Picker) Key(name string) {
	was := p.at
	if p.at, _ = Move(p.at, len(p.entries), name, 5); p.at != was {
		p.forward, p.moved = false, true
	}
}

// Rows are the paths, to be searched; the one at At is highlighted.
func (p *Picker) Rows() []string {
	rows := make([]string, 0, len(p.entries))
	for _, e := range p.entries {
		rows = append(rows, e.path)
	}
	return rows
}

// At is the snapshot that is highlighted.
func (p *Picker) At() int { return p.at }

// Select highlights another snapshot.
func (p *Picker) Select(i int) { p.at, p.forward, p.moved = i, false, true }

// Type asks for a path.
func (p *Picker) Type(l text.Look) { p.typing, p.matches = NewField(l, ""), nil }

// Typed is what was typed so far; false when keys don't go into a path.
func (p *Picker) Typed() (string, bool) {
	if p.typing == nil {
		return "", false
	}
	return p.typing.Value(), true
}

// TypeKey takes a key of the path.
func (p *Picker) TypeKey(k tea.KeyMsg) {
	p.matches = nil
	p.typing.Key(k)
}

// Complete continues a path that was typed: with what all matches have in
// common, and the matches where there are several.
func (p *Picker) Complete(typed, longest string, matches []string) {
	if p.typing != nil && p.typing.Value() == typed {
		p.typing.Set(longest)
		p.matches = matches
	}
}

// Add ends the typing, and highlights the snapshot with a path, "" for none.
func (p *Picker) Add(path string) {
	p.typing, p.matches = nil, nil
	if path == "" {
		return
	}
	if i := p.index(path); i >= 0 {
		// Typing a path again means looking again.
		p.entries[i] = entry{path: path, typed: true}
		p.at = i
		return
	}
	p.entries = slices.Insert(p.entries, 0, entry{path: path, typed: true})
	p.at = 0
}

// View shows the list in w cells and h lines.
func (p *Picker) View(l text.Look, now time.Time, w, h int) ([]string, string, []Hint) {
	if p.unlock != nil {
		return p.unlock.view(l, shownName(p.entries[p.at].path), w, h)
	}
	if p.typing != nil {
		lines := []string{" Path or URL of the snapshot:", "", " " + p.typing.View(w-2), ""}
		lines = append(lines, text.Indent(3, text.Columns(trust.Lines(p.matches), w-6, h-len(lines)))...)
		return text.Box(lines, w, h), "", []Hint{{"enter", "inspect"}, {"tab", "complete"}, {"esc", "back"}}
	}
	help := []Hint{{"enter", "choose"}, {"p", "type a path"}, {"/", "search"}, {"r", "search again"}, {"?", "help"}, {"esc", "back"}, {"q", "quit"}}
	title := " " + l.Bold.Render("Which snapshot is the cluster to be restored to?")
	if p.Asking {
		title += l.Faint.Render("  " + cmp.Or(p.Asked, "listing the backups") + " …")
	}
	lines := []string{title, ""}
	if len(p.entries) == 0 {
		if p.Searching {
			return text.Box(append(lines, "   Searching the usual places …"), w, h), "", help[1:]
		}
		lines = append(lines, "   No snapshot was found in the usual places or the working directory.", "")
		lines = append(lines, text.Hang("   ", "Type its path with p. A snapshot is what `etcdctl snapshot save` writes; a copied member/snap/db works too, with a warning.", w-2)...)
		return text.Box(lines, w, h), "", help[1:]
	}

	details := p.details(l, now, w-4)
	room := h - 5 // title, blank, column heads, blank, and the rule above the details
	tall := max(3, min(len(details), room*3/5))
	rows := max(1, min(len(p.entries), room-tall))
	details = details[:max(0, min(len(details), h-4-rows))]
	p.scroll.Show(max(0, p.at), max(0, p.at), rows)

	c := columnsFor(w, p.longestName())
	lines = append(lines, l.Faint.Render(c.row(" ", "file", "written", "size", "revision", "keys", "version", "hash")))
	from, to, where := p.scroll.Span(len(p.entries), rows)
	for i, e := range p.entries[from:to] {
		row := p.row(e, c, now)
		if from+i == p.at {
			row = l.Reverse.Render(text.Fit(text.SymNow+row[1:], w))
		}
		lines = append(lines, row)
	}
	lines = append(lines, "")
	lines = append(lines, text.Indent(3, details)...)
	return text.Box(lines, w, h), where, help
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
func (p *Picker) longestName() int {
	n := 0
	for _, e := range p.entries {
		n = max(n, text.Width(filepath.Base(shownName(e.path))))
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

func (p *Picker) row(e entry, c columns, now time.Time) string {
	name := text.ShortPath(shownName(e.path), c.name-1)
	if e.path == e.from { // a place
		name = text.CutMiddle(shownName(e.path), c.name-1)
	}
	size, age := "", ""
	if e.size > 0 {
		size = text.Size(e.size)
	}
	if i := e.info; i != nil && e.bad == nil {
		sym, hash := text.SymDone, "ok"
		if i.Hash != snapshot.HashOK {
			sym, hash = text.SymWarn, "none"
		}
		if e.safety {
			hash = "safety"
		}
		return c.row(sym, name, steps.Age(i.Taken(), now), size, text.Number(i.Revision), text.Number(int64(i.Keys)), versionOf(i), hash)
	}
	if !e.mod.IsZero() {
		age = steps.Age(e.mod, now)
	}
	if e.rev > 0 && e.bad == nil && !e.inWork {
		return c.row(text.SymLater, name, age, size, text.Number(e.rev), text.Number(int64(e.keys)), "", "stored")
	}
	sym, state := text.SymLater, ""
	switch {
	case e.bad != nil:
		sym = text.SymBad
		state, _ = text.Explain(e.bad)
	case e.inWork && e.total > 0:
		state = fmt.Sprintf("inspecting, %d %%", text.Percent(e.done, e.total))
	case e.inWork:
		state = "inspecting"
	case e.packed == snapshot.Age:
		state = "encrypted with age"
	case e.packed != "":
		state = "compressed, " + string(e.packed)
	}
	return " " + sym + " " + text.Fit(name, c.name) + text.FitRight(age, 9) + text.FitRight(size, 9) + "  " + state
}

func versionOf(i *snapshot.Info) string {
	if i.StorageVersion == "" {
		return "< 3.6"
	}
	return trust.Text(i.StorageVersion)
}

// details is what is known about the highlighted snapshot.
func (p *Picker) details(l text.Look, now time.Time, w int) []string {
	e := p.current()
	if e == nil {
		return text.Wrap("Only safety copies of earlier runs were found. Each holds the state that its run replaced: to revert a run, undo it instead (etcd-rewind runs). ↓ chooses one, p takes the path of a backup.", w)
	}
	path := text.CutMiddle(trust.Text(e.path), w)
	about := []string{l.Bold.Render(path)}
	if why := p.passedOver(now); why != "" {
		about = append(about, text.Hang(text.SymWarn+" ", why, w)...)
	}
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
	if e.info == nil && e.from != "" && !e.inWork {
		list := []steps.Fact{{Name: "Taken", Value: steps.Moment(e.mod) + ", " + steps.Ago(e.mod, now) + ", by its record"}, {Name: "In", Value: trust.Text(e.from)}}
		return append(append(about, text.Facts(list, w)...), text.Wrap("encrypted. Enter fetches it, decrypts it on the disk of etcd's data and looks inside. What was fetched is deleted when you leave.", w)...)
	}
	if e.info == nil {
		if !e.inWork && e.packed == snapshot.Age {
			return append(about, text.Wrap("encrypted with age. Enter decrypts it on the disk of etcd's data with the identity that --identity names, or asks for one, and inspects it. The decrypted file is deleted when you leave.", w)...)
		}
		if !e.inWork && e.packed != "" {
			return append(about, text.Wrap("compressed: "+string(e.packed)+". Enter unpacks it on the disk of etcd's data, about "+text.Size(e.inside)+
				", and inspects it. The unpacked file is deleted when you leave.", w)...)
		}
		if !e.inWork {
			return append(about, "not inspected yet")
		}
		doing := "inspecting"
		switch {
		case e.from != "":
			doing = "fetching it, then inspecting"
		case e.packed != "":
			doing = "unpacking it, then inspecting"
		}
		lines := append(about, doing)
		if e.total > 0 {
			lines = append(lines, text.Size(e.done)+" of "+text.Size(e.total), text.Bar(e.done, e.total, min(w, 40)))
		}
		return lines
	}
	i := e.info
	// A copy has a newer time, and a quiet cluster writes nothing: what is in it
	// says more than the file, and neither says all.
	last := "unknown: it contains no readable time"
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
	list = append(list, steps.Fact{Name: "Nodes", Value: text.Names(i.Nodes)}, steps.Fact{Name: "Namespaces", Value: text.Names(i.Namespaces)})
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
