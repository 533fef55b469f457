package pane

import (
	"github.com/charmbracelet/bubbles/textinput"
	tea "github.com/charmbracelet/bubbletea"

	"etcd-rewind/problem"
	"etcd-rewind/snapshot"
	"etcd-rewind/trust"
	"etcd-rewind/ui/text"
)

// identity asks for what opens an encrypted snapshot.
type identity struct {
	fields [2]*Field // the path of a file, and a passphrase
	at     int
	why    string // it is asked for
	busy   bool   // what was given is being read
}

// sealed says whether an entry can't be chosen only for want of an identity.
func (e *entry) sealed() bool {
	return problem.HasCode(e.bad, snapshot.CodeEncrypted) || problem.HasCode(e.bad, snapshot.CodeIdentity)
}

// AskIdentity asks for the identity of the highlighted snapshot; false when that
// isn't what it lacks.
func (p *Picker) AskIdentity(l text.Look) bool {
	e := p.current()
	if e == nil || !e.sealed() {
		return false
	}
	secret := NewField(l, "")
	secret.input.EchoMode = textinput.EchoPassword
	why, _ := text.Explain(e.bad)
	p.unlock = &identity{fields: [2]*Field{NewField(l, ""), secret}, why: why}
	return true
}

// Identity is what was given, while it is asked for.
func (p *Picker) Identity() (path, passphrase string, asks bool) {
	if p.unlock == nil {
		return "", "", false
	}
	return p.unlock.fields[0].Value(), p.unlock.fields[1].Value(), true
}

// Opening says that what was given is being read.
func (p *Picker) Opening() { p.unlock.busy = true }

// Opened takes what came of that: the snapshots that lacked an identity are looked
// into again, the highlighted one first.
func (p *Picker) Opened(err error) {
	if p.unlock == nil {
		return
	}
	if err != nil {
		p.unlock.why, _ = text.Explain(err)
		p.unlock.busy = false
		return
	}
	p.unlock = nil
	for i := range p.entries {
		if e := &p.entries[i]; e.sealed() {
			e.bad, e.packed = nil, snapshot.Age
		}
	}
	p.forward = true
}

// press takes a key.
func (d *identity) press(k tea.KeyMsg) Wish {
	switch k.String() {
	case "enter":
		if !d.busy {
			return OpenWith
		}
	case "tab", "shift+tab", "up", "down":
		d.at = 1 - d.at
	default:
		if !d.busy {
			d.fields[d.at].Key(k)
		}
	}
	return None
}

func (d *identity) view(l text.Look, name string, w, h int) ([]string, string, []Hint) {
	lines := []string{" " + l.Bold.Render("What opens this snapshot?"), ""}
	lines = append(lines, "   "+text.CutMiddle(trust.Text(name), w-4), "")
	lines = append(lines, text.Hang("   ", d.why, w-3)...)
	lines = append(lines, "")
	for i, label := range []string{"File with an age identity or an SSH key:", "Passphrase, of that key or of the snapshot itself:"} {
		mark := " "
		if i == d.at {
			mark = text.SymNow
		}
		lines = append(lines, " "+mark+" "+label, "   "+d.fields[i].View(w-4), "")
	}
	if d.busy {
		lines = append(lines, "   Reading it …")
	} else {
		lines = append(lines, text.Hang("   ", "Neither is kept when you leave. Until then the decrypted snapshot is on the disk of etcd's data.", w-3)...)
	}
	return text.Box(lines[:min(len(lines), h)], w, h), "", []Hint{{"enter", "open"}, {"tab", "other line"}, {"esc", "back"}}
}

// shownName is a snapshot's name without what only reaches it.
func shownName(path string) string { return trust.Text(snapshot.BareName(path)) }
