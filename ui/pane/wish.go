package pane

import (
	"fmt"
	"slices"
	"strings"

	tea "github.com/charmbracelet/bubbletea"

	"etcd-rewind/restore"
	"etcd-rewind/steps"
	"etcd-rewind/trust"
	"etcd-rewind/ui/text"
)

// Wish is what a key asks of the wizard, where it is about more than the part
// of the screen that took it.
type Wish int

// The wishes. What back, on and refresh come to depends on the screen.
const (
	None Wish = iota
	Quit
	Back
	On
	Refresh
	ShowHelp
	ShowCommands
	ShowLogs
	ListRuns
	ShowOwed // what the cluster owes after a restore
	AskNodes // the others, too, what they owe
	SettleIt // the debt that is marked
	Repoint
	TakeAlone // this node without the others
	Undo
	Redo
	Resume
	BeginAnew
	LookInside   // the snapshot that is highlighted
	TakePath     // that was typed
	CompletePath // that is typed
	OpenWith     // the identity that was given
	FindMembers
	KeepMember
	Exclude // the member that is marked
	Changed // a choice: the checks and the plan are of before
)

var verbs = map[Wish]restore.Verb{Undo: restore.Undo, Redo: restore.Redo, Resume: restore.Resume}

// Verb is what is to be done with an earlier run, "" for another wish.
func (w Wish) Verb() restore.Verb { return verbs[w] }

// common are the keys that mean the same wherever they mean something.
var common = map[string]Wish{
	"q": Quit, "?": ShowHelp, "esc": Back, "left": Back, "enter": On, "right": On, "r": Refresh, "c": ShowCommands, "l": ShowLogs,
}

// among is the wish of a common key, if it is one of these.
func among(name string, wishes ...Wish) Wish {
	if w := common[name]; slices.Contains(wishes, w) {
		return w
	}
	return None
}

// verb is the wish of a key for one of the ways.
func verb(name string, ways []restore.Verb) Wish {
	for w, v := range verbs {
		if slices.Contains(ways, v) && Way(v, false, false)[0] == name {
			return w
		}
	}
	return None
}

// Press takes a key on the first screen; h is the height of the pane.
func (n *Node) Press(name string, h int) Wish {
	switch name {
	case "a":
		if n.Led && n.withOthers() && (n.Alone || n.CanBeAlone()) {
			n.Alone = !n.Alone
			n.Judge(nil)
		}
	case "u":
		return ListRuns
	case "o":
		if n.Settles {
			return ShowOwed
		}
	case "p":
		if n.CanRepoint() {
			return Repoint
		}
	case "enter", "right":
		if !n.Refused() {
			return On
		}
	case "q", "esc", "r", "?":
		return common[name]
	default:
		n.Page.Key(name, h)
	}
	return None
}

// Press takes a key about the interrupted run.
func (e *Earlier) Press(name string, f *steps.Facts) Wish {
	switch name {
	case "a":
		e.Alone = e.All != nil && !e.Alone
	case "n":
		return On
	case "q", "esc":
		return Quit
	}
	if w := verb(name, e.Ways(f)); w != None {
		return w
	}
	return among(name, Refresh, ShowHelp)
}

// Press takes a key of the list of runs; h is the height of the pane.
func (r *Runs) Press(name string, h int) Wish {
	if w := verb(name, r.Ways()); w != None {
		return w
	}
	r.at, _ = Move(r.at, len(r.List), name, h/2)
	if name == "enter" || name == "right" {
		return None
	}
	return among(name, Quit, Back, Refresh, ShowHelp)
}

// Press takes a key of the list of snapshots, or of the path that is typed.
func (p *Picker) Press(l text.Look, k tea.KeyMsg) Wish {
	name := k.String()
	if p.unlock != nil {
		if name == "esc" {
			p.unlock = nil
			return None
		}
		return p.unlock.press(k)
	}
	if p.typing != nil {
		switch name {
		case "tab":
			return CompletePath
		case "enter":
			return TakePath
		case "esc":
			p.Add("")
		default:
			p.TypeKey(k)
		}
		return None
	}
	if name == "p" {
		p.Type(l)
		return None
	}
	if w := common[name]; w != None {
		return among(name, Quit, Back, On, Refresh, ShowHelp)
	}
	p.Key(name)
	return LookInside
}

// Press takes a key about the changes; h is the height of the pane.
func (d *Diff) Press(name string, h int) Wish {
	if name != "right" {
		if w := among(name, Quit, Back, On, Refresh, ShowHelp); w != None {
			return w
		}
	}
	d.Key(name, h)
	return None
}

// Press takes a key about the members; note is what there is to say.
func (p *Members) Press(l text.Look, k tea.KeyMsg, reachedBy string, canBeAlone bool) (w Wish, note string) {
	if p.typing != nil {
		named, note := p.TypeHost(k, reachedBy)
		if named {
			return FindMembers, note
		}
		return None, note
	}
	name := k.String()
	switch name {
	case "q", "?", "esc", "left", "r":
		return common[name], ""
	case "a":
		if !canBeAlone {
			return None, "This node can't be restored alone: it is one of several members, and would become a cluster of one."
		}
		return TakeAlone, ""
	}
	if p.Busy {
		return None, ""
	}
	if cur, ok := Move(p.Cur, len(p.Members), name, 5); ok {
		p.Cur = cur
		return None, ""
	}
	if name == "enter" || name == "right" {
		if note := p.Undecided(); note != "" {
			return None, note
		}
		return On, ""
	}
	c := p.Current()
	if c == nil {
		return None, ""
	}
	switch {
	case name == "t" && c.Out:
		p.Without = slices.DeleteFunc(p.Without, func(n string) bool { return n == c.Name })
		return FindMembers, ""
	case name == "t" && p.Odd(c):
		p.Keep()
		return KeepMember, ""
	case name == "o" && c.Local:
		return None, c.Name + " is this node. To exclude it, run etcd-rewind on another one."
	case name == "o" && c.Out:
		return None, c.Name + " is excluded already; t includes it again."
	case name == "o":
		return Exclude, ""
	case name == "h" && c.Local:
		return None, c.Name + " is this node: nothing has to reach it."
	case name == "h" && !c.Out:
		p.typing = NewField(l, p.host(c))
	}
	return None, ""
}

// Press takes a key about the verdicts; note is what there is to say.
func (c *Checks) Press(l text.Look, k tea.KeyMsg) (w Wish, note string) {
	if c.typing != nil {
		return None, c.Type(k)
	}
	name := k.String()
	if w := among(name, Quit, Back, ShowHelp); w != None || c.Busy {
		return w, ""
	}
	if cur, ok := Move(c.Cur, len(c.Verdicts), name, 8); ok {
		c.Cur = cur
		return None, ""
	}
	switch name {
	case "r":
		return Refresh, ""
	case " ", "a":
		switch v := c.Current(); {
		case v == nil || v.Level == steps.Pass || v.Advisory:
		case v.Accepted:
			c.Accept(v, false)
		case v.Level == steps.Warn:
			c.Accept(v, true)
			c.Next()
		case v.Overridable:
			c.typing = NewField(l, "")
		default:
			return None, v.Check + " can't be overridden. Fix it, then check again with r."
		}
	case "enter", "right":
		if c.Err != nil {
			return None, "Not every node could be checked. r tries again."
		}
		if s := text.Blocked(c.Plain()); s != "" {
			c.Next()
			return None, s
		}
		return On, ""
	}
	return None, ""
}

// Press takes a key of a choice, or of the value that is typed; ok is false for
// another key. shown is what the plan on the screen makes of the choices, nil
// where there is none; data that is there already is taken as it is.
func (c *Choices) Press(l text.Look, k tea.KeyMsg, shown *steps.RestoreFacts, there bool) (w Wish, note string, ok bool) {
	changed := false
	if c.typing != nil {
		changed, note = c.Type(k)
		ok = true
	} else {
		changed, note, ok = c.Key(l, k.String(), shown, there)
	}
	if changed {
		w = Changed
	}
	return w, note, ok
}

// Press takes a key about the plans; h is the height of the pane.
func (p *Plans) Press(name string, h int) Wish {
	if w := among(name, Quit, Back, ShowHelp); w != None || p.Busy {
		return w
	}
	switch name {
	case "enter", "right", "r":
		return common[name]
	case "tab":
		if p.Several() && len(p.All) > 0 {
			p.At = (p.At + 1) % (len(p.All) + 1)
			p.Page.Top = 0
		}
	default:
		p.Page.Key(name, h)
	}
	return None
}

// Press takes a key of the name that is typed.
func (c *Confirm) Press(k tea.KeyMsg, node string) (w Wish, note string) {
	switch k.String() {
	case "esc":
		return Back, ""
	case "enter":
		typed := strings.TrimSpace(c.Name.Value())
		switch typed {
		case node:
			return On, ""
		case "":
			return None, "Nothing was started. Type the node's name, or esc for the plan."
		}
		return None, fmt.Sprintf("%q is not this node's name. Nothing was started.", trust.Text(typed))
	}
	c.Name.Key(k)
	return None, ""
}
